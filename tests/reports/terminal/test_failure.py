"""The text of a failing test: plain words first, then numbers, then what to do."""

from __future__ import annotations

from dataclasses import replace

from samples import predictions, results

from pytest_calibration.gate.verdict import compare
from pytest_calibration.reports.model import Remedy, result_of
from pytest_calibration.reports.terminal import failure_lines

BASE = predictions(hostile=False)
HOT = predictions(sharpen=2.5, model="sft", hostile=False)
RESULT = result_of(
    compare(HOT, BASE), remedy=Remedy("to accept it", "pytest --accept"), item_text=True
)


def lines(*failing, **settings):  # type: ignore[no-untyped-def]
    """The text as lines."""
    return list(failure_lines(failing, **settings))


def test_the_order_of_the_story() -> None:
    """Headline, paragraph, numbers, diagram, slices, figures, items, remedy."""
    text = "\n".join(lines(RESULT, width=10_000))
    assert RESULT.detail is not None
    assert RESULT.detail.diagnosis is not None
    parts = [
        RESULT.headline,
        RESULT.detail.diagnosis.paragraph,
        "signed gap worsened by",
        "  component  ",
        "  confidence  ",
        "  slice  ",
        "temperature    ",
        "surest wrong answers:",
        "to accept it:\n  pytest --accept",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.startswith(RESULT.headline)
    assert text.endswith(parts[-1])


def test_two_verdicts_are_one_story() -> None:
    """Both are told, on one diagram, with equal remedies once."""
    parent = result_of(
        compare(HOT, BASE, against="parent", reference="parent base"), remedy=RESULT.remedy
    )
    text = "\n".join(lines(RESULT, parent))
    assert text.count(RESULT.headline) == 2
    assert text.count("confidence          n   mean") == 1
    assert text.count("to accept it:") == 1
    assert text.count("surest wrong answers") == 1


def test_the_surest_wrong_answers_are_three() -> None:
    """With their words where they may be shown, else by name."""
    text = "\n".join(lines(RESULT))
    assert RESULT.detail is not None
    worst = RESULT.detail.worst
    for item in worst[:3]:
        assert item.text is not None
        assert item.text.prompt in text
    assert worst[3].text is not None
    assert worst[3].text.prompt not in text
    silent = result_of(compare(HOT, BASE), item_text=False)
    told = "\n".join(lines(silent))
    assert worst[0].text is not None
    assert worst[0].text.prompt not in told
    assert worst[0].title in told


def test_no_wrong_answer_is_no_list() -> None:
    """Where all answers are right there is nothing to show."""
    right = replace(RESULT, detail=replace(RESULT.detail, worst=()))  # type: ignore[type-var]
    assert "surest" not in "\n".join(lines(right))


def test_a_result_without_detail_tells_its_story() -> None:
    """Headline, story and remedy are always there."""
    bare = lines(replace(RESULT, detail=None))
    assert bare[0] == RESULT.headline
    assert [line.strip() for line in bare[1 : 1 + len(RESULT.explanation)]] == [
        line.strip() for line in RESULT.explanation
    ]
    assert bare[-2:] == ["to accept it:", "  pytest --accept"]


def test_hostile_text_shows_as_text() -> None:
    """Every line of every failure is printable: nothing moves a cursor or starts a line."""
    for result in results().results:
        for line in "\n".join(failure_lines([result])).split("\n"):
            assert line.isprintable()


def test_prose_keeps_to_the_width() -> None:
    """The paragraph and the diagram fit; long numbers are never cut."""
    for width in (60, 80, 100):
        assert RESULT.detail is not None
        assert RESULT.detail.diagnosis is not None
        told = lines(RESULT, width=width)
        first = told.index(RESULT.headline) + 1
        paragraph = told[first : told.index("", first)]
        assert " ".join(line.strip() for line in paragraph) == RESULT.detail.diagnosis.paragraph
        assert max(map(len, paragraph)) <= width


def test_figures_are_not_told_twice() -> None:
    """What stands in the verdict, the diagram and the slices is left out of the figures."""
    assert RESULT.detail is not None
    assert RESULT.detail.diagnosis is not None
    told = [line.removeprefix("  ") for line in lines(RESULT, width=10_000)]
    figures = RESULT.detail.diagnosis.lines()
    left = [line for line in figures if line not in told]
    assert {line.split("  ")[0] for line in left} == {"signed gap", "ECE", "bin", "slice"}
