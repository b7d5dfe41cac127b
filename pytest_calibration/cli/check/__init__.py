"""``pytest-calibration check``: predictions in a file, judged as a test judges them.

The assertions of the tests decide; this command takes the place of the test session behind them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_calibration.cli.arguments import (
    ENDINGS,
    add_arguments,
    add_strictness,
    add_thresholds,
    is_file,
    number,
)
from pytest_calibration.cli.check.check_inputs import add_reading, inputs
from pytest_calibration.cli.check.check_session import FOLDER, Session
from pytest_calibration.cli.output import FAILED, INCONCLUSIVE
from pytest_calibration.cli.project import CONFIG
from pytest_calibration.errors import UsageError, suggestion

if TYPE_CHECKING:
    from pytest_calibration.cli.arguments import Subparsers

FILES: Final = "CSV, Parquet, JSON lines, samples of lm-eval (also their folder), or a dump"


def add(subparsers: Subparsers) -> None:
    """Add the parser of this command."""
    parser = subparsers.add_parser(
        "check",
        help="judge predictions in a file as a test does; no model is run",
        description="Judge predictions in a file as a test does: against a stored baseline, "
        "another file, or a limit. Exits with 1 where calibration got worse.",
        allow_abbrev=False,
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help=FILES)
    add_arguments(
        parser,
        ("--baseline", str, "NAME|FILE", "name of a stored baseline, or a file: predictions, or a "
         "stored record (.yaml) (default: the stored baseline of the probe)"),
        ("--baseline-dir", str, "DIR", f"folder of stored baselines (default: {FOLDER})"),
        ("--max-ece", number(0, 1), "L", "the first ECE that fails"),
        ("--min-accuracy", number(0, 1), "A", "the smallest accuracy that passes"),
        ("--accept", _reason, "REASON", "replace the stored baseline, with this reason"),
        ("--anchor", _reason, "REASON", "count drift from what is then stored"),
        ("--history", str, "FILE", "add what was measured to a history, which drift reads"),
        ("--config", str, "FILE", f"configuration with tolerances (default: {CONFIG})"),
        ("--drift-tolerance", number(0, 1), "T", "allowed worsening since the anchor (default: "
         "twice the tolerance)"),
    )  # fmt: skip
    add_reading(parser)
    parser.add_argument(
        "--record", action="store_true", help="store a baseline where there is none"
    )
    add_strictness(parser)
    add_thresholds(parser)
    parser.add_argument(
        "--report",
        action="append",
        type=_report,
        metavar="FILE",
        help="write a report: .html, .md, .json, .txt (OpenMetrics), .png, .svg (repeatable)",
    )
    parser.add_argument(
        "--item-text", action="store_true", help="with the texts of the items in reports"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 3 where inconclusive")
    parser.add_argument("-v", "--verbose", action="store_true", help="print all numbers")
    parser.add_argument("--json", action="store_true", help="print everything for a program")
    parser.set_defaults(run=run)


def _reason(text: str) -> str:
    from pytest_calibration.baselines.store import is_reason

    # A byte that is no UTF-8 came as half a surrogate pair, which no file takes.
    reason = text.encode("utf-8", "backslashreplace").decode().strip()
    if not is_reason(reason):
        raise argparse.ArgumentTypeError(
            f"needs a reason that a reviewer can read, got {reason!r}; write why the new numbers "
            'are right, such as "DPO v3, accuracy +4, signed off"'
        )
    return reason


def _report(text: str) -> Path:
    from pytest_calibration.reports.writing import ENDINGS as REPORTS

    if Path(text).suffix.lower() not in REPORTS:
        raise argparse.ArgumentTypeError(
            f"{text!r} must end in one of {', '.join(REPORTS)}, which says what is written"
        )
    return Path(text)


def run(options: argparse.Namespace) -> int:
    """Judge each set of predictions; return the exit code of the most serious verdict.

    Raises:
        UsageError: arguments that contradict each other.
        CalibrationError: files or baselines that cannot be used.
    """
    from pytest_calibration.sink import SINK

    _check_usage(options)
    session = Session(options)
    before = SINK.set(session)
    try:
        # All files are read before anything is judged.
        for predictions, baseline in list(inputs(options, session.baselines)):
            session.judge(predictions, baseline)
    finally:
        SINK.set(before)
    session.write_records()
    session.show()
    session.write_history()
    session.write_reports()
    if any(result.fails for result in session.results):
        return FAILED
    undecided = any(not result.state.decides for result in session.results)
    return INCONCLUSIVE if undecided and options.strict else 0


def _check_name(options: argparse.Namespace) -> None:
    """Refuse what is written as a file and is neither one nor a stored baseline."""
    name, folder = Path(options.baseline), Path(options.baseline_dir or FOLDER)
    as_file = name.name != options.baseline or name.suffix[1:].isalpha()
    if as_file and not (folder / name).is_dir():
        beside = name.parent.iterdir() if name.parent.is_dir() else ()
        near = suggestion(name.name, [one.name for one in beside if one.suffix in ENDINGS])
        raise UsageError(
            f"check: --baseline {options.baseline} is neither a file{near} nor the name of a "
            f"baseline that is stored in {folder}."
        )


def _check_usage(options: argparse.Namespace) -> None:
    if options.file is None:
        raise UsageError(f"check needs a file: {FILES}.")
    if options.baseline == "":
        raise UsageError("check: --baseline needs the name of a stored baseline, or a file.")
    if options.baseline is None:
        return
    if not is_file(options.baseline):
        _check_name(options)
        return
    for flag in ("record", "accept", "anchor", "baseline_dir"):
        if getattr(options, flag):
            raise UsageError(
                f"check: --{flag.replace('_', '-')} is about stored baselines, and --baseline "
                f"names the file {options.baseline}; name a stored baseline, or leave it out."
            )
