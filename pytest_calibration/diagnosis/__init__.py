"""Why calibration is what it is: which way a model errs, what moved, what would mend it.

``diagnose(predictions, baseline)`` gives a :class:`Diagnosis`: a paragraph of plain words, and the
figures behind each of them with their intervals.
"""

from pytest_calibration.diagnosis.diagnosing import diagnose
from pytest_calibration.diagnosis.findings import (
    BaseTemperature,
    BinFinding,
    Change,
    Collapse,
    Contrast,
    Diagnosis,
    EceReading,
    Favourite,
    Figure,
    Interval,
    OptionMass,
    Recalibrated,
    Regime,
    TemperatureFit,
    figure_lines,
)
from pytest_calibration.diagnosis.temperature import apply_temperature, fit_temperature

__all__ = [
    "BaseTemperature",
    "BinFinding",
    "Change",
    "Collapse",
    "Contrast",
    "Diagnosis",
    "EceReading",
    "Favourite",
    "Figure",
    "Interval",
    "OptionMass",
    "Recalibrated",
    "Regime",
    "TemperatureFit",
    "apply_temperature",
    "diagnose",
    "figure_lines",
    "fit_temperature",
]
