"""The gate tried on its user's own data: how often it fails a model that did not change.

An A/A check draws pairs of runs that differ by nothing but chance from a population made like the
predictions given, holds each pair against the gate, and counts. What the gate fails there are false
alarms. The same pairs with one side made worse by a known amount say what it would catch.

``curve``
    P(correct | confidence) of the predictions given.
``pairs``
    pairs without change: from one set of predictions, or from two whose sides change places.
``worse``
    candidates that are worse by a known amount.
``trials``
    the check: draw, decide, count.

Nothing is read or written here. Random numbers come from a seed that the predictions give: the
same input has the same answer.
"""

from pytest_calibration.gate.aa.trials import (
    EXCESSES,
    JITTER,
    TRIALS,
    Caught,
    Check,
    Rate,
    check,
)

__all__ = ["EXCESSES", "JITTER", "TRIALS", "Caught", "Check", "Rate", "check"]
