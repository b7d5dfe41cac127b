"""An installation without torch: arrays work, and a model names the install command."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed")


def test_arrays_need_no_torch(pytester: pytest.Pytester) -> None:
    """assert_ece_below takes probabilities and labels and needs nothing but numpy."""
    pytester.makepyfile(
        """
from pytest_calibration import assert_ece_below

def test_it():
    assert_ece_below(([[0.9, 0.1], [0.2, 0.8]], [0, 1]), 0.2)
"""
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_a_model_names_the_install_command(pytester: pytest.Pytester) -> None:
    """Asking for a model is an error in one sentence that holds the command."""
    pytester.makepyfile("def test_it(calibration): calibration.run('facts')")
    pytester.mkdir("checkpoint")
    result = pytester.runpytest_subprocess("--calibration-model=checkpoint")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ['torch is not installed, and this needs it: pip install "pytest-calibration?hf?"']
    )


def test_training_names_the_install_command() -> None:
    """The callback of a Trainer is asked for by name, and says what it needs."""
    from pytest_calibration.errors import MissingExtra

    with pytest.raises(MissingExtra, match=r'pip install "pytest-calibration\[hf\]"'):
        from pytest_calibration import CalibrationCallback  # noqa: F401
