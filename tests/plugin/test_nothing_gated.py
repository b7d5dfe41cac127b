"""A run that was to gate something and gated nothing, or less than is stored, says so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from user_project import GATE

if TYPE_CHECKING:
    from user_project import Project

OTHER = "def test_other():\n    pass\n"
MODEL = "--calibration-model=runs/base"
WORKERS = pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])


# --- nothing was gated ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [
        [MODEL],
        ["--calibration-report=r.json"],
        ["--calibration-record"],
        ["--calibration-accept=why not"],
        ["--calibration-parent=runs/base"],
        ["--calibration-dump=out"],
        ["--calibration-probe=facts"],
        [MODEL, "-n", "2"],
        [MODEL, "tests/test_project.py"],
    ],
    ids=lambda flags: flags[-1].lstrip("-"),
)
def test_a_gate_that_was_asked_for_and_is_not_there_is_red(
    project: Project, flags: list[str]
) -> None:
    """A renamed or removed calibration test does not leave the command green."""
    project.write("tests/test_project.py", OTHER)
    result = project.run(*flags)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    flag = flags[0].partition("=")[0]
    result.stdout.fnmatch_lines(
        [f"ERROR: {flag}: nothing was gated, no calibration test was collected: this run is not*"]
    )


@WORKERS
@pytest.mark.parametrize("selection", [["-k", "other"], ["-m", "not calibration"]], ids=str)
def test_a_selection_that_leaves_no_calibration_test_is_red(
    recorded: Project, selection: list[str], workers: list[str]
) -> None:
    """A model that is named on the command line is to be gated, whatever else is selected."""
    recorded.write("tests/test_more.py", OTHER)
    result = recorded.run(MODEL, *selection, *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: --calibration-model: nothing was gated, no * selected:*"])


def test_a_run_without_any_test_is_red(project: Project) -> None:
    """Pytest's own exit code for no tests would do, and says nothing of the gate."""
    (project.path / "tests/test_project.py").unlink()
    result = project.run(MODEL)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: --calibration-model: nothing was gated*"])


@pytest.mark.parametrize("where", ["ini", "addopts", "environment"])
def test_a_lasting_setting_asks_for_no_gate(
    project: Project, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Unit tests alone are green in a project that names its model once and for all."""
    project.write("tests/test_project.py", OTHER)
    if where == "environment":
        monkeypatch.setenv("PYTEST_ADDOPTS", f"-p no:anyio {MODEL}")
    else:
        line = f"addopts = {MODEL}" if where == "addopts" else "calibration_model = runs/base"
        project.pytester.makeini(f"[pytest]\n{line}\n")
    result = project.run()
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*gated*")
    # What is typed counts, also where it is set for good.
    if where == "addopts":
        assert project.run(MODEL).ret == pytest.ExitCode.TESTS_FAILED


def test_looking_at_the_tests_is_no_gate(project: Project) -> None:
    """Nothing is red where nothing was to run."""
    project.write("tests/test_project.py", OTHER)
    assert project.run(MODEL, "--collect-only").ret == 0


@pytest.mark.parametrize("asked", ["flag", "ini"])
@pytest.mark.parametrize("ending", ["json", "html", "md", "txt"])
def test_an_old_report_does_not_stand_for_the_run(
    recorded: Project, ending: str, asked: str
) -> None:
    """The report of a run that gated nothing is its own, and not green."""
    report = f"r.{ending}"
    flags = [MODEL, "--calibration-probe=facts"]
    if asked == "ini":
        recorded.pytester.makeini(f"[pytest]\ncalibration_report = {report}\n")
    else:
        flags.append(f"--calibration-report={report}")
    assert recorded.run(*flags).ret == 0
    old = (recorded.path / report).read_text(encoding="utf-8")
    recorded.write("tests/test_project.py", OTHER)
    assert recorded.run(*flags).ret == 1
    new = (recorded.path / report).read_text(encoding="utf-8")
    assert new != old
    if ending == "json":
        assert json.loads(new)["green"] is False
    if ending != "txt":
        assert "nothing was gated" in new
    # Unit tests alone leave the last report of a gate in place.
    if asked == "ini":
        assert recorded.run().ret == 0
        assert (recorded.path / report).read_text(encoding="utf-8") == new


def test_a_report_of_tests_that_cannot_be_collected_is_written(recorded: Project) -> None:
    """A report that was asked for is that of this run, also where its tests do not import."""
    recorded.write("tests/test_project.py", "import nowhere\n")
    assert recorded.run(MODEL, "--calibration-report=r.json").ret == pytest.ExitCode.INTERRUPTED
    session = json.loads((recorded.path / "r.json").read_text(encoding="utf-8"))
    assert session["green"] is False
    assert session["errors"] == ["tests/test_project.py could not be collected."]


# --- less was gated than is stored ---------------------------------------------------------------


@WORKERS
def test_a_baseline_that_no_test_asks_for_is_named(recorded: Project, workers: list[str]) -> None:
    """A full run names what is stored and compared with nothing, and stays green."""
    (recorded.baselines / "old.yaml").write_bytes((recorded.baselines / "facts.yaml").read_bytes())
    recorded.write("calibration.yaml", "probes: {facts: {}}\n")
    result = recorded.run(MODEL, *workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["stored, and asked for by no test: tests/calibration_baselines/old.yaml."]
    )


@pytest.mark.parametrize(
    "args", [["--calibration-probe=facts"], ["tests/test_project.py"], ["-k", "worse"]], ids=str
)
def test_a_part_of_the_tests_names_no_baseline(recorded: Project, args: list[str]) -> None:
    """A run of some tests does not know what the others ask for."""
    recorded.write("tests/test_more.py", OTHER)
    recorded.write("calibration.yaml", "probes: {facts: {}}\n")
    (recorded.baselines / "old.yaml").write_bytes((recorded.baselines / "facts.yaml").read_bytes())
    result = recorded.run(MODEL, *args)
    assert result.ret == 0
    result.stdout.no_fnmatch_line("stored, and*")


@WORKERS
def test_baselines_beside_tests_that_ask_for_none_are_named(
    recorded: Project, workers: list[str]
) -> None:
    """A gate that was renamed away leaves its folder: another gate elsewhere is not its own."""
    recorded.write("more/test_more.py", GATE)
    recorded.write("calibration.yaml", "probes: {facts: {}}\n")
    assert recorded.run("more", MODEL, "--calibration-record").ret == 0
    recorded.write("tests/test_project.py", OTHER)
    result = recorded.run(MODEL, *workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["stored, and asked for by no test: tests/calibration_baselines/facts.yaml."]
    )


def test_baselines_of_another_name_are_not_named(recorded: Project) -> None:
    """What belongs to another model is none of this run's."""
    recorded.write("calibration.yaml", "probes: {facts: {}}\n")
    assert recorded.run("--calibration-model=dpo=runs/hot", "--calibration-record").ret == 0
    result = recorded.run(MODEL)
    assert result.ret == 0
    result.stdout.no_fnmatch_line("stored, and*")


@WORKERS
def test_a_baseline_that_is_gone_is_named_beside_a_parent(
    recorded: Project, workers: list[str]
) -> None:
    """With a parent a missing baseline fails no test, so the summary names it."""
    flags = ("--calibration-parent=runs/base", *workers)
    recorded.pytester.makeconftest(
        (recorded.path / "conftest.py").read_text()
        + "\nimport pytest_calibration.models.loading as loading\n"
        "loading.load_model = lambda spec, *_, **__: FakeModel(spec.name)\n"
    )
    recorded.isolated = True
    recorded.facts("base", *flags).stdout.no_fnmatch_line("compared with the parent alone*")
    (recorded.baselines / "facts.yaml").unlink()
    result = recorded.facts("base", *flags)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "compared with the parent alone, nothing is stored at "
            "tests/calibration_baselines/facts.yaml."
        ]
    )


# --- another model was gated ---------------------------------------------------------------------


@WORKERS
def test_an_override_that_ignores_the_spec_is_named(recorded: Project, workers: list[str]) -> None:
    """The model that was tested has nothing in common with the one that was to be."""
    recorded.pytester.makeconftest(
        """
import pytest
from fakes import FakeModel

@pytest.fixture(scope="session")
def calibration_model(calibration_model_spec):
    return FakeModel("always the same")
"""
    )
    result = recorded.facts("hot", *workers)
    result.stdout.fnmatch_lines(
        [
            "the fixture calibration_model is overridden, and for 'runs/hot' gave a model that "
            "calls itself 'always the same'; where it ignores calibration_model_spec, 'runs/hot' "
            "was not tested."
        ]
    )


def test_an_override_that_uses_the_spec_is_not_named(recorded: Project) -> None:
    """Names that share the last part of the path, the label or the spec are of one model."""
    for flag in ("runs/base", "mine=runs/base"):
        result = recorded.run(f"--calibration-model={flag}", "--calibration-probe=facts")
        result.stdout.no_fnmatch_line("*calibration_model is overridden*")
