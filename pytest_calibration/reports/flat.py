"""The numbers of a session by model and probe, for programs that compare two sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pytest_calibration.reports.model import Result, Results

UNNAMED: Final = "(no name)"


def flat_metrics(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    """Return ``{model: {probe: {"ece": 0.1, "items": 600, ...}}}``, every leaf a number.

    A probe of several tests is there once: with the numbers of the first verdict on the most items.
    Beside the metrics stand ``items``, ``bins`` (of the binned metrics, where
    they are known) and ``failures``, the number of verdicts on this model and probe that failed;
    ``planned_items`` where not all items were asked, and these are the numbers of a part.

    Args:
        results: the session.
    """
    verdicts: dict[tuple[str, str], list[Result]] = {}
    for result in results.results:
        verdicts.setdefault((result.source or UNNAMED, result.probe), []).append(result)
    out: dict[str, dict[str, dict[str, float]]] = {}
    for (model, probe), group in verdicts.items():
        most = max(map(_items, group))
        leaves: dict[str, float] = {"items": most, "failures": sum(r.fails for r in group)}
        # Verdicts with details first: their numbers share one binning.
        whole = [r for r in group if _items(r) == most]
        planned = [_planned(r) for r in whole]
        if all(planned):
            leaves["planned_items"] = max(planned)
        for result in sorted(whole, key=lambda r: r.detail is None):
            for name, value in _numbers(result).items():
                leaves.setdefault(name, value)
        out.setdefault(model, {})[probe] = leaves
    return out


def _items(result: Result) -> int:
    return result.n if result.detail is None else result.detail.candidate.n


def _planned(result: Result) -> int:
    """Return how many items there are, where a part of them was asked; else 0."""
    if result.look is None:
        return result.asked_of
    return result.look.planned if result.look.early else 0


def _numbers(result: Result) -> dict[str, float]:
    point = result.point
    measured = () if point is None else (point.coverage, point.precision)
    at_point = {one.metric: one.value for one in measured if one is not None}
    return {**_numbers_of_all(result), **at_point}


def _numbers_of_all(result: Result) -> dict[str, float]:
    if result.detail is not None:
        side = result.detail.candidate
        return {
            "bins": side.bins,
            **{name: number.value for name, number in side.metrics.items()},
        }
    return {
        result.number.metric: result.number.value,
        "accuracy": result.accuracy,
        "mean_confidence": result.mean_confidence,
        "signed_gap": result.mean_confidence - result.accuracy,
    }
