"""``pytest-calibration aa``: how often the gate fails a model that did not change."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from pytest_calibration.cli.arguments import (
    add_arguments,
    add_file_choices,
    add_strictness,
    file_choices,
    items_at,
    number,
    pair_at,
    strictness,
    tolerance_at,
    whole,
)
from pytest_calibration.cli.output import as_json, at_most, percent, table
from pytest_calibration.cli.project import Project, add_asking, progress_shown
from pytest_calibration.errors import UsageError

if TYPE_CHECKING:
    from pytest_calibration.cli.arguments import Subparsers
    from pytest_calibration.gate.aa import AAResult, Rate
    from pytest_calibration.gate.strictness import Strictness
    from pytest_calibration.predictions import Predictions

FOR_MODELS: Final = ("parent", "probe", "config", "limit", "cache-dir")


def add(subparsers: Subparsers) -> None:
    """Add the parser of this command."""
    parser = subparsers.add_parser(
        "aa",
        help="measure the gate's false alarms and power on your own data",
        description="Resample the predictions of a stored record, a file or a model, and count how "
        "often the gate fails where nothing changed, and how often where something did.",
        allow_abbrev=False,
    )
    parser.add_argument("record", nargs="?", metavar="FILE", help="a stored record, or predictions")
    add_asking(parser)
    add_arguments(
        parser,
        ("--against", str, "OTHER", "a second file of the same probe: the two change places at "
         "random"),
        ("--model", str, "SPEC", "a model to run the probes on"),
        ("--parent", str, "SPEC", "a second model, as --against"),
        ("--n", whole(2, 1_000_000), "N", "items per trial (default: as given)"),
        ("--trials", whole(1, 1_000_000), "K", "pairs drawn (default: 400)"),
        ("--changed", number(0, 1), "Q", "share of the items that only one of two unchanged runs "
         "answers rightly (default: 0.15)"),
        ("--seed", whole(0, 2**64 - 1), "S", "of the random numbers"),
    )  # fmt: skip
    add_strictness(parser)
    add_file_choices(parser)
    parser.add_argument("--json", action="store_true", help="print numbers for a program")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the check on each probe and print a block of each.

    Raises:
        UsageError: arguments that contradict each other.
        CalibrationError: any other problem with records, probes or models.
    """
    _check_usage(options)
    trees: dict[str, Any] = {}
    with progress_shown():
        for predictions, other, strict in _inputs(options):
            result = _result(predictions, other, strict, options)
            if options.json:
                trees[result.probe] = tree(result)
            else:
                print("\n".join(lines(result)), flush=True)
    if options.json:
        print(as_json({"probes": trees}))
    return 0


def _check_usage(options: argparse.Namespace) -> None:
    if (options.record is None) == (options.model is None):
        raise UsageError(
            "aa needs one of two things: a stored record or a file of predictions, or --model SPEC."
        )
    if options.model is None:
        for name in FOR_MODELS:
            if getattr(options, name.replace("-", "_")) is not None:
                raise UsageError(f"aa: --{name} goes with --model, not with a record.")
    elif file_choices(options):
        raise UsageError("aa: --column, --task and their like go with a file, not with --model.")
    elif options.against is not None:
        raise UsageError("aa: --against goes with a record; a second model is --parent.")
    if options.changed is not None and (options.against or options.parent):
        raise UsageError("aa: --changed is for one set; two sets have their own differences.")


def _inputs(
    options: argparse.Namespace,
) -> Iterator[tuple[Predictions, Predictions | None, Strictness]]:
    """Yield the predictions of each check, a second set of them, and how strict the gate is."""
    if options.record is not None:
        strict = strictness(options, tolerance_at(options.record))
        if options.against is None:
            yield items_at(options.record, None, file_choices(options))[1], None, strict
        else:
            pair = pair_at(options.record, options.against, file_choices(options))
            yield *pair, strict
        return
    project = Project(options)
    for predictions, other in _asked(options, project):
        yield predictions, other, project.strictness(predictions.probe)


def _asked(
    options: argparse.Namespace, project: Project
) -> list[tuple[Predictions, Predictions | None]]:
    """Return the model's and the parent's predictions on each probe."""
    names = project.names
    model = project.model(options.model)
    asker = project.asker(None if options.parent is None else project.parent(options.parent))
    answers = [asker.ask(model, name) for name in names]
    model.release()
    return [(answer, asker.parent_predictions(answer.probe)) for answer in answers]


def _result(
    predictions: Predictions,
    other: Predictions | None,
    strict: Strictness,
    options: argparse.Namespace,
) -> AAResult:
    """Run the check on one probe."""
    from pytest_calibration.gate.aa import AASettings, aa_check
    from pytest_calibration.progress import PROGRESS

    chosen = {name: getattr(options, name) for name in ("n", "trials", "changed", "seed")}
    given = {name: value for name, value in chosen.items() if value is not None}
    settings = AASettings(strictness=strict, **given)
    with PROGRESS.of("", predictions.probe):
        PROGRESS.report(0, settings.trials, "trials")
        return aa_check(
            predictions,
            other,
            settings,
            progress=lambda done: PROGRESS.report(done, settings.trials, "trials"),
        )


# --- output --------------------------------------------------------------------------------------


def lines(result: AAResult) -> Iterator[str]:
    """Yield the block of one probe."""
    trials, strict = result.false_alarms.trials, result.strictness
    grouped = f" in {result.units:,} groups" if result.units != result.n else ""
    yield f"{result.probe}: {trials:,} pairs of {result.n:,} {result.unit}s{grouped}"
    source = "two sets that change places" if result.two_sets else "one set of predictions"
    yield (
        f"  drawn from {source}: ECE {result.ece:.3f}, accuracy {result.accuracy:.3f}, mean "
        f"confidence {result.mean_confidence:.3f}"
    )
    together = ""
    if result.within_groups:
        together = f"; those of a group go together (correlation {result.within_groups:.2f})"
    yield f"  {percent(result.changed)} of the answers are right on one side only{together}"
    yield f"  tolerance {strict.tolerance:g}, alpha {strict.alpha:g}, seed {result.seed}"
    yield f"  false alarms: {_counted(result.false_alarms)} of the pairs without change fail"
    by = [f"{name} {percent(rate.share)}" for name, rate in result.components.items() if rate.count]
    if by:
        yield f"    by component: {', '.join(by)}"
    if result.bound is not None:
        yield f"    bound that a verdict states: at most {at_most(result.bound)}"
    yield f"  inconclusive: {_counted(result.inconclusive)} of the pairs without change"
    yield "  power: how often a candidate fails that is worse by so much, with 95 % interval"
    yield from table(_power(result), indent="    ")


def _share(rate: Rate) -> str:
    return "{} [{}, {}]".format(*map(percent, (rate.share, *rate.interval)))


def _counted(rate: Rate) -> str:
    return f"{_share(rate)} ({rate.count:,} of {rate.trials:,})"


def _power(result: AAResult) -> Iterator[list[str]]:
    rows: dict[float, list[str]] = {}
    for candidate, rate in result.power:
        out_of_reach = f"out of reach (at most {candidate.largest:.3f})"
        cell = out_of_reach if rate is None else _share(rate)
        rows.setdefault(candidate.worsening, [f"{candidate.worsening:g}"]).append(cell)
    yield ["worsening", *dict.fromkeys(candidate.kind for candidate, _ in result.power)]
    yield from rows.values()


def tree(result: AAResult) -> dict[str, Any]:
    """Return the numbers of one probe, named."""
    power: dict[str, dict[str, Any]] = {}
    for candidate, rate in result.power:
        power.setdefault(candidate.kind, {})[f"{candidate.worsening:g}"] = {
            "largest": candidate.largest,
            "setting": candidate.setting,
            **({} if rate is None else _numbers(rate)),
        }
    names = ("ece", "accuracy", "mean_confidence", "changed", "within_groups", "bound")
    return {
        "n": result.n,
        "units": result.units,
        "trials": result.false_alarms.trials,
        "seed": result.seed,
        "two_sets": result.two_sets,
        "tolerance": result.strictness.tolerance,
        "alpha": result.strictness.alpha,
        **{name: getattr(result, name) for name in names},
        "false_alarms": _numbers(result.false_alarms),
        "components": {name: rate.share for name, rate in result.components.items()},
        "inconclusive": _numbers(result.inconclusive),
        "power": power,
    }


def _numbers(rate: Rate) -> dict[str, float]:
    low, high = rate.interval
    return {"share": rate.share, "low": low, "high": high, "count": rate.count}
