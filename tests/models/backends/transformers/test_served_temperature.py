"""A model served at a temperature, against the logits of transformers divided by it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import all_loaded  # noqa: F401  before any inner run
import numpy as np
import pytest
from checkpoints import bpe, new_model, quietly, save
from classifiers import new_classifier
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from pytest_calibration.cli.project import Project  # noqa: E402
from pytest_calibration.errors import ModelError, UsageError  # noqa: E402
from pytest_calibration.models.adopted import adopted  # noqa: E402
from pytest_calibration.models.backends.transformers.vocabulary import Vocabulary  # noqa: E402
from pytest_calibration.models.cache import Cache  # noqa: E402
from pytest_calibration.models.loading import LazyModel, load_model  # noqa: E402
from pytest_calibration.probes.multiple_choice import MultipleChoice  # noqa: E402

pytestmark = pytest.mark.torch

T = 2.5
PROMPT = "The capital of Italy is"
OPTIONS = (" Paris", " Rome", " the city of Oslo")


def load(path: Path, **settings: Any) -> LazyModel:
    """Return a model that scores in float32 on the CPU."""
    return load_model(str(path), **{"dtype": "float32", "device": "cpu"} | settings)


def logits_of(path: Path, ids: list[int]) -> Any:
    """Return the logits of transformers, (t, v)."""
    with quietly(), torch.inference_mode():
        model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        return model.eval()(torch.tensor([ids])).logits[0].double()


@pytest.fixture(params=["split", "whole", "softcap"])
def path(
    request: pytest.FixtureRequest, neox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A model of body and head, one that is called as a whole, and one that caps its logits."""
    if request.param == "whole":
        monkeypatch.setattr(Vocabulary, "_is_plain_head", lambda _: False)
    return save(tmp_path / "m", new_model("gemma2"), bpe()) if request.param == "softcap" else neox


def test_every_score_is_that_of_the_logits_divided(path: Path) -> None:
    """Options of one token and of several, next tokens, and greedy continuations."""
    model, tokenizer = load(path, temperature=T), bpe()
    (found,) = model.option_logprobs([PROMPT], [OPTIONS])
    head = tokenizer(PROMPT)["input_ids"]
    for option, logprob in zip(OPTIONS, found, strict=True):
        ids = tokenizer(PROMPT + option)["input_ids"]
        rows = (logits_of(path, ids) / T).log_softmax(-1)
        wanted = sum(float(rows[i - 1, ids[i]]) for i in range(len(head), len(ids)))
        assert logprob == pytest.approx(wanted, abs=2e-4)
    (scores,) = model.next_token([PROMPT])
    rows = (logits_of(path, head) / T).log_softmax(-1)
    assert_allclose(scores.top_probability, rows[:-1].exp().amax(-1).numpy(), atol=1e-4)
    assert_allclose(scores.target_logprob, rows[range(len(head) - 1), head[1:]], atol=2e-4)
    (said,) = model.generate([PROMPT], max_new_tokens=[1])
    assert said.token_logprobs[0] == pytest.approx(float(rows[-1].max()), abs=2e-4)


def test_tokens_are_drawn_from_the_model_as_it_is_served(path: Path) -> None:
    """Drawn at t from a model served at T is drawn at t·T; log-probabilities are those served."""
    served, plain = load(path, temperature=T), load(path)
    asked: dict[str, Any] = {"max_new_tokens": [1] * 8, "seeds": list(range(8))}
    ours = served.sample([PROMPT] * 8, temperature=1.5, **asked)
    theirs = plain.sample([PROMPT] * 8, temperature=1.5 * T, **asked)
    assert [one.text for one in ours] == [one.text for one in theirs]
    ids = bpe()(PROMPT)["input_ids"]
    rows = (logits_of(path, ids)[-1] / T).log_softmax(-1).numpy()
    for one in ours:
        assert np.abs(rows - one.token_logprobs[0]).min() < 2e-4


def test_a_temperature_of_1_changes_no_bit(neox: Path, tmp_path: Path) -> None:
    """Scores, fingerprint, cache key and description are those of a model without one."""
    plain, one = (load_model(str(neox), s, cache=Cache(tmp_path)) for s in ({}, {"temperature": 1}))
    assert (plain.fingerprint, plain.cache_key) == (one.fingerprint, one.cache_key)
    plain, one = load(neox), load(neox, temperature=1)
    assert dict(plain.description) == dict(one.description)
    assert "temperature" not in plain.description
    for a, b in zip(plain.next_token([PROMPT]), one.next_token([PROMPT]), strict=True):
        assert np.array_equal(a.top_probability, b.top_probability)
        assert np.array_equal(a.target_logprob, b.target_logprob)


def test_a_temperature_is_part_of_identity_and_signature(neox: Path, tmp_path: Path) -> None:
    """Another temperature is another model: fingerprint, kept answers, soft signature."""
    models = [
        load_model(str(neox), {"temperature": t}, cache=Cache(tmp_path)) for t in (1, 2, 2.0, 3)
    ]
    prints = [model.fingerprint for model in models]
    assert prints[1] == prints[2]
    assert len({*prints}) == len({model.cache_key for model in models}) == 3
    probe = MultipleChoice(scoring="text", template="{question}")
    before, after = (probe.run(load(neox, temperature=t), limit=4) for t in (1, 2))
    assert after.signature.soft["temperature"] == "2"
    served = load(neox, temperature=2)
    served.load()
    assert "it is served at a temperature of 2" in served.notes
    # The question is the same, so the two are compared.
    assert before.signature.hard == after.signature.hard


def test_classifiers_and_reward_models_divide_theirs(tmp_path: Path) -> None:
    """Class logits before the soft-max, and rewards: their difference is a logit."""
    texts = ["The capital of France is Paris.", "Water boils at 100 degrees."]
    folder = save(tmp_path / "c", new_classifier("bert"), bpe(end=True))
    logits = load(folder).class_logits(texts)
    wanted = np.exp(logits / T) / np.exp(logits / T).sum(axis=1, keepdims=True)
    assert_allclose(load(folder, temperature=T).class_probabilities(texts), wanted, rtol=1e-12)
    # Others ask a classifier for its logits, which stay.
    assert np.array_equal(load(folder, temperature=T).class_logits(texts), logits)
    folder = save(tmp_path / "r", new_classifier("bert", num_labels=1), bpe(end=True))
    rewards = load(folder).rewards(texts)
    assert np.array_equal(load(folder, temperature=T).rewards(texts), rewards / T)


def test_a_model_in_memory_is_served_as_the_project_says(tmp_path: Path) -> None:
    """A pair that a fixture brings; a function of one's own is refused, with what to do."""
    pair = new_model("gpt_neox"), bpe()

    def settings() -> Mapping[str, Any]:
        return {"temperature": T}

    served, plain = adopted(pair, settings, None), adopted(pair, dict, None)
    assert served.fingerprint != plain.fingerprint
    assert served.next_token([PROMPT])[0].top_probability.max() < 1
    with pytest.raises(UsageError, match=r"temperature: 2\.5\} of calibration\.yaml .* divide"):
        adopted(lambda texts: np.ones((len(texts), 1)), settings, None)


ASKED = """
def test_model(calibration_model, calibration_parent):
    assert calibration_model.settings.temperature == 2
    assert calibration_parent.settings.temperature == 1
"""


def test_a_parent_is_asked_as_it_is(
    neox: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The temperature belongs to the models that are tested: in a test, and in a command."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest -p no:cacheprovider")
    (pytester.path / "calibration.yaml").write_text("model: {temperature: 2}", "utf-8")
    pytester.makepyfile(ASKED)
    flags = (f"--calibration-model={neox}", f"--calibration-parent={neox}")
    pytester.runpytest_inprocess(*flags).assert_outcomes(passed=1)
    monkeypatch.chdir(pytester.path)
    project = Project(Namespace(config=None, cache_dir=None))
    assert project.model(str(neox)).settings.temperature == 2  # type: ignore[attr-defined]
    assert project.parent(str(neox)).settings.temperature == 1  # type: ignore[attr-defined]


def test_a_model_that_is_imported_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its logits are its own; a temperature is never ignored in silence."""
    (tmp_path / "served_service.py").write_text("def predict(texts): ...", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    model = load_model("served_service:predict", {"temperature": T})
    with pytest.raises(ModelError, match=r"temperature: 2\.5 divides the logits of a checkpoint"):
        model.load()
