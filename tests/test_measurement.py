"""A measurement: value, interval, noise floor, n, binning."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from known_calibration import calibrated, exact, two_runs

from pytest_calibration.errors import MetricError, PredictionsError
from pytest_calibration.measurement import measure, measure_all
from pytest_calibration.metrics import METRICS, cross_fitted_ece, ece, equal_mass_ece, mce
from pytest_calibration.predictions import Predictions, Signature
from pytest_calibration.uncertainty.noise_floor import floor_of
from pytest_calibration.uncertainty.quantiles import NORMAL, upper_quantile
from pytest_calibration.uncertainty.sample import Sample
from pytest_calibration.uncertainty.standard_errors import standard_error

of = Predictions.from_confidence
DEBIASED = {"cross_fitted_ece", "debiased_squared_ce"}
rows_of = st.lists(
    st.tuples(st.integers(0, 100).map(lambda k: k / 100), st.booleans()), min_size=1, max_size=60
)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_measured(name: str) -> None:
    """The value is the metric's, within its interval, with a noise floor if it is an error."""
    p = two_runs(400, 2, 1.3)[1]
    m = measure(p, name)
    assert m.value == METRICS[name](p)
    assert m.low <= m.value <= m.high
    assert m.low < m.high
    assert METRICS[name].lowest <= m.low
    assert m.high <= METRICS[name].highest
    assert math.isnan(m.noise_floor) is not METRICS[name].error
    # As text: NaN, where there is no noise floor, is not equal to itself.
    assert repr(measure(p, name)) == repr(m)


@given(rows_of, st.sampled_from([name for name, m in METRICS.items() if not m.needs]))
def test_intervals_contain_their_value(rows: list[tuple[float, bool]], name: str) -> None:
    """Low <= value <= high in groups of three, unless a debiased value is below 0."""
    assume(name != "auroc" or len({hit for _, hit in rows}) == 2)
    groups = [i // 3 for i in range(len(rows))]
    m = measure(of([c for c, _ in rows], [h for _, h in rows], groups=groups), name)
    assert m.low <= m.high
    assert m.value <= m.high + 1e-12
    assert m.low <= max(m.value, 0 if name in DEBIASED else -1) + 1e-12


@given(rows_of)
def test_debiased_interval_is_the_one_of_ece(rows: list[tuple[float, bool]]) -> None:
    """The cross-fitted ECE may be negative; its interval is that of ECE, in [0, 1]."""
    p = of([c for c, _ in rows], [h for _, h in rows])
    plain, fitted = measure(p), measure(p, "cross_fitted_ece")
    assert (fitted.low, fitted.high) == (plain.low, plain.high)
    assert fitted.value == cross_fitted_ece(p)
    assert fitted.value <= plain.value + 1e-12


def test_lower_end_of_ece_covers_calibrated_models() -> None:
    """For calibrated models (true ECE 0) the lower end is 0 in at least 93 % of runs."""
    for n in (200, 500, 1000):
        covered = [measure(calibrated(n, seed)).low == 0 for seed in range(300)]
        assert np.mean(covered) >= 0.93


def test_interval_of_ece_covers_a_miscalibrated_model() -> None:
    """The interval holds the ECE of the population in at least 93 % of runs at n = 1000."""
    truth = ece(two_runs(400_000, 0, 1.5)[1])
    assert truth == pytest.approx(0.10, abs=0.01)
    measured = [measure(two_runs(1000, seed, 1.5)[1]) for seed in range(300)]
    assert np.mean([m.low <= truth <= m.high for m in measured]) >= 0.93


@pytest.mark.parametrize("n", [250, 1000])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, 1.0])
def test_accuracy_interval_is_wilsons(share: float, n: int) -> None:
    """Wilson's ends are where (share - p)² = z²·p(1 - p)/n."""
    right = round(share * n)
    m = measure(of([0.5] * n, [i < right for i in range(n)]), "accuracy")
    z = NORMAL.inv_cdf(0.975)
    for end in (m.low, m.high):
        assert (share - end) ** 2 == pytest.approx(z * z * end * (1 - end) / n, abs=1e-12)
    assert m.low < m.high


def test_groups_are_the_units() -> None:
    """With groups, units are groups and standard errors are computed over them."""
    p = calibrated(600, 3)
    m = measure(of(p.confidence, p.correct, groups=[i // 2 for i in range(600)]), "mean_confidence")
    error = standard_error(p.confidence, np.arange(600) // 2)
    assert m.high - m.value == pytest.approx(upper_quantile(0.025, 300) * error)
    assert (m.n, m.n_clusters) == (600, 300)


@pytest.mark.parametrize("name", ["brier", "mean_confidence", "signed_gap", "nll"])
def test_means_have_the_normal_interval(name: str) -> None:
    """Value ± 1.96 sd/sqrt(n) of the averaged quantity."""
    p = calibrated(500, 7)
    assert p.label_logprobs is not None
    per_item = {
        "brier": (p.confidence - p.correct) ** 2,
        "mean_confidence": p.confidence,
        "signed_gap": p.confidence - p.correct,
        "nll": -p.label_logprobs,
    }[name]
    m = measure(p, name)
    margin = 1.959964 * per_item.std(ddof=1) / math.sqrt(500)
    assert m.value == pytest.approx(per_item.mean())
    assert (m.low, m.high) == pytest.approx((m.value - margin, m.value + margin), rel=1e-6)


def test_mce_interval_holds_for_all_bins_at_once() -> None:
    """For calibrated models (true MCE 0) the simultaneous lower end is 0 in 93 % of runs."""
    for n in (200, 1000):
        covered = [measure(calibrated(n, seed), "mce").low < 1e-12 for seed in range(200)]
        assert np.mean(covered) >= 0.93


@pytest.mark.parametrize("name", [name for name in METRICS if name != "auroc"])
def test_one_item_has_the_whole_range(name: str) -> None:
    """One item has a value, and the whole range as interval."""
    m = measure(Predictions.from_probabilities([[0.75, 0.25]], [0]), name)
    assert m.n == 1
    assert (m.low, m.high) == (-1 if name == "signed_gap" else 0, METRICS[name].highest)


def test_noise_floors_of_metrics() -> None:
    """ECE has a floor with a 95 % quantile, MCE one without, the signed gap that of a mean."""
    p = calibrated(400, 1)
    sample = Sample(p, 15, "equal_width")
    m, floor = measure(p), floor_of("ece", sample)
    assert (m.noise_floor, m.noise_floor_high) == (floor.mean, floor.high)
    largest = measure(p, "mce")
    assert largest.noise_floor == floor_of("mce", sample).mean
    assert math.isnan(largest.noise_floor_high)
    gap = measure(p, "signed_gap")
    variance = (p.confidence * (1 - p.confidence)).sum()
    assert gap.noise_floor == pytest.approx(math.sqrt(2 * variance / math.pi) / 400)


def test_floor_of_the_signed_gap_is_the_mean_of_calibrated_models() -> None:
    """Over calibrated models the mean absolute gap is the floor."""
    models = [measure(calibrated(300, seed), "signed_gap") for seed in range(400)]
    seen = np.mean([abs(m.value) for m in models])
    assert np.mean([m.noise_floor for m in models]) == pytest.approx(seen, rel=0.08)


def test_with_items_to_test_a_calibrated_model_passes() -> None:
    """With this n, 95 % of calibrated models are below the limit."""
    needed = round(np.mean([measure(calibrated(200, s)).items_to_test(0.05) for s in range(50)]))
    assert 800 < needed < 1200
    below = [measure(calibrated(needed, seed)).value < 0.05 for seed in range(400)]
    assert np.mean(below) == pytest.approx(0.95, abs=0.03)


def test_a_measurement_has_its_settings() -> None:
    """Binning, n, groups, probe, unit, model, accuracy and mean confidence are fields of it."""
    p = Predictions(
        probe="almanac",
        confidence=[0.9, 0.5, 0.7],
        correct=[True, False, False],
        item_ids=[1, 2, 3],
        groups=["a", "a", "b"],
        unit="token",
        signature=Signature({}, {"model": "sft"}),
    )
    m = measure(p, bins=10, strategy="equal_mass")
    assert (m.probe, m.unit, m.model) == ("almanac", "token", "sft")
    assert (m.n, m.n_clusters, m.bins, m.strategy) == (3, 2, 10, "equal_mass")
    assert m.accuracy == pytest.approx(1 / 3)
    assert m.mean_confidence == pytest.approx(0.7)
    assert m.signed_gap == pytest.approx(0.7 - 1 / 3)


LABELS = {
    "ece": "ECE (15 equal-width bins)",
    "equal_mass_ece": "ECE (15 equal-mass bins)",
    "cross_fitted_ece": "cross-fitted ECE (15 equal-width bins)",
    "mce": "MCE (15 equal-width bins)",
    "brier": "Brier score",
    "accuracy": "accuracy",
    "signed_gap": "signed gap",
}


@pytest.mark.parametrize(("name", "label"), LABELS.items(), ids=LABELS)
def test_labels_name_the_binning(name: str, label: str) -> None:
    """A binned metric is printed with its binning, another one without."""
    assert measure(calibrated(100, 1), name).label == label


def test_equal_mass_is_measured_with_its_own_bins() -> None:
    """Naming equal_mass_ece, or the strategy, gives the same measurement of quantile bins."""
    p = calibrated(300, 1)
    named, chosen = measure(p, "equal_mass_ece"), measure(p, strategy="equal_mass")
    assert named.value == chosen.value == equal_mass_ece(p)
    assert (named.low, named.high, named.noise_floor) == (
        chosen.low,
        chosen.high,
        chosen.noise_floor,
    )
    assert measure(p, "mce", strategy="equal_mass").value == mce(p, 15, "equal_mass")


def test_arrays_are_measured_too() -> None:
    """A pair (probabilities, labels), or (confidence, correct), is measured as predictions."""
    assert measure(([[0.75, 0.25], [0.75, 0.25]], [0, 1])).value == pytest.approx(0.25)
    assert measure(([0.75, 0.75], np.array([True, False]))).value == pytest.approx(0.25)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "metric": ({"metric": "eec"}, r"unknown metric 'eec' \(did you mean 'ece'\?\)"),
    "bins": ({"bins": 0}, "bins must be at least 1, got 0"),
    "strategy": ({"strategy": "width"}, "unknown binning strategy 'width'"),
    "nll": ({"metric": "nll"}, "nll needs the probability of the right answer"),
}


@pytest.mark.parametrize(("settings", "message"), REFUSED.values(), ids=REFUSED)
def test_unmeasurable_metrics_are_refused(settings: dict[str, Any], message: str) -> None:
    """An unknown metric or binning, or a metric without its data, is an error with the reason."""
    with pytest.raises(MetricError, match=message):
        measure(of([0.5, 0.6], [True, False]), **settings)


@pytest.mark.parametrize("ends", [(math.nan, 1.0), (0.0, math.nan)])
def test_an_end_that_is_nan_is_an_error(
    monkeypatch: pytest.MonkeyPatch, ends: tuple[float, float]
) -> None:
    """A NaN end of an interval raises an error that names probe and n."""
    monkeypatch.setattr("pytest_calibration.measurement.interval", lambda *_: ends)
    with pytest.raises(MetricError, match="ece of probe 'confidence' is NaN on 2 items"):
        measure(of([0.5, 0.6], [True, False]))


def test_a_value_that_is_nan_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A NaN value raises the same error."""
    broken = replace(METRICS["brier"], compute=lambda _: math.nan)
    monkeypatch.setitem(METRICS, "brier", broken)
    with pytest.raises(MetricError, match="brier of probe 'confidence' is NaN on 2 items"):
        measure(of([0.5, 0.6], [True, False]), "brier")


def test_other_types_are_refused() -> None:
    """The error names the type."""
    with pytest.raises(PredictionsError, match="got str"):
        measure("facts")  # type: ignore[arg-type]


def test_measuring_is_deterministic() -> None:
    """The same predictions measure to equal values, field by field."""
    p = calibrated(300, 5)
    assert measure(p) == measure(p)
    assert measure(p.take(np.arange(300))) == measure(p)


def test_exactly_calibrated_counts_keep_an_interval() -> None:
    """An ECE of exactly 0 on 400 items is still uncertain: the interval has a width."""
    m = measure(exact({0.25: 0.0}))
    assert m.value == pytest.approx(0, abs=1e-12)
    assert m.high > 0.02


@pytest.mark.parametrize("grouped", [False, True])
def test_all_metrics_at_once_are_what_each_is_alone(grouped: bool) -> None:
    """What metrics share changes no number of any."""
    p = calibrated(400, 3)
    if grouped:
        p = replace(p, groups=np.array([str(i // 4) for i in range(400)]))
    together = measure_all(p, bins=12)
    assert {name for name, m in METRICS.items() if m.applies_to(p)} == set(together)
    for name, one in together.items():
        # NaN, where an error has no 95 % point, equals nothing.
        assert str(one) == str(measure(replace(p), name, bins=12)), name
