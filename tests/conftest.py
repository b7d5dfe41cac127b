"""Shared by all tests: pytester, hypothesis profiles."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["pytester"]

settings.register_profile(
    "ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci")
# Nothing here may reach a model hub.
os.environ["HF_HUB_OFFLINE"] = "1"
