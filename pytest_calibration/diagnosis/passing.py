"""What a passed comparison does not say: worsenings that the gate leaves to the reader.

And that a model was compared with itself, which passes whatever the model is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from pytest_calibration.diagnosis.collapse import option_mass_of
from pytest_calibration.diagnosis.sentences import option_mass, was_as_small
from pytest_calibration.diagnosis.slices import SliceShift, shifts
from pytest_calibration.metrics.sharpness import Sharpness
from pytest_calibration.predictions import FloatArray, Predictions
from pytest_calibration.text.visible import visible
from pytest_calibration.uncertainty.quantiles import NORMAL
from pytest_calibration.uncertainty.ranking import placements
from pytest_calibration.uncertainty.standard_errors import cluster_codes, standard_error

# AUROC must fall by more than this to be told, and surely do so.
AUROC_TOLERANCE: Final = 0.02
SURE: Final = NORMAL.inv_cdf(0.99)
MOST_NAMED: Final = 3
SAME_ANSWERS: Final = (
    "every answer is that of the baseline, with the same confidence, as the recorded model itself "
    "would give, or a copy of it."
)


def cautions_on_a_pass(
    candidate: Predictions, baseline: Predictions, tolerance: float
) -> Iterator[str]:
    """Yield a sentence on each worsening that does not fail a comparison, or that there is none.

    Slices that got worse though the whole did not, with a false discovery rate of 5 %; and a
    confidence that tells right from wrong less well: where it becomes uninformative, a model can be
    calibrated all the same.

    Args:
        candidate: n items.
        baseline: the same items in the same order.
        tolerance: allowed growth of the gap of a slice.
    """
    if _same_answers(candidate, baseline):
        yield SAME_ANSWERS
        return
    worse = [
        shift
        for shift in shifts(candidate, baseline)
        if shift.change == "worse" and abs(shift.gap_after) - abs(shift.gap_before) > tolerance
    ]
    if worse:
        yield _slices(worse)
    fall = auroc_fall(candidate, baseline)
    if fall is not None:
        before, after = fall
        yield (
            f"confidence tells right from wrong answers less well: AUROC {before:.3f} -> "
            f"{after:.3f}."
        )


def caution_on_small_mass(
    candidate: Predictions, baseline: Predictions | None, stored: Sharpness | None
) -> Iterator[str]:
    """Yield a sentence where the options hold little of the probability, and held more before.

    Args:
        candidate: n items.
        baseline: the same items in the same order; None without a baseline.
        stored: summary of a baseline that does not hold its option mass item by item.
    """
    shared = None if baseline is None else (candidate, baseline)
    mass = option_mass_of(candidate, shared, stored)
    if mass is not None and mass.small and not was_as_small(mass):
        yield option_mass(mass)


def _same_answers(candidate: Predictions, baseline: Predictions) -> bool:
    """Whether both sides agree in every item, to the digits that a record keeps."""
    pairs = [(one.correct, one.confidence.astype(np.float32)) for one in (candidate, baseline)]
    return all(map(np.array_equal, *pairs))


def _slices(worse: Sequence[SliceShift]) -> str:
    named = [
        f"{visible(shift.name)} ({shift.gap_before:+.3f} -> {shift.gap_after:+.3f})"
        for shift in worse[:MOST_NAMED]
    ]
    more = f" and {len(worse) - MOST_NAMED} more" if len(worse) > MOST_NAMED else ""
    count = "a slice" if len(worse) == 1 else f"{len(worse)} slices"
    return f"calibration got worse in {count}, by signed gap: {', '.join(named)}{more}."


def auroc_fall(candidate: Predictions, baseline: Predictions) -> tuple[float, float] | None:
    """Return AUROC before and after where it surely fell by more than 0.02; else None.

    One-sided, 99 %, with the paired standard error of DeLong et al. 1988, over groups where there
    are any.

    Args:
        candidate: n items.
        baseline: the same items in the same order.
    """
    sides = [_auroc(one) for one in (baseline, candidate)]
    if any(side is None for side in sides):
        return None
    (before, influence0), (after, influence1) = (side for side in sides if side is not None)
    error = standard_error(influence1 - influence0, cluster_codes(candidate))
    return (before, after) if before - after - SURE * error > AUROC_TOLERANCE else None


def _auroc(predictions: Predictions) -> tuple[float, FloatArray] | None:
    """Return AUROC and the influence of each item on it; None where all answers agree."""
    right = predictions.correct
    share = float(right.mean())
    if not 0 < share < 1:
        return None
    place = placements(predictions)
    value = float(place[right].mean())
    return value, np.asarray((place - value) / np.where(right, share, 1 - share))
