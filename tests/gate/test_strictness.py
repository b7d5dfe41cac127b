"""How strict the gate is: defaults, ranges, and which of several values counts."""

from __future__ import annotations

import math
import subprocess
import sys
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.errors import MetricError
from pytest_calibration.gate.strictness import Strictness, range_error

NAMES = ("tolerance", "alpha", "accuracy_tolerance", "max_undetected")


def test_the_defaults_are_those_of_the_documentation() -> None:
    """Tolerances 0.02, alpha 0.05, and 0.05 beyond the tolerance may stay undetected."""
    assert Strictness() == Strictness(0.02, 0.05, 0.02, 0.05)


@pytest.mark.parametrize("name", NAMES)
@given(value=st.floats())
def test_a_value_is_accepted_exactly_in_its_range(name: str, value: float) -> None:
    """[0, 1) for tolerances, (0, 0.5) for alpha; NaN and infinity lie in no range."""
    fits = 0 < value < 0.5 if name == "alpha" else 0 <= value < 1
    assert (range_error(name, value) == "") is fits


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["0.1", True, [0.1], Decimal("0.1"), 0.1j], ids=repr)
def test_what_is_no_number_is_refused(name: str, value: object) -> None:
    """Text, a truth value or a list is no number, and the sentence shows it."""
    expected = "above 0 and below 0.5" if name == "alpha" else "of at least 0 and below 1"
    assert range_error(name, value) == f"must be a number {expected}, got {value!r}"


def test_only_the_accuracy_guard_can_be_switched_off() -> None:
    """None is a value of ``accuracy_tolerance`` alone."""
    assert [name for name in NAMES if not range_error(name, None)] == ["accuracy_tolerance"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerance": 2}, "tolerance must be a number of at least 0 and below 1, got 2."),
        ({"alpha": 0.5}, "alpha must be a number above 0 and below 0.5, got 0.5."),
        ({"accuracy_tolerance": -1}, "accuracy_tolerance must be a number of at least 0 and belo"),
        ({"max_undetected": math.nan}, "max_undetected must be a number of at least 0 and below"),
    ],
)
def test_a_bad_setting_is_one_sentence(settings: dict[str, Any], message: str) -> None:
    """The error names the setting, its range and the value."""
    with pytest.raises(MetricError) as error:
        Strictness(**settings)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_numbers_of_numpy_become_floats(kind: type[np.floating[Any]]) -> None:
    """A scalar of numpy is a number, and is kept as a Python float."""
    assert type(Strictness(tolerance=kind(0.25)).tolerance) is float  # type: ignore[arg-type]
    assert Strictness(tolerance=kind(0.25)) == Strictness(tolerance=0.25)  # type: ignore[arg-type]


def test_the_first_value_given_counts() -> None:
    """Of several values the first that is not None counts; 0 is a value; with none, it stays."""
    base = Strictness(tolerance=0.3, alpha=0.1)
    assert base.with_first(tolerance=(None, 0.0, 0.2)).tolerance == 0.0
    assert base.with_first(tolerance=(0.1, 0.2), alpha=(None,)) == Strictness(0.1, 0.1)
    assert base.with_first(tolerance=(None, None), alpha=()) == base


def test_a_value_that_is_chosen_is_checked() -> None:
    """What comes from a call or a file is checked like any other value."""
    with pytest.raises(MetricError, match="alpha must be a number above 0"):
        Strictness().with_first(alpha=(None, 0.7))


def test_importing_it_loads_no_numpy() -> None:
    """Options and configuration check ranges at the start of every run."""
    code = "import sys, pytest_calibration.gate.strictness; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
