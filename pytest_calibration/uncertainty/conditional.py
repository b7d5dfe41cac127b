"""Means among the items that are selected, with what each item contributes to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_calibration.predictions import BoolArray, FloatArray, IntArray
from pytest_calibration.uncertainty.sample import units_with
from pytest_calibration.uncertainty.standard_errors import design_effects, standard_error


@dataclass(frozen=True)
class ConditionalMean:
    """The mean of a value among selected items, where the selection is as random as the value.

    Accuracy among the items above a confidence is the precision at that threshold; the mean gap
    among them is how far their confidence is from it.

    Attributes:
        value: the mean; 0 where nothing is selected.
        share: how much of the items is selected, in [0, 1].
        n: number of selected items.
        units: number of independent units that they belong to.
        influence: (n,) of all items, with mean 0: how much each moves the mean.
    """

    value: float
    share: float
    n: int
    units: int
    influence: FloatArray

    @classmethod
    def of(
        cls, values: FloatArray, selected: BoolArray, clusters: IntArray | None
    ) -> ConditionalMean:
        """Return the mean of (n,) values among the items for which (n,) ``selected`` holds."""
        n = int(selected.sum())
        if not n:
            return cls(0.0, 0.0, 0, 0, np.zeros(len(values)))
        value, share = float(values[selected].mean()), n / len(values)
        influence = np.where(selected, (values - value) / share, 0.0)
        return cls(value, share, n, units_with(selected, clusters), influence)

    def standard_error(self, clusters: IntArray | None = None) -> float:
        """Return the standard error of the mean; NaN below two independent units."""
        return standard_error(self.influence, clusters)


def design_effect_of(right: FloatArray, which: BoolArray, clusters: IntArray | None) -> float:
    """Return the variance of the accuracy of some answers over that without groups.

    How much a group errs together is estimated from all answers.
    """
    if clusters is None:
        return 1.0
    means = np.bincount(which, right, 2) / np.maximum(np.bincount(which, minlength=2), 1)
    index = which.astype(np.int64)
    return float(design_effects(right - means[index], index, 2, clusters)[1])
