"""Damaged and hostile files for every reader: a small share of what ``tox -e fuzz`` reads."""

from __future__ import annotations

import itertools
import json
import random
import sys
from pathlib import Path
from typing import Final

import pytest

if sys.platform == "win32":
    pytest.skip("processor time is bounded by a signal", allow_module_level=True)

import fuzzing
from fuzzing import NAMES, Reader, TooSlowError, bounded, fuzz, input_of, shares, tallies_in

from pytest_calibration.errors import CalibrationError

# Of a server, an input takes several exchanges.
FEW: Final = {"server": 6, "decisions": 12}


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    """All readers, with their files in one folder."""
    return fuzzing.readers(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "names"])
def test_a_valid_file_is_read(readers: dict[str, Reader], name: str) -> None:
    """What is changed is right at first, so that changes reach all parts of a reader."""
    for content in readers[name].files[: FEW.get(name)]:
        for seed in range(1 if name in FEW else 10):
            readers[name].read(content, random.Random(seed))


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_read_or_refused(readers: dict[str, Reader], name: str) -> None:
    """No exception but a CalibrationError, with one visible line for a message."""
    inputs = FEW.get(name, 50)
    tally = fuzz(readers[name], inputs, f"suite {name}")
    assert tally.foreign == {}
    assert tally.read + tally.refused == inputs


def test_all_readers_have_their_share(readers: dict[str, Reader]) -> None:
    """The names are those of the readers, and each gets inputs by its weight."""
    assert tuple(readers) == NAMES
    divided = shares(readers, 1000)
    assert abs(sum(divided.values()) - 1000) <= len(NAMES)
    assert min(divided.values()) > 0


def test_an_input_depends_on_seed_and_number_alone() -> None:
    """Whatever was read before, so that a run can go on where it was stopped."""
    files = (b'{"a": [1, 2]}', b'{"b": "c"}')
    reader = Reader(1, files, fuzzing.changed_lines, lambda *_: None)
    one, other = ([input_of(reader, "0 x", n)[0] for n in order] for order in (range(9), range(9)))
    assert one == other
    assert one[5] == input_of(reader, "0 x", 5)[0]
    assert len({*one}) > 5
    assert one != [input_of(reader, "1 x", n)[0] for n in range(9)]


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """Each input is read once, and the sums are those of a run that was not stopped."""
    seen: list[bytes] = []

    def read(content: bytes, _: random.Random) -> None:
        seen.append(content)
        if len(seen) == 7:
            raise KeyboardInterrupt
        if content[:1] == b"a":
            raise CalibrationError("fine")

    reader = Reader(1, (b"abc", b"bcd"), fuzzing.changed_bytes, read)
    tally = fuzzing.Tally()
    with pytest.raises(KeyboardInterrupt):
        fuzz(reader, 20, "0", tally)
    file = tmp_path / "progress.json"
    file.write_text(json.dumps({"seed": "0", "tallies": {"x": vars(tally)}}), "utf-8")
    [again] = tallies_in(file, "0").values()
    fuzz(reader, 20, "0", again)
    assert seen == [input_of(reader, "0", n)[0] for n in (*range(7), *range(6, 20))]
    assert again.read + again.refused == again.done == 20
    with pytest.raises(SystemExit, match="is of the seed 0"):
        tallies_in(file, "1")


def test_a_message_with_the_key_is_foreign() -> None:
    """The check can fail."""

    def read(*_: object) -> None:
        raise CalibrationError(f"the key {fuzzing.SECRET} is wrong.")

    tally = fuzz(Reader(1, (b"abc",), fuzzing.changed_bytes, read), 3, "0")
    assert tally.foreign.total() == 3


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
    """The check can fail, and keeps the number of the input that made it."""

    def read(_: bytes, __: random.Random) -> None:
        raise problem

    tally = fuzz(Reader(1, (b"abc",), fuzzing.changed_bytes, read), 20, "0")
    assert (tally.refused, tally.foreign.total()) == ((0, 20) if expected else (20, 0))
    assert all(kind.startswith(expected) for kind in tally.foreign)
    assert tally.examples.keys() == tally.foreign.keys()
    assert set(tally.examples.values()) == ({0} if expected else set())


def test_an_input_without_end_is_stopped() -> None:
    """A loop that would not end raises, and the next block has all its time."""
    endless = itertools.count()
    with pytest.raises(TooSlowError, match=r"more than 0\.02 s"), bounded(0.02):
        all(number >= 0 for number in endless)
    with bounded(60):
        pass
