"""The blocks of the page on the review of a baseline, typed in a real repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from console import Console
from documents import Section, agrees, typed

PAGE = "docs/how-to/review.md"
BASELINES = "tests/calibration_baselines"


def git(args: list[str]) -> str:
    """Run git in the working folder; return what it prints."""
    who = ("-c", "user.name=me", "-c", "user.email=me@example.org")
    done = subprocess.run(
        ["git", *who, *args], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def branch(folder: Path, gate: Path, fakes: None, pytester: pytest.Pytester) -> Path:
    """A repository whose main branch holds the record of a base, and a branch beside it."""
    (folder / "calibration.yaml").write_text("probes: {facts: {limit: 400}}\n", "utf-8")
    (folder / ".gitignore").write_text("__pycache__\nmy_service.py\n", "utf-8")
    for name in ("base", "sft", "other-sft"):
        (folder / "runs" / name).mkdir(parents=True)
    args = ("--calibration-model=runs/base", "--calibration-record")
    assert pytester.runpytest_inprocess(*args).ret == 0
    for words in ("init -b main", "add .", "commit -m recorded", "checkout -b sft"):
        git(words.split())
    return folder


def test_from_the_commit_to_the_review(section: Section, branch: Path, console: Console) -> None:
    """The author's commands make the diff that is shown, and the reviewer's show what it means."""
    author, diff = section("docs/how-to/review.md", "The author")
    (reviewer,) = section("docs/how-to/review.md", "The reviewer")
    console.type(author, instead={"git": git})
    changed = git(["show", "--format=", "--", f"{BASELINES}/facts.yaml"])
    assert agrees(diff.text, changed), changed
    console.type(reviewer, codes=[0, 1], instead={"git": git})
    assert not (branch.parent / "before").exists()


def test_a_conflict_is_settled(
    section: Section, branch: Path, console: Console, pytester: pytest.Pytester
) -> None:
    """Two branches accept; a merge is refused until one side is taken whole."""
    (merge,) = section("docs/how-to/review.md", "Two branches accepted")
    for name, model in (("main", "other-sft"), ("sft", "sft")):
        git(["checkout", name])
        args = (f"--calibration-model=runs/{model}", f"--calibration-accept=on {name}")
        assert pytester.runpytest_inprocess(*args).ret == 0
        git(["add", "."])
        git(["commit", "-m", name])
    commands = [words for words, _ in typed(merge)]
    assert commands[0] == ["git", "merge", "main"]
    with pytest.raises(AssertionError, match="CONFLICT"):
        git(commands[0][1:])
    args = ("--calibration-model=runs/sft",)
    refused = pytester.runpytest_inprocess(*args)
    refused.stdout.fnmatch_lines(["*conflict markers*"])
    for program, *words in commands[1:]:
        if program == "git":
            git(words)
        else:
            # The other side's model is as far off as this one's.
            assert (program, int(pytester.runpytest_inprocess(*words).ret)) == ("pytest", 0)
    assert git(["diff", "--cached", "--name-only"]).split()
