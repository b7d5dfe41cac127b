"""The code blocks of README.md and of the pages on a first test, probe and model run."""

from __future__ import annotations

import json
from pathlib import Path

import all_loaded  # noqa: F401  before any inner run
import numpy as np
import pytest
from documents import Block, blocks, commands, put_files
from lm_eval_samples import write_samples

from pytest_calibration.cli import main
from pytest_calibration.cli.init import planned

TESTS = Path(__file__).parent
GATE = """
from pytest_calibration import assert_no_regression

def test_nothing_got_worse(calibration, calibration_baseline, calibration_probe):
    assert_no_regression(calibration.run(calibration_probe), calibration_baseline)
"""
# A model that stands for every checkpoint; those of a run are over-confident.
FAKES = """
import pytest
from fakes import FakeModel

@pytest.fixture(scope="session")
def calibration_model(calibration_model_spec):
    return FakeModel(calibration_model_spec, sharpen=0.6 if "sft" in calibration_model_spec else 0)
"""
# The service that the examples speak of: a classifier that is right as often as it says.
SERVICE = """
import numpy as np
from fakes import unit

def predict(texts):
    p = np.array([unit(text) for text in texts])
    return np.column_stack([1 - p, p])

predict.class_names = ["negative", "positive"]

def log_probability(prompt, option):
    return float(np.log(unit(prompt, option)))
"""


@pytest.fixture
def folder(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, which is the working folder."""
    monkeypatch.syspath_prepend(str(TESTS))
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest -p no:cacheprovider")
    for name in ("CI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeini("[pytest]\n")
    (pytester.path / "my_service.py").write_text(SERVICE, "utf-8")
    return pytester.path


def of(language: str, some: list[Block]) -> list[Block]:
    """Return the blocks of a language."""
    return [block for block in some if block.language == language]


def reviews() -> list[dict[str, str]]:
    """Return texts that are positive as often as the service says."""
    from fakes import unit

    names = ("negative", "positive")
    texts = [f"review {i}" for i in range(400)]
    return [{"text": t, "label": names[unit("truth", t) < unit(t)]} for t in texts]


def gated(pytester: pytest.Pytester, probes: int, *args: str) -> None:
    """Record all probes, and find them unchanged."""
    pytester.runpytest_inprocess(*args, "--calibration-record").assert_outcomes(passed=probes)
    again = pytester.runpytest_inprocess(*args)
    again.assert_outcomes(passed=probes)
    again.stdout.fnmatch_lines([f"{probes} passed"])


# --- the first test; a probe and a model of one's own -------------------------------------------


def test_the_first_minute(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``init`` prints where this lies, is what the page shows."""
    (example,) = blocks("docs/how-to/first-test.md")
    for name in ("base", "sft/checkpoint-200", "sft/checkpoint-400"):
        place = folder / "runs" / name
        place.mkdir(parents=True)
        (place / "config.json").write_text('{"model_type": "gpt2"}', "utf-8")
    (folder / "data").mkdir()
    question = {"question": "Which?", "options": ["this", "that"], "answer": 0}
    (folder / "data" / "quiz.jsonl").write_text(json.dumps(question), "utf-8")
    (folder / ".git").mkdir()
    # Torch is there in every environment but those of the core.
    monkeypatch.setattr(planned, "find_spec", lambda _name: True)
    typed, _, shown = example.text.partition("\n")
    assert main(typed.split()[2:]) == 0
    assert capsys.readouterr().out == shown


def test_a_probe_of_ones_own(folder: Path, pytester: pytest.Pytester) -> None:
    """By its class in ``calibration.yaml`` and by the hook; each has a baseline of its own."""
    example = blocks("docs/how-to/own-probe.md")
    assert put_files(folder, example) == ["sums.py", "calibration.yaml", "conftest.py"]
    test = pytester.mkpydir("tests") / "test_it.py"
    test.write_text(GATE, "utf-8")
    test.with_name("conftest.py").write_text(FAKES, "utf-8")
    named = ("sums", "small-sums", "sums-to-15")
    gated(pytester, 3, "--calibration-model=a", *(f"--calibration-probe={name}" for name in named))
    listed = pytester.runpytest_inprocess("--calibration-list")
    listed.stdout.re_match_lines([r"  sums-to-15 +sums", r"\* sums +sums", r"\* small-sums +sums"])


def test_a_function_as_a_classifier(folder: Path, pytester: pytest.Pytester) -> None:
    """The first two blocks on models: a function, asked about texts with labels."""
    example = blocks("docs/how-to/own-model.md")[:2]
    assert put_files(folder, example) == ["conftest.py", "calibration.yaml"]
    rows = "".join(f"{json.dumps(row)}\n" for row in reviews())
    (folder / "reviews.jsonl").write_text(rows, "utf-8")
    pytester.makepyfile(GATE)
    gated(pytester, 1)


def test_an_object_as_a_language_model(folder: Path, pytester: pytest.Pytester) -> None:
    """The last block on models, asked the sums of the section before."""
    put_files(folder, blocks("docs/how-to/own-probe.md")[:2])
    (last,) = blocks("docs/how-to/own-model.md")[2:]
    assert put_files(folder, [last]) == ["conftest.py"]
    pytester.makepyfile(GATE)
    pytester.runpytest_inprocess("--calibration-record").assert_outcomes(passed=2)


# --- the three questions of README.md ------------------------------------------------------------


def test_i_fine_tune_a_language_model(folder: Path, pytester: pytest.Pytester) -> None:
    """The first tests of the page, and its commands: record, gate one, gate several, accept."""
    (tests,) = of("python", blocks("README.md"))
    (folder / "test_calibration.py").write_text(tests.text, "utf-8")
    pytester.makeconftest(FAKES)
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


def test_i_serve_a_classifier(folder: Path, pytester: pytest.Pytester) -> None:
    """The file, the command that names a function, and the test that ``init`` writes."""
    section = blocks("README.md", "I serve a classifier")
    assert put_files(folder, section) == ["calibration.yaml"]
    rows = "".join(f"{row['text']},{row['label']}\n" for row in reviews())
    (folder / "reviews.csv").write_text(f"text,label\n{rows}", "utf-8")
    assert main(["init", "--model", "my_service:predict", "--no-ci"]) == 0
    checkpoint, function = commands(section, "pytest")
    assert checkpoint == ["--calibration-model=runs/sentiment", "--calibration-record"]
    assert function.pop() == "--calibration-record"
    gated(pytester, 1, *function)
