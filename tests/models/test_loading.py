"""From a spec to a model, whatever backend loads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import toy_backend

from pytest_calibration import extras
from pytest_calibration.errors import MissingExtra, ModelError, UsageError
from pytest_calibration.models import backends
from pytest_calibration.models.backends import BACKENDS, Backend, ModelSpec, all_backends
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.loading import load_model
from pytest_calibration.models.protocols import Classifier, LanguageModel
from pytest_calibration.probes.facts import Facts

TEXTS = ["a b c", "d e"]


@pytest.fixture(autouse=True)
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Work beside three toy models; return what is loaded and closed."""
    for name in ("calm", "hot", "classifier", "unsure"):
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(BACKENDS, "toy", toy_backend.__name__)
    monkeypatch.setattr(toy_backend, "LOG", [])
    return toy_backend.LOG


@pytest.mark.parametrize("name", ["transformers", "toy"])
def test_a_backend_has_all_that_is_asked_of_it(name: str) -> None:
    """A module in the table fulfils the protocol, and is found under its name."""
    assert isinstance(backends.backend_named(name), Backend)
    assert backends.backend_named(name) in all_backends()


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"percent": 101}, r"percent must lie between 0 and 100, got 101"),
        ({"percent": "much"}, r"percent must be a whole number, got 'much'"),
        ({"percent": True}, r"percent must be a whole number, got True"),
        ({"seed": "x"}, r"seed must be a whole number or null, got 'x'"),
        ({"folder": 3}, r"folder must be text or null, got 3"),
        ({"speed": 3}, r"load_model: unknown setting 'speed'; known settings: percent, seed, fol"),
        ({"dtype": "half"}, r"load_model: unknown setting 'dtype'; known settings: percent, seed"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(
    toys: list[str], settings: dict[str, object], message: str
) -> None:
    """By name and value, before anything is loaded; another backend's settings are unknown."""
    with pytest.raises(UsageError, match=message):
        load_model("toy:calm", **settings)
    assert toys == []


def test_settings_of_a_run_are_shared_by_all_backends() -> None:
    """Each backend takes its own of them; what the call says wins."""
    model = load_model("toy:calm", {"dtype": "float32", "percent": 5, "seed": 1}, percent=7)
    assert model.settings == toy_backend.Settings(percent=7, seed=1)


def test_a_missing_package_is_an_error_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend says what it needs, before anything is asked of the model."""
    monkeypatch.setattr(toy_backend, "missing", "toylib")
    with pytest.raises(MissingExtra, match="toylib is not installed"):
        load_model("toy:calm")


@pytest.mark.parametrize("spec", [3, None, Path("calm")])
def test_a_spec_is_text(spec: object) -> None:
    """Anything else is refused by name."""
    with pytest.raises(UsageError, match="pass a directory or a hub id as text, got"):
        load_model(spec)  # type: ignore[arg-type]


def test_one_call_loads_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A glob of several is refused with their number; of one it is that one."""
    monkeypatch.setattr(extras, "find_spec", lambda name: name)
    for name in ("a-1", "a-2", "b-1"):
        (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match=r"names 2 models; load them one by one"):
        load_model(str(tmp_path / "a-*"))
    assert load_model(str(tmp_path / "b-*")).name == "b-1"


# --- laziness ------------------------------------------------------------------------------------


def test_a_model_is_loaded_when_it_first_scores(toys: list[str]) -> None:
    """Naming and identifying it loads nothing; scoring loads it once."""
    model = load_model("toy:calm")
    assert (model.name, model.fingerprint, toys) == ("toy-calm", model.fingerprint, [])
    assert len(model.option_logprobs(["a"], [["b", "c"]])[0]) == 2
    assert len(model.next_token(TEXTS)[0].hit) == 2
    assert len(model.generate(["a"], max_new_tokens=[3])[0].token_logprobs) == 3
    assert model.description == {"percent": "0"}
    assert toys == ["load toy-calm"]
    assert (model.computed, model.served, model.use.loads) == (3, 0, 1)
    assert model.notes == ("it is only a toy.",)


def test_a_released_model_is_loaded_again_when_needed(toys: list[str]) -> None:
    """Two models in turn are never in memory together; releasing twice or too soon is harmless."""
    model = load_model("toy:calm", percent=7)
    model.release()
    first = model.load()
    assert model.load() is first
    assert first.sharpen == 0.07
    model.release()
    model.release()
    assert toys == ["load toy-calm", "close toy-calm"]
    assert model.load() is not first
    assert model.use.loads == 2
    assert model.notes == ("it is only a toy.",)


def test_what_cannot_be_loaded_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test that asks for it gets the same error, at once, after a release, too."""
    tries: list[str] = []

    def load(spec: ModelSpec, settings: object) -> object:
        tries.append(spec.name)
        raise ModelError("toy-calm: the hub does not answer.")

    monkeypatch.setattr(toy_backend, "load", load)
    model = load_model("toy:calm")
    for _ in range(3):
        with pytest.raises(ModelError, match=r"^toy-calm: the hub does not answer\.$"):
            model.next_token(TEXTS)
        model.release()
    assert tries == ["toy-calm"]


def test_a_lazy_model_is_of_every_kind(toys: list[str]) -> None:
    """It has all that a probe may ask for, and telling so loads nothing."""
    model = load_model("toy:classifier")
    assert isinstance(model, LanguageModel)
    assert isinstance(model, Classifier)
    assert toys == []


def test_a_fingerprint_is_computed_once(tmp_path: Path) -> None:
    """Gigabytes are read once per model, not once per question."""
    model = load_model("toy:calm")
    before = model.fingerprint
    (tmp_path / "calm").write_text("changed")
    assert model.fingerprint == before
    assert load_model("toy:calm").fingerprint != before


# --- with a cache --------------------------------------------------------------------------------


def test_a_probe_is_answered_from_the_cache(toys: list[str], tmp_path: Path) -> None:
    """The second run has the same predictions and loads nothing; another setting is another."""
    first, second = (
        Facts().run(load_model("toy:hot", cache=Cache(tmp_path)), limit=40) for _ in range(2)
    )
    assert toys == ["load toy-hot"]
    assert first.signature == second.signature
    np.testing.assert_array_equal(first.confidence, second.confidence)
    load_model("toy:hot", cache=Cache(tmp_path), percent=5).next_token(TEXTS)
    assert toys == ["load toy-hot"] * 2


def test_a_classifier_is_answered_from_the_cache(toys: list[str], tmp_path: Path) -> None:
    """Class probabilities are kept too, bit for bit; also those of no text."""
    asked = [TEXTS, [], TEXTS[:1]]
    runs = []
    for _ in range(2):
        model = load_model("toy:classifier", cache=Cache(tmp_path))
        runs.append([model.class_probabilities(texts) for texts in asked])
    assert toys == ["load toy-classifier"]
    assert (model.served, model.computed) == (3, 0)
    for first, second, texts in zip(*runs, asked, strict=True):
        assert first.shape == second.shape == (len(texts), 3)
        assert first.tobytes() == second.tobytes()
        np.testing.assert_allclose(first.sum(axis=1), 1)


@pytest.mark.parametrize("kept", [True, False])
def test_a_model_of_another_kind_is_an_error(tmp_path: Path, kept: bool) -> None:
    """A language model gives no class probabilities, and a classifier continues no text."""
    cache = Cache(tmp_path) if kept else None
    with pytest.raises(ModelError, match=r"toy-calm: is a language model, and .* asks a class"):
        load_model("toy:calm", cache=cache).class_probabilities(TEXTS)
    with pytest.raises(ModelError, match="toy-calm: this kind of model has no sample, which the"):
        load_model("toy:calm", cache=cache).sample(
            ["a"], max_new_tokens=[1], temperature=1.0, seeds=[0]
        )
    with pytest.raises(ModelError, match=r"is a classifier, .* language model \(generate\); write"):
        load_model("toy:classifier", cache=cache).generate(["a"], max_new_tokens=[1])


def test_what_cannot_be_identified_is_not_kept(toys: list[str], tmp_path: Path) -> None:
    """Without a key for the cache a model is asked every time."""
    for _ in range(2):
        model = load_model("toy:unsure", cache=Cache(tmp_path / "kept"))
        model.next_token(TEXTS)
        assert (model.served, model.computed) == (0, 1)
    assert not (tmp_path / "kept").exists()


def test_what_changed_while_it_was_read_is_not_kept(tmp_path: Path) -> None:
    """A key that is no longer the model's own has no answers."""
    model = load_model("toy:calm", cache=Cache(tmp_path / "kept"))
    assert model.fingerprint
    (tmp_path / "calm").write_text("changed")
    model.next_token(TEXTS)
    assert not (tmp_path / "kept").exists()


def test_a_file_that_cannot_be_read_is_reported_by_loading(tmp_path: Path) -> None:
    """Looking for kept answers hides no error."""
    model = load_model("toy:gone", cache=Cache(tmp_path))
    with pytest.raises(FileNotFoundError):
        model.next_token(TEXTS)
