"""Whole runs on four workers, killed at random moments: what is there is whole, and goes on."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from projects import HISTORY, Project

pytestmark = pytest.mark.faults

TIMES = int(os.environ.get("KILLS", "50"))
# Of which half are near the end, where baselines, history and reports are written.
SEED = 20_261_128


def killed(project: Project, model: str, wait: float, *, writing: bool) -> bool:
    """Whether a run was killed with all of its processes, and had not ended by itself.

    Args:
        project: where.
        model: what is accepted.
        wait: seconds that it is let be.
        writing: whether these count from the first file that it writes.
    """
    process = project.start(*project.arguments(model, "--calibration-accept=kill", "-n", "4"))
    seen = stamps(project)
    while writing and process.poll() is None and stamps(project) == seen:
        time.sleep(0.002)
    time.sleep(wait)
    ended = process.poll() is not None
    os.killpg(process.pid, signal.SIGKILL) if not ended else None
    process.communicate()
    return not ended


def stamps(project: Project) -> list[tuple[str, int]]:
    """What lies where baselines, history and reports are written, and of when it is."""
    places = [*project.path.iterdir(), *project.baselines.rglob("*")]
    found = []
    for place in places:
        try:
            found.append((str(place), place.stat().st_mtime_ns))
        except FileNotFoundError:
            continue
    return sorted(found)


def test_runs_that_are_killed_at_random_leave_whole_files(tmp_path: Path) -> None:
    """After each kill all can be read; in the end a run finishes and cleans up."""
    project = Project(tmp_path / "project")
    began = time.monotonic()
    code, output = project.run(*project.arguments("base", "--calibration-record", "-n", "4"))
    assert code == 0, output
    took = time.monotonic() - began
    chance = random.Random(SEED)
    i = 0
    known: list[str] = []
    while i < TIMES:
        writing = i % 2 == 1
        wait = chance.uniform(0, 0.05 * took if writing else took)
        if killed(project, ("hot", "base")[i % 2], wait, writing=writing):
            i += 1
        else:
            # The machine is faster now than it was at first.
            took *= 0.9
        assert project.damage() == [], f"kill {i}"
        assert list((project.baselines / "one").glob("*.yaml")), f"kill {i}"
        lines = (project.path / HISTORY).read_text("ascii").splitlines()
        assert lines[: len(known)] == known
        known = lines[:-1]
    for model in ("hot", "base"):
        code, output = project.run(*project.arguments(model, "--calibration-accept=end"))
        assert code == 0, output
    assert project.damage() == []
    assert project.leftovers() == []
    for folder in ("one", "two"):
        # Items of two records, and of their anchors.
        assert len([*(project.baselines / folder).iterdir()]) <= 6
