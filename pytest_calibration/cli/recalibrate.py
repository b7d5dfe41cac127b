"""``pytest-calibration recalibrate``: the temperature that a model is best served at."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_calibration.cli.arguments import RECORDS, add_file_choices, record_at
from pytest_calibration.cli.check.check_inputs import read
from pytest_calibration.cli.output import FAILED, as_json
from pytest_calibration.cli.project import Project, add_asking, progress_shown
from pytest_calibration.errors import UsageError

if TYPE_CHECKING:
    from pytest_calibration.cli.arguments import Subparsers
    from pytest_calibration.diagnosis.findings import EceReading
    from pytest_calibration.diagnosis.served_temperature import Balance, Recalibration
    from pytest_calibration.predictions import Predictions

FILES: Final = (
    "CSV, Parquet, JSON lines, samples of lm-eval (also their folder), a dump or a stored record"
)
FOR_MODELS: Final = ("config", "limit", "cache-dir")
FOR_FILES: Final = ("task", "filter", "metric", "classes", "column", "run")
REMEDIES: Final = "docs/how-to/remedies.md"


def add(subparsers: Subparsers) -> None:
    """Add the parser of this command."""
    parser = subparsers.add_parser(
        "recalibrate",
        help="the temperature to serve a model at, and what it brings",
        description="Fit the temperature that a model's logits are to be divided by, measure ECE "
        "before and after on held-out folds, and print the line for calibration.yaml. Exits with 1 "
        "where a temperature does not help.",
        allow_abbrev=False,
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help=FILES)
    parser.add_argument(
        "--model", metavar="SPEC", help="a model to run the probes on; it is asked again at T"
    )
    add_asking(parser)
    add_file_choices(parser)
    parser.add_argument("--json", action="store_true", help="print numbers for a program")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the temperature and what it brings; return 1 where one is needed and none helps.

    Raises:
        UsageError: arguments that contradict each other.
        CalibrationError: any other problem with files, probes or models.
    """
    from pytest_calibration.diagnosis.served_temperature import (
        Recalibration,
        balanced_temperature,
        common_temperature,
    )

    _check_usage(options)
    with progress_shown():
        sets = _asked(options, 1.0) if options.model else _read(options)
        found = [Recalibration.of(predictions) for predictions in sets]
        temperature = common_temperature(found)
        served, balance = [], None
        if options.model and temperature is None:
            balance = balanced_temperature(lambda t: _asked(options, t), found)
            if balance is not None:
                temperature, served = balance.temperature, list(balance.predictions)
        elif options.model:
            served = _asked(options, temperature)
    again = [Recalibration.of(predictions) for predictions in served]
    if options.json:
        print(as_json(_tree(found, temperature, again, balance)))
    else:
        print("\n".join(_lines(found, temperature, again, balance)))
    calm = all(one.diagnosis.problem == "none" for one in found)
    return 0 if calm or temperature is not None else FAILED


def _check_usage(options: argparse.Namespace) -> None:
    if (options.file is None) == (options.model is None):
        raise UsageError(f"recalibrate needs one of two things: FILE ({FILES}), or --model SPEC.")
    names, other = (FOR_FILES, "a file") if options.model else (FOR_MODELS, "--model")
    for name in names:
        attribute = "run_name" if name == "run" else name.replace("-", "_")
        if getattr(options, attribute) is not None:
            raise UsageError(f"recalibrate: --{name} goes with {other}.")
    if options.file is not None and len(options.probe or ()) > 1:
        raise UsageError("recalibrate: a file has one --probe, the name of its predictions.")


def _read(options: argparse.Namespace) -> list[Predictions]:
    if Path(options.file).suffix.lower() in RECORDS:
        return [record_at(options.file).predictions]
    plain = argparse.Namespace(**{**vars(options), "model": None})
    return read(plain, options.file, next(iter(options.probe or ()), None))


def _asked(options: argparse.Namespace, temperature: float | None) -> list[Predictions]:
    """Return the model's predictions on each probe, served at a temperature."""
    project = Project(options)
    model = project.model(options.model, temperature=temperature)
    asker = project.asker()
    answers = [asker.ask(model, name) for name in project.names]
    model.release()
    return answers


# --- output --------------------------------------------------------------------------------------


def _lines(
    found: Sequence[Recalibration],
    temperature: float | None,
    again: Sequence[Recalibration],
    balance: Balance | None,
) -> Iterator[str]:
    for i, one in enumerate(found):
        yield from _of_probe(one)
        if temperature is not None and one.of_logits and len(found) > 1:
            confidence, ece = one.at(temperature)
            yield f"  at {temperature:g}: ECE {_reading(ece)}, mean confidence {confidence:.3f}"
        if again:
            yield from _asked_again(one, again[i], temperature)
    if temperature is None:
        if all(one.diagnosis.problem == "none" for one in found):
            yield "nothing to correct: the model is calibrated, as far as these items show"
        else:
            yield from _no_line(found)
        return
    if balance is not None:
        yield (
            f"{balance.temperature:g} [{balance.low:.3g}, {balance.high:.3g}] makes mean "
            f"confidence accuracy; the model was asked at {balance.asked} temperatures, and ECE at "
            "it is of the items that it was chosen on"
        )
    elif len(found) > 1:
        yield "one temperature for all items with a table of options: a model has one"
    yield "in calibration.yaml, so that every probe asks the model as it is served:"
    yield f"model: {{temperature: {temperature:g}}}"


def _of_probe(one: Recalibration) -> Iterator[str]:
    from pytest_calibration.text.layout import wrapped
    from pytest_calibration.text.numbers import counted
    from pytest_calibration.text.visible import visible

    d, p, fit = one.diagnosis, one.predictions, one.fit
    at = "" if one.served_at == 1 else f", served at {one.served_at:g}"
    yield (
        f"{visible(p.probe)}: {counted(p.n, p.unit)}{at}, accuracy {d.accuracy:.3f}, mean "
        f"confidence {d.mean_confidence:.3f}"
    )
    if fit is not None and d.after_temperature is not None:
        ends = "" if fit.low is None else f" [{fit.low:.3g}, {fit.high:.3g}]"
        of = "logits" if one.of_logits else "log-odds of the confidence"
        limit = ", a limit: NLL still falls there" if fit.at_limit else ""
        yield f"  temperature of the {of}: {fit.value:.3g}{ends}{limit}"
        yield f"  NLL: {fit.nll_before:.3f} -> {fit.nll_after:.3f} nats"
        yield f"  ECE as it is: {_reading(d.ece)}"
        yield f"  ECE on held-out folds: {_reading(d.after_temperature)}"
        yield f"  accuracy stays {d.accuracy:.3f}: dividing them changes no answer"
    if one.helps and d.after_temperature is not None and d.after_temperature.remains:
        yield from wrapped(f"More remains than noise makes. {' '.join(d.sentences)}", 100, "  ")
    elif not one.helps:
        needed = "Nothing to correct" if d.problem == "none" else "A temperature does not help"
        yield from wrapped(f"{needed}. {' '.join(d.sentences)}", 100, "  ")


def _reading(ece: EceReading) -> str:
    return f"{ece.value:.3f} [{ece.low:.3f}, {ece.high:.3f}], noise floor {ece.noise_floor:.3f}"


def _asked_again(
    one: Recalibration, again: Recalibration, temperature: float | None
) -> Iterator[str]:
    """Yield what the model answers where it is served at the temperature."""
    d, before = again.diagnosis, one.diagnosis
    yield (
        f"  asked again at {temperature:g}: ECE {_reading(d.ece)}, accuracy {d.accuracy:.3f}, mean "
        f"confidence {d.mean_confidence:.3f}"
    )
    moved = int((one.predictions.correct != again.predictions.correct).sum())
    if moved:
        yield (
            f"  {moved:,} answers are right in one of the two only: options of several tokens are "
            "ranked anew, since each token's probability changes"
        )
    if d.ece.value > before.ece.value:
        yield "  worse than as it is: do not serve it at this temperature for this probe"


def _no_line(found: Sequence[Recalibration]) -> Iterator[str]:
    """Yield why there is no line, and what would help."""
    if any(one.helps for one in found):
        yield (
            "no line for calibration.yaml: without the probabilities of all options this is a "
            "temperature of the confidence alone, and no number that logits can be divided by"
        )
        yield (
            "name the model (--model SPEC, with a probe that has options), or a file that has the "
            "probability of each option"
        )
        return
    problems = {one.diagnosis.problem for one in found}
    if problems <= {"none", "undecided", "not corrected"}:
        yield "more items may show what helps; a temperature is not shown to"
    if "shape" in problems:
        yield "a monotone map of the confidence (isotonic regression) would help, as said above"
    if problems & {"shape", "ranking", "not corrected"}:
        yield f"training that corrects confidence with the answers: CFT and RCFT ({REMEDIES})"


def _tree(
    found: Sequence[Recalibration],
    temperature: float | None,
    again: Sequence[Recalibration],
    balance: Balance | None,
) -> dict[str, Any]:
    probes: dict[str, Any] = {}
    for i, one in enumerate(found):
        d, fit = one.diagnosis, one.fit
        tree: dict[str, Any] = {
            "n": d.n,
            "accuracy": d.accuracy,
            "served_at": one.served_at,
            "helps": one.helps,
            "before": vars(d.ece),
            "after": None if d.after_temperature is None else vars(d.after_temperature),
            "mean_confidence": d.mean_confidence,
        }
        if fit is not None:
            tree["temperature"] = {**vars(fit), "scale": None, "of_logits": one.of_logits}
        if again:
            seen = again[i].diagnosis
            tree["asked_again"] = {**vars(seen.ece), "accuracy": seen.accuracy}
        probes[one.predictions.probe] = tree
    ends = {} if balance is None else {"low": balance.low, "high": balance.high}
    return {"temperature": temperature, **ends, "probes": probes}
