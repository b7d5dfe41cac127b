"""``pytest-calibration noise``: how far a probe moves by itself, with the model as it is."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from pytest_calibration.cli.arguments import add_arguments, add_strictness, whole
from pytest_calibration.cli.output import as_json, percent, table
from pytest_calibration.cli.project import Project, add_asking, progress_shown
from pytest_calibration.errors import UsageError

if TYPE_CHECKING:
    from pytest_calibration.cli.arguments import Subparsers
    from pytest_calibration.gate.aa.disturbed_runs import (
        Conclusion,
        Disturbance,
        Movement,
        Noise,
        NoiseReport,
    )
    from pytest_calibration.models.protocols import Model
    from pytest_calibration.predictions import Predictions
    from pytest_calibration.probes.probe import Probe, Variant

DISTURBANCES: Final = ("repeat", "batch", "draws", "options", "shots")
WIDTH: Final = 100
MANY: Final = 1000
PACKAGE: Final = "pytest_calibration"
OWN: Final = "a probe of your own, whose `variants` would say what could be otherwise"
HALF: Final = ("bfloat16", "float16")
OTHERWISE: Final = {
    "options": "Another order of the options",
    "shots": "Another choice of solved examples",
}
SAME: Final = {
    "options": "Both sides of a comparison have the same order",
    "shots": "Both sides of a comparison have the same examples",
}


def add(subparsers: Subparsers) -> None:
    """Add the parser of this command."""
    parser = subparsers.add_parser(
        "noise",
        help="how far a probe moves by itself: asked again, in other batches, orders, examples",
        description="Ask a model a probe several times and change nothing but how it is asked: "
        "repeated, in other batches, with other draws, options in another order, other solved "
        "examples. Print what moves, beside the tolerance of the gate.",
        allow_abbrev=False,
    )
    parser.add_argument("--model", metavar="SPEC", help="the model to ask")
    # What was kept would be no repeat.
    add_asking(parser, cache=False)
    parser.add_argument(
        "--disturb",
        action="append",
        choices=DISTURBANCES,
        metavar="NAME",
        help=f"{', '.join(DISTURBANCES)} (repeatable; default: all that the probe has)",
    )
    add_arguments(
        parser,
        ("--repeats", whole(1, 1000), "R", "runs of each (default: 3)"),
        ("--seed", whole(0, 2**64 - 1), "S", "of the random numbers (default: 0)"),
    )
    parser.set_defaults(repeats=3, seed=0)
    add_strictness(parser)
    parser.add_argument("--json", action="store_true", help="print everything for a program")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask each probe again and again, and print a block of each.

    Raises:
        UsageError: no model, or a probe that cannot be disturbed as asked for.
        CalibrationError: any other problem with probes or models.
    """
    if options.model is None:
        raise UsageError("noise asks a model again and again, and none is named; add --model SPEC.")
    project = Project(options)
    trees: dict[str, Any] = {}
    with progress_shown():
        probes = [project.probes.get(name) for name in project.names]
        model = project.model(options.model)
        for probe in probes:
            report = _report(project, model, probe, options)
            if options.json:
                trees[probe.name] = tree(report)
            else:
                print("\n".join(lines(report)), flush=True)
    model.release()
    if options.json:
        print(as_json({"probes": trees}))
    return 0


def _report(
    project: Project, model: Model, probe: Probe, options: argparse.Namespace
) -> NoiseReport:
    """Ask a probe once as it is, then with each disturbance."""
    from pytest_calibration.gate.aa.disturbed_runs import noise_report
    from pytest_calibration.probes.probe import ItemProbe, other_seed

    ways = _ways(project, model, probe)
    wanted = {one: way for one, way in ways.items() if one in (options.disturb or DISTURBANCES)}
    not_applied = {one: why for one, why in wanted.items() if isinstance(why, str)}
    if options.disturb and not_applied:
        one, why = next(iter(not_applied.items()))
        raise UsageError(
            f"probe {probe.name!r} has no {one} to disturb: {why}; leave --disturb {one} out."
        )
    undisturbed = project.asker().ask(model, probe)
    seeds = [other_seed(options.seed, repeat) for repeat in range(options.repeats)]
    disturbed = {one: [ask(seed) for seed in seeds] for one, ask in wanted.items() if callable(ask)}
    return noise_report(
        undisturbed,
        disturbed,
        project.strictness(probe.name),
        not_applied,
        *([probe.answer_named] if isinstance(probe, ItemProbe) else []),
    )


def _ways(
    project: Project, model: Model, probe: Probe
) -> dict[Disturbance, Callable[[int], Predictions] | str]:
    """Return how a model is asked with each disturbance, by a seed; or why the probe has none."""
    from pytest_calibration.asking.other_batches import OtherBatches
    from pytest_calibration.gate.aa.disturbed_runs import Disturbance
    from pytest_calibration.probes.probe import ItemProbe

    def asked(variant: Variant) -> Callable[[int], Predictions] | str:
        if isinstance(variant, str):
            return variant
        # A new asker: each remembers what was answered.
        return lambda seed: project.asker().ask(model, variant(seed))

    ways: dict[Disturbance, Callable[[int], Predictions] | str] = {
        Disturbance.REPEAT: asked(lambda _: probe),
        Disturbance.BATCH: lambda seed: project.asker().ask(OtherBatches(model, seed), probe),
    }
    varied: dict[str, Variant] = dict.fromkeys(("draws", "options", "shots"), OWN)
    is_own = type(probe).__module__.partition(".")[0] != PACKAGE
    if isinstance(probe, ItemProbe) and not (is_own and type(probe).variants is ItemProbe.variants):
        varied |= probe.variants()
    return ways | {Disturbance(name): asked(varied[name]) for name in ("draws", "options", "shots")}


# --- output --------------------------------------------------------------------------------------


def lines(report: NoiseReport) -> Iterator[str]:
    """Yield the block of one probe."""
    from pytest_calibration.text.layout import wrapped
    from pytest_calibration.text.numbers import counted
    from pytest_calibration.text.visible import visible

    m, strict = report.measurement, report.strictness
    on = f" on {visible(m.model)}" if m.model else ""
    groups = f" in {m.n_clusters:,} groups" if m.n_clusters != m.n else ""
    runs = counted(sum(noise.runs for noise in report.noises), "more run")
    yield f"{visible(m.probe)}{on}: {counted(m.n, m.unit)}{groups}, asked once and in {runs}"
    yield (
        f"  ECE {m.value:.3f} [{m.low:.3f}, {m.high:.3f}], signed gap {m.signed_gap:+.3f}, "
        f"accuracy {m.accuracy:.3f}"
    )
    yield (
        f"  tolerance {strict.tolerance:g}; smallest shift seen with 80 % power: "
        f"{report.smallest_visible:.3f}"
    )
    if report.noises:
        yield from table(_rows(report.noises), indent="    ")
    for disturbance, why in report.not_applied.items():
        yield from wrapped(f"{disturbance} does not apply: {why}", WIDTH, "  ", "    ")
    for note in report.notes:
        yield from wrapped(f"note: {note}", WIDTH, "  ", "    ")
    for conclusion in report.conclusions:
        yield from wrapped(_sentence(conclusion, strict.tolerance), WIDTH, "  ", "    ")


def _rows(noises: Sequence[Noise]) -> Iterator[list[str]]:
    yield [
        *("disturbed", "runs", "confidence", "largest", "answers", "outcomes"),
        *("ECE", "signed gap", "accuracy", "the gate"),
    ]
    for noise in noises:
        yield [
            noise.disturbance,
            str(noise.runs),
            _size(noise.confidence_mean),
            _size(noise.confidence_largest),
            "-" if noise.answers is None else percent(noise.answers),
            percent(noise.outcomes),
            *map(_moved, (noise.ece, noise.signed_gap, noise.accuracy)),
            ", ".join(f"{count} {state}" for state, count in noise.states.items()),
        ]


def _moved(movement: Movement) -> str:
    """Show a change: its mean, and its spread over the runs."""
    spread = "" if math.isnan(movement.spread) else f" ± {movement.spread:.4f}"
    return f"{movement.mean:+z.4f}{spread}"


def _size(amount: float) -> str:
    """Show an amount with two digits, rounded up: what is at most this stays so."""
    if amount == 0:
        return "0"
    step = 10.0 ** (math.floor(math.log10(amount)) - 1)
    return f"{math.ceil(amount / step - 1e-6) * step:.2g}"


def _times(times: float) -> str:
    if times > MANY:
        return f"more than {MANY:,}"
    return f"{times:,.0f}" if times >= 10 else f"{times:.1f}"


def _sentence(c: Conclusion, tolerance: float) -> str:
    """Say what a conclusion means."""
    from pytest_calibration.text.numbers import counted

    between, runs = f"Between two runs ({', '.join(c.disturbances)})", counted(c.runs, "run")
    match c.finding:
        case "nothing between runs":
            return (
                f"{between} nothing moved at all in {runs}: none of the tolerance {tolerance:g} is "
                "taken."
            )
        case "below the tolerance":
            return (
                f"{between} ECE and signed gap moved by at most {_size(c.amount)} in {runs}: the "
                f"tolerance {tolerance:g} is {_times(c.times)} times that."
            )
        case "above the tolerance":
            gate = "; the gate, whose bounds hold the noise of single items, fails none of them"
            return (
                f"{between} ECE or signed gap moved by up to {_size(c.amount)} in {runs}, and the "
                f"tolerance is {tolerance:g}: two values of ECE that lie so far apart say nothing"
                f"{'' if c.share else gate}. Remove the cause, ask more items (more draws), or "
                "raise the tolerance of the probe."
            )
        case "the gate fails":
            return (
                f"The gate fails {percent(c.share or 0.0)} of the runs of "
                f"{', '.join(c.disturbances)}, although nothing changed."
            )
        case "undecided":
            return (
                f"The gate does not decide {percent(c.share or 0.0)} of these runs: they have too "
                "few items (pytest-calibration plan)."
            )
        case "beyond rounding":
            return f"In another batch a confidence moves by {_size(c.amount)}{_cause(c.dtype)}"
        case "no effect":
            return f"{OTHERWISE[c.disturbances[0]]} changes nothing."
    return _level(c)


def _cause(dtype: str) -> str:
    if dtype in HALF:
        return f": rounding in {dtype} may do that; dtype float32 tells whether it does."
    of = "" if dtype else ", or half precision"
    return (
        ", which rounding in float32 does not explain: look for a fault of padding, attention mask "
        f"or positions{of}."
    )


def _level(c: Conclusion) -> str:
    """Say how arbitrary the level is that one order, or one choice of examples, gives."""
    assert c.ece is not None
    low, mean, high = c.ece
    answers = "" if c.share is None else f"changes {percent(c.share)} of the answers and "
    name = c.disturbances[0]
    return (
        f"{OTHERWISE[name]} {answers}puts ECE between {low:.3f} and {high:.3f}, "
        f"{mean:.3f} on average. {SAME[name]}, so this takes nothing from the tolerance. It says "
        "how arbitrary the level is: read ECE and accuracy no closer than that, or as their "
        "average."
    )


def tree(report: NoiseReport) -> dict[str, Any]:
    """Return the numbers of one probe, named."""
    m = report.measurement
    return {
        "model": m.model,
        "n": m.n,
        "units": m.n_clusters,
        "ece": {"value": m.value, "low": m.low, "high": m.high},
        "signed_gap": m.signed_gap,
        "accuracy": m.accuracy,
        "tolerance": report.strictness.tolerance,
        "alpha": report.strictness.alpha,
        "smallest_visible": report.smallest_visible,
        "dtype": report.dtype,
        "disturbances": {noise.disturbance: _tree(noise) for noise in report.noises},
        "not_applied": report.not_applied,
        "notes": report.notes,
        "conclusions": [vars(conclusion) for conclusion in report.conclusions],
    }


def _tree(noise: Noise) -> dict[str, Any]:
    moved = ("ece", "signed_gap", "accuracy")
    return {
        "between_runs": noise.disturbance.between_runs,
        **{key: value for key, value in vars(noise).items() if key not in ("disturbance", *moved)},
        **{name: vars(getattr(noise, name)) for name in moved},
    }
