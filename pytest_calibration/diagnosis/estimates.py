"""Means with their intervals, of one model or of the difference of two."""

from __future__ import annotations

from pytest_calibration.diagnosis.findings import Interval
from pytest_calibration.measurement import Measurement
from pytest_calibration.predictions import FloatArray, Predictions
from pytest_calibration.uncertainty.means import mean_interval
from pytest_calibration.uncertainty.sample import Sample


def sample_of(predictions: Predictions) -> Sample:
    """Return the input of an interval of a mean, which has no bins."""
    return Sample(predictions, 1, "equal_width")


def mean_of(
    values: FloatArray,
    sample: Sample,
    lowest: float = -1.0,
    highest: float = 1.0,
    *,
    of_outcomes: bool = False,
) -> Interval:
    """Mean of ``values`` (n,) with its 95 % interval, over groups where there are any.

    One unit says nothing about its own spread: its interval is the whole range.

    Args:
        values: one number per item.
        sample: the n items.
        lowest: smallest value an item may have.
        highest: largest value an item may have.
        of_outcomes: whether the number of wrong (or correct) answers limits the precision.
    """
    value = float(values.mean())
    if sample.units < 2:
        return Interval(value, min(lowest, value), max(highest, value))
    low, high = mean_interval(values, sample, lowest, highest, of_outcomes=of_outcomes)
    return Interval(value, max(lowest, min(low, value)), min(highest, max(high, value)))


def as_interval(measurement: Measurement) -> Interval:
    """Return value and ends of a measurement."""
    return Interval(measurement.value, measurement.low, measurement.high)
