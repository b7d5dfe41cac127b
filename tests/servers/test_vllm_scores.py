"""A model behind vLLM gives what the same checkpoint gives in this process, to every probe."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from numpy.testing import assert_allclose
from vllm_server import Server

pytestmark = [pytest.mark.vllm, pytest.mark.torch]
pytest.importorskip("torch")

from pytest_calibration import (  # noqa: E402
    Facts,
    MultipleChoice,
    NextToken,
    Predictions,
    PTrue,
    SequenceLogprob,
    Verbalized,
    compare,
    load_model,
)
from pytest_calibration.models.loading import LazyModel  # noqa: E402
from pytest_calibration.probes.probe import Probe  # noqa: E402

CLOSE: Final = 1e-4
"""Of log-probabilities, in float32; of probabilities it is a stricter bound."""
TEXTS: Final = (
    "The capital of France is Paris. The capital of Italy is Rome.",
    "In the year 1969 the first people walked on the moon; who knows what comes next?",
    "Water boils at 100 degrees, and the ice melts at zero degrees. " * 12,
)


@pytest.fixture(scope="module")
def local(chat_checkpoint: Path) -> Iterator[LazyModel]:
    """The checkpoint in this process."""
    model = load_model(str(chat_checkpoint), dtype="float32")
    yield model
    model.release()


@pytest.fixture(scope="module")
def remote(policy: Server) -> Iterator[LazyModel]:
    """The same one behind vLLM."""
    model = load_model(policy.spec)
    yield model
    model.release()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows for each kind of probe."""
    folder = tmp_path_factory.mktemp("rows")
    names = ("Paris", "Rome", "Oslo", "Bern")
    contents: dict[str, list[dict[str, Any]]] = {
        "texts": [{"text": text} for text in TEXTS],
        "facts": [
            {"prompt": f"The capital of {land} is", "answer": city}
            for land, city in zip(("France", "Italy", "Norway", "Bern"), names, strict=True)
        ],
        "questions": [
            {"question": f"Is {a} a city like {b}?", "options": list(names), "answer": i % 4}
            for i, (a, b) in enumerate((a, b) for a in names for b in names)
        ],
        "free": [{"question": f"Q{i}?", "answer": name} for i, name in enumerate(names)],
    }
    for name, content in contents.items():
        text = "".join(json.dumps(row) + "\n" for row in content)
        (folder / f"{name}.jsonl").write_text(text, "utf-8")
    return folder


FREE: Final = {"max_new_tokens": 12, "stop": "\n"}
PROBES: Final[dict[str, Callable[[Path], Probe]]] = {
    "next_token": lambda f: NextToken("n", path=f / "texts.jsonl", positions="all"),
    "facts": lambda f: Facts("f", path=f / "facts.jsonl"),
    "facts, whole entity": lambda f: Facts("w", path=f / "facts.jsonl", mode="whole_entity"),
    "letters": lambda f: MultipleChoice("m", path=f / "questions.jsonl", shots=2),
    "texts": lambda f: MultipleChoice("t", path=f / "questions.jsonl", scoring="text"),
    "texts, by bytes": lambda f: MultipleChoice(
        "b", path=f / "questions.jsonl", scoring="text", normalise="bytes"
    ),
    "chat": lambda f: MultipleChoice("c", path=f / "questions.jsonl", chat=True),
    "sequence": lambda f: SequenceLogprob("s", path=f / "free.jsonl", **FREE),
    "p_true": lambda f: PTrue("p", path=f / "free.jsonl", **FREE),
    "verbalized": lambda f: Verbalized(
        "v", path=f / "free.jsonl", chat=True, template="{question}"
    ),
}


def answers(model: LazyModel, make: Callable[[Path], Probe], rows: Path) -> Predictions:
    """Ask a probe that is made anew."""
    return make(rows).run(model)


@pytest.mark.parametrize("name", PROBES)
def test_predictions_are_those_of_the_checkpoint(
    name: str, local: LazyModel, remote: LazyModel, rows: Path
) -> None:
    """Same items, same answers, confidences and log-probabilities; a comparison of both passes."""
    ours, theirs = (answers(model, PROBES[name], rows) for model in (local, remote))
    assert theirs.item_ids.tolist() == ours.item_ids.tolist()
    assert theirs.correct.tolist() == ours.correct.tolist()
    assert_allclose(theirs.confidence, ours.confidence, rtol=0, atol=CLOSE)
    assert (theirs.label_logprobs is None) == (ours.label_logprobs is None)
    if ours.label_logprobs is not None and theirs.label_logprobs is not None:
        assert_allclose(theirs.label_logprobs, ours.label_logprobs, rtol=0, atol=CLOSE)
    if ours.probabilities is not None and theirs.probabilities is not None:
        assert_allclose(theirs.probabilities, ours.probabilities, rtol=0, atol=CLOSE)
    assert theirs.signature.hard == ours.signature.hard
    if ours.n >= 50:
        assert compare(theirs, ours).state.value == compare(ours, ours).state.value
