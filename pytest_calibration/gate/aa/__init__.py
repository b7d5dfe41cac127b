"""A/A check: two unchanged halves are compared, and every failure is a false alarm.

The check draws pairs of runs that differ by chance alone, from a population made like the user's
own predictions, and lets the gate decide on each pair. Then it makes the candidate of each pair
worse by a known amount and decides again: the share that fails is the power of the gate.

``curve``
    P(correct | confidence) of the predictions.
``unchanged_pairs``
    pairs without a change: drawn from one set of predictions, or from two sets that swap sides.
``worse_candidates``
    candidates that are worse by a known amount.
``trials``
    the check itself: draw, decide, count.
``disturbed_runs``
    real pairs: one model asked twice, the second time in other batches, orders, examples or draws.

Nothing is read or written here. The seed of the random numbers comes from the item ids: the same
input gives the same result.
"""

from pytest_calibration.gate.aa.trials import AAResult, AASettings, Rate, aa_check

__all__ = ["AAResult", "AASettings", "Rate", "aa_check"]
