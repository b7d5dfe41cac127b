"""Calibration on the evaluation set: what is kept of logits, and what is made of it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from pytest_calibration import metrics  # noqa: E402
from pytest_calibration.errors import PredictionsError  # noqa: E402
from pytest_calibration.training.compute_metrics import (  # noqa: E402
    calibration_compute_metrics,
    preprocess_logits_for_calibration,
)

pytestmark = pytest.mark.torch


class Evaluated(NamedTuple):
    """What a Trainer gives to compute_metrics."""

    predictions: Any
    label_ids: Any


def draw(*shape: int) -> Any:
    """Return random logits."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)) * 2


def test_what_is_kept_is_the_largest_probability_and_its_class() -> None:
    """Confidence and answer of each position are those of the soft-max in float64."""
    logits = draw(3, 4, 7)
    confidence, answer = preprocess_logits_for_calibration(logits, None)
    table = logits.double().softmax(-1)
    assert np.allclose(confidence, table.max(-1).values, atol=1e-6)
    assert torch.equal(answer, table.argmax(-1))
    assert (confidence.dtype, answer.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_read_in_full(dtype: str) -> None:
    """The soft-max of logits in half precision is computed in float32."""
    logits = draw(5, 9).to(getattr(torch, dtype))
    confidence, _ = preprocess_logits_for_calibration(logits, None)
    assert np.allclose(confidence, logits.double().softmax(-1).max(-1).values, atol=1e-6)


def test_of_several_outputs_the_first_are_the_logits() -> None:
    """A model that returns its cache, too, gives a tuple."""
    logits = draw(2, 3)
    (one, _), (other, _) = (
        preprocess_logits_for_calibration(given, None) for given in (logits, (logits, "cache"))
    )
    assert torch.equal(one, other)


def test_a_classifier_has_the_metrics_of_its_probabilities() -> None:
    """They are those of the module metrics, from what is kept and from logits alike."""
    logits, labels = draw(60, 4), np.arange(60) % 4
    kept = tuple(part.numpy() for part in preprocess_logits_for_calibration(logits, None))
    pair = logits.softmax(-1).numpy(), labels
    for predictions in (kept, logits.numpy()):
        found = calibration_compute_metrics(Evaluated(predictions, labels))
        assert found == pytest.approx(
            {name: getattr(metrics, name)(pair) for name in ("ece", "accuracy", "brier")}
            | {"signed_gap": metrics.signed_gap(pair)},
            abs=1e-6,
        )


def test_a_language_model_is_held_against_the_next_label() -> None:
    """Position t counts with label t + 1, and -100 not at all."""
    logits = torch.full((1, 4, 5), -math.inf)
    for position, (token, share) in enumerate([(3, 0.9), (1, 0.6), (4, 0.8), (0, 1.0)]):
        logits[0, position, token] = math.log(share)
        logits[0, position, 2] = math.log(1 - share) if share < 1 else -math.inf
    kept = preprocess_logits_for_calibration(logits, None)
    labels = np.array([[2, 3, -100, 0]])
    found = calibration_compute_metrics(
        Evaluated(tuple(part.numpy() for part in kept), labels), shift=True
    )
    # Right at 0.9, and wrong at 0.8: the second position has no label after it.
    assert found["accuracy"] == 0.5
    assert found["brier"] == pytest.approx((0.1**2 + 0.8**2) / 2, abs=1e-6)
    assert found["ece"] == pytest.approx((0.1 + 0.8) / 2, abs=1e-6)
    assert found["signed_gap"] == pytest.approx(0.85 - 0.5, abs=1e-6)


def test_a_tagger_is_held_against_its_own_label() -> None:
    """Without a shift position t counts with label t."""
    kept = preprocess_logits_for_calibration(draw(2, 3, 4), None)
    labels = kept[1].numpy().copy()
    labels[0, 0] = -100
    found = calibration_compute_metrics(
        Evaluated(tuple(part.numpy() for part in kept), labels), shift=False
    )
    assert found["accuracy"] == 1.0


def test_which_label_a_position_predicts_is_never_guessed() -> None:
    """Token-level labels without `shift` are an error that says what to write."""
    kept = tuple(part.numpy() for part in preprocess_logits_for_calibration(draw(2, 3, 4), None))
    with pytest.raises(
        PredictionsError, match=r"partial\(calibration_compute_metrics, shift=True\)"
    ):
        calibration_compute_metrics(Evaluated(kept, np.zeros((2, 3), dtype=int)))


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (draw(4, 1), np.zeros(4, int), r"logits of shape \(4, 1\)"),
        (draw(4), np.zeros(4, int), r"logits of shape \(4,\)"),
        (draw(4, 3), np.zeros((4, 3)), r"labels that are float64 of shape \(4, 3\)"),
        (draw(4, 3), np.zeros(5, int), r"labels that are int64 of shape \(5,\) for .* \(4,\)"),
        (draw(4, 3), (np.zeros(4), np.zeros(4)), "labels that are several arrays"),
        (draw(4, 3), np.full(4, -100), "no label but -100"),
    ],
)
def test_what_is_no_classification_is_refused(logits: Any, labels: Any, message: str) -> None:
    """Regression, several labels a row, other shapes: one sentence with what was found."""
    with pytest.raises(PredictionsError, match=message):
        calibration_compute_metrics(Evaluated(logits.numpy(), labels))


def test_what_is_kept_does_not_grow_with_the_vocabulary() -> None:
    """Of n·T·V logits 12 bytes are kept for each position."""
    for size in (10, 1000):
        kept = preprocess_logits_for_calibration(torch.zeros(2, 8, size), None)
        assert sum(part.untyped_storage().nbytes() for part in kept) == 2 * 8 * 12
