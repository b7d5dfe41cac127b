"""Ways in which a gate could end green though it should not, and what must happen to each.

Red, or named in the summary where it is green. ``NAMED`` and ``RED`` are ways of one test each, and
tried together; ``RUNS`` are ways of a whole run; ``HELD`` are tests elsewhere that hold others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

import pytest
from user_project import TESTS, Project

from pytest_calibration import Baselines, Predictions

START: Final = """
import contextlib, dataclasses, os
import numpy as np
import pytest
from pytest_calibration import *

def answers(probe, model=os.environ.get("MODEL", "same")):
    rng = np.random.default_rng(1)
    true = rng.uniform(0.5, 0.85, 400)
    correct = rng.uniform(size=400) < true
    drawn = 0.0 if model == "base" else np.random.default_rng(9).normal(size=400) * 0.01
    confidence = np.clip(true + drawn + (0.14 if model == "hot" else 0), 0, 1)
    return Predictions.from_confidence(confidence, correct, item_ids=range(400), probe=probe)
"""
"""Answers of the recorded model (``base``), one as good (``same``), and an over-confident one."""
FACTS: Final = """
def test_facts(calibration_baseline):
    assert_no_regression(answers("facts"), calibration_baseline)
"""
QUIZ: Final = FACTS.replace("facts", "quiz")
MORE: Final = """
def test_more(calibration_baseline):
    assert_ece_below(answers("more"), 0.5)
"""
FILE: Final = "tests/test_project.py"
CALL: Final = "assert_no_regression(answers(PROBE{}), calibration_baseline{})"

# --- ways of one test ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """What a test does, on a probe of its own that is recorded.

    Attributes:
        code: its body; ``PROBE`` is the name of its probe.
        told: a line of the output, as a pattern; ``PROBE`` and ``TEST`` are filled in.
        above: what stands above the test.
        edit: what is replaced in its baseline, and by what.
        removed: pattern of the file of its baseline that is removed.
    """

    code: str
    told: str
    above: str = ""
    edit: tuple[str, str] = ("", "")
    removed: str = ""


GATE: Final = CALL.format("", "")
HOT: Final = CALL.format(", 'hot'", "")
OWN: Final = "*PROBE*: every answer is that of the baseline, with the same confidence, as *"
HALF: Final = "*PROBE*: tolerance 0.5 instead of 0.02."
SKIPPED: Final = "* calibration tests skipped: *TEST*"
NAMED: Final[Mapping[str, Way]] = {
    # Gates that are not run, or decide nothing.
    "renamed": Way("", "stored, and asked for by no test: *PROBE.yaml*", "NAME = 'checks_PROBE'"),
    "skipped": Way("pytest.skip('slow')", SKIPPED),
    "marked_to_skip": Way(GATE, SKIPPED, "@pytest.mark.skip"),
    "without_parameters": Way(GATE, SKIPPED, "@EMPTY"),
    "not_asserted": Way(
        "calibration_baseline.find(PROBE)", "1 calibration test passed without a verdict: *TEST*"
    ),
    # Failures that are taken back.
    "rerun": Way(
        "TRIED.append(1)\n"
        "    assert_ece_below(answers(PROBE, 'base' if len(TRIED) > 1 else 'hot'), 0.1)",
        "*TEST* passed when it was run again, after: above the limit: probe PROBE*",
        "TRIED = []\n@pytest.mark.flaky(reruns=1)",
    ),
    "expected": Way(HOT, "*PROBE* regressed*", "@pytest.mark.xfail"),
    "expected_in_the_test": Way(f"with pytest.raises(AssertionError): {HOT}", "*PROBE* regressed*"),
    # What a model is compared with.
    "recorded_from_itself": Way(CALL.format(", 'base'", ""), OWN),
    "recorded_in_the_test": Way(
        "own = Baselines('own')\n    own.record(answers(PROBE, 'hot'))\n    "
        "assert_no_regression(answers(PROBE, 'hot'), own)",
        OWN,
    ),
    "compared_with_itself": Way(
        "assert_no_regression(answers(PROBE, 'hot'), answers(PROBE, 'hot'))", OWN
    ),
    # How strict the comparison is.
    "tolerance_of_the_call": Way(CALL.format("", ", tolerance=0.5"), HALF),
    "tolerance_of_the_baseline": Way(GATE, HALF, edit=("tolerance: null", "tolerance: 0.5")),
    "tolerance_of_the_limit": Way(
        "assert_ece_below(answers(PROBE, 'hot'), calibration_baseline, tolerance=0.5)", HALF
    ),
    "limit_of_the_baseline": Way(
        "assert_ece_below(answers(PROBE, 'hot'), calibration_baseline)",
        "*PROBE*limit 1.000*passed*",
        edit=("limit: null", "limit: 1"),
    ),
    "alpha": Way(CALL.format("", ", alpha=0.001"), "*PROBE*: alpha 0.001 instead of 0.05."),
    "accuracy": Way(
        CALL.format("", ", accuracy_tolerance=None"),
        "*PROBE*: accuracy tolerance off instead of 0.02.",
    ),
    "a_guess": Way(
        "assert_ece_below((np.full((400, 4), 0.25), np.arange(400) % 4), 0.05)",
        "test_a_guess * 0.250 * limit 0.050  passed",
    ),
    "outside_the_options": Way(
        "told = answers(PROBE)\n    told = dataclasses.replace(told, "
        "option_mass=np.full(400, 0.01))\n    assert_ece_below(told, 0.5)",
        "*PROBE*: The options hold 0.01 of the probability on average*",
    ),
}
RED: Final[Mapping[str, Way]] = {
    "renamed_probe": Way(
        "assert_no_regression(answers('other'), calibration_baseline)",
        "*no baseline: probe other*",
    ),
    "without_yaml": Way(GATE, "*no baseline: probe PROBE*", removed=".yaml"),
    "without_items": Way(GATE, "*PROBE.yaml: its items file * is missing*", removed=".items-*"),
    "of_another_probe": Way(
        GATE, "*PROBE.yaml: the checksum does not fit*", edit=("probe: PROBE", "probe: other")
    ),
    "with_other_items": Way(
        GATE, "*PROBE.yaml: the checksum does not fit*", edit=("sha256: ", "sha256: 0")
    ),
    "conflict": Way(GATE, "*PROBE.yaml, line *conflict markers*", edit=("n: 400", "<<<<<<< ours")),
    "newer": Way(GATE, "*PROBE.yaml: has format 2*update*", edit=("format: 1", "format: 2")),
    "edited": Way(GATE, "*PROBE.yaml: the checksum does not fit*", edit=("ece: 0.", "ece: 0.1")),
    "edited_checksum": Way(
        GATE, "*PROBE.yaml: the checksum does not fit*", edit=("checksum: ", "checksum: x")
    ),
    "a_condition": Way(
        "assert compare(answers(PROBE, 'hot'), answers(PROBE))", "FAILED *TEST*", "import math"
    ),
    "no_number": Way(
        "assert_ece_below((np.full((400, 2), np.nan), np.zeros(400, int)), 0.5)", "FAILED *TEST*"
    ),
    "per_cent": Way("assert_ece_below(answers(PROBE), 5)", "*five per cent is 0.05*"),
    "fewer_items": Way(
        "assert_no_regression(answers(PROBE).take(np.arange(300)), calibration_baseline)",
        "*not comparable: probe PROBE*",
    ),
    "other_ids": Way(
        "assert_no_regression(Predictions.from_confidence([0.7] * 400, [True] * 400, "
        "item_ids=range(900, 1300), probe=PROBE), calibration_baseline)",
        "*not comparable: probe PROBE*",
    ),
    "caught": Way(
        f"with contextlib.suppress(AssertionError): {HOT}",
        "ERROR: *TEST did not fail, but this did: calibration regressed: probe PROBE*",
    ),
}


def filled(text: str, name: str) -> str:
    """Return a text with the names of a way in it."""
    return text.replace("TEST", f"{FILE}::test_{name}").replace("PROBE", name)


def code_of(name: str, way: Way) -> str:
    """Return the test of a way."""
    empty = "pytest.mark.parametrize('nothing', [])"
    above = way.above.replace("@EMPTY", f"@{empty}")
    nothing = ", nothing" if "@EMPTY" in way.above else ""
    body = way.code.replace("PROBE", repr(name)) or "pass"
    prefix = "checks" if name == "renamed" else "test"
    return f"\n{above}\ndef {prefix}_{name}(calibration_baseline{nothing}):\n    {body}\n"


# --- ways of a whole run -------------------------------------------------------------------------

Change = Callable[[Project], object]
STORED: Final = "stored, and asked for by no test: *tests/calibration_baselines/quiz.yaml."
LEFT: Final = f"1 calibration test deselected: {FILE}::test_quiz."
ENDED: Final = "ERROR: the run ended before all tests were run: this run is not green."
TYPED: Final = "* stands in addopts or PYTEST_ADDOPTS, where it would switch the gate off in every*"


def unchanged(project: Project) -> None:
    """Leave the project as it is."""


def written(**files: str) -> Change:
    """Write files of the project, by name without ending."""
    endings = {"conftest": ".py", "tox": ".ini", "calibration": ".yaml"}
    return lambda project: [project.write(f"{n}{endings[n]}", t) for n, t in files.items()]


def beside(code: str | None, **files: str) -> Change:
    """Add a gate in another folder; this code takes the place of those there are, if any."""

    def change(project: Project) -> None:
        project.write("more/test_more.py", START + MORE)
        (project.path / FILE).unlink()
        if code is not None:
            project.write(FILE, code)
        written(**files)(project)

    return change


def moved(project: Project) -> None:
    """Leave nothing but baselines, in a folder whose name has a dot."""
    beside(None)(project)
    (project.path / "tests").rename(project.path / "v1.2")


@dataclass(frozen=True)
class Run:
    """A run of two gates, on facts and on quiz, of an over-confident model or one as good.

    Attributes:
        change: what happens to the project.
        told: a line of the output, as a pattern.
        args: of the command.
        code: exit code: 1 and 4 are red.
        model: ``same`` or ``hot``.
        addopts: what the environment adds to the command.
    """

    change: Change
    told: str
    args: tuple[str, ...] = ()
    code: int = 0
    model: str = "same"
    addopts: str = ""


EXIT: Final = "import pytest\n@pytest.fixture(autouse=True)\ndef stop(): pytest.exit('enough', 0)\n"
RUNS: Final[Mapping[str, Run]] = {
    "-k": Run(unchanged, LEFT, addopts="-k facts"),
    "--deselect": Run(unchanged, LEFT, ("--deselect", f"{FILE}::test_quiz")),
    "an item that a conftest drops": Run(
        written(conftest="def pytest_collection_modifyitems(items): del items[1]\n"), STORED
    ),
    "a file that is gone": Run(beside(None), STORED),
    "a folder with a dot, whose file is gone": Run(moved, STORED.replace("tests/", "v1.2/")),
    "a file that is ignored": Run(beside("", tox="[pytest]\naddopts = --ignore=tests\n"), STORED),
    "a file that skips itself": Run(
        beside("import pytest\npytest.importorskip('no_such_module')\n"), STORED
    ),
    "an exit with 0": Run(written(conftest=EXIT), ENDED, code=1),
    "a plugin that reports all as passed": Run(
        written(
            conftest="import pytest\n@pytest.hookimpl(wrapper=True)\n"
            "def pytest_runtest_makereport(item):\n"
            "    report = yield\n    report.outcome = 'passed'\n    return report\n"
        ),
        "ERROR: *test_quiz did not fail, but this did: calibration regressed: probe quiz*",
        code=1,
        model="hot",
    ),
    "a plugin that sets the exit code": Run(
        written(conftest="def pytest_sessionfinish(session): session.exitstatus = 0\n"),
        "2 regressed",
        model="hot",
    ),
    "a fixture of the project": Run(
        written(
            conftest="import pytest\nfrom pytest_calibration import Baselines\n"
            "@pytest.fixture\ndef calibration_baseline(): return Baselines('elsewhere')\n"
        ),
        "*no baseline: probe quiz*",
        code=1,
    ),
    "without the plugin": Run(
        unchanged, "*fixture 'calibration_baseline' not found*", ("-p", "no:calibration"), 1
    ),
    "recorded in place of what is gone": Run(
        lambda p: [path.unlink() for path in p.baselines.iterdir()],
        "2 baselines written.",
        ("--calibration-record",),
        model="hot",
    ),
    "record for good": Run(unchanged, TYPED, code=4, addopts="--calibration-record"),
    "accept for good": Run(
        written(tox="[pytest]\naddopts = --calibration-accept='as agreed'\n"), TYPED, code=4
    ),
    "anchor for good": Run(unchanged, TYPED, code=4, addopts="--calibration-anchor=agreed"),
    "prune for good": Run(unchanged, TYPED, code=4, addopts="--calibration-prune"),
    "tolerance in the ini file": Run(
        written(tox="[pytest]\ncalibration_tolerance = 0.5\n"), HALF.replace("PROBE", "quiz")
    ),
    "tolerance in calibration.yaml": Run(
        written(calibration="tolerance: 0.5\n"), HALF.replace("PROBE", "quiz")
    ),
}

# Tests that hold further ways.
HELD: Final = (
    "plugin/test_nothing_gated.py::test_a_gate_that_was_asked_for_and_is_not_there_is_red",
    "plugin/test_nothing_gated.py::test_a_selection_that_leaves_no_calibration_test_is_red",
    "plugin/test_nothing_gated.py::test_a_run_without_any_test_is_red",
    "plugin/test_nothing_gated.py::test_an_old_report_does_not_stand_for_the_run",
    "plugin/test_nothing_gated.py::test_a_report_of_tests_that_cannot_be_collected_is_written",
    "plugin/test_nothing_gated.py::test_a_baseline_that_is_gone_is_named_beside_a_parent",
    "plugin/test_nothing_gated.py::test_an_override_that_ignores_the_spec_is_named",
    "plugin/test_lost_errors.py::test_a_lost_error_makes_the_run_red",
    "plugin/test_lost_errors.py::test_the_end_of_a_session_fixture_loses_nothing",
    "plugin/test_lost_errors.py::test_a_thread_may_outlive_its_test",
    "plugin/test_lost_errors.py::test_a_hook_at_the_end_of_the_session_loses_nothing",
    "plugin/test_session.py::test_model_that_no_test_uses_is_red",
    "plugin/test_session.py::test_answers_belong_to_one_probe_and_one_state_of_the_model",
    "plugin/test_session.py::test_probe_must_return_its_own_predictions",
    "plugin/test_session.py::test_skip_after_a_failed_attempt_leaves_nothing_decided",
    "plugin/test_option_inconclusive.py::test_run_that_decides_nothing_is_not_green",
    "plugin/test_option_inconclusive.py::test_unchecked_or_skipped_is_not_green",
    "plugin/test_option_record.py::test_different_content_for_one_key_fails_and_names_both",
    "plugin/test_option_record.py::test_existing_record_is_judged_and_not_touched",
    "plugin/test_option_record.py::test_a_run_that_stops_says_that_nothing_was_recorded",
    "plugin/test_option_record.py::test_dead_worker_writes_nothing",
    "plugin/test_option_record.py::test_limit_cannot_be_recorded_by_hand_edits",
    "plugin/test_option_record.py::test_of_two_runs_at_a_time_one_writes",
    "plugin/test_option_accept.py::test_missing_record_is_not_added",
    "plugin/test_option_accept.py::test_reason_must_be_readable",
    "plugin/test_option_accept.py::test_a_place_of_tests_is_no_reason",
    "plugin/test_option_accept.py::test_limit_below_the_stored_n_is_a_usage_error",
    "plugin/test_option_cache_dir.py::test_another_checkpoint_under_the_same_path_is_asked_anew",
    "plugin/test_option_cache_dir.py::test_a_model_of_ones_own_is_never_kept",
    "models/test_cached_answers.py::test_another_key_is_another_entry",
    "models/test_cached_answers.py::test_nothing_is_kept_of_files_that_changed_meanwhile",
    "plugin/test_cautions.py::test_what_weakens_a_comparison_is_told_everywhere",
    "plugin/test_cautions.py::test_a_part_of_the_probe_is_not_comparable",
    "plugin/test_option_limit.py::test_a_limit_hides_no_cut_file",
    "plugin/test_option_early_stop.py::test_a_regression_is_found_on_a_quarter_of_the_items",
    "plugin/test_option_early_stop.py::test_what_keeps_measurements_asks_for_all",
    "plugin/test_option_model.py::test_glob_without_a_match_is_a_usage_error",
    "plugin/test_option_prune.py::test_partial_run_removes_nothing",
    "plugin/test_drift_in_tests.py::test_one_checkpoint_alone_is_not_green",
    "plugin/test_drift_in_tests.py::test_a_history_that_is_missing_is_one_sentence",
    "history/test_drift.py::test_lines_that_do_not_count_are_told",
    "history/test_drift.py::test_checkpoints_without_items_are_left_out_and_said",
    "cli/test_cli_drift.py::test_a_trend_that_cannot_be_judged_is_no_pass",
    "cli/test_cli_check.py::test_a_mistyped_file_is_no_name_of_a_baseline",
    "cli/test_cli_check.py::test_inconclusive_is_3_under_strict",
    "cli/test_cli_check.py::test_what_a_user_can_get_wrong",
    "probes/test_probe.py::test_an_id_depends_on_content_own_id_and_probe",
    "probes/test_probe.py::test_a_model_that_leaves_out_a_text_fails_the_probe",
    "predictions/test_predictions.py::test_shuffled_labels_are_not_comparable",
    "predictions/test_predictions.py::test_no_nan_or_infinity_ever_passes",
    "gate/test_verdict.py::test_a_model_that_guesses_fails_as_accuracy",
    "test_assertions.py::test_a_guesser_fails_although_its_ece_is_zero",
)


# --- tried ---------------------------------------------------------------------------------------


def missing(result: pytest.RunResult, told: Iterable[str]) -> list[str]:
    """Return the patterns that no line of the output fits."""
    lines = [*result.outlines, *result.errlines]
    return [one for one in told if not any(fnmatchcase(line, one) for line in lines)]


@pytest.fixture(scope="module")
def answers() -> Callable[..., Predictions]:
    """Return answers as the tests of the projects have them."""
    names: dict[str, Any] = {}
    exec(START, names)
    made: Callable[..., Predictions] = names["answers"]
    return made


@pytest.fixture
def ways(project: Project, answers: Callable[..., Predictions]) -> Callable[..., pytest.RunResult]:
    """Run a test for each of these ways."""
    project.pytester.makeconftest("")

    def run(ways: Mapping[str, Way], *args: str) -> pytest.RunResult:
        store = Baselines(project.baselines)
        for name, way in ways.items():
            path = store.record(answers(name, "base"))
            old, new = (filled(text, name) for text in way.edit)
            text = path.read_text("utf-8")
            assert old in text
            path.write_text(text.replace(old, new, 1), "utf-8")
            for file in project.baselines.glob(f"{name}{way.removed}") if way.removed else ():
                file.unlink()
        project.write(FILE, START + "".join(code_of(*way) for way in ways.items()))
        return project.run(*args)

    return run


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_a_green_run_names_what_was_not_gated(
    ways: Callable[..., pytest.RunResult], workers: list[str]
) -> None:
    """Each way leaves the run green, and has its line in the summary."""
    result = ways(NAMED, *workers)
    assert result.ret == 0, result.outlines
    assert missing(result, [filled(way.told, name) for name, way in NAMED.items()]) == []


def test_each_of_these_is_red(ways: Callable[..., pytest.RunResult]) -> None:
    """Each way fails its test, but for the caught error, which fails the run by its own line."""
    result = ways(RED)
    assert result.ret == 1
    assert missing(result, [filled(way.told, name) for name, way in RED.items()]) == []
    result.assert_outcomes(failed=len(RED) - 1, passed=1)


@pytest.fixture
def two_gates(project: Project, answers: Callable[..., Predictions]) -> Project:
    """A project with two gates, whose baselines are recorded."""
    project.pytester.makeconftest("")
    project.write(FILE, START + FACTS + QUIZ)
    for name in ("facts", "quiz"):
        Baselines(project.baselines).record(answers(name, "base"))
    return project


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_no_run_is_silent(two_gates: Project, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is red, or its summary names what was not gated, or how."""
    monkeypatch.setenv("MODEL", run.model)
    monkeypatch.setenv("PYTEST_ADDOPTS", f"-p no:hypothesispytest -p no:anyio {run.addopts}")
    run.change(two_gates)
    result = two_gates.run(*run.args)
    assert result.ret == run.code, result.outlines
    assert missing(result, [run.told]) == [], result.outlines


def test_what_is_gated_is_green_and_names_nothing(
    two_gates: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checks can fail: where both gates are run, no line names them; over-confident, they fail.

    The report says the same as the summary.
    """
    report = two_gates.path / "r.json"
    for model, code, more in (("same", 0, ()), ("hot", 1, ()), ("same", 0, ("-k", "facts"))):
        monkeypatch.setenv("MODEL", model)
        assert two_gates.run("--calibration-report=r.json", *more).ret == code
        said = json.loads(report.read_text("utf-8"))
        assert said["green"] is (code == 0)
        assert said["remarks"] == ([LEFT] if more else [])
        assert not any(one["cautions"] for one in said["results"])


@pytest.mark.parametrize("flag", ["--collect-only", "--setup-plan", "--fixtures"])
def test_a_run_that_runs_no_test_writes_no_report(two_gates: Project, flag: str) -> None:
    """A report without any verdict would read as green; nor is it told that tests are missing."""
    result = two_gates.run(flag, "--calibration-report=r.json")
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*ERROR*")
    assert not (two_gates.path / "r.json").exists()


def test_what_is_held_elsewhere_is_there() -> None:
    """Each test that the table names exists."""
    for test in HELD:
        file, _, name = test.partition("::")
        assert f"\ndef {name}(" in (TESTS / file).read_text("utf-8"), test
