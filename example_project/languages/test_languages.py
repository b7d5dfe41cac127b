"""The calibration of a language identifier, gated where its input becomes shorter."""

from pytest_calibration import assert_accuracy_above, assert_ece_below, assert_no_regression


def test_nothing_got_worse(calibration, calibration_baseline):
    """It is as well calibrated, and as accurate, as it was on 80 characters."""
    assert_no_regression(calibration.run("languages"), calibration_baseline)


def test_its_probability_can_be_read_as_one(calibration):
    """A service that acts on confident answers relies on it."""
    languages = calibration.run("languages")
    assert_ece_below(languages, 0.05)
    assert_accuracy_above(languages, 0.60)
