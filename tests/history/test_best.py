"""The best checkpoint: well calibrated, not at the price of accuracy, and how surely."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from histories import write_history

from pytest_calibration.history.best import Best, best_checkpoint, deciding
from pytest_calibration.history.checkpoints import Checkpoint
from pytest_calibration.history.drift_sentences import _several
from pytest_calibration.history.file import History
from pytest_calibration.history.lines import Line
from pytest_calibration.history.series import Series, all_series
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.quantiles import NORMAL


def best_of(file: History, metric: str = "ece", *, items: bool = True) -> tuple[Series, Best]:
    """Return the only series of a history, and its best checkpoint."""
    (series,) = all_series(file.read())
    found = best_checkpoint(series, series.predictions(file) if items else (), metric)
    assert found is not None
    return series, found


def model(confidence: float, right: int, of: int = 1000) -> Predictions:
    """One confidence for all of the same items, of which the first ones are answered rightly."""
    return Predictions.from_confidence(
        np.full(of, confidence), np.arange(of) < right, item_ids=range(of), probe="facts"
    )


def course(path: Path, *models: Predictions) -> History:
    """Write these as checkpoints 1, 2, ..."""
    file = History(path / "history.jsonl")
    for step, one in enumerate(models, start=1):
        file.append(Line.of(one, checkpoint=Checkpoint(f"runs/checkpoint-{step}", step)), one)
    return file


def test_the_smallest_error_of_those_that_are_accurate(tmp_path: Path) -> None:
    """A model that guesses is perfectly calibrated, and surely less accurate: it is not best."""
    file = course(tmp_path, model(0.25, 250), model(0.85, 800), model(0.90, 800))
    series, best = best_of(file)
    assert series.label(best.place) == "2"
    assert (best.less_accurate, best.paired, best.metric) == ((0,), True, "cross_fitted_ece")


@pytest.mark.parametrize(
    ("alike", "less", "told"),
    [
        ((0, 1), (), "checkpoints 1 and 2"),
        ((0, 2), (), "checkpoints 1 and 3"),
        ((0, 1, 2), (), "checkpoints 1 to 3"),
        ((2, 3, 4, 5), (0,), "checkpoints 3 to 6"),
        # One between them is not as accurate, or differs.
        ((0, 2, 3), (1,), "checkpoints 1, 3 and 4"),
        ((0, 2, 3), (), "checkpoints 1, 3 and 4"),
        ((0, 2, 4, 5), (), "checkpoints 1, 3, 5 and 6"),
        ((0, 2, 3, 4, 6, 8), (), "checkpoints 1, 3, 4, 5, 7 and 9"),
        ((0, 2, 3, 4, 6, 7, 8), (), "checkpoints 1, 3, 4, 5, 7 and 2 more"),
    ],
)
def test_those_that_are_alike_are_named(
    tmp_path: Path, alike: tuple[int, ...], less: tuple[int, ...], told: str
) -> None:
    """In a row as a range, else up to six by name."""
    (series,) = all_series(course(tmp_path, *[model(0.8, 800)] * 9).read())
    best = Best("ece", alike[0], alike, alike[0], less, True, 0.05)
    assert _several(series, best) == told


def test_what_differs_by_less_than_chance_cannot_be_told_apart(tmp_path: Path) -> None:
    """Differences in ECE are judged by the paired standard error at level alpha / (K (K - 1)).

    Of n items on one confidence, a error of size g in one direction has influence c - y: of two
    models that answer alike, the difference of influences does not vary, and the standard error is
    that of three changed answers, sqrt(3) / n.
    """
    n = 1000
    z = -NORMAL.inv_cdf(0.05 / 6)
    least = z * math.sqrt(3) / n
    inside, beyond = 0.10 + 0.9 * least, 0.10 + 1.1 * least
    models = (model(0.8 + gap, 800) for gap in (0.10, inside, beyond))
    _, best = best_of(course(tmp_path, *models))
    assert (best.place, best.alike) == (0, (0, 1))


def test_without_items_the_intervals_count(tmp_path: Path) -> None:
    """The two standard errors add up, so that less is told apart, and it is said."""
    file = course(tmp_path, model(0.90, 800), model(0.92, 800), model(0.99, 800))
    _, paired = best_of(file)
    _, unpaired = best_of(file, items=False)
    assert (paired.alike, paired.paired) == ((0,), True)
    assert (unpaired.alike, unpaired.paired) == ((0, 1), False)


def test_the_parent_is_no_checkpoint(tmp_path: Path) -> None:
    """The base is better than all, and not what a run can choose."""
    file = write_history(tmp_path / "h.jsonl", {100: 0.1, 200: 0.05}, parent=0.0)
    series, best = best_of(file)
    assert series.label(best.place) == "200"


@pytest.mark.parametrize(
    ("metric", "decides"),
    [
        ("ece", "cross_fitted_ece"),
        ("mean_confidence", "cross_fitted_ece"),
        ("signed_gap", "signed_gap"),
        ("brier", "brier"),
        ("accuracy", "accuracy"),
    ],
)
def test_what_decides(metric: str, decides: str) -> None:
    """An error that noise enlarges is debiased; what describes decides nothing."""
    assert deciding(metric) == decides


def test_of_one_checkpoint_there_is_no_choice(tmp_path: Path) -> None:
    """None, also beside a parent."""
    (series,) = all_series(write_history(tmp_path / "h.jsonl", {1: 0.0}, parent=0.1).read())
    assert best_checkpoint(series) is None


def test_more_is_better_of_accuracy_and_zero_of_the_gap(tmp_path: Path) -> None:
    """The direction of a metric counts."""
    file = course(tmp_path, model(0.7, 800), model(0.85, 820), model(0.99, 850))
    assert best_of(file, "accuracy")[1].place == 2
    (tmp_path / "b").mkdir()
    gaps = course(tmp_path / "b", model(0.7, 800), model(0.82, 800))
    assert best_of(gaps, "signed_gap")[1].place == 1
