"""Files that are replaced whole."""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.files import LOCK, file_stem, locked, replacing, write_atomically
from pytest_calibration.predictions import digest


def test_the_old_file_stays_until_the_block_ends(tmp_path: Path) -> None:
    """A reader sees the old content while the new is being written."""
    path = tmp_path / "x.json"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_block_that_raises_leaves_all_as_it_was(tmp_path: Path) -> None:
    """The old file stays, and no temporary one."""
    path = tmp_path / "x.json"
    path.write_bytes(b"old")

    def write_half() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x.json"]


def test_temporary_files_end_in_tmp(tmp_path: Path) -> None:
    """No reader of the folder takes one for a finished file."""
    with replacing(tmp_path / "x.yaml"):
        (name,) = os.listdir(tmp_path)
        assert name.endswith(".tmp")


def test_equal_content_is_not_written_again(tmp_path: Path) -> None:
    """The file keeps its identity, so that nothing that watches it wakes up."""
    path = tmp_path / "x"
    write_atomically(path, b"same")
    before = path.stat().st_ino
    write_atomically(path, b"same")
    assert path.stat().st_ino == before
    write_atomically(path, b"other")
    assert path.stat().st_ino != before


def test_a_written_file_is_as_public_as_its_neighbours(tmp_path: Path) -> None:
    """Its mode is that of any new file, not that of a private temporary one."""
    neighbour, path = tmp_path / "a", tmp_path / "b"
    neighbour.write_bytes(b"")
    write_atomically(path, b"")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(neighbour.stat().st_mode)


# --- what a killed process leaves ----------------------------------------------------------------

KILLED = """
import os, sys, time
from pathlib import Path
from pytest_calibration.files import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    time.sleep(600)
"""


def writer(path: Path) -> subprocess.Popen[str]:
    """Start a process that is in the middle of a write."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


@pytest.mark.skipif(os.name != "posix", reason="without locks, age tells")
def test_the_next_write_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    """At once, and of any file with the same ending; a write that goes on is left alone."""
    killed, running = writer(tmp_path / "a.yaml"), writer(tmp_path / "b.yaml")
    with running, killed:
        killed.kill()
        killed.wait()
        assert len(os.listdir(tmp_path)) == 2
        write_atomically(tmp_path / "c.json", b"")
        assert len(list(tmp_path.glob(".*.tmp"))) == 2
        write_atomically(tmp_path / "c.yaml", b"")
        (left,) = tmp_path.glob(".*.tmp")
        assert left.name.startswith(".b.yaml.")
        running.kill()
        running.wait()
    write_atomically(tmp_path / "c.yaml", b"other")
    assert sorted(os.listdir(tmp_path)) == ["c.json", "c.yaml"]


@pytest.mark.parametrize(
    "name", ["x.yaml.abcdefgh.tmp", ".x.yaml.tmp", ".x.yaml.abc.tmp", ".x.json.abcdefgh.tmp"]
)
def test_files_of_others_are_no_leftovers(tmp_path: Path, name: str) -> None:
    """Only what is named as a temporary file of ours is one."""
    (tmp_path / name).write_bytes(b"")
    write_atomically(tmp_path / "x.yaml", b"")
    assert (tmp_path / name).exists()


def test_many_writers_of_one_folder_lose_nothing(tmp_path: Path) -> None:
    """A writer never takes the file of another for a leftover, also just after it was made."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom pytest_calibration.files import replacing\n"
        "for i in range(150):\n    with replacing(Path(sys.argv[1]) / f'{sys.argv[2]}.x') as f:\n"
        "        f.write(b'%d' % i)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(n)]) for n in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {
        f"{n}.x": b"149" for n in range(4)
    }


def test_a_long_name_leaves_room_for_a_temporary_one(tmp_path: Path) -> None:
    """Whatever name the system takes for the file itself can be written."""
    for name in ("n" * 250 + ".html", "語" * 80 + ".html"):
        write_atomically(tmp_path / name, b"x")
        assert (tmp_path / name).read_bytes() == b"x"


# --- names ---------------------------------------------------------------------------------------


@given(st.text(max_size=200))
def test_a_slug_ends_in_the_digest_of_the_name(name: str) -> None:
    """Files of earlier runs are found again: the digest is that of predictions."""
    stem = file_stem(name)
    if stem != name:
        assert stem.endswith(f"-{digest(name, size=4)}")
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,60}-[0-9a-f]{8}", stem)


def test_a_name_of_a_file_needs_no_numpy() -> None:
    """Also one that is not plain."""
    code = (
        "import sys\nfrom pytest_calibration.files import file_stem\n"
        "print(file_stem('a b'), 'numpy' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "a-b-d2ecebeb False\n"


# --- the lock ------------------------------------------------------------------------------------


def test_one_at_a_time(tmp_path: Path) -> None:
    """Of many threads only one at a time is in the block, and no lock file is left."""
    inside, most = 0, 0

    def count() -> None:
        nonlocal inside, most
        for _ in range(20):
            with locked(tmp_path):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == (0, 1)
    assert not list(tmp_path.iterdir())


def test_a_process_that_was_killed_stops_nobody(tmp_path: Path) -> None:
    """Its lock ends with it; the file it leaves is no lock, and the next one removes it."""
    code = (
        "import os, sys, pathlib\nfrom pytest_calibration.files import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n    os._exit(3)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 3
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path, wait=0):
        pass
    assert not (tmp_path / LOCK).exists()


def test_a_lock_is_not_waited_for_without_end(tmp_path: Path) -> None:
    """Whoever waits too long is told why, and the lock stays with its holder."""
    late = pytest.raises(TimeoutError, match="another process has been writing there")
    with locked(tmp_path):
        with late, locked(tmp_path, wait=0):
            pass
        assert (tmp_path / LOCK).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no links to follow")
def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    """No file is made where a link points to."""
    (tmp_path / LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"\.lock"), locked(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="flock is of POSIX")
def test_a_file_system_without_locks_is_written_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system has no locks to give, the block runs all the same."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    entered = False
    with locked(tmp_path):
        entered = True
    assert entered
