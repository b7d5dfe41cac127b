"""The lines a run prints: after collection, at its end, and for the list of probes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from pytest_calibration.plugin.reporting import results_of
from pytest_calibration.plugin.run import Run

# A log has no width; lines that are not broken can be searched.
UNLIMITED: Final = 10_000
MARKUP: Final = {
    "good": {"green": True},
    "bad": {"red": True, "bold": True},
    "doubt": {"yellow": True},
    "head": {"bold": True},
}


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


def session_lines(run: Run, reporter: pytest.TerminalReporter) -> Iterator[str]:
    """Yield the summary of the session, as wide and as coloured as the terminal is."""
    told = list(run.cautions)
    if reporter.config.get_verbosity() >= 0:
        told = [*run.asides, *told]
    if not (run.results or run.remarks or run.errors or told):
        return
    from pytest_calibration.reports.terminal import summary_lines

    writer = reporter._tw

    def paint(text: str, style: str) -> str:
        return writer.markup(text, **MARKUP[style])

    results = results_of(run)
    yield from summary_lines(
        replace(results, remarks=(*results.remarks, *told)),
        width=run.width if reporter.isatty else UNLIMITED,
        verbosity=reporter.config.get_verbosity(),
        unicode=shows_unicode(writer),
        paint=paint,
    )


def shows_unicode(writer: Any) -> bool:
    """Whether the terminal's encoding holds more than ASCII and Latin letters."""
    encoding = getattr(getattr(writer, "_file", None), "encoding", None) or "ascii"
    return str(encoding).lower().replace("-", "").startswith("utf")
