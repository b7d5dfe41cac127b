"""The words of all reports: none stands twice, and none contradicts another."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from samples import predictions, turned

from pytest_calibration.diagnosis import diagnose
from pytest_calibration.errors import MetricError
from pytest_calibration.gate.verdict import Against, compare
from pytest_calibration.predictions import Predictions
from pytest_calibration.reports.annotations import annotations
from pytest_calibration.reports.html import html_report
from pytest_calibration.reports.json_report import json_report
from pytest_calibration.reports.markdown import markdown_report
from pytest_calibration.reports.model import Result, Results, result_of
from pytest_calibration.reports.openmetrics import openmetrics_report
from pytest_calibration.reports.terminal import failure_lines, summary_lines
from pytest_calibration.text.names import labelled


def texts(*made: Result) -> dict[str, str]:
    """Return every report of these verdicts, as text."""
    whole = Results("1", "now", len(made), True, made)
    page = re.sub(r"(?s)<(style|script|svg).*?</\1>", " ", "".join(html_report(whole)))
    return {
        "summary": "\n".join(summary_lines(whole, width=10_000, verbosity=2)),
        "failure": "\n".join(failure_lines(made, width=10_000)),
        "verbose": "\n".join(failure_lines(made, width=10_000, verbose=True)),
        "markdown": "".join(markdown_report(whole)),
        "json": "".join(json_report(whole)),
        "html": re.sub(r"<[^>]*>", "\n", page),
        "annotations": "\n".join(annotations(whole)).replace("%0A", "\n"),
        "openmetrics": "".join(openmetrics_report(whole)),
    }


def pair(**more: object) -> tuple[Predictions, Predictions]:
    """Return a candidate that regressed, and its baseline."""
    base = predictions(hostile=False, groups=False)
    return turned(predictions(hostile=False, groups=False, sharpen=2.5, model="sft")), base


@pytest.mark.parametrize(
    ("against", "name"),
    [
        ("parent", "parent"),
        ("parent", "Parent-7B"),
        ("parent", "base"),
        ("baseline", "baseline"),
        ("other", "the previous release"),
        ("other", "baseline v2"),
        ("other", "v1.2"),
    ],
)
def test_no_word_stands_twice(against: Against, name: str) -> None:
    """Whatever models, probes and baselines are called: their kind is said once."""
    candidate, base = pair()
    reference = labelled("parent", name) if against == "parent" else name
    # Fewer items than the baseline has, and more: both have notes of their own.
    made = [
        result_of(
            compare(
                replace(one, probe="probe"),
                replace(base, probe="probe"),
                against=against,
                reference=reference,
            ),
            test="t.py::test_it",
        )
        for one in (candidate, candidate.take(slice(0, 580)), candidate.take(slice(0, 40)))  # type: ignore[arg-type]
    ]
    other = compare(replace(candidate, item_ids=candidate.item_ids + 1), base, reference=reference)
    made.append(result_of(other, test="t.py::test_it"))
    for kind, text in texts(*made).items():
        found = re.search(r"(?i)\b(the|a|parent|baseline|probe|release|on|of)[ \t]+\1\b", text)
        assert found is None, (kind, text[max(found.start() - 80, 0) : found.end() + 80])


@pytest.mark.parametrize("reference", ["v1.2", "release 3", "the previous release"])
def test_other_predictions_are_no_parent(reference: str) -> None:
    """They are called by their name: no report speaks of a parent or fits its temperature."""
    candidate, base = pair()
    made = result_of(compare(candidate, base, reference=reference), test="t.py::test_it")
    assert made.against == "other"
    diagnosis = made.diagnosis
    assert diagnosis is not None
    assert diagnosis.base_temperature is None
    assert diagnosis.reference == reference
    assert diagnosis.regime.name == "undetermined"
    assert f"Compared with {reference}, " in diagnosis.paragraph
    for kind, text in texts(made).items():
        # That a calibrated parent would name a regime is true of any comparison.
        plain = text.replace("a calibrated parent would.", "").replace(
            "calibrated parent on the", ""
        )
        assert "parent" not in re.sub(r'"against": "other"|base_temperature', "", plain), kind
        assert "without labels" not in text
        if kind != "summary":
            assert reference in text, kind


@pytest.mark.parametrize(("against", "called"), [("parent", "parent"), ("other", "baseline")])
def test_what_has_no_name_is_called_by_its_kind(against: Against, called: str) -> None:
    """A parent is not called a baseline where nobody named it."""
    candidate, base = pair()
    made = compare(candidate, base, against=against)
    assert made.reference == called
    result = result_of(made, test="t.py::test_it")
    assert result.diagnosis is not None
    assert f"Compared with the {called}, " in result.diagnosis.paragraph
    assert diagnose(candidate, base, base_model=against == "parent").reference == called


@pytest.mark.parametrize("against", ["v1.2", "", None, "Parent", 1])
def test_an_unknown_kind_of_baseline_is_refused(against: Any) -> None:
    """One sentence: the kinds, the value, and what gives a name."""
    candidate, base = pair()
    with pytest.raises(MetricError) as caught:
        compare(candidate, base, against=against)
    assert str(caught.value) == (
        f"against must be one of baseline, parent, anchor, run, other, got {against!r}; "
        "reference= gives the baseline a name."
    )


@pytest.mark.parametrize("reference", ["", "  ", 1.2])
def test_a_name_is_text(reference: Any) -> None:
    """A baseline without a name has a name by its kind."""
    candidate, base = pair()
    with pytest.raises(MetricError) as caught:
        compare(candidate, base, reference=reference)
    assert str(caught.value) == f"reference must be the name of the baseline, got {reference!r}."


def test_a_parent_is_one_in_every_report() -> None:
    """Its name, its temperature, and the word in the summary."""
    base = predictions(hostile=False, groups=False)
    candidate = predictions(hostile=False, groups=False, sharpen=2.5, model="sft")
    made = result_of(
        compare(candidate, base, against="parent", reference="parent base"), test="t.py::test_it"
    )
    assert made.diagnosis is not None
    assert made.diagnosis.base_temperature is not None
    found = texts(made)
    assert "(parent)" in found["summary"]
    assert all("parent base" in found[kind] for kind in ("markdown", "json", "html", "openmetrics"))
    assert '"against": "parent"' in found["json"]
    assert "comes closest to the parent base" in found["verbose"]


def undecided() -> Result:
    """Return a comparison of few items that is undecided, and better in one component."""
    before = predictions(hostile=False, groups=False, n=120, sharpen=3.0)
    after = predictions(hostile=False, groups=False, n=120)
    made = result_of(compare(after, before, against="baseline"), test="t.py::test_it")
    assert made.state == "inconclusive"
    assert made.improved
    return made


def test_what_is_undecided_is_not_called_better() -> None:
    """It says that a component improved, beside what could not be seen; once, in every report."""
    made = undecided()
    for kind, text in texts(made).items():
        assert "better than" not in text, kind
        if kind in ("summary", "markdown"):
            assert "too few" in text
            assert len(re.findall(": one component improved; .*would store it", text)) == 1
    assert "is undecided; one component improved." in texts(made)["html"].replace("\n", "")
    assert "one component improved beyond the tolerance, others could be worse unseen" in " ".join(
        made.explanation
    )


def test_what_passed_may_be_better() -> None:
    """A decided comparison says so as before."""
    before = predictions(hostile=False, groups=False, n=3000, sharpen=3.0)
    after = predictions(hostile=False, groups=False, n=3000)
    made = result_of(compare(after, before, against="baseline"), test="t.py::test_it")
    assert made.state == "passed"
    assert "better than the baseline: " in texts(made)["summary"]
    assert "better than the baseline beyond the tolerance; it may be accepted" in made.explanation


def test_classes_have_names_in_the_page() -> None:
    """Options of a question have letters; classes their names, else numbers."""
    asked, _ = pair()
    classes = replace(asked, option_mass=None, texts=None, signature=type(asked.signature)())
    named = replace(classes, class_names=("ham", "spam", "news", "<b>odd</b>"))
    for made, names in (
        (asked, list("ABCD")),
        (classes, [f"class {i}" for i in range(4)]),
        (named, ["ham", "spam", "news", "&lt;b&gt;odd&lt;/b&gt;"]),
    ):
        result = result_of(compare(made, made), item_text=True)
        whole = Results("1", "now", 1, True, (result,))
        page = "".join(html_report(whole))
        letters = re.findall(r'<span class="letter"><bdi>(.*?)</bdi></span>', page)
        assert letters[:4] == names
        assert result.detail is not None
        assert result.detail.candidate.classes == made.classes
