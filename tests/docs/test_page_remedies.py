"""The blocks of the page on remedies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from checkpoints import bpe, new_model, quietly, save
from console import Console
from documents import ROOT, Section
from known_calibration import sharpened

transformers = pytest.importorskip("transformers")

EXAMPLE = ROOT / "example_project"
SHARP = 2.5
CONFIG = """
probes:
  questions:
    kind: multiple_choice
    path: questions.jsonl
    limit: 800
    scoring: text
    template: "{question}"
"""

pytestmark = [
    pytest.mark.torch,
    # Of transformers, about its own names.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture
def sharp(folder: Path) -> None:
    """The base of the example project with its logits times 2.5, and its questions."""
    if not EXAMPLE.is_dir():
        pytest.skip("the example is not here")
    base = EXAMPLE / "checkpoints" / "base"
    shutil.copy(EXAMPLE / "probes" / "almanac_questions.jsonl", folder / "questions.jsonl")
    (folder / "calibration.yaml").write_text(CONFIG, "utf-8")
    with quietly():
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(base)
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(base)
    model.get_output_embeddings().weight.data.mul_(SHARP)
    save(folder / "runs" / "sharp", model, tokenizer)


@pytest.mark.docs
@pytest.mark.usefixtures("sharp")
def test_a_temperature(section: Section, folder: Path, console: Console) -> None:
    """Of a file, and of a model that is asked; each number is the page's."""
    (commands,) = section("docs/how-to/remedies.md", "A temperature")
    table = sharpened(2000, 7, SHARP)
    rows = zip(table.probabilities.tolist(), table.labels.tolist(), strict=True)
    lines = (",".join(map(repr, [*p, label])) for p, label in rows)
    head = ",".join([*(f"prob_{k}" for k in range(table.probabilities.shape[1])), "label"])
    (folder / "predictions.csv").write_text("\n".join([head, *lines]), "utf-8")
    of_file, _ = console.type(commands)
    assert "model: {temperature: " in of_file


@pytest.mark.training
def test_rcft(section: Section, folder: Path, console: Console) -> None:
    """What is installed is there, and what is trained is not what it was."""
    pytest.importorskip("trl")
    install, code = section("docs/how-to/remedies.md", "CFT and RCFT")
    console.type(install)
    tokenizer = bpe()
    tokenizer.model_max_length = 512
    # As in the vocabularies of large models, each label is one token.
    tokenizer.add_tokens([f" {letter}" for letter in "AB"])
    model = new_model("llama", vocab_size=len(tokenizer), max_position_embeddings=512)
    save(folder / "runs" / "dpo", model, tokenizer)
    rows = [
        {"question": f"Which {i}?", "options": ["this", "that"], "answer": 0} for i in range(24)
    ]
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (folder / "train_questions.jsonl").write_text(text, "utf-8")
    space: dict[str, Any] = {}
    exec(code.text, space)
    trained = space["trainer"]
    assert trained.state.global_step == 9
    before = dict(model.named_parameters())
    assert any((p != before[n]).any() for n, p in trained.model.named_parameters())
