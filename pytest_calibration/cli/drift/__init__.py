"""``pytest-calibration drift``: how calibration moved along a training run, and what to take."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from pytest_calibration.cli.arguments import add_arguments, add_strictness
from pytest_calibration.cli.drift.drift_views import drift_lines, family_lines, tree
from pytest_calibration.cli.output import FAILED, INCONCLUSIVE
from pytest_calibration.cli.project import (
    Project,
    add_asking,
    measure_checkpoints,
    progress_shown,
)
from pytest_calibration.errors import HistoryError, UsageError

if TYPE_CHECKING:
    from pytest_calibration.cli.arguments import Subparsers
    from pytest_calibration.history.drift import Drift, Family
    from pytest_calibration.history.file import History, Lines
    from pytest_calibration.history.series import Series

DEFAULT_FILE: Final = "calibration_history.jsonl"
OVER: Final = ("step", "epoch", "tokens", "stage", "order")
FOR_CHECKPOINTS: Final = ("parent", "history", "limit", "cache-dir")
# Of a long history, the last runs with together so many series are shown, and one at least.
MOST_SERIES: Final = 24
MOST_NAMED: Final = 3


def add(subparsers: Subparsers) -> None:
    """Add the parser of this command."""
    parser = subparsers.add_parser(
        "drift",
        help="how calibration moved along checkpoints, where it broke, and which one is best",
        description="Show a metric along the checkpoints of a history, or of a training run that "
        "is measured now: the first that is worse than its parent beyond doubt, the trend, and "
        "the best one.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "what",
        nargs="*",
        metavar="HISTORY | CHECKPOINT",
        help=f"a history (default: {DEFAULT_FILE}); or checkpoints to measure: directories, a "
        "folder of them, globs, hub ids",
    )
    add_asking(parser)
    add_arguments(
        parser,
        ("--metric", str, "NAME", "what is shown (default: ece), as precision@0.9"),
        ("--parent", str, "SPEC", "the model that the checkpoints were trained from"),
        ("--history", str, "FILE", "add what is measured to this history"),
        ("--svg", str, "FILE", "draw the chart into this file"),
        ("--png", str, "FILE", "the same as PNG"),
    )
    parser.add_argument(
        "--run",
        dest="along",
        metavar="RUN",
        help="only this run: the folder of its checkpoints, or its hub id",
    )
    parser.add_argument(
        "--over", choices=OVER, help="axis: step, epoch, tokens, stage or order (default: the "
        "first of step, epoch and order that all have)"
    )  # fmt: skip
    add_strictness(parser)
    parser.add_argument(
        "--fail-on-drift",
        action="store_true",
        help="exit with 1 where a trend got worse, or the last checkpoint is worse beyond doubt",
    )
    parser.add_argument("--strict", action="store_true", help="and with 3 where inconclusive")
    parser.add_argument(
        "--all-items", action="store_true", help="read the items of all lines, however many"
    )
    parser.add_argument("--json", action="store_true", help="print everything for a program")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the drift of each series; return the exit code.

    Raises:
        UsageError: arguments that contradict each other.
        CalibrationError: whatever goes wrong with a history, probes or models.
    """
    from pytest_calibration.history.drift import MOST_READ, judge_all

    metric = _metric(options)
    project = Project(options)
    with ExitStack() as stack:
        history, lines, series, left_out = _series(options, project, stack)
        every = options.all_items or options.fail_on_drift
        drifts, families = judge_all(
            history,
            series,
            cache(project.strictness),
            metric=metric,
            most_read=None if every else MOST_READ,
        )
    _draw(options, drifts, metric)
    if options.json:
        found = {"history": str(history.path), **tree(drifts, families, metric, lines.remarks)}
        print(json.dumps({**found, "runs_left_out": left_out}, indent=2, allow_nan=False))
    else:
        _print(drifts, families, metric)
        for remark in (*lines.remarks, *_runs_told(left_out)):
            print(f"{history.path}: {remark}")
    return _code(options, drifts)


def _metric(options: argparse.Namespace) -> str:
    """Return the metric, and check what is wrong with the arguments before any work."""
    from pytest_calibration.metrics import metric_named
    from pytest_calibration.reports.reliability_display import require_matplotlib

    for flag in ("svg", "png"):
        path = getattr(options, flag)
        if path is not None and not path.lower().endswith(f".{flag}"):
            raise UsageError(f"drift: --{flag} writes a file that ends in .{flag}, got {path!r}.")
        if path is not None:
            require_matplotlib()
    if options.strict and not options.fail_on_drift:
        raise UsageError("drift: --strict goes with --fail-on-drift.")
    return metric_named(options.metric or "ece").name


def _series(
    options: argparse.Namespace, project: Project, stack: ExitStack
) -> tuple[History, Lines, list[Series], list[str]]:
    """Read the history, or measure the checkpoints into one.

    Returns:
        The history, its lines, the series that are shown, and the runs that are left out.
    """
    from pytest_calibration.history.file import History
    from pytest_calibration.history.series import all_series

    file = _history_file(options)
    measured: set[str] | None = None
    if file is None:
        scratch = options.history
        if scratch is None:
            scratch = os.path.join(stack.enter_context(TemporaryDirectory()), DEFAULT_FILE)
        file = scratch
        measured = _measure(options, project, History(file))
    history = History(file)
    lines = history.read()
    found = [
        one
        for probe in options.probe or [None]
        for one in all_series(lines, probe=probe, run=options.along)
        if measured is None or measured & {line.model_text for line in one.lines}
    ]
    if not found:
        raise HistoryError(
            f"{history.path}: has no series of checkpoints ({len(lines)} lines); measure one with "
            "pytest --calibration-history, or name checkpoints."
        )
    shown, left_out = _last_runs(found)
    if options.over is not None:
        shown = [one.over(options.over) for one in shown]
    return history, lines, shown, left_out


def _last_runs(found: list[Series]) -> tuple[list[Series], list[str]]:
    """Return the series of the last runs of a long history, and the names of the runs before."""
    runs = list(dict.fromkeys(one.run for one in found))
    many = Counter(one.run for one in found)
    shown = [runs.pop()]
    while runs and sum(many[run] for run in (*shown, runs[-1])) <= MOST_SERIES:
        shown.append(runs.pop())
    return [one for one in found if one.run in shown], runs


def _history_file(options: argparse.Namespace) -> str | None:
    """Return the history that is named; None where checkpoints are."""
    given = options.what
    if not given and not os.path.exists(DEFAULT_FILE):
        raise UsageError(
            f"drift needs a history or checkpoints: there is no {DEFAULT_FILE} here; pytest "
            "--calibration-history=FILE writes one."
        )
    files = [one for one in given if _is_history(one)] if given else [DEFAULT_FILE]
    if not files:
        return None
    if len(files) > 1 or len(given) > 1:
        raise UsageError(
            f"drift: {files[0]} is a history, and stands beside {len(given) - 1} more; name one "
            "history, or checkpoints."
        )
    for name in FOR_CHECKPOINTS:
        if getattr(options, name.replace("-", "_")) is not None:
            raise UsageError(f"drift: --{name} is for checkpoints that are measured.")
    return str(files[0])


def _is_history(text: str) -> bool:
    return os.path.isfile(text) or (text.endswith(".jsonl") and not os.path.isdir(text))


def _measure(options: argparse.Namespace, project: Project, history: History) -> set[str]:
    """Measure the checkpoints that are named, and add them to a history; return their names."""
    from pytest_calibration.history.checkpoints import checkpoint_of
    from pytest_calibration.history.format import content_to_extend
    from pytest_calibration.metrics import metric_named
    from pytest_calibration.models.spec import resolve

    specs = resolve([one for text in options.what for one in _within(text)])
    parent = None
    if options.parent is not None:
        # The name under which it is parsed must not clash with that of a checkpoint.
        [parent] = resolve([options.parent])
    # What cannot be written is told before anything is measured.
    content_to_extend(history.path)
    with progress_shown():
        shown = metric_named(options.metric or "ece").threshold
        measure_checkpoints(project, specs, parent, history, [] if shown is None else [shown])
    return {checkpoint_of(spec.text).text for spec in specs}


def _within(text: str) -> list[str]:
    """Return the checkpoints in a folder; anything else as it is."""
    from pytest_calibration.history.checkpoints import checkpoints

    try:
        return checkpoints(text) if os.path.isdir(text) else [text]
    except UsageError:
        return [text]


def _draw(options: argparse.Namespace, drifts: Sequence[Drift], metric: str) -> None:
    """Write the pictures asked for."""
    paths = [path for path in (options.svg, options.png) if path is not None]
    if not paths:
        return
    from pytest_calibration.cli.drift.drift_views import chart_of
    from pytest_calibration.files import write_atomically
    from pytest_calibration.reports.drift_plot import drift_picture

    chart = chart_of(drifts, metric)
    for path in paths:
        target = Path(path)
        content = drift_picture(chart, target.suffix.lower())
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, content)
        except OSError as problem:
            raise UsageError(f"{path}: cannot be written ({problem.strerror}).") from None


def _print(
    drifts: Sequence[Drift],
    families: Sequence[Family],
    metric: str,
) -> None:
    width = shutil.get_terminal_size((100, 24)).columns
    unicode = (getattr(sys.stdout, "encoding", "") or "").lower().startswith("utf")
    blocks = [drift_lines(one, metric, width, unicode=unicode) for one in drifts]
    blocks.append(family_lines(families, drifts, width))
    texts = filter(None, ("\n".join(block) for block in blocks))
    print("\n\n".join(texts))


def _runs_told(left_out: Sequence[str]) -> Iterator[str]:
    """Yield that earlier runs are not shown."""
    from pytest_calibration.text.numbers import counted
    from pytest_calibration.text.visible import visible

    if left_out:
        names = ", ".join(visible(run) or "models of no run" for run in left_out[-MOST_NAMED:])
        more = ", ..." if len(left_out) > MOST_NAMED else ""
        yield (
            f"{counted(len(left_out), 'earlier run')} not shown ({names}{more}); --run RUN shows "
            "one."
        )


def _code(options: argparse.Namespace, drifts: Sequence[Drift]) -> int:
    """Return the exit code, as tests of these drifts would have it.

    Raises:
        HistoryError: a trend was to be judged and could not.
    """
    from pytest_calibration.gate.decision import State

    if not options.fail_on_drift:
        return 0
    if any(one.state.fails for one in drifts):
        return FAILED
    for one in drifts:
        if one.trend is None and not one.series.siblings:
            raise HistoryError(f"the trend of {one.series.name} cannot be judged: {one.untold}.")
    undecided = any(one.state is State.INCONCLUSIVE for one in drifts)
    return INCONCLUSIVE if undecided and options.strict else 0
