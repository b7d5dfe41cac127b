"""Functions and objects that a spec names by their module."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pytest_calibration.errors import ModelError, UsageError
from pytest_calibration.models.backends import backend_named
from pytest_calibration.models.loading import load_model
from pytest_calibration.models.spec import parse_spec

MODULE = """
from fakes import FakeModel

class_names = ["no", "yes"]

def predict(texts):
    return [[0.25, 0.75] for _ in texts]

predict.class_names = class_names

class Estimator:
    classes_ = class_names
    def predict_proba(self, texts):
        return predict(texts)

estimator = Estimator()
language = FakeModel("a fake")
number = 7
text = "gpt2"
"""


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in a folder with a module; what is imported from it is forgotten after the test."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    (tmp_path / "my_service").mkdir()
    (tmp_path / "my_service" / "serving.py").write_text(MODULE, "utf-8")
    (tmp_path / "my_broken.py").write_text("import gone_away\n", "utf-8")
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["predict", "estimator"])
def test_a_function_is_a_classifier(name: str) -> None:
    """It is imported when it is first asked, by its name, and knows its classes."""
    model = load_model(f"my_service.serving:{name}")
    assert model.spec.backend == "own"
    assert "my_service.serving" not in sys.modules
    np.testing.assert_array_equal(model.class_probabilities(["a", "b"]), [[0.25, 0.75]] * 2)
    assert model.class_names == ("no", "yes")
    assert model.use.loads == 1


def test_an_object_is_the_model_it_is() -> None:
    """Under the name of the spec, also after its release."""
    model = load_model("my_service.serving:language")
    first = model.option_logprobs(["a"], [[" b", " c"]])
    model.release()
    np.testing.assert_array_equal(model.option_logprobs(["a"], [[" b", " c"]]), first)
    assert model.name == "my_service.serving-language"


def test_no_answer_is_kept() -> None:
    """What a function does may change, and nobody can tell."""
    backend = backend_named("own")
    spec = parse_spec("my_service.serving:predict")
    assert backend.identify(spec, backend.Settings(), None).cache_key is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("my_service.serving:predit", r"has no 'predit' \(did you mean 'predict'\?\)"),
        ("my_service.serving:number", r"is no model, but int: a model offers `name`"),
        ("my_service.serving:text", r"is no model, but str"),
        ("my_service.serving:Estimator", r"is no model, but the class Estimator"),
        ("my_service.gone:predict", r"my_service\.gone cannot be imported \(ModuleNotFoundError"),
        ("my_broken:predict", r"my_broken cannot be imported \(ModuleNotFoundError: .*gone_away"),
    ],
)
def test_what_is_no_model_is_one_sentence(text: str, message: str) -> None:
    """It begins with the spec."""
    with pytest.raises(ModelError, match=rf"model '{text}'.*{message}"):
        load_model(text).class_probabilities(["a"])


def test_another_kind_of_probe_is_one_sentence() -> None:
    """A function is no language model."""
    with pytest.raises(ModelError, match="is a classifier, and the probe asks a language model"):
        load_model("my_service.serving:predict").option_logprobs(["a"], [[" b"]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("my_servce:predict", r"there is no module my_servce .*did you mean 'my_service'"),
        ("my_service:", r"is of no kind that can be loaded .*module:name"),
    ],
)
def test_what_names_no_module_is_refused(text: str, message: str) -> None:
    """With what could have been meant."""
    with pytest.raises(UsageError, match=message):
        parse_spec(text)


def test_a_folder_without_a_name_behind_it_is_a_checkpoint() -> None:
    """Python could import it, too."""
    assert parse_spec("my_service").backend == "transformers"
