"""Damaged and hostile files for every reader: a small share of what ``tox -e fuzz`` reads."""

from __future__ import annotations

import itertools
import random
import sys

import pytest

if sys.platform == "win32":
    pytest.skip("processor time is bounded by a signal", allow_module_level=True)

import fuzzing
from fuzzing import NAMES, Reader, TooSlowError, bounded, fuzz, shares

from pytest_calibration.errors import CalibrationError


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    """All readers, with their files in one folder."""
    return fuzzing.readers(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "names"])
def test_a_valid_file_is_read(readers: dict[str, Reader], name: str) -> None:
    """What is changed is right at first, so that changes reach all parts of a reader."""
    for content in readers[name].files:
        for seed in range(10):
            readers[name].read(content, random.Random(seed))


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_read_or_refused(readers: dict[str, Reader], name: str) -> None:
    """No exception but a CalibrationError, with one visible line for a message."""
    tally = fuzz(readers[name], 50, f"suite {name}")
    assert tally.foreign == {}
    assert tally.read + tally.refused == 50


def test_all_readers_have_their_share(readers: dict[str, Reader]) -> None:
    """The names are those of the readers, and each gets inputs by its weight."""
    assert tuple(readers) == NAMES
    divided = shares(readers, 1000)
    assert abs(sum(divided.values()) - 1000) <= len(NAMES)
    assert min(divided.values()) > 0


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (KeyError("x"), "KeyError in "),
        (CalibrationError("fine"), ""),
        (RecursionError(), "RecursionError in "),
        (TooSlowError("x"), "TooSlowError in "),
    ],
)
def test_what_is_foreign_is_counted(problem: Exception, expected: str) -> None:
    """The check can fail, and keeps the file that made it."""

    def read(_: bytes, __: random.Random) -> None:
        raise problem

    tally = fuzz(Reader(1, (b"abc",), fuzzing.changed_bytes, read), 20, "0")
    assert (tally.refused, tally.foreign.total()) == ((0, 20) if expected else (20, 0))
    assert all(kind.startswith(expected) for kind in tally.foreign)
    assert len(tally.examples) == len(tally.foreign)


def test_an_input_without_end_is_stopped() -> None:
    """A loop that would not end raises, and the next block has all its time."""
    endless = itertools.count()
    with pytest.raises(TooSlowError, match=r"more than 0\.02 s"), bounded(0.02):
        all(number >= 0 for number in endless)
    with bounded(60):
        pass
