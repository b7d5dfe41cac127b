"""Intervals of AUROC, selective accuracy and AURC: checked by brute force."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from drawn_samples import copied, ends, grouped, grouped_tables, jackknife_error
from hypothesis import assume, given
from hypothesis import strategies as st
from known_calibration import calibrated, two_runs

from pytest_calibration.metrics import aurc, auroc, selective_accuracy
from pytest_calibration.predictions import FloatArray, Predictions
from pytest_calibration.uncertainty.quantiles import upper_quantile
from pytest_calibration.uncertainty.ranking import (
    aurc_influence,
    auroc_error,
    placements,
    selective_influence,
)
from pytest_calibration.uncertainty.standard_errors import cluster_codes

of = Predictions.from_confidence


def rounded(p: Predictions) -> Predictions:
    """Return the items with confidences rounded to 0.05: many ties."""
    return of(np.round(p.confidence * 20) / 20, p.correct)


def wins(p: Predictions) -> FloatArray:
    """Return (right, wrong) 1 where the right item has the higher confidence, 1/2 where equal."""
    right, wrong = p.confidence[p.correct], p.confidence[~p.correct]
    return (right[:, None] > wrong) + 0.5 * (right[:, None] == wrong)


# --- AUROC ----------------------------------------------------------------------------------------


@given(grouped_tables())
def test_placements_are_shares_of_pairs(p: Predictions) -> None:
    """The placement of an item is its mean win over the items of the other outcome."""
    assume(0 < p.correct.sum() < len(p))
    place, won = placements(p), wins(p)
    np.testing.assert_allclose(place[p.correct], won.mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(place[~p.correct], won.mean(axis=0), atol=1e-12)
    assert place[p.correct].mean() == pytest.approx(auroc(p))
    assert place[~p.correct].mean() == pytest.approx(auroc(p))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_error_of_auroc_is_delongs(seed: int, ties: bool) -> None:
    """Var = S10/m + S01/n, from the variances of the structural components (DeLong et al. 1988)."""
    p = rounded(calibrated(300, seed)) if ties else calibrated(300, seed)
    won = wins(p)
    m, n = won.shape
    s10, s01 = won.mean(axis=1).var(ddof=1), won.mean(axis=0).var(ddof=1)
    expected = math.sqrt(s10 / m + s01 / n)
    assert auroc_error(placements(p), p.correct, None) == pytest.approx(expected, rel=1e-12)


def test_the_error_of_auroc_by_hand() -> None:
    """Right 3, 2 and wrong 2, 1: components 1, 3/4 and 3/4, 1, so sqrt(2 · (1/32)/2)."""
    p = of([0.3, 0.2, 0.2, 0.1], [True, True, False, False])
    assert auroc(p) == pytest.approx(0.875)
    expected = math.sqrt(2 * np.var([1, 0.75], ddof=1) / 2)
    assert auroc_error(placements(p), p.correct, None) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_the_error_of_auroc_over_groups_is_obuchowskis(seed: int) -> None:
    """Sums of components over groups, with their covariance, by the formulas of Obuchowski 1997."""
    p = grouped(rounded(calibrated(240, seed)), 4)
    codes = cluster_codes(p)
    assert codes is not None
    won, area = wins(p), auroc(p)
    m, n = won.shape
    groups = 60
    tens, ones = np.zeros(groups), np.zeros(groups)
    for value, g in zip(won.mean(axis=1), codes[p.correct], strict=True):
        tens[g] += value - area
    for value, g in zip(won.mean(axis=0), codes[~p.correct], strict=True):
        ones[g] += value - area
    i10, i01 = len({*codes[p.correct].tolist()}), len({*codes[~p.correct].tolist()})
    s10 = i10 / ((i10 - 1) * m) * (tens**2).sum()
    s01 = i01 / ((i01 - 1) * n) * (ones**2).sum()
    s11 = groups / (groups - 1) * (tens * ones).sum()
    expected = math.sqrt(s10 / m + s01 / n + 2 * s11 / (m * n))
    assert auroc_error(placements(p), p.correct, codes) == pytest.approx(expected, rel=1e-12)


def test_copies_within_groups_leave_the_error_of_auroc() -> None:
    """Three copies of each item, grouped, have the standard error of the items."""
    few = calibrated(200, 5)
    many = copied(few, 3)
    error = auroc_error(placements(few), few.correct, None)
    assert auroc_error(placements(many), many.correct, cluster_codes(many)) == pytest.approx(error)


def test_the_interval_of_auroc_is_symmetric_in_log_odds() -> None:
    """Log-odds ± t·SE/(A(1 - A)), with Student's t for the rarer of right and wrong."""
    p = calibrated(300, 2)
    low, high = ends(p, "auroc")
    area, rarer = auroc(p), min(int(p.correct.sum()), int((~p.correct).sum()))
    half = upper_quantile(0.025, rarer) * auroc_error(placements(p), p.correct, None)
    centre = math.log(area / (1 - area))
    for end, sign in ((low, -1), (high, 1)):
        assert math.log(end / (1 - end)) == pytest.approx(
            centre + sign * half / (area * (1 - area))
        )


@given(st.integers(2, 300), st.integers(2, 300))
def test_perfect_separation_has_the_bound_of_disjoint_pairs(right: int, wrong: int) -> None:
    """Of k disjoint pairs, all in order with probability A^k: A is at least 0.025^(1/k)."""
    p = of([0.9] * right + [0.1] * wrong, [True] * right + [False] * wrong)
    low, high = ends(p, "auroc")
    assert high == 1
    assert low == pytest.approx(0.025 ** (1 / min(right, wrong)))
    inverted = ends(of([0.1] * right + [0.9] * wrong, p.correct), "auroc")
    assert inverted == pytest.approx((0, 1 - low), abs=1e-12)


def test_a_single_wrong_answer_determines_no_auroc() -> None:
    """With one wrong item the interval is [0, 1]."""
    p = of([0.9] * 50 + [0.1], [True] * 50 + [False])
    assert ends(p, "auroc") == (0, 1)


# --- selective accuracy and AURC ------------------------------------------------------------------

INFLUENCES: dict[str, tuple[Callable[..., float], Callable[..., FloatArray], float]] = {
    "aurc": (aurc, aurc_influence, 0.01),
    "selective_accuracy": (selective_accuracy, selective_influence, 0.03),
}


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("name", INFLUENCES)
@pytest.mark.parametrize("p", [calibrated(700, 1), two_runs(700, 2, 2.0)[1]], ids=["flat", "sure"])
def test_influences_have_the_standard_error_of_the_jackknife(
    p: Predictions, name: str, ties: bool
) -> None:
    """Leaving out each item in turn gives the same standard error."""
    metric, influence, tolerance = INFLUENCES[name]
    p = rounded(p) if ties else p
    keep = np.arange(len(p))
    left = np.array([metric(p.take(np.delete(keep, i))) for i in keep])
    error = float(influence(p).std(ddof=1)) / math.sqrt(len(p))
    # Without ties the jackknife of a quantile is rough: it depends on one neighbour, not on a mean.
    rough = 0.15 if name == "selective_accuracy" and not ties else tolerance
    assert error == pytest.approx(jackknife_error(left), rel=rough)


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
def test_the_influence_on_aurc_is_that_of_leaving_an_item_out(ties: bool) -> None:
    """(n - 1)·(AURC - AURC without the item), item by item, up to terms of order 1/n."""
    p = two_runs(1200, 3, 1.5)[1]
    p = rounded(p) if ties else p
    keep = np.arange(len(p))
    left = np.array([aurc(p.take(np.delete(keep, i))) for i in keep])
    pseudo = (len(p) - 1) * (left.mean() - left)
    influence = aurc_influence(p)
    assert np.corrcoef(pseudo, influence)[0, 1] > 0.999
    # The few most confident items determine the first coverages: no linear approximation there.
    middle = p.confidence < np.quantile(p.confidence, 0.98)
    np.testing.assert_allclose(pseudo[middle], influence[middle], atol=0.03)


def test_selective_influence_gives_the_simulated_deviation() -> None:
    """Over 500 samples the selective accuracy has the deviation that its influences give."""
    models = [calibrated(600, seed) for seed in range(500)]
    deviation = float(np.std([selective_accuracy(p) for p in models]))
    errors = [float(selective_influence(p).std(ddof=1)) / math.sqrt(600) for p in models]
    assert np.mean(errors) == pytest.approx(deviation, rel=0.1)


@pytest.mark.parametrize(("right", "near"), [(149, 0), (150, 1), (249, 1), (250, 0)])
def test_the_accuracy_at_the_threshold_is_that_of_the_items_around_it(
    right: int, near: int
) -> None:
    """Of 1,000 items 800 are answered: from the 201st on; the 100 = 1000^(2/3) around it count.

    One item is right. A wrong item that is answered has (0 - a) / 0.8 + a - s, one that is not
    a - s, with a the accuracy around the threshold and s the selective accuracy.
    """
    p = of(np.linspace(0.1, 0.9, 1000), np.arange(1000) == right)
    around, selective = near / 100, (right >= 200) / 800
    influence = selective_influence(p)
    assert influence[0] == pytest.approx(around - selective)
    assert influence[999] == pytest.approx(-around / 0.8 + around - selective)


@given(grouped_tables())
def test_influences_have_mean_zero(p: Predictions) -> None:
    """The mean influence of AURC is 0; that of the selective accuracy nearly so."""
    assert aurc_influence(p).mean() == pytest.approx(0, abs=1e-12)
    assert selective_influence(p).mean() == pytest.approx(0, abs=1e-9)


def test_the_interval_of_aurc_is_symmetric_in_log_odds() -> None:
    """Log-odds ± z·SE/(A(1 - A)), with the standard error of the influences."""
    p = calibrated(900, 4)
    low, high = ends(p, "aurc")
    area = aurc(p)
    half = 1.959964 * float(aurc_influence(p).std(ddof=1)) / 30 / (area * (1 - area))
    centre = math.log(area / (1 - area))
    assert math.log(low / (1 - low)) == pytest.approx(centre - half, rel=1e-6)
    assert math.log(high / (1 - high)) == pytest.approx(centre + half, rel=1e-6)


def test_the_risk_mirrors_the_accuracy() -> None:
    """The ends of selective risk are one minus those of selective accuracy."""
    p = calibrated(300, 1)
    low, high = ends(p, "selective_accuracy")
    assert ends(p, "selective_risk") == pytest.approx((1 - high, 1 - low))


def test_all_right_has_wilsons_interval_of_the_answered_items() -> None:
    """All of 500 right: Wilson's interval of 400 answered items, all right."""
    low, high = ends(of(np.linspace(0.3, 0.9, 500), [True] * 500), "selective_accuracy")
    z = upper_quantile(0.025, 500)
    assert high == 1
    assert low == pytest.approx(1 / (1 + z * z / 400))
