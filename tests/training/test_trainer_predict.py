"""``Trainer.predict`` of real models as predictions: classifier, tagger, language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from pytest_calibration import Predictions, calibration_compute_metrics, ece  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.training]

SIZE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 40}
BERT = {**SIZE, "intermediate_size": 16, "max_position_embeddings": 32, "num_labels": 3}
ROWS = 10


def items(label: Any) -> list[dict[str, list[int]]]:
    """Return rows of several lengths with the labels that a function gives."""
    draw = np.random.default_rng(0)
    rows = [draw.integers(5, 40, size=size).tolist() for size in range(4, 4 + ROWS)]
    return [{"input_ids": row, "labels": label(row)} for row in rows]


def padded(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Join rows to a batch, as long as its longest; the labels of padding do not count."""
    longest = max(len(row["input_ids"]) for row in rows)

    def column(name: str, filler: int) -> Any:
        values = [row[name] for row in rows]
        if isinstance(values[0], int):
            return torch.tensor(values)
        return torch.tensor([value + [filler] * (longest - len(value)) for value in values])

    ids = column("input_ids", 0)
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": column("labels", -100)}


def predicted(model: Any, rows: Any, folder: Path, **more: Any) -> Any:
    """Return what a Trainer predicts, in batches of unequal length."""
    arguments = transformers.TrainingArguments(
        str(folder), per_device_eval_batch_size=4, report_to=[], use_cpu=True
    )
    trainer = transformers.Trainer(model, arguments, data_collator=padded, **more)
    return trainer.predict(rows)


def test_a_classifier_is_read(tmp_path: Path) -> None:
    """Logits (n, k) and labels (n,)."""
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**BERT))
    output = predicted(model, items(lambda row: row[0] % 3), tmp_path)
    made = Predictions.from_trainer(output, class_names=model.config.id2label.values())
    direct = Predictions.from_logits(output.predictions, output.label_ids)
    assert np.array_equal(made.confidence, direct.confidence)
    assert made.classes == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_a_tagger_is_read(tmp_path: Path) -> None:
    """Each label that counts, whatever the padding of its batch."""
    torch.manual_seed(0)
    model = transformers.BertForTokenClassification(transformers.BertConfig(**BERT))
    rows = items(lambda row: [-100, *(token % 3 for token in row[1:])])
    output = predicted(model, rows, tmp_path)
    made = Predictions.from_trainer(output, shift=False, item_ids=range(ROWS))
    assert made.n == sum(len(row["input_ids"]) - 1 for row in rows)
    assert made.n_clusters == ROWS
    with torch.no_grad():
        logits = model(torch.tensor([rows[3]["input_ids"]])).logits[0, 1:]
    first = sum(len(row["input_ids"]) - 1 for row in rows[:3])
    found = made.confidence[first : first + len(logits)]
    assert np.allclose(found, logits.softmax(-1).max(-1).values, atol=1e-5)


def test_a_language_model_is_read(tmp_path: Path) -> None:
    """Among several outputs; position t predicts token t + 1, and metrics in training agree."""
    config = transformers.GPT2Config(
        n_embd=16, n_layer=1, n_head=2, vocab_size=40, n_positions=32, use_cache=True
    )
    model = transformers.GPT2LMHeadModel(config)
    metrics: list[dict[str, float]] = []

    def compute(evaluated: Any) -> dict[str, float]:
        metrics.append(calibration_compute_metrics(evaluated, shift=True))
        return metrics[-1]

    rows = items(list)
    output = predicted(model, rows, tmp_path, compute_metrics=compute)
    made = Predictions.from_trainer(output, shift=True)
    assert made.n == sum(len(row["input_ids"]) - 1 for row in rows)
    assert made.label_logprobs is not None
    assert -made.label_logprobs.mean() == pytest.approx(np.log(40), abs=0.5)
    assert metrics[0]["ece"] == pytest.approx(ece(made))
