"""Comparison with other programs: equal numbers, or different ones for a known reason.

A check runs where the other program is installed (dependency group ``cross-check``). Where programs
disagree, a test asserts both numbers: it fails when either of them changes.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from known_calibration import DATASETS, sharpened

from pytest_calibration.errors import PredictionsError
from pytest_calibration.metrics import (
    aurc,
    auroc,
    bin_table,
    brier,
    brier_multiclass,
    classwise_ece,
    debiased_rms_ce,
    debiased_squared_ce,
    ece,
    equal_mass_ece,
    ks_ce,
    mce,
    mean_entropy,
    nll,
    rms_ce,
    smooth_ece,
)
from pytest_calibration.predictions import BoolArray, FloatArray, IntArray, Predictions

of = Predictions.from_confidence

FOUR_WAY = sharpened()
# D4 is the top answer of a four-way model. No confidence of D1 and D4 is on an edge of a bin, most
# of those of D2 and D3 are.
SETS: dict[str, tuple[FloatArray, BoolArray]] = {
    **{name: make() for name, make in DATASETS.items()},
    "D4": (FOUR_WAY.confidence, FOUR_WAY.correct),
}
everywhere = pytest.mark.parametrize("name", SETS)
off_the_edges = pytest.mark.parametrize("name", ["D1", "D4"])


def dataset(name: str) -> tuple[Predictions, FloatArray, IntArray]:
    """Return predictions of a dataset, its confidences and its outcomes as 0 and 1."""
    confidence, correct = SETS[name]
    return of(confidence, correct), np.array(confidence), np.array(correct, dtype=np.int64)


def close(value: float) -> Any:
    """Return what is equal but for the rounding of float64 sums."""
    return pytest.approx(value, abs=1e-12)


# --- published values ---------------------------------------------------------------------------

# Computed by other programs and by independent reference code: the rule (a, b] with 0 in the first
# bin, for float64 and float32 confidences.
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
    """Return a parametrisation over (dataset, bins) and the value of other programs."""
    return pytest.mark.parametrize(
        ("name", "bins", "published"),
        [(name, bins, value) for (name, bins), value in table.items()],
        ids=[f"{name}-{bins}" for name, bins in table],
    )


@cases(FLOAT64)
def test_ece_is_the_number_of_other_programs(name: str, bins: int, published: float) -> None:
    """For float64 confidences ECE is that of four other programs."""
    assert ece(of(*SETS[name]), bins) == pytest.approx(published, abs=5e-11)


@cases(FLOAT32)
def test_ece_of_float32_is_the_same_but_for_rounding(
    name: str, bins: int, published: float
) -> None:
    """For float32 confidences no item changes its bin; ECE differs by rounding alone."""
    confidence, correct = SETS[name]
    value = ece(of(confidence.astype(np.float32), correct), bins)
    assert value == pytest.approx(published, abs=5e-11)
    assert value == pytest.approx(FLOAT64[name, bins], abs=3e-9)


@cases(EQUAL_MASS)
def test_equal_mass_ece_keeps_ties_together(name: str, bins: int, published: float) -> None:
    """Edges are quantiles, bins are (a, b]: the order of the rows does not matter."""
    confidence, correct = SETS[name]
    assert equal_mass_ece(of(confidence, correct), bins) == pytest.approx(published, abs=5e-11)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(confidence))
        shuffled = of(confidence[order], correct[order])
        assert equal_mass_ece(shuffled, bins) == pytest.approx(published, abs=5e-11)


@cases(ROOT_MEAN_SQUARE)
def test_rms_error_is_the_number_of_other_programs(name: str, bins: int, published: float) -> None:
    """sqrt(Σ n_b/n gap_b²) is the value of reference code."""
    assert rms_ce(of(*SETS[name]), bins) == pytest.approx(published, abs=5e-11)


# --- one number, many programs ------------------------------------------------------------------


def torchmetrics_error(
    confidence: FloatArray, correct: IntArray, bins: int = 15, norm: str = "l1"
) -> float:
    """Calibration error of (confidence, correct) as torchmetrics computes it in float64."""
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    pair = torch.from_numpy(confidence), torch.from_numpy(correct)
    return float(functional.binary_calibration_error(*pair, n_bins=bins, norm=norm))


def netcal_error(confidence: FloatArray, correct: IntArray) -> float:
    """ECE of 15 bins by netcal."""
    return float(pytest.importorskip("netcal.metrics").ECE(15).measure(confidence, correct))


def relplot_error(confidence: FloatArray, correct: IntArray) -> float:
    """ECE of 15 bins by relplot."""
    metrics = pytest.importorskip("relplot.metrics")
    return float(metrics.binnedECE(confidence, correct.astype(float), nbins=15))


def mapie_error(confidence: FloatArray, correct: IntArray) -> float:
    """ECE of 15 bins by MAPIE."""
    metrics = pytest.importorskip("mapie.metrics.calibration")
    return float(metrics.expected_calibration_error(correct, confidence, num_bins=15))


# Bins closed on the left (netcal, torchmetrics, relplot), a bin of its own for 1.0 (torchmetrics,
# relplot), edges lost to rounding (relplot), one bin less than asked for (MAPIE).
ON_EDGES = {
    "netcal": (netcal_error, (0.1106022066, 0.0750000000, 0.1695000000)),
    "torchmetrics": (torchmetrics_error, (0.1106022066, 0.0729166667, 0.1695000000)),
    "relplot": (relplot_error, (0.1106022066, 0.0770833333, 0.1695000000)),
    "MAPIE": (mapie_error, (0.1132464478, 0.0750000000, 0.1695000000)),
}


@pytest.mark.parametrize("name", ["D1", "D2", "D3"])
@pytest.mark.parametrize("program", ON_EDGES)
def test_each_program_has_its_own_number_on_edges(program: str, name: str) -> None:
    """ECE of 15 bins: theirs is what the documentation says, and on edges never ours."""
    error, numbers = ON_EDGES[program]
    p, confidence, correct = dataset(name)
    theirs = numbers[("D1", "D2", "D3").index(name)]
    assert error(confidence, correct) == pytest.approx(theirs, abs=1e-10)
    assert ece(p) == pytest.approx(FLOAT64[name, 15], abs=1e-10)
    assert (abs(ece(p) - theirs) < 1e-9) == (name == "D1" and program != "MAPIE")


# --- scikit-learn and scipy ---------------------------------------------------------------------


def sklearn_ece(
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
@everywhere
def test_scikit_learn_agrees_on_both_binnings(name: str, bins: int) -> None:
    """scikit-learn's calibration curve, weighted by its counts, gives our ECE even on edges."""
    curve = pytest.importorskip("sklearn.calibration").calibration_curve
    p, confidence, correct = dataset(name)
    assert ece(p, bins) == close(sklearn_ece(confidence, correct, bins, "uniform", curve))
    expected = sklearn_ece(confidence, correct, bins, "quantile", curve)
    assert equal_mass_ece(p, bins) == close(expected)


@pytest.mark.parametrize("seed", range(10))
def test_scikit_learn_agrees_on_random_confidences(seed: int) -> None:
    """On random confidences scikit-learn and we agree for both ways of binning."""
    curve = pytest.importorskip("sklearn.calibration").calibration_curve
    rng = np.random.default_rng(seed)
    n = int(rng.integers(50, 2000))
    confidence = rng.beta(4, 1.5, n)
    correct = rng.random(n) < confidence**1.5
    p = of(confidence, correct)
    for bins in (5, 10, 15, 40):
        assert ece(p, bins) == close(sklearn_ece(confidence, correct, bins, "uniform", curve))
        expected = sklearn_ece(confidence, correct, bins, "quantile", curve)
        assert equal_mass_ece(p, bins) == close(expected)


@everywhere
def test_scikit_learn_and_scipy_agree_on_auroc_and_brier(name: str) -> None:
    """roc_auc_score, the Mann-Whitney statistic over all pairs, and brier_score_loss, ties too."""
    sk = pytest.importorskip("sklearn.metrics")
    stats = pytest.importorskip("scipy.stats")
    p, confidence, correct = dataset(name)
    right, wrong = confidence[correct == 1], confidence[correct == 0]
    assert auroc(p) == close(sk.roc_auc_score(correct, confidence))
    pairs = stats.mannwhitneyu(right, wrong).statistic
    assert auroc(p) == close(pairs / (len(right) * len(wrong)))
    assert brier(p) == close(sk.brier_score_loss(correct, confidence))


def test_scikit_learn_and_scipy_agree_on_tables() -> None:
    """log_loss, the Brier score of all options (not halved), and scipy's entropy of each row."""
    sk = pytest.importorskip("sklearn.metrics")
    stats = pytest.importorskip("scipy.stats")
    table, labels = FOUR_WAY.probabilities, FOUR_WAY.labels
    assert nll(FOUR_WAY) == close(sk.log_loss(labels, table))
    for half, factor in ((False, 1), (True, 2)):
        score = sk.brier_score_loss(labels, table, labels=range(4), scale_by_half=half)
        assert brier_multiclass(FOUR_WAY) == close(factor * score)
    assert mean_entropy(FOUR_WAY) == close(stats.entropy(table, axis=1).mean())


def test_scipy_makes_rounded_rows_sum_to_one_before_their_entropy() -> None:
    """Of the row (0.333, 0.333, 0.333) scipy gives log 3; we give what is written there."""
    stats = pytest.importorskip("scipy.stats")
    row = [0.333, 0.333, 0.333]
    assert mean_entropy(([row], [0])) == close(-0.999 * math.log(0.333))
    assert stats.entropy(row) == close(math.log(3))


@pytest.mark.parametrize(("share", "there"), [(2**-40, 40), (2**-52, 52), (2**-53, 52), (0, 52)])
def test_scikit_learn_clips_what_is_nearly_impossible(share: float, there: int) -> None:
    """A right answer of probability 2**-53 costs log 2**52 there, and what it is here."""
    sk = pytest.importorskip("sklearn.metrics")
    table, labels = [[1 - share, share], [0.5, 0.5]], [1, 0]
    assert sk.log_loss(labels, table) == close((1 + there) * math.log(2) / 2)
    here = 1022 if share == 0 else -math.log2(share)
    assert nll((table, labels)) == close((1 + here) * math.log(2) / 2)


def test_scikit_learn_calls_the_impossible_less_unlikely() -> None:
    """A right answer of probability 0 costs log 2**52 there, and log 2**1022 here."""
    sk = pytest.importorskip("sklearn.metrics")
    table = [[1.0, 0.0], [0.5, 0.5]]
    assert sk.log_loss([1, 0], table) == close((math.log(2) + 52 * math.log(2)) / 2)
    assert nll((table, [1, 0])) == close((math.log(2) + 1022 * math.log(2)) / 2)


# --- netcal -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", [5, 10, 15])
@off_the_edges
def test_netcal_agrees_off_the_edges(name: str, bins: int) -> None:
    """ECE, MCE and ECE over quantile bins are netcal's where no confidence lies on an edge."""
    netcal = pytest.importorskip("netcal.metrics")
    p, confidence, correct = dataset(name)
    assert ece(p, bins) == close(netcal.ECE(bins).measure(confidence, correct))
    assert mce(p, bins) == close(netcal.MCE(bins).measure(confidence, correct))
    quantile = netcal.ECE(bins, equal_intervals=False)
    assert equal_mass_ece(p, bins) == close(quantile.measure(confidence, correct))


def test_netcal_agrees_on_a_table_of_four() -> None:
    """Given the whole table netcal takes the top answer, as we do."""
    netcal = pytest.importorskip("netcal.metrics")
    value = netcal.ECE(15).measure(np.array(FOUR_WAY.probabilities), np.array(FOUR_WAY.labels))
    assert ece(FOUR_WAY) == close(value)


def test_what_netcal_calls_ace_is_not_weighted() -> None:
    """Its ACE is the plain mean of the gaps of the non-empty bins, however few items they hold."""
    netcal = pytest.importorskip("netcal.metrics")
    for name, theirs in (("D1", 0.1073199642), ("D4", 0.1138072978)):
        p, confidence, correct = dataset(name)
        table = bin_table(p)
        unweighted = np.abs(table.gap)[table.count > 0].mean()
        assert netcal.ACE(15).measure(confidence, correct) == close(unweighted)
        assert unweighted == pytest.approx(theirs, abs=1e-10)
        assert abs(ece(p) - unweighted) > 1e-3


def test_netcal_refuses_repeated_quantiles() -> None:
    """With ties its quantile bins have no width, and it raises; ours become fewer."""
    netcal = pytest.importorskip("netcal.metrics")
    p, confidence, correct = dataset("D3")
    assert equal_mass_ece(p) == pytest.approx(0.1695, abs=1e-10)
    with pytest.raises(ValueError, match="edge difference is numerically 0"):
        netcal.ECE(15, equal_intervals=False).measure(confidence, correct)


# --- torchmetrics -------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", [5, 10, 15])
@off_the_edges
def test_torchmetrics_agrees_off_the_edges(name: str, bins: int) -> None:
    """Its norms l1, l2 and max are ECE, RMS error and MCE where no confidence lies on an edge."""
    p, confidence, correct = dataset(name)
    for norm, metric in (("l1", ece), ("l2", rms_ce), ("max", mce)):
        assert metric(p, bins) == close(torchmetrics_error(confidence, correct, bins, norm))


def test_torchmetrics_puts_certainty_into_a_bin_of_its_own() -> None:
    """0.95 right and 1.0 wrong: one bin and 0.475 here; a hidden 11th bin and 0.525 there."""
    confidence, correct = np.array([0.95, 1.0]), np.array([1, 0])
    assert ece(of(confidence, correct), 10) == close(abs(0.975 - 0.5))
    assert torchmetrics_error(confidence, correct, 10) == close((0.05 + 1.0) / 2)
    stored = of(confidence.astype(np.float32), correct)
    assert ece(stored, 10) == pytest.approx(0.475, abs=1e-7)


def test_torchmetrics_rounds_tables_to_float32() -> None:
    """Its multiclass error is ours to 7 digits, whatever the precision it is given."""
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    table = torch.from_numpy(np.array(FOUR_WAY.probabilities))
    labels = torch.from_numpy(np.array(FOUR_WAY.labels))
    value = functional.multiclass_calibration_error(table, labels, 4, n_bins=15)
    assert table.dtype == torch.float64
    assert value.dtype == torch.float32
    assert ece(FOUR_WAY) == pytest.approx(float(value), abs=1e-7)


def test_torchmetrics_takes_small_logits_for_probabilities() -> None:
    """Logits that all lie in [0, 1] are not soft-maxed there; here rows must sum to 1."""
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    logits, labels = [[0.9, 0.2], [0.9, 0.4]], [0, 1]
    value = functional.multiclass_calibration_error(
        torch.tensor(logits), torch.tensor(labels), 2, n_bins=10
    )
    assert float(value) == pytest.approx(0.9 - 0.5, abs=1e-6)
    with pytest.raises(PredictionsError, match=r"sums to 1\.1, not 1; pass logits to"):
        ece((logits, labels))


# --- uncertainty-calibration --------------------------------------------------------------------


@pytest.mark.parametrize("bins", [5, 10, 15, 20])
@everywhere
def test_uncertainty_calibration_agrees_on_ece(name: str, bins: int) -> None:
    """Its get_ece is our ECE, on edges too."""
    other = pytest.importorskip("calibration")
    p, confidence, correct = dataset(name)
    assert ece(p, bins) == close(other.get_ece(confidence, correct, num_bins=bins))


def test_uncertainty_calibration_agrees_on_tables() -> None:
    """On a table: the top answer's ECE, and its marginal error, which is the class-wise ECE."""
    other = pytest.importorskip("calibration")
    table, labels = FOUR_WAY.probabilities, FOUR_WAY.labels
    assert ece(FOUR_WAY) == close(other.get_ece(table, labels))
    for bins in (10, 15):
        marginal = other.get_ece(table, labels, num_bins=bins, mode="marginal")
        assert classwise_ece(FOUR_WAY, bins) == close(marginal)


@pytest.mark.parametrize("name", ["D1", "D3", "D4"])
def test_uncertainty_calibration_agrees_on_classes_of_two(name: str) -> None:
    """As a binary table these datasets have the same marginal error in both programs."""
    other = pytest.importorskip("calibration")
    _, confidence, correct = dataset(name)
    table = np.column_stack([1 - confidence, confidence])
    marginal = other.get_ece(table, correct, mode="marginal")
    assert classwise_ece((table, correct)) == close(marginal)


def test_uncertainty_calibration_loses_edges_to_rounding() -> None:
    """1 - k/15 is an edge to fractions and to us; there it may lie a rounding error beside it."""
    other = pytest.importorskip("calibration")
    _, confidence, correct = dataset("D2")
    table = np.column_stack([1 - confidence, confidence])
    exactly = [round(15 * c) for c in confidence]
    expected = Fraction(0)
    for option in (0, 1):
        gaps: dict[int, Fraction] = {}
        for k, h in zip(exactly, correct.tolist(), strict=True):
            step = k if option else 15 - k
            gap = Fraction(step, 15) - (h if option else 1 - h)
            gaps[max(step - 1, 0)] = gaps.get(max(step - 1, 0), Fraction(0)) + gap
        expected += sum(map(abs, gaps.values())) / Fraction(2 * len(exactly))
    assert classwise_ece((table, correct)) == close(float(expected))
    theirs = other.get_ece(table, correct, mode="marginal")
    assert theirs == pytest.approx(0.0666666667, abs=1e-10)
    assert abs(theirs - float(expected)) > 0.005


@pytest.mark.parametrize("bins", [5, 8, 10, 20])
@everywhere
def test_uncertainty_calibration_agrees_on_equal_mass(name: str, bins: int) -> None:
    """Where n is a multiple of the bins, its edges part the same items as the quantiles."""
    other = pytest.importorskip("calibration")
    p, confidence, correct = dataset(name)
    assert equal_mass_ece(p, bins) == close(other.get_ece_em(confidence, correct, num_bins=bins))


def test_uncertainty_calibration_cuts_uneven_bins_elsewhere() -> None:
    """1000 items in 15 bins: its first ten bins hold 67, ours 66 or 67 by the quantiles."""
    other = pytest.importorskip("calibration")
    p, confidence, correct = dataset("D1")
    assert equal_mass_ece(p) == pytest.approx(0.1124629116, abs=1e-10)
    assert other.get_ece_em(confidence, correct) == pytest.approx(0.1158602657, abs=1e-10)
    assert set(bin_table(p, 15, "equal_mass").count.tolist()) == {66, 67}


@pytest.mark.parametrize(("name", "bins"), [("D2", 30), ("D3", 20)])
def test_uncertainty_calibration_agrees_on_the_debiased_square(name: str, bins: int) -> None:
    """Where a bin has one confidence, the products of pairs are the estimator of Kumar et al."""
    utils = pytest.importorskip("calibration.utils")
    p, confidence, correct = dataset(name)
    items = list(zip(confidence, correct, strict=True))
    square = utils.unbiased_square_ce(utils.bin(items, utils.get_equal_prob_bins(items, bins)))
    assert debiased_squared_ce(p, bins) == close(square)
    assert debiased_rms_ce(p, bins) == close(utils.get_binning_ce(confidence, correct))


@pytest.mark.parametrize(("name", "theirs"), [("D1", 0.1208242448), ("D4", 0.1208050396)])
def test_uncertainty_calibration_leaves_the_spread_within_bins_out(
    name: str, theirs: float
) -> None:
    """Elsewhere it takes the variance of the outcomes, we products of pairs: the 5th digit."""
    utils = pytest.importorskip("calibration.utils")
    p, confidence, correct = dataset(name)
    value = utils.lower_bound_scaling_ce(
        confidence, correct, p=2, num_bins=20, binning_scheme=utils.get_equal_prob_bins
    )
    assert value == pytest.approx(theirs, abs=1e-10)
    index = np.ceil(confidence * 20) - 1
    square = 0.0
    for gap in (p.gap[index == b] for b in np.unique(index)):
        products = np.outer(gap, gap)[~np.eye(len(gap), dtype=bool)]
        square += len(gap) / len(p) * products.mean()
    assert debiased_rms_ce(p, 20) == close(math.sqrt(square))
    assert 1e-6 < abs(value - math.sqrt(square)) < 1e-4


@off_the_edges
def test_uncertainty_calibration_agrees_on_the_risk_coverage_curve(name: str) -> None:
    """Without ties, one minus its area under the coverage-accuracy curve is our AURC."""
    utils = pytest.importorskip("calibration.utils")
    p, confidence, correct = dataset(name)
    assert aurc(p) == close(1 - utils.get_selective_stats(confidence, correct)[0])


def test_uncertainty_calibration_splits_ties_as_rows_come() -> None:
    """With ties its area depends on the order of the rows; ours is the mean over all of them."""
    utils = pytest.importorskip("calibration.utils")
    p, confidence, correct = dataset("D3")
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(400):
        order = rng.permutation(len(p))
        areas.append(1 - utils.get_selective_stats(confidence[order], correct[order])[0])
    assert np.std(areas) > 0.005
    assert aurc(p) == pytest.approx(np.mean(areas), abs=4 * float(np.std(areas)) / 20)


# --- relplot ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.2])
@off_the_edges
def test_relplot_agrees_on_the_smooth_error(name: str, sigma: float) -> None:
    """Where no confidence is 0 or 1, its smECE at a fixed width is ours, on its coarser grid."""
    relplot = pytest.importorskip("relplot.metrics")
    p, confidence, correct = dataset(name)
    value = relplot.smECE_sigma(confidence, correct.astype(float), sigma)
    assert smooth_ece(p, sigma) == pytest.approx(value, abs=2e-3 * max(sigma / 0.1, 0.5))


@off_the_edges
def test_relplot_agrees_on_the_automatic_width(name: str) -> None:
    """It looks for the width in steps of 1/1024, and is within one of them."""
    relplot = pytest.importorskip("relplot.metrics")
    p, confidence, correct = dataset(name)
    value = relplot.smECE(confidence, correct.astype(float))
    assert smooth_ece(p) == pytest.approx(value, abs=1 / 1024)


def test_relplot_counts_certainty_by_half() -> None:
    """Half the items at confidence 1, 60 % right, half calibrated: 0.2 here, 0.133 there.

    At 0.999 both say 0.2.
    """
    relplot = pytest.importorskip("relplot.metrics")
    for top, theirs in ((1.0, 0.1333), (0.999, 0.2)):
        confidence = np.array([top] * 1000 + [0.5] * 1000)
        correct = np.array([i % 5 < 3 for i in range(1000)] + [0, 1] * 500)
        value = relplot.smECE(confidence, correct.astype(float))
        assert value == pytest.approx(theirs, abs=2e-3)
        assert smooth_ece(of(confidence, correct)) == pytest.approx(0.2, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "ours", "theirs"), [("D2", 0.0391042, 0.0361589029), ("D3", 0.1622076, 0.1507850023)]
)
def test_relplot_is_lower_where_some_are_certain(name: str, ours: float, theirs: float) -> None:
    """The half weight of 0 and 1 shows in datasets that hold them."""
    relplot = pytest.importorskip("relplot.metrics")
    p, confidence, correct = dataset(name)
    assert relplot.smECE(confidence, correct.astype(float)) == pytest.approx(theirs, abs=1e-9)
    assert smooth_ece(p) == pytest.approx(ours, abs=1e-5)


# --- MAPIE --------------------------------------------------------------------------------------


@off_the_edges
def test_mapie_agrees_on_the_ks_error(name: str) -> None:
    """Its Kolmogorov-Smirnov statistic is ours over its length scale; it adds noise of 1e-8."""
    mapie = pytest.importorskip("mapie.metrics.calibration")
    p, confidence, correct = dataset(name)
    statistic = mapie.kolmogorov_smirnov_statistic(correct, confidence)
    scale = math.sqrt(float((confidence * (1 - confidence)).sum())) / len(p)
    assert ks_ce(p) == pytest.approx(statistic * scale, abs=1e-8)


@pytest.mark.parametrize(("name", "theirs"), [("D1", 0.1132464478), ("D4", 0.1160639163)])
def test_mapie_has_one_bin_less_than_it_says(name: str, theirs: float) -> None:
    """Its ECE of 15 bins is that of 14, and of 16 that of 15."""
    mapie = pytest.importorskip("mapie.metrics.calibration")
    p, confidence, correct = dataset(name)
    fifteen = mapie.expected_calibration_error(correct, confidence, num_bins=15)
    assert fifteen == pytest.approx(theirs, abs=1e-10)
    assert ece(p, 14) == close(fifteen)
    sixteen = mapie.expected_calibration_error(correct, confidence, num_bins=16)
    assert ece(p, 15) == close(sixteen)
