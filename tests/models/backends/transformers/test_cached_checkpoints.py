"""Checkpoints whose answers are kept, with the real engine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import bpe, new_model, save

from pytest_calibration.errors import ModelError, TokenBoundaryError
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.loading import LazyModel, load_model
from pytest_calibration.predictions import Predictions
from pytest_calibration.probes.facts import Facts
from pytest_calibration.probes.multiple_choice import MultipleChoice
from pytest_calibration.probes.next_token import NextToken

pytestmark = pytest.mark.torch
pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with room for the built-in questions."""
    model = new_model("gpt_neox", max_position_embeddings=512)
    return save(tmp_path_factory.mktemp("wide") / "m", model, bpe())


PROBES: dict[str, Callable[[], Any]] = {
    "facts": Facts,
    "whole": lambda: Facts(mode="whole_entity"),
    "choice": lambda: MultipleChoice(scoring="text"),
    "tokens": NextToken,
}


def same(one: Predictions, two: Predictions) -> None:
    """Compare two runs of a probe, bit for bit."""
    assert one.signature == two.signature
    for name in ("confidence", "correct", "item_ids", "probabilities", "label_logprobs"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert [one.texts[i] for i in range(5)] == [two.texts[i] for i in range(5)]


@pytest.mark.parametrize("make", PROBES.values(), ids=PROBES)
def test_a_probe_is_served_what_the_engine_said(
    wide: Path, tmp_path: Path, make: Callable[[], Any]
) -> None:
    """The second run has the same predictions, signature and words, and reads no weights."""

    def model(cache: Cache | None = None) -> LazyModel:
        return load_model(str(wide), cache=cache, device="cpu")

    plain = make().run(model(), limit=40)
    first, second = model(Cache(tmp_path)), model(Cache(tmp_path))
    same(make().run(first, limit=40), plain)
    same(make().run(second, limit=40), plain)
    assert first.use.loads == 1
    assert first.computed >= 1
    assert (second.use.loads, second.computed) == (0, 0)
    assert second.served >= 1


def test_that_options_merge_with_a_prompt_is_kept_word_for_word(neox: Path, tmp_path: Path) -> None:
    """Multiple choice tries both ways of writing options; neither costs a load the next time."""
    errors, loads = [], []
    for cache in (None, Cache(tmp_path), Cache(tmp_path)):
        model = load_model(str(neox), cache=cache, device="cpu")
        with pytest.raises(TokenBoundaryError) as caught:
            model.option_logprobs(["The capital of Fran"], [["ce", "z"]])
        errors.append(str(caught.value))
        loads.append(model.use.loads)
    assert errors[0] == errors[1] == errors[2]
    assert loads == [1, 1, 0]


@pytest.mark.parametrize(
    ("settings", "loads"),
    [
        ({}, 0),
        ({"batch_tokens": 64}, 0),
        ({"threads": 1}, 0),
        ({"dtype": "bfloat16"}, 1),
        ({"device": "auto"}, 1),
        ({"safetensors_only": False}, 1),
        ({"arguments": {"attn_implementation": "eager"}}, 1),
        ({"arguments": {"attn_implementation": "eager"}, "device": "auto"}, 1),
    ],
)
def test_settings_that_change_answers_are_told_apart(
    neox: Path, tmp_path: Path, settings: dict[str, Any], loads: int
) -> None:
    """And those that do not are not."""
    load_model(str(neox), cache=Cache(tmp_path), device="cpu").generate(["a"], max_new_tokens=[2])
    other = load_model(str(neox), cache=Cache(tmp_path), **({"device": "cpu"} | settings))
    other.generate(["a"], max_new_tokens=[2])
    assert other.use.loads == loads


def test_an_argument_that_is_no_value_is_not_kept(neox: Path, tmp_path: Path) -> None:
    """What cannot be recognised in the next process is not kept for it."""

    class Opaque:
        def __repr__(self) -> str:
            return "<opaque at 0x7f00>"

    model = load_model(
        str(neox), cache=Cache(tmp_path), device="cpu", tokenizer_arguments={"extra": Opaque()}
    )
    model.generate(["a"], max_new_tokens=[1])
    assert (model.computed, model.served) == (1, 0)
    assert not [f for f in tmp_path.rglob("*.answer") if f.stat().st_size > 100]


def test_weights_that_change_while_they_are_read_leave_nothing(copy: Path, tmp_path: Path) -> None:
    """A training run may still write; what was answered then is kept for no digest."""
    model = load_model(str(copy), cache=Cache(tmp_path / "kept"), device="cpu")
    assert model.fingerprint
    # Between digest and load.
    (copy / "generation_config.json").write_text("{}")
    model.generate(["a"], max_new_tokens=[1])
    again = load_model(str(copy), cache=Cache(tmp_path / "kept"), device="cpu")
    again.generate(["a"], max_new_tokens=[1])
    assert (again.computed, again.served) == (1, 0)


def test_a_broken_checkpoint_says_the_same_with_a_cache(tmp_path: Path) -> None:
    """Looking for kept answers hides no error, and leaves none behind."""
    (tmp_path / "empty").mkdir()
    errors = []
    for cache in (None, Cache(tmp_path / "kept"), Cache(tmp_path / "kept")):
        with pytest.raises(ModelError, match=r"holds no config\.json") as caught:
            load_model(str(tmp_path / "empty"), cache=cache).generate(["a"], max_new_tokens=[1])
        errors.append(str(caught.value))
    assert errors[0] == errors[1] == errors[2]


def test_an_adapter_is_not_its_base(adapters: dict[str, Path], tmp_path: Path) -> None:
    """Each of them is asked, and served its own."""
    cache = Cache(tmp_path)
    answers = {}
    for _ in range(2):
        for name in ("base", "adapter"):
            model = load_model(str(adapters[name]), cache=cache, device="cpu")
            (row,) = model.option_logprobs(["The capital of"], [[" France", " Italy"]])
            assert answers.setdefault(name, row.tolist()) == row.tolist()
    assert model.use.loads == 0
    assert answers["base"] != answers["adapter"]


def test_a_cached_run_imports_neither_torch_nor_transformers(wide: Path, tmp_path: Path) -> None:
    """A whole run of pytest: gate, record, and summary, in a process that could tell."""
    tests = tmp_path / "tests"
    tests.mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tests / "test_it.py").write_text(
        "from pytest_calibration import assert_no_regression\n"
        "def test_it(calibration, calibration_baseline, calibration_probe):\n"
        "    assert_no_regression(calibration.run(calibration_probe), calibration_baseline)\n"
    )
    (tmp_path / "conftest.py").write_text(
        "import sys\n"
        "def pytest_unconfigure():\n"
        "    heavy = {'torch', 'transformers', 'tokenizers', 'safetensors', 'huggingface_hub'}\n"
        "    print('heavy:', sorted(heavy & {*sys.modules}))\n"
    )
    outputs = []
    options = ["--calibration-limit=60", "--calibration-cache-dir=kept"]
    for extra in (["--calibration-record"], []):
        result = subprocess.run(
            [sys.executable, "-m", "pytest", f"--calibration-model={wide}", *options, *extra],
            cwd=tmp_path,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        outputs.append(result.stdout)
    assert "3 recorded" in outputs[0], outputs[0]
    assert "torch" in outputs[0].rpartition("heavy:")[2]
    assert "answers from cache: all (no model was loaded)." in outputs[1], outputs[1]
    assert "heavy: []" in outputs[1]


def test_a_checkpoint_that_was_moved_is_known_again(copy: Path, tmp_path: Path) -> None:
    """Another path, the same content: the answers are there."""
    ask = ["a b"], [1]
    cache = Cache(tmp_path / "kept")
    load_model(str(copy), cache=cache, device="cpu").generate(ask[0], max_new_tokens=ask[1])
    moved = shutil.move(copy, tmp_path / "moved")
    model = load_model(str(moved), cache=cache, device="cpu")
    model.generate(ask[0], max_new_tokens=ask[1])
    assert model.use.loads == 0
