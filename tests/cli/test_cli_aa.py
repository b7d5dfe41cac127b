"""``pytest-calibration aa``."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeModel
from known_calibration import calibrated, exact

from pytest_calibration.errors import MissingExtra
from pytest_calibration.gate.aa import AASettings, aa_check
from pytest_calibration.gate.strictness import Strictness
from pytest_calibration.gate.verdict import compare
from pytest_calibration.models.cache import Cache
from pytest_calibration.predictions import Predictions, Signature
from pytest_calibration.probes.facts import Facts

EXAMPLE = Path(__file__).parents[2] / "example_project"


class Model(FakeModel):
    """A fake that can be let go, as a loaded model can.

    Args:
        name: also says what it does: ``hot`` is over-confident, ``other`` knows other things.
        log: where it writes what is done with it.
    """

    def __init__(self, name: str, log: list[str]) -> None:
        super().__init__(name, sharpen=0.6 if name == "hot" else 0.0, salt=name * (name == "other"))
        self.log = log

    def next_token(self, *args: Any, **settings: Any) -> Any:
        """Score, and write that down."""
        self.log.append(f"{self.name} scores")
        return super().next_token(*args, **settings)

    def release(self) -> None:
        """Write that down."""
        self.log.append(f"{self.name} released")


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Work in an empty folder with fakes for models; return what is done with them."""
    log: list[str] = []

    def load(spec: str, settings: Any, cache: Cache | None) -> Model:
        log.append(
            f"load {spec} {settings.get('dtype', 'auto')}{f' {cache.folder}' if cache else ''}"
        )
        return Model(spec, log)

    monkeypatch.setattr("pytest_calibration.models.loading.load_model", load)
    monkeypatch.chdir(tmp_path)
    return log


def probes_of(text: str) -> list[str]:
    """Return the probes that blocks were printed for."""
    return re.findall(r"^([\w-]+): \d+ pairs of", text, re.MULTILINE)


# --- records -------------------------------------------------------------------------------------


def test_a_record_is_checked_in_words(command, stored, runs) -> None:
    """The block holds the numbers of ``aa_check`` on the stored items, each named."""
    record = stored(runs[0])
    result = command("aa", record.path, "--trials", 60)
    assert (result.code, result.err) == (0, "")
    expected = aa_check(on_disk(record.predictions), settings=AASettings(trials=60))
    text = result.out
    assert text.startswith("quiz: 60 pairs of 400 items in 100 groups\n")
    assert (
        f"drawn from one set of predictions: ECE {expected.ece:.3f}, "
        f"accuracy {expected.accuracy:.3f}, mean confidence {expected.mean_confidence:.3f}\n"
    ) in text
    assert f"  {100 * expected.changed:.1f} % of the answers are right on one side only" in text
    assert f"tolerance 0.02, alpha 0.05, seed {expected.seed}\n" in text
    rate = expected.false_alarms
    low, high = rate.interval
    assert (
        f"false alarms: {100 * rate.share:.1f} % [{100 * low:.1f} %, {100 * high:.1f} %] "
        f"({rate.count} of 60) of the pairs without change fail\n"
    ) in text
    bound = math.ceil(1000 * expected.bound - 1e-6) / 10
    assert f"bound that a verdict states: at most {bound:.1f} %\n" in text
    few = expected.inconclusive
    assert f"inconclusive: {100 * few.share:.1f} % [" in text
    assert f"({few.count} of 60) of the pairs without change\n" in text
    heads, *rows = (re.split(r" {2,}", line.strip()) for line in result.lines[-5:])
    assert heads == ["worsening", "sharpened", "flattened"]
    for row, sharpened, flattened in zip(rows, expected.power[:4], expected.power[4:], strict=True):
        assert row[0] == f"{sharpened[0].worsening:g}"
        for cell, (_, power) in ((row[1], sharpened), (row[2], flattened)):
            assert power is not None
            shares = (power.share, *power.interval)
            assert cell == "{:.1f} % [{:.1f} %, {:.1f} %]".format(*(100 * s for s in shares))


def on_disk(predictions: Predictions) -> Predictions:
    """Return predictions as a record holds them: float32."""
    return replace(predictions, confidence=predictions.confidence.astype(np.float32))


def test_components_are_named_where_they_fail(command, stored, runs) -> None:
    """With a strict gate there are false alarms, and each component that fails is named."""
    path = stored(runs[0]).path
    strict = ("--trials", 150, "--n", 300, "--tolerance", 0, "--alpha", 0.45)
    tree = json.loads(command("aa", path, *strict, "--json").out)["probes"]["quiz"]
    assert tree["false_alarms"]["count"] > 3
    (line,) = (x for x in command("aa", path, *strict).lines if "by component: " in x)
    named = dict(re.findall(r"([\w -]+?) ([\d.]+) %", line.partition(": ")[2].replace(", ", ",")))
    for name, share in tree["components"].items():
        assert (name in named) == (share > 0)
        if share > 0:
            assert float(named[name]) == pytest.approx(100 * share, abs=0.06)


def test_json_holds_the_numbers_of_the_check(command, stored, runs) -> None:
    """Every leaf is a number, under the names of the check."""
    record = stored(runs[0])
    out = command(
        "aa", record.path, "--trials", 20, "--n", 200, "--tolerance", 0.015, "--alpha", 0.1,
        "--accuracy-tolerance", 0.05, "--max-undetected", 0.2, "--changed", 0.2, "--seed", 9,
        "--json",
    ).out  # fmt: skip
    strictness = Strictness(0.015, 0.1, 0.05, 0.2)
    settings = AASettings(n=200, trials=20, strictness=strictness, changed=0.2, seed=9)
    expected = aa_check(on_disk(record.predictions), settings=settings)
    tree = json.loads(out)["probes"]["quiz"]
    assert [tree[key] for key in ("trials", "tolerance", "alpha")] == [20, 0.015, 0.1]
    for key in ("n", "units", "seed", "ece", "accuracy", "mean_confidence", "changed",
                "within_groups", "bound"):  # fmt: skip
        assert tree[key] == pytest.approx(getattr(expected, key)), key
    assert tree["false_alarms"]["count"] == expected.false_alarms.count
    assert tree["inconclusive"]["share"] == expected.inconclusive.share
    assert tree["two_sets"] == 0
    assert set(tree["components"]) == set(expected.components)
    for one, power in expected.power:
        assert power is not None
        entry = tree["power"][one.kind][f"{one.worsening:g}"]
        assert entry["setting"] == pytest.approx(one.setting)
        assert (entry["count"], entry["low"]) == (power.count, power.interval[0])


def test_no_accuracy_guard(command, stored, runs) -> None:
    """``none`` switches the guard off, and nothing else."""
    path = stored(runs[0]).path
    tree = json.loads(
        command("aa", path, "--trials", 2, "--accuracy-tolerance", "none", "--json").out
    )
    assert "accuracy" not in tree["probes"]["quiz"]["components"]
    assert "signed gap" in tree["probes"]["quiz"]["components"]


def test_the_correlation_within_groups_is_printed(command, stored) -> None:
    """Outcomes alike within a group are printed with their correlation; without groups, none is."""
    alike = calibrated(100, 1)
    four = Predictions.from_confidence(
        np.repeat(alike.confidence, 4),
        np.repeat(alike.correct, 4),
        groups=np.repeat(np.arange(100), 4),
        probe="quiz",
    )
    words = "; those of a group go together (correlation "
    (line,) = (x for x in command("aa", stored(four).path, "--trials", 1).lines if words in x)
    assert float(line.partition(words)[2].rstrip(")")) > 0.9
    assert words not in command("aa", stored(alike, "second").path, "--trials", 1).out


def test_what_is_out_of_reach_is_printed(command, stored) -> None:
    """A model that is certain cannot be made surer or flatter: the table says so, JSON too."""
    path = stored(exact({1.0: 0.2}, each=100)).path
    result = command("aa", path, "--trials", 3)
    assert result.code == 0
    assert result.out.count("out of reach (at most 0.000)") == 8
    tree = json.loads(command("aa", path, "--trials", 3, "--json").out)["probes"]["exact"]
    assert tree["power"]["sharpened"]["0.04"] == {"largest": 0.0}


def test_too_few_items_have_no_bound(command, stored) -> None:
    """Below 50 items nothing is decided: everything is inconclusive and no bound is printed."""
    result = command("aa", stored(calibrated(30, 1)).path, "--trials", 5)
    assert "inconclusive: 100.0 %" in result.out
    assert "bound" not in result.out


def test_predictions_in_a_file_are_checked(command, tmp_path, runs) -> None:
    """As a record of the same items is, and two files of one probe change places."""
    for name, run in zip(("one", "two"), runs, strict=True):
        pairs = zip(run.confidence, run.correct, strict=True)
        rows = [f"{i},{i // 4},{c},{int(k)}" for i, (c, k) in enumerate(pairs)]
        text = "\n".join(["id,group,confidence,correct", *rows])
        (tmp_path / f"{name}.csv").write_text(text)
    one, two = (tmp_path / f"{name}.csv" for name in ("one", "two"))
    result = command("aa", one, "--trials", 20, "--json")
    expected = aa_check(replace(runs[0], probe="one"), settings=AASettings(trials=20))
    found = json.loads(result.out)["probes"]["one"]
    assert (result.code, found["n"]) == (0, 400)
    assert found["ece"] == pytest.approx(expected.ece, abs=0.02)
    both = command("aa", one, "--against", two, "--trials", 20)
    assert "drawn from two sets that change places" in both.out


def test_the_tolerance_of_a_record_counts_unless_one_is_given(command, stored, runs) -> None:
    """What was written into the record by hand is the tolerance; a flag wins over it."""
    path = stored(runs[0], tolerance=0.04).path
    assert "tolerance 0.04," in command("aa", path, "--trials", 1).out
    assert "tolerance 0.01," in command("aa", path, "--trials", 1, "--tolerance", 0.01).out


def test_two_records_change_places(command, stored, runs) -> None:
    """With --against the real differences of two records are used."""
    first, second = stored(runs[0]), stored(runs[1], "second")
    result = command("aa", first.path, "--against", second.path, "--trials", 30)
    assert result.code == 0
    both = on_disk(first.predictions), on_disk(second.predictions)
    expected = aa_check(*both, AASettings(trials=30))
    assert "drawn from two sets that change places: " in result.out
    differ = np.mean(runs[0].correct != runs[1].correct)
    assert f"  {100 * differ:.1f} % of the answers are right on one side only\n" in result.out
    tree = json.loads(
        command("aa", first.path, "--against", second.path, "--trials", 30, "--json").out
    )["probes"]["quiz"]
    assert tree["two_sets"] == 1
    assert tree["false_alarms"]["count"] == expected.false_alarms.count
    assert "within_groups" not in tree


# --- models --------------------------------------------------------------------------------------


def test_a_model_is_asked_each_probe(command, models) -> None:
    """Each probe named is run once, under the limit, and gets a block of its own."""
    result = command(
        "aa", "--model", "base", "--probe", "facts", "--probe", "next_token", "--probe", "facts",
        "--limit", 120, "--trials", 3,
    )  # fmt: skip
    assert result.code == 0, result.err
    assert probes_of(result.out) == ["facts", "next_token"]
    assert models[0] == "load base auto"
    assert models[-1] == "base released"
    predictions = Facts("facts").run(Model("base", []), limit=120)
    assert f"facts: 3 pairs of {predictions.n:,} items" in result.out
    assert f"seed {int(predictions.items_digest, 16)}" in result.out


def test_a_parent_changes_places_with_the_model(command, models) -> None:
    """With --parent both are asked, the parent first and released, and paired by item."""
    result = command(
        "aa", "--model", "base", "--parent", "hot", "--probe", "facts", "--limit", 200,
        "--trials", 60, "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert models == [
        "load base auto", "load hot auto", "base released",
        "hot scores", "hot released", "base scores", "base released",
    ]  # fmt: skip
    tree = json.loads(result.out)["probes"]["facts"]
    assert (tree["two_sets"], tree["changed"]) == (1, 0.0)
    base, hot = (Facts("facts").run(Model(name, []), limit=200) for name in ("base", "hot"))
    assert compare(hot, base).state == "regressed"
    assert tree["false_alarms"]["share"] < 0.1


def test_a_cache_folder_is_given_to_the_models(command, models) -> None:
    """With --cache-dir both models keep their answers in that folder."""
    result = command(
        "aa", "--model", "base", "--parent", "hot", "--probe", "facts", "--limit", 60,
        "--trials", 2, "--cache-dir", "kept",
    )  # fmt: skip
    assert result.code == 0, result.err
    folder = Path("kept", "answers")
    assert models[:2] == [f"load base auto {folder}", f"load hot auto {folder}"]


CONFIG = """
model: {dtype: float32}
tolerance: 0.05
alpha: 0.02
probes:
  mine: {kind: facts, path: rows.jsonl, limit: 60}
  strict: {kind: facts, path: rows.jsonl, tolerance: 0.01}
"""


@pytest.fixture
def project(models: list[str], tmp_path: Path) -> Path:
    """Write a configuration with two probes into the working folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    rows = [{"prompt": f"The number after {i} is", "answer": str(i + 1)} for i in range(100)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    path = folder / "calibration.yaml"
    path.write_text(CONFIG, "utf-8")
    return path


def test_a_configuration_says_probes_and_settings(command, models, project) -> None:
    """Probes, limits, tolerances, alpha and model settings come from the file that is named."""
    result = command("aa", "--model", "base", "--config", project, "--trials", 2, "--json")
    assert result.code == 0, result.err
    trees = json.loads(result.out)["probes"]
    assert [(name, t["n"], t["tolerance"], t["alpha"]) for name, t in trees.items()] == [
        ("mine", 60, 0.05, 0.02), ("strict", 100, 0.01, 0.02),
    ]  # fmt: skip
    assert models[0] == "load base float32"
    result = command(
        "aa", "--model", "base", "--config", project, "--trials", 2, "--json",
        "--tolerance", 0.03, "--alpha", 0.1, "--limit", 80, "--probe", "mine",
    )  # fmt: skip
    ((name, one),) = json.loads(result.out)["probes"].items()
    assert (name, one["n"], one["tolerance"], one["alpha"]) == ("mine", 80, 0.03, 0.1)


def test_the_configuration_of_the_folder_is_found(command, project, monkeypatch) -> None:
    """As for the plugin, calibration.yaml of the working folder counts without being named."""
    monkeypatch.chdir(project.parent)
    result = command("aa", "--model", "base", "--trials", 1)
    assert probes_of(result.out) == ["mine", "strict"]


def test_built_in_probes_without_a_configuration(command, models, monkeypatch) -> None:
    """Without a configuration the built-in probes are run."""
    result = command("aa", "--model", "base", "--limit", 60, "--trials", 1)
    assert probes_of(result.out) == ["next_token", "facts", "multiple_choice"]


# --- progress ------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_progress_is_for_a_terminal_only(command, stored, runs, monkeypatch) -> None:
    """A terminal sees trials counted, and the line wiped in the end; a log sees nothing."""
    monkeypatch.setattr("pytest_calibration.cli.project.EVERY", 0.0)
    path = stored(runs[0]).path
    assert command("aa", path, "--trials", 25).err == ""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    result = command("aa", path, "--trials", 25)
    shown = [part for part in terminal.getvalue().split("\r") if part.strip()]
    assert shown[:2] == ["quiz", "quiz: 0 of 25 trials"]
    assert [text.partition(",")[0] for text in shown[2:]] == [
        f"quiz: {n} of 25 trials" for n in range(1, 26)
    ]
    assert re.fullmatch(r"quiz: 24 of 25 trials, [\d,.]+/s, [\d:]+ left", shown[-2])
    assert terminal.getvalue().endswith(f"\r{' ' * len(shown[-1])}\r")
    assert "trial" not in result.out


def test_progress_is_cut_to_the_terminal(command, stored, runs, monkeypatch) -> None:
    """A line that took two rows could not be wiped."""
    monkeypatch.setattr("pytest_calibration.cli.project.EVERY", 0.0)
    monkeypatch.setenv("COLUMNS", "20")
    terminal = Terminal()
    path = stored(runs[0]).path
    monkeypatch.setattr(sys, "stderr", terminal)
    command("aa", path, "--trials", 25)
    parts = terminal.getvalue().split("\r")
    assert "quiz: 25 of 25 t..." in parts
    assert max(map(len, parts)) < 20


def test_a_terminal_sees_which_model_is_asked_what(command, models, monkeypatch) -> None:
    """Asking a model takes longest of all: its name and the probe's are shown meanwhile."""
    # Of the counts nothing is shown, however long they take.
    monkeypatch.setattr("pytest_calibration.cli.project.EVERY", math.inf)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    command("aa", "--model", "base", "--parent", "hot", "--probe", "facts", "--trials", 1)
    shown = [part for part in terminal.getvalue().split("\r") if part.strip()]
    assert shown == ["hot, facts", "base, facts", "facts"]


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "aa needs one of two things: a stored record or a file of predictions, or --model"),
        (["a.yaml", "--model", "m"], "aa needs one of two things: a stored record or"),
        (["a.yaml", "--probe", "facts"], "aa: --probe goes with --model, not with a record."),
        (["a.yaml", "--parent", "m"], "aa: --parent goes with --model, not with a record."),
        (["a.yaml", "--config", "c"], "aa: --config goes with --model, not with a record."),
        (["a.yaml", "--cache-dir", "d"], "aa: --cache-dir goes with --model, not with a record."),
        (["a.yaml", "--limit", "5"], "aa: --limit goes with --model, not with a record."),
        (["--model", "m", "--against", "b"], "aa: --against goes with a record; a second model is"),
        (["a.yaml", "--against", "b", "--changed", "0"], "aa: --changed is for one set; two sets "),
        (["--model", "m", "--parent", "b", "--changed", ".1"], "aa: --changed is for one set; two"),
        (["a.yaml"], "a.yaml: there is no such file"),
        (["a.yaml", "--trials", "0"], "argument --trials: must lie between 1 and 1,000,000, got 0"),
        (["a.yaml", "--n", "1"], "argument --n: must lie between 2 and 1,000,000, got 1"),
        (["a.yaml", "--seed", "-1"], "argument --seed: must lie between 0 and 18,446,744,073,709"),
        (["a.yaml", "--changed", "2"], "argument --changed: must lie between 0 and 1, got 2.0"),
        (["a.yaml", "--tolerance", "1"], "argument --tolerance: must be a number of at least 0 an"),
        (["a.yaml", "--accuracy-tolerance", "off"], "argument --accuracy-tolerance: must be a num"),
        (["--model", "m", "--probe", "fact"], "unknown probe 'fact' (did you mean 'facts'?)"),
        (["--model", "m", "--config", "gone.yaml"], "gone.yaml: there is no such file"),
    ],
)
def test_wrong_usage_is_one_sentence(command, models, arguments: list[str], message: str) -> None:
    """A wrong value or combination exits 2 with one line that names it."""
    result = command("aa", *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"pytest-calibration: error: {message}")
    assert result.err.count("\n") == 1
    assert "load m auto" not in models


def test_records_that_cannot_be_compared_are_refused(command, stored, runs) -> None:
    """Two records of different settings, or of different items, are refused by name."""
    first = stored(runs[0])
    shots = replace(runs[1], signature=Signature({"shots": "3"}))
    result = command("aa", first.path, "--against", stored(shots, "second").path)
    assert result.code == 2
    assert "probe 'quiz' cannot be compared: the probe is not the same: shots is" in result.err
    other = stored(calibrated(400, 3), "third")
    result = command("aa", first.path, "--against", other.path)
    assert result.code == 2
    assert "cannot be compared: the " in result.err


def test_a_missing_engine_is_an_error(command, monkeypatch, models) -> None:
    """Without torch the error holds the install command."""

    def missing(spec: str, settings: Any, cache: Cache | None) -> None:
        raise MissingExtra('torch is not installed: pip install "pytest-calibration[hf]"')

    monkeypatch.setattr("pytest_calibration.models.loading.load_model", missing)
    result = command("aa", "--model", "m", "--probe", "facts")
    assert (result.code, result.out) == (2, "")
    assert 'pip install "pytest-calibration[hf]"' in result.err


@pytest.mark.torch
@pytest.mark.skipif(find_spec("torch") is None, reason="needs the extra `hf`")
@pytest.mark.skipif(not EXAMPLE.is_dir(), reason="the example project is not beside these tests")
def test_a_real_checkpoint_agrees_with_its_record(command) -> None:
    """The example's checkpoint, asked anew, gives the check of its committed record.

    Confidences differ in the last digits from one machine to the next, so the rates are
    compared within a few trials.
    """
    settings = ("--trials", 60, "--json")
    probe = "almanac-facts"
    asked = command(
        "aa", "--model", EXAMPLE / "checkpoints" / "base", "--config",
        EXAMPLE / "calibration.yaml", "--probe", probe, *settings,
    )  # fmt: skip
    assert asked.code == 0, asked.err
    record = EXAMPLE / "tests" / "calibration_baselines" / f"{probe}.yaml"
    (one,), (other,) = (
        json.loads(result.out)["probes"].values()
        for result in (asked, command("aa", record, *settings))
    )
    assert (one["n"], one["units"], one["seed"]) == (other["n"], other["units"], other["seed"])
    assert one["ece"] == pytest.approx(other["ece"], abs=0.005)
    assert one["false_alarms"]["share"] == pytest.approx(other["false_alarms"]["share"], abs=0.05)
    assert one["false_alarms"]["share"] < 0.05
