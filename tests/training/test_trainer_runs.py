"""Whole runs of the Trainer: what stops them, what is saved, what is logged, what is warned of."""

from __future__ import annotations

import json
import logging
import warnings
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from checkpoints import bpe
from trainings import SEEN, examples, facts_file, logged, make_trainer, tiny

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file  # noqa: E402

from pytest_calibration import (  # noqa: E402
    Baselines,
    CalibrationCallback,
    Facts,
    Predictions,
    calibration_compute_metrics,
    load_model,
    preprocess_logits_for_calibration,
)
from pytest_calibration.history.file import History  # noqa: E402
from pytest_calibration.models.backends.transformers.transformers_model import (  # noqa: E402
    TransformersModel,
)

pytestmark = [
    pytest.mark.torch,
    pytest.mark.training,
    # Of transformers, about its own names.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
REGRESSED = "calibration regressed: probe codes on checkpoint-"
BEST = {"metric_for_best_model": "calibration_ece", "load_best_model_at_end": True}


class Counted(Facts):
    """A probe that counts how often it is asked."""

    asked = 0

    def run(self, model: Any, *, limit: int | None = None) -> Predictions:
        """Count, and ask."""
        self.asked += 1
        return super().run(model, limit=limit)


@pytest.fixture
def probe(items: Path) -> Counted:
    """Return a probe of facts that no training tells."""
    return Counted("codes", path=items)


def halves() -> dict[str, Any]:
    """Return two evaluation sets."""
    return {name: examples(bpe(), range(n, n + 8)) for name, n in (("one", 500), ("two", 600))}


# --- which checkpoint, and when to stop -----------------------------------------------------------


@pytest.mark.parametrize("several", [False, True])
def test_early_stopping_by_calibration(tmp_path: Path, probe: Counted, several: bool) -> None:
    """It stops after as many evaluations without a better one as it is patient, on any data."""
    trainer = make_trainer(
        tmp_path / "run",
        callbacks=[transformers.EarlyStoppingCallback(early_stopping_patience=2)],
        max_steps=400,
        **BEST,
        **({"eval_dataset": halves()} if several else {}),
    )
    CalibrationCallback([probe]).attach(trainer)
    trainer.train()
    measured = list(logged(trainer).items())
    best = min(range(len(measured)), key=lambda i: measured[i][1])
    assert trainer.state.global_step == measured[-1][0] < 400
    assert len(measured) == best + 3


def test_only_better_ones_are_saved(tmp_path: Path, probe: Counted) -> None:
    """With save_strategy="best" a checkpoint is saved where the ECE is a new minimum."""
    trainer = make_trainer(
        tmp_path / "run", save_strategy="best", metric_for_best_model="calibration_ece"
    )
    CalibrationCallback([probe]).attach(trainer)
    trainer.train()
    measured, least, expected = logged(trainer), float("inf"), set()
    for step, value in measured.items():
        if value < least:
            least = value
            expected.add(f"checkpoint-{step}")
    assert {path.name for path in (tmp_path / "run").iterdir()} == expected
    assert "checkpoint-80" not in expected


def test_once_per_step_however_many_data_sets(tmp_path: Path, probe: Counted) -> None:
    """Two evaluation sets and a save at one step ask the probe once, and log once."""
    trainer = make_trainer(tmp_path / "run", eval_dataset=halves(), eval_on_start=True)
    CalibrationCallback([probe]).attach(trainer)
    trainer.train()
    assert list(logged(trainer)) == [0, 20, 40, 60, 80]
    rows = [row for row in trainer.state.log_history if "eval_calibration_ece" in row]
    assert probe.asked == len(rows) == 5
    assert list(logged(trainer, "eval_one_loss")) == list(logged(trainer, "eval_two_loss"))


@pytest.mark.parametrize(("at", "steps"), [("save", [30, 60, 80]), ("evaluate", [20, 40, 60, 80])])
def test_it_measures_when_asked(tmp_path: Path, probe: Counted, at: str, steps: list[int]) -> None:
    """At evaluations, or at saves, of which the last step has one."""
    trainer = make_trainer(tmp_path / "run", save_steps=30)
    CalibrationCallback([probe], at=at).attach(trainer)
    trainer.train()
    assert list(logged(trainer)) == steps


def test_a_user_callback_may_evaluate_a_step_again(tmp_path: Path, probe: Counted) -> None:
    """The second evaluation has the metric, too, that the Trainer chooses the best by."""

    class Again(transformers.TrainerCallback):
        def on_epoch_end(self, *given: Any, **_: Any) -> None:
            *_, control = given
            control.should_evaluate = True

    trainer = make_trainer(tmp_path / "run", callbacks=[Again()], eval_steps=3, save_steps=3,
                           max_steps=6, **BEST)  # fmt: skip
    CalibrationCallback([probe]).attach(trainer)
    trainer.train()
    assert list(logged(trainer)) == [3, 6]
    assert list(Counter(r["step"] for r in trainer.state.log_history if "eval_loss" in r).values())


@pytest.mark.parametrize(
    "changes",
    [{"gradient_checkpointing": True}, {"bf16": True}, {"gradient_accumulation_steps": 2}],
)
@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gpt2", "qwen3", "gemma3"])
def test_training_goes_on_as_without_it(
    tmp_path: Path, probe: Counted, family: str, changes: dict[str, Any]
) -> None:
    """Weights and losses are bit-equal, in every family and with what users switch on."""
    ends = []
    for watched in (False, True):
        trainer = make_trainer(
            tmp_path / str(watched), family, max_steps=20, eval_steps=5, logging_steps=5,
            save_strategy="no", learning_rate=1e-3, **changes,
        )  # fmt: skip
        if watched:
            CalibrationCallback([probe], limit=40).attach(trainer)
        trainer.train()
        ends.append((dict(trainer.model.state_dict()), list(logged(trainer, "loss").values())))
    (one, losses), (other, losses_too) = ends
    assert losses == losses_too
    assert all(torch.equal(one[name], other[name]) for name in one)


# --- what is logged -------------------------------------------------------------------------------


def test_what_is_logged_reaches_tensorboard(
    tmp_path: Path, probe: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each metric is a scalar of TensorBoard at each step."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    trainer = make_trainer(tmp_path / "run", report_to="tensorboard")
    CalibrationCallback([probe]).attach(trainer)
    trainer.train()
    (events,) = (tmp_path / "board").rglob("events.out.*")
    board = reader.EventAccumulator(str(events))
    board.Reload()
    for name in ("ece", "accuracy", "signed_gap", "brier"):
        found = {one.step: one.value for one in board.Scalars(f"eval/calibration_{name}")}
        assert found == pytest.approx(logged(trainer, f"eval_calibration_{name}"))


def test_the_history_has_a_line_for_each_step(
    tmp_path: Path, probe: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the checkpoint, step and epoch, and keeps the items; no line after training."""
    path = tmp_path / "history.jsonl"
    trainer = make_trainer(tmp_path / "run", eval_on_start=True)
    monkeypatch.setenv("GITHUB_SHA", "4" * 40)
    CalibrationCallback([probe], history=path).attach(trainer)
    trainer.train()
    trainer.evaluate()
    history = History(path)
    lines = history.read()
    assert [line.step for line in lines] == [0, 20, 40, 60, 80]
    assert lines.lines[1].model == str(tmp_path / "run" / "checkpoint-20")
    assert lines.lines[1].epoch == pytest.approx(20 / 3)
    found = {line.step: line.metrics["ece"].value for line in lines}
    assert found == pytest.approx(logged(trainer), rel=1e-5)
    assert {line.commit for line in lines} == {"4" * 40}
    kept = history.predictions(lines.lines[-1])
    assert kept is not None
    assert len(kept) == probe.size


# --- a baseline -----------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path, probe: Counted) -> Baselines:
    """Return the baseline of a model that learnt little, and is calibrated."""
    trainer = make_trainer(tmp_path / "first", max_steps=20, eval_strategy="no", save_strategy="no")
    trainer.train()
    store = Baselines(tmp_path / "baselines")
    store.record(probe.run(TransformersModel.of(trainer.model, trainer.processing_class)))
    return store


def test_a_regression_stops_training_with_its_text(
    tmp_path: Path, probe: Counted, stored: Baselines
) -> None:
    """The text is that of the assertion, and the checkpoint that shows it is saved."""
    path = tmp_path / "history.jsonl"
    trainer = make_trainer(tmp_path / "run")
    callback = CalibrationCallback(
        [probe], baseline=stored.path, history=path, raise_on_regression=True
    )
    callback.attach(trainer)
    with pytest.raises(AssertionError, match=REGRESSED) as caught:
        trainer.train()
    step = trainer.state.global_step
    assert step < 80
    assert "signed gap" in str(caught.value)
    regressed = logged(trainer, "eval_calibration_regressed")
    assert list(regressed) == list(range(20, step + 1, 20))
    assert list(regressed.values()) == [0.0] * (len(regressed) - 1) + [1.0]
    assert [line.verdict for line in History(path).read()][-1] == "regressed"
    checkpoint = tmp_path / "run" / f"checkpoint-{step}"
    assert caught.value.__notes__ == [f"to see more: pytest --calibration-model={checkpoint} -v"]
    saved = load_model(str(checkpoint))
    with pytest.raises(AssertionError) as again:
        callback._measuring.assert_no_regression(probe.run(saved))
    assert str(again.value).splitlines()[0] == str(caught.value).splitlines()[0]


def test_a_regression_is_a_warning_in_the_log_otherwise(
    tmp_path: Path, probe: Counted, stored: Baselines, caplog: pytest.LogCaptureFixture
) -> None:
    """Training goes on; each step that got worse is one line."""
    trainer = make_trainer(tmp_path / "run")
    CalibrationCallback([probe], baseline=stored).attach(trainer)
    with caplog.at_level(logging.WARNING, "pytest_calibration"):
        trainer.train()
    assert trainer.state.global_step == 80
    regressed = [s for s, value in logged(trainer, "eval_calibration_regressed").items() if value]
    assert 80 in regressed
    texts = [one.getMessage() for one in caplog.records if "pytest_calibration" in one.name]
    expected = [f"{REGRESSED}{step}: " for step in regressed]
    assert len(texts) == len(expected)
    assert all(text.startswith(start) for text, start in zip(texts, expected, strict=True))
    assert "signed gap" in texts[-1]


def test_an_evaluation_outside_of_training_fails_at_once(
    tmp_path: Path, probe: Counted, stored: Baselines
) -> None:
    """A regression raises there and then, each time."""
    trainer = make_trainer(tmp_path / "run", max_steps=200, eval_strategy="no")
    trainer.train()
    CalibrationCallback([probe], baseline=stored, raise_on_regression=True).attach(trainer)
    for _ in range(2):
        with pytest.raises(AssertionError, match=REGRESSED):
            trainer.evaluate()


# --- the head of GPT-NeoX -------------------------------------------------------------------------


def test_a_head_that_the_trainer_loses_is_told(tmp_path: Path, probe: Counted) -> None:
    """One warning names the weight, the checkpoint and the remedy, which brings the head back.

    huggingface/transformers#43701: the file calls it embed_out, the module lm_head.
    """
    trainer = make_trainer(tmp_path / "run", "gpt_neox", **BEST)
    CalibrationCallback([probe]).attach(trainer)
    with pytest.warns(UserWarning, match="in memory is not the best checkpoint") as caught:
        trainer.train()
    best = Path(trainer.state.best_model_checkpoint)
    assert best.name != "checkpoint-80"
    (text,) = (str(one.message) for one in caught if "best checkpoint" in str(one.message))
    assert "1 of 28 weights differ (lm_head.weight; by up to " in text
    assert f"load that with from_pretrained('{best}'), and do not save this one." in text
    head = load_file(best / "model.safetensors")["embed_out.weight"]
    assert not torch.equal(trainer.model.lm_head.weight, head)
    again = transformers.AutoModelForCausalLM.from_pretrained(best)
    assert torch.equal(again.lm_head.weight, head)
    ours = load_model(str(best)).load()
    assert torch.equal(ours.model.lm_head.weight, head)


def test_a_head_that_is_lost_at_resuming_is_told(tmp_path: Path, probe: Counted) -> None:
    """It is the initial one, and training would go on with it; the remedy that is named helps."""
    first = make_trainer(tmp_path / "run", "gpt_neox", max_steps=40)
    first.train()
    checkpoint = tmp_path / "run" / "checkpoint-40"
    trainer = make_trainer(tmp_path / "run", "gpt_neox")
    CalibrationCallback([probe]).attach(trainer)
    with pytest.warns(
        UserWarning, match=r"not those of .*checkpoint-40: 1 of 28 weights differ \(lm_head"
    ):
        trainer.train(resume_from_checkpoint=str(checkpoint))
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint)
    trainer = make_trainer(tmp_path / "run", model=model)
    CalibrationCallback([probe]).attach(trainer)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*weights")
        trainer.train(resume_from_checkpoint=str(checkpoint))


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
def test_a_model_that_is_the_best_one_warns_of_nothing(
    tmp_path: Path, probe: Counted, family: str
) -> None:
    """Families whose files and modules agree, tied heads among them, are as the file is."""
    trainer = make_trainer(tmp_path / "run", family, learning_rate=3e-3, **BEST)
    CalibrationCallback([probe]).attach(trainer)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*best checkpoint")
        trainer.train()


def test_a_sharded_checkpoint_is_compared(tmp_path: Path, probe: Counted) -> None:
    """Shards are read as a whole file is."""
    trainer = make_trainer(tmp_path / "run", "gpt_neox", max_steps=20, eval_strategy="no")
    callback = CalibrationCallback([probe]).attach(trainer)
    trainer.model.save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 1
    with torch.no_grad():
        trainer.model.gpt_neox.final_layer_norm.weight[0] += 1
    with pytest.warns(
        UserWarning, match=r"1 of 28 weights differ \(gpt_neox.final_layer_norm.weight; by"
    ):
        callback._compare_weights(tmp_path / "shards", "{checkpoint}: {differing}")


# --- adapters -------------------------------------------------------------------------------------


@pytest.mark.parametrize("saved", [None, ["lm_head"]], ids=["linear", "with-a-head"])
@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_an_adapter_is_measured_and_the_best_is_loaded(
    tmp_path: Path, probe: Counted, family: str, saved: list[str] | None
) -> None:
    """With peft, the adapter in memory is that of the best checkpoint's file."""
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(
        r=8, target_modules="all-linear", task_type="CAUSAL_LM", modules_to_save=saved
    )
    model = peft.get_peft_model(tiny(family), config)
    trainer = make_trainer(
        tmp_path / "run", model=model, max_steps=200, eval_steps=40, save_steps=40, **BEST
    )
    CalibrationCallback([probe]).attach(trainer)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*best checkpoint")
        trainer.train()
    best = Path(trainer.state.best_model_checkpoint)
    measured = logged(trainer)
    assert best.name == f"checkpoint-{min(measured, key=lambda step: measured[step])}"
    file = load_file(best / "adapter_model.safetensors")
    memory = peft.get_peft_model_state_dict(trainer.model)
    assert file.keys() == memory.keys()
    assert all(torch.equal(file[name], memory[name]) for name in file)


# --- the evaluation set ---------------------------------------------------------------------------


def test_a_language_model_in_a_trainer(tmp_path: Path) -> None:
    """The Trainer keeps two numbers a position, and gives the metrics of the evaluation set."""
    seen: list[Any] = []

    def compute(evaluated: Any) -> dict[str, float]:
        seen.append([part.shape for part in evaluated.predictions])
        return calibration_compute_metrics(evaluated, shift=True)

    trainer = make_trainer(tmp_path / "run", max_steps=80, eval_steps=80, save_strategy="no",
                           eval_dataset=examples(bpe(), SEEN))  # fmt: skip
    trainer.compute_metrics = compute
    trainer.preprocess_logits_for_metrics = preprocess_logits_for_calibration
    trainer.train()
    (shapes,) = seen
    assert shapes[0] == shapes[1]
    assert len(shapes[0]) == 2
    found = {name: logged(trainer, f"eval_{name}")[80] for name in ("ece", "accuracy", "brier")}
    # Each token after the first counts once.
    rows = examples(bpe(), SEEN)
    right, gaps = [], []
    trainer.model.eval()
    for row in rows:
        with torch.no_grad():
            logits = trainer.model(torch.tensor([row["input_ids"]])).logits[0]
        top = logits.softmax(-1).max(-1)
        hits = [int(a) == b for a, b in zip(top.indices[:-1], row["labels"][1:], strict=True)]
        right += hits
        gaps += [(float(c) - h) ** 2 for c, h in zip(top.values[:-1], hits, strict=True)]
    assert found["accuracy"] == pytest.approx(sum(right) / len(right))
    assert found["brier"] == pytest.approx(sum(gaps) / len(gaps), abs=1e-5)


def test_a_classifier_in_a_trainer(tmp_path: Path) -> None:
    """It chooses the best checkpoint by the ECE of the evaluation set."""
    config = transformers.BertConfig(
        vocab_size=400, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_labels=3,
        intermediate_size=32,
    )  # fmt: skip
    torch.manual_seed(0)
    rows = [{"input_ids": [2, i % 300, 3], "labels": i % 3} for i in range(64)]
    trainer = transformers.Trainer(
        model=transformers.BertForSequenceClassification(config),
        args=transformers.TrainingArguments(
            str(tmp_path / "run"), max_steps=40, eval_strategy="steps", eval_steps=10,
            save_steps=10, use_cpu=True, report_to="none", disable_tqdm=True, learning_rate=1e-2,
            metric_for_best_model="ece", greater_is_better=False, load_best_model_at_end=True,
        ),
        train_dataset=rows,
        eval_dataset=rows,
        compute_metrics=calibration_compute_metrics,
        preprocess_logits_for_metrics=preprocess_logits_for_calibration,
    )  # fmt: skip
    trainer.train()
    assert trainer.state.best_metric == min(logged(trainer, "eval_ece").values())


def test_what_has_to_be_said_is_said_in_a_trainer(tmp_path: Path) -> None:
    """A language model without `shift` ends in the sentence that says what to write."""
    trainer = make_trainer(tmp_path / "run")
    trainer.compute_metrics = partial(calibration_compute_metrics)
    trainer.preprocess_logits_for_metrics = preprocess_logits_for_calibration
    with pytest.raises(ValueError, match="shift=True"):
        trainer.evaluate()


def test_the_state_of_the_trainer_tells_the_best(tmp_path: Path, probe: Counted) -> None:
    """trainer_state.json holds what was measured, for `pytest-calibration drift` and others."""
    trainer = make_trainer(tmp_path / "run", **BEST)
    CalibrationCallback([probe, Facts("seen", path=facts_file(tmp_path, SEEN))]).attach(trainer)
    trainer.train()
    state = json.loads((tmp_path / "run" / "checkpoint-80" / "trainer_state.json").read_text())
    rows = {row["step"]: row for row in state["log_history"] if "eval_calibration_ece" in row}
    assert list(rows) == [20, 40, 60, 80]
    for row in rows.values():
        mean = (row["eval_calibration_codes_ece"] + row["eval_calibration_seen_ece"]) / 2
        assert row["eval_calibration_ece"] == pytest.approx(mean)
    assert state["best_metric"] == min(row["eval_calibration_ece"] for row in rows.values())
