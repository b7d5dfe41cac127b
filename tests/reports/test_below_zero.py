"""An error of which noise is subtracted may be negative: every report says what that means."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import pytest

from pytest_calibration.gate.decision import State
from pytest_calibration.gate.verdict import Verdict, compare, judge
from pytest_calibration.measurement import measure
from pytest_calibration.predictions import Predictions
from pytest_calibration.reports.html import html_report
from pytest_calibration.reports.markdown import markdown_report
from pytest_calibration.reports.model import Results, result_of
from pytest_calibration.reports.openmetrics import openmetrics_report
from pytest_calibration.reports.terminal import failure_lines, summary_lines

WORDS: Final = "below 0: none visible"


def answers(excess: float) -> Predictions:
    """2,000 answers of ten confidences; the accuracy at each is the confidence less the excess."""
    confidence = np.repeat(np.linspace(0.5, 0.95, 10), 200)
    right = np.concatenate([np.arange(200) < round(200 * c) for c in np.linspace(0.5, 0.95, 10)])
    return Predictions.from_confidence(np.clip(confidence + excess, 0, 1), right)


def verdict() -> Verdict:
    """An over-confident candidate against a baseline whose accuracy is its confidence."""
    return compare(answers(0.04), answers(0.0))


def limit() -> Verdict:
    """The cross-fitted ECE of the baseline alone."""
    base = answers(0.0)
    judged = judge(measure(base, "cross_fitted_ece"), 0.1, debiased=True)
    return replace(judged, candidate=base)


def session(*made: Verdict) -> Results:
    """A session of these verdicts."""
    results = tuple(result_of(one, test="t.py::test", detailed=True) for one in made)
    return Results(
        version="0.1.0",
        created="2026-01-02T03:04:05Z",
        commit="",
        tests=1,
        finished=True,
        results=results,
        remarks=(),
        errors=(),
    )


def test_the_estimate_is_negative_here() -> None:
    """Where accuracy is confidence, subtracting what noise would add leaves less than 0."""
    assert verdict().state is State.REGRESSED
    (before,) = (c.before for c in verdict().components if c.name == "cross-fitted ECE")
    assert before < -0.001
    assert limit().measurement.value < -0.001


REPORTS = {
    "failure": lambda made: failure_lines(session(made).results),
    "whole failure": lambda made: failure_lines(session(made).results, verbose=True),
    "explanation": lambda made: made.explain().splitlines(),
    "Markdown": lambda made: markdown_report(session(made)),
    "HTML": lambda made: html_report(session(made)),
}


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS.keys())
def test_a_component_below_zero_is_explained(report: object) -> None:
    """The words stand beside the row, and name the side."""
    assert callable(report)
    text = "\n".join(report(verdict()))
    assert WORDS in text
    assert f"after {WORDS}" not in text


METRIC = {
    "summary": lambda made: summary_lines(session(made), width=200),
    "explanation": lambda made: made.explain().splitlines(),
    "Markdown": lambda made: markdown_report(session(made, verdict())),
    "HTML": lambda made: html_report(session(made)),
    "OpenMetrics": lambda made: openmetrics_report(session(made)),
}


@pytest.mark.parametrize("report", METRIC.values(), ids=METRIC.keys())
def test_a_metric_below_zero_is_explained(report: object) -> None:
    """The words stand beside the number."""
    assert callable(report)
    assert WORDS in "\n".join(report(limit()))


def test_nothing_is_said_of_an_error_above_zero() -> None:
    """Two over-confident sides have no value to explain."""
    text = compare(answers(0.04), answers(0.03)).explain()
    assert "cross-fitted ECE" in text
    assert WORDS not in text
