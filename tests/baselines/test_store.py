"""A folder of records: names of files, atomic writing, what is written and what never is."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration import Predictions
from pytest_calibration.baselines import Baselines, Draft, Policy
from pytest_calibration.baselines.record import checksum, to_yaml
from pytest_calibration.baselines.store import file_stem, items_files, remove_record
from pytest_calibration.errors import (
    BaselineError,
    MissingBaseline,
    UnreadableBaseline,
    UsageError,
)
from pytest_calibration.files import locked

# The names that Windows reserves, with or without an ending, in either case.
RESERVED = ["con", "prn", "aux", "nul", *(f"{d}{i}" for d in ("com", "lpt") for i in range(1, 10))]


def predictions(probe: str = "facts", confidence: float = 0.5) -> Predictions:
    """Four answers, half of them right."""
    return Predictions.from_confidence([confidence] * 4, [True, False] * 2, probe=probe)


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of every file below a folder."""
    return {
        str(f.relative_to(folder)): (f.read_bytes(), f.stat().st_mtime_ns)
        for f in sorted(folder.rglob("*"))
        if f.is_file()
    }


# --- names of files ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["facts", "a.b", "a-1_x", "0", "-x", "x" * 100, "contra", "com10"])
def test_a_plain_name_is_its_own_file_name(name: str) -> None:
    """A name that every file system takes, and takes for no other, is left as it is."""
    assert file_stem(name) == name


@pytest.mark.parametrize("name", [*RESERVED, "CON", "Nul", "con.txt", "LPT9.a.b"])
def test_a_name_that_windows_reserves_is_never_a_file_name(name: str) -> None:
    """A repository is cloned on Windows too, where NUL.yaml is no file."""
    stem = file_stem(name)
    assert stem.partition(".")[0].lower() not in RESERVED
    assert re.fullmatch(r"[A-Za-z0-9_-]+-[0-9a-f]{8}", stem)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "a/b",
        "../x",
        "a\\b",
        ".hidden",
        "..",
        "end.",
        "Facts",
        "Qwen2.5-7B",
        "größe",
        "百科",
        "a\nb",
        "y" * 101,
    ],
)
def test_any_other_name_becomes_a_slug_with_its_digest(name: str) -> None:
    """The slug is short, plain ASCII and starts with no dot."""
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,60}-[0-9a-f]{8}", file_stem(name))


@given(st.text(), st.text())
def test_two_names_never_share_a_file(one: str, other: str) -> None:
    """Distinct names have distinct stems, also on a disk that takes capitals for small letters."""
    assert (file_stem(one).lower() == file_stem(other).lower()) == (one == other)
    for spelling in (one.upper(), one.lower(), one.title()):
        same = file_stem(one).casefold() == file_stem(spelling).casefold()
        assert same == (one == spelling)


@pytest.mark.parametrize(
    ("one", "other"), [("a b", "a-b"), ("a/b", "a b"), ("é", "è"), ("con", "con."), ("a", "a ")]
)
def test_names_of_one_slug_have_files_of_their_own(one: str, other: str) -> None:
    """Where the readable part is equal, the digest differs."""
    assert file_stem(one) != file_stem(other)


def test_probes_that_differ_by_capitals_have_files_of_their_own(tmp_path: Path) -> None:
    """A repository is cloned on disks that take `Facts` for `facts`: records, items, folders."""
    store = Baselines(tmp_path)
    for one in (store, store.named("sft"), store.named("SFT")):
        for probe, confidence in (("facts", 0.5), ("Facts", 0.75), ("FACTS", 1.0)):
            one.record(predictions(probe, confidence))
    files = [file.relative_to(tmp_path) for file in tmp_path.rglob("*")]
    assert len({str(file).lower() for file in files}) == len(files)
    assert store.path_of("facts") == tmp_path / "facts.yaml"
    for probe, confidence in (("facts", 0.5), ("Facts", 0.75), ("FACTS", 1.0)):
        assert store.load(probe).metrics["mean_confidence"] == confidence


def test_a_record_under_an_earlier_file_name_is_found(tmp_path: Path) -> None:
    """`Facts.yaml` was once the file of probe `Facts`: it is read, replaced and stays the only."""
    store = Baselines(tmp_path, name="SFT")
    new = store.record(predictions("Facts"))
    old = tmp_path / "SFT" / "Facts.yaml"
    text = new.read_text(encoding="utf-8")
    for file in items_files(new):
        text = text.replace(file.name, file.name.replace(new.stem, old.stem))
        old.parent.mkdir(exist_ok=True)
        file.rename(old.parent / file.name.replace(new.stem, old.stem))
    data = yaml.safe_load(text)
    old.write_text(to_yaml({**data, "checksum": checksum(data)}), encoding="utf-8")
    new.unlink()
    new.parent.rmdir()
    assert store.path_of("Facts") == old
    assert store.load("Facts").n == 4
    assert store.record(predictions("Facts", 0.75), reason="better") == old
    assert store.load("Facts").metrics["mean_confidence"] == 0.75
    assert len([*tmp_path.rglob("*.yaml")]) == 1
    # Another probe has its own.
    assert store.find("facts") is None
    assert store.path_of("FACTS") not in (old, store.path_of("facts"))


def test_a_file_that_differs_by_capitals_is_no_earlier_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that finds `facts.yaml` as `Facts.yaml`, that is no record of `Facts`."""
    store = Baselines(tmp_path)
    store.record(predictions("facts"))
    exists = os.path.exists
    monkeypatch.setattr(
        os.path,
        "exists",
        lambda path: exists(path) or exists(Path(path).with_name(Path(path).name.lower())),
    )
    assert store.find("Facts") is None
    assert store.find("facts") is not None


def test_other_baseline_names_have_a_folder_of_their_own(tmp_path: Path) -> None:
    """``default`` lies in the folder itself, another name in its folder; both can be stored."""
    store = Baselines(tmp_path)
    sft = store.named("sft")
    assert store.named("default").path_of("facts") == tmp_path / "facts.yaml"
    assert sft.path_of("facts") == tmp_path / "sft" / "facts.yaml"
    store.record(predictions(confidence=0.5))
    sft.record(predictions(confidence=0.75))
    assert store.load("facts").metrics["mean_confidence"] == 0.5
    assert sft.load("facts").metrics["mean_confidence"] == 0.75
    assert sft.load("facts").name == "sft"


@pytest.mark.parametrize("folder", [None, 3, b"x", ["x"]])
def test_a_folder_is_text_or_a_path(folder: Any) -> None:
    """Whatever else a variable holds is shown."""
    message = rf"^the folder of baselines must be text or a Path, got {re.escape(repr(folder))}\.$"
    with pytest.raises(UsageError, match=message):
        Baselines(folder)


@pytest.mark.parametrize("name", [3, None, b"sft"])
def test_a_baseline_name_is_text(tmp_path: Path, name: Any) -> None:
    """It is refused where it is given, not when a file is looked for."""
    with pytest.raises(UsageError, match=f"^a baseline name must be text, got {name!r}"):
        Baselines(tmp_path).named(name)


def test_a_baseline_name_must_not_be_empty(tmp_path: Path) -> None:
    """An empty name, as of an unset variable, would silently be the default one."""
    with pytest.raises(UsageError, match="a baseline name must not be empty"):
        Baselines(tmp_path).named("")


def test_a_name_never_leaves_the_folder(tmp_path: Path) -> None:
    """Probe and baseline names that look like paths stay inside."""
    store = Baselines(tmp_path / "in").named("../../out")
    path = store.record(predictions("../../../etc/passwd"))
    assert path.resolve().is_relative_to(tmp_path / "in")
    assert store.load("../../../etc/passwd").n == 4


# --- what is written -----------------------------------------------------------------------------


def test_a_record_is_two_files_in_a_folder_made_for_it(tmp_path: Path) -> None:
    """The folder need not exist; the YAML is what ``record`` returns."""
    path = Baselines(tmp_path / "deep" / "er").record(predictions())
    assert path == tmp_path / "deep" / "er" / "facts.yaml"
    assert len(list(path.parent.iterdir())) == 2


def test_a_path_may_be_text(tmp_path: Path) -> None:
    """A store takes the folder as text too."""
    assert Baselines(str(tmp_path)).path == tmp_path  # type: ignore[arg-type]


def test_replacing_needs_a_reason(tmp_path: Path) -> None:
    """A record is pinned: recording over it without a reason is refused and writes nothing."""
    store = Baselines(tmp_path)
    store.record(predictions())
    before = snapshot(tmp_path)
    for reason in (None, "", " ", "..."):
        with pytest.raises(BaselineError, match=r"facts\.yaml: is stored already; give a reason"):
            store.record(predictions(confidence=0.75), reason=reason)
    assert snapshot(tmp_path) == before


KILLED = """
import sys
from pathlib import Path
from pytest_calibration import Baselines, Predictions, files
from pytest_calibration.baselines import store

def write(path, content):
    if path.suffix == ".yaml":
        print("items written", flush=True)
        __import__("time").sleep(600)
    files.write_atomically(path, content)

store.write_atomically = write
p = Predictions.from_confidence([0.5, 0.9], [True, False], probe="facts", item_ids=range(2))
Baselines(Path(sys.argv[1])).record(p)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_the_next_record_removes_the_items_of_a_killed_one(tmp_path: Path) -> None:
    """Items that no record names go with the next record of their probe, whatever it holds."""
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "items written\n"
        process.kill()
    assert len(items_files(tmp_path / "facts.yaml")) == 1
    assert not (tmp_path / "facts.yaml").exists()
    path = Baselines(tmp_path).record(predictions())
    assert Baselines(tmp_path).load("facts").n == len(predictions())
    assert sorted(os.listdir(tmp_path)) == [items_files(path)[0].name, "facts.yaml"]


def test_replacing_removes_the_old_items_and_nobody_elses(tmp_path: Path) -> None:
    """Of all files, only those that are named as items of this record go."""
    store = Baselines(tmp_path)
    for probe in ("facts", "facts-2", "facts.items-000000000000", "more"):
        store.record(predictions(probe))
    mine = [
        "facts.npz",
        "facts.items-000000000000.npz.bak",
        "facts.items-12.npz",
        "xfacts.items-000000000000.npz",
        "facts.items-00000000000G.npz",
    ]
    for name in mine:
        (tmp_path / name).write_bytes(b"mine")
    # The first one is the anchor's, which stays.
    (anchor,) = items_files(tmp_path / "facts.yaml")
    store.record(predictions(confidence=0.7), reason="better")
    (old,) = {*items_files(tmp_path / "facts.yaml")} - {anchor}
    before = set(snapshot(tmp_path))
    store.record(predictions(confidence=0.75), reason="better")
    (new,) = {*items_files(tmp_path / "facts.yaml")} - {anchor}
    assert old != new
    assert set(snapshot(tmp_path)) == (before - {old.name}) | {new.name}
    for probe in ("facts", "facts-2", "facts.items-000000000000", "more"):
        assert store.load(probe).n == 4


def test_old_items_that_cannot_be_removed_are_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that someone holds open is no reason to call a record that was written a failure."""

    def in_use(path: Path, *, missing_ok: bool = False) -> None:
        raise PermissionError(13, "in use", str(path))

    store = Baselines(tmp_path)
    store.record(predictions())
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", in_use)
        store.record(predictions(confidence=0.75), reason="better")
    assert store.load("facts").metrics["mean_confidence"] == 0.75
    assert len(list(tmp_path.glob("*.npz"))) == 2


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_items_that_another_process_is_about_to_name_are_left(tmp_path: Path) -> None:
    """Whoever writes a record holds the folder's lock until its YAML names the items."""
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "items written\n"
        with pytest.raises(TimeoutError), locked(tmp_path, wait=0.1):
            pass
        assert len(items_files(tmp_path / "facts.yaml")) == 1
        process.kill()


def test_equal_items_are_kept_when_only_the_summary_changes(tmp_path: Path) -> None:
    """Replacing a record by the same predictions of another model keeps the items file as it is."""
    store = Baselines(tmp_path)
    store.record(predictions())
    (items,) = tmp_path.glob("*.npz")
    os.utime(items, ns=(1, 1))
    store.record(predictions().with_signature(model="other"), reason="renamed")
    assert [items] == list(tmp_path.glob("*.npz"))
    assert items.stat().st_mtime_ns == 1


def test_equal_content_is_never_written_again(tmp_path: Path) -> None:
    """Writing the same draft twice leaves bytes and times of both files alone."""
    draft = Baselines(tmp_path).draft(predictions())
    path = draft.write()
    for file in tmp_path.iterdir():
        os.utime(file, ns=(10**9, 10**9))
    before = snapshot(tmp_path)
    assert draft.write() == path
    assert snapshot(tmp_path) == before
    assert {time for _, time in before.values()} == {10**9}


def test_a_draft_writes_nothing_until_write_is_called(tmp_path: Path) -> None:
    """Drafts are plain data: they travel between processes and are written by one of them."""
    store = Baselines(tmp_path / "stored")
    draft = store.draft(predictions())
    assert list(tmp_path.iterdir()) == []
    travelled = Draft(**pickle.loads(pickle.dumps(draft.__dict__)))
    assert travelled == draft
    assert draft.key == str(store.path_of("facts"))
    assert draft.write() == store.path_of("facts")
    data = yaml.safe_load(draft.text)
    assert (data["checksum"], data["items"]["file"]) == (draft.checksum, draft.items_file)


def test_a_record_that_another_process_added_meanwhile_stays(tmp_path: Path) -> None:
    """Recording only adds: what was stored after the draft was made is not replaced."""
    store = Baselines(tmp_path)
    late = store.draft(predictions(confidence=0.9))
    store.record(predictions())
    before = snapshot(tmp_path)
    with pytest.raises(BaselineError, match="found nothing stored there; it stays as it is"):
        late.write()
    assert snapshot(tmp_path) == before


def test_the_same_record_added_meanwhile_is_no_conflict(tmp_path: Path) -> None:
    """Two processes that record the same both succeed; hand edits made in between stay."""
    store = Baselines(tmp_path)
    late = store.draft(predictions())
    path = store.record(predictions())
    path.write_text(path.read_text().replace("note: ''", "note: mine"))
    before = snapshot(tmp_path)
    assert late.write() == path
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("change", ["accepted", "hand edit", "damaged", "removed"])
def test_only_what_was_judged_is_replaced(tmp_path: Path, change: str) -> None:
    """A draft replaces the record it was made from; one that has changed since then stays."""
    store = Baselines(tmp_path)
    path = store.record(predictions())
    judged = store.load("facts")
    late = store.draft(predictions(confidence=0.9), previous=judged, reason="late")
    if change == "accepted":
        store.record(predictions(confidence=0.7), reason="early")
    elif change == "hand edit":
        path.write_text(path.read_text().replace("tolerance: null", "tolerance: 0.5"))
    elif change == "damaged":
        path.write_text("<<<<<<< ours\n")
    else:
        remove_record(path)
    before = snapshot(tmp_path)
    with pytest.raises(BaselineError, match="after this run compared with it; it stays as it is"):
        late.write()
    assert snapshot(tmp_path) == before
    assert not list(tmp_path.glob("**/.lock"))


def test_of_many_processes_one_records(tmp_path: Path) -> None:
    """Of eight processes that found nothing stored, one records, and its two files fit together."""
    code = """
import sys
from pathlib import Path
from pytest_calibration import Baselines, Predictions
from pytest_calibration.errors import BaselineError

folder, i = Path(sys.argv[1]), int(sys.argv[2])
answers = Predictions.from_confidence([(50 + i) / 100] * 4, [True, False] * 2, probe="facts")
draft = Baselines(folder).draft(answers)
print("ready", flush=True)
sys.stdin.readline()
try:
    draft.write()
except BaselineError as problem:
    sys.exit("it stays as it is" not in str(problem) or 3)
"""
    folder = tmp_path / "stored"
    pipe: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(folder), str(i)], **pipe)
        for i in range(8)
    ]
    # All have looked before any writes.
    assert [run.stdout.readline() for run in runs if run.stdout] == ["ready\n"] * 8
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("go\n")
        run.stdin.flush()
    codes = [run.wait(timeout=120) for run in runs]
    for run in runs:
        run.communicate()
    assert sorted(codes) == [0] + [3] * 7
    stored = Baselines(folder).load("facts")
    assert stored.predictions.confidence[0] == np.float32((50 + codes.index(0)) / 100)
    assert {file.suffix for file in folder.iterdir()} == {".yaml", ".npz"}
    assert len(list(folder.iterdir())) == 2


def test_a_session_can_collect_drafts_instead(tmp_path: Path) -> None:
    """With ``submit`` of its own, ``record`` writes nothing itself."""
    drafts: list[Draft] = []
    store = Baselines(tmp_path / "stored", submit=drafts.append)
    store.record(predictions())
    assert [d.file for d in drafts] == ["facts.yaml"]
    assert list(tmp_path.iterdir()) == []


def test_the_store_reports_which_records_were_looked_for(tmp_path: Path) -> None:
    """Every lookup is reported, found or not: records that no test looks for can be pruned."""
    asked: list[Path] = []
    store = Baselines(tmp_path, asked=asked.append)
    with pytest.raises(MissingBaseline):
        store.load("facts")
    assert store.find("more") is None
    store.named("sft").record(predictions())
    assert asked == [tmp_path / "facts.yaml", tmp_path / "more.yaml", tmp_path / "sft/facts.yaml"]


def test_by_default_nothing_may_be_written() -> None:
    """Without a flag, a run may neither record nor replace."""
    assert Policy() == Policy(record=False, accept=None)
    assert Baselines(Path()).policy == Policy()


def test_what_cannot_be_trusted_is_never_replaced(tmp_path: Path) -> None:
    """Recording over an unreadable record is refused, whatever the reason."""
    store = Baselines(tmp_path)
    path = store.record(predictions())
    path.write_text("<<<<<<< HEAD\n", encoding="utf-8")
    before = snapshot(tmp_path)
    with pytest.raises(UnreadableBaseline, match="conflict markers"):
        store.record(predictions(), reason="repair")
    assert snapshot(tmp_path) == before


# --- atomic writing ------------------------------------------------------------------------------


class Replacements:
    """Stands for ``os.replace``: notes what is moved where, and fails at the n-th call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail_at: int, error: BaseException) -> None:
        self.seen: list[tuple[Path, Path]] = []
        self.fail_at = fail_at
        self.error = error
        self.move = os.replace
        monkeypatch.setattr(os, "replace", self)

    def __call__(self, source: str, target: Path) -> None:
        """Note, then move or fail."""
        self.seen.append((Path(source), Path(target)))
        if len(self.seen) == self.fail_at:
            raise self.error
        self.move(source, target)


@pytest.mark.parametrize("fail_at", [1, 2], ids=["items", "yaml"])
@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), OSError("gone"), KeyboardInterrupt()],
    ids=["disk-full", "no-number", "interrupt"],
)
def test_a_failed_write_leaves_the_old_record_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_at: int, error: BaseException
) -> None:
    """Whichever file fails, the old record is read as before; the error says what happened."""
    store = Baselines(tmp_path)
    store.record(predictions())
    before = snapshot(tmp_path)
    with monkeypatch.context() as patch:
        Replacements(patch, fail_at, error)
        if isinstance(error, OSError):
            text = error.strerror or "gone"
            with pytest.raises(BaselineError, match=rf"cannot be written \({text}\); nothing was"):
                store.record(predictions(confidence=0.75), reason="better")
        else:
            with pytest.raises(KeyboardInterrupt):
                store.record(predictions(confidence=0.75), reason="better")
    after = snapshot(tmp_path)
    assert {name: after[name] for name in before} == before
    assert {Path(name).suffix for name in after} == {".yaml", ".npz"}
    assert store.load("facts").metrics["mean_confidence"] == 0.5
    store.record(predictions(confidence=0.75), reason="second try")
    # The record, its items and those of the first record, which is the anchor.
    assert len(snapshot(tmp_path)) == 3


def test_items_are_written_first_and_through_names_that_are_no_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader between two writes never meets a YAML file whose items are not there yet."""
    moves = Replacements(monkeypatch, 0, OSError())
    path = Baselines(tmp_path).record(predictions())
    assert [target.suffix for _, target in moves.seen] == [".npz", ".yaml"]
    for source, target in moves.seen:
        assert source.suffix not in {".yaml", ".yml", ".npz"}
        assert source.parent == target.parent == path.parent


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_are_as_public_as_the_user_makes_files(tmp_path: Path, umask: int, mode: int) -> None:
    """Temporary files are private; what they become follows the umask."""
    old = os.umask(umask)
    with contextlib.ExitStack() as stack:
        stack.callback(os.umask, old)
        Baselines(tmp_path).record(predictions())
    assert {stat.S_IMODE(f.stat().st_mode) for f in tmp_path.iterdir()} == {mode}


def test_a_folder_that_cannot_be_is_an_error_of_its_own(tmp_path: Path) -> None:
    """A file where the folder should be: the message names the record and that nothing was kept."""
    (tmp_path / "stored").write_text("a file", encoding="utf-8")
    with pytest.raises(BaselineError, match=r"facts\.yaml: cannot be written \(.*nothing was rec"):
        Baselines(tmp_path / "stored").record(predictions())
