"""What a session leaves behind: report files, a step summary on GitHub, annotations.

All are written by the controller, once, from one :class:`pytest_calibration.reports.model.Results`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_calibration.errors import CalibrationError
from pytest_calibration.history.commit import commit_of, commit_of_ci
from pytest_calibration.plugin.courses import courses_of
from pytest_calibration.reports.writing import STEP_SUMMARY, append_summary, write_report
from pytest_calibration.text.numbers import counted

if TYPE_CHECKING:
    from pytest_calibration.plugin.run import Run
    from pytest_calibration.reports.model import Results

WORKSPACE: Final = "GITHUB_WORKSPACE"
# Files that the summary names; pictures may be many.
MOST_NAMED: Final = 6
ANNOTATES: Final = "pytest_github_actions_annotate_failures"


def wants_details(run: Run) -> bool:
    """Whether anything of this session shows what stands behind a verdict that does not fail."""
    if run.options["report"] or os.environ.get(STEP_SUMMARY):
        return True
    return bool(run.config.get_verbosity() > 0)


def results_of(run: Run, *, alone: bool = False) -> Results:
    """Gather what came of the session so far.

    Args:
        run: the session.
        alone: for a reader who does not see pytest's own lines: with what failed without a verdict.
    """
    from pytest_calibration.reports.model import Results
    from pytest_calibration.version import __version__

    return Results(
        version=__version__,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        commit=commit_of_ci(),
        tests=max(run.collected, len(run.outcomes.results)),
        finished=run.finished and run.complete,
        results=tuple(run.verdicts),
        remarks=tuple(run.remarks),
        errors=(*run.errors, *(_failed_otherwise(run) if alone else ())),
    )


def _failed_otherwise(run: Run) -> Iterator[str]:
    """Yield what failed without a verdict: tests with calibration, and any collection."""
    for test in run.outcomes.failed_without_verdict():
        yield f"{test} failed without a verdict."
    for node, reason in sorted(run.left_out.items()):
        if reason == "failed":
            yield f"{node or 'a part of the tests'} could not be collected."


def write_reports(run: Run) -> None:
    """Write every report that was asked for; one that cannot be written fails the session."""
    paths = run.options.paths("report")
    summary = os.environ.get(STEP_SUMMARY)
    asked = run.errors or "report" in run.options.typed_now
    # An old report must not stand for a run that was to be reported.
    if not (run.collected or run.verdicts or asked):
        if "report" in run.options.flags:
            names = ", ".join(path.name for path in paths)
            run.remarks.append(f"no calibration test was collected: {names} not written.")
        return
    if not paths and not summary:
        return
    results = results_of(run, alone=True)
    with _reported(run, "drift"):
        results = replace(results, drifts=courses_of(run))
    written: list[str] = []
    for path in paths:
        with _reported(run, str(path)):
            written.extend(write_report(path, results))
    if summary:
        with _reported(run, STEP_SUMMARY):
            remark = append_summary(Path(summary), results)
            run.remarks.extend([remark] if remark else [])
    if written:
        files = list(dict.fromkeys(written))
        more = f" and {len(files) - MOST_NAMED} more" if len(files) > MOST_NAMED else ""
        run.remarks.append(f"written: {', '.join(files[:MOST_NAMED])}{more}")


def write_history(run: Run) -> None:
    """Add to the history what the verdicts of the session measured, also where it was cut short."""
    path = run.options.path("history")
    if path is None or not len(run.measured):
        return
    from pytest_calibration.history.file import History

    with _reported(run, str(path)):
        done = run.measured.write(History(path), commit_of(run.config.rootpath), run.outcomes)
        known = f" ({done.known} known already)" if done.known else ""
        run.remarks.append(
            f"history: {counted(done.added, 'measurement')} added to {os.path.relpath(path)}{known}"
        )
        if done.torn:
            run.remarks.append(
                f"{os.path.relpath(path)} ended in a part of a line, as a write that was cut short "
                "leaves it; that part is skipped."
            )


@contextmanager
def _reported(run: Run, what: str) -> Iterator[None]:
    """Turn what keeps a report from being written into a line that fails the session."""
    try:
        yield
    except OSError as problem:
        run.errors.append(f"{what}: cannot be written ({problem.strerror or problem}).")
    except CalibrationError as problem:
        run.errors.append(f"{what}: not written: {problem}")
    except Exception as problem:  # a defect of one report must not hide the verdicts
        run.errors.append(
            f"{what}: not written, by a defect of pytest-calibration "
            f"({type(problem).__name__}: {problem}); please report it."
        )


def on_github() -> bool:
    """Whether the output is read by a runner of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def inert(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines that may hold anything, so that GitHub obeys none of them.

    A runner obeys lines that begin with ``::``, and the text of an item may.
    """
    if not on_github():
        yield from lines
        return
    token = os.urandom(16).hex()
    yield f"::stop-commands::{token}"
    yield from lines
    yield f"::{token}::"


def annotation_lines(run: Run) -> Iterator[str]:
    """Yield GitHub's workflow commands, one per failing test, where nothing else does."""
    if not on_github() or not run.verdicts:
        return
    if run.config.pluginmanager.hasplugin(ANNOTATES):
        return
    from pytest_calibration.reports.annotations import annotations

    places = run.outcomes.places.items()
    yield from annotations(
        results_of(run), {test: (_in_workspace(run, file), line) for test, (file, line) in places}
    )


def _in_workspace(run: Run, file: str) -> str:
    """Return the name by which GitHub knows a file of a test: from the workspace, with slashes.

    Args:
        run: the run.
        file: as pytest names it, from rootdir, which need not be the workspace: a project may lie
            in a folder of the repository, or its configuration above it.
    """
    named = os.environ.get(WORKSPACE)
    if not named:
        return Path(file).as_posix()
    path = Path(os.path.abspath(run.config.rootpath / file))
    workspace = os.path.abspath(run.config.invocation_params.dir / named)
    # First as they are named: a link within the workspace is a file of the repository.
    for one, folder in ((path, workspace), (path.resolve(), os.path.realpath(workspace))):
        if one.is_relative_to(folder):
            return one.relative_to(folder).as_posix()
    return path.as_posix()
