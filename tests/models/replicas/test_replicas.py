"""Replicas of a model, in this process: what each is asked, and how answers are put together.

Ray itself is tested in ``test_ray_cluster.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_calibration import extras
from pytest_calibration.errors import ModelError, UsageError
from pytest_calibration.models.backends import ModelSpec
from pytest_calibration.models.backends.own import Settings
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.digests import code_digest
from pytest_calibration.models.loading import load_model
from pytest_calibration.models.replicas import cluster, replicated
from pytest_calibration.models.replicas.cluster import Share, share
from pytest_calibration.models.replicas.replica import Facts, Home, Replica
from pytest_calibration.models.replicas.replicated import AGAIN, ReplicatedModel
from pytest_calibration.models.settings import BackendSettings

HOME = Home("here", code_digest(), ())
CHATS = [[{"role": "user", "content": text}] for text in ("Hello", "Who?", "Why so?")]
SHOTS = "The capital of France is Paris. The capital of Italy is"
TEXTS = [f"{SHOTS}{end}" for end in (" Rome.", " Oslo.", " Bern.", "", " the moon.")]


class PoolHere:
    """Replicas in this process, asked from the last part to the first."""

    share = Share(1)

    def __init__(
        self, spec: ModelSpec, settings: BackendSettings, replicas: int, _: Callable[[], str]
    ) -> None:
        self.size = replicas
        self.replicas = [Replica(spec, settings, HOME) for _ in range(replicas)]

    def facts(self) -> list[Facts]:
        """Let each replica load its model."""
        return [one.facts() for one in self.replicas]

    def run(self, method: str, parts: Sequence[Any]) -> Iterator[tuple[int, bytes]]:
        """Ask the replicas in turn."""
        for i in reversed(range(len(parts))):
            yield self.replicas[i % self.size].ask(i, method, *parts[i])

    def close(self) -> None:
        """Forget the replicas."""
        self.replicas = []


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicated, "Pool", PoolHere)
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.mark.torch
def test_a_language_model_answers_as_in_one_process(neox: Path) -> None:
    """All that a probe may ask; the scores of a text do not depend on what goes along with it."""
    pytest.importorskip("torch")
    one = load_model(str(neox)).load()
    two = ReplicatedModel(load_model(str(neox)).spec, load_model(str(neox)).settings, 2)
    options = [[" a", " the moon", " b"][: 2 + i % 2] for i in range(len(TEXTS))]
    for found, expected in zip(
        two.option_logprobs(TEXTS, options), one.option_logprobs(TEXTS, options), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert found.flags.writeable
    seen: list[int] = []

    def choose(i: int, spans: Any) -> Any:
        seen.append(i)
        return np.arange(len(spans))[i % 2 :: 2]

    for how in ({}, {"choose": choose}):
        for found, expected in zip(
            two.next_token(TEXTS, **how), one.next_token(TEXTS, **how), strict=True
        ):
            np.testing.assert_array_equal(found.spans, expected.spans)
            np.testing.assert_array_equal(found.token_ids, expected.token_ids)
            np.testing.assert_allclose(found.target_logprob, expected.target_logprob, atol=1e-5)
    assert seen == [*range(len(TEXTS)), *range(len(TEXTS))]
    many = [TEXTS[0], TEXTS[3], TEXTS[0]]
    how = {"max_new_tokens": [2, 3, 4], "temperature": 1.0, "seeds": [1, 2, 3]}
    assert [g.text for g in two.sample(many, **how)] == [g.text for g in one.sample(many, **how)]
    how = {"max_new_tokens": [2, 3, 4], "stop": ["."]}
    written = two.generate(many, **how)
    assert [g.text for g in written] == [g.text for g in one.generate(many, **how)]
    pairs = [(SHOTS, " Rome"), (SHOTS, " Oslo"), ("Water", " boils")]
    scored = [one.logprob for one in two.loglikelihood(pairs)]
    np.testing.assert_allclose(scored, [x.logprob for x in one.loglikelihood(pairs)], atol=1e-5)
    assert two.option_logprobs([], []) == []
    assert not hasattr(two, "class_probabilities")
    assert dict(two.description) == dict(one.description)


SERVICE = """
import numpy as np

seen = []

def predict(texts):
    seen.append(list(texts))
    return [[len(text) / 100, 1 - len(text) / 100] for text in texts]

predict.class_names = ["long", "short"]

def short(texts):
    return [[0.5, 0.5]] * 2

class Broken:
    name = "broken"
    def option_logprobs(self, prompts, options):
        return [np.zeros(2)]

broken = Broken()
"""


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module with functions from texts to probabilities."""
    (tmp_path / "my_replicated.py").write_text(SERVICE, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    import my_replicated

    yield my_replicated
    del sys.modules["my_replicated"]


def test_a_function_of_texts_is_asked_in_parts(service: Any) -> None:
    """Rows come in the order of the texts, whichever replica gave them; names come along."""
    model = ReplicatedModel(ModelSpec("my_replicated:predict", backend="own"), Settings(), 2)
    texts = ["x" * n for n in (9, 3, 7, 1, 5, 30, 2)]
    table = model.class_probabilities(texts)
    np.testing.assert_allclose(table[:, 0] * 100, [9, 3, 7, 1, 5, 30, 2])
    assert table.flags.writeable
    assert len(service.seen) > 1
    assert model.class_names == ("long", "short")
    assert "2 replicas on 1 machine, 1 CPU each" in model.notes[0]


def test_too_few_answers_are_refused(service: Any) -> None:
    """A model that answers less than it was asked gives no predictions."""
    model = ReplicatedModel(ModelSpec("my_replicated:broken", "", backend="own"), Settings(), 1)
    with pytest.raises(ModelError, match=r"option_logprobs returned 1 answers for \d+ items"):
        model.option_logprobs(["a"] * 10, [["x", "y"]] * 10)


def test_a_replica_that_was_started_again_is_noted(service: Any) -> None:
    """An answer of a process that was not there at first tells it, once."""
    model = ReplicatedModel(ModelSpec("my_replicated:predict", backend="own"), Settings(), 2)
    model._pool.replicas[0].process = ("here", -1)  # type: ignore[attr-defined]
    model.class_probabilities(["a", "b", "c", "d"] * 4)
    assert model.notes.count(AGAIN) == 1


# --- what a replica must have ---------------------------------------------------------------------


@pytest.mark.parametrize("what", ["model", "base"])
def test_a_directory_that_a_machine_lacks_is_named(what: str, tmp_path: Path) -> None:
    """A checkpoint, or what it is loaded with, that lies on one machine alone."""
    from pytest_calibration.models.backends.transformers.loading_settings import (
        TransformersSettings,
    )

    gone = str(tmp_path / "gone")
    spec = ModelSpec("gpt2", name="m", backend="transformers")
    settings = TransformersSettings(base=gone if what == "base" else None)
    if what == "model":
        spec = replace(spec, location=gone, local=True)
    with pytest.raises(
        ModelError, match=r"on .*: m: there is no directory .*gone'; put it where every machine"
    ):
        Replica(spec, settings, HOME).facts()


def test_other_files_on_a_machine_are_refused() -> None:
    """A stale copy of a checkpoint under the same path would give the numbers of another model."""
    home = replace(HOME, fingerprint="that of another checkpoint")
    with pytest.raises(ModelError, match="'math:sqrt' holds other files than on the machine that"):
        Replica(ModelSpec("math:sqrt", name="m", backend="own"), Settings(), home).facts()


def test_another_version_on_a_machine_is_refused() -> None:
    """The code that scores must be the same everywhere."""
    with pytest.raises(ModelError, match="has another version of pytest-calibration"):
        Replica(ModelSpec("math:sqrt"), Settings(), replace(HOME, code="older")).facts()


def test_a_backend_without_replicas_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of loading the model once, or asking for Ray, as if it had not been asked for."""
    import toy_backend

    from pytest_calibration.models.backends import BACKENDS

    monkeypatch.setitem(BACKENDS, "toy", toy_backend.__name__)
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    words = r"replicas do not go with the backend {}; leave replicas \(--calib"
    for spec, backend in (("toy:x", "toy"), ("http://localhost:1/v1", "server")):
        for given in ({"settings": {"replicas": 2}}, {"replicas": 2}):
            with pytest.raises(UsageError, match=f"'{spec}': {words.format(backend)}"):
                load_model(spec, **given)


@pytest.mark.torch
def test_answers_of_another_machine_are_kept_apart(
    neox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster like this machine kept answers serve both; on any other they are its own."""
    monkeypatch.setattr(extras, "find_spec", lambda _: True)
    cache, found = Cache(tmp_path), []
    monkeypatch.setattr(cluster, "environments", lambda: found)
    here = load_model(str(neox), cache=cache).cache_key
    assert load_model(str(neox), cache=cache, replicas=2).cache_key == here
    found.append("an H100")
    there = load_model(str(neox), cache=cache, replicas=2).cache_key
    assert there not in (here, None)
    assert load_model(str(neox), cache=cache, replicas=4).cache_key == there


# --- what each replica gets -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "replicas", "device", "wide", "expected"),
    [
        ([(16, 0)], 4, "auto", False, Share(4)),
        ([(8, 0), (8, 0), (8, 0)], 2, "cpu", False, Share(8)),
        ([(8, 0), (2, 0)], 3, "auto", False, Share(2)),
        ([(4, 0), (4, 0)], 8, "auto", False, Share(1)),
        ([(64, 8)], 2, "auto", False, Share(1, 1)),
        ([(64, 8)], 2, "cuda", True, Share(1, 4)),
        ([(64, 8)], 2, "cpu", False, Share(32)),
        ([(8, 0), (64, 4)], 3, "auto", False, Share(1, 1)),
    ],
)
def test_a_replica_gets_an_equal_share_of_one_machine(
    nodes: list[tuple[int, int]], replicas: int, device: str, wide: bool, expected: Share
) -> None:
    """Cores, or one GPU; all of its share of the GPUs where a model is spread over several."""
    assert share(nodes, replicas, device, wide=wide) == expected


@pytest.mark.parametrize(
    ("nodes", "device", "said"),
    [
        ([(2, 0)], "auto", "3 replicas and 2 CPUs in the Ray cluster: each replica takes a CPU"),
        ([(64, 1)], "auto", "3 replicas and 1 GPU in the Ray cluster: .* or device cpu"),
        ([(64, 0)], "cuda", "3 replicas and 0 GPUs in the Ray cluster"),
    ],
)
def test_more_replicas_than_the_cluster_holds_are_refused(
    nodes: list[tuple[int, int]], device: str, said: str
) -> None:
    """They would wait for ever."""
    with pytest.raises(ModelError, match=said):
        share(nodes, 3, device)
