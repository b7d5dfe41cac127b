"""``pytest-calibration recalibrate``: from files, and from a model whose gate is red to green."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import all_loaded  # noqa: F401  before any inner run
import numpy as np
import pytest
from checkpoints import quietly
from known_calibration import calibrated, four_way, sharpened, softmax

from pytest_calibration.diagnosis import diagnose, fit_temperature
from pytest_calibration.diagnosis.served_temperature import (
    Recalibration,
    balanced_temperature,
    common_temperature,
)
from pytest_calibration.models.loading import load_model
from pytest_calibration.predictions import Predictions, Signature
from pytest_calibration.reports.dump import write_dump

EXAMPLE = Path(__file__).parents[2] / "example_project"
SHARP = 2.5
GATE = """
from pytest_calibration import assert_no_regression

def test_gate(calibration, calibration_baseline):
    assert_no_regression(calibration.run("quiz"), calibration_baseline)
"""
CONFIG = """
model: {dtype: float32, device: cpu}
probes:
  quiz:
    {kind: multiple_choice, path: quiz.jsonl, scoring: text, template: "{question}", limit: 700}
"""


def line(temperature: float) -> str:
    """Return the line for calibration.yaml."""
    return f"model: {{temperature: {temperature:.3g}}}"


def test_the_line_and_what_it_brings_are_printed(command, tmp_path: Path) -> None:
    """The temperature by which logits were multiplied, ECE on held-out folds, accuracy as it is."""
    p = sharpened(2000, 7, SHARP)
    fit, d = fit_temperature(p), diagnose(p)
    assert fit is not None
    assert fit.low is not None
    assert fit.high is not None
    assert d.after_temperature is not None
    assert fit.low < SHARP < fit.high
    result = command("recalibrate", write_dump(tmp_path, p))
    assert (result.code, result.err) == (0, "")
    assert result.lines[-1] == line(fit.value)
    assert f"  temperature of the logits: {fit.value:.3g} [{fit.low:.3g}, {fit.high:.3g}]" in (
        result.lines
    )
    assert f"  ECE as it is: {d.ece.value:.3f} [" in result.out
    assert f"  ECE on held-out folds: {d.after_temperature.value:.3f} [" in result.out
    assert f"  accuracy stays {p.correct.mean():.3f}: " in result.out


def test_json_holds_the_numbers(command, tmp_path: Path) -> None:
    """Every leaf is a number."""
    p = sharpened(2000, 7, SHARP)
    result = command("recalibrate", write_dump(tmp_path, p), "--json")
    tree = json.loads(result.out)
    fit = fit_temperature(p)
    assert fit is not None
    assert tree["temperature"] == float(f"{fit.value:.3g}")
    found = tree["probes"]["probabilities"]
    assert found["temperature"]["value"] == fit.value
    assert found["temperature"]["of_logits"] == found["helps"] == 1
    assert found["after"]["value"] < found["before"]["value"]


def test_a_calibrated_model_has_nothing_to_correct(command, tmp_path: Path) -> None:
    """It says so, prints no line, and exits with 0."""
    result = command("recalibrate", write_dump(tmp_path, calibrated(4000, 3)))
    assert result.code == 0
    assert result.lines[-1].startswith("nothing to correct: the model is calibrated")
    assert "temperature:" not in result.lines[-1]


def test_what_a_temperature_does_not_correct_exits_with_1(command, tmp_path: Path) -> None:
    """Answers that know nothing: the diagnosis says what they are, and what would help is named."""
    rng = np.random.default_rng(1)
    table = rng.permuted(np.tile([0.97, 0.01, 0.01, 0.01], (2000, 1)), axis=1)
    p = Predictions.from_probabilities(table, (table.argmax(axis=1) + rng.integers(1, 4, 2000)) % 4)
    result = command("recalibrate", write_dump(tmp_path, p))
    assert result.code == 1
    assert not any(one.startswith("model: ") for one in result.lines)
    assert "A temperature does not help. Over-confident by" in result.out
    assert "CFT and RCFT (docs/how-to/remedies.md)" in result.lines[-1]


def test_what_a_temperature_leaves_is_said(command, tmp_path: Path) -> None:
    """Half of the answers far too sure, half too unsure: it lowers ECE, and more remains."""
    rng = np.random.default_rng(1)
    table = rng.permuted(np.tile([0.97, 0.01, 0.01, 0.01], (2000, 1)), axis=1)
    labels = rng.integers(0, 4, 2000)
    table[:1000] = np.eye(4)[labels[:1000]] * 0.2 + 0.2
    p = Predictions.from_probabilities(table, labels)
    result = command("recalibrate", write_dump(tmp_path, p))
    assert result.code == 0
    assert "  More remains than noise makes. " in result.out
    assert result.lines[-1].startswith("model: {temperature: ")


def test_confidences_alone_give_no_line(command, tmp_path: Path) -> None:
    """A temperature of log-odds is none that logits can be divided by: it says what is needed."""
    p = sharpened(2000, 7, SHARP)
    rows = zip(p.confidence.tolist(), p.correct.tolist(), strict=True)
    path = tmp_path / "quiz.csv"
    path.write_text("confidence,correct\n" + "".join(f"{c!r},{r:d}\n" for c, r in rows), "utf-8")
    result = command("recalibrate", path)
    assert result.code == 1
    assert "temperature of the log-odds of the confidence" in result.out
    assert "no line for calibration.yaml: without the probabilities of all options" in result.out
    assert not any(one.startswith("model: ") for one in result.lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "recalibrate needs one of two things: FILE (CSV, "),
        (["a.csv", "--model", "m"], "recalibrate needs one of two things: FILE (CSV, "),
        (["a.csv", "--limit", "3"], "recalibrate: --limit goes with --model."),
        (["--model", "m", "--task", "t"], "recalibrate: --task goes with a file."),
        (["--model", "m", "--run", "t"], "recalibrate: --run goes with a file."),
        (["a.csv", "--probe", "a", "--probe", "b"], "a file has one --probe"),
    ],
)
def test_arguments_that_contradict_each_other(command, arguments, message: str) -> None:
    """One sentence, exit code 2."""
    result = command("recalibrate", *arguments)
    assert result.code == 2
    assert message in result.err


def test_a_temperature_adds_to_the_one_that_the_model_was_served_at() -> None:
    """Logits that were divided by 2 and need another 1.25 need 2.5 in all."""
    served = sharpened(4000, 7, SHARP / 2).with_signature(temperature="2")
    found = Recalibration.of(served)
    assert found.served_at == 2
    assert found.temperature == pytest.approx(SHARP, rel=0.05)
    # At the temperature that they were served at, nothing is changed.
    assert found.at(2.0)[0] == pytest.approx(float(served.confidence.mean()))


def test_several_probes_share_one_temperature() -> None:
    """It minimises NLL over all items: scipy finds no better one; tables may differ in width."""
    optimize = pytest.importorskip("scipy.optimize")
    logits, labels = four_way(800, 5)
    few, few_labels = four_way(300, 9)
    few, few_labels = few[few_labels < 3][:, :3], few_labels[few_labels < 3]
    sets = [(2.0 * logits, labels), (3.0 * few, few_labels)]
    found = [Recalibration.of(Predictions.from_probabilities(softmax(z), y)) for z, y in sets]

    def loss(t: float) -> float:
        rows = [np.log(softmax(z / t))[np.arange(len(y)), y] for z, y in sets]
        return -float(np.concatenate(rows).mean())

    best = optimize.minimize_scalar(loss, bounds=(0.5, 10), method="bounded").x
    assert common_temperature(found) == pytest.approx(best, rel=6e-3)
    assert common_temperature([Recalibration.of(calibrated(4000, 3))]) is None


@pytest.mark.parametrize("factor", [0.5, 2.5])
def test_without_a_table_the_model_is_asked_for_its_temperature(factor: float) -> None:
    """Fifty tokens, of which the confidence alone is known: the factor of the logits is found."""
    rng = np.random.default_rng(2)
    true = 2 * rng.standard_normal((3000, 50))
    draws = rng.random((3000, 1)) < softmax(true).cumsum(axis=1)
    correct = draws.argmax(axis=1) == true.argmax(axis=1)
    asked: list[float] = []

    def ask(t: float) -> list[Predictions]:
        asked.append(t)
        return [Predictions.from_confidence(softmax(factor * true / t).max(axis=1), correct)]

    found = [Recalibration.of(ask(1.0)[0])]
    balance = balanced_temperature(ask, found)
    assert balance is not None
    assert balance.low < factor < balance.high
    assert balance.temperature == pytest.approx(factor, rel=0.1)
    assert balance.asked == len(asked) - 1 <= 6
    apart = balance.predictions[0].confidence.mean() - correct.mean()
    assert abs(apart) < 0.003
    calm = [Recalibration.of(Predictions.from_confidence(softmax(true).max(axis=1), correct))]
    assert balanced_temperature(ask, calm) is None
    # A model that does not follow has no such temperature.
    assert balanced_temperature(lambda _: [found[0].predictions], found) is None


def sharpened_copy(folder: Path) -> Path:
    """Write the example's model with the weights of its head, and so its logits, times 2.5."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(EXAMPLE / "checkpoints" / "base", folder)
    (weights,) = folder.glob("*.safetensors")
    tensors = load_file(weights)
    (head,) = (name for name in tensors if name.startswith("embed_out"))
    tensors[head] = tensors[head] * SHARP
    save_file(tensors, weights, metadata={"format": "pt"})
    return folder


@pytest.mark.torch
@pytest.mark.skipif(not EXAMPLE.is_dir(), reason="the example project is not beside these tests")
def test_a_red_gate_ends_in_a_key_that_makes_it_green(
    command: Any, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Base recorded, a sharpened copy fails and names the command; with its line it passes."""
    pytest.importorskip("torch")
    folder = pytester.path
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest -p no:cacheprovider")
    sharpened_copy(folder / "sharp")
    shutil.copy(EXAMPLE / "probes" / "almanac_questions.jsonl", folder / "quiz.jsonl")
    (folder / "calibration.yaml").write_text(CONFIG, "utf-8")
    pytester.makepyfile(GATE)
    base = EXAMPLE / "checkpoints" / "base"
    with quietly():
        # Loads what no inner run may be the first to import.
        load_model(str(base)).load()
        recorded = pytester.inline_run(f"--calibration-model={base}", "--calibration-record")
        recorded.assertoutcome(passed=1)
        red = pytester.runpytest_inprocess("--calibration-model=sharp")
    red.assert_outcomes(failed=1)
    red.stdout.fnmatch_lines(["E*to recalibrate: pytest-calibration recalibrate --model=*"])
    with quietly():
        result = command("recalibrate", "--model", "sharp")
    assert (result.code, result.err) == (0, "")
    found = re.fullmatch(r"model: \{temperature: ([\d.]+)\}", result.lines[-1])
    assert found is not None
    assert float(found[1]) == pytest.approx(SHARP, rel=0.15)
    assert f"  asked again at {found[1]}: ECE 0.0" in result.out
    config = CONFIG.replace("{dtype", f"{{temperature: {found[1]}, dtype")
    (folder / "calibration.yaml").write_text(config, "utf-8")
    with quietly():
        green = pytester.runpytest_inprocess("--calibration-model=sharp")
    green.assert_outcomes(passed=1)


def test_a_signature_says_at_which_temperature() -> None:
    """Soft: another temperature is another model, not another question."""
    one, other = (Signature({"kind": "x"}, {"temperature": t}) for t in ("1.5", "2"))
    assert one.hard_differences(other) == []
    assert one.soft_differences(other) == [("temperature", "1.5", "2")]
