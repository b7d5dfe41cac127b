"""The blocks of the page on classifiers and reward models, and of its reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from console import Console
from documents import Block, Gated, Section, blocks, put_files
from fakes import unit

from pytest_calibration import Preference
from pytest_calibration.config import read_config
from pytest_calibration.probes.probe_set import from_settings

KINDS = "docs/reference/calibration-yaml.md"
CLASSES = ("delivery", "refund", "other")
# Beliefs hang on the text alone; a second version is three times as sure of them.
CONFTEST = """
import numpy as np
import pytest
from test_page_classifiers import beliefs


class Model:
    fingerprint = "1"

    def __init__(self, spec):
        self.name = spec.rpartition("/")[2]
        self.class_names = ("delivery", "refund", "other")
        if "topics" in spec:
            self.class_names = ("contradiction", "entailment")

    def class_probabilities(self, texts):
        p = beliefs(texts) ** (3 if self.name.endswith("v2") else 1)
        return p / p.sum(axis=1, keepdims=True)

    def class_logits(self, texts):
        return np.log(beliefs(texts))[:, :2]

    def rewards(self, texts):
        return np.log(beliefs(texts))[:, 0]


@pytest.fixture(scope="session")
def calibration_model(calibration_model_spec):
    return Model(calibration_model_spec)
"""


def beliefs(texts: list[object]) -> Any:
    """Return the probability of three classes for each text."""
    weights = np.array([[-(np.log(unit(text, c)) ** 3) for c in CLASSES] for text in texts])
    return weights / weights.sum(axis=1, keepdims=True)


def right_class(text: str) -> str:
    """Return each class as often as it is believed."""
    return CLASSES[int((unit("truth", text) > beliefs([text])[0].cumsum()).sum())]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write JSON lines."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")


@pytest.fixture(autouse=True)
def model(folder: Path) -> None:
    """A model that answers all that classifiers and reward models are asked."""
    (folder / "conftest.py").write_text(CONFTEST, "utf-8")


def like(row: Block, n: int = 300) -> list[dict[str, Any]]:
    """Return rows like the first of a block, each with a text of its own."""
    first = json.loads(row.text.splitlines()[0])
    (varied,) = {"text", "prompt"} & {*first}
    return [{**first, varied: f"{i}: {first[varied]}"} for i in range(n)]


def test_a_classifier(section: Section, folder: Path, console: Console) -> None:
    """Recorded, and a surer one fails; the summary has the columns that are shown."""
    row, config, test, commands = section("docs/how-to/classifiers.md", "A classifier")
    assert put_files(folder, [config, test]) == ["calibration.yaml", "tests/test_calibration.py"]
    rows = [{**one, "label": right_class(one["text"])} for one in like(row)]
    assert json.loads(row.text)["label"] in CLASSES
    write_rows(folder / "probes" / "tickets.jsonl", rows)
    console.type(commands, [0, 1])


@pytest.mark.usefixtures("gate")
def test_zero_shot(section: Section, folder: Path, gated: Gated) -> None:
    """A model of inference is asked hypotheses."""
    (config,) = section("docs/how-to/classifiers.md", "Zero-shot classification")
    put_files(folder, [config])
    rows = [{"text": f"text {i}", "label": ("sports", "politics")[i % 2]} for i in range(200)]
    write_rows(folder / "news.jsonl", rows)
    gated(1, "--calibration-model=topics")


@pytest.mark.usefixtures("gate")
def test_rewards(section: Section, folder: Path, gated: Gated) -> None:
    """Pairs of answers to one question."""
    row, config = section("docs/how-to/classifiers.md", "Reward models")
    put_files(folder, [config])
    write_rows(folder / "probes" / "pairs.jsonl", like(row))
    gated(1, "--calibration-model=reward")


def test_the_reference(tmp_path: Path) -> None:
    """Each entry of the reference makes its probe, and each row an item."""
    (config,) = blocks(KINDS, "Labels and classes")
    (tmp_path / "calibration.yaml").write_text(config.text, "utf-8")
    (tmp_path / "news.csv").write_text("text,label\na,0\n", "utf-8")
    write_rows(tmp_path / "mood.jsonl", [{"text": "a", "label": "froh"}])
    entries = read_config(tmp_path / "calibration.yaml").probes
    assert set(entries) == {"news", "mood"}
    for name, entry in entries.items():
        made: Any = from_settings(name, entry, tmp_path, "here")
        assert made.translation(made.items[0].labels[0])
    (rows,) = blocks(KINDS, "Reward models")
    for row in rows.text.splitlines():
        (tmp_path / "pairs.jsonl").write_text(row, "utf-8")
        assert Preference(path=tmp_path / "pairs.jsonl").size == 1
