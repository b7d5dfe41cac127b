"""A model is asked a probe: limits, known answers, the parent first, in parts where that helps."""

from pytest_calibration.asking.asker import Answer, Asker

__all__ = ["Answer", "Asker"]
