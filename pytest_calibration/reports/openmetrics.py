"""A session as OpenMetrics text, as GitLab's metrics report and Prometheus read it."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

from pytest_calibration.reports.flat import UNNAMED, flat_metrics
from pytest_calibration.text.visible import visible

if TYPE_CHECKING:
    from pytest_calibration.reports.model import Results

PREFIX: Final = "calibration_"
# All other numbers are shares or counts, which have no unit.
UNITS: Final = {"nll": "nats", "mean_entropy": "nats"}
HELP: Final = {
    "green": "Whether every test was run, no verdict failed and there was no error.",
    "expected_false_alarms": "Upper bound of the failures to expect, had nothing changed.",
    "verdicts": "Number of verdicts of this state.",
    "items": "Number of items measured.",
    "planned_items": "Number of items of a full run, where not all were asked.",
    "compared_items": "Number of items compared with the reference.",
    "baseline_items": "Number of items of the reference.",
    "bins": "Number of bins of the binned metrics.",
    "coverage": "Share of the answers with a confidence of at least the threshold.",
    "precision": "Accuracy of the answers with a confidence of at least the threshold.",
    "failures": "Number of verdicts that failed.",
    "worsening": "How much worse than the reference.",
    "worsening_bound": "Lower bound of the worsening.",
    "tolerance": "Largest lower bound of the worsening that does not fail.",
}
BETTER: Final = {"lower": "lower is better", "higher": "higher is better", "neither": ""}


def openmetrics_report(results: Results) -> Iterator[str]:
    r"""Yield a text in the OpenMetrics format, version 1.0, as ``prometheus_client`` writes it.

    ::

        # HELP calibration_ece ECE; lower is better
        # TYPE calibration_ece gauge
        calibration_ece{model="sft",probe="facts"} 0.211

    All families are gauges: every metric by model and probe, with ``calibration_items``,
    ``calibration_bins`` and ``calibration_failures``, and ``calibration_planned_items`` where a
    comparison stopped early; ``calibration_coverage`` and
    ``calibration_precision`` by threshold, for operating points; ``calibration_verdicts`` by state;
    of each comparison ``calibration_compared_items`` and ``calibration_baseline_items``, and
    ``calibration_worsening``, its lower bound and the tolerance, by component; of the session
    ``calibration_green`` (0 or 1) and ``calibration_expected_false_alarms``. Labels hold escaped
    text (see ``text.visible``). Of two series with the same labels the first stays.

    Args:
        results: the session.
    """
    from prometheus_client.metrics_core import Metric
    from prometheus_client.openmetrics.exposition import generate_latest

    families: dict[str, Metric] = {}
    there = set()
    for name, value, labels in _series(results):
        if name not in families:
            families[name] = Metric(PREFIX + name, _help(name), "gauge", UNITS.get(name, ""))
        shown = {key: visible(text) for key, text in labels.items()}
        if (name, *shown.values()) not in there:
            there.add((name, *shown.values()))
            families[name].add_sample(families[name].name, shown, value)
    registry = SimpleNamespace(collect=families.values)
    yield generate_latest(registry).decode()  # type: ignore[no-untyped-call]


def _series(results: Results) -> Iterator[tuple[str, float, dict[str, str]]]:
    """Yield family, value and labels of each series."""
    from pytest_calibration.gate.decision import State

    yield "green", results.green, {}
    if results.expected_false_alarms is not None:
        yield "expected_false_alarms", results.expected_false_alarms, {}
    for model, probes in flat_metrics(results).items():
        for probe, numbers in probes.items():
            labels = {"model": model, "probe": probe}
            states = [
                r.state for r in results.results if (r.source or UNNAMED, r.probe) == (model, probe)
            ]
            # A state without verdicts is 0, so that a reader sees it come and go.
            for state in State:
                yield "verdicts", states.count(state), {**labels, "state": state}
            for name, value in numbers.items():
                family, _, threshold = name.partition("@")
                yield family, value, {**labels, "threshold": threshold} if threshold else labels
    for r in results.results:
        compared = {"model": r.source or UNNAMED, "probe": r.probe, "reference": r.reference}
        if r.baseline_n:
            yield "compared_items", r.n, compared
            yield "baseline_items", r.baseline_n, compared
        for c in r.components:
            labels = {**compared, "component": c.name}
            if r.point is not None:
                labels["threshold"] = r.point.name
            if c.worsening is not None:
                yield "worsening", c.worsening, labels
                yield "tolerance", c.tolerance, labels
            if c.bound is not None:
                yield "worsening_bound", c.bound, labels


def _help(name: str) -> str:
    from pytest_calibration.metrics import METRICS
    from pytest_calibration.metrics.table import below_zero

    metric = METRICS.get(name)
    if metric is None or name in HELP:
        return HELP.get(name, name)
    parts = (metric.label, BETTER[metric.better], below_zero(metric.label, metric.lowest))
    return "; ".join(filter(None, parts))
