"""The packaged suite, run from an installation that lies outside the project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import pytest
from user_project import CONFTEST, TESTS

import pytest_calibration

SUITE: Final = ("--pyargs", "pytest_calibration.suite")
FACTS: Final = ("--calibration-model=runs/base", "--calibration-probe=facts")
WORKERS: Final = pytest.mark.parametrize(
    "workers", [(), ("-n", "2")], ids=["one-process", "two-workers"]
)


@dataclass
class Stranger:
    """Somebody's folder, and an installation of this package elsewhere."""

    path: Path
    site: Path

    def run(self, *args: str, started: str = ".") -> subprocess.CompletedProcess[str]:
        """Run pytest with the installed package."""
        paths = os.pathsep.join([str(self.site), str(TESTS)])
        left_out = ("CI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY")
        # Plugins that happen to be installed, and take time.
        added = {"PYTHONPATH": paths, "PYTEST_ADDOPTS": "-p no:hypothesispytest -p no:anyio"}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args],
            cwd=self.path / started,
            env={k: v for k, v in os.environ.items() if k not in left_out} | added,
            capture_output=True,
            text=True,
            check=False,
        )

    def stored(self) -> list[str]:
        """Return every baseline, in the project and in the installation."""
        files = [*self.path.rglob("*.yaml"), *self.site.rglob("calibration_baselines/*")]
        records = [file for file in files if file.name != "calibration.yaml"]
        return sorted(os.path.relpath(file, self.path) for file in records)


@pytest.fixture
def stranger(tmp_path: Path) -> Stranger:
    """A copy of the package in a folder like site-packages, and a project with two models."""
    site = tmp_path / "venv" / "lib" / "site-packages"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(
        Path(pytest_calibration.__file__).parent, site / "pytest_calibration", ignore=ignored
    )
    path = tmp_path / "project"
    path.mkdir()
    (path / "conftest.py").write_text(CONFTEST)
    return Stranger(path, site)


def commands(output: str) -> list[list[str]]:
    """Return the commands that an output names, as words."""
    lines = [x for x in output.splitlines() if x.startswith(("to record it:", "to accept it:"))]
    return [x.partition(": pytest ")[2].replace("'", "").split() for x in lines]


@WORKERS
def test_what_a_stranger_sees_first(stranger: Stranger, workers: tuple[str, ...]) -> None:
    """Three lines for each probe: where it looked, what was measured, the command."""
    result = stranger.run(*SUITE, "--calibration-model=runs/base", *workers, "--junitxml=j.xml")
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    titles = [i for i, line in enumerate(lines) if line.startswith("____")]
    assert len(titles) == 3
    for i in titles:
        where, measured, command, after = [
            line for line in lines[i + 1 :] if not line.startswith("[gw")
        ][:4]
        assert where.startswith("no baseline: probe ")
        assert str(stranger.path / "calibration_baselines") in where
        assert measured.startswith("  measured: ECE ")
        assert command == (
            "to record it: pytest --pyargs pytest_calibration.suite --calibration-model=runs/base "
            "--calibration-record"
        )
        assert after.lstrip("- ").startswith(("____", "generated xml", "===="))
    names = [f"test_calibration[base-{p}]" for p in ("next_token", "facts", "multiple_choice")]
    for name in names:
        assert f"FAILED pytest_calibration.suite::{name} - " in result.stdout
    cases = ElementTree.parse(stranger.path / "j.xml").iter("testcase")
    assert {(case.get("classname"), case.get("name")) for case in cases} == {
        ("pytest_calibration.suite", name) for name in names
    }
    assert "suite.py" not in result.stdout


@pytest.mark.parametrize(
    ("layout", "workers"), [("bare", ("-n", "2")), ("ini", ()), ("below", ()), ("config", ())]
)
def test_the_printed_commands_record_and_accept_in_the_same_place(
    stranger: Stranger, layout: str, workers: tuple[str, ...]
) -> None:
    """Typed where the run was started, each writes what the run looked for."""
    started, home = ".", "calibration_baselines"
    if layout in ("ini", "below"):
        (stranger.path / "pytest.ini").touch()
    if layout in ("below", "config"):
        started = "packages/a"
        (stranger.path / started).mkdir(parents=True)
    if layout == "config":
        home = "packages/calibration_baselines"
        (stranger.path / "packages/calibration.yaml").write_text("probes: {facts: {}}\n")
        (stranger.path / "conftest.py").rename(stranger.path / started / "conftest.py")

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return stranger.run(*args, started=started)

    (record,) = commands(run(*SUITE, *FACTS, *workers).stdout)
    assert record[:2] == [*SUITE]
    recorded = run(*record, *workers)
    assert recorded.returncode == 0, recorded.stdout
    stored = stranger.stored()
    assert [name for name in stored if name.endswith(".yaml")] == [f"{home}/facts.yaml"]
    hot = ("--calibration-model=runs/hot", "--calibration-probe=facts")
    (accept,) = commands(run(*SUITE, *hot, *workers).stdout)
    assert accept[:2] == ["--pyargs", "pytest_calibration.suite::test_calibration[hot-facts]"]
    accepted = run(*(word.replace("REASON", "signed off") for word in accept), *workers)
    assert accepted.returncode == 0, accepted.stdout
    assert [x.split(".items")[0] for x in stranger.stored()] == [
        x.split(".items")[0] for x in stored
    ]
    assert run(*SUITE, *hot).returncode == 0


def test_a_command_keeps_what_was_typed_for_pytest(stranger: Stranger) -> None:
    """Rootdir, ini file, ini keys and plugins are those of the run, in one place or another."""
    (stranger.path / "conf").mkdir()
    (stranger.path / "conf" / "other.ini").write_text("[pytest]\n")
    style = "console_output_style=count"
    typed = ("-c", "conf/other.ini", "--rootdir=.", "--confcutdir=.", "-o", style)
    (record,) = commands(stranger.run(*typed, *SUITE, *FACTS).stdout)
    assert record[2 : 2 + len(typed)] == [*typed]


def test_the_command_of_a_test_of_the_users_own_keeps_rootdir(stranger: Stranger) -> None:
    """A file of a package with an ini file of its own is run as it was: from the folder above."""
    folder = stranger.path / "packages" / "a" / "tests"
    folder.mkdir(parents=True)
    (folder.parent / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_a.py").write_text(
        "from pytest_calibration import assert_no_regression\n"
        "def test_a(calibration, calibration_baseline):\n"
        "    assert_no_regression(calibration.run('facts'), calibration_baseline)\n"
    )
    flags = ("--calibration-model=runs/base", "--calibration-baseline-dir=kept")
    output = stranger.run(*flags).stdout
    (line,) = [x for x in output.splitlines() if "to record it: pytest " in x]
    record = line.partition(": pytest ")[2].split()
    assert record[:3] == ["packages/a/tests/test_a.py", "--rootdir=.", "--confcutdir=."]
    assert stranger.run(*record).returncode == 0
    assert [x for x in stranger.stored() if x.endswith(".yaml")] == ["kept/facts.yaml"]


def test_tests_of_another_installed_package_are_named_as_typed(stranger: Stranger) -> None:
    """What was run by the name of a module is run so again."""
    theirs = stranger.site / "theirs"
    theirs.mkdir()
    (theirs / "__init__.py").touch()
    (theirs / "test_them.py").write_text(
        "from pytest_calibration import assert_no_regression\n"
        "def test_a(calibration, calibration_baseline):\n"
        "    assert_no_regression(calibration.run('facts'), calibration_baseline)\n"
    )
    output = stranger.run("--pyargs", "theirs", "--calibration-model=runs/base").stdout
    (line,) = [x for x in output.splitlines() if "to record it: pytest " in x]
    assert "to record it: pytest --pyargs theirs.test_them --calibration-model" in line


def test_an_error_of_the_suite_is_one_sentence(stranger: Stranger) -> None:
    """There is no line of the user's to show."""
    (stranger.path / "calibration.yaml").write_text("probes: {mine: {kind: facts, path: no.jsonl}}")
    output = stranger.run(*SUITE, "--calibration-model=runs/base").stdout
    assert "no.jsonl: there is no such file" in output
    assert "suite.py" not in output


def test_failures_are_found_again(stranger: Stranger) -> None:
    """The ids serve ``--last-failed``."""
    cached = ("-p", "cacheprovider", *SUITE, "--calibration-model=runs/base")
    assert stranger.run(*cached, "--calibration-record", "-k", "facts").returncode == 0
    assert stranger.run(*cached).returncode == 1
    output = stranger.run(*cached, "--lf").stdout
    assert "2 failed, 1 deselected" in output
