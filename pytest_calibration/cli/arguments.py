"""Types of arguments, and the record behind a file name."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, TypeVar

if TYPE_CHECKING:
    from pytest_calibration.baselines import Record

    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

MOST: Final = 1_000_000_000
Number = TypeVar("Number", int, float)


def whole(least: int, most: int = MOST) -> Callable[[str], int]:
    """Return the type of an argument that is a whole number in a range, its ends included."""
    return lambda text: _within(_read(int, text, "a whole number"), least, most)


def number(least: float, most: float) -> Callable[[str], float]:
    """Return the type of an argument that is a number in a range, its ends included."""
    return lambda text: _within(_read(float, text, "a number"), least, most)


def _read(kind: Callable[[str], Number], text: str, what: str) -> Number:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be {what}, got {text!r}") from None


def _within(value: Number, least: Number, most: Number) -> Number:
    # Written so that NaN lies in no range.
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"must lie between {least:,} and {most:,}, got {value:,}")
    return value


def add_gate_settings(parser: argparse.ArgumentParser) -> None:
    """Add the settings of the gate that every command takes; None where nothing is said."""
    parser.add_argument(
        "--tolerance",
        type=number(0, 0.99),
        metavar="T",
        help="allowed worsening in ECE units (default: the record's or the probe's own, else 0.02)",
    )
    parser.add_argument(
        "--alpha",
        type=number(1e-9, 0.49),
        metavar="A",
        help="one-sided error level of each bound (default: 0.05)",
    )
    parser.add_argument(
        "--max-undetected",
        type=number(0.001, 0.99),
        metavar="U",
        help="a comparison that could miss a worsening of tolerance plus this is inconclusive "
        "(default: 0.05)",
    )


class GateSettings(NamedTuple):
    """How strict the gate is.

    Attributes:
        tolerance: allowed worsening in ECE units.
        alpha: one-sided error level of each bound.
        max_undetected: how much beyond the tolerance may stay invisible.
    """

    tolerance: float
    alpha: float
    max_undetected: float


def gate_settings(
    options: argparse.Namespace, tolerance: float | None = None, alpha: float | None = None
) -> GateSettings:
    """Return the settings given, else those of the record or project, else the gate's own."""
    from pytest_calibration.gate.decision import ALPHA, MAX_UNDETECTED, TOLERANCE

    return GateSettings(
        _first(options.tolerance, tolerance, TOLERANCE),
        _first(options.alpha, alpha, ALPHA),
        _first(options.max_undetected, MAX_UNDETECTED),
    )


def _first(*values: float | None) -> float:
    return next(float(value) for value in values if value is not None)


def record_at(path: str) -> Record:
    """Return the record that a YAML file holds, whatever its probe and name.

    Raises:
        UnreadableBaseline: it is no record, or one that cannot be trusted.
    """
    from pytest_calibration.baselines.record import read_record
    from pytest_calibration.errors import UnreadableBaseline
    from pytest_calibration.strict_yaml import read_mapping

    said = read_mapping(Path(path), UnreadableBaseline)
    return read_record(Path(path), said.get("probe", ""), said.get("name", ""))
