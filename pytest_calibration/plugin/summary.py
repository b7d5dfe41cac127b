"""The lines a run prints: after collection, at its end, and for the list of probes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_calibration.plugin.run import Run
from pytest_calibration.reports.terminal import counts_line, summary_table


def collection_line(run: Run) -> str:
    """Say how many calibration tests there are, and on which models."""
    if not run.collected:
        return ""
    tests = f"{run.collected} test{'s' * (run.collected > 1)}"
    models = ", ".join(run.model_names()) or "none named"
    parent = f", parent: {run.options['parent']}" if run.options["parent"] else ""
    return f"calibration: {tests}, model: {models}{parent}"


def probe_lines(run: Run) -> Iterator[str]:
    """List every probe: name, kind, size; those a run would select are marked."""
    selected = set(run.selected)
    names = list(run.probes.factories)
    width = max(map(len, names))
    for name in names:
        probe = run.probes.get(name)
        mark = "*" if name in selected else " "
        yield f"{mark} {name:<{width}}  {probe.kind:<16}{probe.size:>8,} {probe.unit}"
    yield "(* is run here by default)"


def summary_lines(run: Run) -> Iterator[str]:
    """Yield the table of verdicts, what else to know, and the count of each state."""
    rows = [row for rows in run.rows.values() for row in rows]
    # Workers finish in any order; a reader wants one model after the other.
    order = {name: i for i, name in enumerate(dict.fromkeys(r.get("model", "") for r in rows))}
    order |= {name: i for i, name in enumerate(run.model_names())}
    rows.sort(key=lambda row: order[row.get("model", "")])
    if rows:
        yield from summary_table([cells(row) for row in rows])
    for row in rows:
        where = f"{row['probe']} on {row['model']}" if "model" in row else row["probe"]
        if row["state"] == "inconclusive":
            needed = f"; about {row['n_needed']:,} would decide it" if "n_needed" in row else ""
            yield f"inconclusive: {where}: n = {row['n']:,} is too few{needed}"
        if row.get("improved"):
            yield f"better than the baseline: {where}; --calibration-accept=REASON would store it"
    yield from alarm_lines(rows)
    yield from run.remarks
    for line in run.errors:
        yield f"ERROR: {line}"
    if rows:
        yield counts_line(state_text(row) for row in rows)


def alarm_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Say how many failures to expect from comparisons that all had nothing to find."""
    rates = [row["false_alarm_rate"] for row in rows if "false_alarm_rate" in row]
    if rates:
        total = sum(rates)
        # Rounded up: what is said is an upper bound.
        at_most = f"{math.ceil(total * 1000) / 1000:.3f}" if total >= 0.001 else "0.001"
        many = f"{len(rates)} comparison{'s' * (len(rates) > 1)}"
        yield f"expected false alarms, had nothing changed: at most {at_most} in {many}"


def state_text(row: Mapping[str, Any]) -> str:
    """Name a state as a reader says it; a limit from below is told as such."""
    if row["state"] == "above_limit" and row.get("limit_is") == "floor":
        return "below limit"
    return str(row["state"]).replace("_", " ")


def cells(row: Mapping[str, Any]) -> dict[str, str]:
    """Format one verdict for the table."""
    against = ""
    if "limit" in row:
        against = f"limit {row['limit']:.3f}"
    elif "baseline" in row:
        what = "" if row["reference"] == "baseline" else " (parent)"
        against = f"{row['baseline']:.3f}{what}"
    return {
        "model": row.get("model", ""),
        "probe": row["probe"],
        "n": f"{row['n']:,}",
        "metric": row["metric"].replace(" (15 equal-width bins)", ""),
        "value": f"{row['value']:.3f}",
        "interval": f"[{row['low']:.3f}, {row['high']:.3f}]" if "low" in row else "",
        "floor": f"{row['noise_floor']:.3f}" if "noise_floor" in row else "",
        "against": against,
        "state": state_text(row) + (f" ({row['component']})" if "component" in row else ""),
    }
