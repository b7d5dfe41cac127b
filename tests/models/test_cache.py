"""The folder that keeps what models answered."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pytest_calibration.files
from pytest_calibration.models.cache import Cache

KEY = b"k" * 32
OTHER = b"o" * 32
PLAIN = b"The capital of France is Paris. " * 4


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache in a folder that is not there yet."""
    return Cache(tmp_path / "kept")


def files(cache: Cache) -> list[Path]:
    """Every file below the cache's folder."""
    return sorted(p for p in cache.folder.rglob("*") if p.is_file())


@given(key=st.binary(min_size=1, max_size=64), content=st.binary(max_size=5000))
def test_what_was_kept_is_found_again(
    tmp_path_factory: pytest.TempPathFactory, key: bytes, content: bytes
) -> None:
    """The bytes come back as they were, to another process's cache of the same folder, too."""
    folder = tmp_path_factory.getbasetemp() / "round"
    Cache(folder).put(key, content)
    assert Cache(folder).get(key) == content


def test_nothing_is_made_before_something_is_kept(cache: Cache) -> None:
    """Looking makes no folder, and what is not there is no damage."""
    assert cache.get(KEY) is None
    assert not cache.folder.parent.exists()
    assert (cache.damaged, cache.refused) == ([], "")


def test_each_key_has_its_own_entry(cache: Cache) -> None:
    """Another key finds another content; the same key the last."""
    cache.put(KEY, b"one")
    cache.put(OTHER, b"two")
    cache.put(KEY, b"three")
    assert (cache.get(KEY), cache.get(OTHER)) == (b"three", b"two")
    assert len(files(cache)) == 2


@pytest.mark.parametrize("place", [0, 5, 15, 16, 17, 44, -1])
def test_a_changed_byte_is_found_out(cache: Cache, place: int) -> None:
    """Wherever it is: the entry counts as damaged, once, and can be replaced."""
    cache.put(KEY, PLAIN)
    (file,) = files(cache)
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    assert cache.get(KEY) is None
    assert cache.get(KEY) is None
    assert cache.damaged == [str(file)]
    cache.put(KEY, PLAIN)
    assert cache.get(KEY) == PLAIN


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, -1])
def test_a_cut_off_entry_is_found_out(cache: Cache, length: int) -> None:
    """However much is left of it."""
    cache.put(KEY, PLAIN)
    (file,) = files(cache)
    file.write_bytes(file.read_bytes()[:length])
    assert cache.get(KEY) is None
    assert cache.damaged == [str(file)]


def test_an_entry_under_anothers_name_is_found_out(cache: Cache) -> None:
    """A file that was moved answers no other question."""
    cache.put(KEY, PLAIN)
    there = cache.path(OTHER)
    there.parent.mkdir(parents=True, exist_ok=True)
    os.replace(cache.path(KEY), there)
    assert cache.get(OTHER) is None
    assert cache.damaged == [str(there)]


def test_a_file_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    """What is larger than anything that is written here is not an entry."""
    Cache(tmp_path).put(KEY, b"x" * 10_000)
    small = Cache(tmp_path, limit=5_000)
    assert small.get(KEY) is None
    assert small.damaged


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path: Path) -> None:
    """Nothing raises, the reason is kept, and no further attempt is made."""
    (tmp_path / "kept").write_text("a file")
    cache = Cache(tmp_path / "kept")
    cache.put(KEY, PLAIN)
    assert cache.get(KEY) is None
    assert cache.refused
    assert cache.damaged == []
    (tmp_path / "kept").unlink()
    cache.put(KEY, PLAIN)
    assert not (tmp_path / "kept").exists()


def test_a_folder_that_vanishes_is_made_again(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may clear the folder between two steps of writing."""
    made = Path.mkdir
    times = []

    def mkdir(self: Path, *args: object, **more: object) -> None:
        made(self, *args, **more)  # type: ignore[arg-type]
        times.append(self)
        if len(times) == 1:
            self.rmdir()

    monkeypatch.setattr(Path, "mkdir", mkdir)
    cache.put(KEY, PLAIN)
    assert cache.get(KEY) == PLAIN
    assert cache.refused == ""


# --- other users ---------------------------------------------------------------------------------

posix = pytest.mark.skipif(os.name != "posix", reason="rights of files are POSIX")


@posix
@pytest.mark.parametrize("umask", [0o022, 0o002, 0o000])
def test_what_is_kept_is_for_its_user_alone(cache: Cache, umask: int) -> None:
    """Whatever the system's habit is: folders and files that nobody else can read or write."""
    before = os.umask(umask)
    try:
        cache.folder.parent.mkdir(mode=0o755)
        cache.put(KEY, PLAIN)
    finally:
        os.umask(before)
    (file,) = files(cache)
    assert [p.stat().st_mode & 0o777 for p in (file, file.parent, cache.folder)] == [
        *(0o600, 0o700, 0o700)
    ]
    assert cache.get(KEY) == PLAIN


@posix
@pytest.mark.parametrize("which", ["asked", "answers", "inner"])
@pytest.mark.parametrize("mode", [0o777, 0o757, 0o775])
def test_a_folder_that_others_can_write_is_not_used(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, which: str, mode: int
) -> None:
    """Nothing in it is read, nothing is written, and the reason is told."""
    cache.put(KEY, PLAIN)
    inner = cache.path(KEY).parent
    {"asked": cache.folder.parent, "answers": cache.folder, "inner": inner}[which].chmod(mode)
    monkeypatch.setattr(pytest_calibration.files, "_is_own_group", lambda _: False)
    again = Cache(cache.folder.parent)
    assert again.get(KEY) is None
    assert again.damaged == []
    assert again.refused.startswith("can be written by other users")
    again.put(KEY, b"x")
    assert cache.path(KEY).read_bytes()[16:] == PLAIN


@posix
def test_a_group_of_one_is_no_other(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each user has a group, new folders may be written by it."""
    cache.folder.parent.mkdir()
    cache.folder.parent.chmod(0o775)
    monkeypatch.setattr(pytest_calibration.files, "_is_own_group", lambda _: True)
    cache.put(KEY, PLAIN)
    assert cache.get(KEY) == PLAIN


@posix
def test_a_folder_to_which_others_may_only_add_is_used(cache: Cache) -> None:
    """As the one for temporary files: what is this user's own there, they cannot touch."""
    cache.folder.parent.mkdir()
    cache.folder.parent.chmod(0o1777)
    cache.put(KEY, PLAIN)
    assert cache.get(KEY) == PLAIN
    assert cache.refused == ""


@posix
def test_an_entry_that_others_can_write_is_not_believed(cache: Cache) -> None:
    """It is computed again and replaced."""
    cache.put(KEY, PLAIN)
    cache.path(KEY).chmod(0o666)
    assert cache.get(KEY) is None
    assert cache.damaged == [str(cache.path(KEY))]
    cache.put(KEY, PLAIN)
    assert cache.get(KEY) == PLAIN


@posix
@pytest.mark.parametrize("which", ["answers", "inner", "entry"])
def test_links_are_not_followed(cache: Cache, tmp_path: Path, which: str) -> None:
    """A link may lead to what this user once unpacked for somebody else."""
    cache.put(KEY, PLAIN)
    entry = cache.path(KEY)
    place = {"answers": cache.folder, "inner": entry.parent, "entry": entry}[which]
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    assert Cache(cache.folder.parent).get(KEY) is None


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="files are given away by root")
@pytest.mark.parametrize("which", ["answers", "inner", "entry"])
def test_what_belongs_to_another_user_is_not_believed(cache: Cache, which: str) -> None:
    """Its owner can write it at any time."""
    cache.put(KEY, PLAIN)
    entry = cache.path(KEY)
    place = {"answers": cache.folder, "inner": entry.parent, "entry": entry}[which]
    os.chown(place, 12345, 12345)
    assert Cache(cache.folder.parent).get(KEY) is None


# --- size ----------------------------------------------------------------------------------------


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    """Beyond the limit entries are dropped by their last use, which reading renews."""
    cache = Cache(tmp_path, limit=10_000)
    keys = [bytes([i]) * 32 for i in range(9)]
    for i, key in enumerate(keys):
        cache.put(key, b"x" * 1_000)
        os.utime(cache.path(key), (1000 + i, 1000 + i))
    assert cache.get(keys[0]) is not None
    for i in range(3):
        cache.put(bytes([100 + i]) * 32, b"y" * 1_000)
    assert cache.get(keys[0]) is not None
    assert cache.get(keys[1]) is None
    assert sum(f.stat().st_size for f in files(cache)) <= 10_000
    assert cache.damaged == []


def test_what_was_just_kept_stays(tmp_path: Path) -> None:
    """Even where clocks differ and all others look younger."""
    cache = Cache(tmp_path, limit=3_000)
    keys = [bytes([i]) * 32 for i in range(4)]
    for key in keys:
        cache.put(key, b"x" * 1_000)
        assert cache.get(key) is not None
        os.utime(cache.path(key), (time.time() + 9_000,) * 2)


def test_what_is_larger_than_the_limit_is_not_kept(tmp_path: Path) -> None:
    """One answer never drives out all others."""
    cache = Cache(tmp_path, limit=1_000)
    cache.put(KEY, b"x")
    cache.put(OTHER, b"y" * 1_000)
    assert (cache.get(KEY), cache.get(OTHER)) == (b"x", None)
    assert cache.refused == ""


def test_what_a_killed_process_left_goes(cache: Cache) -> None:
    """Half-written files go after an hour; younger ones may be in the making."""
    cache.put(KEY, b"x")
    (file,) = files(cache)
    old, young = (file.with_name(f".{file.name}.{n}.tmp") for n in ("old", "young"))
    for left in (old, young):
        left.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    Cache(cache.folder.parent).put(OTHER, b"y")
    assert not old.exists()
    assert young.exists()


# --- clearing ------------------------------------------------------------------------------------


def test_clearing_takes_our_entries_and_nothing_else(cache: Cache) -> None:
    """Files and folders of others stay, wherever they lie; without any, the folder goes."""
    cache.put(KEY, b"x")
    cache.put(OTHER, b"y")
    (file, _) = files(cache)
    strangers = [cache.folder.parent / "notes.txt", cache.folder / "a.answer", file.parent / "b"]
    for stranger in strangers:
        stranger.write_text("mine")
    cache.clear()
    assert cache.get(KEY) is None
    assert files(cache) == sorted(strangers[1:])
    assert strangers[0].exists()
    for stranger in strangers[1:]:
        stranger.unlink()
    cache.put(KEY, b"x")
    cache.put(OTHER, b"y")
    cache.clear()
    assert not cache.folder.exists()


def test_clearing_leaves_empty_folders_of_others(cache: Cache) -> None:
    """A folder from which nothing of ours was removed is not ours, whatever its name."""
    empty = [cache.folder / name for name in ("mine", "ab", "answers")]
    for folder in empty:
        folder.mkdir(parents=True)
    cache.clear()
    cache.put(KEY, b"x")
    cache.clear()
    assert all(folder.is_dir() for folder in empty)
    assert {*cache.folder.iterdir()} == {*empty}


def test_clearing_follows_no_link(cache: Cache, tmp_path: Path) -> None:
    """A link to another folder is not a part of the cache."""
    cache.put(KEY, b"x")
    elsewhere = Cache(tmp_path / "elsewhere")
    elsewhere.put(OTHER, b"y")
    link = cache.folder / elsewhere.path(OTHER).parent.name
    if link.exists():
        pytest.skip("both entries lie in a folder of one name")
    link.symlink_to(elsewhere.path(OTHER).parent)
    cache.clear()
    assert elsewhere.get(OTHER) == b"y"


# --- several processes ---------------------------------------------------------------------------

HAMMER = """
import random, sys
from pathlib import Path
from pytest_calibration.models.cache import Cache

folder, seed = Path(sys.argv[1]), int(sys.argv[2])
draw = random.Random(seed)
cache = Cache(folder, limit=60_000)
seen = 0
for step in range(150):
    key = bytes([draw.randrange(40)]) * 32
    found = cache.get(key)
    assert found in (None, key * 100), "another's content"
    seen += found is not None
    if found is None:
        cache.put(key, key * 100)
    if seed == 0 and step == 75:
        cache.clear()
assert not cache.damaged, cache.damaged
assert not cache.refused, cache.refused
print(seen)
"""


def test_several_processes_share_one_folder(tmp_path: Path) -> None:
    """Reading, writing, dropping and clearing at once: no process sees a part of an entry."""
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, str(tmp_path), str(seed)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(4)
    ]
    outputs = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0] * 4, outputs
    assert sum(int(out) for out, _ in outputs) > 0
    left = files(Cache(tmp_path))
    assert not [f for f in left if f.suffix == ".tmp"]
    # Each process measures by itself and may be ahead by a sixteenth.
    assert sum(f.stat().st_size for f in left) <= 60_000 * (1 + 4 / 16)


def test_a_reader_never_sees_a_part(cache: Cache) -> None:
    """While one process replaces an entry over and over, every read is whole."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom pytest_calibration.models.cache import Cache\n"
        f"cache = Cache(Path(sys.argv[1]))\n"
        f"for i in range(100): cache.put({KEY!r}, bytes([i]) * 20_000)\n"
    )
    cache.put(KEY, b"\xff" * 20_000)
    writer = subprocess.Popen([sys.executable, "-c", code, str(cache.folder.parent)])
    draw = random.Random(0)
    while writer.poll() is None:
        found = cache.get(KEY)
        assert found is not None
        assert len(found) == 20_000
        assert len({*found}) == 1
        time.sleep(draw.random() / 500)
    assert writer.returncode == 0
    assert cache.damaged == []
