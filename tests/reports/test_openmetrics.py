"""A session as OpenMetrics text, read by the parser of Prometheus."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from samples import HOSTILE, predictions, results

from pytest_calibration.gate.decision import State
from pytest_calibration.gate.verdict import compare
from pytest_calibration.reports.flat import UNNAMED, flat_metrics
from pytest_calibration.reports.model import Result, Results, result_of
from pytest_calibration.reports.openmetrics import openmetrics_report
from pytest_calibration.text.visible import visible

LABEL = r'[a-z_]+="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"calibration_[a-z_]+(?:\{{{LABEL}(?:,{LABEL})*\}})? -?[0-9.e+-]+")
META = re.compile(r"# (?:TYPE|UNIT|HELP) calibration_[a-z_]+ .+")


@cache
def sample() -> Results:
    """Return a session with a verdict of every state."""
    return results()


def text(given: Results) -> str:
    """Return the whole report."""
    return "".join(openmetrics_report(given))


def families(given: Results) -> dict[str, Metric]:
    """Read a report with another program."""
    found = list(text_string_to_metric_families(text(given)))
    assert len(found) == len({family.name for family in found})
    return {family.name: family for family in found}


def value(family: Metric, **labels: str) -> float:
    """Return the value of the one series with these labels."""
    (found,) = [s.value for s in family.samples if s.labels == labels]
    return float(found)


def test_every_line_is_one_of_the_format() -> None:
    """Metadata, samples and the end, each line ended; hostile text breaks none."""
    lines = text(sample()).split("\n")
    assert lines.pop() == ""
    assert lines.pop() == "# EOF"
    for line in lines:
        assert SAMPLE.fullmatch(line) or META.fullmatch(line), line
        assert line.isprintable()


def test_every_flat_number_is_a_series() -> None:
    """By model and probe, equal to its last bit; names end in their unit."""
    found = families(sample())
    for model, probes in flat_metrics(sample()).items():
        for probe, numbers in probes.items():
            for name, expected in numbers.items():
                unit = "_nats" if name in ("nll", "mean_entropy") else ""
                family = found[f"calibration_{name}{unit}"]
                assert family.unit == unit.removeprefix("_")
                labels = {"model": visible(model), "probe": visible(probe)}
                assert value(family, **labels) == expected


def test_all_families_are_gauges_with_a_text() -> None:
    """Each has type and help, and no series is there twice."""
    for name, family in families(sample()).items():
        assert family.type == "gauge"
        assert len(family.documentation) > 3
        assert name.removeprefix("calibration_") != family.documentation
        series = Counter(tuple(sorted(s.labels.items())) for s in family.samples)
        assert set(series.values()) == {1}


def test_states_are_counted() -> None:
    """Each state of each model and probe, 0 where there is none."""
    family = families(sample())["calibration_verdicts"]
    counts = Counter((r.model, r.probe, r.state) for r in sample().results)
    pairs = {(r.model, r.probe) for r in sample().results}
    assert len(family.samples) == len(pairs) * len(State)
    for model, probe in pairs:
        for state in State:
            labels = {"model": visible(model), "probe": probe, "state": str(state)}
            assert value(family, **labels) == counts[model, probe, str(state)]


def test_components_of_a_comparison_are_series() -> None:
    """Worsening, bound and tolerance, for what applies, against each reference."""
    found = families(sample())
    for r in sample().results:
        for c in r.components:
            labels = {
                "model": visible(r.model),
                "probe": r.probe,
                "reference": r.reference,
                "component": c.name,
            }
            there = [s for s in found["calibration_worsening"].samples if s.labels == labels]
            assert len(there) == (c.worsening is not None)
            if c.worsening is not None and c.bound is not None:
                assert value(found["calibration_worsening"], **labels) == c.worsening
                assert value(found["calibration_worsening_bound"], **labels) == c.bound
                assert value(found["calibration_tolerance"], **labels) == c.tolerance


def test_the_session_is_told() -> None:
    """Whether it is green, and how many false alarms to expect."""
    assert value(families(sample())["calibration_green"]) == 0
    expected = sample().expected_false_alarms
    assert value(families(sample())["calibration_expected_false_alarms"]) == expected
    fine = replace(sample(), results=sample().results[:1], errors=())
    assert value(families(fine)["calibration_green"]) == 1


def test_a_session_without_verdicts_is_a_report() -> None:
    """It has its end, and says that it is green."""
    empty = Results("1", "now", 0, True, ())
    assert set(families(empty)) == {"calibration_green"}
    assert text(empty).endswith("\n# EOF\n")


@settings(max_examples=60, deadline=None)
@given(model=st.one_of(st.just(HOSTILE), st.text(max_size=20)), probe=st.text(max_size=20))
def test_labels_come_back(model: str, probe: str) -> None:
    """Backslash, quote and line break are escaped as the standard says; the rest is visible."""
    made = replace(fine(), model=model, probe=probe)
    family = families(Results("1", "now", 1, True, (made,)))["calibration_ece"]
    (found,) = family.samples
    assert found.labels == {"model": visible(model or UNNAMED), "probe": visible(probe)}


@cache
def fine() -> Result:
    """Return a verdict that passes."""
    return result_of(compare(predictions(n=90), predictions(n=90)), detailed=False)


@pytest.mark.parametrize("models", [("a\x1b", "a\\x1b"), ("", UNNAMED)])
def test_models_that_look_alike_make_one_series(models: tuple[str, str]) -> None:
    """A series that is there twice would make the whole text unreadable."""
    made = tuple(replace(fine(), model=m) for m in models)
    found = families(Results("1", "now", 2, True, made))
    assert len(found["calibration_ece"].samples) == 1
