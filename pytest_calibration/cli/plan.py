"""``pytest-calibration plan``: what a comparison will be able to say, before any model is run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pytest_calibration.cli.arguments import (
    add_arguments,
    add_strictness,
    number,
    record_at,
    strictness,
    threshold,
    whole,
)
from pytest_calibration.cli.output import as_json, at_most, percent, table
from pytest_calibration.errors import UsageError

if TYPE_CHECKING:
    from pytest_calibration.cli.arguments import Subparsers
    from pytest_calibration.gate.planning import Plan, PointPlan
    from pytest_calibration.gate.strictness import Strictness

SIZES: Final = (200, 500, 1000, 2000, 5000)
# Shares of changed answers for which the number of items that decides is printed.
SHARES: Final = (0.05, 0.15, 0.3)


def add(subparsers: Subparsers) -> None:
    """Add the parser of this command."""
    parser = subparsers.add_parser(
        "plan",
        help="say what a comparison on so many items will see",
        description="Say what a comparison on so many items will be able to detect, how often it "
        "raises a false alarm, and which limit can be tested, before any model is run.",
        allow_abbrev=False,
    )
    add_arguments(
        parser,
        ("--n", whole(2), "N", "number of items"),
        ("--groups", whole(2), "G", "number of groups that the items come in"),
        ("--changed", number(1e-6, 1), "Q", "share of the items that only one of the two runs "
         "answers rightly (default: 0.15)"),
        ("--limit", number(1e-6, 1), "X", "an ECE limit: can it be tested?"),
        ("--baseline", str, "FILE", "a stored record: its own numbers instead of typical ones"),
        ("--threshold", threshold, "X", "plan a comparison at an operating point: of the answers "
         "with at least this confidence"),
        ("--coverage", number(1e-6, 1), "C", "with --threshold: the share of such answers "
         "(default: 0.3, or the record's)"),
        ("--precision", number(1e-6, 1), "P", "with --threshold: their accuracy (default: half-way "
         "from the threshold to 1, or the record's)"),
    )  # fmt: skip
    add_strictness(parser)
    parser.add_argument("--json", action="store_true", help="print numbers for a program")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the plan.

    Raises:
        UsageError: arguments that contradict each other.
        MetricError: a value outside its range.
        UnreadableBaseline: the file of ``--baseline`` holds no record.
    """
    if options.threshold is not None:
        return _at_threshold(options)
    for name in ("coverage", "precision"):
        if getattr(options, name) is not None:
            raise UsageError(f"plan: --{name} goes with --threshold.")
    basis = _recorded(options) if options.baseline is not None else _typical(options)
    plan = basis.plan(basis.n)
    rows = [basis.plan(n) for n in sorted({*SIZES, basis.n})]
    if options.json:
        print(as_json(_tree(plan, rows, options.limit)))
    else:
        print("\n".join(_lines(basis, plan, rows, options.limit)))
    return 0


class Basis(NamedTuple):
    """What a plan is made of.

    Attributes:
        n: number of items.
        unit: what an item is.
        grouped: whether the items come in groups.
        plan: plans a comparison on so many items.
        remarks: where its numbers come from.
        dependence: what the number of items that decides depends on.
    """

    n: int
    unit: str
    grouped: bool
    plan: Callable[[int], Plan]
    remarks: tuple[str, ...]
    dependence: tuple[str, ...] = ()


def _typical(options: argparse.Namespace) -> Basis:
    if options.n is None:
        raise UsageError("plan needs --n, the number of items, or --baseline, a stored record.")
    from pytest_calibration.gate.planning import CHANGED, plan

    settings, n = strictness(options).arguments(), options.n
    changed = CHANGED if options.changed is None else options.changed
    groups = n if options.groups is None else options.groups

    def plan_on(items: int) -> Plan:
        some = max(2, round(groups * items / n))
        return plan(items, groups=some, changed=changed, **settings)

    share = f"{percent(changed)} of the answers right in one of the two runs only"
    remarks = (f"typical numbers: four-way questions, {share}",)
    dependence: tuple[str, ...] = (
        "pytest-calibration aa FILE measures it on predictions of your own",
    )
    if options.changed is None:
        needed = [plan(n, groups=groups, changed=share, **settings).n_needed for share in SHARES]
        dependence = (_by_share(needed), *dependence)
    return Basis(n, "item", options.groups is not None, plan_on, remarks, dependence)


def _by_share(needed: Sequence[int]) -> str:
    rows = zip(needed, SHARES, strict=True)
    shares = ", ".join(f"{n:,} where {percent(share)} do" for n, share in rows)
    return f"that depends on how many answers change: {shares}"


def _recorded(options: argparse.Namespace) -> Basis:
    """Take the numbers of a record."""
    if options.groups is not None:
        raise UsageError("plan: --groups together with --baseline: the record says it.")
    from pytest_calibration.gate.planning import plans_like

    record = record_at(options.baseline)
    predictions = record.predictions
    if predictions.n_clusters < 2:
        raise UsageError(f"{options.baseline}: holds one independent unit; a plan needs 2.")
    n, changed = predictions.n if options.n is None else options.n, options.changed
    strict = strictness(options, record.tolerance)
    share = "worst case: a candidate's errors have nothing to do with the recorded ones"
    dependence: tuple[str, ...] = ()
    if changed is not None:
        share = f"{percent(changed)} of the answers right in one of the two runs only"
    else:
        needed = [plans_like(predictions, n, strict, share)(n).n_needed for share in SHARES]
        dependence = (_by_share(needed),)
    return Basis(
        n,
        predictions.unit,
        predictions.groups is not None,
        plans_like(predictions, n, strict, changed),
        (f"from {options.baseline} (probe {record.probe}, name {record.name})", share),
        dependence,
    )


def _at_threshold(options: argparse.Namespace) -> int:
    """Print the plan of a comparison at an operating point."""
    from pytest_calibration.gate.planning import CHANGED, COVERED, plan_at, plan_at_like
    from pytest_calibration.gate.strictness import DEFAULT, OperatingPoint

    if options.limit is not None:
        raise UsageError("plan: --limit is about the ECE, and does not go with --threshold.")
    tolerance = DEFAULT.tolerance if options.tolerance is None else options.tolerance
    point, strict = OperatingPoint(options.threshold, tolerance), strictness(options)
    changed = CHANGED if options.changed is None else options.changed
    n, groups = options.n, options.groups
    if options.baseline is not None:
        for name in ("groups", "coverage", "precision"):
            if getattr(options, name) is not None:
                raise UsageError(f"plan: --{name} together with --baseline: the record says it.")
        record = record_at(options.baseline)
        predictions = record.predictions
        n, grouped = n or predictions.n, predictions.n_clusters < predictions.n
        plan_on = plan_at_like(predictions, point, changed, strict.alpha, strict.max_undetected)
        source = f"from {options.baseline} (probe {record.probe}, name {record.name})"
    else:
        if n is None:
            raise UsageError("plan needs --n, the number of items, or --baseline, a record.")
        grouped = groups is not None
        covered = COVERED if options.coverage is None else options.coverage
        source = "assumed, where not given; --baseline=FILE takes them from a record"

        def plan_on(items: int) -> PointPlan:
            some = max(2, round((groups or n) * items / n))
            return plan_at(
                items, point, coverage=covered, precision=options.precision, changed=changed,
                # As if all items of a group were alike, which is the worst case.
                groups=some, effect=items / some, alpha=strict.alpha,
                max_undetected=strict.max_undetected,
            )  # fmt: skip

    rows = [plan_on(items) for items in sorted({*SIZES, n})]
    if options.json:
        print(as_json(_point_tree(plan_on(n), rows)))
    else:
        print("\n".join(_point_lines(plan_on(n), rows, source, strict, grouped)))
    return 0


# --- output --------------------------------------------------------------------------------------


def _worsenings(plan: Plan) -> list[float]:
    from pytest_calibration.gate.planning import worsenings

    return worsenings(plan.strictness.tolerance)


def _too_few(plan: Plan) -> bool:
    from pytest_calibration.gate.decision import MIN_UNITS

    return plan.units < MIN_UNITS


def _lines(basis: Basis, plan: Plan, rows: list[Plan], limit: float | None) -> Iterator[str]:
    unit, strict = f"{basis.unit}s", plan.strictness
    groups = f" in {plan.units:,} groups" if basis.grouped else ""
    yield (
        f"a comparison on {plan.n:,} {unit}{groups}, tolerance {strict.tolerance:g}, "
        f"alpha {strict.alpha:g}"
    )
    yield from (f"  {remark}" for remark in basis.remarks)
    yield f"  smallest shift or scaling seen with 80 % power: {plan.smallest_visible:.3f}"
    if _too_few(plan):
        yield (
            f"  INCONCLUSIVE, whatever comes out: {plan.units} "
            f"{'groups' if basis.grouped else unit} are too few to compare; "
            f"{plan.n_needed:,} {unit} decide"
        )
    else:
        must = f"{strict.tolerance + strict.max_undetected:g} must be seen with 80 % power"
        outcome = "it decides" if plan.decides else "INCONCLUSIVE unless it fails"
        yield f"  {outcome}: a worsening of {must}; {plan.n_needed:,} {unit} do"
        yield from (f"  {line}" for line in basis.dependence)
        power = (f"of {w:g} in {percent(plan.power(w))}" for w in _worsenings(plan))
        yield f"  a true shift or scaling is seen: {', '.join(power)} of the runs"
        yield f"  false alarms: at most {at_most(plan.false_alarm_rate)} of unchanged models fail"
    yield (
        f"  noise floor: a perfectly calibrated model shows an ECE of about {plan.noise_floor:.3f}"
    )
    if limit is not None:
        needed = plan.items_to_test(limit)
        can = "can be tested" if plan.n >= needed else "CANNOT be tested"
        yield (
            f"  limit {limit:g} {can}: from {needed:,} {unit} on, a perfectly calibrated model "
            "passes it 95 % of the time"
        )
    yield ""
    yield "  smallest shift seen; how often a shift is seen; false alarms at most; floor:"
    yield from table(_table(basis, rows))


def _table(basis: Basis, rows: list[Plan]) -> Iterator[list[str]]:
    groups = ["groups"] if basis.grouped else []
    heads = (f"{w:g}" for w in _worsenings(rows[0]))
    yield ["n", *groups, "smallest", "decides", *heads, "alarms", "floor"]
    for plan in rows:
        power = (percent(plan.power(w)) for w in _worsenings(plan))
        rates = [*power, at_most(plan.false_alarm_rate)]
        yield [
            f"{plan.n:,}",
            *([f"{plan.units:,}"] if groups else []),
            f"{plan.smallest_visible:.3f}",
            "yes" if plan.decides else "no",
            *("-" if _too_few(plan) else rate for rate in rates),
            f"{plan.noise_floor:.3f}",
        ]


def _tree(plan: Plan, rows: list[Plan], limit: float | None) -> dict[str, Any]:
    names = ("n", "units", "smallest_visible", "decides", "n_needed", "noise_floor")

    def numbers(plan: Plan) -> dict[str, Any]:
        out: dict[str, Any] = {name: getattr(plan, name) for name in names}
        if not _too_few(plan):
            out["false_alarm_rate"] = plan.false_alarm_rate
            out["power"] = {f"{w:g}": plan.power(w) for w in _worsenings(plan)}
        if limit is not None:
            needed = plan.items_to_test(limit)
            out["limit"] = {"value": limit, "testable": plan.n >= needed, "n_needed": needed}
        return out

    strict = plan.strictness
    return {
        "tolerance": strict.tolerance,
        "alpha": strict.alpha,
        "max_undetected": strict.max_undetected,
        "changed": plan.changed,
        **numbers(plan),
        "table": {str(row.n): numbers(row) for row in rows},
    }


# --- output of a plan at an operating point ------------------------------------------------------


def _point_lines(
    plan: PointPlan, rows: Sequence[PointPlan], source: str, strict: Strictness, grouped: bool
) -> Iterator[str]:
    point = plan.point
    groups = f" in {plan.units:,} groups" if grouped else ""
    guard = (
        "" if point.coverage_tolerance is None else f", of coverage {point.coverage_tolerance:g}"
    )
    yield (
        f"a comparison at the threshold {point.name} on {plan.n:,} items{groups}, tolerance of "
        f"precision {point.tolerance:g}{guard}, alpha {strict.alpha:g}"
    )
    yield (
        f"  coverage {plan.coverage:.3f}, precision {plan.precision:.3f}, "
        f"{percent(plan.changed)} of the answers right in one of the two runs only"
    )
    yield f"  {source}"
    yield (
        f"  smallest fall seen with 80 % power: of precision {plan.precision_visible:.3f}, of "
        f"coverage {plan.coverage_visible:.3f}"
    )
    outcome = "it decides" if plan.decides else "INCONCLUSIVE unless it fails"
    yield (
        f"  {outcome}: a fall of {strict.max_undetected:g} beyond either tolerance must be seen; "
        f"{plan.n_needed:,} items do"
    )
    yield f"  false alarms: at most {at_most(plan.false_alarm_rate)} of unchanged models fail"
    yield ""
    yield "  smallest falls seen; false alarms at most:"
    heads = ["n", *(["groups"] if grouped else []), "precision", "coverage", "decides", "alarms"]
    yield from table([heads, *(_point_row(row, grouped) for row in rows)])


def _point_row(plan: PointPlan, grouped: bool) -> list[str]:
    return [
        f"{plan.n:,}",
        *([f"{plan.units:,}"] if grouped else []),
        f"{plan.precision_visible:.3f}",
        f"{plan.coverage_visible:.3f}",
        "yes" if plan.decides else "no",
        at_most(plan.false_alarm_rate),
    ]


def _point_tree(plan: PointPlan, rows: Sequence[PointPlan]) -> dict[str, Any]:
    names = ("n", "units", "precision_visible", "coverage_visible", "decides", "n_needed")

    def numbers(plan: PointPlan) -> dict[str, Any]:
        return {name: getattr(plan, name) for name in (*names, "false_alarm_rate")}

    point = plan.point
    return {
        "threshold": point.threshold,
        "tolerance": point.tolerance,
        "coverage_tolerance": point.coverage_tolerance,
        "coverage": plan.coverage,
        "precision": plan.precision,
        "changed": plan.changed,
        **numbers(plan),
        "table": {str(row.n): numbers(row) for row in rows},
    }
