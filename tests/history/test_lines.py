"""One line of a history: what it says of predictions, and that nothing is lost in its text."""

from __future__ import annotations

import json
import math
import re
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration import Predictions, Signature, measure
from pytest_calibration.history.checkpoints import Checkpoint
from pytest_calibration.history.lines import Line, Number, signature_digest
from pytest_calibration.metrics import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "drift.md"


@pytest.fixture
def table() -> Predictions:
    """Predictions that give every metric."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), 200)
    labels = rng.integers(0, 4, 200)
    groups = [f"g{i // 4}" for i in range(200)]
    return Predictions.from_probabilities(probabilities, labels, groups=groups, probe="mcq")


def test_every_scalar_metric_is_there_as_it_is_measured(table: Predictions) -> None:
    """With interval and noise floor, to six digits; a floor that there is none of is None."""
    line = Line.of(table, model="m")
    assert {*line.metrics} == {*METRICS}
    for name, number in line.metrics.items():
        measured = measure(table, name)
        for key in ("value", "low", "high", "noise_floor"):
            told, true = getattr(number, key), getattr(measured, key)
            if math.isfinite(true):
                assert told == pytest.approx(true, rel=1e-5, abs=1e-300)
            else:
                assert told is None


def test_what_cannot_be_measured_is_left_out() -> None:
    """Classes that are not there, and an AUROC where all answers are right."""
    line = Line.of(Predictions.from_confidence([0.5, 0.6, 0.9], [True, True, True]), model="m")
    assert "ece" in line.metrics
    assert not {"auroc", "classwise_ece", "nll"} & {*line.metrics}


def test_the_line_says_what_was_measured(table: Predictions) -> None:
    """Of which checkpoint, when, on how many items and units."""
    checkpoint = Checkpoint("runs/sft/checkpoint-4", 4, 0.5, 1000)
    line = Line.of(
        table,
        checkpoint=checkpoint,
        stage="sft",
        parent="runs/base",
        verdict="passed",
        commit="c" * 40,
        time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))),
    )
    assert line.checkpoint == checkpoint
    assert line.time == "2026-01-02T01:04:05Z"
    assert (line.n, line.units, line.unit, line.probe) == (200, 50, "item", "mcq")
    assert (line.stage, line.parent, line.verdict) == ("sft", "runs/base", "passed")
    assert line.signature == signature_digest(table.signature)
    now = datetime.now(UTC)
    told = datetime.strptime(Line.of(table, model="m").time, "%Y-%m-%dT%H:%M:%SZ")
    assert abs(told.replace(tzinfo=UTC) - now) < timedelta(minutes=5)


def test_the_model_of_the_signature_is_the_default(table: Predictions) -> None:
    """What a caller or the checkpoint names wins."""
    named = table.with_signature(model="base")
    assert Line.of(named).model == "base"
    assert Line.of(named, checkpoint=Checkpoint("runs/base")).model == "runs/base"
    assert Line.of(named, model="x", checkpoint=Checkpoint("runs/base", 3)).checkpoint == (
        Checkpoint("x", 3)
    )


def test_the_digest_is_of_what_must_agree() -> None:
    """Settings that may differ do not change it."""
    one = Signature({"kind": "facts", "shots": "3"}, {"dtype": "float32"})
    assert signature_digest(one) == signature_digest(Signature(one.hard, {"dtype": "bfloat16"}))
    assert signature_digest(one) != signature_digest(Signature({"kind": "facts", "shots": "4"}))


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
LINES = st.builds(
    Line,
    time=st.text(),
    model=st.text(),
    probe=st.text(),
    revision=st.text(),
    stage=st.text(),
    parent=st.text(),
    step=st.none() | st.integers(0, 2**63 - 1),
    epoch=st.none() | st.floats(0, 1e9),
    n=st.integers(1, 2**63 - 1),
    units=st.integers(1, 2**63 - 1),
    metrics=st.dictionaries(
        st.text(), st.builds(Number, NUMBERS, st.none() | NUMBERS, noise_floor=st.none() | NUMBERS)
    ),
    items=st.sampled_from(["", "0" * 64]),
)


@given(LINES)
def test_a_line_comes_back_as_it_was(line: Line) -> None:
    """Its text is one line of ASCII that any JSON reader takes."""
    text = line.to_json()
    assert text.isascii()
    assert len(text.splitlines()) == 1
    assert {*json.loads(text)} == {field.name for field in fields(Line)}
    for given_as in (text, text.encode()):
        assert Line.from_json(given_as) == line


@pytest.mark.parametrize("text", ["", "3", "[]", "{}", '{"format":1}', '{"format":1,"n":"x"}'])
def test_what_is_no_line_is_a_value_error(text: str) -> None:
    """Of which one message says what is wrong."""
    with pytest.raises(ValueError, match=r"^(is no JSON|has no format|the line lacks|n must be)"):
        Line.from_json(text)


def documented() -> dict[str, Any]:
    """The example line in the documentation."""
    (text,) = [
        line for line in PAGE.read_text("utf-8").splitlines() if line.startswith('{"format":')
    ]
    return dict(json.loads(text))


def test_the_documented_line_is_one() -> None:
    """It has every field, in their order, and can be read."""
    example = documented()
    assert [*example] == [field.name for field in fields(Line)]
    assert Line.from_json(json.dumps(example)).metrics["ece"].value == 0.0413
    cells = re.findall(r"^\| (`[^|]+`) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert {*example} <= {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
