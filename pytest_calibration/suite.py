"""A ready-made suite: every selected probe against its baseline.

::

    pytest --pyargs pytest_calibration.suite --calibration-model gpt2

Its baselines lie in ``calibration_baselines`` beside ``calibration.yaml``, else at rootdir.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_calibration.assertions import assert_no_regression

if TYPE_CHECKING:
    from pytest_calibration.baselines import Baselines
    from pytest_calibration.plugin.run import Calibration


def test_calibration(
    calibration: Calibration, calibration_probe: str, calibration_baseline: Baselines
) -> None:
    """Calibration of each selected probe is no worse than its baseline."""
    text = ""
    try:
        assert_no_regression(calibration.run(calibration_probe), calibration_baseline)
    except AssertionError as failure:
        text = str(failure)
    if text:
        # Without a traceback: the lines above tell a user nothing.
        pytest.fail(text, pytrace=False)
