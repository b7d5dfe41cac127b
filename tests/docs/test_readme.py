"""The code blocks of README.md run as they stand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from documents import Block, Gated, blocks, commands, put_files
from lm_eval_samples import write_samples

from pytest_calibration.cli import main


def of(language: str, some: list[Block]) -> list[Block]:
    """Return the blocks of a language."""
    return [block for block in some if block.language == language]


@pytest.mark.usefixtures("fakes")
def test_i_fine_tune_a_language_model(folder: Path, pytester: pytest.Pytester) -> None:
    """The first tests of the page, and its commands: record, gate one, gate several, accept."""
    (tests,) = of("python", blocks("README.md"))
    (folder / "tests" / "test_calibration.py").write_text(tests.text, "utf-8")
    (folder / "calibration.yaml").write_text("probes: {facts: {limit: 400}}\n", "utf-8")
    for name in ("base", "sft/checkpoint-400", "sft/checkpoint-800", "dpo"):
        (folder / "runs" / name).mkdir(parents=True)
    typed = [*commands(blocks("README.md", "I fine-tune a language model"), "pytest")]
    record, one, several, accept = typed
    for args, code, counts in (
        (record, 0, {"passed": 2}),
        (one, 1, {"failed": 2}),
        (several, 1, {"failed": 4}),
        (accept, 0, {"passed": 2}),
    ):
        result = pytester.runpytest_inprocess(*args)
        assert result.ret == code, args
        result.assert_outcomes(**counts)


def test_i_have_predictions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The block on arrays, and the command on a file and on a run of lm-eval."""
    from pytest_calibration import Baselines, Predictions

    section = blocks("README.md", "I have predictions")
    rng = np.random.default_rng(1)
    table = rng.dirichlet([0.2, 0.2], 2000)
    labels = (rng.random(2000) < table[:, 1]).astype(int)
    Baselines("calibration_baselines").record(Predictions.from_probabilities(table, labels))

    class Classifier:
        @staticmethod
        def predict_proba(texts: list[str]) -> object:
            return table[: len(texts)]

    (code,) = of("python", section)
    exec(code.text, {"classifier": Classifier, "texts": ["a"] * 2000, "labels": labels})

    confidence = table.max(axis=1)
    right = table.argmax(axis=1) == labels
    lines = [f"{c},{int(r)}" for c, r in zip(confidence, right, strict=True)]
    (folder / "predictions.csv").write_text("\n".join(["confidence,correct", *lines]), "utf-8")
    on_file, record, again = commands(section, "pytest-calibration")
    assert main(on_file) == 0, capsys.readouterr()
    write_samples(folder / record[1], "quiz")
    assert main(record) == 0, capsys.readouterr()
    write_samples(folder / record[1], "quiz", 28)
    assert main(again) == 0, capsys.readouterr()


def test_i_serve_a_classifier(folder: Path, gated: Gated, reviews: list[dict[str, str]]) -> None:
    """The file, the command that names a function, and the test that ``init`` writes."""
    section = blocks("README.md", "I serve a classifier")
    assert put_files(folder, section) == ["calibration.yaml"]
    rows = "".join(f"{row['text']},{row['label']}\n" for row in reviews)
    (folder / "reviews.csv").write_text(f"text,label\n{rows}", "utf-8")
    assert main(["init", "--model", "my_service:predict", "--no-ci"]) == 0
    checkpoint, function = commands(section, "pytest")
    assert checkpoint == ["--calibration-model=runs/sentiment", "--calibration-record"]
    assert function.pop() == "--calibration-record"
    gated(1, *function)
