"""What an interval is computed from: the predictions, their independent units, the binning."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from pytest_calibration.metrics.binning import Strategy, bin_index
from pytest_calibration.predictions import BoolArray, IntArray, Predictions
from pytest_calibration.uncertainty.quantiles import NORMAL, upper_quantile
from pytest_calibration.uncertainty.standard_errors import cluster_codes

CONFIDENCE_LEVEL: Final = 0.95
# Probability that an interval ends too low, and that it ends too high.
TAIL: Final = (1 - CONFIDENCE_LEVEL) / 2
NORMAL_TAIL: Final = NORMAL.inv_cdf(1 - TAIL)


def unseen_share(units: int) -> float:
    """Return the share of a population that may have escaped ``units`` independent draws.

    What is more frequent than 1 − 0.025^(1/units), about 3.7/units, is missing from fewer than one
    sample in forty: the rule of three.
    """
    return float(1 - TAIL ** (1 / units))


def units_with(which: BoolArray, clusters: IntArray | None) -> int:
    """Return the number of independent units with an item for which ``which`` (n,) holds."""
    if clusters is None:
        return int(which.sum())
    return int(np.count_nonzero(np.bincount(clusters[which])))


@dataclass(frozen=True)
class Evidence:
    """The predictions of one probe, as the intervals read them.

    Attributes:
        predictions: n items.
        bins: number of bins of a binned metric.
        strategy: binning of a binned metric.
    """

    predictions: Predictions
    bins: int
    strategy: Strategy

    @cached_property
    def clusters(self) -> IntArray | None:
        """(n,) group codes from 0, or None where items are independent."""
        return cluster_codes(self.predictions)

    @cached_property
    def units(self) -> int:
        """Number of independent units: groups where there are any, else items."""
        return self.predictions.n if self.clusters is None else int(self.clusters.max()) + 1

    @cached_property
    def equal_units(self) -> int:
        """Number of units of equal size that make a standard error as uncertain as these do.

        n² / Σ n_g²: few large groups say little of it (Carter, Schnepel & Steigerwald 2017).
        """
        if self.clusters is None:
            return self.units
        sizes = np.bincount(self.clusters).astype(np.float64)
        return int(self.predictions.n**2 / float(sizes @ sizes) + 1e-9)

    @cached_property
    def z(self) -> float:
        """Standard errors from the estimate to either end; Student's below 200 units."""
        return upper_quantile(TAIL, self.equal_units)

    @cached_property
    def rarer(self) -> int:
        """Number of units with a right answer, or with a wrong one: the smaller of the two."""
        right = self.predictions.correct
        return min(units_with(side, self.clusters) for side in (right, ~right))

    @cached_property
    def outcome_z(self) -> float:
        """The same for what a few wrong (or right) answers decide: Student's for so few of them.

        With k of them the degrees of freedom are k + 2, which comes near the exact ends of a
        Poisson mean.
        """
        return upper_quantile(TAIL, min(self.equal_units, self.rarer + 3))

    @cached_property
    def unseen(self) -> float:
        """Share of the population that may have escaped the sample."""
        return unseen_share(self.units)

    @cached_property
    def index(self) -> IntArray:
        """(n,) bin of each item."""
        return bin_index(self.predictions.confidence, self.bins, self.strategy)
