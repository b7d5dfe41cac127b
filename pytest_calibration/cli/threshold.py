"""``pytest-calibration threshold``: from which confidence on are answers right often enough?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_calibration.cli.arguments import RECORDS, add_arguments, number, record_at
from pytest_calibration.cli.check.check_inputs import add_reading, read
from pytest_calibration.cli.output import FAILED, as_json
from pytest_calibration.errors import UsageError

if TYPE_CHECKING:
    from pytest_calibration.cli.arguments import Subparsers
    from pytest_calibration.gate.chosen_threshold import Answers, ChosenThreshold
    from pytest_calibration.predictions import Predictions

FILES: Final = (
    "CSV, Parquet, JSON lines, samples of lm-eval (also their folder), a dump or a stored record"
)
PRECISION: Final = 0.95
ALPHA: Final = 0.05


def add(subparsers: Subparsers) -> None:
    """Add the parser of this command."""
    parser = subparsers.add_parser(
        "threshold",
        help="the smallest confidence from which on answers hold a precision",
        description="Choose the smallest threshold from which on answers are right at least so "
        "often, with a bound that counts that it was chosen on these items. Exits with 1 where no "
        "threshold is shown to.",
        allow_abbrev=False,
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help=FILES)
    add_arguments(
        parser,
        ("--precision", number(1e-6, 1 - 1e-6), "P", "accuracy that the answers from the threshold "
         f"on must have (default: {PRECISION})"),
        ("--alpha", number(1e-6, 0.5 - 1e-6), "A", "how often the true precision may be lower "
         f"(default: {ALPHA})"),
    )  # fmt: skip
    add_reading(parser)
    parser.add_argument("--json", action="store_true", help="print numbers for a program")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print a threshold for each set of predictions; return 1 where one has none.

    Raises:
        UsageError: no file is named.
        CalibrationError: it cannot be read.
    """
    from pytest_calibration.gate.chosen_threshold import choose_threshold

    if options.file is None:
        raise UsageError(f"threshold needs FILE: {FILES}.")
    if Path(options.file).suffix.lower() in RECORDS:
        sets = [record_at(options.file).predictions]
    else:
        sets = read(options, options.file, options.probe)
    wanted = PRECISION if options.precision is None else options.precision
    alpha = ALPHA if options.alpha is None else options.alpha
    found = [choose_threshold(predictions, wanted, alpha=alpha) for predictions in sets]
    if options.json:
        pairs = zip(sets, found, strict=True)
        print(as_json({predictions.probe: _tree(one) for predictions, one in pairs}))
    else:
        for one, predictions in zip(found, sets, strict=True):
            print("\n".join(_lines(one, predictions)))
    return 0 if all(one.chosen is not None for one in found) else FAILED


def _lines(found: ChosenThreshold, predictions: Predictions) -> Iterator[str]:
    from pytest_calibration.text.numbers import counted
    from pytest_calibration.text.visible import visible

    unit, sure = predictions.unit, f"{100 * (1 - found.alpha):g} % confidence"
    groups = f" in {found.units:,} groups" if found.units < found.n else ""
    on = f"{visible(predictions.probe)}, {counted(found.n, unit)}{groups}"
    if found.chosen is None:
        yield f"no threshold is shown to hold a precision of {found.wanted:g}: {on}"
        yield f"  nearest to it: {_answers(found.best)}"
        if found.n_needed:
            yield f"  about {counted(found.n_needed, unit)} like these would show one, with {sure}"
        else:
            yield "  no measured precision is clearly high enough: more items alone may show none"
        return
    yield f"threshold {found.chosen.threshold:.9g} holds a precision of {found.wanted:g}: {on}"
    yield f"  measured: {_answers(found.chosen)}"
    yield (
        f"  precision is at least {found.wanted:g} with {sure}, counting that the threshold was "
        "chosen on these items"
    )
    naive = found.as_measured
    if naive is not None and naive.threshold < found.chosen.threshold:
        yield (
            f"  not shown to hold it: {_answers(naive)}; a threshold that just holds as measured "
            "has a lower true precision about half of the time"
        )


def _answers(one: Answers) -> str:
    """Name a threshold with its numbers."""
    return (
        f"from {one.threshold:.9g} on, {one.n:,} answers (coverage {one.coverage:.3f}), "
        f"{one.wrong:,} wrong, precision {one.precision:.3f}"
    )


def _tree(found: ChosenThreshold) -> dict[str, Any]:
    def numbers(one: Answers | None) -> dict[str, Any] | None:
        return None if one is None else vars(one)

    chosen = found.chosen
    return {
        "precision": found.wanted,
        "alpha": found.alpha,
        "n": found.n,
        "units": found.units,
        "threshold": None if chosen is None else chosen.threshold,
        "chosen": numbers(chosen),
        "as_measured": numbers(found.as_measured),
        "best": numbers(found.best),
        "n_needed": found.n_needed or None,
    }
