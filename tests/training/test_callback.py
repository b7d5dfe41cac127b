"""A Trainer that measures calibration: which checkpoint it takes, and that it trains as before."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from checkpoints import bpe, quietly
from classifiers import NAMES, TEXTS, new_classifier
from trainings import UNSEEN, logged, make_trainer, tiny

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file  # noqa: E402

from pytest_calibration import (  # noqa: E402
    CalibrationCallback,
    Classification,
    Facts,
    Preference,
    ece,
    load_model,
    metrics,
)
from pytest_calibration.errors import ModelError, UsageError  # noqa: E402
from pytest_calibration.models.backends.transformers.choosing import in_memory  # noqa: E402
from pytest_calibration.models.backends.transformers.transformers_model import (  # noqa: E402
    TransformersModel,
)
from pytest_calibration.training.processes import check_whole  # noqa: E402

pytestmark = pytest.mark.torch
BEST = {"metric_for_best_model": "calibration_ece", "load_best_model_at_end": True}


@pytest.fixture
def facts(items: Path) -> Facts:
    """Return a probe of facts that no training tells."""
    return Facts("codes", path=items)


def weights(model: Any) -> dict[str, Any]:
    """Return a copy of all weights."""
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two sets of weights are equal, bit by bit."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_best_calibrated_checkpoint_is_taken(tmp_path: Path, facts: Facts) -> None:
    """It is the one of the least logged ECE, not the last, and its file holds what is kept."""
    trainer = make_trainer(tmp_path / "run", **BEST)
    CalibrationCallback([facts]).attach(trainer)
    with quietly():
        trainer.train()
    measured = logged(trainer)
    best = min(measured, key=lambda step: measured[step])
    assert list(measured) == [20, 40, 60, 80]
    assert best < 80
    assert trainer.state.best_metric == measured[best]
    folder = tmp_path / "run" / f"checkpoint-{best}"
    assert trainer.state.best_model_checkpoint == str(folder)
    memory = weights(trainer.model)
    assert same(memory, load_file(folder / "model.safetensors"))
    assert not same(memory, load_file(tmp_path / "run" / "checkpoint-80" / "model.safetensors"))
    # What was measured in training is what the saved checkpoint gives.
    assert ece(facts.run(load_model(str(folder)))) == pytest.approx(measured[best], abs=1e-5)


def test_training_is_the_same_with_and_without(tmp_path: Path, facts: Facts) -> None:
    """Weights are bit-equal, though dropout and the order of rows draw random numbers."""
    ends = []
    for watched in (False, True):
        trainer = make_trainer(tmp_path / str(watched), max_steps=40, save_strategy="no")
        if watched:
            CalibrationCallback([facts]).attach(trainer)
        with quietly():
            trainer.train()
        draws = (random.random(), float(np.random.rand()), float(torch.rand(())))
        ends.append((weights(trainer.model), draws))
    (one, drawn), (other, drawn_too) = ends
    assert same(one, other)
    assert drawn == drawn_too


def test_a_measurement_leaves_no_trace(tmp_path: Path, facts: Facts) -> None:
    """Modes of all parts, gradients, attention, random states stay as they are."""
    trainer = make_trainer(tmp_path)
    callback = CalibrationCallback([facts]).attach(trainer)
    model = trainer.model
    model.train()
    model.model.layers[0].eval()
    model.model.embed_tokens.weight.requires_grad_(False)
    model(torch.tensor([[3, 4, 5]]), labels=torch.tensor([[3, 4, 5]])).loss.backward()

    def state() -> Any:
        return (
            [(module.training, sorted(vars(module))) for module in model.modules()],
            [
                (p.requires_grad, None if p.grad is None else p.grad.tolist())
                for p in model.parameters()
            ],
            model.config.to_json_string(),
            model.config._attn_implementation,
            random.getstate(),
            str(np.random.get_state()),
            torch.get_rng_state().tolist(),
            transformers.utils.logging.get_verbosity(),
        )

    before = state()
    trainer.is_in_train = True
    callback.on_save(trainer.args, trainer.state, trainer.control)
    assert logged(trainer)
    assert state() == before


def test_it_comes_before_all_other_callbacks(tmp_path: Path, facts: Facts) -> None:
    """Early stopping that was listed first would find no metric, and switch itself off."""
    callback = CalibrationCallback([facts])
    stopping = transformers.EarlyStoppingCallback()
    trainer = make_trainer(tmp_path, callbacks=[stopping, callback])
    assert callback.attach(trainer) is callback
    callbacks = trainer.callback_handler.callbacks
    assert callbacks[0] is callback
    assert callbacks.count(callback) == 1
    assert stopping in callbacks


@pytest.mark.parametrize(
    ("metric", "greater"),
    [
        ("calibration_ece", False),
        ("eval_calibration_brier", False),
        ("calibration_accuracy", True),
        ("loss", False),
        ("f1", True),
    ],
)
def test_the_direction_of_the_best_is_right(
    tmp_path: Path, facts: Facts, metric: str, greater: bool
) -> None:
    """By default the Trainer would take the largest calibration error."""
    trainer = make_trainer(tmp_path, metric_for_best_model=metric)
    CalibrationCallback([facts]).attach(trainer)
    assert trainer.args.greater_is_better is greater


@pytest.mark.parametrize(
    ("metric", "arguments", "message"),
    [
        ("calibration_eec", {}, "'calibration_eec' is not measured; use one of: calibration_ece, "),
        ("calibration_signed_gap", {}, "is best at 0, so neither less nor more"),
        ("calibration_regressed", {}, "'calibration_regressed' is not measured"),
        ("calibration_ece", {"at": "save"}, "is needed at every evaluation"),
    ],
)
def test_a_metric_that_cannot_choose_is_refused(
    tmp_path: Path, facts: Facts, metric: str, arguments: dict[str, Any], message: str
) -> None:
    """The error comes as the callback is attached, not at the first evaluation."""
    trainer = make_trainer(tmp_path, metric_for_best_model=metric)
    with pytest.raises(UsageError, match=message):
        CalibrationCallback([facts], **arguments).attach(trainer)


def test_a_callback_that_is_not_attached_says_so(tmp_path: Path, facts: Facts) -> None:
    """Listed alone it has no Trainer to log to: nothing is trained before that is said."""
    trainer = make_trainer(tmp_path, callbacks=[CalibrationCallback([facts])])
    with quietly(), pytest.raises(UsageError, match=r"call callback\.attach\(trainer\)"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_trainer_without_tokenizer_is_refused(tmp_path: Path, facts: Facts) -> None:
    """A probe is text; the tokenizer may be given in its place."""
    trainer = make_trainer(tmp_path)
    tokenizer, trainer.processing_class = trainer.processing_class, None
    with pytest.raises(UsageError, match="needs the tokenizer, and this Trainer has none; pass"):
        CalibrationCallback([facts]).attach(trainer)
    CalibrationCallback([facts]).attach(trainer, tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("BertForSequenceClassification", "is a classifier, and the probe asks a language"),
        ("BertForMaskedLM", "is a BertForMaskedLM, no causal language model"),
        ("T5ForConditionalGeneration", "an encoder with a decoder and no causal"),
    ],
)
def test_a_model_that_predicts_no_next_tokens_is_refused(
    tmp_path: Path, facts: Facts, kind: str, message: str
) -> None:
    """A classifier has no answers to texts; compute_metrics is for it."""
    small: dict[str, Any] = {"vocab_size": 400}
    if kind.startswith("Bert"):
        small |= {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        config: Any = transformers.BertConfig(**small)
    else:
        config = transformers.T5Config(**small, d_model=16, num_layers=1, num_heads=2, d_ff=8)
    trainer = make_trainer(tmp_path, model=getattr(transformers, kind)(config))
    with pytest.raises(ModelError, match=message):
        CalibrationCallback([facts]).attach(trainer)


def test_a_classifier_is_asked_probes_of_its_kind(tmp_path: Path) -> None:
    """A classification probe measures it at every evaluation, as it is then."""
    model = new_classifier("bert")
    rows = [{"text": text, "label": NAMES[i % 3]} for i, text in enumerate(TEXTS)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    probe = Classification("moods", path=tmp_path / "rows.jsonl")
    words = [{"input_ids": [5, 6, 7], "labels": 1}] * 2
    arguments = transformers.TrainingArguments(
        str(tmp_path / "run"), report_to="none", use_cpu=True
    )
    trainer = transformers.Trainer(
        model, arguments, eval_dataset=words, processing_class=bpe()
    )  # fmt: skip
    CalibrationCallback([probe]).attach(trainer)
    with quietly():
        found = trainer.evaluate()
    expected = ece(probe.run(in_memory(trainer.model, bpe())))
    assert found["eval_calibration_ece"] == pytest.approx(expected, abs=1e-12)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"chosen": "a", "rejected": "b"}')
    callback, other = (
        CalibrationCallback([Preference(path=pairs)]),
        make_trainer(tmp_path / "other"),
    )
    with pytest.raises(ModelError, match=r"is a language model, and .* asks a reward model"):
        callback.attach(other)


def test_two_callbacks_on_one_trainer_are_refused(tmp_path: Path, facts: Facts) -> None:
    """Their metrics have the same names; the same one may be attached again."""
    trainer = make_trainer(tmp_path)
    callback = CalibrationCallback([facts]).attach(trainer)
    callback.attach(trainer)
    with pytest.raises(UsageError, match=r"has a CalibrationCallback already, .*; give all"):
        CalibrationCallback([facts]).attach(trainer)


def test_the_metrics_are_those_of_the_model_as_it_is(tmp_path: Path, facts: Facts) -> None:
    """An evaluation outside of training measures the weights of then, each state once."""
    trainer = make_trainer(tmp_path, model=tiny())
    CalibrationCallback([facts], limit=50).attach(trainer)
    with quietly():
        first = trainer.evaluate()
        again = trainer.evaluate()
        with torch.no_grad():
            trainer.model.lm_head.weight.mul_(3)
        changed = trainer.evaluate()
    expected = ece(
        facts.run(TransformersModel.of(trainer.model, trainer.processing_class), limit=50)
    )
    assert changed["eval_calibration_ece"] == expected
    assert first["eval_calibration_ece"] == again["eval_calibration_ece"] != expected
    rows = [row for row in trainer.state.log_history if "eval_calibration_ece" in row]
    assert len(rows) == 2
    assert len(UNSEEN) > 50


def test_a_model_that_the_trainer_casts_is_measured(tmp_path: Path, facts: Facts) -> None:
    """With bf16_full_eval an evaluation outside of training has the numbers of half precision."""
    trainer = make_trainer(tmp_path, bf16_full_eval=True)
    CalibrationCallback([facts]).attach(trainer)
    with quietly():
        found = trainer.evaluate()["eval_calibration_brier"]
    half = TransformersModel.of(tiny().to(torch.bfloat16), trainer.processing_class)
    assert trainer.model.dtype is torch.bfloat16
    assert found == metrics.brier(facts.run(half))


def test_another_prefix_than_eval_is_left_alone(tmp_path: Path, facts: Facts) -> None:
    """The probes are not of a test set, whose metrics are called otherwise."""
    trainer = make_trainer(tmp_path)
    CalibrationCallback([facts]).attach(trainer)
    with quietly():
        assert not [k for k in trainer.evaluate(metric_key_prefix="test") if "calibration" in k]


@pytest.mark.parametrize(
    ("changes", "how"),
    [
        ({"is_fsdp_enabled": True}, "FSDP"),
        ({"is_deepspeed_enabled": True, "zero_stage": 3}, "DeepSpeed ZeRO-3"),
        ({"is_deepspeed_enabled": True, "zero_stage": 2}, ""),
        ({}, ""),
    ],
)
def test_a_model_in_parts_is_refused(changes: dict[str, Any], how: str) -> None:
    """Where no process has all weights, the message says what to do instead."""
    plugin = SimpleNamespace(zero_stage=changes.pop("zero_stage", 0))
    accelerator = SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=plugin))
    trainer = SimpleNamespace(accelerator=accelerator, model=tiny(), **changes)
    if how:
        with pytest.raises(UsageError, match=f"{how} leaves .*; gate the saved checkpoints"):
            check_whole(trainer)
    else:
        check_whole(trainer)
