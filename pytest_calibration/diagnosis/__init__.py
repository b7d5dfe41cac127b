"""The diagnosis of a model: which way it errs, what moved, and what would correct it.

``diagnose(predictions, baseline)`` gives a :class:`Diagnosis`: the values with their intervals, a
paragraph of plain words, and figures for a report.
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
