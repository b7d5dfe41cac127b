"""``--calibration-cache-dir``: where answers are kept, and what the summary says of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cached_project import CachedProject, lines_of

if TYPE_CHECKING:
    from user_project import Project

WORKERS = pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
ALL = "answers from cache: all (no model was loaded)."
FROM = "answers from cache"

TWO = """
from pytest_calibration import assert_ece_below

def test_one(calibration):
    assert_ece_below(calibration.run("facts"), 0.5)

def test_two(calibration):
    assert_ece_below(calibration.run("multiple_choice"), 0.9)
"""


@pytest.fixture
def cached(project: Project, baseline_files: dict[str, dict[str, bytes]]) -> CachedProject:
    """A project with a recorded baseline, and nothing kept."""
    made = CachedProject(project)
    project.restore(
        baseline_files.setdefault("loaded", {}),
        lambda: made.run("--calibration-record", "--calibration-no-cache"),
    )
    made.loads()
    return made


def entries(folder: Path) -> list[Path]:
    """The entries that are kept in a folder."""
    return sorted(folder.rglob("*.answer"))


@WORKERS
def test_a_second_run_loads_nothing(cached: CachedProject, workers: list[str]) -> None:
    """The cache directory of pytest is used unasked; the summary says where answers came from."""
    first = cached.run(*workers)
    assert first.ret == 0
    assert cached.loads() == ["base"]
    assert lines_of(first, FROM) == []
    second = cached.run(*workers)
    assert second.ret == 0
    assert cached.loads() == []
    assert lines_of(second, FROM) == [ALL]
    assert entries(cached.path / ".pytest_cache" / "d" / "calibration")


@pytest.mark.parametrize("how", ["flag", "ini"])
def test_a_folder_of_ones_own(cached: CachedProject, how: str) -> None:
    """Named by flag or ini key, which need no cache provider of pytest; workers know it, too."""
    args = ["-p", "no:cacheprovider", *(["-n", "2"] if how == "ini" else [])]
    if how == "flag":
        args.append("--calibration-cache-dir=kept/here")
    else:
        cached.project.pytester.makeini("[pytest]\ncalibration_cache_dir = kept/here\n")
    cached.run(*args)
    assert cached.loads() == ["base"]
    assert lines_of(cached.run(*args), FROM) == [ALL]
    assert cached.loads() == []
    assert entries(cached.path / "kept" / "here" / "answers")
    assert not (cached.path / ".pytest_cache" / "d").exists()


def test_without_any_folder_nothing_is_kept(cached: CachedProject) -> None:
    """No cache provider and no folder named: every run asks the model."""
    before = {*cached.project.files()}
    for _ in range(2):
        assert lines_of(cached.run("-p", "no:cacheprovider"), FROM) == []
        assert cached.loads() == ["base"]
    assert {*cached.project.files()} == before


def test_a_run_without_calibration_tests_makes_no_folder(cached: CachedProject) -> None:
    """Whatever the ini file says."""
    cached.project.pytester.makeini("[pytest]\ncalibration_cache_dir = kept\n")
    cached.project.write("tests/test_project.py", "def test_it(): pass\n")
    assert cached.project.pytester.runpytest_subprocess("--cache-clear").ret == 0
    assert not (cached.path / "kept").exists()
    assert not (cached.path / ".pytest_cache" / "d" / "calibration").exists()


@WORKERS
def test_records_and_reports_do_not_depend_on_the_cache(
    cached: CachedProject, workers: list[str]
) -> None:
    """Byte for byte the same from the model, from the cache, and without one."""

    def written(*args: str) -> list[bytes]:
        for file in cached.project.baselines.iterdir():
            file.unlink()
        cached.run("--calibration-record", *args, *workers)
        record = [f.read_bytes() for f in sorted(cached.project.baselines.iterdir())]
        cached.run("--calibration-report=out.json", *args, *workers, model="hot")
        report = json.loads((cached.path / "out.json").read_text())
        report.pop("created")
        return [*record, json.dumps(report).encode()]

    plain = written("--calibration-no-cache")
    assert len(plain) == 3
    assert [*cached.loads()] == ["base", "hot"]
    assert written("--calibration-cache-dir=kept") == plain
    assert [*cached.loads()] == ["base", "hot"]
    assert written("--calibration-cache-dir=kept") == plain
    assert cached.loads() == []


@pytest.mark.parametrize(
    ("args", "workers"),
    [([], []), (["--calibration-cache-dir=kept"], ["-n", "2"])],
    ids=["pytest's", "own-workers"],
)
def test_cache_clear_empties_it(cached: CachedProject, args: list[str], workers: list[str]) -> None:
    """And what workers write after that stays for the next run."""
    cached.run(*args, *workers)
    stranger = cached.project.write("kept/notes.txt", "mine")
    assert cached.loads() == ["base"]
    assert lines_of(cached.run(*args, "--cache-clear", *workers), FROM) == []
    assert cached.loads() == ["base"]
    assert stranger.read_text() == "mine"
    assert lines_of(cached.run(*args, *workers), FROM) == [ALL]


@WORKERS
def test_a_part_from_the_cache_is_counted(cached: CachedProject, workers: list[str]) -> None:
    """Probes that took the model and probes that did not are counted apart."""
    cached.project.write("tests/test_project.py", TWO)
    cached.run("-k", "one", *workers)
    result = cached.run(*workers)
    assert lines_of(result, FROM) == ["answers from cache: 1 of 2 probes."]
    several = cached.run("--calibration-model=runs/other", *workers)
    assert lines_of(several, FROM) == ["answers from cache: 2 of 4 probes, counted per model."]


def test_quiet_says_nothing_of_it(cached: CachedProject) -> None:
    """With -q only what fails or is wrong is printed."""
    cached.run()
    assert lines_of(cached.run("-q"), FROM) == []


@WORKERS
def test_a_damaged_entry_is_computed_again_and_reported(
    cached: CachedProject, workers: list[str]
) -> None:
    """Once, by its path, to who wants it quiet too; and it is whole again after."""
    cached.run("--calibration-cache-dir=kept")
    kept = entries(cached.path / "kept")
    # The largest is an answer; the others are digests of files and the like.
    largest = max(kept, key=lambda f: f.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    cached.loads()
    result = cached.run("--calibration-cache-dir=kept", "-q", *workers)
    assert result.ret == 0
    assert cached.loads() == ["base"]
    (line,) = lines_of(result, "1 cached answer")
    assert line == f"1 cached answer could not be read and was computed again: {largest}"
    assert lines_of(cached.run("--calibration-cache-dir=kept", *workers), "1 cached") == []
    assert cached.loads() == []


@WORKERS
def test_a_folder_that_cannot_be_written_is_said_once(
    cached: CachedProject, workers: list[str]
) -> None:
    """The run goes on without it."""
    cached.project.write("kept", "a file")
    result = cached.run("--calibration-cache-dir=kept", *workers)
    assert result.ret == 0
    lines = lines_of(result, "answers are not kept: ")
    assert len(lines) == 1
    assert "kept cannot be written (" in lines[0]


@pytest.mark.skipif(os.name != "posix", reason="rights of files are POSIX")
@WORKERS
def test_a_folder_that_others_can_write_is_not_used(
    cached: CachedProject, workers: list[str]
) -> None:
    """Its answers could be anybody's: the model is asked, and the summary says why, once."""
    cached.run("--calibration-cache-dir=kept")
    cached.loads()
    (cached.path / "kept").chmod(0o777)
    result = cached.run("--calibration-cache-dir=kept", *workers)
    assert result.ret == 0
    assert cached.loads()
    (line,) = lines_of(result, "answers are not kept: ")
    assert "kept can be written by other users, or belongs to one" in line
    assert "chmod go-w" in line


def test_another_checkpoint_under_the_same_path_is_asked_anew(cached: CachedProject) -> None:
    """Content counts; what was kept of the first is served when it is back."""
    cached.run()
    config = cached.path / "runs/base/config.json"
    first = config.read_text()
    config.write_text("{}")
    assert lines_of(cached.run(), FROM) == []
    config.write_text(first)
    assert lines_of(cached.run(), FROM) == [ALL]
    assert cached.loads() == ["base", "base"]


@WORKERS
def test_the_parent_is_answered_from_the_cache_too(
    cached: CachedProject, workers: list[str]
) -> None:
    """Both models' answers are kept, and neither is loaded again."""
    args = ["--calibration-parent=runs/base", "--calibration-cache-dir=kept", *workers]
    first = cached.run(*args, model="other")
    assert sorted(cached.loads()) == ["base", "other"]
    second = cached.run(*args, model="other")
    assert cached.loads() == []
    assert lines_of(second, FROM) == [ALL]
    assert first.parseoutcomes() == second.parseoutcomes()


def test_a_model_of_ones_own_is_never_kept(recorded: Project) -> None:
    """Its fingerprint may promise more than it holds."""
    result = recorded.pytester.runpytest_subprocess(
        "--calibration-model=runs/base", "--calibration-probe=facts", "--calibration-cache-dir=kept"
    )
    assert result.ret == 0
    assert not (recorded.path / "kept").exists()


# --- what else the summary says of models --------------------------------------------------------


def test_how_often_a_model_was_loaded_is_shown(cached: CachedProject) -> None:
    """Under plain -n each worker loads it for itself; the choice of --dist stays the user's."""
    cached.project.write("tests/test_project.py", TWO)
    args = ["--calibration-no-cache", "-n", "2"]
    result = cached.run(*args)
    assert cached.loads() == ["base", "base"]
    assert lines_of(result, "base was") == [
        "base was loaded 2 times, by 2 workers; --dist loadgroup loads it once."
    ]
    grouped = cached.run(*args, "--dist", "loadgroup")
    assert lines_of(grouped, "base was") == []
    assert lines_of(cached.run("--calibration-no-cache"), "base was") == []


@WORKERS
def test_what_is_noted_of_a_checkpoint_is_told_each_time(
    cached: CachedProject, workers: list[str]
) -> None:
    """Also where no model is loaded: the answers are those of the same checkpoint. In one line."""
    cached.project.write("runs/base/spare.json", "{}")
    for loads in (["base"], []):
        result = cached.run(*workers)
        assert lines_of(result, "base: ") == [r"base: a\x1b[31m is not used."]
        assert sorted({*cached.loads()}) == loads


@WORKERS
def test_what_the_engine_says_is_said_once(cached: CachedProject, workers: list[str]) -> None:
    """By model, however many processes heard it, and not in reports."""
    cached.project.write("tests/test_project.py", TWO)
    cached.project.write("runs/odd/odd.json", "{}")
    result = cached.run("--calibration-report=out.json", *workers, model="odd")
    assert lines_of(result, "odd: ") == ["odd: took the plain path."]
    assert "plain path" not in (cached.path / "out.json").read_text()
