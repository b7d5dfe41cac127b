"""A real classifier, trained by a Trainer on texts made here, and gated."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from checkpoints import quietly

if TYPE_CHECKING:
    from user_project import Project

pytestmark = [pytest.mark.torch, pytest.mark.data]

TOPICS = ("billing", "delivery", "returns")
WORDS = [f"word{i}" for i in range(60)]
LENGTH = (3, 9)
CONFIG = """
model: {device: cpu}
probes:
  tickets: {kind: classification, path: tickets.jsonl}
"""


def tickets(n: int, seed: int) -> list[dict[str, Any]]:
    """Texts whose words speak for their topic, some of them weakly: no one can be sure of all."""
    draw = random.Random(seed)
    out = []
    for _ in range(n):
        topic = draw.randrange(3)
        weights = [3.0 if i % 3 == topic else 1.0 for i in range(len(WORDS))]
        words = draw.choices(WORDS, weights, k=draw.randint(*LENGTH))
        out.append({"text": " ".join(words), "label": TOPICS[topic]})
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier as it should be, and the same trained on a few texts until it knows them."""
    torch = pytest.importorskip("torch")
    import transformers as t
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    names = ["[PAD]", "[CLS]", "[SEP]", *WORDS]
    inner = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "[PAD]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer = t.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=32,
    )  # fmt: skip
    torch.manual_seed(0)
    model = t.BertForSequenceClassification(
        t.BertConfig(
            vocab_size=len(names), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=32,
            id2label=dict(enumerate(TOPICS)), label2id={x: i for i, x in enumerate(TOPICS)},
        )
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("runs")

    def train(name: str, rows: list[dict[str, Any]], epochs: int, rate: float) -> None:
        data = [{**tokenizer(r["text"]), "labels": TOPICS.index(r["label"])} for r in rows]
        trainer = t.Trainer(
            model=model,
            args=t.TrainingArguments(
                str(folder / "out"), num_train_epochs=epochs, learning_rate=rate, seed=1,
                per_device_train_batch_size=32, report_to="none", disable_tqdm=True, use_cpu=True,
                save_strategy="no", weight_decay=0.01,
            ),
            train_dataset=data,
            data_collator=t.DataCollatorWithPadding(tokenizer),
            processing_class=tokenizer,
        )  # fmt: skip
        trainer.train()
        trainer.save_model(str(folder / name))

    with quietly():
        train("base", tickets(3000, 1), 4, 2e-3)
        train("overtrained", tickets(150, 2), 60, 2e-3)
    return folder


def test_a_trained_classifier_is_recorded_and_gated(project: Project, runs: Path) -> None:
    """The base passes; what was trained on a few texts until it knew them is caught."""
    project.isolated = True
    project.write("tests/conftest.py", "")
    project.path.joinpath("conftest.py").unlink()
    project.write("calibration.yaml", CONFIG)
    project.write("tickets.jsonl", "\n".join(map(json.dumps, tickets(1500, 3))))
    assert project.run(f"--calibration-model={runs / 'base'}", "--calibration-record").ret == 0
    again = project.run(f"--calibration-model={runs / 'base'}")
    assert again.ret == 0
    again.stdout.fnmatch_lines(["*tickets*1,500*ECE*passed*"])
    worse = project.run(f"--calibration-model={runs / 'overtrained'}")
    assert worse.ret == 1
    worse.stdout.fnmatch_lines(["*tickets*1,500*ECE*regressed*signed gap*"])


def test_the_packaged_suite_says_which_probe_to_write(project: Project, runs: Path) -> None:
    """All built-in probes ask a language model; without a probe of one's own there is none."""
    project.isolated = True
    project.path.joinpath("conftest.py").unlink()
    result = project.run(
        "--pyargs", "pytest_calibration.suite", f"--calibration-model={runs / 'base'}"
    )
    assert result.ret == 1
    text = " ".join(" ".join(result.outlines).split())
    assert (
        "base: is a classifier, and the probe asks a language model (next_token); write a probe "
        "for it into calibration.yaml: probes: {mine: {kind: classification, path: rows.jsonl}}"
    ) in text.replace("E ", "")
    assert "Traceback" not in text
