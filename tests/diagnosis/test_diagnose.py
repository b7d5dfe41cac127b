"""The whole diagnosis: finite on anything, bounded in time and memory, and deterministic."""

from __future__ import annotations

import math
import subprocess
import sys
import tracemalloc
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
from counting import calls
from hypothesis import given, settings
from hypothesis import strategies as st
from known_calibration import calibrated, sharpened, two_runs

from pytest_calibration.diagnosis import Diagnosis, Figure, diagnose, figure_lines
from pytest_calibration.diagnosis.slices import SliceMeasurement
from pytest_calibration.errors import MetricError, PredictionsError
from pytest_calibration.measurement import measure
from pytest_calibration.predictions import Predictions


def numbers(value: Any, where: str = "d") -> list[tuple[str, float]]:
    """Every float within a value, with where it stands."""
    if isinstance(value, float):
        return [(where, value)]
    if is_dataclass(value) and not isinstance(value, SliceMeasurement):
        return [
            found
            for field in fields(value)
            for found in numbers(getattr(value, field.name), f"{where}.{field.name}")
        ]
    if isinstance(value, tuple):
        return [found for i, one in enumerate(value) for found in numbers(one, f"{where}[{i}]")]
    return []


def sound(d: Diagnosis) -> None:
    """What holds for every diagnosis."""
    for where, number in numbers(d):
        assert math.isfinite(number), where
    for interval in (d.signed_gap, d.slope, d.auroc, d.regime.margin):
        assert interval is None or interval.low <= interval.value <= interval.high
    assert "nan" not in d.paragraph
    assert d.paragraph.endswith(".")
    assert "  " not in d.paragraph
    assert "\n" not in d.paragraph
    for line in d.lines():
        assert len(line) <= 100
        assert line.isprintable()
        assert "nan" not in line.split()


@st.composite
def runs(draw: st.DrawFn) -> tuple[Predictions, Predictions | None]:
    """Predictions of every kind, with a baseline on some of their items or none."""
    n, k = draw(st.integers(1, 70)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    scale = draw(st.sampled_from([0.0, 0.3, 1.0, 5.0, 60.0, 2000.0]))

    def side() -> Predictions:
        labels = rng.integers(0, k, n)
        if draw(st.booleans()):
            p = Predictions.from_logits(scale * rng.standard_normal((n, k)), labels)
        else:
            confidence = rng.choice([0.0, 0.2, 0.5, 1.0, rng.random()], n)
            right = draw(st.sampled_from([0.0, 0.5, 1.0]))
            p = Predictions.from_confidence(confidence, rng.random(n) < right)
        if draw(st.booleans()):
            p = replace(p, option_mass=rng.random(n))
        if draw(st.booleans()):
            p = replace(p, groups=rng.integers(0, draw(st.integers(1, n)), n).astype(str))
        if draw(st.booleans()):
            p = replace(p, slices=rng.choice(["a", "b\x1b[31m", "漢" * 50], n))
        return p

    p = side()
    if not draw(st.booleans()):
        return p, None
    part = rng.permutation(n)[: draw(st.integers(1, n))]
    return p, side().take(part)


@settings(max_examples=300, deadline=None)
@given(runs(), st.booleans(), st.sampled_from([1, 5, 15]))
def test_every_number_is_finite(
    both: tuple[Predictions, Predictions | None], base_model: bool, bins: int
) -> None:
    """One item or many, certain or uniform, all right or all wrong: no NaN and no error."""
    p, baseline = both
    sound(diagnose(p, baseline, base_model=base_model, bins=bins))


def test_a_pair_of_arrays_is_predictions() -> None:
    """As everywhere else: (probabilities, labels), for either side."""
    p = sharpened(200, 1)
    pair = (p.probabilities, p.labels)
    assert diagnose(pair, pair).paragraph == diagnose(p, p).paragraph
    with pytest.raises(PredictionsError, match="expected Predictions or a pair"):
        diagnose("p")  # type: ignore[arg-type]
    with pytest.raises(MetricError, match="bins must be at least 1, got 0"):
        diagnose(p, bins=0)


def test_the_head_of_a_diagnosis_is_what_measure_says() -> None:
    """n, units, accuracy, confidence, gap, ECE and AUROC, in the bins that were asked for."""
    p = replace(sharpened(600, 1), groups=np.array([f"{i // 3}" for i in range(600)]))
    d = diagnose(p, bins=10)
    m = measure(p, "ece", bins=10)
    assert (d.n, d.units, d.unit, d.bins) == (600, 200, "item", 10)
    assert (d.accuracy, d.mean_confidence) == (m.accuracy, m.mean_confidence)
    assert (d.ece.value, d.ece.low, d.ece.high) == (m.value, m.low, m.high)
    auroc = measure(p, "auroc")
    assert d.auroc is not None
    assert (d.auroc.value, d.auroc.low, d.auroc.high) == (auroc.value, auroc.low, auroc.high)
    assert diagnose(p).bins == 15


def test_the_same_items_have_the_same_diagnosis() -> None:
    """Nothing is drawn at random."""
    a, b = two_runs(500, 3, 1.5)
    assert diagnose(b, a, base_model=True) == diagnose(b, a, base_model=True)


def test_no_step_is_done_item_by_item() -> None:
    """Eight times the items, with a parent, take at most a quarter more calls."""

    def work(n: int) -> int:
        before, after = two_runs(n, 3, 1.6)
        return calls(lambda: diagnose(after, before, base_model=True))

    assert work(8_000) < 1.25 * work(1_000)


def test_memory_grows_with_the_items_alone() -> None:
    """Peak memory per item is the same for 20,000 items as for 80,000, within a fifth."""

    def peak(n: int) -> float:
        p = sharpened(n, 1)
        tracemalloc.start()
        diagnose(p)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most / n

    assert peak(80_000) < 1.2 * peak(20_000)


def test_it_needs_numpy_alone() -> None:
    """Neither scipy nor scikit-learn, torch, YAML or pytest is loaded."""
    code = (
        "import sys, numpy as np\n"
        "from pytest_calibration.diagnosis import diagnose\n"
        "rng = np.random.default_rng(0)\n"
        "diagnose((rng.random(90), rng.random(90) < 0.5)).paragraph\n"
        "print(*[m for m in ('scipy', 'sklearn', 'torch', 'yaml', 'pytest') if m in sys.modules])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []


def test_where_nothing_is_off_nothing_is_found() -> None:
    """A calibrated model of 2,000 items: no bins, no advice, no regime."""
    d = diagnose(calibrated(2000, 3))
    assert (d.direction, d.problem) == ("calibrated", "none")
    assert d.worst_bins == d.worst_slices == ()
    assert d.change is d.base_temperature is d.option_mass is None
    assert d.notes == ()


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_a_figure_without_text_is_a_line(text: str) -> None:
    """A report may hold one: its label is shown."""
    (line,) = figure_lines([Figure("regime", text)])
    assert line.rstrip() == "regime"
