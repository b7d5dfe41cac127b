"""A process that is killed while it writes: every file is whole, old or new, and can be written on.

Each kind of file is written by a child process that is killed before its n-th call that writes,
for every n until it ends by itself, and within its writes, by a limit on the size of a file. The
same is done with Ctrl-C in place of the kill. The file of a history, which is added to, is killed
in ``tests/history/test_file.py``.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from samples import small_results

from pytest_calibration import Predictions
from pytest_calibration.baselines import Baselines, Draft, store
from pytest_calibration.baselines.store import remove_record
from pytest_calibration.cli.init import _written
from pytest_calibration.files import LOCK, write_atomically
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.secret import user_secret
from pytest_calibration.reports import plots, writing
from pytest_calibration.reports.dump import write_dump
from pytest_calibration.reports.model import Results

if not hasattr(os, "fork"):
    pytest.skip("needs fork", allow_module_level=True)

from killing import cut_at, killed_at

PIECES = writing._pieces
KEY = b"a question"
LEFTOVER = re.compile(rf"\..*\.tmp|{re.escape(LOCK)}")
# How many places within the largest file are cut at.
CUTS = 7
Files = dict[str, bytes]
Action = Callable[[Path], object]


@cache
def answers(seed: int) -> Predictions:
    """Answers to always the same questions."""
    rng = np.random.default_rng(seed)
    return Predictions.from_confidence(rng.random(60), rng.random(60) < 0.5, probe="facts")


@cache
def session(seed: int) -> Results:
    """What a report tells."""
    return replace(small_results(), commit=f"{seed:040}")


@dataclass(frozen=True)
class Kind:
    """A kind of file, written three times one after the other.

    Attributes:
        write: writes what is told by a number; 0 is there before, 1 is killed, 2 is a later run.
        begins: the number of the first: 1 where nothing is there before.
        read: fails where what is there cannot be read.
        appends: whether the file is added to.
    """

    write: Callable[[Path, int], object]
    begins: int = 0
    read: Action = lambda _: None
    appends: bool = False


# Reading and writing YAML takes long.
DRAFTS: dict[tuple[int, bytes], Draft] = {}
LOADED: set[tuple[tuple[str, bytes], ...]] = set()


def record(folder: Path, seed: int) -> None:
    """Record, or replace what is recorded."""
    place = Baselines(folder).path_of("facts")
    stored = place.read_bytes() if place.is_file() else b""
    if (seed, stored) not in DRAFTS:
        keep = partial(DRAFTS.__setitem__, (seed, stored))
        reason = "better" if stored else None
        Baselines(folder, submit=keep).record(answers(seed), reason=reason)
    replace(DRAFTS[seed, stored], folder=str(folder)).write()


def prune(folder: Path, seed: int) -> None:
    """Remove what was recorded."""
    if seed == 1:
        remove_record(Baselines(folder).path_of("facts"))
    else:
        record(folder, 0)


def load(folder: Path) -> None:
    """Read a record with its items, if one is there."""
    content = tuple(files(folder).items())
    if content not in LOADED:
        found = Baselines(folder).find("facts")
        assert found is None or found.predictions.n == 60
        LOADED.add(content)


def keep(folder: Path, seed: int) -> None:
    """Keep an answer, in a folder that is full with it."""
    Cache(folder, limit=9000).put(KEY, b"%d" % seed * 8000)


def kept(folder: Path) -> None:
    """Read the answer, if there is one: none is damaged."""
    cache = Cache(folder)
    cache.get(KEY)
    assert cache.damaged == []


@cache
def text_of(suffix: str, seed: int) -> str:
    """The text of a report."""
    return "".join(PIECES(suffix, session(seed)))


def pieces(suffix: str, results: Results) -> list[str]:
    """The text of a report in few pieces: those of JSON are many thousand."""
    text = text_of(suffix, int(results.commit))
    return [text[:100], text[100:-100], text[-100:]]


def know(folder: Path, seed: int) -> None:
    """Read the user's secret, which is made where there is none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "token_bytes", lambda size: b"%d" % seed * size)
        assert user_secret.__wrapped__(folder / "secret") is not None


def report(name: str) -> Callable[[Path, int], None]:
    """Write a report."""

    def write(folder: Path, seed: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(writing, "_pieces", pieces)
            patch.setattr(plots, "plots_of", lambda *_: [(folder / name, b"%d" % seed * 90_000)])
            assert [*writing.write_report(folder / name, session(seed))]

    return write


def summary(folder: Path, seed: int) -> None:
    """Add to the summary of a step."""
    writing.append_summary(folder / "summary.md", session(seed))


KINDS = {
    "a first record": Kind(record, begins=1, read=load),
    "an accepted record": Kind(record, read=load),
    "a pruned record": Kind(prune, read=load),
    "a cached answer": Kind(keep, read=kept),
    "a dump": Kind(lambda folder, seed: write_dump(folder, answers(seed))),
    "the secret": Kind(know, begins=1),
    "a file of init": Kind(
        lambda folder, _: _written(folder / "test.py", "pass\n" * 9000), begins=1
    ),
    "any other file": Kind(
        lambda folder, seed: write_atomically(folder / "a", b"%d" % seed * 9000)
    ),
    **{
        f"a report {name}": Kind(report(name))
        for name in ("r.html", "r.md", "r.json", "r.txt", "r.png")
    },
    "the summary of a step": Kind(summary, appends=True),
}
# The others write as one of these does.
QUICK = ("an accepted record", "a pruned record", "a cached answer", "the summary of a step")


def files(folder: Path) -> Files:
    """Every file below a folder."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def restore(folder: Path, content: Files) -> None:
    """Make a folder hold these files, and no others."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, text in content.items():
        path = folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(text)
        path.chmod(0o600)


@dataclass
class Sweep:
    """Writes of one kind, stopped at every place.

    Attributes:
        kind: what is written.
        folder: where.
        points: calls before which a process was stopped.
        cuts: places within files at which one was.
    """

    kind: Kind
    folder: Path
    points: int = 0
    cuts: int = 0

    def problems(self, sign: int) -> Iterator[str]:
        """Stop writes with a signal, and yield what is wrong afterwards."""
        self.folder.mkdir(exist_ok=True)
        if self.kind.begins == 0:
            self.kind.write(self.folder, 0)
        old = files(self.folder)
        self.kind.write(self.folder, 1)
        new = files(self.folder)
        later = [set(new) for new in map(self._later, (old, new))]
        call, stopped = 0, True
        while stopped:
            restore(self.folder, old)
            stopped = killed_at(call, self._write, sign=sign)
            yield from self._wrong(f"before call {call}", old, new, later)
            call += 1
        self.points += call - 1
        largest = max(map(len, new.values()), default=0)
        for size in range(0, largest, max(1, largest // CUTS)):
            restore(self.folder, old)
            self.cuts += cut_at(size, self._write)
            yield from self._wrong(f"cut at byte {size}", old, new, later)

    def _write(self) -> None:
        self.kind.write(self.folder, 1)

    def _later(self, content: Files) -> Files:
        restore(self.folder, content)
        self.kind.write(self.folder, 2)
        return files(self.folder)

    def _wrong(self, when: str, old: Files, new: Files, later: list[set[str]]) -> Iterator[str]:
        for name, content in files(self.folder).items():
            if LEFTOVER.fullmatch(Path(name).name):
                continue
            whole = content in (old.get(name), new.get(name))
            if self.kind.appends and "cut" in when:
                whole = content.startswith(old[name])
            if not whole:
                yield f"{when}: {name} is neither the old nor the new one"
        try:
            self.kind.read(self.folder)
            self.kind.write(self.folder, 2)
            self.kind.read(self.folder)
        except Exception as problem:
            yield f"{when}: {type(problem).__name__}: {problem}"
        if (left := set(files(self.folder))) not in later:
            yield f"{when}: {left} are left by the next run, not {later}"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory where there is such a place: the disk would be waited for."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder, "place")


@pytest.mark.parametrize(
    "name",
    [
        *QUICK,
        *(pytest.param(name, marks=pytest.mark.faults) for name in KINDS if name not in QUICK),
    ],
)
def test_a_write_that_is_killed_leaves_whole_files(place: Path, name: str) -> None:
    """Before each of its calls and within its writes; the next run writes, and cleans up."""
    sweep = Sweep(KINDS[name], place)
    assert [*sweep.problems(signal.SIGKILL)] == []
    print(f"{name}: killed at {sweep.points} calls, cut in {sweep.cuts} places")
    assert sweep.points > 2


@pytest.mark.faults
@pytest.mark.parametrize("name", KINDS)
def test_a_write_that_is_interrupted_leaves_whole_files(place: Path, name: str) -> None:
    """By Ctrl-C at each of its calls."""
    sweep = Sweep(KINDS[name], place)
    assert [*sweep.problems(signal.SIGINT)] == []
    print(f"{name}: interrupted at {sweep.points} calls")
    assert sweep.points > 2


def plainly(folder: Path, seed: int) -> None:
    """Write as a program does that thinks of nothing."""
    folder.joinpath("a").write_bytes(b"%d" % seed * 9000)


def names_first(folder: Path, seed: int) -> None:
    """Write the record before the items that it names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "write_atomically", lambda path, content: todo.append((path, content)))
        todo: list[tuple[Path, bytes]] = []
        patch.setattr(store, "items_files", lambda _: [])
        record(folder, seed)
    for path, content in reversed(todo):
        write_atomically(path, content)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Kind(plainly), "a is neither the old nor the new one"),
        (Kind(names_first, read=load), "UnreadableBaseline: "),
    ],
    ids=["in-place", "in-the-wrong-order"],
)
def test_a_plain_write_that_is_killed_does_not(place: Path, kind: Kind, told: str) -> None:
    """The check can fail: it finds a part of a file, and a record whose items are not there."""
    found = [*Sweep(kind, place).problems(signal.SIGKILL)]
    assert any(told in problem for problem in found), found
