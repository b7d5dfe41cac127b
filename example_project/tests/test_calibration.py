"""The calibration of a fine-tuned model, gated like any other behaviour."""

from pytest_calibration import assert_accuracy_above, assert_ece_below, assert_no_regression


def test_nothing_got_worse(calibration, calibration_baseline, calibration_probe):
    """Each probe is as well calibrated, and as accurate, as its committed baseline."""
    assert_no_regression(calibration.run(calibration_probe), calibration_baseline)


def test_facts_are_calibrated(calibration):
    """The probability of the answer can be read as a probability."""
    facts = calibration.run("almanac-facts")
    assert_ece_below(facts, 0.10)
    # A model that guesses is calibrated too; this is what tells it apart.
    assert_accuracy_above(facts, 0.40)
