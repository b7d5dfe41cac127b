"""The whole diagnosis of one model on one probe."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from pytest_calibration.diagnosis import sentences
from pytest_calibration.diagnosis.change import base_temperature, change_of, shared_items
from pytest_calibration.diagnosis.collapse import collapse_of, option_mass_of, with_summary
from pytest_calibration.diagnosis.direction import (
    direction_of,
    narrow,
    slope_of,
    worst_bins,
    worst_slices,
)
from pytest_calibration.diagnosis.estimates import as_interval, sample_of
from pytest_calibration.diagnosis.findings import (
    Diagnosis,
    EceReading,
    Interval,
    Problem,
    Recalibrated,
    Regime,
    TemperatureFit,
)
from pytest_calibration.diagnosis.recalibration import (
    MIN_UNITS,
    judge_recalibrated,
    read_ece,
    straightened,
    tempered,
)
from pytest_calibration.diagnosis.regime import own_regime, regime_against
from pytest_calibration.diagnosis.sentences import HARDLY_RANKS
from pytest_calibration.diagnosis.temperature import fit_temperature
from pytest_calibration.gate.verdict import known
from pytest_calibration.measurement import measure
from pytest_calibration.metrics import DEFAULT_BINS
from pytest_calibration.metrics.sharpness import Sharpness
from pytest_calibration.predictions import (
    FloatArray,
    Predictions,
    PredictionsLike,
    as_predictions,
)
from pytest_calibration.text.numbers import counted


def diagnose(
    predictions: PredictionsLike,
    baseline: PredictionsLike | None = None,
    *,
    reference: str | None = None,
    bins: int = DEFAULT_BINS,
    base_model: bool = False,
    stored: Sharpness | None = None,
) -> Diagnosis:
    """Return what happened to calibration, and whether recalibration would correct it.

    Everything is closed form or a convex fit, deterministic, and the same whatever the order of the
    items; with groups, every interval is over groups.

    Args:
        predictions: n items, or a pair (probabilities, labels).
        baseline: what to compare with; only items with an id in the predictions count, and it is
            ignored where there is none.
        reference: name of the baseline in a sentence; by default ``parent`` with ``base_model``,
            else ``baseline``.
        bins: number of equal-width bins of every ECE.
        base_model: whether the baseline is the parent, the model before it was fine-tuned. It then
            serves as the reference of the ``regime``, if it is calibrated itself, and of the
            ``base_temperature``, if both have a table of as many options.
        stored: summary of a baseline whose record holds no probabilities; gives its entropy, option
            mass and answers.

    Raises:
        PredictionsError: one side cannot be read as predictions.
        MetricError: bins below 1.
    """
    p = as_predictions(predictions)
    if reference is None:
        reference = "parent" if base_model else "baseline"
    ece = read_ece(p, bins)
    gap, slope = as_interval(measure(p, "signed_gap")), slope_of(p)
    notes: list[str] = []
    fit = fit_temperature(p)
    notes += _notes_on_fit(p, fit)
    held_out = _held_out(p, fit, ece, bins, notes)
    shared = _shared(p, baseline, reference, notes)
    collapse = collapse_of(*shared) if shared else collapse_of(p, None)
    regime = _regime(shared, reference, bins, notes) if shared and base_model else None
    auroc = None if p.correct.all() or not p.correct.any() else as_interval(measure(p, "auroc"))
    found = Diagnosis(
        n=p.n,
        units=sample_of(p).units,
        unit=p.unit,
        bins=bins,
        reference=reference if shared else "",
        accuracy=float(p.correct.mean()),
        mean_confidence=float(p.confidence.mean()),
        direction=direction_of(gap, slope, ece),
        signed_gap=gap,
        slope=slope,
        ece=ece,
        auroc=auroc,
        worst_bins=worst_bins(p, bins),
        worst_slices=worst_slices(p),
        temperature=fit,
        after_temperature=held_out.by_temperature,
        after_isotonic=held_out.by_isotonic,
        problem=problem_of(gap, ece, auroc, fit, held_out.by_temperature, held_out.by_isotonic),
        regime=regime or own_regime(p, held_out.tempered),
        collapse=collapse if stored is None else with_summary(collapse, stored),
        option_mass=option_mass_of(p, shared, stored),
        change=change_of(*shared) if shared else None,
        base_temperature=base_temperature(*shared, bins) if shared and base_model else None,
        classes=p.classes,
        notes=tuple(notes),
    )
    return replace(found, sentences=sentences.sentences(found), figures=sentences.figures(found))


class _HeldOut(NamedTuple):
    """What recalibration brings on held-out folds; None for what was not tried.

    Attributes:
        tempered: (n,) confidences after temperature scaling.
        by_temperature: ECE with them.
        by_isotonic: ECE after isotonic regression.
    """

    tempered: FloatArray | None = None
    by_temperature: Recalibrated | None = None
    by_isotonic: Recalibrated | None = None


def _held_out(
    p: Predictions, fit: TemperatureFit | None, ece: EceReading, bins: int, notes: list[str]
) -> _HeldOut:
    """Try recalibration on held-out folds; where there are too few items, add a note."""
    units = sample_of(p).units
    if units < MIN_UNITS:
        notes.append(
            f"Recalibration is not tried on held-out folds: {counted(units, 'independent unit')}, "
            f"and {MIN_UNITS} are needed."
        )
        return _HeldOut()
    by_isotonic = judge_recalibrated(ece, straightened(p), bins)
    if fit is None:
        return _HeldOut(by_isotonic=by_isotonic)
    scaled = tempered(p)
    return _HeldOut(scaled.confidence, judge_recalibrated(ece, scaled, bins), by_isotonic)


def _notes_on_fit(predictions: Predictions, fit: TemperatureFit | None) -> list[str]:
    if fit is None:
        return ["No temperature changes these confidences."]
    if not fit.impossible:
        return []
    what = "correct option" if fit.scale == "logits" else "outcome"
    many = f"{fit.impossible:,} of the {predictions.n:,} {predictions.unit}s"
    return [
        f"On {many} the {what} has probability 0, which no temperature changes; the fit leaves "
        "them out."
    ]


def _shared(
    predictions: Predictions,
    baseline: PredictionsLike | None,
    reference: str,
    notes: list[str],
) -> tuple[Predictions, Predictions] | None:
    if baseline is None:
        return None
    other = as_predictions(baseline)
    shared = shared_items(predictions, other)
    if shared is None:
        notes.append(
            f"{_sentence_start(reference)} shares no item with these, so nothing is compared."
        )
    elif shared[0].n < predictions.n:
        notes.append(
            f"Compared with {known(reference)} on the {shared[0].n:,} of {predictions.n:,} "
            f"{predictions.unit}s that it has too."
        )
    return shared


def _sentence_start(reference: str) -> str:
    name = known(reference)
    return f"The{name[3:]}" if name.startswith("the ") else name


def _regime(
    shared: tuple[Predictions, Predictions], reference: str, bins: int, notes: list[str]
) -> Regime | None:
    """Return the regime relative to the parent; without it, add a note that says why."""
    base_ece = read_ece(shared[1], bins)
    regime = regime_against(*shared, base_ece, reference)
    if regime is None and base_ece.beyond_noise:
        notes.append(
            f"{_sentence_start(reference)} is no reference for the regime: its own ECE, "
            f"{base_ece.value:.3f}, is more than noise makes (up to "
            f"{base_ece.noise_floor_high:.3f})."
        )
    return regime


def problem_of(
    gap: Interval,
    ece: EceReading,
    auroc: Interval | None,
    fit: TemperatureFit | None,
    by_temperature: Recalibrated | None,
    by_isotonic: Recalibrated | None,
) -> Problem:
    """Return the kind of problem, as far as the held-out folds support it.

    Args:
        gap: signed gap.
        ece: of the model as it is.
        auroc: of its confidence; None where all answers are correct, or all wrong.
        fit: the best temperature; None where none changes anything.
        by_temperature: ECE after temperature scaling; None where it was not tried.
        by_isotonic: ECE after isotonic regression; None where it was not tried.
    """
    if ece.at_floor and not gap.sign:
        return "none" if narrow(gap) else "undecided"
    if by_isotonic is None:
        return "undecided"
    improves = by_isotonic.corrected and by_isotonic.value < ece.value
    blind = auroc is None or (auroc.low <= 0.5 and auroc.high < HARDLY_RANKS)
    if blind and improves:
        return "ranking"
    if by_temperature is not None:
        if by_temperature.corrected and fit is not None and fit.differs_from_one:
            return "scaling" if by_temperature.value < ece.value else "undecided"
        if not by_temperature.remains:
            return "undecided"
    if by_isotonic.remains:
        return "not corrected"
    if not improves:
        return "undecided"
    return "shape" if auroc is None or auroc.high >= HARDLY_RANKS else "ranking"
