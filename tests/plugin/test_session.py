"""Marker, properties, summary, tracebacks, rootdir, the packaged suite."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

MIXED = """
from pytest_calibration import assert_ece_below, assert_no_regression

def test_plain():
    pass

def test_gate(calibration, calibration_baseline):
    facts = calibration.run("facts")
    assert_no_regression(facts, calibration_baseline)
    assert_ece_below(facts, 0.5)
"""


@pytest.mark.parametrize(("expression", "passed"), [("calibration", 1), ("not calibration", 1)])
def test_marker_is_set_by_itself(recorded, expression: str, passed: int) -> None:
    """Tests that use a calibration fixture are selected by -m calibration, others by its not."""
    recorded.write("tests/test_project.py", MIXED)
    result = recorded.facts("base", "--strict-markers", "-m", expression)
    result.assert_outcomes(passed=passed, deselected=1)


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_verdicts_reach_junit_as_flat_scalars(recorded, workers: list[str]) -> None:
    """Each verdict is a set of properties of its test, numbered in order."""
    recorded.write("tests/test_project.py", MIXED)
    recorded.facts("hot", "--junitxml=report.xml", *workers)
    tree = ElementTree.parse(recorded.path / "report.xml")
    case = next(c for c in tree.iter("testcase") if c.get("name", "").startswith("test_gate"))
    found = {p.get("name"): p.get("value") for p in case.iter("property")}
    assert found["calibration.1.state"] == "regressed"
    assert found["calibration.1.probe"] == "facts"
    assert found["calibration.1.model"] == "hot"
    assert found["calibration.1.n"] == "2315"
    assert float(found["calibration.1.value"] or 0) > float(found["calibration.1.baseline"] or 1)
    plain = next(c for c in tree.iter("testcase") if c.get("name") == "test_plain")
    assert not list(plain.iter("property"))


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_summary_counts_every_state(recorded, workers: list[str]) -> None:
    """The summary holds a row per verdict and the count of each state."""
    recorded.write("tests/test_project.py", MIXED)
    result = recorded.facts("base", *workers)
    result.stdout.fnmatch_lines(["=* calibration =*"])
    result.stdout.re_match_lines([r"base +facts +2,315 +ECE +\d\.\d{3} +\[.*\] .* passed"])
    result.stdout.fnmatch_lines(["2 passed"])


def test_array_assertions_are_reported_without_fixtures(project) -> None:
    """An assertion on plain arrays needs no fixture and no model, and is reported as well."""
    project.write(
        "tests/test_project.py",
        """
from pytest_calibration import assert_ece_below

def test_arrays():
    assert_ece_below(([[0.5, 0.5], [0.5, 0.5]], [0, 1]), 0.4)
""",
    )
    result = project.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["probabilities*limit 0.400*passed"])


def test_collection_says_what_is_probed(recorded) -> None:
    """One line after collection names the number of tests and the models."""
    result = recorded.facts("base")
    result.stdout.fnmatch_lines(["calibration: 1 test, model: base"])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("calibration.run('fact')", "*unknown probe 'fact' (did you mean 'facts'?)*"),
        ("calibration.run('facts', limit=0)", "*a limit must be at least 1, got 0.*"),
        (
            "__import__('pytest_calibration').assert_ece_below(([0.2], [1]), 0.1)",
            "*one-dimensional probabilities with labels are ambiguous*",
        ),
    ],
    ids=["probe", "limit", "arrays"],
)
def test_user_errors_are_shown_at_the_users_line(project, code: str, message: str) -> None:
    """An error a user can cause shows the user's line and one sentence, none of our frames."""
    project.write("tests/test_project.py", f"def test_it(calibration):\n    {code}\n")
    result = project.facts("base")
    result.stdout.fnmatch_lines([f">*{code[:20]}*", message, "tests/test_project.py:2: *"])
    result.stdout.no_fnmatch_line("*pytest_calibration/*.py:*")


def test_full_trace_shows_everything(project) -> None:
    """--full-trace shows the frames inside, for whoever wants them."""
    project.write("tests/test_project.py", "def test_it(calibration): calibration.run('fact')\n")
    result = project.facts("base", "--full-trace")
    result.stdout.fnmatch_lines(["*registry.py:*"])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.replace("n: 2315", "n: 2316"), "*facts.yaml: the checksum does not fit*"),
        (lambda t: "<<<<<<< ours\n" + t, "*facts.yaml, line 1: holds git conflict markers*"),
        (
            lambda t: t.replace("format: 1", "format: 2"),
            "*has format 2*update pytest-calibration.*",
        ),
        (lambda t: t + "note: again\n", "*the key 'note' is given twice*"),
    ],
    ids=["edited", "conflict", "newer", "duplicate"],
)
@pytest.mark.parametrize("flag", [[], ["--calibration-record"], ["--calibration-accept=x"]])
def test_unreadable_baseline_fails_and_stays(recorded, damage, message: str, flag) -> None:
    """A baseline that cannot be trusted fails its test with its own message; nothing is written."""
    path = recorded.baselines / "facts.yaml"
    path.write_text(damage(path.read_text()))
    stored = recorded.files()
    result = recorded.facts("base", *flag)
    assert result.ret == 1
    result.stdout.fnmatch_lines([message])
    assert recorded.files() == stored


def test_command_in_the_message_records(project) -> None:
    """The command printed for a missing baseline, run as it is, records it."""
    result = project.facts("base")
    lines = result.outlines
    at = next(i for i, x in enumerate(lines) if "to record it:" in x)
    command = lines[at + 1].removeprefix("E").split()
    assert command[0] == "pytest"
    assert project.run(*command[1:]).ret == 0
    assert project.facts("base").ret == 0


def test_command_in_the_message_accepts(recorded) -> None:
    """The command printed for a regression, with a reason, accepts it."""
    result = recorded.facts("hot")
    lines = result.outlines
    at = next(i for i, x in enumerate(lines) if "to accept it:" in x)
    command = [word.strip("'") for word in lines[at + 1].removeprefix("E").split()]
    assert recorded.run(*command[1:]).ret == 0
    assert recorded.facts("hot").ret == 0


def test_model_path_must_not_move_the_rootdir(
    recorded, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A model elsewhere, given as a second word, would hide the project's ini file: refused."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "base"
    elsewhere.mkdir()
    result = recorded.run("--calibration-model", str(elsewhere), "--calibration-probe=facts")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*write --calibration-model={elsewhere}*"])
    result = recorded.run(f"--calibration-model={elsewhere}", "--calibration-probe=facts")
    assert result.ret == 0
    result = recorded.run("--calibration-model", "runs/base", "--calibration-probe=facts")
    assert result.ret == 0


def test_packaged_suite_stores_under_rootdir(project) -> None:
    """The ready-made suite gates every selected probe, with its baselines at rootdir."""
    suite = ["--pyargs", "pytest_calibration.suite", "-p", "conftest"]
    flags = ["--calibration-model=runs/base", "--calibration-probe=facts"]
    assert project.run(*suite, *flags).ret == 1
    assert project.run(*suite, *flags, "--calibration-record").ret == 0
    assert (project.path / "calibration_baselines" / "facts.yaml").is_file()
    assert project.run(*suite, *flags).ret == 0


def test_predictions_are_computed_once(project) -> None:
    """Two tests that ask for the same probe of the same model score it once."""
    project.write(
        "tests/test_project.py",
        """
import pytest

@pytest.mark.parametrize("i", range(3))
def test_it(calibration, i):
    calibration.run("facts")
    print("CALLS", calibration.model.calls)
""",
    )
    result = project.facts("base", "-s")
    result.stdout.fnmatch_lines(["*CALLS ?'next_token'?"])
    result.stdout.no_fnmatch_line("*'next_token', 'next_token'*")
