"""``pytest-calibration aa``: how often the gate fails a model that did not change."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
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
    from pytest_calibration.config import Config
    from pytest_calibration.gate.aa import Check, Rate
    from pytest_calibration.predictions import Predictions
    from pytest_calibration.progress import Work

CONFIG: Final = "calibration.yaml"
# Seconds between two states of the line that counts.
EVERY: Final = 0.25
FOR_MODELS: Final = ("parent", "probe", "config", "limit", "cache-dir")


def add(subparsers: Subparsers) -> None:
    """Add the parser of this command."""
    parser = subparsers.add_parser(
        "aa",
        help="measure the gate's false alarms and power on your own data",
        description="Resample the predictions of a stored record or of a model, and count how "
        "often the gate fails where nothing changed, and how often where something did.",
        allow_abbrev=False,
    )
    parser.add_argument("record", nargs="?", metavar="RECORD.yaml", help="a stored record")
    parser.add_argument(
        "--against",
        metavar="OTHER.yaml",
        help="a second record of the same probe: the two change places at random",
    )
    parser.add_argument("--model", metavar="SPEC", help="a model to run the probes on")
    parser.add_argument("--parent", metavar="SPEC", help="a second model, as --against")
    parser.add_argument(
        "--probe", action="append", metavar="NAME", help="probe to run (repeatable)"
    )
    parser.add_argument(
        "--config", metavar="FILE", help=f"configuration of probes and model (default: {CONFIG})"
    )
    parser.add_argument(
        "--limit", type=whole(1), metavar="N", help="ask the model at most so many items per probe"
    )
    parser.add_argument(
        "--cache-dir", metavar="DIR", help="folder that keeps what models answered (default: none)"
    )
    parser.add_argument(
        "--n", type=whole(2, 1_000_000), metavar="N", help="items per trial (default: as given)"
    )
    parser.add_argument(
        "--trials", type=whole(1, 1_000_000), metavar="K", help="pairs drawn (default: 400)"
    )
    add_gate_settings(parser)
    parser.add_argument(
        "--accuracy-tolerance",
        type=_accuracy_tolerance,
        metavar="T",
        help="allowed loss of accuracy, or none (default: 0.02)",
    )
    parser.add_argument(
        "--changed",
        type=number(0, 1),
        metavar="Q",
        help="share of the items that only one of two unchanged runs answers rightly "
        "(default: 0.15)",
    )
    parser.add_argument(
        "--seed", type=whole(0, 2**64 - 1), metavar="S", help="of the random numbers"
    )
    parser.add_argument("--json", action="store_true", help="print numbers for a program")
    parser.set_defaults(run=run)


def _accuracy_tolerance(text: str) -> float | str:
    return text if text == "none" else number(0, 0.99)(text)


def run(options: argparse.Namespace) -> int:
    """Run the check on each probe and print a block of each.

    Raises:
        UsageError: arguments that contradict each other.
        CalibrationError: whatever else is wrong with records, probes or models.
    """
    from pytest_calibration.progress import PROGRESS

    _check_usage(options)
    trees: dict[str, Any] = {}
    before = PROGRESS.set(_Line() if sys.stderr.isatty() else None)
    try:
        for predictions, other, settings in _inputs(options):
            found = _check(predictions, other, settings, options)
            if options.json:
                trees[found.probe] = tree(found)
            else:
                print("\n".join(lines(found)), flush=True)
    finally:
        PROGRESS.set(before)
    if options.json:
        print(as_json({"probes": trees}))
    return 0


def _check_usage(options: argparse.Namespace) -> None:
    if (options.record is None) == (options.model is None):
        raise UsageError("aa needs one of two things: a stored record, or --model SPEC.")
    if options.model is None:
        for name in FOR_MODELS:
            if getattr(options, name.replace("-", "_")) is not None:
                raise UsageError(f"aa: --{name} goes with --model, not with a record.")
    elif options.against is not None:
        raise UsageError("aa: --against goes with a record; a second model is --parent.")
    if options.changed is not None and (options.against or options.parent):
        raise UsageError("aa: --changed is for one set; two sets have their own differences.")


def _inputs(
    options: argparse.Namespace,
) -> Iterator[tuple[Predictions, Predictions | None, GateSettings]]:
    """Yield what each check is made on, and the settings of the gate there."""
    if options.record is not None:
        record = record_at(options.record)
        other = None if options.against is None else record_at(options.against).predictions
        yield record.predictions, other, gate_settings(options, record.tolerance)
        return
    project = _project(options)
    for predictions, other in _asked(options, project):
        tolerance = project.probe_tolerance(predictions.probe)
        yield predictions, other, gate_settings(options, tolerance, project.alpha)


def _project(options: argparse.Namespace) -> Config:
    from pytest_calibration.config import Config, read_config

    path = Path(options.config or CONFIG)
    return read_config(path) if options.config is not None or path.is_file() else Config()


def _asked(
    options: argparse.Namespace, project: Config
) -> list[tuple[Predictions, Predictions | None]]:
    """Return the model's and the parent's predictions on each probe."""
    from pytest_calibration.asking import Asker
    from pytest_calibration.models.cache import Cache
    from pytest_calibration.models.loading import load_model
    from pytest_calibration.probes.probe_set import probe_set

    source = project.path.name if project.path is not None else CONFIG
    probes = probe_set(project.probes, project.folder, source)
    names = probes.select(options.probe or [])
    cache = None if options.cache_dir is None else Cache(Path(options.cache_dir))
    settings = project.load_settings()
    model = load_model(options.model, settings, cache=cache)
    parent = None
    if options.parent is not None:
        parent = load_model(options.parent, settings, cache=cache)
    asker = Asker(probes, limit=options.limit, limits=project.limits, parent=parent, selected=names)
    answers = [asker.ask(model, name) for name in names]
    model.release()
    return [(answer, asker.parent_predictions(answer.probe)) for answer in answers]


def _check(
    predictions: Predictions,
    other: Predictions | None,
    settings: GateSettings,
    options: argparse.Namespace,
) -> Check:
    from pytest_calibration.gate.aa import TRIALS, check
    from pytest_calibration.gate.decision import TOLERANCE
    from pytest_calibration.gate.planning import CHANGED
    from pytest_calibration.progress import PROGRESS

    guard = TOLERANCE if options.accuracy_tolerance is None else options.accuracy_tolerance
    trials = TRIALS if options.trials is None else options.trials
    with PROGRESS.of("", predictions.probe):
        PROGRESS.report(0, trials, "trials")
        return check(
            predictions,
            other,
            n=options.n,
            trials=trials,
            accuracy_tolerance=None if guard == "none" else guard,
            **settings._asdict(),
            changed=CHANGED if options.changed is None else options.changed,
            seed=options.seed,
            progress=lambda done: PROGRESS.report(done, trials, "trials"),
        )


class _Line:
    """A line on stderr that is rewritten in place and leaves nothing behind."""

    def __init__(self) -> None:
        self._width = 0

    def show(self, work: Work) -> float:
        """Write how far it is."""
        from pytest_calibration.text.layout import columns, fitted

        text = fitted(str(work), shutil.get_terminal_size().columns - 1)
        self.clear()
        self._width = columns(text)
        print(text, end="", file=sys.stderr, flush=True)
        return EVERY

    def clear(self) -> None:
        """Wipe it."""
        if self._width:
            print(f"\r{' ' * self._width}\r", end="", file=sys.stderr, flush=True)
            self._width = 0


# --- output --------------------------------------------------------------------------------------


def lines(found: Check) -> Iterator[str]:
    """Yield the block of one probe."""
    grouped = f" in {found.units:,} groups" if found.units != found.n else ""
    yield f"{found.probe}: {found.trials:,} pairs of {found.n:,} {found.unit}s{grouped}"
    source = "two sets that change places" if found.two_sets else "one set of predictions"
    yield (
        f"  drawn from {source}: ECE {found.ece:.3f}, accuracy {found.accuracy:.3f}, mean "
        f"confidence {found.mean_confidence:.3f}"
    )
    together = ""
    if found.within_groups:
        together = f"; those of a group go together (correlation {found.within_groups:.2f})"
    yield f"  {percent(found.changed)} of the answers are right on one side only{together}"
    yield f"  tolerance {found.tolerance:g}, alpha {found.alpha:g}, seed {found.seed}"
    alarms = found.false_alarms
    yield f"  false alarms: {_counted(alarms)} of the pairs without change fail"
    by = [f"{name} {percent(rate.share)}" for name, rate in found.components.items() if rate.count]
    if by:
        yield f"    by component: {', '.join(by)}"
    if found.bound is not None:
        yield f"    bound that a verdict states: at most {at_most(found.bound)}"
    yield f"  inconclusive: {_counted(found.inconclusive)} of the pairs without change"
    yield "  power: how often a candidate fails that is worse by so much, with 95 % interval"
    yield from table(_power(found), indent="    ")


def _counted(rate: Rate) -> str:
    return (
        f"{percent(rate.share)} [{percent(rate.low)}, {percent(rate.high)}] "
        f"({rate.count:,} of {rate.trials:,})"
    )


def _power(found: Check) -> Iterator[list[str]]:
    kinds = list(dict.fromkeys(one.how for one in found.power))
    yield ["worsening", *kinds]
    for worsening in dict.fromkeys(one.worsening for one in found.power):
        cells = {
            one.how: f"out of reach (at most {one.largest:.3f})"
            if one.rate is None
            else f"{percent(one.rate.share)} [{percent(one.rate.low)}, {percent(one.rate.high)}]"
            for one in found.power
            if one.worsening == worsening
        }
        yield [f"{worsening:g}", *(cells[kind] for kind in kinds)]


def tree(found: Check) -> dict[str, Any]:
    """Return the numbers of one probe, named."""
    plain = (
        "n",
        "units",
        "trials",
        "seed",
        "two_sets",
        "tolerance",
        "alpha",
        "ece",
        "accuracy",
        "mean_confidence",
        "changed",
        "within_groups",
        "bound",
    )
    power: dict[str, dict[str, Any]] = {}
    for one in found.power:
        rate = {} if one.rate is None else _numbers(one.rate)
        power.setdefault(one.how, {})[f"{one.worsening:g}"] = {
            "largest": one.largest,
            "setting": one.setting,
            **rate,
        }
    return {
        **{name: getattr(found, name) for name in plain},
        "false_alarms": _numbers(found.false_alarms),
        "components": {name: rate.share for name, rate in found.components.items()},
        "inconclusive": _numbers(found.inconclusive),
        "power": power,
    }


def _numbers(rate: Rate) -> dict[str, float]:
    return {"share": rate.share, "low": rate.low, "high": rate.high, "count": rate.count}
