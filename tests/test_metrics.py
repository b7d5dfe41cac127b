"""Metrics against formulas, rational arithmetic, published values and scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from datasets import DATASETS, calibrated, exact, four_way
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.errors import MetricError
from pytest_calibration.metrics import (
    METRICS,
    Strategy,
    accuracy,
    bin_edges,
    bin_index,
    bin_table,
    brier,
    ece,
    equal_mass_ece,
    mce,
    mean_confidence,
    metric_named,
    nll,
    signed_gap,
)
from pytest_calibration.predictions import FloatArray, Predictions

STRATEGIES: tuple[Strategy, ...] = ("equal_width", "equal_mass")

of = Predictions.from_confidence
anything = st.lists(
    st.tuples(
        st.one_of(st.floats(0, 1), st.integers(0, 100).map(lambda k: k / 100)), st.booleans()
    ),
    min_size=1,
    max_size=80,
)


def built(rows: list[tuple[float, bool]]) -> Predictions:
    """Predictions from (confidence, correct) rows."""
    return of([c for c, _ in rows], [h for _, h in rows])


# --- the same number as other programs ----------------------------------------------------------

# Computed on the datasets by other programs and by reference code that shares nothing with ours:
# the rule (a, b] with 0 in the first bin, on float64 and on float32 confidences; scikit-learn's
# bins, uncertainty-calibration's get_ece and lm-polygraph's ECE give the float64 columns too.
FLOAT64 = {
    ("D1", 15): 0.1106022066,
    ("D2", 15): 0.0687500000,
    ("D3", 15): 0.1698333333,
    ("D3", 10): 0.1695000000,
}
FLOAT32 = {
    ("D1", 15): 0.1106022067,
    ("D2", 15): 0.0687499995,
    ("D3", 15): 0.1698333311,
    ("D3", 10): 0.1694999973,
}
EQUAL_MASS = {
    ("D1", 15): 0.1124629116,
    ("D2", 15): 0.0687500000,
    ("D3", 15): 0.1695000000,
    ("D3", 10): 0.1695000000,
}
ROOT_MEAN_SQUARE = {
    ("D1", 15): 0.1339794466,
    ("D2", 15): 0.0818620113,
    ("D3", 15): 0.1853784009,
    ("D3", 10): 0.1848311859,
}


def cases(table: dict[tuple[str, int], float]) -> pytest.MarkDecorator:
    """Parametrise over (dataset, bins) and the value other programs give."""
    return pytest.mark.parametrize(
        ("name", "bins", "published"),
        [(name, bins, value) for (name, bins), value in table.items()],
        ids=[f"{name}-{bins}" for name, bins in table],
    )


@cases(FLOAT64)
def test_ece_is_the_number_of_other_programs(name: str, bins: int, published: float) -> None:
    """On float64 confidences ECE is what scikit-learn's bins and two other packages give."""
    assert ece(of(*DATASETS[name]()), bins) == pytest.approx(published, abs=5e-11)


@cases(FLOAT32)
def test_ece_of_float32_is_the_same_but_for_rounding(
    name: str, bins: int, published: float
) -> None:
    """On float32 confidences no item changes its bin, and ECE moves by the rounding alone."""
    confidence, correct = DATASETS[name]()
    value = ece(of(confidence.astype(np.float32), correct), bins)
    assert value == pytest.approx(published, abs=5e-11)
    assert value == pytest.approx(FLOAT64[name, bins], abs=3e-9)


@cases(EQUAL_MASS)
def test_equal_mass_ece_keeps_ties_together(name: str, bins: int, published: float) -> None:
    """Equal-mass ECE takes quantile edges, (a, b], so that rows in any order give one number."""
    confidence, correct = DATASETS[name]()
    assert equal_mass_ece(of(confidence, correct), bins) == pytest.approx(published, abs=5e-11)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(confidence))
        shuffled = of(confidence[order], correct[order])
        assert equal_mass_ece(shuffled, bins) == pytest.approx(published, abs=5e-11)


@cases(ROOT_MEAN_SQUARE)
def test_bin_table_gives_the_root_mean_square_error(name: str, bins: int, published: float) -> None:
    """The bin table holds all it takes: sqrt(Σ n_b/n gap_b²) is what other programs give."""
    table = bin_table(of(*DATASETS[name]()), bins)
    value = np.sqrt((table.count * table.gap**2).sum() / table.n)
    assert value == pytest.approx(published, abs=5e-11)


def _sklearn_ece(
    confidence: FloatArray, correct: Any, bins: int, strategy: str, calibration_curve: Any
) -> float:
    """ECE from scikit-learn's curve, with the counts it does not return."""
    true, mean = calibration_curve(correct, confidence, n_bins=bins, strategy=strategy)
    grid = np.linspace(0, 1, bins + 1)
    edges = grid if strategy == "uniform" else np.percentile(confidence, grid * 100)
    count = np.bincount(np.searchsorted(edges[1:-1], confidence), minlength=bins)
    count = count[count > 0]
    return float((count * np.abs(true - mean)).sum() / count.sum())


@pytest.mark.parametrize("bins", [5, 10, 15, 20])
@pytest.mark.parametrize("name", DATASETS)
def test_scikit_learn_agrees_on_the_datasets(name: str, bins: int) -> None:
    """scikit-learn's calibration curve, weighted by its counts, gives our ECE even on edges."""
    curve = pytest.importorskip("sklearn.calibration").calibration_curve
    confidence, correct = DATASETS[name]()
    p = of(confidence, correct)
    expected = _sklearn_ece(confidence, correct, bins, "uniform", curve)
    assert ece(p, bins) == pytest.approx(expected, abs=1e-12)
    expected = _sklearn_ece(confidence, correct, bins, "quantile", curve)
    assert equal_mass_ece(p, bins) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_scikit_learn_agrees_off_the_edges(seed: int) -> None:
    """On random confidences scikit-learn and we agree for both ways of binning."""
    curve = pytest.importorskip("sklearn.calibration").calibration_curve
    rng = np.random.default_rng(seed)
    n = int(rng.integers(50, 2000))
    confidence = rng.beta(4, 1.5, n)
    correct = rng.random(n) < confidence**1.5
    p = of(confidence, correct)
    for bins in (5, 10, 15, 40):
        for ours, theirs in (("equal_width", "uniform"), ("equal_mass", "quantile")):
            expected = _sklearn_ece(confidence, correct, bins, theirs, curve)
            value = {"equal_width": ece, "equal_mass": equal_mass_ece}[ours](p, bins)
            assert value == pytest.approx(expected, abs=1e-12)


def test_confidence_one_lies_in_the_last_bin() -> None:
    """0.95 right and 1.0 wrong share the last of 10 bins: |0.975 - 0.5| = 0.475, not 0.525."""
    p = of([0.95, 1.0], [1, 0])
    assert ece(p, 10) == pytest.approx(0.475, abs=1e-15)
    assert ece(of(np.array([0.95, 1.0], np.float32), [1, 0]), 10) == pytest.approx(0.475, abs=1e-7)


# --- which bin ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("bins", [5, 10, 15, 20, 25, 50, 100])
def test_two_decimal_confidences_are_binned_as_fractions(bins: int, dtype: type) -> None:
    """Each of the 101 two-decimal confidences lies where rational arithmetic puts it."""
    expected = [max(0, -(-Fraction(k, 100) * bins // 1) - 1) for k in range(101)]
    confidence = (np.arange(101) / 100).astype(dtype).astype(np.float64)
    assert bin_index(confidence, bins).tolist() == expected


@pytest.mark.parametrize("bins", [1, 2, 3, 7, 15, 33, 64])
def test_edges_are_closed_on_the_right(bins: int) -> None:
    """The edge k/B belongs to the bin below it; 0 to the first bin, 1 to the last."""
    edges = np.arange(bins + 1) / bins
    assert bin_index(edges, bins).tolist() == [0, *range(bins)]
    inside = (np.arange(bins) + 0.5) / bins
    assert bin_index(inside, bins).tolist() == list(range(bins))


@given(anything, st.integers(1, 40), st.sampled_from(STRATEGIES))
def test_the_printed_edges_enclose_their_items(
    rows: list[tuple[float, bool]], bins: int, strategy: Strategy
) -> None:
    """Every confidence lies within the edges of its bin, up to the snap, and none is lost."""
    p = built(rows)
    table, index = bin_table(p, bins, strategy), bin_index(p.confidence, bins, strategy)
    snap = 2e-6 if strategy == "equal_width" else 0.0
    assert (p.confidence <= table.upper[index] + snap).all()
    assert ((p.confidence > table.lower[index]) | (index == 0)).all()
    assert table.n == len(rows)
    assert table.lower[0] == 0
    assert table.upper[-1] == 1
    np.testing.assert_array_equal(table.lower[1:], table.upper[:-1])
    assert table.sum_correct.sum() == p.correct.sum()
    assert table.sum_confidence.sum() == pytest.approx(p.confidence.sum(), abs=1e-9)
    assert table.sum_squared_gap.sum() == pytest.approx((p.gap**2).sum(), abs=1e-9)


@given(anything, st.integers(1, 40), st.sampled_from(STRATEGIES))
def test_equal_confidences_share_a_bin(
    rows: list[tuple[float, bool]], bins: int, strategy: Strategy
) -> None:
    """Bins are monotone in the confidence, and equal confidences are never split."""
    confidence = np.array([c for c, _ in rows + rows])
    index = bin_index(confidence, bins, strategy)
    np.testing.assert_array_equal(index[: len(rows)], index[len(rows) :])
    order = np.argsort(confidence)
    assert (np.diff(index[order]) >= 0).all()


def test_equal_mass_bins_hold_equal_counts_without_ties() -> None:
    """600 distinct confidences in 15 bins are 40 each."""
    confidence = np.random.default_rng(0).permutation(np.linspace(0.2, 0.99, 600))
    table = bin_table(of(confidence, [True] * 600), 15, "equal_mass")
    assert table.count.tolist() == [40] * 15


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0], ids=str)
def test_equal_mass_of_one_value_is_one_bin(value: float) -> None:
    """Where all confidences are equal, equal mass fills one bin and ECE is the absolute gap."""
    p = of([value] * 20, [i < 7 for i in range(20)])
    table = bin_table(p, 15, "equal_mass")
    assert (table.count > 0).sum() == 1
    assert equal_mass_ece(p) == pytest.approx(abs(value - 7 / 20))


def test_equal_mass_drops_repeated_edges() -> None:
    """Repeated quantiles are one edge, so there are fewer bins than asked for."""
    edges = bin_edges(np.array([0.1] * 50 + [0.9] * 50), 10, "equal_mass")
    assert len(np.unique(edges)) == len(edges)
    assert len(edges) < 11


def test_empty_bins_are_nan_to_a_reader_and_nothing_to_a_sum() -> None:
    """An empty bin has no mean, no accuracy and a gap of 0."""
    table = bin_table(of([0.95, 0.05], [1, 0]), 10)
    assert len(table) == 10
    assert np.isnan(table.confidence[5])
    assert np.isnan(table.accuracy[5])
    assert table.gap[5] == 0
    assert table.count.tolist() == [1] + [0] * 8 + [1]


# --- formulas -----------------------------------------------------------------------------------


def test_ece_by_hand() -> None:
    """Two bins of 3 and 1: (3/4)|0.9 - 2/3| + (1/4)|0.3 - 1| = 0.175 + 0.175."""
    p = of([0.9, 0.9, 0.9, 0.3], [1, 1, 0, 1])
    assert ece(p, 10) == pytest.approx(0.35)
    assert mce(p, 10) == pytest.approx(0.7)
    assert signed_gap(p) == pytest.approx(0.0)
    assert accuracy(p) == 0.75
    assert mean_confidence(p) == pytest.approx(0.75)
    assert brier(p) == pytest.approx((0.01 + 0.01 + 0.81 + 0.49) / 4)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_known_gaps_give_known_errors(strategy: Strategy) -> None:
    """With gaps of 0.1, -0.2 and 0.05 in equal shares ECE is their mean size and MCE 0.2."""
    p = exact({0.45: 0.1, 0.75: -0.2, 0.95: 0.05}, each=100)
    assert ece(p, 15, strategy) == pytest.approx((0.1 + 0.2 + 0.05) / 3)
    assert mce(p, 15, strategy) == pytest.approx(0.2)
    assert signed_gap(p) == pytest.approx((0.1 - 0.2 + 0.05) / 3)


def test_one_bin_is_the_absolute_gap() -> None:
    """With a single bin ECE and MCE are |mean confidence - accuracy|."""
    p = of(*DATASETS["D1"]())
    assert ece(p, 1) == pytest.approx(abs(signed_gap(p)))
    assert mce(p, 1) == pytest.approx(abs(signed_gap(p)))


def test_nll_is_the_mean_negative_log_probability_of_the_label() -> None:
    """Probabilities 1/2, 1/4 and 1/8 of the right class give (1 + 2 + 3) ln 2 / 3 nats."""
    table = [[0.5, 0.5, 0], [0.25, 0.75, 0], [0.125, 0.375, 0.5]]
    p = Predictions.from_probabilities(table, [0, 0, 0])
    assert nll(p) == pytest.approx(2 * np.log(2))


def test_scikit_learn_agrees_on_log_loss_and_brier() -> None:
    """NLL is scikit-learn's log_loss; the top-label Brier score its binary Brier score."""
    sk = pytest.importorskip("sklearn.metrics")
    logits, labels = four_way(500, 5)
    p = Predictions.from_logits(logits, labels)
    assert nll(p) == pytest.approx(sk.log_loss(labels, p.probabilities), rel=1e-12)
    assert brier(p) == pytest.approx(sk.brier_score_loss(p.correct, p.confidence), rel=1e-12)


def test_nll_needs_the_probability_of_the_label() -> None:
    """Confidence and correctness do not determine NLL, and the error says so."""
    with pytest.raises(MetricError, match=r"nll needs .* probe 'confidence' .* use brier instead"):
        nll(of([0.5], [True]))


# --- properties ---------------------------------------------------------------------------------


@given(anything, st.integers(1, 40), st.sampled_from(STRATEGIES))
def test_order_of_the_metrics(
    rows: list[tuple[float, bool]], bins: int, strategy: Strategy
) -> None:
    """0 <= |signed gap| <= ECE <= MCE <= 1, whatever the data and the binning."""
    p = built(rows)
    value, worst = ece(p, bins, strategy), mce(p, bins, strategy)
    assert 0 <= value <= 1
    assert abs(signed_gap(p)) <= value + 1e-12
    assert value <= worst + 1e-12
    assert worst <= 1


@given(anything, st.randoms(use_true_random=False), st.sampled_from(sorted({*METRICS} - {"nll"})))
def test_no_metric_depends_on_the_order_of_the_rows(
    rows: list[tuple[float, bool]], random: Any, name: str
) -> None:
    """Shuffling the rows changes no metric."""
    shuffled = random.sample(rows, len(rows))
    metric = METRICS[name]
    assert metric(built(shuffled)) == pytest.approx(metric(built(rows)), abs=1e-12)


@given(anything, st.integers(2, 5), st.integers(1, 20))
def test_repeating_the_data_changes_no_metric(
    rows: list[tuple[float, bool]], times: int, bins: int
) -> None:
    """Equal-width metrics are functions of the distribution: n copies give the same number."""
    for metric in (ece, mce):
        once, often = metric(built(rows), bins), metric(built(rows * times), bins)
        assert often == pytest.approx(once, abs=1e-12)


@given(anything, st.integers(1, 20), st.integers(1, 5))
def test_finer_bins_never_lower_ece(rows: list[tuple[float, bool]], bins: int, factor: int) -> None:
    """Splitting bins cannot cancel more: ECE over k·B bins is at least ECE over B."""
    # On a grid, so that no value lies within the snap of an edge without being one.
    p = built([(round(c, 3), h) for c, h in rows])
    assert ece(p, bins * factor) >= ece(p, bins) - 1e-12


@given(st.integers(1, 60), st.integers(0, 60), st.sampled_from(STRATEGIES))
def test_sure_and_right_is_perfect(n: int, wrong: int, strategy: Strategy) -> None:
    """At confidence 1, every error metric is the share of wrong answers; none when all right."""
    wrong = min(wrong, n)
    p = of([1.0] * n, [i >= wrong for i in range(n)])
    for value in (ece(p, 15, strategy), mce(p, 15, strategy), brier(p), signed_gap(p)):
        assert value == pytest.approx(wrong / n)


def test_calibrated_models_have_the_known_null_distribution() -> None:
    """ECE15 of calibrated four-way models: mean .078, .050, .036 at n = 200, 500, 1000."""
    for n, published in ((200, 0.078), (500, 0.050), (1000, 0.036)):
        values = [ece(calibrated(n, seed)) for seed in range(300)]
        assert np.mean(values) == pytest.approx(published, rel=0.04)


# --- names and settings -------------------------------------------------------------------------


@pytest.mark.parametrize("bins", [0, -3])
@pytest.mark.parametrize("call", [ece, mce, bin_table, equal_mass_ece], ids=lambda f: f.__name__)
def test_bins_below_one_are_refused(call: Callable[..., Any], bins: int) -> None:
    """Fewer than one bin is an error that shows the value."""
    with pytest.raises(MetricError, match=f"bins must be at least 1, got {bins}"):
        call(of([0.5], [True]), bins)


def test_unknown_strategy_is_refused() -> None:
    """An unknown binning is an error that names the two there are."""
    with pytest.raises(MetricError, match="'quantile'; use 'equal_width' or 'equal_mass'"):
        ece(of([0.5], [True]), 10, "quantile")  # type: ignore[arg-type]


def test_unknown_metric_suggests_the_nearest() -> None:
    """An unknown metric name is answered with the nearest one and the list."""
    with pytest.raises(MetricError, match=r"unknown metric 'breir' \(did you mean 'brier'\?\)"):
        metric_named("breir")
    with pytest.raises(MetricError, match=r"unknown metric 'xyz'; known metrics: ece, "):
        metric_named("xyz")


@pytest.mark.parametrize("name", METRICS)
def test_every_named_metric_is_a_finite_number(name: str) -> None:
    """Every metric of the table gives a plain finite float on ordinary predictions."""
    value = metric_named(name)(calibrated(100, 1))
    assert type(value) is float
    assert np.isfinite(value)
