"""What a callback is asked for, checked before anything is trained; and the metrics it gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_calibration import calibrated

pytest.importorskip("torch")
pytest.importorskip("transformers")

from pytest_calibration import (
    Baselines,
    CalibrationCallback,
    CalibrationError,
    Facts,
    Predictions,
    metrics,
)
from pytest_calibration.training.measuring import directions, metrics_of

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a project that configures one probe."""
    monkeypatch.chdir(tmp_path)
    Path("codes.jsonl").write_text('{"prompt": "1:", "answer": "Rome"}\n', "utf-8")
    Path("calibration.yaml").write_text(
        "probes: {codes: {kind: facts, path: codes.jsonl}}\n", "utf-8"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probes": []}, "needs at least one probe, got none; give probes"),
        ({"probes": "code"}, r"unknown probe 'code' \(did you mean 'codes'\?\)"),
        ({"probes": ["codes", "codes"]}, "the probe 'codes' is given twice"),
        ({"probes": [Facts]}, "the class Facts in place of one of its objects"),
        ({"probes": 5}, "a probe has a `name`, .*, got an object of type int"),
        ({"probes": "codes", "limit": 0}, "a limit must be at least 1, got 0"),
        ({"probes": "codes", "at": "step"}, "at must be 'evaluate', 'save' or both, got 'step'"),
        ({"probes": "codes", "raise_on_regression": True}, "raise_on_regression needs a baseline"),
        ({"probes": "codes", "baseline": 0.1}, "must be a folder, Baselines or .*, got float"),
        ({"probes": "codes", "baseline": "none"}, "no baseline of probe 'codes' is stored in none"),
        ({"probes": "codes", "config": "other.yaml"}, "other.yaml"),
        ({"probes": "codes", "history": "calibration.yaml"}, "calibration.yaml"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    """Each wrong argument is one sentence, before hours of training."""
    with pytest.raises(CalibrationError, match=message):
        CalibrationCallback(**arguments)


def test_a_baseline_of_another_probe_is_refused() -> None:
    """Predictions that no probe is compared with are a mistake."""
    other = Predictions.from_confidence([0.5, 0.5], [True, False], probe="other")
    with pytest.raises(CalibrationError, match="of the probe 'other', which is not asked"):
        CalibrationCallback("codes", baseline=other)


def test_names_and_probes_may_be_mixed() -> None:
    """Names come from calibration.yaml and the built-in ones; a probe is taken as it is."""
    mine = Facts("mine", path="codes.jsonl")
    made = CalibrationCallback(["codes", "next_token", mine])
    assert made._measuring.names == ("codes", "next_token", "mine")
    assert made._measuring.probes.get("mine") is mine


def test_a_store_and_its_folder_are_the_same_baseline(project: Path) -> None:
    """A record of each probe is looked for as the callback is made."""
    rng = np.random.default_rng(0)
    Baselines(project / "stored").record(
        Predictions.from_confidence(rng.uniform(size=60), rng.uniform(size=60) < 0.5, probe="codes")
    )
    for given in ("stored", project / "stored", Baselines("stored")):
        assert CalibrationCallback("codes", baseline=given)._measuring.baseline is not None


def test_one_probe_gives_four_numbers() -> None:
    """They are those of the module metrics."""
    predictions = calibrated(200, seed=1)
    assert metrics_of([predictions], {}) == {
        f"eval_calibration_{name}": getattr(metrics, name)(predictions)
        for name in ("ece", "accuracy", "signed_gap", "brier")
    }


def test_several_probes_give_their_mean_and_each() -> None:
    """The mean is over probes, whatever their size."""
    one = Predictions.from_confidence([0.9, 0.9], [True, True], probe="one")
    two = Predictions.from_confidence([0.7] * 5, [False] * 5, probe="two")
    found = metrics_of([one, two], {})
    assert found["eval_calibration_one_ece"] == pytest.approx(0.1)
    assert found["eval_calibration_two_ece"] == pytest.approx(0.7)
    assert found["eval_calibration_ece"] == pytest.approx(0.4)
    names = [f"eval_{name}" for name in directions(["one", "two"], compared=False)]
    assert sorted(found) == sorted(names)


def test_operating_points_are_judged_in_training(project: Path) -> None:
    """A fall at a threshold of calibration.yaml counts as a regression, and is raised as one."""
    yaml, point = project / "calibration.yaml", "operating_points: [{threshold: 0.9, tolerance: 0}]"
    yaml.write_text(f"{yaml.read_text('utf-8')}{point}", "utf-8")
    i = np.arange(1000)
    before, after = (
        Predictions.from_confidence(
            np.where(i < 500, 0.95, 0.5), np.where(i < 500, i >= wrong, i % 2 == 0), probe="codes"
        )
        for wrong in (25, 40)
    )
    Baselines(project / "stored").record(before)
    for baseline in (before, "stored"):
        measuring = CalibrationCallback("codes", baseline=baseline)._measuring
        for one, fails in ((before, False), (after, True)):
            verdict = measuring.verdict(one)
            assert verdict is not None
            found = metrics_of([one], {"codes": verdict})
            assert found["eval_calibration_regressed"] == fails
        verdict = measuring.verdict(after)
        assert verdict is not None
        assert [str(v.state) for v in (verdict, *verdict.at_points)] == ["passed", "regressed"]
        with pytest.raises(AssertionError, match=r"precision regressed at 0\.9: probe codes"):
            measuring.assert_no_regression(after)
