"""The lines that a run prints: after collection, at its end, and for the list of probes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from numbers import Integral
from typing import Any, Final

import pytest

from pytest_calibration.errors import CalibrationError, UsageError
from pytest_calibration.plugin.projects import NO_CONFIG, Project
from pytest_calibration.plugin.reporting import results_of
from pytest_calibration.plugin.resolved_options import usage_errors
from pytest_calibration.plugin.run import Run
from pytest_calibration.text.visible import visible

# A log has no width; lines that are not broken can be searched.
UNLIMITED: Final = 10_000
MARKUP: Final = {
    "good": {"green": True},
    "bad": {"red": True, "bold": True},
    "doubt": {"yellow": True},
    "head": {"bold": True},
}


def collection_line(run: Run) -> str:
    """Return how many calibration tests there are, and on which models; empty without any."""
    if not run.collected:
        return ""
    tests = f"{run.collected} test{'s' * (run.collected > 1)}"
    models = ", ".join(run.resolved.model_names()) or "none named"
    parent = f", parent: {run.options['parent']}" if run.options["parent"] else ""
    return visible(f"calibration: {tests}, model: {models}{parent}")


def session_lines(run: Run, reporter: pytest.TerminalReporter) -> Iterator[str]:
    """Yield the summary of the session, as wide and as coloured as the terminal is."""
    usage = list(run.usage.warnings(str(run.options["cache_dir"] or "pytest's cache directory")))
    if reporter.config.get_verbosity() >= 0:
        # None, too, where no test has asked for it.
        parent = vars(run.resolved).get("parent_spec")
        dist = getattr(run.config.option, "dist", "no")
        usage[:0] = run.usage.lines(dist=dist, parent=None if parent is None else parent.name)
        configs = run.configs | dict.fromkeys(run.resolved.projects.read())
        if configs:
            # What was read comes before that nothing was.
            shown = sorted(configs, key=lambda config: config.startswith(NO_CONFIG))
            usage.insert(0, f"configuration: {', '.join(shown)}")
    if not (run.outcomes.results or run.remarks or run.errors or usage):
        return
    from pytest_calibration.reports.terminal import summary_lines

    writer = reporter._tw

    def paint(text: str, style: str) -> str:
        return writer.markup(text, **MARKUP[style])

    results = results_of(run)
    yield from summary_lines(
        replace(results, remarks=(*results.remarks, *usage)),
        width=run.width if reporter.isatty else UNLIMITED,
        verbosity=reporter.config.get_verbosity(),
        unicode=shows_unicode(writer),
        paint=paint,
    )


def shows_unicode(writer: Any) -> bool:
    """Whether the terminal's encoding holds more than ASCII and Latin letters."""
    encoding = getattr(getattr(writer, "_file", None), "encoding", None) or "ascii"
    return str(encoding).lower().replace("-", "").startswith("utf")


def list_probes(config: pytest.Config, run_of: Callable[[pytest.Config], Run]) -> int:
    """Print the list, and return the exit status."""
    config._do_configure()
    try:
        with usage_errors():
            for project in run_of(config).resolved.projects.everywhere():
                for line in probe_lines(project):
                    print(visible(line))
    finally:
        config._ensure_unconfigure()
    return 0


def probe_lines(project: Project) -> Iterator[str]:
    """Yield the project and a line for each probe; those that a run selects are marked.

    The presets that are not selected are only named: to count the rows of one is to fetch it.
    """
    selected = project.selected
    names = list(dict.fromkeys([*project.probes, *selected]))
    width = max(map(len, names))
    yield f"configuration: {project.shown}"
    for name in names:
        try:
            probe = project.probes.get(name)
        except CalibrationError:
            raise
        except Exception as problem:  # of a factory of the user's
            kind = type(problem).__name__
            raise UsageError(f"probe {name!r} cannot be built ({kind}: {problem}).") from None
        # A probe of the user's own needs none of these.
        size, unit = getattr(probe, "size", None), getattr(probe, "unit", "items")
        many = f"{size:,}" if isinstance(size, Integral) else "?"
        mark = "*" if name in selected else " "
        yield f"{mark} {name:<{width}}  {getattr(probe, 'kind', ''):<16}{many:>8} {unit}"
    further = [name for name in project.probes.presets if name not in names]
    yield f"  presets, run by name: {', '.join(further)}"
    yield "(* is run here by default)"
