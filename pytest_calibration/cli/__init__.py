"""The command ``pytest-calibration``, for use outside a test run.

A subcommand is a module of this package, named as it is typed, with two functions::

    def add(subparsers: Subparsers) -> None:
        parser = subparsers.add_parser("plan", help=…)     # imports nothing heavy
        parser.set_defaults(run=run)

    def run(options: argparse.Namespace) -> int:           # prints; returns the exit code

and its name in ``COMMANDS``. An error that a user can cause is raised as a ``CalibrationError``,
and printed here in one line.

====  =============================================================================
code  meaning
====  =============================================================================
0     passed, recorded, or printed what was asked for
1     regressed, above a limit, no baseline, not comparable
2     an input that cannot be read, or wrong usage
3     inconclusive, under ``--strict``
130   interrupted
141   the reader of the output has gone
====  =============================================================================
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NoReturn

from pytest_calibration.errors import CalibrationError, UsageError
from pytest_calibration.version import __version__

PROGRAM: Final = "pytest-calibration"
COMMANDS: Final = (
    *("init", "check", "plan", "aa", "noise", "show", "compare", "drift", "threshold"),
    *("recalibrate", "pin"),
)
USAGE: Final = 2
INTERRUPTED: Final = 130
UNREAD: Final = 141


class Parser(argparse.ArgumentParser):
    """A parser whose errors are printed like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with the message of argparse."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    top = Parser(
        prog=PROGRAM,
        description="Calibration of language models, outside a test run.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    subparsers = top.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for name in COMMANDS:
        import_module(f"{__name__}.{name}").add(subparsers)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code.

    Args:
        argv: the arguments; by default those of this process.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A probe may be called anything, and a terminal may know only ASCII.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            options = parser().parse_args(argv)
            code: int = options.run(options)
        except SystemExit as end:  # --help and --version have printed what they should
            code = end.code if isinstance(end.code, int) else 0
        if sys.stdout is not None:
            sys.stdout.flush()
    except CalibrationError as problem:
        print(f"{PROGRAM}: error: {problem}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes once more at its end, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except OSError as problem:
        print(f"{PROGRAM}: error: cannot write the output ({problem.strerror}).", file=sys.stderr)
        # What is left in the buffer cannot be written either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return USAGE
    return code
