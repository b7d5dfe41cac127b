"""A session as JSON, and back."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from samples import HOSTILE, results

from pytest_calibration.diagnosis import Diagnosis
from pytest_calibration.errors import ReportError
from pytest_calibration.reports.flat import flat_metrics
from pytest_calibration.reports.json_report import json_report, parse_json, read_json
from pytest_calibration.reports.model import FORMAT, Results, Side, plain
from pytest_calibration.reports.schema import FILE, problems, results_schema, schema_text

WHERE = tuple[str | int, ...]


@cache
def sample() -> Results:
    """Return a session with a verdict of every state."""
    return results()


@cache
def text() -> str:
    """Return the report of the sample."""
    return "".join(json_report(sample()))


@cache
def small() -> str:
    """Return the report of a session with the verdict that says most, and little of each list."""
    result = next(r for r in sample().results if r.detail is not None and r.detail.past)
    detail = result.detail
    assert detail is not None
    detail = replace(
        detail,
        slices=detail.slices[:1],
        worst=detail.worst[:1],
        candidate=short(detail.candidate),
        baseline=short(detail.candidate),
    )
    one = replace(sample(), results=(replace(result, detail=detail),))
    return "".join(json_report(one))


def short(side: Side) -> Side:
    """Return a side with one of everything."""
    return replace(
        side,
        metrics={"ece": side.metrics["ece"]},
        reliability=side.reliability[:1],
        histogram=side.histogram[:1],
    )


@cache
def validator() -> Draft202012Validator:
    """Return a validator of another program, for the published schema."""
    return Draft202012Validator(results_schema())


# --- there and back ------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [True, False])
@pytest.mark.parametrize("detailed", [True, False])
def test_a_report_comes_back_equal(words: bool, detailed: bool) -> None:
    """Every number to its last bit, and every hostile text; written again, it is the same."""
    given = results(words=words, detailed=detailed)
    written = "".join(json_report(given))
    back = parse_json(written)
    assert back == given
    assert "".join(json_report(back)) == written


def test_hostile_text_is_data() -> None:
    """It is in the document as it is, and the document holds none of its characters raw."""
    assert json.loads(text())["errors"][0] == f"tests/x.yaml: {HOSTILE}"
    assert text().isascii()
    assert not re.search(r"[^\x20-\x7e\n]", text())


def test_words_are_there_only_where_the_results_hold_them() -> None:
    """Items without words have null in their place."""
    silent = json.loads("".join(json_report(results(words=False))))
    items = [i for r in silent["results"] if r["detail"] for i in r["detail"]["worst"]]
    assert items
    assert all(item["words"] is None for item in items)
    assert "right <" in text()
    assert "right <" not in json.dumps(silent)


def test_the_tree_is_that_of_the_dataclasses() -> None:
    """All fields under their own names, and the flat metrics beside them."""
    document = json.loads(text())
    assert document.pop("metrics") == flat_metrics(sample())
    assert document == plain(sample())


def test_a_session_without_verdicts_is_a_report() -> None:
    """It fits the schema and comes back."""
    empty = Results("1", "now", 0, True, ())
    written = "".join(json_report(empty))
    assert list(validator().iter_errors(json.loads(written))) == []
    assert parse_json(written) == empty


# --- the schema ----------------------------------------------------------------------------------


def test_the_published_schema_is_that_of_the_dataclasses() -> None:
    """``python -m pytest_calibration.reports.schema`` writes it anew."""
    name = FILE.format(format=FORMAT)
    published = files("pytest_calibration.reports").joinpath(name).read_text(encoding="utf-8")
    assert published == schema_text(), "python -m pytest_calibration.reports.schema > ..."


def test_the_schema_is_one() -> None:
    """Another program accepts it as a schema of its dialect."""
    Draft202012Validator.check_schema(results_schema())


@pytest.mark.parametrize("detailed", [True, False])
def test_reports_fit_the_schema(detailed: bool) -> None:
    """A session of every state, hostile text and all."""
    document = json.loads("".join(json_report(results(detailed=detailed))))
    assert list(validator().iter_errors(document)) == []
    assert list(problems(document)) == []


def dataclasses_within(kind: Any) -> Iterator[type]:
    """Yield the dataclasses that a type is made of."""
    if is_dataclass(kind) and isinstance(kind, type):
        yield kind
        for hint in get_type_hints(kind).values():
            yield from dataclasses_within(hint)
    for inner in get_args(kind):
        yield from dataclasses_within(inner)


def test_every_dataclass_has_a_definition_of_its_own() -> None:
    """Two of one name would share one; every field is described."""
    kinds = {*dataclasses_within(Results), *dataclasses_within(Diagnosis)}
    names = [kind.__name__ for kind in kinds]
    assert len(names) == len({*names})
    definitions = {"Results": results_schema(), **results_schema()["$defs"]}
    assert set(definitions) == set(names)
    for kind in kinds:
        described = definitions[kind.__name__]["properties"]
        added = {"metrics"} if kind is Results else set()
        assert {f.name for f in fields(kind)} | added == set(described)
        assert all(len(field["description"]) > 3 for field in described.values())


def places(tree: Any, at: WHERE = ()) -> Iterator[WHERE]:
    """Yield the place of every value in a document."""
    yield at
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from places(value, (*at, key))
    elif isinstance(tree, list):
        for i, value in enumerate(tree):
            yield from places(value, (*at, i))


def changed(document: Any, at: WHERE, value: Any) -> Any:
    """Return a document with another value in one place; without that place for ``...``."""
    if not at:
        return value
    out = copy.copy(document)
    if len(at) == 1 and value is ...:
        del out[at[0]]
    elif len(at) == 1:
        out[at[0]] = value
    else:
        out[at[0]] = changed(document[at[0]], at[1:], value)
    return out


PLACES = list(places(json.loads(small())))
BAD = (None, True, 3, 0.5, "x", [], {}, {"x": 1}, ["x"], -1, [None], ...)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_both_checks_refuse_the_same_documents(data: st.DataObject) -> None:
    """A value changed, taken away or added anywhere: ours says what another program says."""
    document = json.loads(small())
    at = data.draw(st.sampled_from(PLACES))
    if data.draw(st.booleans()) and isinstance(value_at(document, at), dict):
        bad = changed(document, (*at, "surplus"), data.draw(st.sampled_from(BAD[:-1])))
    else:
        value = data.draw(st.sampled_from(BAD if at else BAD[:-1]))
        bad = changed(document, at, value)
    expected = list(validator().iter_errors(bad))
    found = list(problems(bad))
    assert bool(found) == bool(expected), (at, found, expected)


def value_at(document: Any, at: WHERE) -> Any:
    """Return the value in one place of a document."""
    for key in at:
        document = document[key]
    return document


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (("version",), ..., "the document lacks version"),
        (("format",), 0, "format must be 1, got 0"),
        (("version",), 3, "version must be text, got 3"),
        (("surplus",), 1, "the document has 'surplus', which is not known"),
        (("results", 0, "n"), 1.5, "results[0].n must be a whole number, got 1.5"),
        (("results", 0, "n"), 600.0, "results[0].n must be a whole number, got 600.0"),
        (("results", 0, "n"), True, "results[0].n must be a whole number, got true"),
        (("results", 0, "fails"), 1, "results[0].fails must be true or false, got 1"),
        (("results", 0, "number"), None, "results[0].number must be an object, got null"),
        (("results", 0, "number", "value"), "x", "results[0].number.value must be a number"),
        (("results", 0, "notes"), {}, "results[0].notes must be a list, got an object"),
        (("results", 0, "state"), "great", "state must be one of 'passed', 'regressed', "),
        (("results", 0, "detail", "slices", 0, "change"), "up", "must be one of '', 'worse', "),
        (
            ("results", 0, "detail", "diagnosis", "regime", "name"),
            "x",
            "results[0].detail.diagnosis.regime.name must be one of 'calibratable', ",
        ),
        (("metrics", "m"), {"p": {"ece": None}}, "metrics.m.p.ece must be a number, got null"),
        (("metrics", "m\x1b[31m"), 1, "metrics.m\\x1b[31m must be an object, got 1"),
        (("version",), ["\x1b"], "version must be text, got a list"),
        (("results", 0, "fails"), "\x1b" * 99, "got '" + "\\x1b" * 17 + " ... "),
    ],
)
def test_what_is_wrong_is_said(at: WHERE, value: Any, message: str) -> None:
    """The place, the value that is there and what is due; nothing in it acts on a terminal."""
    bad = changed(json.loads(small()), at, value)
    with pytest.raises(ReportError) as caught:
        parse_json(json.dumps(bad), "report.json")
    said = str(caught.value)
    assert said.startswith("report.json: is no JSON report of format 1: ")
    assert message in said
    assert said.endswith("; write it again.")


# --- files that are none -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ", line 1: is not JSON: "),
        ('{\n"format": 1,\n', ", line 3: is not JSON: "),
        ("[" * 100_000, ": is not JSON: "),
        ('{"format": NaN}', ": is not JSON: NaN is no number in JSON; name a JSON report."),
        ('{"format": -Infinity}', ": is not JSON: -Infinity is no number in JSON"),
        ('{"format": ' + "1" * 5000 + "}", ": is not JSON: "),
        ("[]", ": is no JSON report of pytest-calibration"),
        ("{}", ": is no JSON report of pytest-calibration"),
        ('{"format": 1}', ": is no JSON report of pytest-calibration"),
        ('{"format": true, "results": []}', ": is no JSON report of pytest-calibration"),
        ('{"format": 1, "results": []}', ": is no JSON report of format 1: the document lacks"),
        ('{"format": 0, "results": []}', ": is no JSON report of format 1: "),
        (
            '{"format": 2, "results": []}',
            ": has format 2, this version reads up to 1: update pytest-calibration.",
        ),
    ],
)
def test_a_file_that_is_no_report_is_named(tmp_path: Path, content: str, message: str) -> None:
    """One sentence: which file, what is wrong with it, what to do."""
    file = tmp_path / "x.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ReportError) as caught:
        read_json(file)
    assert str(caught.value).startswith(f"{file}{message}")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """It is not there, or it is no text."""
    with pytest.raises(ReportError, match=r"x\.json: cannot be read \(No such file"):
        read_json(tmp_path / "x.json")
    (tmp_path / "y.json").write_bytes(b"{\xff}")
    with pytest.raises(ReportError, match=r"y\.json: is not UTF-8 text \(byte 1\)"):
        read_json(tmp_path / "y.json")


def test_a_byte_order_mark_is_no_part_of_a_report(tmp_path: Path) -> None:
    """Some programs on Windows write one."""
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf" + text().encode())
    assert read_json(tmp_path / "x.json") == sample()
