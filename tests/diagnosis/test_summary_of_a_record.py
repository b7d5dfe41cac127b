"""A stored baseline holds no probabilities: its summary is put beside the model's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from samples import predictions

from pytest_calibration.baselines import Baselines
from pytest_calibration.baselines.check import compare_with_stored
from pytest_calibration.diagnosis import diagnose
from pytest_calibration.gate.strictness import Strictness
from pytest_calibration.metrics.sharpness import sharpness
from pytest_calibration.predictions import Predictions
from pytest_calibration.reports.model import result_of

BASE = predictions(hostile=False)
HOT = predictions(sharpen=2.5, model="sft", hostile=False)
BARE = replace(BASE, probabilities=None, labels=None, label_logprobs=None, option_mass=None)


def test_entropy_mass_and_answers_stand_beside_the_models() -> None:
    """They are those of the summary; no change item by item is claimed."""
    stored = sharpness(BASE)
    found = diagnose(HOT, BARE, stored=stored)
    assert found.collapse.mean_entropy is not None
    assert found.collapse.mean_entropy.baseline == stored.mean_entropy
    assert found.collapse.mean_entropy.change is None
    assert found.collapse.answered_before == stored.answers
    assert found.option_mass is not None
    assert found.option_mass.contrast is not None
    assert found.option_mass.contrast.baseline == stored.option_mass
    assert found.option_mass.contrast.change is None
    lines = list(found.lines())
    assert any(line.startswith("entropy") and " -> " in line for line in lines)
    assert any(line.startswith("  before") for line in lines)


def test_what_is_known_item_by_item_wins() -> None:
    """With probabilities on both sides the summary changes nothing."""
    assert diagnose(HOT, BASE, stored=sharpness(HOT)) == diagnose(HOT, BASE)


def test_a_summary_of_other_options_is_not_put_beside() -> None:
    """Three options say nothing of four; a model without a table has no entropy to compare."""
    three = sharpness(Predictions.from_probabilities(np.full((9, 3), 1 / 3), [0] * 9))
    assert diagnose(HOT, BARE, stored=three).collapse.answered_before is None
    found = diagnose(BARE, BARE, stored=sharpness(BASE))
    assert found.collapse.mean_entropy is None
    assert found.option_mass is None


def test_the_gate_reads_it_from_the_record(tmp_path: Path) -> None:
    """A failure against a stored baseline has entropy and answers before and after."""
    store = Baselines(tmp_path)
    store.record(BASE)
    detail = result_of(compare_with_stored(HOT, store, Strictness())).detail
    assert detail is not None
    assert detail.diagnosis is not None
    collapse, summary = detail.diagnosis.collapse, sharpness(BASE)
    assert collapse.mean_entropy is not None
    assert collapse.mean_entropy.baseline == pytest.approx(summary.mean_entropy, abs=1e-6)
    assert collapse.answered_before == pytest.approx(summary.answers, abs=1e-6)
