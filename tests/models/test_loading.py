"""From a spec to a model, as far as it goes without torch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
from fakes import FakeModel

from pytest_calibration.errors import MissingExtra, ModelError, UsageError
from pytest_calibration.models import checkpoint
from pytest_calibration.models.checkpoint import LoadSettings, fingerprint
from pytest_calibration.models.loading import LazyModel, load_model
from pytest_calibration.models.protocols import LanguageModel
from pytest_calibration.models.spec import ModelSpec


def installed(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Pretend that exactly these packages are installed."""

    def find(name: str) -> ModuleSpec | None:
        return ModuleSpec(name, None) if name in packages else None

    monkeypatch.setattr(checkpoint, "find_spec", find)


@pytest.mark.parametrize("present", [(), ("transformers",), ("torch",)])
def test_a_missing_package_is_answered_with_the_install_command(
    monkeypatch: pytest.MonkeyPatch, present: tuple[str, ...]
) -> None:
    """The error is an ImportError too, and can be copied from."""
    installed(monkeypatch, *present)
    missing = "transformers" if "torch" in present else "torch"
    with pytest.raises(
        MissingExtra, match=rf'{missing} is not installed.*pip install "pytest-calibration\[hf\]"'
    ) as caught:
        load_model("gpt2")
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value, ModelError)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "tpu"}, r"unknown device 'tpu'; use one of auto, cpu, cuda, mps"),
        ({"device": ""}, r"unknown device ''"),
        ({"dtype": "half"}, r"unknown dtype 'half'; use one of auto, float32, bfloat16, float16"),
        ({"batch_tokens": 0}, r"batch tokens must be at least 1, got 0"),
        ({"speed": 3}, r"load_model: .*'speed'; known settings: device, dtype, batch_tokens"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], message: str
) -> None:
    """Before anything is loaded, by name and value."""
    installed(monkeypatch, "torch", "transformers")
    with pytest.raises(UsageError, match=message):
        load_model("gpt2", **settings)


def test_settings_are_given_one_way_or_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """With both, one would be ignored in silence."""
    installed(monkeypatch, "torch", "transformers")
    with pytest.raises(UsageError, match=r"give settings or device, dtype, not both"):
        load_model("gpt2", LoadSettings(), dtype="float32", device="cpu")


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", "mps", "auto"])
def test_a_device_may_have_a_number(device: str) -> None:
    """``cuda:1`` is a device."""
    assert LoadSettings(device=device).device == device


def test_one_call_loads_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A glob of several is refused with their number; of one it is that one."""
    installed(monkeypatch, "torch", "transformers")
    for name in ("a-1", "a-2", "b-1"):
        (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match=r"names 2 models; load them one by one"):
        load_model(str(tmp_path / "a-*"))
    assert load_model(str(tmp_path / "b-*")).name == "b-1"


class Loaded(FakeModel):
    """Stands for a model with its weights in memory; counts how often they are read."""

    made = 0
    closed = 0

    def __init__(self, spec: ModelSpec, settings: LoadSettings) -> None:
        super().__init__(spec.name)
        self.settings = settings
        self.description = {"dtype": settings.dtype}
        self.notes: list[str] = []
        type(self).made += 1

    def close(self) -> None:
        """Free the weights."""
        type(self).closed += 1


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[Loaded]:
    """The engine's module, replaced."""
    made = type("Counted", (Loaded,), {"made": 0, "closed": 0})
    module = ModuleType("pytest_calibration.models.backends.transformers")
    monkeypatch.setattr(module, "TransformersModel", made, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    installed(monkeypatch, "torch", "transformers")
    return made


def test_weights_are_read_when_the_model_first_scores(engine: type[Loaded]) -> None:
    """Naming a model reads nothing; scoring reads the weights, once."""
    model = load_model("gpt2")
    assert (model.name, engine.made) == ("gpt2", 0)
    assert len(model.option_logprobs(["a"], [["b", "c"]])[0]) == 2
    assert len(model.next_token(["a b c"])[0].hit) == 2
    assert len(model.generate(["a"], max_new_tokens=[3])[0].token_logprobs) == 3
    assert model.description == {"dtype": "auto"}
    assert (engine.made, engine.closed) == (1, 0)


def test_a_released_model_is_read_again_when_needed(engine: type[Loaded]) -> None:
    """Two models in turn are never in memory together; releasing twice or too soon is harmless."""
    model = load_model("gpt2", batch_tokens=7)
    model.release()
    first = model.load()
    assert model.load() is first
    assert first.settings.batch_tokens == 7
    model.release()
    model.release()
    assert (engine.made, engine.closed) == (1, 1)
    assert model.load() is not first
    assert engine.made == 2


def test_a_lazy_model_is_a_model(tmp_path: Path, engine: type[Loaded]) -> None:
    """It has all that a probe may ask for, and telling so reads no weights."""
    assert isinstance(load_model(str(tmp_path)), LanguageModel)
    assert engine.made == 0


# --- fingerprints --------------------------------------------------------------------------------


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    """A checkpoint directory."""
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "README.md").write_text("words", encoding="utf-8")
    return ModelSpec(str(tmp_path), None, local=True, name="m")


@pytest.mark.parametrize(
    ("change", "same"),
    [
        pytest.param(
            lambda f: (f / "model.safetensors").write_bytes(b"other"), False, id="weights"
        ),
        pytest.param(lambda f: (f / "config.json").write_text("[]"), False, id="configuration"),
        pytest.param(lambda f: (f / "adapter.safetensors").write_bytes(b""), False, id="adapter"),
        pytest.param(lambda f: (f / "tokenizer.model").write_bytes(b"t"), False, id="tokenizer"),
        pytest.param(lambda f: (f / "modeling.py").write_text("x = 1"), False, id="code"),
        pytest.param(lambda f: (f / "config.json").rename(f / "b.json"), False, id="name"),
        pytest.param(lambda f: (f / "README.md").write_text("other"), True, id="words"),
        pytest.param(lambda f: (f / "optimizer.pt").write_bytes(b"o"), True, id="optimizer"),
        pytest.param(lambda f: (f / "config.json").touch(), True, id="time"),
    ],
)
def test_a_fingerprint_is_that_of_what_scores(
    spec: ModelSpec, change: Callable[[Path], object], same: bool
) -> None:
    """Weights, configuration, tokenizer and code count; papers beside them and times do not."""
    before = fingerprint(spec, LoadSettings())
    change(Path(spec.location))
    assert (fingerprint(spec, LoadSettings()) == before) == same


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"dtype": "float16"}, False),
        ({"tokenizer": "other"}, False),
        ({"arguments": {"a": 1}}, False),
        ({"tokenizer_arguments": {"a": 1}}, False),
        ({"batch_tokens": 7}, True),
        ({"threads": 1}, True),
    ],
)
def test_a_fingerprint_holds_the_settings_that_change_scores(
    spec: ModelSpec, settings: dict[str, object], same: bool
) -> None:
    """How much is computed at once changes no score."""
    before = fingerprint(spec, LoadSettings())
    changed = replace(LoadSettings(), **settings)  # type: ignore[arg-type]
    assert (fingerprint(spec, changed) == before) == same


def test_a_hub_model_is_known_by_id_and_revision() -> None:
    """Nothing is downloaded to tell two of them apart."""
    prints = {
        fingerprint(ModelSpec(location, revision, local=False), LoadSettings())
        for location in ("org/a", "org/b")
        for revision in (None, "v1", "v2")
    }
    assert len(prints) == 6


def test_a_fingerprint_is_computed_once(spec: ModelSpec) -> None:
    """Gigabytes are read once per model, not once per question."""
    model = LazyModel(spec, LoadSettings())
    before = model.fingerprint
    (Path(spec.location) / "model.safetensors").write_bytes(b"other")
    assert model.fingerprint == before
