"""A session as Markdown: for the summary of a step on GitHub, and for a pull-request comment."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from pytest_calibration.diagnosis import figure_lines
from pytest_calibration.errors import UsageError
from pytest_calibration.reports.item_lines import item_lines
from pytest_calibration.reports.markdown_text import code, fenced, folded, table, text
from pytest_calibration.reports.terminal import reliability_diagram
from pytest_calibration.text.numbers import counted, distinct

if TYPE_CHECKING:
    from pytest_calibration.reports.model import ComponentRow, Result, Results, SliceRow

# The first line, by which a program finds the comment it wrote before.
MARKER: Final = "<!-- pytest-calibration -->"
# GitHub takes 1 MiB of each step; other programs write to the same file.
STEP_SUMMARY: Final = 1_000_000
# GitHub takes 65,536 characters of a comment, of which none has less than a byte.
COMMENT: Final = 65_000
# What is never left out, and the note on what is, fit into this.
LEAST: Final = 2_000
WIDTH: Final = 96
MOST_SLICES: Final = 10
MOST_ITEMS: Final = 5
# Characters of a name, of a sentence from elsewhere.
NAME: Final = 80
SENTENCE: Final = 1_000
# Of a version or a time, and of a commit: they are never left out.
STAMP: Final = 24
COMMIT: Final = 40
GOOD, BAD, DOUBT = "\u2705", "\u274c", "\u26a0\ufe0f"


class _Part(IntEnum):
    """What a section holds; the greatest is left out first."""

    FAILING_ONLY = 1
    VERDICTS = 2
    REMARKS = 3
    FAILING = 4
    DIAGRAM = 5
    PASSING = 6
    FIGURES = 7
    SLICES = 8
    STORED = 9
    SETTINGS = 10
    WORST = 11

    @property
    def title(self) -> str:
        """What it is called where it is left out."""
        return _TITLES[self]


_TITLES: Final = {
    _Part.FAILING_ONLY: "the table of failing verdicts",
    _Part.VERDICTS: "the table of all verdicts",
    _Part.REMARKS: "remarks and errors",
    _Part.FAILING: "failing verdicts",
    _Part.DIAGRAM: "reliability diagrams",
    _Part.PASSING: "verdicts that did not fail",
    _Part.FIGURES: "figures",
    _Part.SLICES: "slices",
    _Part.STORED: "what was stored before",
    _Part.SETTINGS: "settings",
    _Part.WORST: "surest wrong answers",
}


@dataclass(frozen=True)
class _Section:
    """A piece of the report that is there whole, or not at all.

    Attributes:
        part: what it holds.
        content: blocks of Markdown, each line ended.
        instead: what takes its place where it is left out.
    """

    part: _Part
    content: str
    instead: _Section | None = None

    @property
    def size(self) -> int:
        """Bytes of it, and of the empty line before it."""
        return _size(self.content)


def markdown_report(results: Results, *, most_bytes: int = STEP_SUMMARY) -> Iterator[str]:
    """Yield the sections of a report in Markdown, as GitHub and GitLab read it.

    What fails comes first: a table of the verdicts, then for each that fails the diagnosis, the
    components, a reliability diagram in text, the slices that moved and, folded, figures, settings
    and the surest wrong answers. The first line is ``MARKER``. Nothing in a name or in the text of
    an item acts: it links, mentions, formats and ends nothing.

    A report that would be too long is made to fit by leaving out whole sections, the least
    important first and of equal ones the last; its end says which.

    Args:
        results: the session.
        most_bytes: bytes of UTF-8 at most: ``STEP_SUMMARY`` or ``COMMENT``.

    Raises:
        UsageError: most_bytes is below 2,000.
    """
    if most_bytes < LEAST:
        raise UsageError(f"most_bytes must be at least {LEAST:,}, got {most_bytes:,}.")
    sections, ends = list(_sections(results)), [_head(results), _foot(results)]
    shown = dict(enumerate(sections))
    # What goes first is on top: the greatest part, and of that the last section.
    heap = [(-section.part, -i) for i, section in shown.items()]
    heapq.heapify(heap)
    left: Counter[_Part] = Counter()
    # Before the first block there is no empty line.
    total = sum(map(_size, ends)) + sum(section.size for section in sections) - 1
    note = ""
    while heap and total + (_size(note) if note else 0) > most_bytes:
        at = -heapq.heappop(heap)[1]
        gone = shown.pop(at)
        left[gone.part] += 1
        total -= gone.size
        if gone.instead is not None:
            shown[at] = gone.instead
            total += gone.instead.size
            heapq.heappush(heap, (-gone.instead.part, -at))
        note = _left_out(left, Counter(section.part for section in sections), most_bytes)
    yield ends[0]
    for _, section in sorted(shown.items()):
        yield f"\n{section.content}"
    if note:
        yield f"\n{note}"
    yield f"\n{ends[1]}"


def _left_out(left: Counter[_Part], there: Counter[_Part], most_bytes: int) -> str:
    parts = []
    for part in sorted(left, reverse=True):
        some = f" ({left[part]:,} of {there[part]:,})" if there[part] > 1 else ""
        parts.append(f"{part.title}{some}")
    return f"*Left out to stay within {most_bytes:,} bytes: {', '.join(parts)}.*\n"


def _size(content: str) -> int:
    """Bytes of a block, and of the empty line before it."""
    return len(content.encode()) + 1


# --- sections ------------------------------------------------------------------------------------


def _sections(results: Results) -> Iterator[_Section]:
    failing = [r for r in results.results if r.fails]
    others = [r for r in results.results if not r.fails]
    if results.results:
        shorter = _Section(_Part.FAILING_ONLY, _verdicts(failing)) if failing and others else None
        yield _Section(_Part.VERDICTS, _verdicts([*failing, *others]), shorter)
    told = "".join(f"- {line}\n" for line in _told(results))
    if told:
        yield _Section(_Part.REMARKS, told)
    for result in failing:
        yield from _failing(result)
    if others:
        lines = "".join(f"- {_in_short(result)}\n" for result in others)
        title = f"{counted(len(others), 'verdict')} that did not fail"
        yield _Section(_Part.PASSING, folded(title, lines))


def _head(results: Results) -> str:
    n, failed = len(results.results), sum(r.fails for r in results.results)
    if not n:
        said = "no verdict"
    elif failed:
        said = f"{failed:,} of {n:,} verdicts failed" if n > 1 else "the verdict failed"
    else:
        said = f"none of {n:,} verdicts failed" if n > 1 else "the verdict did not fail"
    also = []
    if results.errors:
        also.append("there are errors")
    if not results.finished:
        also.append("not every test was run")
    sign = GOOD if results.green and n else DOUBT if results.green else BAD
    lines = [MARKER, f"## {sign} Calibration: {'; '.join([said, *also])}"]
    counts = ", ".join(f"{count:,} {text(state)}" for state, count in results.counts.items())
    expected = results.expected_false_alarms
    if expected is not None:
        # Rounded up: what is said is an upper bound.
        at_most = f"{max(math.ceil(expected * 1000), 1) / 1000:.3f}"
        counts += f". Expected false alarms, had nothing changed: at most {at_most}"
    return "\n".join([*lines, *(["", f"{counts}."] if counts else [])]) + "\n"


def _foot(results: Results) -> str:
    commit = f", commit {code(results.commit, COMMIT)}" if results.commit else ""
    return (
        f"<sub>pytest-calibration {text(results.version, STAMP)}, "
        f"{code(results.created, STAMP)}{commit}</sub>\n"
    )


def _sign(result: Result) -> str:
    if result.fails:
        return BAD
    return GOOD if result.state in ("passed", "recorded") else DOUBT


def _said(result: Result) -> str:
    fired = f" ({', '.join(result.fired)})" if result.fired else ""
    return text(f"{result.said}{fired}")


def _interval(low: float, high: float, sign: str = "") -> str:
    return text(f"[{low:{sign}z.3f}, {high:{sign}z.3f}]")


def _verdicts(results: Sequence[Result]) -> str:
    """Return the table of verdicts; the metric stands above its numbers where there is but one."""
    labels = {r.number.label for r in results}
    rows = []
    for r in results:
        floor = r.number.noise_floor
        numbers = [
            f"{r.n:,}",
            f"{r.number.value:.3f}",
            _interval(r.number.low, r.number.high),
            "" if floor is None else f"{floor:.3f}",
            _against(r),
        ]
        metric = [text(r.number.label, NAME)] if len(labels) > 1 else []
        names = [_sign(r), f"**{_said(r)}**", code(r.probe, NAME), code(r.model, NAME)]
        rows.append([*names, *metric, *numbers])
    measured = text(next(iter(labels)), NAME) if len(labels) == 1 else "value"
    head = ["", "verdict", "probe", "model", *(["metric"] * (len(labels) > 1))]
    head += ["n", measured, "95 % interval", "noise floor", "against"]
    return table(head, rows, "<<<<" + "<" * (len(labels) > 1) + ">>>><")


def _against(r: Result) -> str:
    if r.limit is not None:
        return f"limit {r.limit:.3f}"
    if r.baseline is None:
        return ""
    return f"{text(r.reference, NAME)} {r.baseline.value:.3f}"


def _told(results: Results) -> Iterator[str]:
    """Yield what else to know: errors first."""
    for line in results.errors:
        yield f"{BAD} {text(line, SENTENCE)}"
    for r in results.results:
        if r.state == "inconclusive":
            needed = f"; about {r.n_needed:,} would decide it" if r.n_needed else ""
            yield f"{_sign(r)} inconclusive: {_subject(r)}: n = {r.n:,} is too few{needed}"
        if r.improved and r.against == "baseline":
            yield (
                f"better than the baseline: {_subject(r)}; `--calibration-accept=REASON` would "
                "store it"
            )
    yield from (text(line, SENTENCE) for line in results.remarks)


def _subject(r: Result) -> str:
    return f"{code(r.probe, NAME)} on {code(r.model, NAME)}" if r.model else code(r.probe, NAME)


def _in_short(result: Result) -> str:
    why = None if result.detail is None else result.detail.diagnosis
    told = f": {text(why.paragraph, SENTENCE)}" if why is not None else ""
    return f"{_sign(result)} **{_said(result)}**, {_subject(result)}{told}"


def _failing(result: Result) -> Iterator[_Section]:
    """Yield the sections of a verdict that fails."""
    yield _Section(_Part.FAILING, "\n".join(_core(result)))
    detail = result.detail
    if detail is None:
        return
    if detail.candidate.reliability:
        diagram = fenced(reliability_diagram(detail.candidate.reliability, width=WIDTH))
        yield _Section(_Part.DIAGRAM, diagram)
    slices = _slices(detail.slices, detail.slices_left_out)
    if slices:
        yield _Section(_Part.SLICES, slices)
    told = [] if not result.components else [*result.explanation]
    why = [] if result.diagnosis is None else [*figure_lines(result.diagnosis.figures)]
    if told or why:
        figures = [*told, *([""] if told and why else []), *why]
        yield _Section(_Part.FIGURES, folded("Figures", fenced(figures)))
    if detail.past:
        yield _Section(_Part.STORED, folded("What was stored before", _past(result)))
    yield _Section(_Part.SETTINGS, folded("Settings", _settings(result)))
    if detail.worst:
        shown = detail.worst[:MOST_ITEMS]
        lines = fenced(line for item in shown for line in item_lines(item, width=WIDTH))
        title = f"The {len(shown)} surest wrong answers" if len(shown) > 1 else "A wrong answer"
        yield _Section(_Part.WORST, folded(title, lines))


def _core(result: Result) -> Iterator[str]:
    """Yield the blocks without which a failing verdict is not told."""
    yield f"### {_sign(result)} {_said(result)}: {_subject(result)}\n"
    why = result.diagnosis
    if why is not None and (result.components or result.limit is not None):
        yield f"{text(why.paragraph, SENTENCE)}\n"
    if result.components:
        yield _components(result.components)
        for note in result.notes:
            yield f"{text(note, SENTENCE)}\n"
    else:
        yield fenced(result.explanation)
    if result.remedy:
        yield f"{text(result.remedy.purpose, SENTENCE)}:\n"
        yield fenced([result.remedy.command], "sh")


def _components(components: Sequence[ComponentRow]) -> str:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:z.3f}"

    rows = []
    for c in components:
        bound, allowed = number(c.bound), number(c.tolerance)
        if c.bound is not None:
            # As many digits as show which of the two is larger.
            bound, allowed = distinct(c.bound, c.tolerance)
        if c.unavailable:
            verdict = f"not applicable: {text(c.unavailable, SENTENCE)}"
        elif c.fired:
            verdict = f"{BAD} fails"
        else:
            verdict = "changed sides" if c.changed_sides else ""
        cells = [text(c.name, NAME), number(c.before), number(c.after), number(c.worsening)]
        rows.append([*cells, bound, allowed, verdict])
    head = ["component", "before", "after", "worse by", "at least", "allowed", ""]
    return table(head, rows, "<>>>>><")


def _slices(rows: Sequence[SliceRow], left_out: int) -> str:
    """Return the slices that moved most, or are off most; empty where they tell nothing."""
    moved = [row for row in rows if row.shift is not None]
    if len(rows) < 2 or (moved and all(row.q_value is None for row in moved)):
        return ""
    shown = (moved or list(rows))[:MOST_SLICES]
    cells = [_moved(row) if moved else _standing(row) for row in shown]
    head = (
        ["slice", "n", "accuracy", "signed gap", "shift", "q", ""]
        if moved
        else ["slice", "n", "accuracy", "signed gap", "95 % interval"]
    )
    out = table(head, cells, "<>>>>><" if moved else "<>>>>")
    total = len(rows) + left_out
    if total > len(shown):
        out += f"\n{total - len(shown):,} of {total:,} slices are not shown.\n"
    return out


def _moved(row: SliceRow) -> list[str]:
    from pytest_calibration.diagnosis.slices import FDR

    q = row.q_value
    margin = "" if row.margin is None else f" ± {row.margin:.3f}"
    before, gap = row.accuracy_before or 0.0, row.gap_before or 0.0
    return [
        code(row.name or "(none)", NAME),
        f"{row.n:,}",
        f"{before:.3f} → {row.accuracy:.3f}",
        f"{gap:+z.3f} → {row.signed_gap:+z.3f}",
        f"{row.shift or 0.0:+z.3f}{margin}",
        "too small" if q is None else "&lt;0.001" if q < 0.0005 else distinct(q, FDR)[0],
        f"**{row.change}**" if row.change else "",
    ]


def _standing(row: SliceRow) -> list[str]:
    return [
        code(row.name or "(none)", NAME),
        f"{row.n:,}",
        f"{row.accuracy:.3f}",
        f"{row.signed_gap:+z.3f}",
        _interval(row.low, row.high, "+"),
    ]


def _past(result: Result) -> str:
    assert result.detail is not None
    rows = [
        [
            code(p.model, NAME),
            f"{p.n:,}",
            f"{p.ece:.3f}",
            f"{p.accuracy:.3f}",
            f"{p.signed_gap:+z.3f}",
            text(p.replaced, SENTENCE) if p.replaced else "counts now",
        ]
        for p in result.detail.past
    ]
    return table(["model", "n", "ECE", "accuracy", "signed gap", "replaced"], rows, "<>>>><")


def _settings(result: Result) -> str:
    """Return what was measured, with what, beside the same of the baseline."""
    assert result.detail is not None
    here, there = result.detail.candidate, result.detail.baseline
    rows = [["items", f"{here.n:,}", "" if there is None else f"{there.n:,}"]]
    if here.units != here.n:
        rows.append(["groups", f"{here.units:,}", "" if there is None else f"{there.units:,}"])
    for mine, old in (
        (here.hard, {} if there is None else there.hard),
        (here.soft, {} if there is None else there.soft),
    ):
        for key in dict.fromkeys([*mine, *old]):
            a, b = mine.get(key, ""), old.get(key, "")
            differs = there is not None and a != b
            name = text(key, NAME)
            rows.append([f"**{name}** ≠" if differs else name, code(a, NAME), code(b, NAME)])
    test = f"Test {code(result.test, SENTENCE)}, {text(result.unit, NAME)}s.\n\n"
    if there is None:
        return test + table(["setting", "now"], [row[:2] for row in rows], "<<")
    return test + table(["setting", "now", text(result.reference or "baseline")], rows, "<<<")
