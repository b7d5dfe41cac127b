"""A disk that is full, or cannot be written: one sentence for each file, and the old one stays."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from projects import HISTORY, REPORTS, Project

from pytest_calibration.baselines import Baselines
from pytest_calibration.cli.init import _written
from pytest_calibration.errors import CalibrationError
from pytest_calibration.history.file import History
from pytest_calibration.history.lines import Line
from pytest_calibration.models.cache import Cache
from pytest_calibration.predictions import Predictions
from pytest_calibration.reports.dump import write_dump

pytestmark = pytest.mark.faults


def mounted(*arguments: str) -> bool:
    """Whether mounting works here."""
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    if sys.platform != "linux" or not mounted("-t", "tmpfs", "-o", "size=2m", "none", str(place)):
        pytest.skip("mounting a disk in memory needs the rights of root on Linux")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> None:
    """Leave no byte free."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def close(disk: Path) -> None:
    """Take away the right to write."""
    assert mounted("-o", "remount,ro", str(disk))


WAYS = {"full": (fill, "No space left on device"), "read-only": (close, "Read-only file system")}


def answers(seed: int) -> Predictions:
    """Answers whose items take a block of the disk, at least."""
    made = [(i * (seed + 3) % 7) / 7 for i in range(1500)]
    return Predictions.from_confidence(made, [i % 2 == 0 for i in range(1500)], probe="facts")


@pytest.mark.parametrize("way", WAYS)
def test_each_write_says_what_it_could_not(disk: Path, way: str) -> None:
    """From Python: one sentence with the file and the reason, and every file is as before."""
    store, history = Baselines(disk / "baselines"), History(disk / "history.jsonl")
    store.record(answers(0))
    history.append(Line.of(answers(0), model="m"), answers(0))
    write_dump(disk / "dump", answers(0))
    cache = Cache(disk / "cache")
    cache.put(b"known", b"answer")
    before = {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
    spoil, reason = WAYS[way]
    spoil(disk)
    writes = [
        lambda: store.record(answers(1), reason="new"),
        lambda: store.named("new").record(answers(1)),
        lambda: history.append(Line.of(answers(1), model="n"), answers(1)),
        lambda: write_dump(disk / "dump", answers(1)),
        lambda: _written(disk / "new" / "test.py", "pass\n"),
    ]
    for write in writes:
        with pytest.raises(CalibrationError) as caught:
            write()
        told = str(caught.value)
        assert re.search(rf"cannot be written \(({reason}|no right to write .*)\)", told)
        assert str(disk) in told
        assert "\n" not in told
    cache.put(b"new", b"answer" * 2000)
    assert reason in cache.refused
    assert cache.get(b"known") == b"answer"
    after = {path: path.read_bytes() for path in before}
    assert after == before
    left = {path for path in disk.rglob("*") if path.is_file()} - {*before, disk / "filler"}
    # Where not even a name can be taken away, none was made.
    assert left <= {disk / "baselines" / ".lock", disk / ".lock"}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_names_every_file_that_it_could_not_write(disk: Path, way: str) -> None:
    """It is red with exit code 1, its verdicts stand, and what was there is as before."""
    project = Project(disk)
    code, output = project.run(*project.arguments("base", "--calibration-record"))
    assert code == 0, output
    before = project.files()
    spoil, reason = WAYS[way]
    spoil(disk)
    accept = project.arguments("hot", "--calibration-accept=new", "--calibration-no-cache")
    accept = [one for one in accept if "cache-dir" not in one and "dump" not in one]
    names = ["facts.yaml", "next_token.yaml", *REPORTS, "GITHUB_STEP_SUMMARY"]
    if way == "full":
        names.append(HISTORY)
    else:
        # That is seen before anything is asked.
        code, output = project.run(*accept, PYTHONDONTWRITEBYTECODE="1")
        assert code == pytest.ExitCode.USAGE_ERROR
        assert f"{HISTORY}: cannot be written (no right to write" in output
        accept = [one for one in accept if "history" not in one]
    code, output = project.run(*accept, PYTHONDONTWRITEBYTECODE="1")
    assert code == pytest.ExitCode.TESTS_FAILED, output
    for name in names:
        named = [line for line in output.splitlines() if name in line and reason in line]
        assert named, (name, output)
        assert all(line.startswith("ERROR: ") for line in named)
    assert "4 not recorded" in output
    assert "Traceback" not in output
    assert "INTERNALERROR" not in output
    assert {name: text for name, text in project.files().items() if name != "filler"} == before


@pytest.mark.parametrize("way", WAYS)
def test_a_gate_goes_on_without_its_cache_and_says_so(disk: Path, way: str) -> None:
    """What cannot be kept costs time only; a dump that cannot be written fails its test."""
    project = Project(disk)
    code, output = project.run(*project.arguments("base", "--calibration-record"))
    assert code == 0, output
    spoil, reason = WAYS[way]
    spoil(disk)
    gate = ["-p", "no:cacheprovider", "--calibration-model=toy:hot", "-q"]
    gate += ["--calibration-cache-dir=cache"]
    code, output = project.run(*gate, PYTHONDONTWRITEBYTECODE="1")
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert "4 regressed" in output
    # Its answers are kept already, or cannot be.
    assert reason in output
    code, output = project.run(*gate, "--calibration-dump=dump", PYTHONDONTWRITEBYTECODE="1")
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert f"cannot be written ({reason}); name another folder" in output
    assert "INTERNALERROR" not in output
