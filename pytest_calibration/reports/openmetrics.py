"""A session as OpenMetrics text, as GitLab's metrics report and Prometheus read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pytest_calibration.reports.flat import UNNAMED, flat_metrics
from pytest_calibration.text.visible import visible

if TYPE_CHECKING:
    from pytest_calibration.reports.model import Results

PREFIX: Final = "calibration_"
# All other numbers are shares or counts, which have no unit.
UNITS: Final = {"nll": "nats", "mean_entropy": "nats"}
HELP: Final = {
    "green": "Whether no verdict failed and no error was told.",
    "expected_false_alarms": "How many failures to expect at most, had nothing changed.",
    "verdicts": "Number of verdicts of this state.",
    "items": "Number of items measured.",
    "bins": "Number of bins of the binned metrics.",
    "failures": "Number of verdicts that failed.",
    "worsening": "How much worse than the reference.",
    "worsening_bound": "Lower bound of the worsening.",
    "tolerance": "What the lower bound of the worsening is held against.",
}
BETTER: Final = {"lower": "; lower is better", "higher": "; higher is better", "neither": ""}


@dataclass
class _Families:
    """Series by family and labels, in the order in which they come."""

    series: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, name: str, value: float, **labels: str) -> None:
        """Add a series; of two with the same labels the first stays."""
        pairs = ",".join(f'{key}="{_escaped(visible(text))}"' for key, text in labels.items())
        self.series.setdefault(name, {}).setdefault(f"{{{pairs}}}" if pairs else "", value)


def openmetrics_report(results: Results) -> Iterator[str]:
    r"""Yield the lines of a text in the OpenMetrics format, version 1.0.

    ::

        # TYPE calibration_ece gauge
        # HELP calibration_ece ECE; lower is better
        calibration_ece{model="sft",probe="facts"} 0.211

    All families are gauges: every metric by model and probe, with ``calibration_items``,
    ``calibration_bins`` and ``calibration_failures``; ``calibration_verdicts`` by state; of each
    comparison ``calibration_worsening``, its lower bound and the tolerance, by component; of the
    session ``calibration_green`` (0 or 1) and ``calibration_expected_false_alarms``. Labels hold
    text as ``item_text.visible`` shows it.

    Args:
        results: the session.
    """
    for name, series in _families(results).series.items():
        unit = UNITS.get(name, "")
        family = f"{PREFIX}{name}" + (f"_{unit}" if unit else "")
        yield f"# TYPE {family} gauge\n"
        if unit:
            yield f"# UNIT {family} {unit}\n"
        yield f"# HELP {family} {_escaped(_about(name))}\n"
        for labels, value in series.items():
            yield f"{family}{labels} {value!r}\n"
    yield "# EOF\n"


def _families(results: Results) -> _Families:
    from pytest_calibration.gate.decision import State

    families = _Families()
    families.add("green", int(results.green))
    if results.expected_false_alarms is not None:
        families.add("expected_false_alarms", results.expected_false_alarms)
    for model, probes in flat_metrics(results).items():
        for probe, numbers in probes.items():
            # A state that is not there is told as 0, so that it is seen to come and go.
            states = [
                r.state for r in results.results if (r.model or UNNAMED, r.probe) == (model, probe)
            ]
            for state in State:
                families.add("verdicts", states.count(state), model=model, probe=probe, state=state)
            for name, value in numbers.items():
                families.add(name, value, model=model, probe=probe)
    for r in results.results:
        for c in r.components:
            if c.worsening is None:
                continue
            labels = {
                "model": r.model or UNNAMED,
                "probe": r.probe,
                "reference": r.reference,
                "component": c.name,
            }
            families.add("worsening", c.worsening, **labels)
            families.add("tolerance", c.tolerance, **labels)
            if c.bound is not None:
                families.add("worsening_bound", c.bound, **labels)
    return families


def _about(name: str) -> str:
    from pytest_calibration.metrics import METRICS

    if name in HELP:
        return HELP[name]
    metric = METRICS.get(name)
    return name if metric is None else f"{metric.label}{BETTER[metric.better]}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
