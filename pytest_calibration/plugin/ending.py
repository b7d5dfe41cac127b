"""The end of a run: baselines are written or pruned, and a run that decided nothing fails."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest

from pytest_calibration.plugin.families import conclude
from pytest_calibration.plugin.options import OPTIONS
from pytest_calibration.plugin.reporting import write_history, write_reports
from pytest_calibration.plugin.run import Run
from pytest_calibration.text.numbers import counted
from pytest_calibration.text.visible import visible

# What a calibration test without a verdict came to.
NOT_JUDGED: Final = {
    "deselected": "deselected",
    "skipped": "skipped",
    "passed": "passed without a verdict",
}
# Tests that a line names.
MOST_NAMED: Final = 4
# Options of pytest with which it shows something, and runs no test.
SHOWING: Final = (
    *("collectonly", "setuponly", "setupplan"),
    *("showfixtures", "show_fixtures_per_test", "cacheshow"),
)
# Options that ask for a comparison, or for what comes of one.
GATES: Final = frozenset(
    {"model", "parent", "probe", "record", "accept", "anchor", "report", "dump", "history"}
)


def end(run: Run, session: pytest.Session, *, finished: bool) -> None:
    """Write what is to be written, and add to the failures of the session.

    Args:
        run: the run.
        session: pytest's session.
        finished: whether every test was run.
    """
    if run.is_worker or _runs_no_test(session):
        return
    run.finished = finished
    run.outcomes.add_late(run.late_verdicts())
    conclude(run, session)
    _check_no_error_lost(run)
    if finished and run.complete:
        _write_baselines(run)
        _check_gated(run)
        _check_names(run)
        _name_what_is_not_judged(run)
        _check_decided(run, failed=session.testsfailed > 0)
    else:
        # Those of a worker that died are known by its verdicts alone.
        files = {*run.records.drafts} | {r.recorded_in for r in run.verdicts if r.recorded_in}
        _say_not_written(run, len(files))
        run.outcomes.not_recorded((), {})
        if run.options["prune"]:
            run.remarks.append("nothing pruned: the run did not finish.")
        if finished and not session.testsfailed:
            run.errors.append(
                "a worker of pytest-xdist ended without handing over its results; run again."
            )
    if run.options["early_stop"] and run.keeps_all and run.verdicts:
        run.remarks.append(
            f"early stopping is off: {run.keeps_all} keeps measurements, which are of all items."
        )
    write_history(run)
    write_reports(run)
    run.usage.merge(run.usage.as_dict(run.resolved))
    session.testsfailed += len(run.errors)


def hear_the_last(run: Run, session: pytest.Session) -> None:
    """Fail a session in which another hook lost the error of a verdict after reports were made."""
    late = run.late_verdicts()
    run.outcomes.add_late(late)
    if any(result.fails for result in late):
        run.errors.append("a verdict failed when the reports were written already.")
        _check_no_error_lost(run)
    elif run.finished or _runs_no_test(session) or not (run.collected or _asked_for(run)):
        return
    elif session.exitstatus == pytest.ExitCode.OK:
        # Of pytest.exit(..., returncode=0), in a test or before the first one.
        run.errors.append("the run ended before all tests were run: this run is not green.")
    if session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _runs_no_test(session: pytest.Session) -> bool:
    """Whether pytest only shows what it would run."""
    option = session.config.option
    return any(getattr(option, name, False) for name in SHOWING)


def _asked_for(run: Run) -> list[str]:
    """Return the flags of this command that ask for a gate."""
    return [o.flag for o in OPTIONS if o.name in GATES & run.options.typed_now]


def _write_baselines(run: Run) -> None:
    records = run.records
    try:
        records.write()
    finally:
        # Also after Ctrl-C, when some are written and some are not.
        run.outcomes.not_recorded(records.written, records.problems)
        run.errors.extend(records.problems.values())
        if records.written:
            run.remarks.append(f"{counted(len(records.written), 'baseline')} written.")
        _say_not_written(run, len(records.drafts) - len(records.written) - len(records.problems))
    if run.options["prune"]:
        _prune(run, _why_not(run))
    elif not (_chosen(run) or run.outcomes.failed_any()):
        stale, _, forgotten = _not_asked_for(run)
        if stale or forgotten:
            paths = sorted([*stale, *forgotten])
            run.remarks.append(f"stored, and asked for by no test: {_listed(run, paths)}.")


def _say_not_written(run: Run, count: int) -> None:
    if count:
        run.errors.append(f"{counted(count, 'baseline')} not written: the run did not finish.")


def _check_gated(run: Run) -> None:
    """Add an error where the command line asks for a gate, and nothing is there to be gated."""
    asked = _asked_for(run)
    if asked and not run.collected and not run.verdicts:
        deselected = "deselected" in run.left_out.values()
        run.errors.append(
            f"{' and '.join(asked)}: nothing was gated, no calibration test was "
            f"{'selected' if deselected else 'collected'}: this run is not green."
        )
    for text, name in sorted(run.resolved.unlike.items()):
        run.remarks.append(
            f"the fixture calibration_model is overridden, and for {text!r} gave a model that "
            f"calls itself {name!r}; where it ignores calibration_model_spec, {text!r} was not "
            "tested."
        )
    if run.options["parent"] is not None:
        missing = sorted(path for path in run.records.looked_up if not os.path.exists(path))
        if missing:
            paths = _listed(run, missing)
            run.remarks.append(f"compared with the parent alone, nothing is stored at {paths}.")


def _check_names(run: Run) -> None:
    """Say where one name stands for probes of several projects: reports know them by their name."""
    # Which items of how many files: the same numbers are the same probe.
    found: dict[tuple[str, str], dict[str, tuple[float, ...]]] = {}
    for result in run.verdicts:
        file = run.config.rootpath / result.test.partition("::")[0]
        project = run.resolved.projects.read_for(file).shown
        numbers = (result.candidate_n, result.accuracy, result.mean_confidence)
        most = found.setdefault((result.source, result.probe), {})
        most[project] = max(numbers, most.get(project, numbers))
    for (model, probe), most in found.items():
        if len({*most.values()}) > 1:
            run.remarks.append(
                f"{probe} on {model}: a probe of this name in each of {', '.join(sorted(most))}, "
                "with other numbers; metrics in JSON and OpenMetrics hold those of one: give each "
                "a name of its own."
            )


def _name_what_is_not_judged(run: Run) -> None:
    """Say which calibration tests judged nothing, and which passed when they were run again."""
    left = [("deselected", test) for test in sorted(run.deselected)]
    left += run.outcomes.without_verdict()
    for what, why in NOT_JUDGED.items():
        tests = [visible(test) for found, test in left if found == what]
        if tests and run.verdicts:
            more = f" and {len(tests) - MOST_NAMED:,} more" if len(tests) > MOST_NAMED else ""
            run.remarks.append(
                f"{counted(len(tests), 'calibration test')} {why}: "
                f"{', '.join(tests[:MOST_NAMED])}{more}."
            )
    for test, before in run.outcomes.passed_when_run_again():
        headlines = "; ".join(map(visible, dict.fromkeys(before)))
        run.remarks.append(f"{visible(test)} passed when it was run again, after: {headlines}.")


def _listed(run: Run, paths: Iterable[str | Path]) -> str:
    """Return paths as seen from where pytest was started."""
    started = run.config.invocation_params.dir
    return ", ".join(os.path.relpath(path, started) for path in paths)


def _check_no_error_lost(run: Run) -> None:
    """Add an error for each test that did not fail although a verdict in it does."""
    lost = run.outcomes.lost()
    for test in dict.fromkeys(result.test for result in lost):
        headlines = dict.fromkeys(visible(r.headline) for r in lost if r.test == test)
        error = (
            f"{test} did not fail, but this did: {'; '.join(headlines)}. The error was caught, or "
            "raised in a thread, task or process that the test does not ask: let it reach the "
            "test, or expect it with pytest.raises or xfail."
        )
        if error not in run.errors:
            run.errors.append(error)


def _check_decided(run: Run, *, failed: bool) -> None:
    """Add an error where calibration tests were collected and nothing was compared or decided.

    Args:
        run: the run.
        failed: whether any test failed: a run that is red needs no further reason.
    """
    if not run.collected:
        return
    may_skip = run.options["no_model"] == "skip"
    may_be_empty = may_skip and not run.options["model"] and not run.verdicts
    if may_be_empty:
        run.remarks.append("nothing was gated: no model is named (calibration_no_model = skip).")
    if failed:
        return
    if "model" in run.options.flags and not run.resolved.used_models:
        run.errors.append(
            "--calibration-model was used by no test: the fixture calibration_model is "
            "overridden and does not ask for calibration_model_spec."
        )
    verdicts = run.verdicts
    with_parent = any(result.against == "parent" for result in verdicts)
    if run.options["parent"] is not None and verdicts and not with_parent:
        run.errors.append("--calibration-parent was compared with nothing.")
    if not may_be_empty and all(result.state == "inconclusive" for result in verdicts):
        run.errors.append(
            f"{run.collected} calibration test{'s' * (run.collected > 1)} collected and "
            "nothing was decided (every comparison was inconclusive, skipped or never made): "
            "this run is not green."
        )


# --- pruning -------------------------------------------------------------------------------------


def _not_asked_for(run: Run) -> tuple[list[Path], list[Path], list[Path]]:
    """Return the records that no test looked up.

    Returns:
        Those beside others that were looked up; those of names that this run did not use, which
        belong to a model or stage that it says nothing of; and those in a folder of baselines from
        which no test looked up any.
    """
    from pytest_calibration.baselines.store import stored_records

    records = run.records
    used = {Path(path).parent for path in records.looked_up}
    stale: list[Path] = []
    of_other_names: list[Path] = []
    forgotten: list[Path] = []
    for folder in map(Path, sorted(records.folders)):
        in_use = any(place.is_relative_to(folder) for place in used)
        for path in stored_records(folder):
            if str(path) not in records.looked_up and str(path) not in records.drafts:
                other = of_other_names if in_use else forgotten
                (stale if path.parent in used else other).append(path)
    return stale, of_other_names, forgotten


def _prune(run: Run, reason: str) -> None:
    """Remove the baselines that no test looked up, if the run was a full one.

    Args:
        run: the run.
        reason: why it may have looked up too little; empty if it may prune.
    """
    if reason:
        run.remarks.append(f"nothing pruned: {reason}.")
        return
    from pytest_calibration.baselines.store import remove_record

    stale, *others = _not_asked_for(run)
    removed = []
    for path in stale:
        try:
            remove_record(path)
        except OSError as problem:
            run.errors.append(f"{_listed(run, [path])} cannot be removed ({problem.strerror}).")
        else:
            removed.append(path)
    run.remarks.append(f"pruned: {_listed(run, removed) or 'nothing'}.")
    if any(others):
        left = _listed(run, sorted(others[0] + others[1]))
        run.remarks.append(f"left alone, of a name this run did not use: {left}.")


def _why_not(run: Run) -> str:
    """Return why this run may have looked up too little; empty if it may prune."""
    option = run.config.option
    if run.left_out:
        return "some tests were deselected or could not be collected"
    chosen = _chosen(run)
    if chosen:
        return chosen
    if getattr(option, "override_ini", None):
        return "an ini key was overridden"
    not_passed = run.outcomes.not_passed()
    if not_passed:
        return f"{not_passed[0]} did not pass"
    if getattr(option, "ignore", None) or getattr(option, "ignore_glob", None):
        return "some files were ignored"
    return ""


def _chosen(run: Run) -> str:
    """Return which part of the tests was chosen for this run; empty where it is all of them."""
    option = run.config.option
    if "deselected" in run.left_out.values():
        return "some tests were deselected"
    if "probe" in run.options.flags:
        return "--calibration-probe runs only a part of the probes"
    if any(getattr(option, name, None) for name in ("lf", "failedfirst", "stepwise")):
        return "tests that failed before were chosen"
    started = Path(run.config.invocation_params.dir)
    places = {arg: started / arg.partition("::")[0] for arg in run.config.args}
    for arg, place in places.items():
        if "::" in arg or not place.is_dir():
            return f"{arg} is only a part of the tests"
    for folder in map(Path, run.records.folders):
        # Tests anywhere below rootdir may use a folder that is shared.
        shared = run.options["baseline_dir"] is not None
        home = run.config.rootpath if shared else folder
        if not any(home.is_relative_to(place) for place in places.values()):
            return f"{folder.name} lies outside the folders that were run"
    return ""
