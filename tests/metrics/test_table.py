"""The table of metrics: names, ranges, directions, and properties of every metric."""

from __future__ import annotations

import inspect
import math
import re
import tracemalloc
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import pytest
from drawn import answers, built, tables
from hypothesis import assume, given
from hypothesis import strategies as st
from known_calibration import calibrated, two_runs

from pytest_calibration import metrics
from pytest_calibration.errors import MetricError
from pytest_calibration.metrics import METRICS, Metric, metric_named
from pytest_calibration.metrics.table import below_zero, sides_below_zero
from pytest_calibration.predictions import Predictions

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
names = st.sampled_from(sorted(METRICS))
# Their bins, pairs or coverages change with n; every other metric depends on shares alone.
OF_N = {"equal_mass_ece", "cross_fitted_ece", "debiased_rms_ce", "debiased_squared_ce", "aurc"}


def one_outcome(p: Predictions) -> bool:
    """Whether all answers are right, or all wrong."""
    return len(set(p.correct.tolist())) == 1


# --- the table ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_the_function_of_its_name(name: str) -> None:
    """The name of a metric is that of its function, which ``metrics`` exports."""
    metric = METRICS[name]
    assert metric.name == name == metric.compute.__name__
    assert metric.compute is getattr(metrics, name)
    assert metric.label
    assert metric.label.isascii()
    assert metric.lowest < metric.highest


@pytest.mark.parametrize("name", METRICS)
def test_binned_metrics_have_bins(name: str) -> None:
    """A metric is binned exactly where its function has bins, with a strategy or a fixed one."""
    metric = METRICS[name]
    taken = inspect.signature(metric.compute).parameters
    assert metric.binned == ("bins" in taken)
    assert ("strategy" in taken) == (metric.binned and metric.strategy is None)


def test_labels_are_unique() -> None:
    """No two metrics have the same label, but for ECE with its two binnings."""
    printed = [(m.label, m.strategy) for m in METRICS.values()]
    assert len(set(printed)) == len(printed)


@pytest.mark.parametrize("name", METRICS)
def test_every_named_metric_is_a_finite_number(name: str) -> None:
    """Every metric is a finite plain float on ordinary predictions."""
    value = metric_named(name)(calibrated(100, 1))
    assert type(value) is float
    assert np.isfinite(value)


def test_bins_reach_binned_metrics() -> None:
    """With the strategy, unless that is fixed; other metrics ignore both."""
    p = calibrated(400, 2)
    assert METRICS["mce"](p, 7, "equal_mass") == metrics.mce(p, 7, "equal_mass")
    assert METRICS["mce"](p, 7) == metrics.mce(p, 7) != metrics.mce(p)
    assert METRICS["equal_mass_ece"](p, 7) == metrics.ece(p, 7, "equal_mass")
    assert METRICS["classwise_ece"](p, 7, "equal_mass") == metrics.classwise_ece(p, 7)
    assert METRICS["brier"](p, 7, "equal_mass") == metrics.brier(p)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_reads_the_fields_it_needs(name: str) -> None:
    """Without a field it needs it is an error with its name; without other fields it works."""
    p = calibrated(50, 3)
    metric = METRICS[name]
    bare = Predictions("bare", p.confidence, p.correct, p.item_ids)
    assert metric.applies_to(p)
    assert metric.applies_to(bare) == (not metric.needs)
    if metric.needs:
        with pytest.raises(MetricError, match=f"^{name} needs .* probe 'bare' "):
            metric(bare)
    fields = {field: getattr(p, field) for field in metric.needs}
    enough = Predictions("enough", p.confidence, p.correct, p.item_ids, **fields)
    assert metric(enough) == metric(p)


DETECTS_SHARPENING = (
    *("ece", "equal_mass_ece", "cross_fitted_ece", "mce", "rms_ce", "debiased_rms_ce"),
    *("debiased_squared_ce", "classwise_ece", "overconfidence", "smooth_ece", "ks_ce", "brier"),
    *("brier_multiclass", "brier_reliability", "nll"),
)
DETECTS_CONSTANT = ("brier_resolution", "auroc", "selective_accuracy", "selective_risk", "aurc")


@pytest.mark.parametrize("name", DETECTS_SHARPENING)
def test_sharpening_is_worse(name: str) -> None:
    """With twice the logits of a calibrated model every error is larger."""
    calibrated_model, sharpened = two_runs(20_000, 1)[1], two_runs(20_000, 1, 2.0)[1]
    assert METRICS[name].better == "lower"
    assert METRICS[name](sharpened) > METRICS[name](calibrated_model) + 0.005


@pytest.mark.parametrize("name", DETECTS_CONSTANT)
def test_a_constant_confidence_is_worse(name: str) -> None:
    """With one confidence for all items every ranking metric is worse."""
    p = calibrated(20_000, 1)
    constant = Predictions.from_confidence([0.5] * len(p), p.correct)
    sign = {"lower": 1, "higher": -1}[METRICS[name].better]
    assert sign * METRICS[name](constant) > sign * METRICS[name](p) + 0.005


def test_every_direction_is_tested() -> None:
    """The other metrics with a direction are under-confidence and accuracy."""
    rest = {n for n, m in METRICS.items() if m.better != "neither"}
    assert rest - {*DETECTS_SHARPENING, *DETECTS_CONSTANT} == {"accuracy", "underconfidence"}
    p, softened = two_runs(20_000, 1)[1], two_runs(20_000, 1, 0.5)[1]
    assert METRICS["underconfidence"].better == "lower"
    assert METRICS["underconfidence"](softened) > METRICS["underconfidence"](p) + 0.05
    assert METRICS["accuracy"].better == "higher"


def test_unknown_metric_suggests_the_nearest() -> None:
    """The error suggests the nearest name and lists all."""
    with pytest.raises(MetricError, match=r"unknown metric 'breir' \(did you mean 'brier'\?\)"):
        metric_named("breir")
    with pytest.raises(MetricError, match=r"unknown metric 'xyz'; known metrics: ece, .*n@0.9\."):
        metric_named("xyz")


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not part of this copy")
@pytest.mark.parametrize("name", METRICS)
def test_an_error_below_zero_is_explained(name: str) -> None:
    """An error that can be negative says what that means; a signed number needs no word."""
    metric = METRICS[name]
    estimate = metric.error and metric.lowest < 0 and name != "signed_gap"
    assert bool(below_zero(metric.label, -0.008)) == estimate
    # Nothing is said of what is printed as 0.
    for value in (0.0, -0.0004, 0.2, None):
        assert below_zero(metric.label, value) == ""


def test_the_side_below_zero_is_named() -> None:
    """Of a comparison, the words say which side they are about."""
    words = partial(sides_below_zero, METRICS["cross_fitted_ece"].label)
    assert words(-0.008, 0.2) == "before below 0: none visible"
    assert words(0.2, -0.008) == "after below 0: none visible"
    assert words(-0.008, -0.001) == "before and after below 0: none visible"
    assert words(0.0, None) == sides_below_zero("slope", -0.3, -0.3) == ""


def test_the_documentation_lists_every_metric() -> None:
    """The page of metrics has a row per metric, in order, with range, direction and needs."""
    signs = str.maketrans({"−": "-", "¼": "0.25"})
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `") and "…" in line
    ]
    assert [row[0].strip("`") for row in rows] == list(METRICS)
    for row in rows:
        metric = METRICS[row[0].strip("`")]
        low, high = row[2].translate(signs).split(" … ")
        assert float(low) == metric.lowest, row
        assert (math.inf if high in ("∞", "log k") else float(high)) == metric.highest, row
        assert {"–": "neither"}.get(row[3], row[3]) == metric.better, row
        needs = {"table": ("probabilities", "labels"), "": ()}.get(row[4], (row[4].strip("`"),))
        assert needs == metric.needs, row


# --- properties of every metric -----------------------------------------------------------------


def value_of(metric: Metric, p: Predictions) -> float:
    """Return the value of the metric; skip the example where it has none."""
    assume(metric.applies_to(p))
    assume(metric.name != "auroc" or not one_outcome(p))
    return metric(p)


@given(tables(), names)
def test_every_value_lies_in_its_range(p: Predictions, name: str) -> None:
    """Between lowest and highest, finite, and a plain float."""
    value = value_of(METRICS[name], p)
    assert type(value) is float
    assert math.isfinite(value)
    assert METRICS[name].lowest - 1e-12 <= value <= METRICS[name].highest + 1e-12


@given(answers, names)
def test_every_value_of_confidences_lies_in_its_range(
    rows: list[tuple[float, bool]], name: str
) -> None:
    """The same for confidences alone, with ties and edges."""
    value = value_of(METRICS[name], built(rows))
    assert math.isfinite(value)
    assert METRICS[name].lowest - 1e-12 <= value <= METRICS[name].highest + 1e-12


@given(tables(), names, st.randoms(use_true_random=False))
def test_no_metric_depends_on_the_order_of_the_items(
    p: Predictions, name: str, random: Random
) -> None:
    """Shuffling the items changes no metric."""
    order = list(range(len(p)))
    random.shuffle(order)
    value = value_of(METRICS[name], p)
    assert METRICS[name](p.take(np.array(order))) == pytest.approx(value, abs=1e-12)


@given(tables(), names, st.randoms(use_true_random=False))
def test_no_metric_depends_on_the_order_of_the_options(
    p: Predictions, name: str, random: Random
) -> None:
    """Renaming the options, labels and all, changes no metric."""
    assert p.probabilities is not None
    assert p.labels is not None
    # Of equal options the first is the answer, so ties at the top depend on the names.
    top = p.probabilities.max(axis=1, keepdims=True)
    assume(((p.probabilities == top).sum(axis=1) == 1).all())
    order = list(range(p.probabilities.shape[1]))
    random.shuffle(order)
    place = np.argsort(order)
    renamed = Predictions.from_probabilities(p.probabilities[:, order], place[p.labels])
    value = value_of(METRICS[name], p)
    assert METRICS[name](renamed) == pytest.approx(value, abs=1e-12)


@given(tables(), st.sampled_from(sorted(set(METRICS) - OF_N)), st.integers(2, 4))
def test_repeated_data_changes_no_plug_in_metric(p: Predictions, name: str, times: int) -> None:
    """A plug-in metric depends on the distribution alone: copies give the same number."""
    value = value_of(METRICS[name], p)
    repeated = Predictions.from_probabilities(
        np.tile(p.probabilities, (times, 1)), np.tile(p.labels, times)
    )
    assert METRICS[name](repeated) == pytest.approx(value, abs=1e-10)


def test_arrays_are_predictions_to_every_metric() -> None:
    """A pair (probabilities, labels) has the value of predictions."""
    p = calibrated(60, 4)
    for metric in METRICS.values():
        assert metric((p.probabilities, p.labels)) == metric(p)


def test_all_metrics_of_many_items_take_little_memory() -> None:
    """At n = 200,000 no metric allocates more than 150 bytes per item at a time."""
    p = calibrated(200_000, 0)
    for name, metric in METRICS.items():
        tracemalloc.start()
        try:
            metric(p)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 150 * len(p), f"{name} took {peak / len(p):.0f} bytes an item"


# What a metric is called in reports, and which way is better (terms of the papers).
CALLED = {
    "ece": "ECE",
    "equal_mass_ece": "ECE",
    "cross_fitted_ece": "cross-fitted ECE",
    "mce": "MCE",
    "rms_ce": "RMS calibration error",
    "debiased_rms_ce": "debiased RMS calibration error",
    "debiased_squared_ce": "debiased squared calibration error",
    "classwise_ece": "class-wise ECE",
    "overconfidence": "overconfidence",
    "underconfidence": "underconfidence",
    "smooth_ece": "smooth ECE",
    "ks_ce": "KS calibration error",
    "brier": "Brier score",
    "brier_multiclass": "Brier score of all options",
    "brier_reliability": "Brier reliability",
    "brier_resolution": "Brier resolution",
    "brier_uncertainty": "Brier uncertainty",
    "nll": "NLL",
    "accuracy": "accuracy",
    "mean_confidence": "mean confidence",
    "signed_gap": "signed gap",
    "auroc": "AUROC of confidence",
    "selective_accuracy": "accuracy at 80 % coverage",
    "selective_risk": "risk at 80 % coverage",
    "aurc": "area under the risk-coverage curve",
}


def test_what_metrics_are_called_and_which_way_is_better() -> None:
    """Higher is better of what counts right answers; of three numbers neither way is."""
    assert {name: METRICS[name].label for name in CALLED} == CALLED
    higher = {"accuracy", "auroc", "brier_resolution", "selective_accuracy"}
    neither = {"brier_uncertainty", "mean_confidence", "signed_gap"}
    for name in CALLED:
        better = "higher" if name in higher else "neither" if name in neither else "lower"
        assert METRICS[name].better == better, name
