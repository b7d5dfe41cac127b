"""What ``Trainer.predict`` returns, as predictions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_calibration import metrics
from pytest_calibration.errors import PredictionsError
from pytest_calibration.predictions import Predictions, Signature

MASKED = -100


class PredictionOutput(NamedTuple):
    """As transformers has it."""

    predictions: Any
    label_ids: Any
    metrics: Any = None


def draw(*shape: int) -> NDArray[np.float32]:
    """Return random logits."""
    return np.random.default_rng(1).normal(scale=2, size=shape).astype(np.float32)


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """The textbook's formula."""
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(-1, keepdims=True)


def test_a_classifier_is_read_as_its_logits() -> None:
    """Of several outputs the first counts; a label of -100 does not."""
    logits, labels = draw(50, 4), np.arange(50) % 4
    settings: dict[str, Any] = {"class_names": [*"abcd"], "item_ids": range(50)}
    settings |= {"probe": "topics", "model": "runs/a", "signature": Signature({"kind": "topics"})}
    direct = Predictions.from_logits(logits, labels, **settings)
    for predictions in (logits, (logits, draw(50, 9))):
        made = Predictions.from_trainer(PredictionOutput(predictions, labels), **settings)
        assert np.array_equal(made.confidence, direct.confidence)
        assert np.array_equal(made.item_ids, direct.item_ids)
        assert (made.classes, made.unit) == (("a", "b", "c", "d"), "item")
        assert (made.probe, made.signature) == ("topics", direct.signature)
        assert made.signature.soft["model"] == "runs/a"
    labels = np.where(np.arange(50) % 5, labels, MASKED)
    made = Predictions.from_trainer((logits, labels), slices=np.arange(50) % 2)
    assert (made.n, made.slices) != (50, None)
    kept = labels != MASKED
    assert made.correct.tolist() == (logits.argmax(1) == labels)[kept].tolist()


@pytest.mark.parametrize("shift", [False, True])
def test_each_label_that_counts_is_an_item(shift: bool) -> None:
    """Confidence, outcome, log-probability, id, group and slice, by the formula."""
    logits, labels = draw(3, 5, 7), np.random.default_rng(2).integers(7, size=(3, 5))
    labels[0, 1:3] = labels[2, :4] = MASKED
    made = Predictions.from_trainer(
        PredictionOutput(logits, labels), shift=shift, slices=["x", "y", "z"]
    )
    expected = [
        (softmax(logits[row, place - shift]), labels[row, place], row, place)
        for row in range(3)
        for place in range(shift, 5)
        if labels[row, place] != MASKED
    ]
    assert np.allclose(made.confidence, [p.max() for p, *_ in expected])
    assert made.correct.tolist() == [bool(p.argmax() == label) for p, label, *_ in expected]
    assert made.label_logprobs is not None
    assert np.allclose(made.label_logprobs, [np.log(p[label]) for p, label, *_ in expected])
    assert made.groups is not None
    assert made.groups.tolist() == [str(row) for *_, row, _ in expected]
    assert made.slices is not None
    assert made.slices.tolist() == ["xyz"[row] for *_, row, _ in expected]
    assert (made.unit, made.n_clusters) == ("token", 3)
    named = Predictions.from_confidence(
        made.confidence, made.correct, probe="evaluation",
        item_ids=[(row, place) for *_, row, place in expected],
    )  # fmt: skip
    assert made.item_ids.tolist() == named.item_ids.tolist()
    assert metrics.nll(made) == pytest.approx(-np.mean(made.label_logprobs))


def test_ids_and_groups_of_rows_are_those_of_their_labels() -> None:
    """A row keeps its labels when rows are shuffled, and groups join rows."""
    logits, labels = draw(3, 4, 5), np.random.default_rng(2).integers(5, size=(3, 4))
    one = Predictions.from_trainer((logits, labels), shift=True, item_ids=[*"abc"], groups=[*"ggh"])
    other = Predictions.from_trainer((logits[::-1], labels[::-1]), shift=True, item_ids=[*"cba"])
    assert set(one.item_ids.tolist()) == set(other.item_ids.tolist())
    assert one.items_digest == other.items_digest
    assert (one.n_clusters, other.n_clusters) == (2, 3)
    assert one.signature.hard == other.signature.hard == {"predicts": "the next label"}
    # Without ids rows pair by position, and the labels must be the same.
    first = Predictions.from_trainer((logits, labels), shift=True).signature
    assert first.hard_differences(
        Predictions.from_trainer((logits, labels[::-1]), shift=True).signature
    )


def test_what_was_kept_of_logits_is_read() -> None:
    """Confidence and class of each position, in place of logits."""
    logits, labels = draw(3, 5, 7), np.random.default_rng(2).integers(7, size=(3, 5))
    table = softmax(logits)
    kept = table.max(-1).astype(np.float32), table.argmax(-1)
    whole = Predictions.from_trainer((logits, labels), shift=False)
    made = Predictions.from_trainer((kept, labels), shift=False)
    assert np.allclose(made.confidence, whole.confidence, atol=1e-6)
    assert made.correct.tolist() == whole.correct.tolist()
    assert made.item_ids.tolist() == whole.item_ids.tolist()
    assert made.label_logprobs is None
    assert made.signature.hard["predicts"] == "its own label"
    # Of whole sequences a label has no position.
    one = Predictions.from_trainer((tuple(part[:, 0] for part in kept), labels[:, 0]))
    assert one.confidence.tolist() == made.confidence[::5].tolist()
    assert "predicts" not in one.signature.hard


@pytest.mark.torch
def test_tensors_of_any_type_are_read() -> None:
    """Of half precision, with a gradient."""
    torch = pytest.importorskip("torch")
    logits = torch.tensor(draw(2, 3, 4)).bfloat16().requires_grad_()
    labels = torch.tensor([[0, 1, -100], [3, 2, 1]])
    made = Predictions.from_trainer((logits, labels), shift=False)
    assert np.allclose(made.confidence[0], softmax(logits.detach().double().numpy())[0, 0].max())
    assert made.n == 5


@pytest.mark.parametrize(
    ("output", "arguments", "message"),
    [
        (draw(3, 4), {}, "expected what Trainer.predict returns, or a pair (logits, labels), got "
         "ndarray"),
        (PredictionOutput(draw(3, 4), None), {}, "there are no labels; predict on a data set with "
         "the column 'labels'"),
        ((draw(3, 1), np.zeros(3)), {}, "logits of shape (3, 1)"),
        ((draw(3, 4), np.zeros((3, 4))), {}, "of several labels a row, judge each by itself"),
        ((draw(3, 4), np.array([0, 4, 1])), {}, "labels[1] is 4, and there are classes 0 to 3; "
         "what does not count is -100."),
        ((draw(2, 3, 4), np.zeros((2, 3), int)), {}, "so say whether a position predicts the next "
         "label: shift=True for language models, shift=False for tagging"),
        ((draw(2, 3, 4), np.array([[0, 1, 9], [0, 0, 0]])), {"shift": False}, "labels[0, 2] is 9"),
        ((draw(2, 3, 4), np.zeros((2, 2), int)), {"shift": True}, "labels that are int64 of shape "
         "(2, 2) for answers of shape (2, 3)"),
        ((draw(2, 3, 4), np.full((2, 3), -100)), {"shift": True}, "no label but -100"),
        ((draw(2, 3, 4) * np.nan, np.zeros((2, 3), int)), {"shift": True}, "logits of row 0 hold "
         "NaN or infinity"),
        ((draw(3, 4), np.zeros(3, int)), {"item_ids": [1, 2]}, "item_ids has 2 entries for 3 rows"),
        ((draw(3, 4), np.zeros(3, int)), {"item_ids": [1, 2, 2]}, "have the same id"),
        (([], [0]), {}, "no logits"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(output: Any, arguments: Any, message: str) -> None:
    """One sentence with what was found."""
    with pytest.raises(PredictionsError) as caught:
        Predictions.from_trainer(output, **arguments)
    assert message in str(caught.value)
