"""CFT and RCFT in real training runs: what they cost, that they are what they say, TRL and LoRA."""

from __future__ import annotations

import json
import math
import os
import random
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import bpe, new_model

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from pytest_calibration.errors import UsageError  # noqa: E402
from pytest_calibration.metrics.binning import bin_index  # noqa: E402
from pytest_calibration.models.backends.transformers.transformers_model import (  # noqa: E402
    TransformersModel,
)
from pytest_calibration.probes.multiple_choice import MultipleChoice  # noqa: E402
from pytest_calibration.remedies import CFTTrainer, QuestionSet, RCFTTrainer  # noqa: E402

pytestmark = [
    pytest.mark.training,
    # What the libraries tell each other of names to come.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad:UserWarning"),
]

WORDS = ("Rome", "Oslo", "Bern", "Paris")
N = 40


TRAIN = """
import json, os, sys
from pathlib import Path
import test_remedy_trainers as t
from pytest_calibration.remedies import RCFTTrainer

folder = Path(sys.argv[1])
one = t.trainer(RCFTTrainer, t.questions_in(folder), folder, ddp_backend="gloo",
                per_device_train_batch_size=4, per_device_eval_batch_size=3)
first = one.expect().tolist()
one.train()
report = {"first": first, "last": one.accuracy_of_bins.tolist(), "world": one.args.world_size,
          "steps": one.state.global_step, "weights": float(t.weights_of(one).double().sum())}
(folder / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(report))
"""


def questions_in(tmp_path: Path) -> QuestionSet:
    """Write and read forty questions with two to four options."""
    draw = random.Random(0)
    rows = []
    for n in range(N):
        options = draw.sample(WORDS, 2 + n % 3)
        rows.append({"question": f"{n}?", "options": options, "answer": draw.randrange(2)})
    path = tmp_path / f"questions-{os.environ.get('RANK', '')}.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    probe = MultipleChoice(path=path, header="", template="{question}\n{options}\n:")
    return QuestionSet(probe, bpe())


@pytest.fixture
def questions(tmp_path: Path) -> QuestionSet:
    """Forty questions, which are learnt by heart."""
    return questions_in(tmp_path)


def arguments(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return the arguments of a short run on the CPU."""
    usual = {
        "output_dir": str(folder / "run"),
        "num_train_epochs": 3,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 16,
        "learning_rate": 1e-3,
        "save_strategy": "no",
        "logging_steps": 1,
        "seed": 3,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
    }
    return usual | changes


def model_of(dropout: float = 0.0, family: str = "gpt_neox") -> Any:
    """Return a small model, the same each time."""
    torch.manual_seed(1)
    none = {"hidden_dropout": dropout, "attention_dropout": dropout}
    return new_model(family, **none if family == "gpt_neox" else {"attention_dropout": dropout})


def trainer(kind: Any, questions: QuestionSet, folder: Path, **changes: Any) -> Any:
    """Return a trainer; of the changes, those of the Trainer are named here, others its args'."""
    own = ("model", "callbacks", "eval_dataset", "accuracy_weight", "context_weight")
    names = (*own, "calibration_weight", "bins")
    given = {name: changes.pop(name) for name in names if name in changes}
    return kind(
        **{"model": model_of(), "train_dataset": questions, "processing_class": bpe()} | given,
        args=transformers.TrainingArguments(**arguments(folder, **changes)),
    )


def weights_of(one: Any) -> Any:
    """Return all weights in one row."""
    return torch.cat([p.detach().flatten() for p in one.model.parameters()])


def batch_of(one: Any, n: int = 6) -> dict[str, Any]:
    """Return a batch of the first questions."""
    found: dict[str, Any] = one.data_collator([one._questions[i] for i in range(n)])
    return found


def test_cft_is_the_loss_of_the_model_on_the_answer(questions: QuestionSet, tmp_path: Path) -> None:
    """Of transformers itself, with labels on the answer alone."""
    one = trainer(CFTTrainer, questions, tmp_path)
    batch = batch_of(one)
    theirs = one.model(
        **{name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    ).loss
    assert float(one.compute_loss(one.model, batch)) == pytest.approx(float(theirs), rel=1e-5)


def test_rcft_adds_the_question_and_the_distance(questions: QuestionSet, tmp_path: Path) -> None:
    """L = L(answer) + L(question) + λ L(calibration), each weight by itself."""
    losses = {}
    for name in ("accuracy_weight", "context_weight", "calibration_weight", ""):
        only = {n: float(n == name) for n in ("accuracy_weight", "context_weight")}
        only["calibration_weight"] = 2.0 * (name == "calibration_weight")
        every = {"calibration_weight": 2.0}
        one = trainer(RCFTTrainer, questions, tmp_path, **(only if name else every))
        one.expect()
        one.model.train()
        losses[name] = float(one.compute_loss(one.model, batch_of(one)))
    assert losses[""] == pytest.approx(sum(losses.values()) - losses[""], rel=1e-5)
    assert min(losses.values()) > 0
    # The question is all tokens before the answer but the first, which nothing predicts.
    one = trainer(RCFTTrainer, questions, tmp_path)
    batch = batch_of(one)
    asked = batch["input_ids"].masked_fill(
        (batch["labels"] != -100) | (batch["attention_mask"] == 0), -100
    )
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    context = one.model(**inputs, labels=asked).loss
    assert losses["context_weight"] == pytest.approx(float(context), rel=1e-5)


def test_the_e_step_is_what_the_probe_measures(questions: QuestionSet, tmp_path: Path) -> None:
    """Bins of the probe's confidences, with (k + 1) / (n + 2) of its correct answers."""
    model = model_of()
    with torch.no_grad():
        model.get_output_embeddings().weight *= 30
    one = trainer(RCFTTrainer, questions, tmp_path, model=model)
    found = one.expect().numpy()
    p = questions.probe.run(TransformersModel.of(model, bpe()))
    at = bin_index(p.confidence, 15)
    n, k = np.bincount(at, minlength=15), np.bincount(at[p.correct], minlength=15)
    assert np.abs(found - (k + 1) / (n + 2)).max() < 1e-6
    assert n[14] > 0, "the top bin has items"


def test_the_cost_is_one_pass_per_epoch(questions: QuestionSet, tmp_path: Path) -> None:
    """Forward passes: one a step, and one more over the training set an epoch."""
    passes = {}
    for kind in (CFTTrainer, RCFTTrainer):
        one = trainer(kind, questions, tmp_path)
        seen: list[int] = []
        one.model.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        one.train()
        assert one.state.global_step == 3 * N // 8
        passes[kind] = len(seen)
    assert passes[CFTTrainer] == 3 * N // 8
    assert passes[RCFTTrainer] == 3 * N // 8 + 3 * math.ceil(N / 16)
    assert one.expectations == 3


def test_the_e_step_disturbs_nothing(questions: QuestionSet, tmp_path: Path) -> None:
    """With dropout, a weight next to 0 trains the model as a weight of 0 does, bit by bit."""
    found = []
    for weight in (0.0, 1e-45):
        one = trainer(
            RCFTTrainer, questions, tmp_path, model=model_of(0.2), calibration_weight=weight
        )
        one.train()
        assert one.expectations == (3 if weight else 0)
        found.append(weights_of(one))
    assert torch.equal(*found)


def test_bins_are_made_anew_every_epoch(questions: QuestionSet, tmp_path: Path) -> None:
    """What was learnt changes them."""
    seen = []

    class Look(transformers.TrainerCallback):  # type: ignore[misc]
        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            seen.append(one.accuracy_of_bins.clone())

    one = trainer(RCFTTrainer, questions, tmp_path, callbacks=[Look()], learning_rate=1e-2)
    one.train()
    assert not torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("kind", [CFTTrainer, RCFTTrainer])
def test_accumulated_steps_are_one_step(kind: Any, questions: QuestionSet, tmp_path: Path) -> None:
    """Twice 4 questions are 8."""
    found = []
    for size in (8, 4):
        one = trainer(
            kind,
            questions,
            tmp_path,
            context_weight=0.0,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=8 // size,
            optim="sgd",
            learning_rate=0.1,
        )
        one.train()
        found.append(weights_of(one))
    assert torch.allclose(*found, atol=2e-5)


def test_label_smoothing_is_that_of_the_trainer(questions: QuestionSet, tmp_path: Path) -> None:
    """(1 − ε) of the loss on the answer, and ε of the mean over the vocabulary."""
    one = trainer(CFTTrainer, questions, tmp_path, label_smoothing_factor=0.2)
    batch = batch_of(one)
    found = float(one.compute_loss(one.model, batch))
    logits = one.model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    logprobs = logits.log_softmax(-1)[:, :-1]
    counted = batch["labels"][:, 1:] != -100
    token = batch["labels"][:, 1:].clamp(min=0)[..., None]
    own = -logprobs.gather(-1, token)[..., 0][counted].mean()
    assert found == pytest.approx(float(0.8 * own - 0.2 * logprobs[counted].mean()), rel=1e-5)


def test_an_evaluation_has_the_loss_of_the_answers(questions: QuestionSet, tmp_path: Path) -> None:
    """No E-step belongs to it, and padding and batches change nothing."""
    one = trainer(RCFTTrainer, questions, tmp_path, eval_dataset=questions, context_weight=0.0)
    one.train()
    batch = batch_of(one, N)
    one.model.eval()
    with torch.no_grad():
        whole = float(one.compute_loss(one.model, batch))
    assert one.evaluate()["eval_loss"] == pytest.approx(whole, rel=1e-4)


def test_an_adapter_is_trained_alone(questions: QuestionSet, tmp_path: Path) -> None:
    """LoRA as usual: the weights below it stay."""
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, target_modules=["query_key_value"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(model_of(), config)
    before = {n: p.clone() for n, p in model.named_parameters()}
    one = trainer(RCFTTrainer, questions, tmp_path, model=model, learning_rate=1e-2)
    one.train()
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert all("lora" in name for name in changed)


@pytest.mark.parametrize("name", ["CFT", "RCFT"])
def test_trl_trains_alike(name: str, questions: QuestionSet, tmp_path: Path) -> None:
    """On SFTTrainer the same questions, batches and losses give the same weights."""
    trl = pytest.importorskip("trl")
    from pytest_calibration import remedies

    ours = trainer(getattr(remedies, f"{name}Trainer"), questions, tmp_path)
    ours.train()
    config = trl.SFTConfig(**arguments(tmp_path, bf16=False, gradient_checkpointing=False))
    theirs = getattr(remedies, f"{name}SFTTrainer")(
        model=model_of(), args=config, train_dataset=questions, processing_class=bpe()
    )
    theirs.train()
    assert theirs.expectations == ours.expectations
    assert torch.allclose(weights_of(ours), weights_of(theirs), atol=1e-5)


def test_trl_with_an_adapter_and_an_evaluation(questions: QuestionSet, tmp_path: Path) -> None:
    """SFTTrainer makes the adapter of its config, and evaluates."""
    trl, peft = pytest.importorskip("trl"), pytest.importorskip("peft")
    from pytest_calibration.remedies import RCFTSFTTrainer

    one = RCFTSFTTrainer(
        model=model_of(),
        args=trl.SFTConfig(**arguments(tmp_path, bf16=False, eval_strategy="epoch")),
        train_dataset=questions,
        eval_dataset=questions,
        processing_class=bpe(),
        peft_config=peft.LoraConfig(r=4, target_modules=["query_key_value"]),
    )
    one.train()
    assert any("eval_loss" in entry for entry in one.state.log_history)
    with pytest.raises(UsageError, match="packing and padding_free join questions"):
        RCFTSFTTrainer(
            model=model_of(),
            args=trl.SFTConfig(**arguments(tmp_path, bf16=False, packing=True)),
            train_dataset=questions,
            processing_class=bpe(),
        )


def test_two_processes_share_the_e_step(questions: QuestionSet, tmp_path: Path) -> None:
    """Each reads its share, both get the bins of all, and train one model."""
    script = tmp_path / "train.py"
    script.write_text(TRAIN, "utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    tests = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    common = os.environ | {
        "PYTHONPATH": os.pathsep.join([*tests, *sys.path]),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": "2",
    }
    running = [
        subprocess.Popen(
            [sys.executable, script, tmp_path],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for one in running:
        _, errors = one.communicate(timeout=300)
        assert one.returncode == 0, errors
    first, second = (json.loads((tmp_path / f"rank-{r}.json").read_text("utf-8")) for r in (0, 1))
    assert first == second
    assert first["world"] == 2
    alone = trainer(RCFTTrainer, questions, tmp_path).expect()
    assert first["first"] == pytest.approx(alone.tolist(), abs=1e-6)
    assert first["steps"] == 3 * N // 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_dataset": [{"text": "a"}]}, r"train_dataset must be a QuestionSet\(.* got list"),
        ({"eval_dataset": {"a": [1]}}, r"eval_dataset must be a QuestionSet\(.* got list"),
        ({"calibration_weight": -1}, "calibration_weight must be a finite number of at least 0"),
        ({"calibration_weight": math.nan}, "calibration_weight must be a finite number"),
        ({"bins": 0}, "bins must be a whole number of at least 1, got 0"),
        (
            {"accuracy_weight": 0, "context_weight": 0, "calibration_weight": 0},
            "all weights of the loss are 0",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(
    questions: QuestionSet, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """One sentence that says what was given and what to give."""
    usual = {"model": model_of(), "train_dataset": questions, "processing_class": bpe()}
    args = transformers.TrainingArguments(**arguments(tmp_path))
    with pytest.raises(UsageError, match=message):
        RCFTTrainer(**usual | changes, args=args)


def test_a_question_longer_than_the_model_reads_is_refused(
    questions: QuestionSet, tmp_path: Path
) -> None:
    """Before training, with the number of its tokens."""
    torch.manual_seed(1)
    short = new_model("gpt_neox", max_position_embeddings=12)
    with pytest.raises(UsageError, match=r"a question takes \d+ tokens, more than the 12"):
        trainer(CFTTrainer, questions, tmp_path, model=short)
