"""The hook by which another package, or a project's ``conftest.py``, adds probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from pytest_calibration.probes.probe import Probe


def pytest_calibration_probes(config: pytest.Config) -> Mapping[str, Callable[[], Probe]]:  # type: ignore[empty-body]
    """Return probe names and what builds each; nothing is built until a probe is run."""
