"""Errors that a user can cause are shown at the user's own line, never inside this package."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Final

import pytest

from pytest_calibration.errors import CalibrationError

PACKAGE: Final = Path(__file__).parent.parent
# Files of the frames in which pytest calls a test or fixture.
PYTEST_PARTS: Final = frozenset({"_pytest", "pluggy", "xdist", "pytest_rerunfailures.py"})


def cut_traceback(item: pytest.Item, call: pytest.CallInfo[Any]) -> None:
    """Cut the traceback of a CalibrationError where it enters this package.

    ``--full-trace`` leaves it whole.
    """
    problem = call.excinfo.value if call.excinfo is not None else None
    # The option belongs to the terminal plugin, which a run may leave out.
    whole = getattr(item.config.option, "fulltrace", False)
    if not isinstance(problem, CalibrationError) or whole:
        return
    users: list[TracebackType] = []
    entry = problem.__traceback__
    while entry is not None:
        path = Path(entry.tb_frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            break
        if PYTEST_PARTS.isdisjoint(path.parts):
            users.append(entry)
        entry = entry.tb_next
    if not users:
        # Raised in a fixture of this package, or in its suite: there is no line of the user's.
        failure = pytest.fail.Exception(str(problem), pytrace=False)
        call.excinfo = pytest.ExceptionInfo.from_exception(
            failure.with_traceback(problem.__traceback__)
        )
        return
    problem.__cause__ = None
    problem.__suppress_context__ = True
    short: TracebackType | None = None
    for entry in reversed(users):
        short = TracebackType(short, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    call.excinfo = pytest.ExceptionInfo.from_exception(problem.with_traceback(short))
