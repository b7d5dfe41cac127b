"""``pytest-calibration plan``: what a comparison will be able to say, before any model is run."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pytest_calibration.cli.arguments import (
    add_gate_settings,
    gate_settings,
    number,
    record_at,
    whole,
)
from pytest_calibration.cli.output import as_json, at_most, percent, table
from pytest_calibration.errors import UsageError

if TYPE_CHECKING:
    from pytest_calibration.cli.arguments import GateSettings, Subparsers
    from pytest_calibration.gate.planning import Plan

SIZES: Final = (200, 500, 1000, 2000, 5000)


def add(subparsers: Subparsers) -> None:
    """Add the parser of this command."""
    parser = subparsers.add_parser(
        "plan",
        help="say what a comparison on so many items will see",
        description="Say what a comparison on so many items will be able to see, how often it "
        "cries wolf, and which limit can be tested, before any model is run.",
        allow_abbrev=False,
    )
    parser.add_argument("--n", type=whole(2), metavar="N", help="number of items")
    parser.add_argument(
        "--groups", type=whole(2), metavar="G", help="number of groups that the items come in"
    )
    add_gate_settings(parser)
    parser.add_argument(
        "--changed",
        type=number(1e-6, 1),
        metavar="Q",
        help="share of the items that only one of the two runs answers rightly (default: 0.15)",
    )
    parser.add_argument(
        "--limit", type=number(1e-6, 1), metavar="X", help="an ECE limit: can it be tested?"
    )
    parser.add_argument(
        "--baseline",
        metavar="FILE",
        help="a stored record: its own numbers instead of typical ones",
    )
    parser.add_argument("--json", action="store_true", help="print numbers for a program")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the plan.

    Raises:
        UsageError: arguments that contradict each other.
        MetricError: a value outside its range.
        UnreadableBaseline: the file of ``--baseline`` holds no record.
    """
    basis = _recorded(options) if options.baseline is not None else _typical(options)
    asked = basis.plan(basis.n)
    rows = [basis.plan(n) for n in sorted({*SIZES, basis.n})]
    if options.json:
        print(as_json(_tree(basis, asked, rows, options.limit)))
    else:
        print("\n".join(_lines(basis, asked, rows, options.limit)))
    return 0


@dataclass(frozen=True)
class Basis:
    """What is known of the items that a comparison will be made on.

    Attributes:
        n: number of items.
        unit: what an item is.
        units: number of independent units among them.
        grouped: whether those are groups.
        settings: how strict the gate is.
        changed: share of the items whose outcome changes; above 1 where units are so unequal that
            they count for fewer.
        floor: mean ECE of a calibrated model, times the root of the number of units; None for the
            typical one.
        high_over_floor: what such a model stays below 95 % of the time, over that mean.
        remarks: where this comes from.
    """

    n: int
    unit: str
    units: int
    grouped: bool
    settings: GateSettings
    changed: float
    floor: float | None
    high_over_floor: float
    remarks: tuple[str, ...]

    def plan(self, n: int) -> Plan:
        """Plan a comparison on n items that are otherwise like these."""
        from pytest_calibration.gate.planning import plan

        units = max(2, round(self.units * n / self.n))
        found = plan(
            n,
            groups=max(2, math.floor(units / max(1.0, self.changed))),
            changed=min(1.0, self.changed),
            tolerance=self.settings.tolerance,
            alpha=self.settings.alpha,
            max_undetected=self.settings.max_undetected,
        )
        floor = found.noise_floor
        if self.floor is not None:
            floor = min(1.0, self.floor / math.sqrt(units))
        return replace(found, units=units, noise_floor=floor)

    def items_to_test(self, limit: float, at: Plan) -> int:
        """Return from how many items on a calibrated model stays below the limit 95 % of the time.

        As ``Measurement.items_to_test``.
        """
        return math.ceil(at.n * (self.high_over_floor * at.noise_floor / limit) ** 2)


def _typical(options: argparse.Namespace) -> Basis:
    if options.n is None:
        raise UsageError("plan needs --n, the number of items, or --baseline, a stored record.")
    from pytest_calibration.gate.planning import CHANGED, HIGH_OVER_FLOOR

    settings = gate_settings(options)
    changed = CHANGED if options.changed is None else options.changed
    return Basis(
        n=options.n,
        unit="item",
        units=options.n if options.groups is None else options.groups,
        grouped=options.groups is not None,
        settings=settings,
        changed=changed,
        floor=None,
        high_over_floor=HIGH_OVER_FLOOR,
        remarks=(
            "typical numbers: four-way questions, "
            f"{percent(changed)} of the answers right in one of the two runs only",
        ),
    )


def _recorded(options: argparse.Namespace) -> Basis:
    """Take the numbers of a record, the candidate being as unlike it as can be."""
    for name in ("groups", "changed"):
        if getattr(options, name) is not None:
            raise UsageError(f"plan: --{name} together with --baseline: the record says it.")
    from pytest_calibration.gate.planning import unpaired_visible
    from pytest_calibration.gate.power import POWER
    from pytest_calibration.measurement import measure
    from pytest_calibration.uncertainty.quantiles import NORMAL, upper_quantile

    record = record_at(options.baseline)
    predictions, settings = record.predictions, gate_settings(options, record.tolerance)
    units, tolerance = predictions.n_clusters, settings.tolerance
    if units < 2:
        raise UsageError(f"{options.baseline}: holds one independent unit; a plan needs 2.")
    floor = measure(predictions)
    worst = unpaired_visible(predictions, tolerance, settings.alpha)
    reach = upper_quantile(settings.alpha, units) + NORMAL.inv_cdf(POWER)
    basis = Basis(
        n=predictions.n,
        unit=predictions.unit,
        units=units,
        grouped=predictions.groups is not None,
        settings=settings,
        # The share of changed outcomes that has the standard error of two independent runs.
        changed=max(1e-6, units * ((worst - tolerance) / reach) ** 2),
        floor=floor.noise_floor * math.sqrt(units),
        high_over_floor=floor.noise_floor_high / (floor.noise_floor or 1.0),
        remarks=(
            f"from {options.baseline} (probe {record.probe}, name {record.name})",
            "worst case: a candidate's errors have nothing to do with the recorded ones; pairing "
            "sees more",
        ),
    )
    n = basis.n if options.n is None else options.n
    return replace(basis, n=n, units=max(2, round(units * n / basis.n)))


# --- output --------------------------------------------------------------------------------------


def _worsenings(at: Plan) -> list[float]:
    from pytest_calibration.gate.aa import EXCESSES

    asked = (round(at.tolerance + excess, 9) for excess in EXCESSES)
    return [worsening for worsening in asked if worsening < 1]


def _too_few(at: Plan) -> bool:
    from pytest_calibration.gate.decision import MIN_UNITS

    return at.units < MIN_UNITS


def _lines(basis: Basis, at: Plan, rows: list[Plan], limit: float | None) -> Iterator[str]:
    unit, missed = f"{basis.unit}s", f"{at.tolerance + at.max_undetected:g}"
    groups = f" in {at.units:,} groups" if basis.grouped else ""
    yield f"a comparison on {at.n:,} {unit}{groups}, tolerance {at.tolerance:g}, alpha {at.alpha:g}"
    for remark in basis.remarks:
        yield f"  {remark}"
    yield f"  smallest worsening seen with 80 % power: {at.smallest_visible:.3f}"
    few = "groups" if basis.grouped else unit
    if _too_few(at):
        yield (
            f"  INCONCLUSIVE, whatever comes out: {at.units} {few} are too few to compare; "
            f"{at.n_needed:,} {unit} decide"
        )
    else:
        seen = f"a worsening of {missed} must be seen with 80 % power; {at.n_needed:,} {unit} do"
        yield f"  {'it decides' if at.decides else 'INCONCLUSIVE unless it fails'}: {seen}"
        power = (f"of {w:g} in {percent(at.power(w))}" for w in _worsenings(at))
        yield f"  a true worsening fails: {', '.join(power)} of the runs"
        yield f"  false alarms: at most {at_most(at.false_alarm_rate)} of unchanged models fail"
    yield f"  noise floor: a perfectly calibrated model shows an ECE of about {at.noise_floor:.3f}"
    if limit is not None:
        needed = basis.items_to_test(limit, at)
        can = "can be tested" if at.n >= needed else "CANNOT be tested"
        yield (
            f"  limit {limit:g} {can}: from {needed:,} {unit} on, a perfectly calibrated model "
            "passes it 95 % of the time"
        )
    yield ""
    yield "  smallest worsening seen; how often a worsening fails; false alarms at most; floor:"
    yield from table(_table(basis, rows))


def _table(basis: Basis, rows: list[Plan]) -> Iterator[list[str]]:
    groups = ["groups"] if basis.grouped else []
    worsenings = _worsenings(rows[0])
    heads = (f"{w:g}" for w in worsenings)
    yield ["n", *groups, "smallest", "decides", *heads, "alarms", "floor"]
    for at in rows:
        rates = [*(percent(at.power(w)) for w in worsenings), at_most(at.false_alarm_rate)]
        yield [
            f"{at.n:,}",
            *([f"{at.units:,}"] if groups else []),
            f"{at.smallest_visible:.3f}",
            "yes" if at.decides else "no",
            *("-" if _too_few(at) else rate for rate in rates),
            f"{at.noise_floor:.3f}",
        ]


def _tree(basis: Basis, asked: Plan, rows: list[Plan], limit: float | None) -> dict[str, Any]:
    def of(at: Plan) -> dict[str, Any]:
        out: dict[str, Any] = {
            "n": at.n,
            "units": at.units,
            "smallest_visible": at.smallest_visible,
            "decides": at.decides,
            "n_needed": at.n_needed,
            "noise_floor": at.noise_floor,
        }
        if not _too_few(at):
            out["false_alarm_rate"] = at.false_alarm_rate
            out["power"] = {f"{w:g}": at.power(w) for w in _worsenings(at)}
        if limit is not None:
            needed = basis.items_to_test(limit, at)
            out["limit"] = {"value": limit, "testable": at.n >= needed, "n_needed": needed}
        return out

    settings = ("tolerance", "alpha", "max_undetected")
    return {
        **{name: getattr(asked, name) for name in settings},
        "changed": basis.changed,
        **of(asked),
        "table": {str(at.n): of(at) for at in rows},
    }
