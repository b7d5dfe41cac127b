"""Predictions compared with a stored baseline: all states of it, and what may be written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Final

from pytest_calibration.baselines import Baselines, Record
from pytest_calibration.baselines.record import MAX_SUPERSEDED
from pytest_calibration.gate.decision import State
from pytest_calibration.gate.strictness import DEFAULT, Strictness
from pytest_calibration.gate.verdict import Past, Verdict, align, cautioned, compare, judge
from pytest_calibration.measurement import Measurement, measure
from pytest_calibration.predictions import Predictions
from pytest_calibration.text.numbers import counted

PAST_NUMBERS: Final = ("n", "ece", "accuracy", "signed_gap")


def strictness_for(record: Record, project: Strictness, tolerance: float | None) -> Strictness:
    """Return how strict a comparison with a record is.

    The tolerance is that of the call; else the record's own; else the project's.
    """
    return project.with_first(tolerance=(tolerance, record.tolerance))


def compare_with_record(
    predictions: Predictions, record: Record, project: Strictness, tolerance: float | None = None
) -> Verdict:
    """Compare predictions with a record; note the growth since the first one.

    Args:
        predictions: the candidate.
        record: the baseline.
        project: how strict, where neither the call nor the record says so.
        tolerance: what the call says.
    """
    strictness = strictness_for(record, project, tolerance)
    verdict = compare(predictions, record.predictions, **asdict(strictness), against="baseline")
    return replace(
        verdict,
        cautions=(*verdict.cautions, *_creep(record, verdict)),
        past=_past(record),
        sharpness_before=record.sharpness,
    )


def compare_with_stored(
    predictions: Predictions, store: Baselines, project: Strictness, tolerance: float | None = None
) -> Verdict:
    """Compare predictions with their stored baseline, and record or replace it where allowed.

    ==================  =============================  ==========================================
    stored              may be written                 verdict
    ==================  =============================  ==========================================
    nothing             no, or accept                  ``no_baseline``
    nothing             record                         ``recorded``
    unreadable          anything                       raises; nothing is written
    not comparable      no                             ``not_comparable``
    comparable          no, or record                  ``passed``, ``regressed``, ``inconclusive``
    better, worse or    accept                         ``recorded``; the old summary and the
    not comparable                                     reason stay in the file
    passed, or          accept                         as it is; nothing is written
    inconclusive
    ==================  =============================  ==========================================

    Raises:
        UnreadableBaseline: a record is stored and cannot be trusted.
    """
    record = store.find(predictions.probe)
    if record is None:
        return _record_if_allowed(predictions, store, measure(predictions))
    verdict = compare_with_record(predictions, record, project, tolerance)
    if verdict.state in (State.REGRESSED, State.NOT_COMPARABLE) or verdict.improved:
        return _accept_if_allowed(verdict, predictions, store, record)
    return verdict


def compare_ece_with_stored(
    predictions: Predictions,
    baseline: Baselines | Record,
    project: Strictness,
    tolerance: float | None = None,
    *,
    bins: int,
    debiased: bool = False,
) -> Verdict:
    """Compare the ECE with a stored one plus the tolerance, on the items both sides have.

    The record's own ``limit:`` counts instead where it is set. The stored ECE is recomputed in
    these bins from the stored items. Where the run accepts, what is above that sum, or not
    comparable, replaces the record; a ``limit:`` written by hand stays.

    Raises:
        UnreadableBaseline: a record is stored and cannot be trusted.
    """
    metric = "cross_fitted_ece" if debiased else "ece"
    measured = measure(predictions, metric, bins=bins)
    record = baseline if isinstance(baseline, Record) else baseline.find(predictions.probe)
    if record is None:
        assert isinstance(baseline, Baselines)
        return _record_if_allowed(predictions, baseline, measured)
    share = project.min_share
    ours, theirs, remark = align(predictions, record.predictions, min_share=share)
    if ours is None or theirs is None:
        verdict = Verdict(
            State.NOT_COMPARABLE,
            measured,
            against="baseline",
            reason=remark,
            n=len(predictions),
            candidate_n=len(predictions),
            baseline_n=len(record.predictions),
            candidate=predictions,
            past=_past(record),
        )
        return _accept_if_allowed(verdict, predictions, baseline, record)
    candidate, stored = predictions.take(ours), record.predictions.take(theirs)
    before = measure(stored, metric, bins=bins)
    limit, strictness = record.limit, DEFAULT
    if limit is None:
        strictness = DEFAULT.with_first(
            tolerance=[strictness_for(record, project, tolerance).tolerance]
        )
        limit = min(1.0, before.value + strictness.tolerance)
    own = "" if record.limit is None else f"the limit is the baseline's own, {record.path}."
    verdict = judge(measure(candidate, metric, bins=bins), float(limit), debiased=debiased)
    verdict = replace(
        verdict,
        against="baseline",
        baseline=before,
        tolerance=strictness.tolerance,
        candidate_n=len(predictions),
        baseline_n=len(record.predictions),
        reason=" ".join(filter(None, (own, verdict.reason))),
        candidate=candidate,
        baseline_items=stored,
        sharpness_before=record.sharpness,
        past=_past(record),
    )
    verdict = cautioned(verdict, remark, strictness.changed())
    # A limit written by hand stays what it is, whatever is accepted.
    if verdict.state is State.ABOVE_LIMIT and record.limit is None:
        return _accept_if_allowed(verdict, predictions, baseline, record)
    return verdict


def _accept_if_allowed(
    verdict: Verdict, predictions: Predictions, baseline: Baselines | Record, judged: Record
) -> Verdict:
    """Replace the record that was judged, where the run accepts; else return the verdict."""
    if not isinstance(baseline, Baselines) or baseline.policy.accept is None:
        return verdict
    reason = baseline.policy.accept
    baseline.submit(baseline.draft(predictions, previous=judged, reason=reason))
    return replace(
        verdict,
        state=State.RECORDED,
        improved=False,
        reason=f"accepted: {reason}",
        recorded_in=str(judged.path),
    )


def _record_if_allowed(
    predictions: Predictions, store: Baselines, measured: Measurement
) -> Verdict:
    """Record the predictions, where the run records; else return ``no_baseline``."""
    path = store.path_of(predictions.probe)
    verdict = Verdict(
        State.NO_BASELINE,
        measured,
        against="baseline",
        candidate=predictions,
        n=len(predictions),
        units=predictions.n_clusters,
        reason=f"nothing is stored at {path}.",
    )
    if not store.policy.record:
        return verdict
    store.submit(store.draft(predictions))
    return replace(
        verdict, state=State.RECORDED, reason=f"recorded in {path}.", recorded_in=str(path)
    )


def _creep(record: Record, verdict: Verdict) -> Iterator[str]:
    """Yield a sentence on the growth of the ECE since the first record, where the items compare."""
    anchor, steps = record.anchor.get("ece"), len(record.superseded)
    if verdict.state is State.NOT_COMPARABLE or not steps or not isinstance(anchor, int | float):
        return
    growth = verdict.measurement.value - anchor
    if growth > verdict.tolerance:
        # Older steps than these are in version control, not in the file.
        least = "at least " if steps == MAX_SUPERSEDED else ""
        yield (
            f"since the first record ECE has crept up by {growth:.3f} (from {anchor:.3f}), "
            f"more than the tolerance {verdict.tolerance:.3f}, in {least}"
            f"{counted(steps, 'accepted step')}."
        )


def _past(record: Record) -> tuple[Past, ...]:
    """Return what was stored under the key of this record, the oldest first, and the record."""
    steps = [dict(step) for step in reversed(record.superseded)]
    # The file keeps the last few steps, and the summary of the first record.
    if len(steps) == MAX_SUPERSEDED and record.anchor:
        oldest = {key: steps[0].get(key) for key in record.anchor}
        if oldest != dict(record.anchor):
            steps.insert(0, {**record.anchor, "reason": "recorded first"})
    model = record.predictions.signature.soft.get("model", "")
    steps.append({**record.metrics, "n": record.n, "model": model})
    return tuple(
        Past(
            model=str(step.get("model", "")),
            n=int(step["n"]),
            ece=float(step["ece"]),
            accuracy=float(step["accuracy"]),
            signed_gap=float(step["signed_gap"]),
            replaced=str(step.get("reason", "")),
        )
        for step in steps
        if all(isinstance(step.get(key), int | float) for key in PAST_NUMBERS)
    )
