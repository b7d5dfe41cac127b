"""Shared by all tests: pytester, hypothesis profiles."""

from __future__ import annotations

import os
import tempfile

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["pytester"]

# The same examples everywhere, whatever the machine's speed.
settings.register_profile(
    "all", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("few", settings.get_profile("all"), max_examples=20)
settings.load_profile("all")
# Nothing here may reach a model hub.
os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_configure(config: pytest.Config) -> None:
    """Keep what is kept for a user in a folder of this run, which its workers share."""
    if not hasattr(config, "workerinput"):
        folder = tempfile.TemporaryDirectory(prefix="state-")
        os.environ["XDG_STATE_HOME"] = folder.name
        config.add_cleanup(folder.cleanup)
