"""Which errors of failing verdicts a test expects: those that ``pytest.raises`` was waiting for.

A verdict that fails raises an ``AssertionError``. Where the test does not fail of it, the test
either expects the error, or lost it: in a thread or a task that nobody asks, in an ``except``, in a
child process. Nothing but the context manager itself knows that it was waiting for the error, so
this module looks on while it compares.
"""

from __future__ import annotations

import functools
import unittest.case
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

# Attribute of an AssertionError: the names of the verdicts that it tells of. It travels with the
# error from one process to another.
NAMES: Final = "calibration_verdicts"


def names(error: BaseException | None) -> Iterator[str]:
    """Yield the names on an error, on those it came from and, of a group, on those in it."""
    seen: set[int] = set()
    left = [error]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield from getattr(one, NAMES, ())
        left += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions


def watch(expected: Callable[[str], object]) -> Callable[[], None]:
    """Call ``expected`` with the name of every verdict whose error a test turns out to expect.

    Returns:
        What ends this.
    """
    undo = []

    def wrap(kind: Any, method: str, place: int) -> None:
        """Look on at a method that returns whether it expects the error at this place."""
        whole = getattr(kind, method)

        @functools.wraps(whole)
        def looked_on(self: Any, *args: Any) -> Any:
            __tracebackhide__ = True
            is_expected = whole(self, *args)
            if is_expected and len(args) > place:
                for name in names(args[place]):
                    expected(name)
            return is_expected

        setattr(kind, method, looked_on)
        undo.append(functools.partial(setattr, kind, method, whole))

    wrap(pytest.RaisesExc, "matches", 0)
    wrap(pytest.RaisesGroup, "matches", 0)
    wrap(unittest.case._AssertRaisesContext, "__exit__", 1)

    def end() -> None:
        for step in reversed(undo):
            step()

    return end
