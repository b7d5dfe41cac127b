"""The regime of Xiao et al. 2025: is accuracy below or above the confidence that the data warrant?

Let ACC be the accuracy of a model and ACC* the mean confidence of a reference. Since
ECE ≥ |ACC − mean confidence|, a model that keeps the confidences of the reference and has
ACC > ACC* (memorised answers) has an ECE of ACC − ACC* at least: *non-calibratable*. With
ACC < ACC* its confidence has only to come down: *calibratable*.

Both are relative to the reference. Recalibration is free to leave the confidences of the reference,
and on a population it always reaches an ECE of 0; the ECE after recalibration on held-out folds is
the operational test. The paper's own threshold is not reproduced here: this is a reconstruction.

Only a parent that is itself calibrated can serve as a reference. The mean confidence of the model
after temperature scaling cannot: the fit makes it follow the accuracy, so a model that has
memorised its test items is as near to its own reference as any other. Its margin is reported, as
the gap that temperature scaling leaves, and names no regime.
"""

from __future__ import annotations

from typing import Final

from pytest_calibration.diagnosis.estimates import mean_of, sample_of
from pytest_calibration.diagnosis.findings import EceReading, Regime, RegimeName
from pytest_calibration.diagnosis.recalibration import MIN_UNITS
from pytest_calibration.predictions import FloatArray, Predictions

# By the sign of the margin: 0, +1, −1.
WORDS: Final[tuple[RegimeName, ...]] = ("undetermined", "non-calibratable", "calibratable")
RELATIVE: Final = (
    "This is relative to that reference and no proof: a model may have learned what its parent "
    "did not know, and recalibration is not bound to the parent's confidences."
)
SELF: Final = (
    "Scaling lets confidence follow accuracy, so this names no regime; a calibrated parent would."
)
NONE: Final = (
    "There is no reference: no calibrated parent on the same items, and too few of them for "
    "temperature scaling on held-out folds."
)


def own_regime(predictions: Predictions, scaled: FloatArray | None) -> Regime:
    """Compare accuracy with the model's own confidence after temperature scaling, out of fold.

    Args:
        predictions: n items.
        scaled: (n,) those confidences, or None.
    """
    if scaled is None:
        return Regime("undetermined", "", None, NONE)
    margin = mean_of(predictions.correct - scaled, sample_of(predictions), of_outcomes=True)
    reference = "mean confidence of this model after cross-fitted temperature scaling"
    return Regime("undetermined", reference, margin, SELF)


def regime_against(
    predictions: Predictions, base: Predictions, ece: EceReading, name: str
) -> Regime | None:
    """Compare accuracy with the mean confidence of a parent on the same items.

    Args:
        predictions: n items.
        base: the same items in the same order, as the parent answers them.
        ece: of the parent on them.
        name: what the parent is called.

    Returns:
        None where the parent is no reference: not calibrated itself, or on fewer than 50 units.
    """
    sample = sample_of(predictions)
    if ece.beyond_noise or sample.units < MIN_UNITS:
        return None
    margin = mean_of(predictions.correct - base.confidence, sample, of_outcomes=True)
    at = "at its noise floor" if ece.at_floor else "not beyond noise"
    reference = f"mean confidence of {name}, whose own ECE ({ece.value:.3f}) is {at}"
    return Regime(WORDS[margin.sign], reference, margin, RELATIVE)
