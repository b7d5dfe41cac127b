"""A session as JSON, and back."""

from __future__ import annotations

import json
import math
import re
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator
from samples import HOSTILE, changed, damaged, predictions, results, small_results, turned

from pytest_calibration.errors import ReportError
from pytest_calibration.gate.verdict import compare, judge
from pytest_calibration.measurement import measure
from pytest_calibration.reports.flat import flat_metrics
from pytest_calibration.reports.json_report import json_report, parse_json, read_json
from pytest_calibration.reports.model import FORMAT, Results, plain, result_of
from pytest_calibration.reports.schema import FILE, results_schema, schema_text


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
    """Return the report of one verdict with little of everything."""
    return "".join(json_report(small_results()))


@cache
def validator() -> Draft202012Validator:
    """Return a validator of another program, for the published schema."""
    return Draft202012Validator(results_schema())


# --- there and back ------------------------------------------------------------------------------


@pytest.mark.parametrize("item_text", [True, False])
@pytest.mark.parametrize("detailed", [True, False])
def test_a_report_comes_back_equal(item_text: bool, detailed: bool) -> None:
    """Every number to its last bit, and every hostile text; written again, it is the same."""
    given = results(item_text=item_text, detailed=detailed)
    written = "".join(json_report(given))
    back = parse_json(written)
    assert back == given
    assert "".join(json_report(back)) == written


def test_hostile_text_is_data() -> None:
    """It is in the document as it is, and the document holds none of its characters raw."""
    assert json.loads(text())["errors"][0] == f"tests/x.yaml: {HOSTILE}"
    assert text().isascii()
    assert not re.search(r"[^\x20-\x7e\n]", text())


def test_text_is_there_only_where_the_results_hold_them() -> None:
    """Items without text have null in its place."""
    silent = json.loads("".join(json_report(results(item_text=False))))
    items = [i for r in silent["results"] if r["detail"] for i in r["detail"]["worst"]]
    assert items
    assert all(item["text"] is None for item in items)
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


def test_an_interval_without_an_end_is_null() -> None:
    """One unit says nothing about its spread: the interval of NLL has no upper end."""
    one = predictions(n=3)
    session = Results(
        "1", "now", 1, True, (result_of(replace(judge(measure(one), 0.5), candidate=one)),)
    )
    written = "".join(json_report(session))
    assert list(validator().iter_errors(json.loads(written))) == []
    detail = parse_json(written).results[0].detail
    assert detail is not None
    assert detail.candidate.metrics["nll"].high is None
    assert detail.candidate.metrics["nll"].ends[1] == math.inf


# --- the schema ----------------------------------------------------------------------------------


def test_the_published_schema_is_that_of_the_dataclasses() -> None:
    """``python -m pytest_calibration.reports.schema`` writes it anew."""
    name = FILE.format(format=FORMAT)
    published = files("pytest_calibration.reports").joinpath(name).read_text(encoding="utf-8")
    assert published == schema_text(), "python -m pytest_calibration.reports.schema > ..."


def test_the_schema_is_one() -> None:
    """Another program accepts it; every class and field is described, every field required."""
    schema = results_schema()
    Draft202012Validator.check_schema(schema)
    for definition in (schema, *schema["$defs"].values()):
        fields = definition.get("properties", {})
        assert list(fields) == definition.get("required", [])
        assert all(len(one["description"]) > 3 for one in (definition, *fields.values()))
    assert set(schema["properties"]) == {f.name for f in dataclass_fields(Results)} | {"metrics"}


@pytest.mark.parametrize("detailed", [True, False])
def test_reports_fit_the_schema(detailed: bool) -> None:
    """A session of every state, hostile text and all."""
    document = json.loads("".join(json_report(results(detailed=detailed))))
    assert list(validator().iter_errors(document)) == []


@settings(max_examples=300, deadline=None)
@given(bad=damaged(small()))
def test_a_damaged_report_is_read_or_refused_in_one_sentence(bad: Any) -> None:
    """A value changed or taken away anywhere: what is refused is wrong to another program too."""
    refused = ""
    try:
        parse_json(json.dumps(bad))
    except ReportError as problem:
        refused = str(problem)
    # JSON Schema takes 600.0 for a whole number, and knows no largest float.
    lenient = "got 600.0" in refused or "got 1000000000" in refused
    assert not refused or lenient or list(validator().iter_errors(bad))
    assert refused.isprintable()
    assert len(refused) < 400


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (("version",), ..., "the document lacks version"),
        (("results", 0, "notes"), ..., "results[0] lacks notes"),
        (("format",), 0, "format must be one of 1, got 0"),
        (("version",), 3, "version must be text, got 3"),
        (("results", 0, "n"), 1.5, "results[0].n must be a whole number, got 1.5"),
        (("results", 0, "n"), 600.0, "results[0].n must be a whole number, got 600.0"),
        (("results", 0, "n"), True, "results[0].n must be a whole number, got true"),
        (("results", 0, "fails"), 1, "results[0].fails must be true or false, got 1"),
        (("results", 0, "number"), None, "results[0].number must be an object, got null"),
        (
            ("results", 0, "number", "value"),
            "x",
            'results[0].number.value must be a number, got "x"',
        ),
        (("results", 0, "limit"), "x", 'results[0].limit must be a number or null, got "x"'),
        (("results", 0, "notes"), {}, "results[0].notes must be a list, got an object"),
        (("results", 0, "notes", 0), 1, "results[0].notes[0] must be text, got 1"),
        (("results", 0, "state"), "great", 'state must be one of "passed", "regressed", '),
        (
            ("results", 0, "against"),
            "x",
            'against must be one of "baseline", "parent", "anchor", "run", "other" or null',
        ),
        (
            ("results", 0, "detail", "slices", 0, "shift", "change"),
            "up",
            'must be one of "", "worse", ',
        ),
        (
            ("results", 0, "detail", "diagnosis", "regime", "name"),
            "x",
            'results[0].detail.diagnosis.regime.name must be one of "calibratable", ',
        ),
        (
            ("results", 0, "detail", "candidate", "metrics", "ece", "value"),
            None,
            "results[0].detail.candidate.metrics.ece.value must be a number, got null",
        ),
        (
            ("results", 0, "detail", "candidate", "metrics", "b\x1b[31m"),
            1,
            "results[0].detail.candidate.metrics.b\\x1b[31m must be an object, got 1",
        ),
        (("version",), ["\x1b"], "version must be text, got a list"),
        (("results", 0, "fails"), "\x9b" * 99, "must be true or false, got "),
    ],
)
def test_what_is_wrong_is_named(at: tuple[str | int, ...], value: Any, message: str) -> None:
    """The place, what it must hold and the value found; nothing in it acts on a terminal."""
    notes = changed(json.loads(small()), ("results", 0, "notes"), ["note"])
    with pytest.raises(ReportError) as caught:
        parse_json(json.dumps(changed(notes, at, value)), "report.json")
    sentence = str(caught.value)
    assert sentence.startswith("report.json: is no JSON report of format 1: ")
    assert message in sentence
    assert sentence.endswith("; write it again.")
    assert sentence.isprintable()


def test_further_fields_are_ignored() -> None:
    """A report of a later version of the same format may say more."""
    more = changed(json.loads(small()), ("results", 0, "more"), 1)
    assert parse_json(json.dumps(more)) == parse_json(small())


# --- files that are none -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ", line 1: is not JSON: "),
        ('{\n"format": 1,\n', ", line 3: is not JSON: "),
        ("[" * 100_000, ": is not JSON: "),
        ('{"format": NaN}', ": is not JSON: NaN is no finite number; name a JSON report."),
        ('{"format": -Infinity}', ": is not JSON: -Infinity is no finite number"),
        ('{"format": 1e999}', ": is not JSON: 1e999 is no finite number"),
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
    with pytest.raises(ReportError, match=r"x\.json: there is no such file"):
        read_json(tmp_path / "x.json")
    (tmp_path / "y.json").write_bytes(b"{\xff}")
    with pytest.raises(ReportError, match=r"y\.json: cannot be read \(line 1 is not UTF-8\)"):
        read_json(tmp_path / "y.json")


def test_a_byte_order_mark_is_no_part_of_a_report(tmp_path: Path) -> None:
    """Some programs on Windows write one."""
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf" + text().encode())
    assert read_json(tmp_path / "x.json") == sample()


def test_what_turned_is_there() -> None:
    """Both counts and the items, null without a baseline; so it is in a report of before."""
    base = predictions(hostile=False)
    made = result_of(compare(turned(base), base))
    whole = Results("1", "now", 2, True, (made, *results().results))
    text = "".join(json_report(whole))
    tree = json.loads(text)
    assert made.detail is not None
    assert made.detail.turned is not None
    detail = tree["results"][0]["detail"]
    assert detail["turned"]["wrong"] == made.detail.turned.wrong > 0
    assert detail["turned"]["right"] == made.detail.turned.right > 0
    assert len(detail["turned"]["items"]) == 20
    assert detail["turned"]["items"][0]["correct_before"] is True
    assert parse_json(text) == whole
    limits = [r["detail"]["turned"] for r in tree["results"] if r["state"] == "above_limit"]
    assert limits == [None]
    del detail["turned"]
    older = parse_json(json.dumps(tree)).results[0].detail
    assert older is not None
    assert older.turned is None
