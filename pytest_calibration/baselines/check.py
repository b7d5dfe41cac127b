"""Predictions compared with a stored baseline: all states of it, and what may be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pytest_calibration.baselines import Baselines, Record
from pytest_calibration.baselines.record import BRIEF, MAX_SUPERSEDED, RECORDED_FIRST
from pytest_calibration.gate.decision import State
from pytest_calibration.gate.looks import Look
from pytest_calibration.gate.strictness import DEFAULT, OperatingPoint, Setting, Strictness
from pytest_calibration.gate.verdict import (
    Past,
    Verdict,
    align,
    cautioned,
    compare,
    compare_at_points,
    judge,
    part_caution,
)
from pytest_calibration.measurement import Measurement, measure
from pytest_calibration.predictions import Predictions
from pytest_calibration.text.numbers import counted
from pytest_calibration.text.visible import quoted, visible

# One accepted step has been signed off as a whole; from the second on, nobody has seen their sum.
ADD_UP_FROM: Final = 2
# Probes that a message names.
MOST_NAMED: Final = 3
PAST_NUMBERS: Final = ("n", "ece", "accuracy", "signed_gap")


def strictness_for(record: Record, project: Strictness, tolerance: float | None) -> Strictness:
    """Return how strict a comparison with a record is.

    The tolerance is that of the call; else the record's own; else the project's.
    """
    return project.with_first(tolerance=(tolerance, record.tolerance))


def compare_with_record(
    predictions: Predictions,
    record: Record,
    project: Strictness,
    tolerance: float | None = None,
    points: Sequence[OperatingPoint] = (),
    look: Look | None = None,
) -> Verdict:
    """Compare predictions with a record, and with the anchor from which its drift is counted.

    Args:
        predictions: the candidate.
        record: the baseline.
        project: how strict, where neither the call nor the record says so.
        tolerance: what the call says.
        points: operating points at which they are compared as well.
        look: which look this is, where the predictions are asked in parts.
    """
    strictness = strictness_for(record, project, tolerance)
    settings = strictness.arguments()
    verdict = compare(predictions, record.predictions, **settings, against="baseline", look=look)
    at_points: tuple[Verdict, ...] = ()
    if verdict.state is not State.NOT_COMPARABLE:
        at_points = compare_at_record(predictions, record, project, points)
    verdict = replace(
        verdict, past=_past(record), sharpness_before=record.sharpness, at_points=at_points
    )
    return _with_anchor(verdict, predictions, record, strictness, record.steps, look)


def compare_at_record(
    predictions: Predictions,
    record: Record,
    project: Strictness,
    points: Sequence[OperatingPoint],
) -> tuple[Verdict, ...]:
    """Compare predictions with a record at operating points, which share the error level."""
    past, items = _past(record), record.predictions
    return tuple(
        replace(verdict, past=past, sharpness_before=record.sharpness)
        for verdict in compare_at_points(predictions, items, points, project, against="baseline")
    )


def compare_with_stored(
    predictions: Predictions,
    store: Baselines,
    project: Strictness,
    tolerance: float | None = None,
    points: Sequence[OperatingPoint] = (),
    look: Look | None = None,
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

    From the second accepted step on, the predictions are also compared with the anchor, which stays
    when one is accepted: ``since_anchor`` of the verdict. Where the run moves the anchor, drift is
    counted from what is then stored, unless the comparison fails and nothing is accepted. What is
    better or worse at an operating point is accepted alike.

    Raises:
        UnreadableBaseline: a record is stored and cannot be trusted.
    """
    record = store.find(predictions.probe)
    if record is None:
        return _record_if_allowed(predictions, store, measure(predictions))
    verdict = compare_with_record(predictions, record, project, tolerance, points, look)
    comparable = verdict.state is not State.NOT_COMPARABLE
    if not comparable or any(map(_moved, (verdict, *verdict.at_points))):
        accepted = _accept_if_allowed(verdict, predictions, store, record)
        if accepted is not verdict:
            fell = [
                f"{component.name} regressed at {one.point.name}."
                for one in verdict.at_points
                if one.point is not None
                for component in one.failing
            ]
            accepted = replace(
                accepted, since_anchor=None, at_points=(), cautions=(*accepted.cautions, *fell)
            )
            if not comparable or store.policy.anchor is not None:
                return accepted
            strictness = strictness_for(record, project, tolerance)
            return _with_anchor(accepted, predictions, record, strictness, record.steps + 1)
    return _anchor_if_allowed(verdict, store, record)


def compare_at_stored(
    predictions: Predictions, store: Baselines, project: Strictness, point: OperatingPoint
) -> Verdict:
    """Compare predictions with their stored baseline at one operating point.

    What is stored, and what may be written, are as for :func:`compare_with_stored`; drift since the
    anchor is judged there.

    Raises:
        UnreadableBaseline: a record is stored and cannot be trusted.
    """
    record = store.find(predictions.probe)
    if record is None:
        return _record_if_allowed(predictions, store, measure(predictions))
    [verdict] = compare_at_record(predictions, record, project, [point])
    if verdict.state is State.NOT_COMPARABLE or _moved(verdict):
        return _accept_if_allowed(verdict, predictions, store, record)
    return verdict


def _moved(verdict: Verdict) -> bool:
    """Whether it is worse, or better, so that what was measured may replace the record."""
    return verdict.state is State.REGRESSED or verdict.improved


def _with_anchor(
    verdict: Verdict,
    predictions: Predictions,
    record: Record,
    strictness: Strictness,
    steps: int,
    look: Look | None = None,
) -> Verdict:
    """Return a verdict with the comparison with the anchor, ``steps`` accepted steps ago."""
    if steps < ADD_UP_FROM or verdict.state is State.NOT_COMPARABLE:
        return verdict
    items = record.anchor_items
    move = "--calibration-anchor=REASON counts it from what is stored now."
    if items is None:
        caution = (
            f"drift over {_accepted(record, steps)} is not judged: the baseline was made before "
            f"the items of the first record were kept; {move}"
        )
        return replace(verdict, cautions=(*verdict.cautions, caution))
    allowed = strictness.since_anchor()
    drift = compare(predictions, items, **allowed.arguments(), against="anchor", look=look)
    if drift.state is State.NOT_COMPARABLE:
        caution = f"drift since the anchor is not judged: {drift.reason} {move}"
        return replace(verdict, cautions=(*verdict.cautions, caution))
    settings: tuple[Setting, ...] = ()
    if strictness.drift_tolerance is not None:
        settings = (Setting("drift_tolerance", allowed.tolerance, 2 * strictness.tolerance),)
    # Those of the comparison with the record stand beside that one.
    cautions = drift.cautions[: len(drift.cautions) - len(drift.settings)]
    drift = replace(
        drift,
        settings=settings,
        cautions=(*cautions, *(f"{setting}." for setting in settings)),
        improved=False,
    )
    if drift.state is State.REGRESSED:
        reason = f"{_since_when(record, steps)}; accepting does not move the anchor."
        drift = replace(drift, reason=reason)
    return replace(verdict, since_anchor=drift)


def _since_when(record: Record, steps: int) -> str:
    """Say since when calibration has drifted, and in which accepted steps."""
    anchor = record.anchor
    since = " ".join(filter(None, ("the anchor", visible(anchor["model"]))))
    reasons = [str(step.get("reason", "")) for step in reversed(record.superseded[:steps])]
    named = f" ({', '.join(map(quoted, reasons))})" if reasons else ""
    return (
        f"since {since} ({visible(anchor['reason'])}; ECE {anchor['ece']:.3f}) the "
        f"steps that were accepted have added up: {_accepted(record, steps)}{named}"
    )


def _accepted(record: Record, steps: int) -> str:
    # Without an anchor's count, older steps than these are in version control, not in the file.
    unknown = "steps" not in record.anchor and len(record.superseded) == MAX_SUPERSEDED
    return f"{'at least ' * unknown}{counted(steps, 'accepted step')}"


def _anchor_if_allowed(verdict: Verdict, store: Baselines | Record, record: Record) -> Verdict:
    """Count drift from the record as it is, where the run moves the anchor and does not fail."""
    if not isinstance(store, Baselines) or store.policy.anchor is None or verdict.state.fails:
        return verdict
    reason = store.policy.anchor
    # It is the anchor already.
    if record.steps == 0 and record.anchor_items is not None:
        return verdict
    store.submit(store.anchor_draft(record, reason))
    moved = replace(
        verdict,
        state=State.RECORDED,
        against="anchor",
        reference="anchor",
        improved=False,
        cautions=(),
        reason=f"anchored: {reason}",
        recorded_in=str(record.path),
        since_anchor=None,
    )
    return replace(verdict, since_anchor=moved)


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
    own = f"the limit is the baseline's own, {record.path}."
    limit, strictness = record.limit, DEFAULT
    if limit is None:
        allowed = strictness_for(record, project, tolerance).tolerance
        own, strictness = "", DEFAULT.with_first(tolerance=[allowed])
        limit = min(1.0, before.value + strictness.tolerance)
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
    return _anchor_if_allowed(verdict, baseline, record)


def _accept_if_allowed(
    verdict: Verdict, predictions: Predictions, baseline: Baselines | Record, judged: Record
) -> Verdict:
    """Replace the record that was judged, where the run accepts; else return the verdict."""
    if not isinstance(baseline, Baselines) or baseline.policy.accept is None:
        return verdict
    reason = baseline.policy.accept
    moved = baseline.policy.anchor
    baseline.submit(baseline.draft(predictions, previous=judged, reason=reason, anchor=moved))
    return replace(
        verdict,
        state=State.RECORDED,
        improved=False,
        reason=f"accepted: {reason}" + ("" if moved is None else f"; anchored: {moved}"),
        recorded_in=str(judged.path),
    )


def _stored(store: Baselines) -> str:
    """Name what is stored instead: a probe, or a file of predictions, may have been renamed."""
    probes = store.probes()
    more = f" and {len(probes) - MOST_NAMED} more" if len(probes) > MOST_NAMED else ""
    return f" Stored there: {', '.join(map(visible, probes[:MOST_NAMED]))}{more}." if probes else ""


def _record_if_allowed(
    predictions: Predictions, store: Baselines, measured: Measurement
) -> Verdict:
    """Record the predictions, where the run records; else return ``no_baseline``."""
    path = store.path_of(predictions.probe)
    stored = "" if store.policy.record else _stored(store)
    verdict = Verdict(
        State.NO_BASELINE,
        measured,
        against="baseline",
        candidate=predictions,
        n=len(predictions),
        units=predictions.n_clusters,
        reason=f"nothing is stored at {path}.{stored}",
        cautions=part_caution(predictions),
    )
    if not store.policy.record:
        return verdict
    store.submit(store.draft(predictions))
    return replace(
        verdict, state=State.RECORDED, reason=f"recorded in {path}.", recorded_in=str(path)
    )


def _past(record: Record) -> tuple[Past, ...]:
    """Return what was stored under the key of this record, the oldest first, and the record."""
    steps = [dict(step) for step in reversed(record.superseded)]
    # The file keeps the last few steps, and the summary of the first record.
    if len(steps) == MAX_SUPERSEDED and record.steps >= MAX_SUPERSEDED:
        oldest = {key: record.anchor.get(key) for key in (*BRIEF, "n")}
        if oldest != {key: steps[0].get(key) for key in oldest}:
            steps.insert(0, {"reason": RECORDED_FIRST, **record.anchor})
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
