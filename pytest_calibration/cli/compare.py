"""``pytest-calibration compare``: is the second worse calibrated than the first?"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_calibration.cli.arguments import (
    add_file_choices,
    add_strictness,
    add_thresholds,
    file_choices,
    is_file,
    is_report,
    pair_at,
    tolerance_at,
)
from pytest_calibration.cli.output import FAILED, INCONCLUSIVE, verdict_lines
from pytest_calibration.cli.project import Project, add_asking, progress_shown
from pytest_calibration.errors import UsageError

if TYPE_CHECKING:
    from pytest_calibration.cli.arguments import Subparsers
    from pytest_calibration.gate.verdict import Verdict
    from pytest_calibration.predictions import Predictions

SIDES: Final = (
    "a model (a directory or a hub id), a stored record (.yaml), predictions (.csv, .parquet, "
    ".jsonl) or a dump"
)
FOR_MODELS: Final = ("probe", "limit", "cache-dir")


def add(subparsers: Subparsers) -> None:
    """Add the parser of this command."""
    parser = subparsers.add_parser(
        "compare",
        help="is the second of two models, records or dumps worse calibrated than the first?",
        description="Compare two models, or the items of two files, as a test does: is AFTER "
        "worse calibrated, or less accurate, than BEFORE? Exits with 1 where it is.",
        allow_abbrev=False,
    )
    parser.add_argument("before", nargs="?", metavar="BEFORE", help=SIDES)
    parser.add_argument("after", nargs="?", metavar="AFTER", help="the same, compared with it")
    add_asking(parser)
    add_strictness(parser)
    add_thresholds(parser)
    add_file_choices(parser)
    parser.add_argument("--strict", action="store_true", help="exit with 3 where inconclusive")
    parser.add_argument("-v", "--verbose", action="store_true", help="print all numbers")
    parser.add_argument("--json", action="store_true", help="print everything for a program")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print a verdict for each probe; return the exit code of the most serious one.

    Raises:
        UsageError: a model beside a file, or files of different probes.
        CalibrationError: whatever goes wrong with files, probes or models.
    """
    if options.after is None:
        raise UsageError(f"compare needs BEFORE and AFTER, each {SIDES}.")
    with progress_shown():
        verdicts = list(_verdicts(options))
    if options.json:
        _print_json(options, verdicts)
    else:
        width = shutil.get_terminal_size((100, 24)).columns
        for number, verdict in enumerate(verdicts):
            print("\n" * bool(number) + "\n".join(verdict_lines(verdict, width, options.verbose)))
    if any(verdict.state.fails for verdict in verdicts):
        return FAILED
    undecided = any(not verdict.state.decides for verdict in verdicts)
    return INCONCLUSIVE if undecided and options.strict else 0


def _verdicts(options: argparse.Namespace) -> Iterator[Verdict]:
    """Yield the verdict of each probe, then those at its operating points."""
    from pytest_calibration.gate.decision import State
    from pytest_calibration.gate.verdict import compare, compare_at_points
    from pytest_calibration.text.visible import visible

    project = Project(options)
    sides = (options.before, options.after)
    asked = [not is_file(side) for side in sides]
    if all(asked) and file_choices(options):
        raise UsageError("compare: --column, --task and their like go with files, not with models.")
    if any(asked) != all(asked):
        model, file = sides if asked[0] else sides[::-1]
        raise UsageError(
            f"compare: {visible(model)} is a model and {visible(file)} a file; two models are "
            "compared, or two files (records or dumps). A model's items are written by pytest "
            f"--calibration-model={visible(model)} --calibration-dump=DIR."
        )
    pairs = _asked(options, project) if asked[0] else _read(options)
    names = _told_apart(*sides)
    for before, after, record in pairs:
        strict, points = project.strictness(after.probe, record), project.points(after.probe)
        verdict = compare(after, before, **strict.arguments(), reference=names[0])
        yield verdict
        if verdict.state is not State.NOT_COMPARABLE:
            yield from compare_at_points(after, before, points, strict, reference=names[0])


def _told_apart(before: str, after: str) -> tuple[str, str]:
    """Return the shortest ends of two paths that differ."""
    one, other = Path(before).parts, Path(after).parts
    for length in range(1, max(len(one), len(other)) + 1):
        names = "/".join(one[-length:]), "/".join(other[-length:])
        if names[0] != names[1]:
            return names
    return before, after


def _read(options: argparse.Namespace) -> Iterator[tuple[Predictions, Predictions, float | None]]:
    """Yield the items of two files, and the tolerance of the first if it has one."""
    for name in FOR_MODELS:
        if getattr(options, name.replace("-", "_")) is not None:
            raise UsageError(f"compare: --{name} is for two models, not for files.")
    for side in (options.before, options.after):
        if is_report(side, options):
            raise UsageError(
                f"{side}: a report holds no items to compare; name records or dumps, or see what "
                "moved between two reports with pytest-calibration show NEW --against OLD."
            )
    before, after = pair_at(options.before, options.after, file_choices(options))
    if before.probe != after.probe:
        raise UsageError(
            f"compare: {options.before} is of the probe {before.probe!r}, {options.after} of "
            f"{after.probe!r}; name two files of one probe."
        )
    yield before, after, tolerance_at(options.before)


def _asked(
    options: argparse.Namespace, project: Project
) -> Iterator[tuple[Predictions, Predictions, float | None]]:
    """Ask both models every probe; yield their answers."""
    from pytest_calibration.models.spec import resolve

    specs = resolve([options.before, options.after])
    if len(specs) != 2:
        raise UsageError(
            f"compare: {options.before} and {options.after} name {len(specs)} model"
            f"{'s' * (len(specs) != 1)}; name two. Of more, pytest-calibration drift tells."
        )
    before, after = project.parent(specs[0]), project.model(specs[1])
    asker = project.asker(before)
    answers = [asker.ask(after, name) for name in project.names]
    after.release()
    for answer in answers:
        first = asker.parent_predictions(answer.probe)
        if first is not None:
            yield first, answer, None


# --- output --------------------------------------------------------------------------------------


def _print_json(options: argparse.Namespace, verdicts: list[Verdict]) -> None:
    import json

    from pytest_calibration.reports.model import plain, result_of

    results = [replace(result_of(v, detailed=False), detail=None) for v in verdicts]
    tree: dict[str, Any] = {"before": options.before, "after": options.after}
    tree["verdicts"] = plain(results)
    print(json.dumps(tree, indent=2, allow_nan=False))
