"""A worker of pytest-xdist that dies: nothing is recorded, the run is red, and says why."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from projects import CONFTEST, GATE, HISTORY, Project

pytestmark = pytest.mark.faults

WAYS = {
    "exit": "os._exit(0)",
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "segfault": "resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); faulthandler._sigsegv()",
    "abort": "resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()",
}
IMPORTS = "import faulthandler, os, resource, signal\n"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose baselines are recorded."""
    project = Project(tmp_path_factory.mktemp("recorded") / "project")
    code, output = project.run(*project.arguments("base", "--calibration-record"))
    assert code == 0, output
    return project.path


def stable(project: Project) -> dict[str, bytes]:
    """The files that hold baselines."""
    return {name: text for name, text in project.files().items() if "baselines" in name}


@pytest.mark.parametrize("way", WAYS)
def test_a_worker_that_dies_in_a_test_records_nothing(
    recorded: Path, tmp_path: Path, way: str
) -> None:
    """However it dies; what the others measured is kept in the history, and the run is red."""
    shutil.copytree(recorded, tmp_path / "copy")
    die = f"\n\ndef test_zzz_dies():\n    {WAYS[way]}\n"
    project = Project(tmp_path / "copy", IMPORTS + GATE + die)
    before = stable(project)
    code, output = project.run(*project.arguments("hot", "--calibration-accept=new", "-n", "2"))
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert "crashed while running" in output
    assert "not written: the run did not finish." in output
    assert " not recorded" in output
    assert stable(project) == before
    assert project.damage() == []
    lines = (project.path / HISTORY).read_text("ascii")
    assert lines.count('"verdict":"recorded"') == 2


@pytest.mark.parametrize("accepts", [True, False], ids=["accepts", "gates"])
def test_a_worker_that_dies_after_its_tests_is_not_green(
    recorded: Path, tmp_path: Path, accepts: bool
) -> None:
    """All tests passed, and yet it is not known what it had to say."""
    shutil.copytree(recorded, tmp_path / "copy")
    project = Project(tmp_path / "copy")
    die = (
        "\n\nimport os, pytest\n\n@pytest.hookimpl(tryfirst=True)\n"
        "def pytest_sessionfinish(session):\n"
        "    if getattr(session.config, 'workerinput', {}).get('workerid') == 'gw1':\n"
        "        os._exit(0)\n"
    )
    project.write("conftest.py", CONFTEST + die)
    before = stable(project)
    asked = ("hot", "--calibration-accept=new") if accepts else ("base",)
    code, output = project.run(*project.arguments(*asked, "-n", "2"))
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert "ended without handing over its results" in output
    assert ("not written: the run did not finish." in output) == accepts
    assert stable(project) == before
