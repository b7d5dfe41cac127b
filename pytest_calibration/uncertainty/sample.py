"""The input of every interval: predictions, their binning, independent units and quantiles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from pytest_calibration.metrics.binning import Strategy, bin_index
from pytest_calibration.predictions import BoolArray, IntArray, Predictions
from pytest_calibration.uncertainty.quantiles import NORMAL, upper_quantile
from pytest_calibration.uncertainty.standard_errors import cluster_codes, equal_units

CONFIDENCE_LEVEL: Final = 0.95
# Probability that an interval lies below the truth, and that it lies above.
TAIL: Final = (1 - CONFIDENCE_LEVEL) / 2
NORMAL_TAIL: Final = NORMAL.inv_cdf(1 - TAIL)


def unseen_share(units: int) -> float:
    """Return the largest share of a population that ``units`` independent draws may miss.

    A kind of unit with a larger share than 1 − 0.025^(1/units), about 3.7/units, is missing from
    fewer than 2.5 % of samples: the rule of three.
    """
    return float(1 - TAIL ** (1 / units))


def units_with(which: BoolArray, clusters: IntArray | None) -> int:
    """Return the number of independent units with an item for which ``which`` (n,) holds."""
    if clusters is None:
        return int(which.sum())
    return int(np.count_nonzero(np.bincount(clusters[which])))


@dataclass(frozen=True)
class Sample:
    """Predictions of one probe with a binning, as the intervals read them.

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
        """Number of units of equal size with as uncertain a standard error."""
        return equal_units(self.predictions.n, self.clusters)

    @cached_property
    def z(self) -> float:
        """Standard errors from the estimate to either end; Student's quantile below 200 units."""
        return upper_quantile(TAIL, self.equal_units)

    @cached_property
    def rarer_units(self) -> int:
        """Number of units with a right answer, or with a wrong one: the smaller of the two."""
        right = self.predictions.correct
        return min(units_with(side, self.clusters) for side in (right, ~right))

    @cached_property
    def outcome_z(self) -> float:
        """``z`` for statistics that a few wrong (or right) answers determine.

        With k units of the rarer outcome it has k + 2 degrees of freedom, close to the exact ends
        of a Poisson mean.
        """
        return upper_quantile(TAIL, min(self.equal_units, self.rarer_units + 3))

    @cached_property
    def unseen(self) -> float:
        """Share of the population that the sample may have missed."""
        return unseen_share(self.units)

    @cached_property
    def index(self) -> IntArray:
        """(n,) bin of each item."""
        return bin_index(self.predictions.confidence, self.bins, self.strategy)
