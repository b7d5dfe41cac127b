"""A session as Markdown: for the summary of a step on GitHub, and for a pull-request comment."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_calibration.diagnosis import figure_lines
from pytest_calibration.errors import UsageError
from pytest_calibration.reports.item_lines import item_lines
from pytest_calibration.reports.markdown_text import code, fenced, folded, table, text
from pytest_calibration.reports.terminal import reliability_diagram
from pytest_calibration.reports.terminal.slice_table import q_text, shown_slices
from pytest_calibration.text.numbers import counted, distinct

if TYPE_CHECKING:
    from pytest_calibration.diagnosis.slices import SliceMeasurement, SliceShift
    from pytest_calibration.reports.model import ComponentRow, Detail, DriftCourse, Result, Results

# The first line, by which a program finds the comment it wrote before.
MARKER: Final = "<!-- pytest-calibration -->"
# GitHub takes 1 MiB of each step; other programs write to the same file.
STEP_SUMMARY: Final = 1_000_000
# GitHub takes 65,536 characters of a comment, of which none has less than a byte.
COMMENT: Final = 65_000
# The parts that are never left out, and the note on those that are, fit into this.
LEAST: Final = 2_000
WIDTH: Final = 96
MOST_SLICES: Final = 10
MOST_ITEMS: Final = 5
# Subjects of one remark.
MOST_NAMED: Final = 4
# Characters of a name, and of a sentence.
NAME: Final = 80
SENTENCE: Final = 1_000
# Of a version or a time, and of a commit: they are never left out.
STAMP: Final = 24
COMMIT: Final = 40
GOOD, BAD, DOUBT = "\u2705", "\u274c", "\u26a0\ufe0f"


class Part(IntEnum):
    """What a block holds, the most important first: a report that is too long ends earlier here."""

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
    ITEMS = 11


TITLES: Final = {
    Part.FAILING_ONLY: "the table of failing verdicts",
    Part.VERDICTS: "the table of all verdicts",
    Part.REMARKS: "remarks and errors",
    Part.FAILING: "failing verdicts",
    Part.DIAGRAM: "reliability diagrams",
    Part.PASSING: "verdicts that did not fail",
    Part.FIGURES: "figures",
    Part.SLICES: "slices",
    Part.STORED: "what was stored before",
    Part.SETTINGS: "settings",
    Part.ITEMS: "items",
}


class _Block(NamedTuple):
    """Lines of Markdown that a report holds as a whole, or leaves out."""

    part: Part
    content: str

    @property
    def size(self) -> int:
        """Bytes, with the empty line before it."""
        return len(self.content.encode()) + 1


def markdown_report(results: Results, *, most_bytes: int = STEP_SUMMARY) -> Iterator[str]:
    """Yield the blocks of a report in Markdown, as GitHub and GitLab read it.

    What fails comes first: a table of the verdicts, then for each that fails the diagnosis, the
    components, a reliability diagram in text, the slices that moved and, folded, figures, settings
    and the answers that turned wrong. The first line is ``MARKER``. All text of names and items is
    escaped: it links, mentions, formats and ends nothing.

    A report that would be too long leaves out whole blocks, the parts of ``Part`` from the last
    on, and within a part the last block first; its end says which.

    Args:
        results: the session.
        most_bytes: bytes of UTF-8 at most: ``STEP_SUMMARY`` or ``COMMENT``.

    Raises:
        UsageError: most_bytes is below 2,000.
    """
    if most_bytes < LEAST:
        raise UsageError(f"most_bytes must be at least {LEAST:,}, got {most_bytes:,}.")
    head, foot = _head(results), _foot(results)
    blocks = list(_blocks(results))
    there = Counter(block.part for block in blocks)
    left: Counter[Part] = Counter()
    # The short table is there only in place of the long one.
    total = sum(block.size for block in blocks if block.part is not Part.FAILING_ONLY)
    total += len(f"{head}\n{foot}".encode())
    order = sorted(range(len(blocks)), key=lambda i: (blocks[i].part, i))
    note = ""
    while order and total + len(note.encode()) > most_bytes:
        block = blocks[order.pop()]
        left[block.part] += 1
        total -= block.size
        if block.part is Part.VERDICTS:
            total += sum(one.size for one in blocks if one.part is Part.FAILING_ONLY)
        note = _left_out(left, there, most_bytes)
    yield head
    for i in sorted(order):
        if blocks[i].part is not Part.FAILING_ONLY or left[Part.VERDICTS]:
            yield f"\n{blocks[i].content}"
    yield f"{note}\n{foot}"


def _left_out(left: Counter[Part], there: Counter[Part], most_bytes: int) -> str:
    parts = []
    for part in sorted(left, reverse=True):
        some = f" ({left[part]:,} of {there[part]:,})" if there[part] > 1 else ""
        parts.append(f"{TITLES[part]}{some}")
    return f"\n*Left out to stay within {most_bytes:,} bytes: {', '.join(parts)}.*\n"


# --- the session ---------------------------------------------------------------------------------


def _blocks(results: Results) -> Iterator[_Block]:
    failing = [r for r in results.results if r.fails]
    others = [r for r in results.results if not r.fails]
    if failing and others:
        yield _Block(Part.FAILING_ONLY, _verdicts(failing))
    if results.results:
        yield _Block(Part.VERDICTS, _verdicts([*failing, *others]))
    remarks = "".join(f"- {line}\n" for line in _remarks(results))
    if remarks:
        yield _Block(Part.REMARKS, remarks)
    for course in results.drifts:
        along = f" along {text(course.run, NAME)}" if course.run else ""
        title = f"Drift of {text(course.probe, NAME)}{along}"
        yield _Block(Part.STORED, folded(title, _drift(course)))
    for result in failing:
        yield _Block(Part.FAILING, "\n".join(_verdict(result)))
        if result.detail is not None:
            yield from _measurements(result, result.detail)
    if others:
        lines = "".join(f"- {_in_short(result)}\n" for result in others)
        title = f"{counted(len(others), 'verdict')} that did not fail"
        yield _Block(Part.PASSING, folded(title, lines))


def no_room(results: Results) -> str:
    """Return what came out in a paragraph of one line, where a report finds no room."""
    return f"\n{_outcome(results)}. The report found no room in this summary.\n"


def _head(results: Results) -> str:
    counts = ", ".join(f"{count:,} {text(state)}" for state, count in results.counts.items())
    expected = results.expected_false_alarms
    if expected is not None:
        # Rounded up: it is an upper bound.
        at_most = f"{max(math.ceil(expected * 1000), 1) / 1000:.3f}"
        counts += f". Expected false alarms, had nothing changed: at most {at_most}"
    headline = f"{MARKER}\n## {_outcome(results)}\n"
    return f"{headline}\n{counts}.\n" if counts else headline


def _outcome(results: Results) -> str:
    n, failed = len(results.results), sum(r.fails for r in results.results)
    if n > 1:
        parts = [f"{f'{failed:,}' if failed else 'none'} of {n:,} verdicts failed"]
    else:
        parts = [f"the verdict {'failed' if failed else 'did not fail'}" if n else "no verdict"]
    if results.errors:
        parts.append("there are errors")
    if not results.finished:
        parts.append("not every test was run")
    sign = BAD if not results.green else GOOD if n else DOUBT
    return f"{sign} Calibration: {'; '.join(parts)}"


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


def _state(result: Result) -> str:
    fired = f" ({', '.join(result.fired)})" if result.fired else ""
    return text(f"{result.state_name}{fired}")


def _interval(low: float, high: float, sign: str = "") -> str:
    return text(f"[{low:{sign}z.3f}, {high:{sign}z.3f}]")


def _verdicts(results: Sequence[Result]) -> str:
    """Return the table of verdicts; the metric stands above its numbers where there is but one."""
    labels = {r.number.label for r in results}
    several = len(labels) > 1
    covered = any(r.point is not None for r in results)
    rows = []
    for r in results:
        floor, number = r.number.noise_floor, r.number
        row = [_sign(r), f"**{_state(r)}**", code(r.probe, NAME), code(r.source, NAME)]
        row += [text(number.label, NAME)] if several else []
        value = f"{number.value:.3f}" + (f" ({number.below_zero})" if number.below_zero else "")
        row += [r.items, value, _interval(*number.ends)]
        accuracy = "" if number.metric == "accuracy" else f"{r.accuracy:.3f}"
        row += [""] if covered and r.point is None else []
        row += [] if r.point is None else [r.point.covered]
        rows.append([*row, "" if floor is None else f"{floor:.3f}", accuracy, _against(r)])
    value = "value" if several else text(next(iter(labels)), NAME)
    head = ["", "verdict", "probe", "model", *(["metric"] if several else [])]
    head += ["n", value, "95 % interval", *(["coverage (before)"] if covered else [])]
    head += ["noise floor", "accuracy", "against"]
    return table(head, rows, "<<<<" + "<" * several + ">>>" + ">" * covered + ">><")


def _against(r: Result) -> str:
    if r.limit is not None:
        return f"limit {r.limit:.3f}"
    return "" if r.baseline is None else f"{text(r.reference, NAME)} {r.baseline.value:.3f}"


def _remarks(results: Results) -> Iterator[str]:
    """Yield what else to know: errors first, then what to know of the comparisons."""
    for line in results.errors:
        yield f"{BAD} {text(line, SENTENCE)}"
    for caution, about in results.cautions.items():
        subjects = list(dict.fromkeys(map(_subject, about)))
        more = f" and {len(subjects) - MOST_NAMED:,} more" if len(subjects) > MOST_NAMED else ""
        yield f"{DOUBT} {', '.join(subjects[:MOST_NAMED])}{more}: {text(caution, SENTENCE)}"
    for r in results.results:
        if r.state == "inconclusive":
            yield f"{_sign(r)} inconclusive: {_subject(r)}: {text(r.undecided, SENTENCE)}"
        store = "`--calibration-accept=REASON` would store it"
        if r.partly_better:
            yield f"{_subject(r)}: one component improved; {store}"
        if r.better:
            yield f"better than the baseline: {_subject(r)}; {store}"
    yield from (text(line, SENTENCE) for line in results.remarks)


def _subject(r: Result) -> str:
    joint = "on" if r.model else "in"
    where = f" {joint} {code(r.source, NAME)}" if r.source else ""
    at = "" if r.point is None else f" at {r.point.name}"
    return f"{code(r.probe, NAME)}{at}{where}"


def _in_short(result: Result) -> str:
    diagnosis = None if result.detail is None else result.detail.diagnosis
    paragraph = "" if diagnosis is None else f": {text(diagnosis.paragraph, SENTENCE)}"
    return f"{_sign(result)} **{_state(result)}**, {_subject(result)}{paragraph}"


# --- a verdict that fails ------------------------------------------------------------------------


def _verdict(result: Result) -> Iterator[str]:
    """Yield heading, diagnosis, components or explanation, and the command that accepts."""
    yield f"### {_sign(result)} {_state(result)}: {_subject(result)}\n"
    diagnosis = result.diagnosis
    if diagnosis is not None and (result.components or result.limit is not None):
        yield f"{text(diagnosis.paragraph, SENTENCE)}\n"
    if result.detail is not None and result.detail.turned is not None:
        yield f"{result.detail.turned.sentence}.\n"
    if result.components:
        if result.reason:
            yield f"{text(result.reason, SENTENCE)}\n"
        yield _components(result.components)
        notes = (*result.cautions, *result.notes)
        yield from (f"{text(note, SENTENCE)}\n" for note in notes)
    else:
        yield fenced(result.explanation)
    if result.remedy:
        yield f"{text(result.remedy.purpose, SENTENCE)}:\n"
        yield fenced([result.remedy.command], "sh")


def _measurements(result: Result, detail: Detail) -> Iterator[_Block]:
    """Yield what stands behind a verdict."""
    if detail.candidate.reliability:
        diagram = reliability_diagram(detail.candidate.reliability, width=WIDTH)
        yield _Block(Part.DIAGRAM, fenced(diagram))
    slices = _slices(detail)
    if slices:
        yield _Block(Part.SLICES, slices)
    explanation = list(result.explanation) if result.components else []
    figures = [] if result.diagnosis is None else list(figure_lines(result.diagnosis.figures))
    if explanation or figures:
        between = [""] if explanation and figures else []
        lines = fenced([*explanation, *between, *figures])
        yield _Block(Part.FIGURES, folded("Figures", lines))
    if detail.past:
        yield _Block(Part.STORED, folded("What was stored before", _past(detail)))
    yield _Block(Part.SETTINGS, folded("Settings", _settings(result, detail)))
    title, items = detail.named
    if items:
        items = items[:MOST_ITEMS]
        lines = fenced(line for item in items for line in item_lines(item, width=WIDTH))
        yield _Block(Part.ITEMS, folded(f"{title[0].upper()}{title[1:]}", lines))


def _components(components: Sequence[ComponentRow]) -> str:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:z.3f}"

    rows = []
    for c in components:
        bound, allowed = number(c.bound), number(c.tolerance)
        if c.bound is not None:
            # As many digits as show which of the two is larger.
            bound, allowed = distinct(c.bound, c.tolerance)
        state = f"{BAD} fails" if c.fired else "changed sides" if c.changed_sides else ""
        remark = ", ".join(filter(None, (state, *c.remarks)))
        if c.unavailable:
            remark = f"not applicable: {text(c.unavailable, SENTENCE)}"
        cells = [text(c.name, NAME), number(c.before), number(c.after), number(c.worsening)]
        rows.append([*cells, bound, allowed, remark])
    head = ["component", "before", "after", "worse by", "at least", "allowed", ""]
    return table(head, rows, "<>>>>><")


def _slices(detail: Detail) -> str:
    """Return the first slices as a table; empty where there is nothing to show."""
    shifts, measured = shown_slices(detail.slices)
    head = ["slice", "n", "accuracy", "signed gap"]
    if shifts:
        cells = list(map(_shift, shifts[:MOST_SLICES]))
        out = table([*head, "shift", "q", ""], cells, "<>>>>><")
    elif measured:
        cells = list(map(_slice, measured[:MOST_SLICES]))
        out = table([*head, "95 % interval"], cells, "<>>>>")
    else:
        return ""
    total = len(detail.slices) + detail.slices_left_out
    if total > len(cells):
        out += f"\n{total - len(cells):,} of {total:,} slices are not shown.\n"
    return out


def _shift(s: SliceShift) -> list[str]:
    return [
        code(s.name or "(none)", NAME),
        f"{s.n:,}",
        f"{s.accuracy_before:.3f} → {s.accuracy_after:.3f}",
        f"{s.gap_before:+z.3f} → {s.gap_after:+z.3f}",
        f"{s.shift:+z.3f} ± {s.margin:.3f}",
        "too small" if s.q_value is None else text(q_text(s.q_value)),
        f"**{s.change}**" if s.change else "",
    ]


def _slice(s: SliceMeasurement) -> list[str]:
    numbers = [f"{s.n:,}", f"{s.accuracy:.3f}", f"{s.signed_gap:+z.3f}"]
    return [code(s.name or "(none)", NAME), *numbers, _interval(s.low, s.high, "+")]


def _past(detail: Detail) -> str:
    rows = [
        [
            code(p.model, NAME),
            f"{p.n:,}",
            f"{p.ece:.3f}",
            f"{p.accuracy:.3f}",
            f"{p.signed_gap:+z.3f}",
            text(p.replaced, SENTENCE) if p.replaced else "counts now",
        ]
        for p in detail.past
    ]
    return table(["model", "n", "ECE", "accuracy", "signed gap", "replaced"], rows, "<>>>><")


def _drift(course: DriftCourse) -> str:
    """Return what a history comes to, and its readings as a table."""
    told = "".join(f"- {text(sentence, SENTENCE)}\n" for sentence in course.sentences)
    rows = []
    for r in course.readings:
        marks = ["worse than the first"] * r.worse + ["best"] * r.best + ["this run"] * r.now
        interval = "" if r.low is None or r.high is None else _interval(r.low, r.high)
        cells = (text(r.label, NAME), f"{r.ece:z.3f}", interval, f"{r.accuracy:.3f}")
        rows.append([*cells, ", ".join(marks)])
    heads = (course.axis, "ECE", "95 % interval", "accuracy", "")
    return f"{told}\n{table(heads, rows, '<>>><')}"


def _settings(result: Result, detail: Detail) -> str:
    """Return what was measured, with what, beside the same of the baseline."""
    sides = [detail.candidate] if detail.baseline is None else [detail.candidate, detail.baseline]
    rows = [["items", *(f"{side.n:,}" for side in sides)]]
    if any(side.units != side.n for side in sides):
        rows.append(["groups", *(f"{side.units:,}" for side in sides)])
    for settings in ([side.hard for side in sides], [side.soft for side in sides]):
        for key in dict.fromkeys(chain(*settings)):
            values = [setting.get(key, "") for setting in settings]
            name = text(key, NAME) if len({*values}) == 1 else f"**{text(key, NAME)}** ≠"
            rows.append([name, *(code(value, NAME) for value in values)])
    head = ["setting", "now", text(result.reference or "baseline")][: 1 + len(sides)]
    test = f"Test {code(result.test, SENTENCE)}, {text(result.unit, NAME)}s.\n\n"
    return test + table(head, rows, "<" * len(head))
