"""Real vLLM servers, up after a minute or two, and the checkpoints that they serve."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from vllm_server import Serve, Server, serving

from pytest_calibration.models.backends.server.address import KEY

WIDE: Final = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
"""vLLM's attention on a CPU takes heads of 32 and more."""
SAID: Final = (("Paris", "0.9"), ("Rome", "0.8"), ("Oslo", "0.6"), ("Bern", "0.7"))
"""What the chat model was trained to answer, and with which confidence."""


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start servers; they run to the end of the test. Each takes 3 GB of memory."""
    with ExitStack() as running:

        def start(model: Path, name: str, *arguments: str) -> Server:
            folder = tmp_path_factory.mktemp("server")
            return running.enter_context(serving(model, folder, name, *arguments))

        yield start


@pytest.fixture(scope="session")
def chat_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama that was trained to answer four questions in its chat template.

    Its generation settings are not neutral, as those of published models: a server takes them for
    what a request leaves open.
    """
    from checkpoints import chat_model, chat_tokenizer, edit_json, save

    tokenizer = chat_tokenizer()
    tokenizer.model_max_length = 512
    # As in the vocabularies of large models, each label is one token.
    tokenizer.add_tokens([f" {letter}" for letter in "ABCD"])
    chats = [
        [
            {"role": "user", "content": f"Q{i}?"},
            {"role": "assistant", "content": f"Guess: {answer}\nProbability: {stated}"},
        ]
        for i, (answer, stated) in enumerate(SAID)
    ]
    model = chat_model(tokenizer, chats, steps=120, head_dim=32, **WIDE)
    folder = save(tmp_path_factory.mktemp("chat") / "policy", model, tokenizer)
    settings = {"do_sample": True, "temperature": 0.6, "top_k": 5, "repetition_penalty": 1.3}
    edit_json(folder / "generation_config.json", **settings)
    return folder


@pytest.fixture(scope="session")
def other_checkpoint(chat_checkpoint: Path) -> Path:
    """The same model after one more step of training: other weights, all else alike."""
    import torch
    from checkpoints import save
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(chat_checkpoint)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    tokenizer = AutoTokenizer.from_pretrained(chat_checkpoint)
    return save(chat_checkpoint.parent / "other", model, tokenizer)


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path under which the model of the day lies; a link."""
    return tmp_path_factory.mktemp("deployed") / "current"


@pytest.fixture(scope="session")
def policy(
    tmp_path_factory: pytest.TempPathFactory, chat_checkpoint: Path, deployed: Path, key: str
) -> Iterator[Server]:
    """A server of the chat model for the whole session, which asks for a key."""
    deployed.symlink_to(chat_checkpoint)
    folder = tmp_path_factory.mktemp("server")
    with serving(deployed, folder, "policy", "--api-key", key) as server:
        yield server


@pytest.fixture
def redeployed(
    serve: Serve, policy: Server, other_checkpoint: Path, deployed: Path, key: str
) -> Server:
    """Another model, deployed after the chat model: the same path, id and key."""
    deployed.unlink()
    deployed.symlink_to(other_checkpoint)
    return serve(deployed, "policy", "--api-key", key)


@pytest.fixture(scope="session")
def key() -> Iterator[str]:
    """What opens the servers; the environment holds it, and nothing else may."""
    secret = "key-0123456789-of-the-servers"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY, secret)
        yield secret


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six hundred lettered questions about numbers, with solved examples to put before them."""
    folder = tmp_path_factory.mktemp("questions")
    rows = [
        {
            "id": f"q{i}",
            "question": f"Which number comes after {i}?",
            "options": [str(i + 1 + (k - i) % 4) for k in range(4)],
            "answer": i % 4,
        }
        for i in range(605)
    ]
    shots, asked = rows[:5], rows[5:]
    for name, part in (("shots", shots), ("questions", asked)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in part), "utf-8")
    return folder
