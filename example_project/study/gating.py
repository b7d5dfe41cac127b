"""Gating of the study: one run of pytest for all stages that share a parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from stages import HERE, Stage

GATE = HERE / "gate"
PROJECT = HERE.parent
PROBES = ("next-token", "facts", "questions", "out-of-domain")
STOPPED = "example_project/study: the gate did not run"


class GateError(RuntimeError):
    """The gate came to no verdicts."""


def gate(
    stages: Sequence[Stage], parent: Path | None, folders: dict[str, Path], runs: Path
) -> dict[str, dict[str, str]]:
    """Measure stages with the plugin, and add them to the history.

    Args:
        stages: with one parent.
        parent: its checkpoint; None where the stages have none.
        folders: of all checkpoints.
        runs: where history, report and the plugin's cache are.

    Returns:
        state of the verdict for each probe of each stage, as the JSON report has it.

    Raises:
        GateError: pytest ended otherwise than with verdicts; with what it printed.
    """
    report = runs / "gate.json"
    report.unlink(missing_ok=True)
    models = [f"--calibration-model={one.name}={folders[one.name]}" for one in stages]
    above = stages[0].parent
    parents = [f"--calibration-parent={above}={parent}"] if parent else []
    command = [
        *(sys.executable, "-m", "pytest", str(GATE), "--rootdir", str(PROJECT)),
        *("-c", str(PROJECT / "pytest.ini"), "-q", "--tb=no", "-p", "no:cacheprovider"),
        *models,
        *parents,
        f"--calibration-config={runs / 'probes' / 'calibration.yaml'}",
        f"--calibration-history={runs / 'history.jsonl'}",
        f"--calibration-report={report}",
        f"--calibration-cache-dir={runs / 'answers'}",
    ]
    # Options that a shell sets for other runs, or a step summary, are not for this one.
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "GITHUB"))}
    done = subprocess.run(
        command, cwd=PROJECT, env=kept, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1) or not report.exists():
        raise GateError(f"{STOPPED} ({done.returncode}):\n{done.stdout}{done.stderr}")
    found: dict[str, dict[str, str]] = {one.name: {} for one in stages}
    for result in json.loads(report.read_text(encoding="utf-8"))["results"]:
        found[result["model"]][result["probe"]] = result["state"]
    missing = [name for name, states in found.items() if set(states) != set(PROBES)]
    if missing:
        raise GateError(f"{STOPPED} on {', '.join(missing)}:\n{done.stdout}{done.stderr}")
    return found
