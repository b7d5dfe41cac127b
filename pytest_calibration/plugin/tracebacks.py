"""Errors a user can cause are shown at the user's own line, never inside this package."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Final

import pytest

from pytest_calibration.errors import CalibrationError

PACKAGE: Final = Path(__file__).parent.parent
# Frames before the user's own: pytest and pluggy calling a test or fixture.
MACHINERY: Final = frozenset({"_pytest", "pluggy", "xdist", "pytest_rerunfailures.py"})


def cut_traceback(item: pytest.Item, call: pytest.CallInfo[Any]) -> None:
    """Cut the traceback of a CalibrationError where it enters this package.

    ``--full-trace`` leaves it whole.
    """
    problem = call.excinfo.value if call.excinfo is not None else None
    if not isinstance(problem, CalibrationError):
        return
    # The option belongs to the terminal plugin, which a run may leave out.
    if getattr(item.config.option, "fulltrace", False):
        return
    frames = _entries(problem.__traceback__)
    cut = next((i for i, tb in enumerate(frames) if _ours(tb)), len(frames))
    users = [tb for tb in frames[:cut] if not MACHINERY & {*Path(_file(tb)).parts}]
    if not users:
        # Raised while a fixture of this package was set up: there is no line of the user's.
        failure = pytest.fail.Exception(str(problem), pytrace=False)
        whole = failure.with_traceback(problem.__traceback__)
        call.excinfo = pytest.ExceptionInfo.from_exception(whole)
        return
    problem.__cause__ = None
    problem.__suppress_context__ = True
    short: TracebackType | None = None
    for tb in reversed(users):
        short = TracebackType(short, tb.tb_frame, tb.tb_lasti, tb.tb_lineno)
    call.excinfo = pytest.ExceptionInfo.from_exception(problem.with_traceback(short))


def _entries(tb: TracebackType | None) -> list[TracebackType]:
    out = []
    while tb is not None:
        out.append(tb)
        tb = tb.tb_next
    return out


def _file(tb: TracebackType) -> str:
    return tb.tb_frame.f_code.co_filename


def _ours(tb: TracebackType) -> bool:
    path = Path(_file(tb))
    # The packaged suite is a test file like a user's.
    return path.is_relative_to(PACKAGE) and path.name != "suite.py"
