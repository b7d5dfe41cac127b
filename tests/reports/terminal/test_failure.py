"""The text of a failing test: short by default, everything when verbose."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from samples import HOSTILE, predictions, results, turned

from pytest_calibration.gate.verdict import compare, judge
from pytest_calibration.measurement import measure
from pytest_calibration.reports.model import Remedy, Result, result_of
from pytest_calibration.reports.terminal import failure_lines

BASE = predictions(hostile=False, n=1500)
HOT = predictions(hostile=False, n=1500, sharpen=2.5, model="sft")
REMEDY = Remedy("to accept it", "pytest --accept")
RESULT = result_of(
    compare(HOT, BASE, against="baseline"), test="t.py::a", remedy=REMEDY, item_text=True
)
PARENT = result_of(compare(HOT, BASE, against="parent", reference="parent base"), test="t.py::a")


def lines(*failing: Result, width: int = 88, verbose: bool = False) -> list[str]:
    """Return the text as lines."""
    return list(failure_lines(failing, width=width, verbose=verbose))


def ordered(text: str, *parts: str) -> None:
    """Assert that the parts stand in the text in this order, from its start to its end."""
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.startswith(parts[0])
    assert text.endswith(parts[-1])


# --- the short text ------------------------------------------------------------------------------


def test_the_short_text_has_25_lines() -> None:
    """Headline, diagnosis, components, three slices, three items, command, where the rest is."""
    text = lines(RESULT)
    assert len(text) <= 25
    ordered(
        "\n".join(text),
        RESULT.headline,
        "  Over-confident by ",
        "  component  ",
        "  slice  ",
        "  0 answers turned wrong, 0 turned right; most confident wrong answers:\n",
        "to accept it: pytest --accept\n",
        "more: pytest -v, or --calibration-report=FILE.html",
    )


@pytest.mark.parametrize("width", [60, 72, 88, 120])
def test_every_failure_is_short_at_any_width(width: int) -> None:
    """Sentences that do not fit are left out, the first never; hostile text breaks no line."""
    for result in results().results:
        text = lines(replace(result, notes=("a note",) * 2), width=width)
        assert len(text) <= (25 if width >= 88 else 28)
        assert all(line.isprintable() for line in text)
        if result.state == "regressed":
            assert text.count("  note: a note") == 2
            assert text[1].startswith("  Over-confident by ")


def test_every_number_stands_where_it_belongs() -> None:
    """Components, slices and items as in the values of the result."""
    text = "\n".join(lines(RESULT, width=300))
    for c in RESULT.components:
        numbers = (c.before, c.after, c.worsening, c.bound, 0.02)
        row = " ".join([c.name, *(f"{number:z.3f}" for number in numbers)])
        assert f"  {row}{' <- fails' * c.fired}\n" in re.sub(r"(?<=\S) +", " ", text)
    assert RESULT.detail is not None
    for row in RESULT.detail.slices[:3]:
        assert row.shift is not None
        gaps = f"{row.shift.gap_before:+.3f} -> {row.shift.gap_after:+.3f}"
        assert re.search(rf"{row.now.name} .* {re.escape(gaps)} .*<- worse", text)
    for item in RESULT.detail.worst[:3]:
        assert re.search(rf"  {item.title} \(slice: .*\): confidence \S+, wrong; before", text)
    assert RESULT.detail.worst[3].title not in text
    assert RESULT.detail.slices[3].now.name not in text.partition("most confident")[0]


def test_ids_alone_are_in_the_short_text() -> None:
    """The text of items has a section of its own."""
    assert "question 1" not in re.sub("question subject", "", "\n".join(lines(RESULT)))


def test_digits_show_which_is_larger() -> None:
    """A bound that is above its tolerance by little is not printed as equal to it."""
    component = replace(RESULT.components[0], bound=0.0200004, tolerance=0.02)
    text = "\n".join(lines(replace(RESULT, components=(component,))))
    assert "0.0200004 0.0200000  <- fails" in text


def test_two_verdicts_share_lines() -> None:
    """One headline, diagnosis, slices and items; a table each; 12 lines more at most."""
    text = lines(PARENT, RESULT)
    assert len(text) <= 25 + 12
    ordered(
        "\n".join(text),
        RESULT.headline,
        "  compared with parent base:",
        "  compared with baseline:",
        "  slice  ",
        "more: pytest -v, or --calibration-report=FILE.html",
    )
    for once in (RESULT.headline, "Over-confident", "  slice  ", "to accept it:", "wrong answers:"):
        assert "\n".join(text).count(once) == 1


def test_slices_and_items_are_shown_where_there_are_any() -> None:
    """No slice moved and no answer wrong: nothing stands in their place."""
    detail = replace(RESULT.detail, slices=(), worst=())  # type: ignore[type-var]
    text = "\n".join(lines(replace(RESULT, detail=detail)))
    assert "slice" not in text
    assert "wrong answers" not in text
    bare = lines(replace(RESULT, detail=None))
    assert bare[0] == RESULT.headline
    assert bare[1].startswith("  component")


def test_a_limit_shows_the_number_that_fails() -> None:
    """And the diagnosis; a floor of accuracy has none."""
    p = HOT
    above = replace(judge(measure(p), 0.05), candidate=p)
    text = lines(result_of(above))
    assert f"  {above.findings[0]}" in text
    assert text[1].startswith("  Over-confident by ")
    assert text[-1] == "more: diagnose()"
    low = replace(judge(measure(p, "accuracy"), 0.99, above=True), candidate=p)
    assert lines(result_of(low))[1] == f"  {low.findings[0]}"


def test_what_was_not_compared_has_a_reason_alone() -> None:
    """No diagnosis and no items: the model is not at fault."""
    (other,) = (result for result in results().results if result.state == "not_comparable")
    text = "\n".join(lines(other, width=500))
    assert text.split("\n")[1] == f"  {other.reason}"
    assert "confidence" not in text


def test_a_missing_baseline_takes_three_lines() -> None:
    """Where it was looked for, what was measured, and the command that records it."""
    (missing,) = (result for result in results().results if result.state == "no_baseline")
    where, measured, command = lines(missing, width=60)
    assert where == f"{missing.headline}: {missing.reason}"
    for number in (missing.number.value, *missing.number.ends, missing.accuracy):
        assert f"{number:.3f}" in measured
    assert f"{missing.n:,} {missing.unit}s" in measured
    assert missing.remedy is not None
    assert command == f"{missing.remedy.purpose}: {missing.remedy.command}"


def test_a_refused_inconclusive_comparison_would_fail() -> None:
    """Its marks say that it has not."""
    few = next(r for r in results().results if r.state == "inconclusive")
    component = replace(RESULT.components[0], fired=True)
    text = "\n".join(lines(replace(few, fails=True, components=(component,))))
    assert "  <- would fail" in text


# --- the full text -------------------------------------------------------------------------------


def test_the_order_of_the_full_text() -> None:
    """Headline, paragraph, numbers, diagram, slices, figures, items, command."""
    assert RESULT.diagnosis is not None
    ordered(
        "\n".join(lines(RESULT, width=10_000, verbose=True)),
        RESULT.headline,
        RESULT.diagnosis.paragraph,
        "signed gap worsened by",
        "  component  ",
        "  confidence  ",
        "  slice  ",
        "temperature    ",
        "most confident wrong answers:",
        "to accept it:\n  pytest --accept",
    )


def test_two_verdicts_share_diagram_items_and_command() -> None:
    """Both have their numbers."""
    text = "\n".join(lines(RESULT, replace(PARENT, remedy=REMEDY), verbose=True))
    assert text.count(RESULT.headline) == 2
    for once in ("confidence          n   mean", "to accept it:", "most confident wrong answers"):
        assert text.count(once) == 1


def test_the_worst_items_are_three() -> None:
    """With their text where it may be shown, else by name."""
    text = "\n".join(lines(RESULT, verbose=True))
    assert RESULT.detail is not None
    worst = RESULT.detail.worst
    assert [item.text.prompt in text for item in worst[:4] if item.text] == [True] * 3 + [False]
    silent = "\n".join(lines(result_of(compare(HOT, BASE)), verbose=True))
    assert worst[0].text is not None
    assert worst[0].text.prompt not in silent
    assert worst[0].title in silent


def test_a_result_without_detail_has_its_explanation() -> None:
    """Headline, explanation and command are always there."""
    bare = lines(replace(RESULT, detail=None), verbose=True)
    assert bare[0] == RESULT.headline
    assert bare[1 : 1 + len(RESULT.explanation)] == [f"  {line}" for line in RESULT.explanation]
    assert bare[-2:] == ["to accept it:", "  pytest --accept"]


def test_hostile_text_shows_as_text() -> None:
    """Every line of every failure is printable: nothing moves a cursor or starts a line."""
    for result in results().results:
        full = lines(replace(result, notes=(HOSTILE,)), verbose=True)
        assert all(line.isprintable() for line in full)


def test_prose_keeps_to_the_width() -> None:
    """The paragraph fits, whole; long numbers are never cut."""
    assert RESULT.diagnosis is not None
    for width in (60, 80, 100):
        text = lines(RESULT, width=width, verbose=True)
        paragraph = text[1 : text.index("")]
        assert " ".join(line.strip() for line in paragraph) == RESULT.diagnosis.paragraph
        assert max(map(len, paragraph)) <= width


def test_figures_are_not_repeated() -> None:
    """What stands in the verdict, the diagram and the slices is left out of the figures."""
    assert RESULT.diagnosis is not None
    text = [line.removeprefix("  ") for line in lines(RESULT, width=10_000, verbose=True)]
    left = [line for line in RESULT.diagnosis.lines() if line not in text]
    assert {line.split("  ")[0] for line in left} == {"signed gap", "ECE", "bin", "slice"}


@pytest.mark.parametrize("verbose", [False, True])
def test_items_that_turned_wrong_are_named(verbose: bool) -> None:
    """Not the surest wrong answers, which may have been as wrong before; three of them."""
    result = result_of(compare(turned(HOT), BASE), test="t.py::a", item_text=True)
    assert result.detail is not None
    found = result.detail.turned
    assert found is not None
    text = "\n".join(lines(result, verbose=verbose))
    assert f"  {found.sentence}; most confident that turned wrong:\n" in text
    named = re.findall(r"^  (#[0-9a-f]{16}|row-\d+).*confidence", text, re.MULTILINE)
    assert named == [item.title for item in found.items[:3]]
    assert text.count(", wrong; before: ") == text.count(", correct\n") == 3
    assert len(lines(result)) <= 25
