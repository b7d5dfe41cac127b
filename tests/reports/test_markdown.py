"""The report in Markdown."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rendering import MADE_BY_GITHUB, inline, shown, tokens
from samples import HOSTILE, predictions, results, turned

from pytest_calibration.errors import UsageError
from pytest_calibration.gate.verdict import compare, judge
from pytest_calibration.measurement import measure
from pytest_calibration.reports.markdown import (
    COMMENT,
    LEAST,
    MARKER,
    STEP_SUMMARY,
    markdown_report,
)
from pytest_calibration.reports.model import Remedy, Results, result_of
from pytest_calibration.reports.terminal.slice_table import shown_slices
from pytest_calibration.text.visible import visible

NOTE = re.compile(r"\*Left out to stay within ([\d,]+) bytes: (.+)\.\*")


@cache
def sample(*, words: bool = True, detailed: bool = True) -> Results:
    """Return a session with a verdict of every state."""
    return results(item_text=words, detailed=detailed)


def report(given: Results, most_bytes: int = STEP_SUMMARY) -> str:
    """Return the whole report."""
    return "".join(markdown_report(given, most_bytes=most_bytes))


@cache
def whole() -> str:
    """Return the report of the sample, with nothing left out."""
    return report(sample())


def section(name: str) -> str:
    """Return the part of the whole report from one heading of the third level to the next."""
    return next(part for part in whole().split("\n### ")[1:] if name in part.splitlines()[0])


def one(**changes: object) -> Results:
    """Return a session of one verdict, with another text somewhere."""
    regressed = replace(sample().results[1], **changes)  # type: ignore[arg-type]
    return replace(sample(), results=(regressed,), errors=(), remarks=())


# --- what is in it -------------------------------------------------------------------------------


def test_the_first_line_is_the_marker() -> None:
    """A program finds the comment that it wrote before by it."""
    for session in (sample(), replace(sample(), results=())):
        assert report(session, COMMENT).startswith(f"{MARKER}\n## ")


@pytest.mark.parametrize(
    ("changes", "headline"),
    [
        ({}, "❌ Calibration: 5 of 8 verdicts failed; there are errors"),
        ({"errors": (), "finished": False}, "5 of 8 verdicts failed; not every test was run"),
        ({"results": ()}, "❌ Calibration: no verdict; there are errors"),
        ({"results": (), "errors": ()}, "⚠️ Calibration: no verdict"),
    ],
)
def test_the_headline_says_how_it_went(changes: dict[str, object], headline: str) -> None:
    """In words, with a sign that is no colour."""
    second = report(replace(sample(), **changes)).splitlines()[1]  # type: ignore[arg-type]
    assert second.startswith("## ")
    assert second.endswith(headline)


def test_a_headline_of_few() -> None:
    """One verdict is not counted."""
    fine = sample().results[0]
    green = replace(sample(), results=(fine,), errors=())
    assert "## ✅ Calibration: the verdict did not fail\n" in report(green)
    assert "## ✅ Calibration: none of 2 verdicts failed\n" in report(
        replace(green, results=(fine, fine))
    )
    assert "## ❌ Calibration: the verdict failed\n" in report(one())


def test_the_table_has_a_row_for_each_verdict() -> None:
    """What fails stands first; state, numbers and what they are held against are in it."""
    rows = [line for line in whole().split("\n\n")[2].splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(sample().results)
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    signs = [row[0] for row in cells[2:]]
    assert signs == ["❌"] * 5 + ["✅"] * 2 + ["⚠️"]
    assert {len(row) for row in cells} == {10}
    regressed = sample().results[1]
    assert cells[2][1] == "**regressed (signed gap, slope, shape)**"
    assert cells[2][4:6] == ["600", f"{regressed.number.value:.3f}"]
    assert cells[2][8] == f"{regressed.accuracy:.3f}"
    assert cells[2][9] == f"baseline {regressed.baseline.value:.3f}"  # type: ignore[union-attr]
    assert [row[9] for row in cells[2:]].count("limit 0.050") == 1


def test_several_metrics_have_a_column() -> None:
    """The metric of one number stands beside it; that of all stands above."""
    p = predictions()
    two = tuple(result_of(judge(measure(p, name), 0.5)) for name in ("ece", "brier"))
    session = Results("1", "now", 2, True, two)
    alone = report(replace(session, results=two[:1])).split("\n\n")[2].splitlines()
    assert "| n | ECE (15 equal-width bins) | 95 % interval |" in alone[0]
    head, _, first, second = report(session).split("\n\n")[2].splitlines()[:4]
    assert "| metric | n | value |" in head
    assert "| ECE (15 equal-width bins) | 600 |" in first
    assert "| Brier score | 600 |" in second


def test_a_failing_verdict_tells_all_there_is() -> None:
    """Diagnosis, components, diagram, slices, figures, history, settings, items and the remedy."""
    source = section("regressed (signed gap, slope, shape)")
    result = sample().results[1]
    detail = result.detail
    assert detail is not None
    assert detail.diagnosis is not None
    seen = shown(tokens(source))
    assert detail.diagnosis.paragraph in seen
    assert "| signed gap | 0.013 | 0.209 | 0.196 | 0.191 | 0.020 | ❌ fails |" in source
    assert "not applicable: fewer than 500 independent units" in source
    fences = [t.content for t in tokens(source) if t.type == "fence"]
    assert fences[0] == f"{result.remedy.command}\n"  # type: ignore[union-attr]
    assert fences[1].startswith("confidence ")
    assert len(fences[1].splitlines()) == len(detail.candidate.reliability) + 3
    assert all(
        visible(line) in fences[2] for line in (*result.explanation, *detail.diagnosis.lines())
    )
    assert "| `first` | 600 | 0.051 | 0.700 | +0.010 | new &lt;i&gt;data" in source
    assert "| **model** ≠ |" in source
    assert "| shots | `3` | `3` |" in source
    assert " ".join(fences[3].split()).count("wrong; before:") == 5
    title = "0 answers turned wrong, 0 turned right; most confident wrong answers"
    assert f"<summary>{title}</summary>" in source


def test_slices_that_moved_are_marked() -> None:
    """Each with its numbers before and after, the shift, its margin and q."""
    detail = sample().results[1].detail
    assert detail is not None
    rows = [x for x in section("regressed").splitlines() if "→" in x]
    assert len(rows) == len(detail.slices) == 5
    for row, s in zip(rows, shown_slices(detail.slices)[0], strict=True):
        assert f"{s.gap_before:+.3f} → {s.gap_after:+.3f} | {s.shift:+.3f} ± {s.margin:.3f}" in row
        assert row.endswith("| **worse** |")


def test_slices_without_a_baseline_stand_with_their_intervals() -> None:
    """A limit has no slices that moved."""
    detail = sample().results[4].detail
    assert detail is not None
    source = section("above limit")
    first = detail.slices[0].now
    assert "| slice | n | accuracy | signed gap | 95 % interval |" in source
    assert f"| {first.signed_gap:+.3f} | \\[{first.low:+.3f}, {first.high:+.3f}\\] |" in source


def test_slices_beyond_ten_are_counted() -> None:
    """The rest is counted, with those that the results already left out."""
    result = sample().results[1]
    assert result.detail is not None
    detail = replace(result.detail, slices=result.detail.slices * 5, slices_left_out=7)
    source = report(one(detail=detail))
    assert len([line for line in source.splitlines() if "±" in line]) == 10
    assert "22 of 32 slices are not shown." in source
    alone = replace(result.detail, slices=result.detail.slices[:1])
    assert "| slice |" not in report(one(detail=alone))


def test_what_was_not_compared_has_no_diagnosis() -> None:
    """It says why it was not compared, and what to do."""
    source = section("not comparable")
    assert "the probe is not the same: kind is (none)" in source
    assert "No miscalibration" not in source.split("<details>")[0]
    assert "nothing is stored at tests/x.yaml." in section("no baseline")


def test_a_remedy_is_a_sentence_and_a_command() -> None:
    """The block holds the command alone, to be copied."""
    source = report(one(remedy=Remedy("to accept it", "pytest -k 'a`b' --x")))
    fences = [t.content for t in tokens(source) if t.type == "fence" and t.info == "sh"]
    assert fences == ["pytest -k 'a`b' --x\n"]
    assert "\nto accept it:\n\n```sh\n" in source
    assert "```sh" not in report(one(remedy=None))


def test_verdicts_that_did_not_fail_are_short() -> None:
    """One line each, folded; the inconclusive says what it needs."""
    folded = whole().split("<summary>3 verdicts that did not fail</summary>")[1]
    lines = [line for line in folded.splitlines() if line.startswith("- ")]
    starts = [line.split("**,")[0] for line in lines]
    assert starts == ["- ✅ **passed", "- ✅ **passed", "- ⚠️ **inconclusive"]
    assert "- ⚠️ inconclusive: `few` on `base`: n = 60 is too few; about 150 would decide it" in (
        whole()
    )


def test_digits_show_which_is_larger() -> None:
    """A bound that is above its tolerance by little is not printed as equal to it."""
    result = sample().results[1]
    component = replace(result.components[0], bound=0.0200004, tolerance=0.02)
    source = report(one(components=(component,)))
    assert "| 0.0200004 | 0.0200000 | ❌ fails |" in source


def test_a_result_without_details_is_told_without() -> None:
    """Table, components and remedy are there all the same."""
    source = report(sample(detailed=False))
    assert "<details>\n<summary>Figures" not in source
    assert "| signed gap | 0.013 | 0.209 | 0.196 | 0.191 | 0.020 | ❌ fails |" in source
    assert "--calibration-accept=REASON" in source


def test_a_better_model_is_named() -> None:
    """The command that would accept it is named, where a baseline is stored."""
    better = result_of(
        compare(predictions(n=1500), predictions(n=1500, sharpen=2.5), against="baseline"),
        detailed=False,
    )
    assert better.improved
    session = Results("1", "now", 1, True, (better,))
    assert "better than the baseline: `support-mcq` on `base`" in report(session)
    parent = replace(session, results=(replace(better, against="parent", reference="parent x"),))
    assert "better than the baseline" not in report(parent)


def test_text_is_there_only_where_the_results_hold_it() -> None:
    """Without it an item is its id; nothing of prompt, answer and options is anywhere."""
    p = predictions(sharpen=2.5, hostile=False)
    for item_text in (True, False):
        made = result_of(compare(p, predictions(hostile=False)), item_text=item_text)
        source = report(Results("1", "now", 1, True, (made,)))
        assert made.detail is not None
        assert all(item.title in source for item in made.detail.worst[:5])
        assert bool(re.search(r"question \d+\?", source)) == item_text
        assert bool(re.search(r"question [ABCD]", source)) == item_text
        assert item_text or not re.search(r"(right|wrong) \d", source)


# --- nothing in it acts --------------------------------------------------------------------------


@pytest.mark.parametrize("most_bytes", [STEP_SUMMARY, COMMENT, 20_000, LEAST])
def test_nothing_in_the_text_acts(most_bytes: int) -> None:
    """Of a session full of hostile text, all that is HTML or a heading is the report's own."""
    parsed = tokens(report(sample(), most_bytes))
    own = {MARKER, "</details>"}
    for block in (t.content for t in parsed if t.type == "html_block"):
        lines = block.strip().splitlines()
        assert lines[0] in own or (
            lines[0] == "<details>" and re.fullmatch(r"<summary>[\w ,;]+</summary>", lines[1])
        )
    html = {t.content for t in inline(parsed) if t.type == "html_inline"}
    assert html <= {"<code>", "</code>", "<sub>", "</sub>"}
    allowed = {"text", "code_inline", "html_inline", "softbreak", "strong_open", "strong_close"}
    assert {t.type for t in inline(parsed)} <= allowed | {"em_open", "em_close"}
    headings = Counter(t.tag for t in parsed if t.type == "heading_open")
    assert headings["h2"] == 1
    assert set(headings) <= {"h2", "h3"}
    for token in inline(parsed):
        if token.type == "text":
            assert not MADE_BY_GITHUB.search(token.content)


@pytest.mark.parametrize(
    "field",
    [
        *("probe", "model", "test", "headline", "explanation", "remedy", "unit", "reference"),
        *("notes", "cautions"),
    ],
)
@pytest.mark.parametrize("bad", [HOSTILE, "`a|b``c", "</details>\n\n# x", "\\|", "$a$ @b #1"])
def test_no_field_acts(field: str, bad: str) -> None:
    """Each field of a result may hold anything; the shape of the report does not change."""

    def kinds(text: str) -> list[str]:
        several = field in ("explanation", "notes", "cautions")
        value: object = (text, text) if several else text
        value = Remedy(text, text) if field == "remedy" else value
        return [t.type for t in tokens(report(one(**{field: value})))]

    assert kinds(bad) == kinds("calm")


def test_no_text_of_the_session_acts() -> None:
    """Neither errors and remarks nor version, time and commit."""
    bad = replace(
        sample(),
        errors=(HOSTILE,),
        remarks=("# x", "- y", "1. z"),
        version=HOSTILE,
        created=HOSTILE,
        commit=HOSTILE,
    )
    kinds = [t.type for t in tokens(report(bad))]
    calm = replace(
        bad, errors=("a",), remarks=("b", "c", "d"), version="1", created="2", commit="3"
    )
    assert kinds == [t.type for t in tokens(report(calm))]


def test_cautions_are_told_whatever_the_verdict() -> None:
    """What a probe says of its numbers stands once for each probe and model, passed or not."""
    passed = replace(sample().results[0], probe="mcq", model="sft", cautions=("it is noise.",))
    text = report(replace(sample(), results=(passed, passed), errors=(), remarks=()))
    assert text.count("`mcq` on `sft`: it is noise.") == 1


# --- limits --------------------------------------------------------------------------------------


def blocks(source: str) -> list[str]:
    """Split a report into what stands between empty lines outside of fences."""
    out, fence = [""], ""
    for line in source.splitlines():
        run = re.match("`{3,}", line)
        if run and not fence:
            fence = run[0]
        elif fence and line == fence:
            fence = ""
        if not line and not fence:
            out.append("")
        else:
            out[-1] += f"{line}\n"
    assert not fence
    return [block for block in out if block]


@settings(max_examples=40, deadline=None)
@given(most=st.integers(LEAST, 60_000))
def test_a_limit_is_kept_by_whole_sections(most: int) -> None:
    """At most so many bytes, and every block of it is a block of the whole report."""
    source = report(sample(), most)
    assert len(source.encode()) <= most
    note = NOTE.search(source)
    if source == whole():
        assert note is None
        return
    assert note is not None
    assert note[1] == f"{most:,}"
    assert source.startswith(MARKER)
    known = {*blocks(whole()), f"{note[0]}\n"}
    tables = [b for b in blocks(source) if b not in known]
    # The one block of its own is the table of what fails, whose rows are rows of the other.
    assert len(tables) <= 1
    for line in "".join(tables).splitlines():
        assert line in whole().splitlines()
    assert source.count("<details>") == source.count("</details>")


def test_a_report_that_just_fits_is_whole() -> None:
    """One byte less, and a section of the least important kind goes."""
    size = len(whole().encode())
    assert report(sample(), size) == whole()
    source = report(sample(), size - 1)
    note = NOTE.search(source)
    assert note is not None
    assert note[2] == "items (1 of 5)"
    # Of equal ones the last goes first.
    assert "wrong answers</summary>" in source.split("\n### ")[1]
    assert "wrong answers</summary>" not in source.split("\n### ")[5]


def test_sections_go_by_importance() -> None:
    """A kind goes when all of the less important kinds are gone; failing verdicts go late."""
    seen: list[str] = []
    for most in range(len(whole().encode()), LEAST, -600):
        note = NOTE.search(report(sample(), most))
        names = re.sub(r" \(.*?\)", "", note[2]).split(", ") if note else []
        assert names[: len(seen)] == seen[: len(names)]
        seen = max(seen, names, key=len)
        for part in re.findall(r"\((\d+) of (\d+)\)", note[2])[:-1] if note else []:
            assert part[0] == part[1]
    assert (
        seen
        == [
            "items",
            "settings",
            "what was stored before",
            "slices",
            "figures",
            "verdicts that did not fail",
            "reliability diagrams",
            "failing verdicts",
            "remarks and errors",
            "the table of all verdicts",
        ][: len(seen)]
    )
    assert "failing verdicts" in seen


def test_a_table_that_is_too_long_gives_way_to_what_fails() -> None:
    """A thousand verdicts: first the table of all goes, then that of the failing ones."""
    short = sample(detailed=False).results
    many = replace(sample(), results=(short[0],) * 1000 + (short[1],) * 3, errors=())
    source = report(many, COMMENT)
    assert "the table of all verdicts" in source
    assert source.count("| ❌ |") == 3
    assert "| ✅ |" not in source
    source = report(replace(many, results=(short[0],) * 1000 + (short[1],) * 1000), COMMENT)
    assert "the table of failing verdicts" in source
    assert "| ❌ |" not in source
    assert "## ❌ Calibration: 1,000 of 2,000 verdicts failed" in source
    assert len(source.encode()) <= COMMENT


def test_what_is_never_left_out_fits_into_the_least() -> None:
    """Whatever the version, the time and the commit are."""
    odd = "\\\U000e0001" * 50
    worst = replace(sample(), version=odd, created=odd, commit=odd, finished=False)
    assert len(report(worst, LEAST).encode()) <= LEAST


def test_too_small_a_limit_is_an_error() -> None:
    """The message says how much is needed."""
    with pytest.raises(UsageError, match=r"most_bytes must be at least 2,000, got 1,999\."):
        report(sample(), LEAST - 1)


def test_the_limits_are_githubs() -> None:
    """A comment holds 65,536 characters, a step 1 MiB."""
    assert COMMENT < 65_536
    assert STEP_SUMMARY < 2**20


# --- what turned ---------------------------------------------------------------------------------


@pytest.mark.parametrize("item_text", [True, False])
def test_answers_that_turned_wrong_are_named(item_text: bool) -> None:
    """Counted below the diagnosis, and named in place of the surest wrong answers."""
    base = predictions(hostile=False)
    made = result_of(
        compare(turned(predictions(hostile=False, sharpen=2.5)), base), item_text=item_text
    )
    assert made.detail is not None
    found = made.detail.turned
    assert found is not None
    source = report(Results("1", "now", 1, True, (made,)))
    assert f"\n{found.sentence}.\n" in source
    assert f"<summary>{found.sentence}; most confident that turned wrong</summary>" in source
    assert re.findall(r"^(#[0-9a-f]{16}) ", source, re.MULTILINE) == [
        item.title for item in found.items[:5]
    ]
    assert source.count(", wrong; before: ") == 5
    assert bool(re.search(r"question \d+\?", source)) == item_text
