"""What is known of a checkpoint, by content: files, values, hub commits, surroundings."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_calibration.models import secret
from pytest_calibration.models.backends import Identity, ModelSpec, transformers
from pytest_calibration.models.backends.transformers import checkpoint_files as files
from pytest_calibration.models.backends.transformers import environment
from pytest_calibration.models.backends.transformers.checkpoint_files import (
    FileState,
    checkpoint_files,
    file_digest,
)
from pytest_calibration.models.backends.transformers.identity import (
    CheckpointIdentity,
    identify_checkpoint,
)
from pytest_calibration.models.backends.transformers.loading_settings import TransformersSettings
from pytest_calibration.models.cache import Cache

COMMITS = ("a" * 40, "b" * 40)


# --- files ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint directory whose files are an hour old."""
    made = tmp_path / "model"
    made.mkdir()
    for name, content in {
        "config.json": b"{}",
        "model-1.safetensors": b"one",
        "model-2.safetensors": b"two",
        "tokenizer.json": b"t",
    }.items():
        (made / name).write_bytes(content)
    return made


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """A cache, in a world where the files above are old enough to be trusted."""
    now = time.time
    monkeypatch.setattr(files.time, "time", lambda: now() + 3600)
    return Cache(tmp_path / "kept")


def named(folder: Path, **settings: Any) -> CheckpointIdentity:
    """Identify a directory."""
    return identify_checkpoint(spec_of(folder), TransformersSettings(**settings))


def spec_of(folder: Path) -> ModelSpec:
    """The spec of a directory."""
    return ModelSpec(str(folder), local=True, name="m")


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("model.gguf", True),
        ("qwen.tiktoken", True),
        ("source.spm", True),
        ("chat_template.jinja", True),
        ("adapter_model.bin", True),
        ("vocab", True),
        ("README.md", False),
        (".gitattributes", False),
        ("optimizer.bin", False),
        ("scheduler.pt", False),
        ("rng_state_0.pth", False),
        ("trainer_state.json", False),
        ("training_args.bin", False),
        ("events.out.tfevents.1", False),
        ("checkpoint-10/model.safetensors", False),
        ("lib/code.py", False),
    ],
)
def test_which_files_count(folder: Path, name: str, counts: bool) -> None:
    """All at the top but those that no loader reads; another checkpoint within does not."""
    before = named(folder).digest
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"new")
    assert (named(folder).digest != before) == counts


def test_folders_within_count_where_they_are_named(folder: Path) -> None:
    """By a subfolder of model or tokenizer, or for code beside code."""
    (folder / "inner").mkdir()
    (folder / "inner" / "model.safetensors").write_bytes(b"x")
    (folder / "inner" / "code.py").write_text("x = 1")
    assert "inner/model.safetensors" not in dict(checkpoint_files(folder))
    assert "inner/code.py" not in dict(checkpoint_files(folder))
    assert "inner/model.safetensors" in dict(checkpoint_files(folder, ["inner"]))
    for which in ("arguments", "tokenizer_arguments"):
        before = named(folder, **{which: {"subfolder": "inner"}}).digest
        (folder / "inner" / "model.safetensors").write_bytes(which.encode())
        assert named(folder, **{which: {"subfolder": "inner"}}).digest != before
    (folder / "modeling.py").write_text("from .inner import code")
    assert "inner/code.py" in dict(checkpoint_files(folder))


INDEX = json.dumps({"metadata": {}, "weight_map": {"a": "NAME", "b": "NAME"}})
NAMED = [
    ("model.safetensors.index.json", "shards/w.safetensors"),
    ("model.safetensors.index.fp16.json", "shards/deep/w.safetensors"),
    ("model.safetensors.index.json", ".w.safetensors"),
    ("model.safetensors.index.json", ".hidden/w.safetensors"),
    ("model.safetensors.index.json", "../beside.safetensors"),
    ("model.safetensors.index.json", "optimizer.safetensors"),
    ("pytorch_model.bin.index.json", "w.pt"),
    ("pytorch_model.bin.index.json", "parts/w.bin"),
    ("config.json", "sub/weights.safetensors"),
    ("tokenizer_config.json", "vocabulary/v.txt"),
    ("adapter_config.json", "experts/0/adapter_model.safetensors"),
]


@pytest.mark.parametrize(("source", "name"), NAMED)
def test_a_file_counts_where_an_index_or_a_configuration_names_it(
    folder: Path, source: str, name: str
) -> None:
    """In a folder within, hidden, or under an ending that else is left out: content counts."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"old")
    text = json.dumps({"base_model_name_or_path": "owner/name", "some": [{"key": name}]})
    (folder / source).write_text(INDEX.replace("NAME", name) if "index" in source else text)
    before = named(folder)
    file.write_bytes(b"new")
    assert named(folder).digest != before.digest
    assert not before.unchanged()


def test_an_index_may_name_a_file_by_its_whole_path(folder: Path, tmp_path: Path) -> None:
    """A loader joins the paths, so the file may lie anywhere."""
    (tmp_path / "far").write_bytes(b"old")
    text = INDEX.replace("NAME", str(tmp_path / "far"))
    (folder / "model.safetensors.index.json").write_text(text)
    before = named(folder).digest
    (tmp_path / "far").write_bytes(b"new")
    assert named(folder).digest != before


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"weight_map": 5}', "[" * 100_000, '{"a": "\\u0000", "b": "\\ud800"}']
)
def test_an_index_that_names_no_files_harms_nothing(folder: Path, text: str) -> None:
    """Loading reports what is wrong with it."""
    (folder / "model.safetensors.index.json").write_text(text)
    assert len(named(folder).files) == 5


def test_code_counts_wherever_it_is_imported_from(folder: Path, tmp_path: Path) -> None:
    """Where a configuration names code in a folder within, or a link leads to it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "linked.py").write_text("x = 1")
    (elsewhere / "again").symlink_to(elsewhere)
    (folder / "code").mkdir()
    (folder / "code" / "own.py").write_text("x = 1")
    (folder / "link").symlink_to(elsewhere)
    assert not [name for name, _ in checkpoint_files(folder) if name.endswith(".py")]
    (folder / "config.json").write_text('{"auto_map": {"AutoConfig": "code/own.Own"}}')
    code = [name for name, _ in checkpoint_files(folder) if name.endswith(".py")]
    assert code == ["code/own.py", "link/linked.py"]


def test_chat_templates_in_their_folder_count(folder: Path) -> None:
    """The library reads them from there."""
    before = named(folder).digest
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tools.jinja").write_text("x")
    assert named(folder).digest != before


@pytest.mark.parametrize(
    ("change", "same"),
    [
        pytest.param(lambda f: (f / "model-1.safetensors").write_bytes(b"x"), False, id="weights"),
        pytest.param(lambda f: (f / "config.json").write_text("[]"), False, id="configuration"),
        pytest.param(lambda f: (f / "tokenizer.json").write_bytes(b"x"), False, id="tokenizer"),
        pytest.param(lambda f: (f / "modeling.py").write_text("x = 1"), False, id="code"),
        pytest.param(lambda f: (f / "config.json").rename(f / "b.json"), False, id="name"),
        pytest.param(lambda f: (f / "config.json").touch(), True, id="time"),
        pytest.param(lambda f: (f / "runs.json").mkdir(), True, id="folder"),
    ],
)
def test_what_a_loader_reads_counts(
    folder: Path, change: Callable[[Path], object], same: bool
) -> None:
    """Content and name of each file, and not when it was written."""
    before = named(folder).digest
    change(folder)
    assert (named(folder).digest == before) == same


def test_a_copy_is_the_same_checkpoint(folder: Path, tmp_path: Path) -> None:
    """Content counts, not where it lies."""
    other = tmp_path / "other"
    other.mkdir()
    for file in folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    assert named(other).digest == named(folder).digest
    (other / "model-1.safetensors").write_bytes(b"two")
    (other / "model-2.safetensors").write_bytes(b"one")
    assert named(other).digest != named(folder).digest


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 200, 250])
def test_pieces_of_a_file_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Every byte of every piece counts, and so do length and order; as the formula says."""
    monkeypatch.setattr(files, "PIECE", 100)
    monkeypatch.setattr(files, "BLOCK", 32)
    content = bytes(i % 251 for i in range(size))
    file = tmp_path / "f"

    def digest(content: bytes) -> str:
        file.write_bytes(content)
        return file_digest(file)[0]

    pieces = [content[i : i + 100] for i in range(0, max(size, 1), 100)]
    inner = b"".join(hashlib.sha256(piece).digest() for piece in pieces)
    assert digest(content) == hashlib.sha256(str(size).encode() + inner).hexdigest()
    seen = {digest(content), digest(content + b"\0")}
    for i in range(size):
        changed = bytearray(content)
        changed[i] ^= 1
        seen.add(digest(bytes(changed)))
    assert len(seen) == size + 2
    if size == 200:
        assert digest(content[100:] + content[:100]) not in seen


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose content is read from now on."""
    seen: list[str] = []
    plain = files._read
    monkeypatch.setattr(
        files, "_read", lambda path, size: (seen.append(path.name), plain(path, size))[1]
    )
    return seen


def test_unchanged_files_are_read_once(
    folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run looks at their state alone; a changed one is read again, and only that."""
    seen = reads(monkeypatch)
    first = identify_checkpoint(spec_of(folder), TransformersSettings(), cache)
    assert len(seen) == 4
    again = Cache(cache.folder.parent)
    assert identify_checkpoint(spec_of(folder), TransformersSettings(), again) == first
    assert len(seen) == 4
    (folder / "config.json").write_bytes(b"[]")
    changed = identify_checkpoint(spec_of(folder), TransformersSettings(), cache)
    assert changed.digest != first.digest
    assert seen[4:] == ["config.json"]
    assert named(folder).digest == changed.digest


def test_a_file_with_the_same_size_and_time_is_still_another(folder: Path, cache: Cache) -> None:
    """Tools that set times back do not hide a change: the change of the state itself is seen."""
    file = folder / "model-1.safetensors"
    before, _ = file_digest(file, cache)
    times = file.stat()
    # Until the clock of the file system has ticked.
    while file.stat().st_ctime_ns == times.st_ctime_ns:
        file.write_bytes(b"eno")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file_digest(file, cache)[0] != before


def test_a_file_changed_just_now_is_not_trusted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may change again within one tick of the file system's clock."""
    seen = reads(monkeypatch)
    memo = Cache(tmp_path / "kept")
    file = folder / "config.json"
    changed = file.stat().st_ctime
    monkeypatch.setattr(files.time, "time", lambda: changed + 1.9)
    for _ in range(2):
        file_digest(file, memo)
    assert len(seen) == 2
    monkeypatch.setattr(files.time, "time", lambda: changed + 2.1)
    for _ in range(2):
        file_digest(file, memo)
    assert len(seen) == 3


def test_a_file_changed_while_it_is_read_is_not_trusted(
    folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its digest is kept for no state, and the identity does not hold."""
    file = folder / "config.json"
    plain = files._read

    def read(path: Path, size: int) -> bytes:
        found = plain(path, size)
        path.write_bytes(b"changed")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(files, "_read", read)
        _, state = file_digest(file, cache)
    assert cache.get(state.key) is None
    assert not CheckpointIdentity("", exact=True, files=(state,)).unchanged()
    seen = reads(monkeypatch)
    file_digest(file, cache)
    assert seen == ["config.json"]


def test_an_identity_holds_while_nothing_changes(folder: Path) -> None:
    """Neither content nor existence."""
    identity = named(folder)
    assert identity.unchanged()
    assert len(identity.files) == 4
    assert FileState.of(folder / "config.json") in identity.files
    (folder / "tokenizer.json").unlink()
    assert not identity.unchanged()


def test_an_identity_ends_where_a_link_leads_elsewhere(folder: Path, tmp_path: Path) -> None:
    """Links of the checkpoint, of its files, and on the way: what is loaded next is another."""
    other = tmp_path / "other"
    other.mkdir()
    for file in folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    (tmp_path / "latest").symlink_to(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to(other / "tokenizer.json")
    by_folder, by_file = named(tmp_path / "latest"), named(folder)
    assert by_folder.unchanged()
    (tmp_path / "latest").unlink()
    (tmp_path / "latest").symlink_to(other)
    assert not by_folder.unchanged()
    assert by_file.unchanged()
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to(other / "config.json")
    assert not by_file.unchanged()


@pytest.mark.parametrize("name", ["model.safetensors", "adapter_config.json", "modeling.py"])
def test_an_identity_ends_where_a_file_is_added(folder: Path, name: str) -> None:
    """Until it is loaded; what is added later is not read."""
    loaded, later = named(folder), named(folder)
    assert later.unchanged()
    (folder / name).write_bytes(b"{}")
    assert not loaded.unchanged()
    assert later.unchanged()


def places(tmp_path: Path) -> list[Path]:
    """A folder on each file system there is to write to."""
    memory = Path("/dev/shm")
    return [tmp_path, memory] if memory.is_dir() and os.access(memory, os.W_OK) else [tmp_path]


def tick(place: Path) -> None:
    """Wait until the clock of a file system has ticked."""
    with tempfile.NamedTemporaryFile(dir=place) as file:
        before = Path(file.name).stat().st_mtime_ns
        while Path(file.name).stat().st_mtime_ns == before:
            os.utime(file.name)


def test_weights_written_through_a_mapping_are_read_again(cache: Cache, tmp_path: Path) -> None:
    """A mapping that is kept may change a page at any time, on a disk and in memory."""
    for place in places(tmp_path):
        with tempfile.TemporaryDirectory(dir=place) as made:
            file = Path(made) / "w"
            file.write_bytes(bytes(10_000))
            with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
                mapped[0] = 1
                seen = set()
                for i in range(3):
                    identity = named(Path(made))
                    assert identity.unchanged()
                    seen |= {file_digest(file, cache)[0], file_digest(file, cache)[0]}
                    tick(place)
                    later = named(Path(made))
                    mapped[1 + i] = 1
                    assert not later.unchanged(), place
                assert len(seen) == 3, place


def test_a_file_system_in_memory_is_never_trusted(
    folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It notes no time when a mapped page changes, so files there are read each time."""
    monkeypatch.setattr(files, "_in_memory", lambda _: True)
    seen = reads(monkeypatch)
    file = folder / "config.json"
    for _ in range(2):
        _, state = file_digest(file, cache)
    assert seen == ["config.json"] * 2
    assert cache.get(state.key) is None


def test_file_systems_in_memory_are_known() -> None:
    """By what the system says of the device a file lies on."""
    for place in map(Path, ("/dev/shm", "/proc/self")):
        if not place.is_dir():
            pytest.skip(f"there is no {place}")
    files._in_memory.cache_clear()
    assert files._in_memory(Path("/dev/shm").stat().st_dev)
    assert not files._in_memory(Path("/proc/self").stat().st_dev)


def test_a_digest_that_somebody_else_kept_is_not_believed(
    folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key is made of what others can see; so it is sealed with a secret that they cannot."""
    file = folder / "model-1.safetensors"
    true, state = file_digest(file)
    forged = bytes(32)
    for content in (forged, forged + bytes(16), bytes(8), b""):
        cache.put(state.key, content)
        assert file_digest(file, cache)[0] == true
    with monkeypatch.context() as patched:
        patched.setattr(secret, "user_secret", lambda _: b"another's")
        cache.put(state.key, secret.sealed(forged, state.key) or b"")
    assert file_digest(file, cache)[0] == true
    # A seal is of one file in one state.
    other = FileState.of(folder / "model-2.safetensors")
    file_digest(file, cache)
    cache.put(other.key, cache.get(state.key) or b"")
    assert file_digest(folder / "model-2.safetensors", cache)[0] != true
    seen = reads(monkeypatch)
    assert file_digest(file, cache)[0] == true
    assert seen == []


def test_without_a_secret_every_file_is_read(
    folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the user has no place for one, it costs time only."""
    monkeypatch.setattr(secret, "user_secret", lambda _: None)
    seen = reads(monkeypatch)
    assert {file_digest(folder / "config.json", cache)[0] for _ in range(2)} == {
        file_digest(folder / "config.json")[0]
    }
    assert seen == ["config.json"] * 3


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"dtype": "float16"}, False),
        ({"tokenizer": "other"}, False),
        ({"arguments": {"a": 1}}, False),
        ({"tokenizer_arguments": {"a": 1}}, False),
        ({"batch_tokens": 7}, True),
        ({"device": "cpu"}, True),
        ({"threads": 1}, True),
    ],
)
def test_settings_that_change_scores_count(
    folder: Path, settings: dict[str, object], same: bool
) -> None:
    """How much is computed at once, and where, changes no score."""
    assert (named(folder).digest == named(folder, **settings).digest) == same


def test_a_tokenizer_of_its_own_counts_by_content(folder: Path, tmp_path: Path) -> None:
    """Wherever it lies."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_bytes(b"same")
    one, two = (named(folder, tokenizer=str(tmp_path / name)) for name in ("one", "two"))
    assert one.digest == two.digest != named(folder).digest
    (tmp_path / "two" / "tokenizer.json").write_bytes(b"other")
    assert named(folder, tokenizer=str(tmp_path / "two")).digest != two.digest


@pytest.mark.parametrize(
    ("arguments", "exact"),
    [
        ({}, True),
        ({"attn_implementation": "sdpa", "n": [1, 2.5, None], "m": {"a": True}}, True),
        ({"subfolder": "a/b"}, True),
        ({"hook": object()}, False),
        ({"attn_implementation": "kernels-community/flash-attn"}, False),
        ({"quantization_config": {"path": "/x/y"}}, False),
        ({"config": Path("x")}, False),
    ],
)
def test_arguments_count_by_value(folder: Path, arguments: dict[str, object], exact: bool) -> None:
    """What stands for something that may change under its name makes an identity inexact."""
    (folder / "a" / "b").mkdir(parents=True)
    assert named(folder, arguments=arguments).exact == exact
    assert named(folder, tokenizer_arguments=arguments).exact == exact


def test_an_argument_that_names_a_file_is_not_its_content(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is a file here counts as one."""
    monkeypatch.chdir(tmp_path)
    assert named(folder, arguments={"template": "words"}).exact
    (tmp_path / "words").write_text("x")
    assert not named(folder, arguments={"template": "words"}).exact


def test_code_from_another_repository_is_not_known_by_content(folder: Path) -> None:
    """A checkpoint may name code that lies elsewhere; that counts where code is run at all."""
    (folder / "config.json").write_text(json.dumps({"auto_map": {"A": "org/code--m.A"}}))
    assert named(folder).exact
    assert not named(folder, trust_remote_code=True).exact
    (folder / "config.json").write_text(json.dumps({"auto_map": {"A": "m.A"}}))
    assert named(folder, trust_remote_code=True).exact


def test_an_adapter_counts_with_its_base(folder: Path, tmp_path: Path) -> None:
    """Another base makes another model of the same adapter."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(folder)})
    )
    alone = named(adapter)
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    before = named(adapter)
    assert before.exact
    assert before.digest != alone.digest
    (folder / "model-1.safetensors").write_bytes(b"other")
    assert named(adapter).digest != before.digest
    assert not before.unchanged()


# --- the hub -------------------------------------------------------------------------------------


class Hub:
    """A hub cache as downloads leave it behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, repo: str, commit: str, ref: str = "main", **files: object) -> Path:
        """Put a snapshot there; ``adapter_config=`` stands for ``adapter_config.json``."""
        place = self.folder / f"models--{repo.replace('/', '--')}"
        snapshot = place / "snapshots" / commit
        snapshot.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (snapshot / f"{name}.json").write_text(json.dumps(content))
        (place / "refs").mkdir(exist_ok=True)
        (place / "refs" / ref).write_text(commit)
        return snapshot


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """An empty hub cache; nothing is asked of the network."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return Hub(tmp_path / "hub")


def asked(repo: str, revision: str | None = None, **settings: Any) -> CheckpointIdentity:
    """Identify a hub id."""
    spec = ModelSpec(repo, revision, name="m")
    return identify_checkpoint(spec, TransformersSettings(**settings), hub=True)


def test_a_hub_id_counts_by_its_commit(hub: Hub) -> None:
    """A branch that moves on is another model; the same commit by another name is exact, too."""
    hub.add("org/m", COMMITS[0], config={})
    first = asked("org/m")
    assert first.exact
    assert asked("org/m") == first
    hub.add("org/m", COMMITS[1], config={})
    second = asked("org/m")
    assert second.exact
    assert second.digest != first.digest
    assert asked("org/m", COMMITS[0]).exact
    assert not asked("org/m", "v1").exact
    hub.add("org/m", COMMITS[0], ref="v1", config={})
    assert asked("org/m", "v1").exact


def test_a_fingerprint_of_a_hub_model_is_its_id_and_revision() -> None:
    """Nothing is asked of the hub to tell two of them apart."""
    prints = {
        transformers.identify(ModelSpec(location, revision), TransformersSettings(), None)
        for location in ("org/a", "org/b")
        for revision in (None, "v1", "v2")
    }
    assert len({one.fingerprint for one in prints}) == 6
    assert {one.cache_key for one in prints} == {None}


def test_what_cannot_be_resolved_counts_by_name(hub: Hub) -> None:
    """Offline and never downloaded: the name stands, and is not relied upon."""
    one, two = asked("org/unknown"), asked("org/other")
    assert not one.exact
    assert one.digest != two.digest


def test_a_folder_that_is_no_commit_is_none(hub: Hub) -> None:
    """A snapshot is known by the commit in its name, or not at all."""
    hub.add("org/m", "latest", config={})
    assert not asked("org/m").exact


def test_nothing_is_asked_where_the_commit_is_not_wanted(hub: Hub) -> None:
    """The mere fingerprint of a hub id is its name."""
    hub.add("org/m", COMMITS[0], config={})
    spec = ModelSpec("org/m")
    assert not identify_checkpoint(spec, TransformersSettings()).exact


def test_an_adapter_on_the_hub_counts_with_its_base(hub: Hub) -> None:
    """The base's commit is a part of it; where that is not known, neither is the adapter."""
    adapter = {"base_model_name_or_path": "org/base", "revision": None}
    hub.add("org/a", COMMITS[0], adapter_config=adapter)
    assert not asked("org/a").exact
    hub.add("org/base", COMMITS[0], config={})
    before = asked("org/a")
    assert before.exact
    hub.add("org/base", COMMITS[1], config={})
    assert asked("org/a").digest != before.digest


def test_a_local_adapter_on_a_hub_base_and_a_tokenizer_from_the_hub(
    hub: Hub, tmp_path: Path, folder: Path
) -> None:
    """Each counts by its commit."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')

    with_tokenizer = TransformersSettings(tokenizer="org/base")

    def both() -> tuple[CheckpointIdentity, CheckpointIdentity]:
        return (
            identify_checkpoint(spec_of(adapter), TransformersSettings(), hub=True),
            identify_checkpoint(spec_of(folder), with_tokenizer, hub=True),
        )

    assert [i.exact for i in both()] == [False, False]
    hub.add("org/base", COMMITS[0], tokenizer_config={})
    first = both()
    hub.add("org/base", COMMITS[1], tokenizer_config={})
    second = both()
    assert all(i.exact for i in (*first, *second))
    assert first[0].digest != second[0].digest
    assert first[1].digest != second[1].digest


def test_another_hub_folder_is_looked_into_where_loading_does(hub: Hub, tmp_path: Path) -> None:
    """``cache_dir`` among the arguments goes to the hub, too."""
    Hub(tmp_path / "elsewhere").add("org/m", COMMITS[0], config={})
    assert not asked("org/m").exact
    assert asked("org/m", arguments={"cache_dir": str(tmp_path / "elsewhere")}).exact


def test_resolving_a_hub_id_loads_nothing_heavy(tmp_path: Path) -> None:
    """Neither torch nor transformers is imported for it."""
    pytest.importorskip("huggingface_hub")
    Hub(tmp_path).add("org/m", COMMITS[0], config={})
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pytest_calibration.models.backends import ModelSpec, transformers\n"
        "from pytest_calibration.models.cache import Cache\n"
        "cache = Cache(Path('kept'))\n"
        "found = transformers.identify(ModelSpec('org/m'), transformers.Settings(), cache)\n"
        "print(found.cache_key is not None, {'torch', 'transformers'} & {*sys.modules})\n"
    )
    env = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "True set()\n"


# --- surroundings --------------------------------------------------------------------------------


def test_no_accelerator_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of none is visible says nothing."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert environment.accelerators(tmp_path) == []


def card(root: Path, number: int, model: str) -> None:
    """Put a graphics card there, as its driver shows it."""
    place = root / "proc/driver/nvidia/gpus" / str(number)
    place.mkdir(parents=True)
    (place / "information").write_text(f"Model: \t\t {model}\nIRQ:   1\n")
    (root / "dev").mkdir(exist_ok=True)
    (root / "dev" / f"nvidia{number}").touch()


def test_a_machine_with_an_accelerator_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By kind of card and driver, and by whether it may be seen; not by how many there are."""
    for name in environment.VISIBLE:
        monkeypatch.delenv(name, raising=False)
    card(tmp_path, 0, "H100")
    (tmp_path / "proc/driver/nvidia/version").write_text("550")
    one = environment.accelerators(tmp_path)
    assert one == ["H100", "nvidia", "550"]
    card(tmp_path, 1, "H100")
    assert environment.accelerators(tmp_path) == one
    seen = []
    for value in ("0", "1", "", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        seen.append(environment.accelerators(tmp_path))
    assert seen[0] == seen[1] != seen[2] == seen[3]
    card(tmp_path, 2, "A10")
    seen = []
    for value in ("0", "2"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        seen.append(environment.accelerators(tmp_path))
    assert seen[0] != seen[1]
    (tmp_path / "proc/driver/nvidia/version").write_text("560")
    assert environment.accelerators(tmp_path) != seen[1]


@pytest.mark.parametrize("device", ["kfd", "dxg"])
def test_other_accelerators_are_seen_by_their_devices(tmp_path: Path, device: str) -> None:
    """AMD's, and those of Windows below Linux."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / device).touch()
    assert device in environment.accelerators(tmp_path)


@pytest.mark.parametrize("part", ["versions", "accelerators"])
def test_all_surroundings_count(
    folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Versions and accelerators are in the key of an answer, and in no fingerprint."""

    def identity() -> Identity:
        return transformers.identify(spec_of(folder), TransformersSettings(), cache)

    first = identity()
    assert identity().cache_key == first.cache_key is not None
    monkeypatch.setattr(environment, part, lambda: ["other"])
    assert identity().cache_key != first.cache_key
    assert identity().fingerprint == first.fingerprint


def test_versions_are_those_installed() -> None:
    """Read from what is installed, which says more than the modules (``+cpu``)."""
    from importlib import metadata

    found = environment.versions()
    assert {"torch", "transformers"} <= {*environment.PACKAGES}
    assert all(metadata.version(name) == version for name, version in found.items())
