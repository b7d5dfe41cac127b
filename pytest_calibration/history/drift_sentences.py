"""What a series comes to, in sentences: where it broke, the trend, and which checkpoint to take."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from pytest_calibration.gate.components import Component
from pytest_calibration.history.best import Best
from pytest_calibration.history.comparing import Comparison
from pytest_calibration.history.drift import Drift
from pytest_calibration.history.series import Series
from pytest_calibration.metrics import metric_named
from pytest_calibration.text.numbers import distinct

MOST_NAMED: Final = 6


def sentences(drift: Drift) -> Iterator[str]:
    """Yield the first line that is worse, what the trend came to, and the best checkpoint."""
    yield from _worse(drift)
    yield from _trend(drift)
    yield from _best(drift)


def _worse(drift: Drift) -> Iterator[str]:
    """Yield which line is the first that is worse than the first beyond doubt."""
    series, place = drift.series, drift.first_worse
    compared = [one for one in drift.comparisons if one is not None]
    if not compared:
        return
    start = series.start
    if place is None:
        alone = sum(one.alone for one in compared)
        but = f"; {alone} fail alone, and not after the correction" if alone else ""
        yield f"worse than {start}: no checkpoint beyond doubt{but}"
    else:
        found = drift.comparisons[place]
        why = _clearest(found) if found is not None else ""
        yield f"first worse than {start}: {_named(series, place)}{why}"
    if not all(one.paired for one in compared):
        some = "some of them " * any(one.paired for one in compared)
        why = (
            "there are many; --all-items reads all"
            if drift.unread
            else "items are not kept of all lines"
        )
        yield f"compared {some}on the stored numbers, not item by item, which sees less: {why}"


def _clearest(comparison: Comparison) -> str:
    c = comparison.clearest
    return "" if c is None else f" ({c.name} {_move(c)})"


def _move(c: Component) -> str:
    """Say how far a component moved, with the digits that show that it fails."""
    bound, tolerance = distinct(c.bound, c.tolerance)
    return f"{c.before:z.3f} -> {c.after:z.3f}, worse by at least {bound} > {tolerance}"


def _trend(drift: Drift) -> Iterator[str]:
    """Yield what the trend came to."""
    verdict = drift.trend
    if verdict is None:
        yield f"trend: not judged ({drift.untold})"
        return
    if verdict.failing:
        moves = "; ".join(f"{c.name} {_move(c)}" for c in verdict.failing)
        first, last = (f"{verdict.steps[k]:,.10g}" for k in (0, -1))
        yield (
            f"trend: drifted from {verdict.axis} {first} to {last} along the line through "
            f"{len(verdict.steps)} checkpoints: {moves}"
        )
    else:
        reason = f"; {verdict.reason}" if verdict.reason else ""
        visible = "" if math.isnan(verdict.smallest_visible) else (
            f" (a drift of {verdict.smallest_visible:.3f} is seen in 80 % of such runs)"
        )  # fmt: skip
        state = str(verdict.state).replace("_", " ")
        yield f"trend: {state}{visible}{reason}"
    yield from (f"note on the trend: {caution}" for caution in verdict.cautions)


def _best(drift: Drift) -> Iterator[str]:
    """Yield which checkpoint is best, by which rule, and which cannot be told from it."""
    best, series = drift.best, drift.series
    if best is None:
        return
    numbers = series.numbers(best.metric)
    value, accuracy = numbers[best.place], series.lines[best.place].metrics["accuracy"]
    label = metric_named(best.metric).label
    shown = ""
    if value is not None and best.metric != "accuracy":
        shown = f"{label} {value.value:z.3f}, "
    yield f"best: {_named(series, best.place)} ({shown}accuracy {accuracy.value:.3f})"
    many, left = len(series) - series.has_parent, len(best.less_accurate)
    top = series.lines[best.most_accurate].metrics["accuracy"].value
    rule = (
        f"of the {many - left} of {many} whose accuracy is not surely below the highest "
        f"({top:.3f}, {_named(series, best.most_accurate)})"
    )
    what = "highest" if metric_named(best.metric).better == "higher" else "smallest"
    what += " size of" if best.metric == "signed_gap" else ""
    paired = "paired" if best.paired else "not paired"
    yield f"rule: the {what} {label} {rule}; {100 * best.level:g} % for all together, {paired}"
    if len(best.alike) > 1:
        yield f"{_several(series, best)} cannot be told apart by it"
    elif len(series) - series.has_parent - len(best.less_accurate) > 1:
        yield "it is told apart from all of these"
    against = drift.comparisons[best.place]
    if against is not None and against.remains:
        yield f"it is itself worse than {series.start} beyond doubt"


def _named(series: Series, place: int) -> str:
    label = series.label(place)
    if series.axis in ("order", "stage"):
        return label
    return f"{label} tokens" if series.axis == "tokens" else f"{_noun(series)} {label}"


def _noun(series: Series) -> str:
    return "checkpoint" if series.axis == "step" else series.axis


def _several(series: Series, best: Best) -> str:
    """Name the places that are alike: ``checkpoints 300 to 500``, where none between is another."""
    places, less = best.alike, {*best.less_accurate}
    kept = [k for k in range(int(series.has_parent), len(series)) if k not in less]
    labels = [series.label(k) for k in places]
    noun = "" if series.axis in ("order", "stage", "tokens") else f"{_noun(series)}s "
    tail = " tokens" if series.axis == "tokens" else ""
    run = kept[kept.index(places[0]) : kept.index(places[-1]) + 1]
    if len(places) > 2 and list(places) == run and places[-1] - places[0] == len(places) - 1:
        return f"{noun}{labels[0]} to {labels[-1]}{tail}"
    if len(labels) > MOST_NAMED:
        labels = [*labels[: MOST_NAMED - 1], f"{len(labels) - MOST_NAMED + 1} more"]
    return f"{noun}{', '.join(labels[:-1])} and {labels[-1]}{tail}"
