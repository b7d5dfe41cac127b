"""``--calibration-list``: every probe, its kind and its size."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_calibration.plugin.resolution import Resolution
from pytest_calibration.plugin.resolved_options import usage_errors
from pytest_calibration.plugin.session import run_of


def list_probes(config: pytest.Config) -> int:
    """Print the list, and return the exit status."""
    config._do_configure()
    try:
        with usage_errors():
            for line in probe_lines(run_of(config).resolved):
                print(line)
    finally:
        config._ensure_unconfigure()
    return 0


def probe_lines(resolved: Resolution) -> Iterator[str]:
    """Yield a line for each probe: name, kind, size; those that a run selects are marked."""
    selected = set(resolved.selected)
    names = list(resolved.probes.factories)
    width = max(map(len, names))
    for name in names:
        probe = resolved.probes.get(name)
        mark = "*" if name in selected else " "
        yield f"{mark} {name:<{width}}  {probe.kind:<16}{probe.size:>8,} {probe.unit}"
    yield "(* is run here by default)"
