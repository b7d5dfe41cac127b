"""Processes that the system kills while they write, as a power cut or the kernel's killer does.

What is done is done in a child of this process, so that each try costs milliseconds.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any

# Calls that change a file, or that what was written may depend on.
WRITING = frozenset(
    {"open", "mkstemp", "write", "writelines", "flush", "close", "fsync", "truncate", "ftruncate"}
    | {"replace", "rename", "link", "unlink", "remove", "rmdir", "mkdir", "chmod", "utime", "flock"}
    | {"__exit__"}
)
# Exit code of a process that a signal interrupted.
STOPPED = 9


def writes(function: Any) -> bool:
    """Whether a function of the interpreter, which is about to be called, may write a file."""
    if function.__name__ not in WRITING:
        return False
    owner = function.__self__
    # Neither text, of which something is replaced, nor what is written into memory.
    return isinstance(owner, ModuleType | io.IOBase) and not isinstance(
        owner, io.BytesIO | io.StringIO
    )


def killed_at(
    call: int,
    action: Callable[[], object],
    counts: Callable[[FrameType], bool] = lambda _: True,
    sign: int = signal.SIGKILL,
) -> bool:
    """Whether a child process that does this was stopped before its n-th call that writes.

    Args:
        call: how many such calls are made.
        action: what the child does.
        counts: whether a call of this frame is one of those that count.
        sign: the signal that the child sends to itself, once.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            left = call

            def kill(frame: FrameType, event: str, function: Any) -> None:
                nonlocal left
                if event == "c_call" and writes(function) and counts(frame):
                    left -= 1
                    if left == -1:
                        os.kill(os.getpid(), sign)

            sys.setprofile(kill)
            with contextlib.suppress(KeyboardInterrupt):
                action()
            sys.setprofile(None)
            code = STOPPED if left < 0 else 0
        except BaseException:
            sys.setprofile(None)
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) in (0, STOPPED)
    return os.WEXITSTATUS(status) == STOPPED


def cut_at(size: int, action: Callable[[], object]) -> bool:
    """Whether a child process that does this was killed because a file grew beyond a size."""
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            action()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)
