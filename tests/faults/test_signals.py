"""Ctrl-C and SIGTERM at each stage of a run: nothing is written by halves, all else stays."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from projects import CONFTEST, HISTORY, REPORTS, Project

pytestmark = pytest.mark.faults

# Each stage tells that it is reached, and waits.
STOPS = (
    CONFTEST
    + """
import os, time
from pathlib import Path
from pytest_calibration.baselines import store

def reach(stage):
    if os.environ.get("STOP_AT") == stage:
        Path(__file__).with_name("reached").touch()
        time.sleep(300)

def pytest_collection_modifyitems():
    reach("collecting")

class Stopping(Toy):
    def __init__(self, spec, settings):
        reach("loading")
        super().__init__(spec, settings)

    def next_token(self, *args, **more):
        reach("asking")
        return super().next_token(*args, **more)

    def option_logprobs(self, *args):
        reach("asking")
        return super().option_logprobs(*args)

toy_backend.Toy = Stopping
write = store.write_atomically

def slowly(path, content):
    if path.suffix == ".yaml":
        reach("writing")
    write(path, content)

store.write_atomically = slowly
"""
)
STAGES = ("collecting", "loading", "asking", "writing")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose baselines are recorded."""
    project = Project(tmp_path_factory.mktemp("recorded") / "project")
    project.write("conftest.py", STOPS)
    code, output = project.run(*project.arguments("base", "--calibration-record"))
    assert code == 0, output
    return project.path


@pytest.fixture
def project(recorded: Path, tmp_path: Path) -> Project:
    """A copy of it, as it was recorded."""
    shutil.copytree(recorded, tmp_path / "copy")
    project = Project(tmp_path / "copy")
    project.write("conftest.py", STOPS)
    return project


def stopped(project: Project, stage: str, sign: int, *more: str) -> tuple[int, str]:
    """Send a signal to all processes of a run that accepts, as a terminal does; at a stage."""
    accept = project.arguments("hot", "--calibration-accept=new", *more)
    process = project.start(*accept, STOP_AT=stage)
    reached = project.path / "reached"
    while process.poll() is None and not reached.exists():
        time.sleep(0.02)
    os.killpg(process.pid, sign)
    output = process.communicate(timeout=300)[0]
    reached.unlink()
    return process.returncode, output


def records(project: Project) -> dict[str, bytes]:
    """The files of baselines, but items that nothing names."""
    return {name: text for name, text in project.files().items() if name.endswith(".yaml")}


def checked(project: Project, before: dict[str, bytes]) -> None:
    """Check that all is whole, that the records are those of before, and that a run goes on."""
    assert project.damage() == []
    assert records(project) == {name: before[name] for name in records(project)}
    assert {*before} <= {*project.files()}
    code, output = project.run(*project.arguments("hot", "--calibration-accept=new"))
    assert code == 0, output
    assert "4 recorded" in output
    assert project.leftovers() == []


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one-process", "two-workers"])
@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_writes_nothing_by_halves(
    project: Project, stage: str, workers: tuple[str, ...]
) -> None:
    """Exit code 2, and the baselines are those of before; the summary says what was not written."""
    before = project.files()
    code, output = stopped(project, stage, signal.SIGINT, *workers)
    assert code == pytest.ExitCode.INTERRUPTED, output
    assert "Traceback" not in output
    assert "INTERNALERROR" not in output
    if stage == "writing":
        assert "4 baselines not written: the run did not finish." in output
        assert "4 not recorded" in output
    else:
        assert " recorded" not in output
    checked(project, before)


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one-process", "two-workers"])
@pytest.mark.parametrize("stage", ["asking", "writing"])
def test_sigterm_leaves_what_was_there(
    project: Project, stage: str, workers: tuple[str, ...]
) -> None:
    """The processes end at once, and no file is other than before."""
    before = project.files()
    code, _ = stopped(project, stage, signal.SIGTERM, *workers)
    assert code == -signal.SIGTERM
    for name in (HISTORY, *REPORTS):
        assert project.files()[name] == before[name]
    checked(project, before)
