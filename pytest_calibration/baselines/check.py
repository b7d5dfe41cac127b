"""Predictions held against a store: every state a stored baseline can be in, in one function."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from pytest_calibration.baselines import Baselines, Record
from pytest_calibration.baselines.record import MAX_SUPERSEDED
from pytest_calibration.gate.decision import ALPHA, MAX_UNDETECTED, TOLERANCE, State
from pytest_calibration.gate.verdict import (
    Against,
    Past,
    Verdict,
    align,
    compare,
    difference_reason,
    judge,
)
from pytest_calibration.measurement import measure
from pytest_calibration.predictions import Predictions

PAST_NUMBERS: Final = ("n", "ece", "accuracy", "signed_gap")


@dataclass(frozen=True)
class Settings:
    """How strict a comparison is.

    Attributes:
        tolerance: what the call says; wins over everything.
        project_tolerance: what counts where neither the call nor the record says anything.
        alpha: one-sided error level of each bound.
        accuracy_tolerance: allowed loss of accuracy; None switches that guard off.
        max_undetected: how much beyond the tolerance may stay invisible.
    """

    tolerance: float | None = None
    project_tolerance: float = TOLERANCE
    alpha: float = ALPHA
    accuracy_tolerance: float | None = TOLERANCE
    max_undetected: float = MAX_UNDETECTED

    def tolerance_for(self, record: Record | None = None) -> float:
        """Return the tolerance: the call's, else the record's, else the project's."""
        if self.tolerance is not None:
            return self.tolerance
        if record is not None and record.tolerance is not None:
            return float(record.tolerance)
        return self.project_tolerance


def against(
    predictions: Predictions,
    other: Predictions,
    settings: Settings,
    *,
    kind: Against = "other",
    reference: str = "baseline",
    record: Record | None = None,
) -> Verdict:
    """Compare with other predictions under these settings."""
    return compare(
        predictions,
        other,
        tolerance=settings.tolerance_for(record),
        alpha=settings.alpha,
        accuracy_tolerance=settings.accuracy_tolerance,
        max_undetected=settings.max_undetected,
        against=kind,
        reference=reference,
    )


def against_record(predictions: Predictions, record: Record, settings: Settings) -> Verdict:
    """Compare with a stored record, and add what else its reader must know."""
    verdict = against(predictions, record.predictions, settings, kind="baseline", record=record)
    notes = (*verdict.notes, *remarks(predictions, record, verdict))
    return replace(verdict, notes=notes, past=past_of(record), sharpness_before=record.sharpness)


def past_of(record: Record) -> tuple[Past, ...]:
    """Return what was stored under the key of this record, the oldest first, and the record."""
    steps = [dict(one) for one in reversed(record.superseded)]
    # The file keeps the last few steps, and what was recorded first.
    if len(steps) == MAX_SUPERSEDED and record.anchor:
        first = {key: steps[0].get(key) for key in record.anchor}
        if first != dict(record.anchor):
            steps.insert(0, {**record.anchor, "reason": "recorded first"})
    now: dict[str, object] = {**record.metrics, "n": record.n}
    now["model"] = record.predictions.signature.soft.get("model", "")
    return tuple(
        Past(
            model=str(step.get("model", "")),
            n=int(step["n"]),
            ece=float(step["ece"]),
            accuracy=float(step["accuracy"]),
            signed_gap=float(step["signed_gap"]),
            replaced=str(step.get("reason", "")),
        )
        for step in (*steps, now)
        if all(isinstance(step.get(key), int | float) for key in PAST_NUMBERS)
    )


def check(predictions: Predictions, store: Baselines, settings: Settings) -> Verdict:
    """Hold predictions against their stored baseline, and record or replace it where allowed.

    ==================  =============================  ==========================================
    stored              may be written                 verdict
    ==================  =============================  ==========================================
    nothing             no                             ``no_baseline``
    nothing             record                         ``recorded``
    unreadable          anything                       raises; nothing is written
    not comparable      no                             ``not_comparable``
    comparable          no                             ``passed``, ``regressed``, ``inconclusive``
    better, worse or    accept                         ``recorded``; the old summary and the
    not comparable                                     reason stay in the file
    passed as it is     accept                         ``passed``; nothing is written
    ==================  =============================  ==========================================

    Raises:
        UnreadableBaseline: something is stored and cannot be trusted.
    """
    record = store.find(predictions.probe)
    if record is None:
        return _absent(predictions, store)
    verdict = against_record(predictions, record, settings)
    if verdict.state in (State.REGRESSED, State.NOT_COMPARABLE) or verdict.improved:
        return _accepted(verdict, predictions, store)
    return verdict


def _accepted(verdict: Verdict, predictions: Predictions, stored: Baselines | Record) -> Verdict:
    """Replace what is stored, where the run accepts; else leave the verdict as it is."""
    if not isinstance(stored, Baselines) or stored.policy.accept is None:
        return verdict
    reason = stored.policy.accept
    stored.submit(stored.draft(predictions, reason=reason))
    return replace(verdict, state=State.RECORDED, improved=False, reason=f"accepted: {reason}")


def _absent(predictions: Predictions, store: Baselines) -> Verdict:
    path = store.path_of(predictions.probe)
    verdict = Verdict(
        state=State.NO_BASELINE,
        against="baseline",
        measurement=measure(predictions),
        candidate=predictions,
        n=len(predictions),
        units=predictions.n_clusters,
        reason=f"nothing is stored at {path}.",
    )
    if not store.policy.record:
        return verdict
    store.submit(store.draft(predictions))
    return replace(verdict, state=State.RECORDED, reason=f"recorded in {path}.")


def check_limit(
    predictions: Predictions,
    stored: Baselines | Record,
    settings: Settings,
    *,
    bins: int,
    debiased: bool = False,
) -> Verdict:
    """Hold the ECE against a stored one plus the tolerance, on the items both sides have.

    The record's own ``limit:`` counts instead where it is set. The stored ECE is recomputed in
    these bins from the stored items. Where the run accepts, what is above the stored ECE or not
    comparable replaces it.

    Raises:
        UnreadableBaseline: something is stored and cannot be trusted.
    """
    metric = "cross_fitted_ece" if debiased else "ece"
    measured = measure(predictions, metric, bins=bins)
    record = stored if isinstance(stored, Record) else stored.find(predictions.probe)
    if record is None:
        assert isinstance(stored, Baselines)
        return _absent(predictions, stored)
    differing = predictions.signature.hard_differences(record.predictions.signature)
    ours, theirs, remark = align(predictions, record.predictions)
    if differing or ours is None or theirs is None:
        reason = difference_reason(differing, "baseline") if differing else remark
        verdict = Verdict(
            State.NOT_COMPARABLE,
            measured,
            against="baseline",
            reason=reason,
            n=len(predictions),
            candidate=predictions,
            past=past_of(record),
        )
        return _accepted(verdict, predictions, stored)
    here, there = predictions.take(ours), record.predictions.take(theirs)
    measured, before = measure(here, metric, bins=bins), measure(there, metric, bins=bins)
    limit = record.limit
    if limit is None:
        limit = min(1.0, before.value + settings.tolerance_for(record))
    verdict = judge(measured, float(limit), debiased=debiased)
    notes = (*verdict.notes, remark) if remark else verdict.notes
    own = f"the limit is the baseline's own, {record.path}." if record.limit is not None else ""
    verdict = replace(
        verdict,
        against="baseline",
        baseline=before,
        notes=notes,
        reason=own,
        candidate=here,
        stored=there,
        sharpness_before=record.sharpness,
        past=past_of(record),
    )
    # A limit written by hand stays what it is, whatever is accepted.
    if verdict.state is State.ABOVE_LIMIT and record.limit is None:
        return _accepted(verdict, predictions, stored)
    return verdict


def remarks(predictions: Predictions, record: Record, verdict: Verdict) -> list[str]:
    """Say what else a reader must know: soft differences, and creep since the first record."""
    out = []
    soft = predictions.signature.soft_differences(record.predictions.signature)
    soft = [entry for entry in soft if entry[0] != "model"]
    if soft:
        parts = [f"{name} {ours} (baseline {theirs})" for name, ours, theirs in soft]
        out.append("differs from the recording in " + ", ".join(parts) + ".")
    anchor = record.anchor.get("ece")
    if record.superseded and isinstance(anchor, float):
        drift = verdict.measurement.value - anchor
        tolerance = verdict.tolerance
        if drift > tolerance:
            steps = len(record.superseded)
            # Older steps than these are in version control, not in the file.
            least = "at least " if steps == MAX_SUPERSEDED else ""
            out.append(
                f"since the first record ECE has crept up by {drift:.3f} (from {anchor:.3f}), "
                f"more than the tolerance {tolerance:.3f}, in {least}{steps} accepted "
                f"step{'s' * (steps > 1)}."
            )
    return out
