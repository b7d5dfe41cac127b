"""``--calibration-accept REASON``: replaces what is better, worse or not comparable."""

from __future__ import annotations

import os

import pytest
import yaml


def test_reason_and_old_summary_stay_in_the_file(recorded) -> None:
    """Accepting a worse model keeps why, what was there, and the first accepted value."""
    old = yaml.safe_load((recorded.baselines / "facts.yaml").read_text())
    assert recorded.facts("hot", "--calibration-accept=v3, signed off").ret == 0
    new = yaml.safe_load((recorded.baselines / "facts.yaml").read_text())
    entry = new["superseded"][0]
    assert entry["reason"] == "v3, signed off"
    assert entry["ece"] == old["metrics"]["ece"]
    assert entry["model"] == "base"
    assert new["anchor"] == old["anchor"] | {"steps": 1}
    assert new["metrics"]["ece"] > old["metrics"]["ece"] + 0.02
    # Its own items, and those of the anchor.
    assert len(list(recorded.baselines.glob("*.npz"))) == 2


def test_better_model_may_be_accepted(project) -> None:
    """A better model passes, the summary says it may be accepted, and accepting stores it."""
    assert project.facts("hot", "--calibration-record").ret == 0
    result = project.facts("base")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["better than the baseline: facts on base;*"])
    assert project.facts("base", "--calibration-accept=better").ret == 0
    assert "reason: better" in (project.baselines / "facts.yaml").read_text()


def test_equal_model_is_not_replaced(recorded) -> None:
    """What passes as it is stays as it is, to the byte."""
    stored = recorded.files()
    assert recorded.facts("base", "--calibration-accept=why not").ret == 0
    assert recorded.files() == stored


def test_missing_record_is_not_added(project) -> None:
    """Accepting replaces; adding is what --calibration-record does."""
    result = project.facts("base", "--calibration-accept=new")
    assert result.ret == 1
    assert not project.baselines.exists()


def test_not_comparable_is_replaced(recorded) -> None:
    """Another scoring mode under the same name is not comparable, until accepted."""
    recorded.write("calibration.yaml", "probes: {facts: {kind: facts, mode: whole_entity}}\n")
    refused = recorded.facts("base")
    assert refused.ret == 1
    refused.stdout.fnmatch_lines(
        [
            "*not comparable: probe facts*",
            "*the probe is not the same: mode is whole_entity, the baseline has*",
        ]
    )
    assert recorded.facts("base", "--calibration-accept=whole entities now").ret == 0
    assert recorded.facts("base").ret == 0


PLACEHOLDERS = [" ", " \t ", "\u200b", "...", "REASON", "<reason>", '"REASON"', "[Reason]"]


@pytest.mark.parametrize("reason", PLACEHOLDERS)
def test_reason_must_be_readable(recorded, reason: str) -> None:
    """A blank reason, or the placeholder of the printed command, is a usage error."""
    stored = recorded.files()
    result = recorded.facts("hot", f"--calibration-accept={reason}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*--calibration-accept needs a reason that a reviewer can read, got *; write why the*"]
    )
    assert recorded.files() == stored


@pytest.mark.parametrize(
    "place",
    [
        *("tests/test_project.py", "tests/test_project.py::test_nothing_got_worse", "tests", "."),
        *("tests/", "runs/hot", "test_project.py", "tests/gone.py", "../{name}/tests", "{path}"),
        *("{path}/tests/test_project.py", "tests/test_project.py::test_nothing_got_worse[hot-a b]"),
        *("tests/gone.py::test_a[x y]", "TestIt::test_it"),
    ],
)
@pytest.mark.parametrize("detached", [True, False], ids=["two-words", "one-word"])
def test_a_place_of_tests_is_no_reason(recorded, place: str, detached: bool) -> None:
    """A path, folder or test id that was swallowed as the reason replaces nothing."""
    place = place.format(path=recorded.path, name=recorded.path.name)
    stored = recorded.files()
    flag = "--calibration-accept"
    result = recorded.facts("hot", *([flag, place] if detached else [f"{flag}={place}"]))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--calibration-accept *reason*"])
    assert recorded.files() == stored


def test_a_module_is_no_reason_where_modules_are_named(recorded) -> None:
    """Under --pyargs the module that follows the flag is what was to be run."""
    result = recorded.facts("hot", "--pyargs", "--calibration-accept", "pytest_calibration.suite")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*took 'pytest_calibration.suite', which is a place of tests*"])
    assert recorded.facts("hot", "--pyargs", "tests", "--calibration-accept=v3.1").ret == 0


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        (os.fsdecode(b"Gr\xf6\xdfe"), r"Gr\udcf6\udcdfe"),
        ("cut \ud83d", r"cut \ud83d"),
        ("Größe, 大きさ", "Größe, 大きさ"),
        ("see docs/new.md: tests::old are gone", "see docs/new.md: tests::old are gone"),
    ],
    ids=["latin-1", "half-a-pair", "unicode", "sentence"],
)
def test_any_text_can_be_a_reason(recorded, typed: str, stored: str) -> None:
    """A byte that is no UTF-8 is written as an escape; a sentence may name what it likes."""
    result = recorded.facts("hot", f"--calibration-accept={typed}")
    assert result.ret == 0, result.outlines
    text = (recorded.baselines / "facts.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["superseded"][0]["reason"] == stored


def test_with_several_models_is_a_usage_error(recorded) -> None:
    """Two models cannot both replace one record."""
    result = recorded.run(
        "--calibration-model=runs/base", "--calibration-model=runs/hot", "--calibration-accept=x"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_limit_below_the_stored_n_is_a_usage_error(recorded) -> None:
    """A smaller set cannot take the place of a larger one by a forgotten limit."""
    result = recorded.facts("hot", "--calibration-accept=x", "--calibration-limit=200")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_above_the_stored_ece_is_replaced(recorded) -> None:
    """assert_ece_below against a baseline fails above its ECE, until accepted."""
    recorded.write(
        "tests/test_project.py",
        """
from pytest_calibration import assert_ece_below

def test_it(calibration, calibration_baseline):
    assert_ece_below(calibration.run("facts"), calibration_baseline)
""",
    )
    refused = recorded.facts("hot")
    assert refused.ret == 1
    refused.stdout.fnmatch_lines(["*above the limit: probe facts on hot*", "*to accept it:*"])
    assert recorded.facts("hot", "--calibration-accept=new data").ret == 0
    assert recorded.facts("hot").ret == 0
