"""Shared by all tests: pytester, hypothesis profiles, and which tests are left out where."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["pytester"]

# Markers of tests that are left out by default: `-m browser` runs those of one.
HEAVY = {
    "browser": "needs Chromium and selenium",
    "data": "reads public data or trains on it; needs the dependency group `data`",
    "docs": "runs what a page of the documentation shows for longer than seconds",
    "faults": "kills, fills disks and interrupts for minutes",
    "neighbours": "runs a gate beside many other plugins; needs the dependency group `neighbours`",
    "package": "builds and installs the package; needs the dependency group `package`",
    "ray": "starts Ray clusters on this machine; needs the extra `ray`",
    "serving": "starts `transformers serve`; needs the dependency group `serving`",
    "training": "trains models for minutes, some with trl",
    "vllm": "needs vLLM, which the environment `vllm` of tox installs",
}
MARKERS = {
    **{name: f"{what}; left out unless asked for with `-m {name}`" for name, what in HEAVY.items()},
    "heavy": "has one of the markers of what is left out",
    "one_python": "starts many processes or simulates, which no version of Python changes much",
}
# Files and folders of these, and tests of one option: the environment with torch alone runs them.
ONE_PYTHON = frozenset(
    {
        *("docs", "faults", "hostile", "test_aa", "test_anchor", "test_any_text"),
        *("test_asking_in_parts", "test_cli_noise", "test_gate_workflow", "test_silent_greens"),
        *("test_cli_aa", "test_cli_compare", "test_cli_drift", "test_cli_init"),
        *("test_cli_init_checkpoints", "test_distribution", "test_drift_in_reports"),
        *("test_drift_in_tests", "test_early_stopping", "test_example_study", "test_file"),
        *("test_fuzzing", "test_impossible_names", "test_intervals", "test_lost_errors"),
        *("test_made_in_tests", "test_nothing_gated", "test_own_model", "test_own_models"),
        *("test_progress_shown", "test_projects", "test_silence", "test_story"),
        *("test_study_findings", "test_study_report", "test_suite"),
    }
)

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
    for marker, what in MARKERS.items():
        config.addinivalue_line("markers", f"{marker}: {what}")
    if not hasattr(config, "workerinput"):
        folder = tempfile.TemporaryDirectory(prefix="state-")
        os.environ["XDG_STATE_HOME"] = folder.name
        config.add_cleanup(folder.cleanup)


@pytest.fixture
def empty_project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the working folder, where tests find what tests here share."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest -p no:cacheprovider")
    for name in ("CI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeini("[pytest]\n")
    return pytester.path


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what may be left out, before pytest selects."""
    for item in items:
        if any(marker.name in HEAVY for marker in item.iter_markers()):
            item.add_marker("heavy")
        name = item.path.stem
        if ONE_PYTHON & {name, item.path.parent.name} or name.startswith("test_option_"):
            item.add_marker("one_python")
