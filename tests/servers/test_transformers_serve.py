"""A real ``transformers serve``: its completions are refused, its typed decisions are read."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from checkpoints import bpe, new_model, quietly, save
from numpy.testing import assert_allclose

from pytest_calibration import MultipleChoice
from pytest_calibration.errors import ModelError, UntrustedServerError
from pytest_calibration.models.loading import load_model

pytestmark = pytest.mark.serving

STARTED_IN = 300.0
QUESTIONS = [
    ("The city of Oslo is the capital of", ["Norway", "Italy", "France"]),
    ("Water boils at", ["100 degrees", "zero degrees"]),
    ("The ice melts at", ["100 degrees", "zero degrees"]),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a checkpoint with a chat template, and a temperature for decisions."""
    tokenizer = bpe()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}\nAnswer: "
    tokenizer.model_max_length = 512
    model = new_model("gpt_neox", max_position_embeddings=512)
    place = save(tmp_path_factory.mktemp("served") / "tiny", model, tokenizer)
    (place / "decision.json").write_text('{"temperature": {"choice": 2.5}}', "utf-8")
    return place


@pytest.fixture(scope="module")
def address(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start the server; return the address of its API."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("log") / "server.txt"
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)],
            stdout=out,
            stderr=out,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )
    try:
        end = time.monotonic() + STARTED_IN
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text("utf-8")
                assert time.monotonic() < end, log.read_text("utf-8")
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def test_completions_are_refused(address: str, folder: Path) -> None:
    """They drop log-probabilities and echo without a word, so that no number could be right."""
    model = load_model(f"{address}#{folder}")
    with pytest.raises(UntrustedServerError, match=r"it drops logprobs and echo"):
        model.option_logprobs(["Water boils at"], [[" 100", " zero"]])


def test_decisions_are_those_of_the_pipeline(address: str, folder: Path) -> None:
    """The probabilities are those of the library's own pipeline, at the model's temperature."""
    from transformers import pipeline

    model = load_model(f"{address}/systemone#{folder}")
    prompts, options = [list(column) for column in zip(*QUESTIONS, strict=True)]
    found = model.option_logprobs(prompts, options)
    with quietly():
        decide = pipeline("decision", model=str(folder), device="cpu")
    for (state, row), logprobs in zip(QUESTIONS, found, strict=True):
        question = {"type": "choice", "criteria": dict.fromkeys(row)}
        answer = decide({"state": state, "questions": {"q": question}})["q"]
        right = [answer["probabilities"][option] for option in row]
        assert_allclose(np.exp(logprobs), right, atol=1e-5)
        # What the answer calls its confidence is another number.
        assert answer["confidence"] < max(right) - 1e-3


def test_a_probe_asks_for_decisions(address: str, folder: Path, tmp_path: Path) -> None:
    """Multiple choice takes the probability of the chosen option as the confidence."""
    rows = [json.dumps({"question": q, "options": o, "answer": 0}) for q, o in QUESTIONS]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), "utf-8")
    path = tmp_path / "rows.jsonl"
    probe = MultipleChoice("decisions", path=path, scoring="text", template="{question}")
    predictions = probe.run(load_model(f"{address}/systemone#{folder}"))
    assert len(predictions) == len(QUESTIONS)
    assert ((predictions.confidence > 0.3) & (predictions.confidence < 1)).all()
    assert predictions.signature.soft["asked by"] == "typed decisions"


def test_what_it_cannot_give_is_told(address: str, folder: Path) -> None:
    """Probes of texts need log-probabilities of tokens; a chat is rendered by the server alone."""
    model = load_model(f"{address}/systemone#{folder}")
    with pytest.raises(ModelError, match="has no next_token, which the probe needs"):
        model.next_token(["Water boils"])
    with pytest.raises(ModelError, match="two options of 'Water' are the same, or one is empty"):
        model.option_logprobs(["Water"], [["a", " a"]])
    with pytest.raises(UntrustedServerError, match="has no model 'other', but "):
        load_model(f"{address}/systemone#other").option_logprobs(["Water"], [["a", "b"]])
