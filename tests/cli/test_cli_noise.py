"""``pytest-calibration noise``."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeModel, unit
from numpy.typing import NDArray

from pytest_calibration.cli.noise import DISTURBANCES, _sentence, _size
from pytest_calibration.errors import ModelError
from pytest_calibration.gate.aa.disturbed_runs import Conclusion, Disturbance, Finding
from pytest_calibration.gate.planning import smallest_visible_unpaired
from pytest_calibration.models.cache import Cache
from pytest_calibration.predictions import Predictions
from pytest_calibration.probes.facts import Facts

EXAMPLE = Path(__file__).parents[2] / "example_project"
BIAS = 0.7
N = 120
Floats = NDArray[np.float64]


def score(text: str) -> float:
    """What a biased model thinks of an option, in nats."""
    return 4 * unit("score", text) - 2


class Biased(FakeModel):
    """Knows what it thinks of two options, and prefers the first by ``BIAS`` nats at times.

    Args:
        name: ``order``: always; ``turns``: in every second call; ``crowds``: in calls with more
            than 32 questions, as a fault of padding might; ``examples``: as the prompt has it.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name
        self.asked = 0

    def option_logprobs(
        self, prompts: Sequence[str], _options: Sequence[Sequence[str]]
    ) -> list[Floats]:
        """Score the letters by the options that the prompt shows."""
        self.asked += 1
        biased = {"order": True, "turns": self.asked % 2 == 0, "crowds": len(prompts) > 32}
        bias = BIAS * biased.get(self.name, False)
        out = []
        for prompt in prompts:
            if self.name == "examples":
                bias = BIAS * unit("examples", prompt)
            first, second = re.findall(r"^[AB]\. (.*)$", prompt, re.MULTILINE)[-2:]
            scores = np.array([score(first) + bias, score(second)])
            out.append(scores - np.logaddexp.reduce(scores))
        return out

    def release(self) -> None:
        """Hold nothing."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with questions of two options, and biased models by name."""

    def load(spec: str, _settings: Any, cache: Cache | None) -> Biased:
        assert cache is None
        if spec == "missing":
            raise ModelError("missing: there is no such model; name one.")
        return Biased(spec)

    monkeypatch.setattr("pytest_calibration.models.loading.load_model", load)
    monkeypatch.chdir(tmp_path)
    rows = [
        {"question": f"Which, {i}?", "options": [f"one {i}", f"two {i}"], "answer": i % 2}
        for i in range(N)
    ]
    write(tmp_path / "rows.jsonl", *rows)
    write(tmp_path / "few.jsonl", *rows[:2])
    write(tmp_path / "one.jsonl", {**rows[0], "options": ["one"], "answer": 0})
    (tmp_path / "calibration.yaml").write_text(
        "tolerance: 0.03\n"
        "probes:\n"
        "  quiz: {kind: multiple_choice, path: rows.jsonl}\n"
        "  shown: {kind: multiple_choice, path: rows.jsonl, shots: 2, shots_path: few.jsonl}\n"
        "  single: {kind: multiple_choice, path: one.jsonl}\n"
    )
    return tmp_path


def write(path: Path, *rows: dict[str, Any]) -> None:
    """Write rows."""
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")


def sigmoid(x: Floats) -> Floats:
    """The probability of the first of two options that lie x nats apart."""
    return 1 / (1 + np.exp(-x))


def apart() -> Floats:
    """How far the options of each question lie apart for a biased model, (N,)."""
    return np.array([score(f"one {i}") - score(f"two {i}") for i in range(N)])


def quiz(shift: float) -> Predictions:
    """What a model answers that prefers the first option by so much, from its formula."""
    x = apart() + shift
    return Predictions.from_confidence(
        sigmoid(np.abs(x)), (x <= 0).astype(int) == np.arange(N) % 2, probe="quiz"
    )


def noise(command: Any, *arguments: object, probe: str = "quiz") -> dict[str, Any]:
    """Return what the command prints for a program."""
    result = command("noise", "--probe", probe, "--json", *arguments)
    assert (result.code, result.err) == (0, "")
    found: dict[str, Any] = json.loads(result.out)["probes"][probe]
    return found


def expected(before: Predictions, *after: Predictions) -> dict[str, Any]:
    """Return movements by their definition."""
    moved = np.abs([one.confidence - before.confidence for one in after])
    gaps = [one.gap.mean() - before.gap.mean() for one in after]
    right = [one.correct.mean() - before.correct.mean() for one in after]
    turned = [one.correct != before.correct for one in after]
    return {
        "confidence_mean": moved.mean(),
        "confidence_largest": moved.max(),
        "outcomes": np.mean(turned),
        "signed_gap": {"mean": np.mean(gaps), "largest": np.max(np.abs(gaps))},
        "accuracy": {"mean": np.mean(right), "largest": np.max(np.abs(right))},
    }


def check(found: dict[str, Any], by_definition: dict[str, Any]) -> None:
    """Compare what the command found with what there is."""
    for name, value in by_definition.items():
        one = found[name]
        if isinstance(value, dict):
            one = {key: one[key] for key in value}
        assert one == pytest.approx(value, abs=1e-12), name


# --- known effects -------------------------------------------------------------------------------


def test_a_known_effect_of_the_order_is_found(command, project) -> None:
    """Of two options the other order turns the bias round: an answer flips where it decides."""
    found = noise(command, "--model", "order")
    check(found["disturbances"]["options"], expected(quiz(BIAS), quiz(-BIAS)))
    flips = np.mean(np.abs(apart()) < BIAS)
    assert 0.1 < flips < 0.9
    assert found["disturbances"]["options"]["answers"] == pytest.approx(flips)
    assert found["disturbances"]["repeat"]["confidence_largest"] == 0
    assert found["disturbances"]["batch"]["confidence_largest"] == 0
    assert [c["finding"] for c in found["conclusions"]] == ["nothing between runs", "level"]
    assert found["conclusions"][1]["share"] == pytest.approx(flips)


def test_a_known_effect_of_a_repeat_is_found(command, project) -> None:
    """A model that is biased in every second call: one of two repeats is."""
    found = noise(command, "--model", "turns", "--repeats", 2, "--disturb", "repeat")
    check(found["disturbances"]["repeat"], expected(quiz(0), quiz(BIAS), quiz(0)))
    assert found["disturbances"]["repeat"]["runs"] == 2
    assert list(found["disturbances"]) == ["repeat"]
    gap = quiz(BIAS).gap.mean() - quiz(0).gap.mean()
    spread = found["disturbances"]["repeat"]["signed_gap"]["spread"]
    assert spread == pytest.approx(abs(gap) / math.sqrt(2))


def test_a_known_effect_of_the_batch_is_found(command, project) -> None:
    """Of a model that large batches disturb: in others it is not biased, and a fault is told."""
    found = noise(command, "--model", "crowds", "--disturb", "batch", "--disturb", "repeat")
    check(found["disturbances"]["batch"], expected(quiz(BIAS), quiz(0)))
    assert found["disturbances"]["repeat"]["outcomes"] == 0
    assert "beyond rounding" in [c["finding"] for c in found["conclusions"]]
    text = command("noise", "--model", "crowds", "--probe", "quiz").out
    largest = _size(expected(quiz(BIAS), quiz(0))["confidence_largest"])
    plain = " ".join(text.split())
    assert f"In another batch a confidence moves by {largest}, which rounding in float32" in plain
    assert "fault of padding, attention mask or positions" in plain


# --- output --------------------------------------------------------------------------------------


def test_the_block_of_a_probe_is_readable(command, project) -> None:
    """Level, tolerance, smallest shift, a row for each disturbance, and what does not apply."""
    result = command("noise", "--model", "order", "--probe", "quiz", "--repeats", 2)
    assert (result.code, result.err) == (0, "")
    visible = smallest_visible_unpaired(quiz(BIAS), 0.03, 0.05)
    assert result.lines[0] == "quiz on order: 120 items, asked once and in 6 more runs"
    assert result.lines[1].startswith("  ECE 0.")
    assert result.lines[2] == (
        f"  tolerance 0.03; smallest shift seen with 80 % power: {visible:.3f}"
    )
    heads, *rows = (re.split(r" {2,}", line.strip()) for line in result.lines[3:7])
    assert heads[:6] == ["disturbed", "runs", "confidence", "largest", "answers", "outcomes"]
    assert [row[0] for row in rows] == ["repeat", "batch", "options"]
    options = dict(zip(heads, rows[2], strict=True))
    assert options["answers"] == f"{100 * np.mean(np.abs(apart()) < BIAS):.1f} %"
    gap = quiz(-BIAS).gap.mean() - quiz(BIAS).gap.mean()
    assert options["signed gap"] == f"{gap:+.4f} ± 0.0000"
    assert options["the gate"].startswith("2 ")
    assert result.lines[7:9] == [
        "  draws does not apply: no answer is drawn",
        "  shots does not apply: the model is shown no solved examples",
    ]
    assert "takes nothing from the tolerance" in " ".join(result.out.split())


def test_a_probe_of_facts_has_no_options(command, project) -> None:
    """What does not apply is said with its reason, in JSON too; the rest is measured."""
    found = noise(command, "--model", "any", "--limit", 60, "--repeats", 1, probe="facts")
    assert found["not_applied"] == {
        "draws": "no answer is drawn",
        "options": "the model is shown no options",
        "shots": "the model is shown no solved examples",
    }
    assert list(found["disturbances"]) == ["repeat", "batch"]
    assert found["n"] == 60
    assert found["smallest_visible"] == pytest.approx(
        smallest_visible_unpaired(Facts().run(FakeModel("any"), limit=60), 0.03, 0.05)
    )
    assert "answers" not in found["disturbances"]["repeat"]


def test_examples_are_drawn_anew_and_by_a_seed(command, project) -> None:
    """Another seed draws others; the same seed the same."""
    config = project / "calibration.yaml"
    config.write_text(config.read_text().replace("few.jsonl", "rows.jsonl"))

    def seeded(seed: int) -> str:
        arguments = ("--model", "examples", "--disturb", "repeat", "--disturb", "shots")
        found = noise(command, "--seed", seed, *arguments, probe="shown")
        assert found["disturbances"]["repeat"]["confidence_largest"] == 0
        assert found["disturbances"]["shots"]["ece"]["spread"] > 0
        return str(found)

    assert seeded(1) == seeded(1) != seeded(2)


def test_the_settings_of_the_gate_are_those_of_the_project(command, project) -> None:
    """A flag wins over calibration.yaml, as for the other commands."""
    assert noise(command, "--model", "a", "--repeats", 1)["tolerance"] == 0.03
    flags = ("--tolerance", 0.2, "--alpha", 0.1, "--repeats", 1)
    found = noise(command, "--model", "order", *flags)
    assert (found["tolerance"], found["alpha"]) == (0.2, 0.1)


def test_every_disturbance_has_a_name_on_the_command_line() -> None:
    """The names of the flag are those of the report."""
    assert list(DISTURBANCES) == list(Disturbance)


@pytest.mark.parametrize("finding", list(Finding))
def test_every_conclusion_has_a_sentence(finding: Finding) -> None:
    """It names the disturbance or its effect, and the numbers that it rests on."""
    conclusion = Conclusion(
        finding,
        (Disturbance.SHOTS,),
        runs=7,
        amount=0.0123,
        share=0.25,
        times=1.6,
        ece=(0.1, 0.2, 0.3),
        dtype="bfloat16",
    )
    sentence = _sentence(conclusion, 0.02)
    numbers = {
        Finding.NOTHING_BETWEEN_RUNS: ["0.02", "7 runs"],
        Finding.BELOW_TOLERANCE: ["0.013", "0.02", "7 runs", "1.6 times"],
        Finding.ABOVE_TOLERANCE: ["0.013", "0.02", "7 runs"],
        Finding.GATE_FAILS: ["25.0 %"],
        Finding.UNDECIDED: ["25.0 %"],
        Finding.BEYOND_ROUNDING: ["0.013", "bfloat16"],
        Finding.NO_EFFECT: ["nothing"],
        Finding.LEVEL: ["25.0 %", "0.100", "0.200", "0.300"],
    }[finding]
    assert all(number in sentence for number in numbers), sentence
    assert sentence.endswith(".")
    assert "nan" not in sentence


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0"), (0.0123, "0.013"), (3.01e-7, "3.1e-07"), (0.25, "0.25")]
)
def test_an_amount_is_rounded_up(amount: float, text: str) -> None:
    """What is printed as the most is no less than it."""
    assert _size(amount) == text
    assert float(text) >= amount


# --- probes and models of a project's own -------------------------------------------------------


OWN = """
import itertools
import numpy as np
from pytest_calibration import Predictions

class Mine:
    kind, unit, size = "mine", "items", 60
    def __init__(self, name):
        self.name = name
    def run(self, model, *, limit=None):
        return Predictions.from_confidence(
            np.full(60, 0.7), np.arange(60) % 10 < 7, item_ids=range(60), probe=self.name
        )

class Restless(Mine):
    runs = itertools.count()
    def run(self, model, *, limit=None):
        start = 10 * next(self.runs)
        return Predictions.from_confidence(
            np.full(60, 0.7), np.arange(60) % 10 < 7, item_ids=range(start, start + 60),
            probe=self.name,
        )
"""


@pytest.fixture
def own(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Add probes of the project's own kinds."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    # A module of each test's own: what is imported stays.
    name = f"probes_of_{project.name}".replace("-", "_")
    (project / f"{name}.py").write_text(OWN)
    with (project / "calibration.yaml").open("a") as file:
        for kind in ("Mine", "Restless"):
            file.write(f"  {kind.lower()}: {{kind: '{name}:{kind}'}}\n")
    return project


def test_a_probe_of_ones_own_is_repeated_and_batched(command, own) -> None:
    """What else could be otherwise only its author knows, which is said."""
    found = noise(command, "--model", "any", probe="mine")
    assert list(found["disturbances"]) == ["repeat", "batch"]
    assert set(found["not_applied"].values()) == {
        "a probe of your own, whose `variants` would say what could be otherwise"
    }
    assert found["conclusions"][0]["finding"] == "nothing between runs"


def test_a_probe_whose_items_change_is_an_error(command, own) -> None:
    """Items that are asked once only cannot be compared with themselves."""
    result = command("noise", "--model", "any", "--probe", "restless")
    assert (result.code, result.out) == (2, "")
    assert "probe 'restless': asked once more (repeat), it had 60 items that are not" in result.err


CLASSIFIER = """
import numpy as np

def predict(texts):
    padded = max(map(len, texts))
    good = np.array([len(text) / padded for text in texts])
    return np.stack([1 - good / 2, good / 2], axis=1)

predict.class_names = ["bad", "good"]
"""


def test_a_classifier_that_reads_its_padding_is_found(command, tmp_path, monkeypatch) -> None:
    """A function is a model, its texts have a batch and a repeat, and its neighbours move it."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "padding_classifier.py").write_text(CLASSIFIER)
    rows = [f"{'x' * (1 + i)},{('bad', 'good')[i % 2]}" for i in range(100)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]))
    (tmp_path / "calibration.yaml").write_text(
        "probes: {reviews: {kind: classification, path: rows.csv}}\n"
    )
    found = noise(command, "--model", "padding_classifier:predict", probe="reviews")
    assert list(found["disturbances"]) == ["repeat", "batch"]
    assert found["disturbances"]["repeat"]["confidence_largest"] == 0
    # Alone, each text fills its batch, and its confidence is one half.
    assert found["disturbances"]["batch"]["confidence_largest"] > 0.3
    findings = [c["finding"] for c in found["conclusions"]]
    assert {"above the tolerance", "beyond rounding"} <= {*findings}


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--probe", "quiz"], "noise asks a model again and again, and none is named; add --model"),
        (["--model", "m", "--probe", "quizz"], "unknown probe 'quizz' (did you mean 'quiz'?)"),
        (["--model", "missing", "--probe", "quiz"], "missing: there is no such model; name one."),
        (["--model", "m", "--repeats", "0"], "--repeats: must lie between 1 and 1,000, got 0"),
        (["--model", "m", "--repeats", "many"], "--repeats: must be a whole number, got 'many'"),
        (["--model", "m", "--disturb", "device"], "--disturb: invalid choice: 'device'"),
        (["--model", "m", "--limit", "0"], "--limit: must lie between 1 and"),
        (["--model", "m", "--tolerance", "2"], "--tolerance: must be a number of at least 0"),
        (["--model", "m", "--cache-dir", "kept"], "unrecognized arguments: --cache-dir"),
        (
            ["--model", "m", "--probe", "facts", "--disturb", "options"],
            "probe 'facts' has no options to disturb: the model is shown no options; leave "
            "--disturb options out.",
        ),
        (
            ["--model", "m", "--probe", "shown", "--disturb", "shots"],
            "probe 'shown' has no shots to disturb: all of the 2 examples there are, are shown; "
            "leave --disturb shots out.",
        ),
        (
            ["--model", "m", "--probe", "single"],
            "one.jsonl, line 1: 'options' must be 2 to 26 texts, got 1",
        ),
    ],
)
def test_errors_are_one_line(command, project, arguments: list[str], message: str) -> None:
    """Each names what is wrong and what was given; nothing is printed, and the exit code is 2."""
    result = command("noise", *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("pytest-calibration: error: ")
    assert message in result.err
    assert result.err.count("\n") == 1


def test_a_model_that_cannot_be_loaded_is_an_error(command, tmp_path, monkeypatch) -> None:
    """As of every command: one line, with what to name."""
    monkeypatch.chdir(tmp_path)
    result = command("noise", "--model", "no_module_here:predict", "--probe", "facts")
    assert (result.code, result.out) == (2, "")
    assert "no_module_here" in result.err
    assert result.err.count("\n") == 1


# --- a real model --------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_a_real_checkpoint_moves_by_rounding_alone(command, tmp_path, monkeypatch) -> None:
    """A float32 model answers a repeat to the last bit, and any batch within 1e-4.

    Its letters, which it never learned, depend on the order of the options.
    """
    monkeypatch.chdir(tmp_path)
    questions = (EXAMPLE / "probes" / "almanac_questions.jsonl").read_text("utf-8").splitlines()
    write(tmp_path / "rows.jsonl", *map(json.loads, questions[:60]))
    (tmp_path / "calibration.yaml").write_text(
        "model: {dtype: float32}\n"
        "probes: {quiz: {kind: multiple_choice, path: rows.jsonl, header: ''}}\n"
    )
    model = EXAMPLE / "checkpoints" / "base"
    found = noise(command, "--model", model, "--repeats", 1)
    assert found["dtype"] == "float32"
    moved = found["disturbances"]
    assert moved["repeat"]["confidence_largest"] == 0
    assert 0 <= moved["batch"]["confidence_largest"] < 1e-4
    assert moved["batch"]["answers"] == moved["batch"]["outcomes"] == 0
    assert moved["options"]["answers"] > 0.1
    assert found["conclusions"][0]["finding"] in ("nothing between runs", "below the tolerance")
