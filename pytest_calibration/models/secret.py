"""A secret of the user's own, so that nobody else can vouch for a file.

A digest that is kept for a file is found by what the file system says of that file, which others
can see. Sealed with the secret, it can have been written by this user alone.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from functools import cache
from pathlib import Path
from typing import Final

from pytest_calibration.files import others_may_write, remove_leftovers, replacing

SIZE: Final = 32
SEAL: Final = 16
"""Bytes of a seal."""


def sealed(content: bytes, purpose: bytes) -> bytes | None:
    """Return content with a seal for one purpose; None where this user has no secret.

    Args:
        content: what is vouched for.
        purpose: what it stands for; another purpose has another seal.
    """
    key = _key()
    return None if key is None else content + _seal(content, purpose, key)


def unsealed(file: bytes, purpose: bytes) -> bytes | None:
    """Return what :func:`sealed` was given; None where this user has not sealed it."""
    key = _key()
    content, seal = file[:-SEAL], file[-SEAL:]
    if key is None or not hmac.compare_digest(_seal(content, purpose, key), seal):
        return None
    return content


def _seal(content: bytes, purpose: bytes, key: bytes) -> bytes:
    head = len(purpose).to_bytes(8, "little") + purpose
    return hashlib.blake2b(head + content, digest_size=SEAL, key=key).digest()


def _key() -> bytes | None:
    """Return the secret from where programs keep what belongs to a user; None without a place."""
    given = os.environ.get("XDG_STATE_HOME") or os.environ.get("LOCALAPPDATA") or ""
    place = Path(given)
    if not place.is_absolute():
        try:
            place = Path.home() / ".local" / "state"
        except RuntimeError:
            return None
    return user_secret(place / "pytest-calibration" / "secret")


@cache
def user_secret(place: Path) -> bytes | None:
    """Return the secret in a file, which is made if need be; None where there can be none.

    Only a file that belongs to this user, and that nobody else can read or write, is believed;
    another is replaced.
    """
    try:
        found = _read(place)
        if found is None:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(place)
            found = _read(place)
        # Of a process that was killed between giving the file its name and taking its first one.
        remove_leftovers(place)
    except OSError:
        return None
    return found


def _read(place: Path) -> bytes | None:
    try:
        flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        handle = os.open(place, os.O_RDONLY | flags | getattr(os, "O_BINARY", 0))
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        state = os.fstat(handle)
        known = os.name == "posix" and state.st_mode & 0o077
        if not stat.S_ISREG(state.st_mode) or others_may_write(state) or known:
            return None
        content = file.read(SIZE + 1)
    return content if len(content) == SIZE else None


def _make(place: Path) -> None:
    """Write a new secret in place of what cannot be believed; the first of several wins."""
    made = secrets.token_bytes(SIZE)
    try:
        with replacing(place, private=True, new=True) as file:
            file.write(made)
    except FileExistsError:
        if _read(place) is None:
            with replacing(place, private=True) as file:
                file.write(made)
