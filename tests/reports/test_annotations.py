"""Annotations on GitHub, read as its runner reads them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import HOSTILE, predictions, results

from pytest_calibration.gate.verdict import judge
from pytest_calibration.measurement import measure
from pytest_calibration.reports.annotations import MOST, NAME, TITLE, annotations
from pytest_calibration.reports.model import Remedy, Result, Results, result_of
from pytest_calibration.text.visible import visible


@dataclass(frozen=True)
class Command:
    """A workflow command as the runner understands it."""

    name: str
    properties: dict[str, str]
    message: str


def parsed(line: str) -> Command:
    """Take a line of a log apart in the way of the runner."""
    assert line.startswith("::")
    assert line[2:] == visible(line[2:])
    head, _, data = line[2:].partition("::")
    name, _, listed = head.partition(" ")
    properties = dict(pair.split("=", 1) for pair in listed.split(",") if pair)
    for signs, meant in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ",")):
        properties = {key: text.replace(signs, meant) for key, text in properties.items()}
    for signs, meant in (("%0D", "\r"), ("%0A", "\n")):
        data = data.replace(signs, meant)
    undone = {key: text.replace("%25", "%") for key, text in properties.items()}
    return Command(name, undone, data.replace("%25", "%"))


def commands(given: Results, places: dict[str, tuple[str, int]] | None = None) -> list[Command]:
    """Return all annotations of a session."""
    return [parsed(line) for line in annotations(given, places)]


@cache
def sample() -> Results:
    """Return a session with a verdict of every state."""
    return results()


@cache
def failing() -> Result:
    """Return a verdict that fails."""
    return replace(sample().results[1], model="sft")


def session(*made: Result, errors: tuple[str, ...] = ()) -> Results:
    """Return a session of these verdicts."""
    return Results("1", "now", len(made), True, made, errors=errors)


def test_each_failing_test_has_one() -> None:
    """And each error of the session; what passes or is undecided has none."""
    found = commands(sample())
    assert {c.name for c in found} == {"error"}
    titles = [c.properties["title"] for c in found]
    assert [title.split(":")[0] for title in titles] == [
        "regressed",
        "above limit",
        "regressed",
        "not comparable",
        "no baseline",
        "calibration",
    ]
    assert found[-1].message == visible(f"tests/x.yaml: {HOSTILE}")


def test_the_message_tells_what_failed_why_and_what_to_do() -> None:
    """Headline, the number that decided, the diagnosis, the command; a line each."""
    (one,) = commands(session(replace(failing(), remedy=Remedy("to accept it", "pytest --x"))))
    result = failing()
    assert result.detail is not None
    assert result.detail.diagnosis is not None
    assert one.message.split("\n") == [
        visible(result.headline),
        visible(result.findings[0]),
        result.detail.diagnosis.paragraph,
        "to accept it: pytest --x",
    ]
    assert one.properties["title"] == "regressed: support-mcq on sft"


def test_what_was_not_compared_has_no_diagnosis() -> None:
    """A missing baseline is not the model's fault."""
    message = commands(sample())[4].message
    assert "nothing is stored at tests/x.yaml." in message
    assert "miscalibration" not in message


def test_a_floor_that_is_missed_has_no_diagnosis_of_calibration() -> None:
    """A model that is not accurate enough is named as such."""
    p = predictions()
    low = replace(judge(measure(p, "accuracy"), 0.99, above=True), candidate=p)
    (one,) = commands(session(result_of(low, test="t.py::a")))
    assert one.properties["title"].startswith("below limit: ")
    assert len(one.message.split("\n")) == 2


def test_the_file_is_that_of_the_test() -> None:
    """From its node id; with a line where one is known."""
    given = session(replace(failing(), test="tests/a.py::test_b[x::y]"))
    assert commands(given)[0].properties["file"] == "tests/a.py"
    assert "line" not in commands(given)[0].properties
    (known,) = commands(given, {"tests/a.py::test_b[x::y]": ("src/a.py", 7)})
    assert (known.properties["file"], known.properties["line"]) == ("src/a.py", "7")


def test_what_no_test_made_has_no_file() -> None:
    """Each stands alone."""
    found = commands(session(*[replace(failing(), test="")] * 2))
    assert len(found) == 2
    assert all(set(c.properties) == {"title"} for c in found)


def test_verdicts_of_one_test_share_one() -> None:
    """Its title counts them, its message names each."""
    given = session(failing(), replace(failing(), headline="second"))
    (one,) = commands(given)
    assert one.properties["title"] == "regressed: support-mcq on sft and 1 more"
    assert "second" in one.message.split("\n")


@pytest.mark.parametrize(("n", "errors"), [(10, 0), (11, 0), (5, 6), (0, 40)])
def test_no_more_than_are_shown(n: int, errors: int) -> None:
    """Of more than ten the last says how many more there are."""
    tests = [replace(failing(), test=f"a.py::test_{i}") for i in range(n)]
    found = commands(session(*tests, errors=tuple(f"error {i}" for i in range(errors))))
    if n + errors <= MOST:
        assert len(found) == n + errors
    else:
        assert len(found) == MOST
        assert found[-1].message == f"{n + errors - 9} more; see the log or the step summary."


@given(bad=st.one_of(st.just(HOSTILE), st.text(max_size=40)))
def test_any_text_comes_back_as_text(bad: str) -> None:
    """Line breaks, percent signs, colons and commas of a text stay in their place."""
    result = replace(
        failing(),
        test=f"{bad}.py::t",
        headline=bad,
        reason="",
        findings=("", bad or "x"),
        model=bad,
        detail=None,
    )
    lines = list(annotations(session(result, errors=(bad,))))
    assert all("\n" not in line and line.startswith("::error ") for line in lines)
    first, second = map(parsed, lines)
    assert first.properties["file"] == visible(f"{bad}.py::t".partition("::")[0])
    title = f"regressed: {visible(result.subject, NAME)}"
    assert first.properties["title"] == title[:TITLE]
    assert first.message.split("\n")[:2] == [visible(bad), visible(bad or "x")]
    assert second.message == visible(bad)


def test_a_title_is_short() -> None:
    """GitHub shows 255 characters of it."""
    (one,) = commands(session(replace(failing(), model="\U000e0001" * 500)))
    assert len(one.properties["title"]) <= TITLE <= 255


def test_nothing_fails_and_nothing_is_said() -> None:
    """A green session has no annotation."""
    assert commands(session(sample().results[0])) == []
