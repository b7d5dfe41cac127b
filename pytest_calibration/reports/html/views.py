"""What the templates show that is not a value of the report model already."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from pytest_calibration.metrics import metric_named
from pytest_calibration.reports.html.drawing import span
from pytest_calibration.text.numbers import counted

if TYPE_CHECKING:
    from pytest_calibration.diagnosis.findings import Diagnosis, EceReading, TemperatureFit
    from pytest_calibration.reports.model import Detail, Item, Number, Result, Results

SIGNS: Final = {"bad": "✗", "doubt": "?", "good": "✓"}
GOOD: Final = frozenset({"passed", "recorded"})
MOST_OPTIONS: Final = 26


class Binned(Protocol):
    """A bin or a bar: something between two confidences."""

    @property
    def lower(self) -> float:
        """Its left edge."""

    @property
    def upper(self) -> float:
        """Its right edge."""


B = TypeVar("B", bound=Binned)


@dataclass(frozen=True)
class Option:
    """One option of an item.

    Attributes:
        letter: what it is called: a letter, or a number where there are too many.
        text: what it says; empty where that is not shown.
        probability: the model's, where it is known.
        answered: whether it is the model's answer.
        correct: whether it is the correct answer.
    """

    letter: str
    text: str
    probability: float | None
    answered: bool
    correct: bool


# --- the session ---------------------------------------------------------------------------------


def outcome(result: Result) -> str:
    """Return ``bad``, ``doubt`` or ``good``, each of which has a sign and a colour."""
    if result.fails:
        return "bad"
    return "good" if result.state in GOOD else "doubt"


def headline(results: Results) -> tuple[str, str]:
    """Return what came out in one sentence, and as ``bad``, ``doubt`` or ``good``."""
    total = len(results.results)
    failing = sum(r.fails for r in results.results)
    if failing:
        return f"{failing:,} of {counted(total, 'comparison')} failed", "bad"
    lead = f"{counted(total, 'comparison')}, none failed" if total else "No comparison was made"
    if results.errors:
        return f"{lead}, but {counted(len(results.errors), 'error')}", "bad"
    if not results.finished:
        return f"{lead}, but not every test was run", "bad"
    if not total:
        return lead, "doubt"
    undecided = sum(outcome(r) == "doubt" for r in results.results)
    if undecided:
        return f"{lead}; {undecided:,} undecided", "doubt"
    return f"All {total:,} comparisons passed" if total > 1 else "The comparison passed", "good"


def worst_first(results: Sequence[Result]) -> list[tuple[int, Result]]:
    """Return the verdicts with their numbers from 1: what fails, then what is undecided."""
    order = list(SIGNS)
    return sorted(enumerate(results, start=1), key=lambda pair: order.index(outcome(pair[1])))


def false_alarms(results: Results) -> float | None:
    """Return the expected number of false alarms, an upper bound, rounded up to 0.001."""
    rate = results.expected_false_alarms
    return None if rate is None else max(math.ceil(rate * 1000) / 1000, 0.001)


def metric_name(number: Number) -> str:
    """Return the name of a metric without its binning."""
    return metric_named(number.metric).label


def choices(results: Sequence[Result]) -> dict[str, list[str]]:
    """Return the states, the models and the probes, each once, in order."""
    return {
        "state": list(dict.fromkeys(r.state_name for r in results)),
        "model": list(dict.fromkeys(r.source for r in results)),
        "probe": list(dict.fromkeys(r.probe for r in results)),
    }


def ranges(results: Sequence[Result]) -> dict[str, tuple[float, float]]:
    """Return the range of every metric: all verdicts on it are drawn on one scale."""
    values: dict[str, list[float | None]] = {}
    for r in results:
        m = r.number
        baseline = None if r.baseline is None else r.baseline.value
        values.setdefault(m.metric, []).extend(
            (m.value, m.low, m.high, m.noise_floor, r.limit, baseline)
        )
    return {metric: span(column) for metric, column in values.items()}


# --- one verdict ---------------------------------------------------------------------------------


def paired(
    candidate: Iterable[B], baseline: Iterable[B]
) -> Iterator[tuple[tuple[float, float], B | None, B | None]]:
    """Yield the edges of all bins in order, each with the bin of the candidate and the baseline."""
    after = {(b.lower, b.upper): b for b in candidate}
    before = {(b.lower, b.upper): b for b in baseline}
    for edges in sorted({*after, *before}):
        yield edges, after.get(edges), before.get(edges)


def recalibrations(
    diagnosis: Diagnosis,
) -> list[tuple[str, EceReading, TemperatureFit | None]]:
    """Return the ECE as it is and after each recalibration; empty where no such is known."""
    readings = [
        ("as it is", diagnosis.ece, None),
        ("after temperature", diagnosis.after_temperature, diagnosis.temperature),
        ("after isotonic map", diagnosis.after_isotonic, None),
    ]
    known = [(name, reading, fit) for name, reading, fit in readings if reading is not None]
    return known if len(known) > 1 else []


def settings(detail: Detail) -> Iterator[tuple[str, str, str | None, str | None]]:
    """Yield (name, kind, candidate's, baseline's) of every setting; None where it is not set."""
    here, there = detail.candidate, detail.baseline or detail.candidate
    for name, own, other in (
        ("items", here.n, there.n),
        ("groups", here.units, there.units),
        ("bins", here.bins, there.bins),
    ):
        yield name, "measured", f"{own:,}", f"{other:,}"
    for kind, mine, theirs in (
        ("must agree", here.hard, there.hard),
        ("shown only", here.soft, there.soft),
    ):
        for name in {**mine, **theirs}:
            yield name, kind, mine.get(name), theirs.get(name)


def options(item: Item, classes: Sequence[str] = ()) -> list[Option]:
    """Return the options of an item in their order; none where it has none.

    Args:
        item: the item.
        classes: names of the classes; without them options have letters, or numbers.
    """
    texts = () if item.text is None else item.text.options
    total = max(len(texts), len(item.probabilities))
    letters = list(ascii_uppercase)
    if total > len(letters):
        letters = [f"{i + 1}" for i in range(total)]
    answer = gold = None
    if item.probabilities:
        answer = item.probabilities.index(max(item.probabilities))
    elif item.text is not None and item.text.answer in texts:
        answer = texts.index(item.text.answer)
    if item.label is not None:
        gold = item.label
    elif item.text is not None and item.text.gold in texts:
        gold = texts.index(item.text.gold)
    return [
        Option(
            letter=classes[i] if i < len(classes) else letters[i],
            text=texts[i] if i < len(texts) else "",
            probability=item.probabilities[i] if i < len(item.probabilities) else None,
            answered=i == answer,
            correct=i == gold,
        )
        for i in range(total)
    ]


def most_likely(all_options: Sequence[Option]) -> list[Option]:
    """Return at most 26 options in their order: the answer, the correct one, the likeliest."""
    ranked = sorted(
        all_options, key=lambda o: (not (o.answered or o.correct), -(o.probability or 0.0))
    )
    shown = {option.letter for option in ranked[:MOST_OPTIONS]}
    return [option for option in all_options if option.letter in shown]
