"""What the scorer benchmark runs on: a tokenizer, checkpoints of random weights, and tasks.

Everything is made from seeds and from texts that every Python brings along, so nothing is
downloaded. Another Python version brings other texts; the digest of the tokenizer, which the
benchmark prints, tells whether two runs saw the same material.

``python benchmarks/scorer_material.py FOLDER 14m,70m`` makes what is not there yet (the only part
that needs torch, and it runs in a process of its own: the benchmark's own stays small, because a
child's peak memory counts from what its parent held when it was started).
"""

from __future__ import annotations

import ast
import json
import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data import topics
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

END = "<|endoftext|>"
VOCABULARY = 50_254
"""Tokens of the tokenizer."""

ROWS = 50_304
"""Rows of the models' vocabulary, rounded up as in the Pythia models."""

MAX_LENGTH = 2048
HEAD_FACTOR = 8.0
"""By which the output layer is scaled, so that the confidences of random weights are not flat."""

SUBJECTS = (
    *("algebra", "anatomy", "astronomy", "botany", "chemistry", "economics", "electronics"),
    *("ethics", "genetics", "geography", "geology", "history", "law", "logic", "marketing"),
    *("medicine", "nutrition", "philosophy", "physics", "sociology"),
)
QUESTIONS = 60
"""Questions a subject."""

SHOTS = 5
WORDS = 1000
"""Last words to predict."""

DOCUMENTS = 120


@dataclass(frozen=True)
class Shape:
    """Sizes of a checkpoint.

    Attributes:
        kind: ``neox`` or ``llama``.
        layers: number of them.
        hidden: width.
        heads: attention heads.
        key_heads: heads of keys and values.
        inner: width within the feed-forward part.
        dtype: in which it is saved.
    """

    kind: str
    layers: int
    hidden: int
    heads: int
    key_heads: int
    inner: int
    dtype: str = "float32"


SHAPES = {
    "14m": Shape("neox", 6, 128, 4, 4, 512),
    "70m": Shape("neox", 6, 512, 8, 8, 2048),
    "135m": Shape("llama", 30, 576, 9, 3, 1536),
    "1b": Shape("llama", 16, 2048, 32, 8, 8192, "bfloat16"),
}


# --- texts ---------------------------------------------------------------------------------------


def sources() -> Iterator[str]:
    """Yield the standard library's own Python files, in a fixed order."""
    root = Path(sysconfig.get_path("stdlib"))
    for file in sorted(root.rglob("*.py")):
        if not {"site-packages", "dist-packages", "test", "tests"} & set(file.parts):
            yield file.read_text(encoding="utf-8", errors="ignore")


def prose() -> str:
    """Return the language reference and the library's docstrings, ASCII paragraphs only."""
    texts = [topics.topics[name] for name in sorted(topics.topics)]
    for source in sources():
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                texts.append(ast.get_docstring(node) or "")
    paragraphs = (" ".join(part.split()) for text in texts for part in text.split("\n\n"))
    return "\n".join(p for p in paragraphs if p.isascii() and len(p) > 40)


def make_tokenizer(folder: Path) -> None:
    """Train a byte-level BPE tokenizer and save it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sources(), trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)


# --- tasks ---------------------------------------------------------------------------------------


class Texts:
    """Draws passages of a wanted length from prose.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``.
        text: where they come from.
    """

    def __init__(self, tokenizer: Any, text: str) -> None:
        self.tokenizer = tokenizer
        self.ids = [i for part in text.split("\n") for i in tokenizer.encode(f" {part}\n").ids]

    def draw(self, rng: np.random.Generator, tokens: int) -> str:
        """Return a passage on one line, of about so many tokens."""
        start = int(rng.integers(len(self.ids) - tokens))
        text = self.tokenizer.decode(self.ids[start : start + tokens])
        return " ".join(text.split()) or "it"

    def document(self, rng: np.random.Generator, tokens: int) -> str:
        """Return a passage of several paragraphs."""
        start = int(rng.integers(len(self.ids) - tokens))
        text: str = self.tokenizer.decode(self.ids[start : start + tokens])
        return text.strip()


def question(texts: Texts, rng: np.random.Generator) -> dict[str, Any]:
    """Return a question with four options; 122 tokens in the mean, the longest 5 % over 270."""
    # Lognormal; 19 tokens are the template's.
    length = float(np.clip(rng.lognormal(np.log(122) - 0.18, 0.6), 44, 520)) - 19
    stem = texts.draw(rng, round(length / 2))
    options: list[str] = []
    while len(options) < 4:
        option = texts.draw(rng, max(2, round(length / 8)))
        if option not in options:
            options.append(option)
    return {"question": f"{stem}?", "options": options, "answer": int(rng.integers(4))}


def shown(item: dict[str, Any]) -> str:
    """Return a question as Hendrycks et al. 2021 show it, up to where its answer begins."""
    lines = [f"{letter}. {text}" for letter, text in zip("ABCD", item["options"], strict=True)]
    return "\n".join([item["question"], *lines, "Answer:"])


def choices(texts: Texts) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Return all questions, and the tasks with five shots and with none."""
    rows: list[dict[str, Any]] = []
    few: list[str] = []
    none: list[str] = []
    for number, subject in enumerate(SUBJECTS):
        rng = np.random.default_rng([1, number])
        head = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
        shots = [question(texts, rng) for _ in range(SHOTS)]
        solved = "".join(f"{shown(s)} {'ABCD'[s['answer']]}\n\n" for s in shots)
        for _ in range(QUESTIONS):
            row = question(texts, rng)
            rows.append({**row, "slice": subject})
            few.append(head + solved + shown(row))
            none.append(head + shown(row))
    options = [[" A", " B", " C", " D"]] * len(rows)
    labels = [row["answer"] for row in rows]
    shared: dict[str, Any] = {"options": options, "labels": labels}
    return rows, {"prompts": few, **shared}, {"prompts": none, **shared}


def last_words(texts: Texts, text: str) -> dict[str, Any]:
    """Return passages of about 175 tokens, each with a last word of about three."""
    rng = np.random.default_rng(2)
    words = sorted({w for w in text.split() if w.isalpha()})
    encoded = texts.tokenizer.encode_batch([f" {word}" for word in words])
    pools = [[w for w, e in zip(words, encoded, strict=True) if len(e) == k] for k in (2, 3, 4)]
    prompts = [texts.draw(rng, int(np.clip(rng.normal(182, 40), 60, 320))) for _ in range(WORDS)]
    options = [[f" {rng.choice(pools[i % 3])}"] for i in range(WORDS)]
    return {"prompts": prompts, "options": options}


def documents(texts: Texts) -> dict[str, Any]:
    """Return passages of several paragraphs; 1,098 tokens in the mean."""
    rng = np.random.default_rng(3)
    return {"texts": [texts.document(rng, int(rng.integers(700, 1497))) for _ in range(DOCUMENTS)]}


def make_tasks(folder: Path, tokenizer_file: Path) -> None:
    """Write every task as one JSON file, and the questions as rows of a probe."""
    from tokenizers import Tokenizer

    text = prose()
    texts = Texts(Tokenizer.from_file(str(tokenizer_file)), text)
    rows, few, none = choices(texts)
    tasks = {
        "5-shot": few,
        "0-shot": none,
        "last-word": last_words(texts, text),
        "next-token": documents(texts),
    }
    for name, task in tasks.items():
        (folder / f"{name}.json").write_text(json.dumps(task), encoding="utf-8")
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "questions.jsonl").write_text(lines, encoding="utf-8")


# --- checkpoints ---------------------------------------------------------------------------------


def make_checkpoint(shape: Shape, folder: Path) -> None:
    """Write a checkpoint of random weights, without a tokenizer."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

    common: dict[str, Any] = {
        "vocab_size": ROWS,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.inner,
        "max_position_embeddings": MAX_LENGTH,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "tie_word_embeddings": False,
    }
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, shape.dtype))
    model: Any
    if shape.kind == "neox":
        model = GPTNeoXForCausalLM(GPTNeoXConfig(**common))
    else:
        model = LlamaForCausalLM(LlamaConfig(**common, num_key_value_heads=shape.key_heads))
    torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(HEAD_FACTOR)
    model.save_pretrained(folder)


def make(folder: Path, names: list[str]) -> None:
    """Make tokenizer, tasks and checkpoints that are not there yet."""
    tokenizer, tasks = folder / "tokenizer", folder / "tasks"
    if not (tokenizer / "tokenizer.json").is_file():
        make_tokenizer(tokenizer)
    # The questions are written last.
    if not (tasks / "questions.jsonl").is_file():
        tasks.mkdir(parents=True, exist_ok=True)
        make_tasks(tasks, tokenizer / "tokenizer.json")
    for name in names:
        place = folder / name
        if (place / "tokenizer.json").is_file():
            continue
        make_checkpoint(SHAPES[name], place)
        # The tokenizer last: it shows that the checkpoint is whole.
        for file in sorted(tokenizer.iterdir(), key=lambda f: f.name == "tokenizer.json"):
            (place / file.name).write_bytes(file.read_bytes())


if __name__ == "__main__":
    make(Path(sys.argv[1]), sys.argv[2].split(","))
