"""The gate of the study: each stage against the one it was trained from."""

import pytest

from pytest_calibration import assert_ece_below, assert_no_regression


@pytest.fixture
def has_parent(request):
    """Whether the stages of this run were trained from another."""
    return bool(request.config.getoption("--calibration-parent"))


def test_stage(calibration, calibration_baseline, calibration_probe, has_parent):
    """A stage is no worse than its parent; a pretrained model, which has none, has a limit."""
    predictions = calibration.run(calibration_probe)
    if has_parent:
        assert_no_regression(predictions, calibration_baseline)
    else:
        assert_ece_below(predictions, 0.1)
