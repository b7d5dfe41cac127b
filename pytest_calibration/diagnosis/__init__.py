"""The diagnosis of a model: which way it errs, what moved, and what would correct it.

``diagnose(predictions, baseline)`` gives a :class:`Diagnosis`: the values with their intervals (see
``findings``), a paragraph of plain words, and figures for a report.
"""

from pytest_calibration.diagnosis.diagnosing import diagnose
from pytest_calibration.diagnosis.findings import Diagnosis, Figure, figure_lines
from pytest_calibration.diagnosis.temperature import apply_temperature, fit_temperature

__all__ = [
    "Diagnosis",
    "Figure",
    "apply_temperature",
    "diagnose",
    "figure_lines",
    "fit_temperature",
]
