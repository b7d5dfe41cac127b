"""The blocks of the page on a gate in CI: the workflows that ``init`` writes, and what they run."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from console import Console
from documents import Section, blocks

from pytest_calibration.cli import main

PAGE = "docs/how-to/ci.md"
GITHUB = Path(".github/workflows/calibration.yml")
GITLAB = Path("calibration.gitlab-ci.yml")
COMMENTS = "repos/me/mine/issues"


@pytest.fixture
def project(folder: Path) -> Path:
    """Two checkpoints and questions, in a repository."""
    for name in ("base", "sft/checkpoint-400"):
        place = folder / "runs" / name
        place.mkdir(parents=True)
        (place / "config.json").write_text('{"model_type": "gpt2"}', "utf-8")
    rows = ({"question": f"{i}?", "options": ["a", "b"], "answer": 0} for i in range(400))
    (folder / "quiz.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    (folder / "my_service.py").unlink()
    subprocess.run(["git", "init", "--quiet"], check=True)
    return folder


def recorded(request: pytest.FixtureRequest, pytester: pytest.Pytester) -> None:
    """Record the base, by a model that stands for every checkpoint; ``init`` must not see it."""
    request.getfixturevalue("fakes")
    args = ("--calibration-model=runs/base", "--calibration-record", "tests")
    assert pytester.runpytest_inprocess(*args).ret == 0


def run_lines(lines: list[str], pytester: pytest.Pytester) -> list[int]:
    """Run what a job runs; return the exit codes of pytest. What it installs is looked at."""
    codes = []
    for line in lines:
        program, *args = shlex.split(line)
        if program == "pytest":
            codes.append(int(pytester.runpytest_inprocess(*args).ret))
        else:
            assert (program, args[0]) == ("pip", "install")
            assert args[1] in {"torch", "pytest-calibration[hf]"}
    return codes


@pytest.mark.usefixtures("project")
def test_what_is_committed_first(
    section: Section, console: Console, request: pytest.FixtureRequest
) -> None:
    """The commands record, and git takes the test, both files of the baseline, the workflow."""
    (commands,) = section("docs/how-to/ci.md", "Before the first run")

    def init(args: list[str]) -> None:
        assert main(args) == 0
        request.getfixturevalue("fakes")

    def git(args: list[str]) -> str:
        return subprocess.run(["git", *args], check=True, capture_output=True, text=True).stdout

    console.type(commands, instead={"pytest-calibration": init, "git": git})
    staged = git(["diff", "--cached", "--name-only"]).split()
    assert {str(GITHUB), "calibration.yaml", "tests/test_calibration.py"} <= {*staged}
    stored = [Path(name) for name in staged if "calibration_baselines" in name]
    assert sorted(path.suffix for path in stored) == [".npz", ".yaml"]


def test_the_workflow_on_github(
    section: Section, project: Path, pytester: pytest.Pytester, request: pytest.FixtureRequest
) -> None:
    """It is the one that ``init`` writes; its last command fails an over-confident checkpoint."""
    (block,) = section("docs/how-to/ci.md", "On GitHub")
    assert main(["init"]) == 0
    assert block.text == GITHUB.read_text("utf-8")
    recorded(request, pytester)
    workflow = yaml.safe_load(block.text)
    lines = [step["run"] for step in workflow["jobs"]["calibration"]["steps"] if "run" in step]
    assert run_lines(lines, pytester) == [1]
    assert (project / "calibration.html").is_file()


def test_the_job_on_gitlab(
    section: Section, project: Path, pytester: pytest.Pytester, request: pytest.FixtureRequest
) -> None:
    """It is the one that ``init`` writes, reports included, and the line that reads it."""
    job, include = section("docs/how-to/ci.md", "On GitLab")
    (project / ".gitlab-ci.yml").write_text(include.text, "utf-8")
    assert main(["init"]) == 0
    assert job.text == GITLAB.read_text("utf-8")
    assert yaml.safe_load(include.text) == {"include": f"/{GITLAB}"}
    recorded(request, pytester)
    document = yaml.safe_load(job.text)
    assert run_lines(document["calibration"]["script"], pytester) == [1]
    artifacts = document["calibration"]["artifacts"]
    for name in (*artifacts["paths"], artifacts["reports"]["metrics"]):
        assert (project / name).is_file()


def test_the_step_that_keeps_answers(section: Section) -> None:
    """It is a step of a workflow, and a new run takes the entry of the latest before it."""
    (block,) = section("docs/how-to/ci.md", "Keep answers between runs")
    (step,) = yaml.safe_load(block.text)
    settings = step["with"]
    assert settings["key"].startswith(settings["restore-keys"])


# In place of GitHub's own program: notes what it is called with, and lists one comment or none.
GH = """#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in *--paginate*) echo "$LISTED" ;; esac
"""


@pytest.mark.parametrize(
    ("listed", "called"),
    [
        ("17", f"--method PATCH {COMMENTS}/comments/17"),
        ("", f"--method POST {COMMENTS}/3/comments"),
    ],
)
def test_the_step_that_comments(
    section: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str, called: str
) -> None:
    """It changes its own comment where there is one, else adds one; without a report nothing."""
    (block,) = section("docs/how-to/ci.md", "Comment on the pull request")
    (step,) = yaml.safe_load(block.text)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gh").write_text(GH, "utf-8")
    (tmp_path / "bin" / "gh").chmod(0o755)
    calls = tmp_path / "calls"
    calls.touch()
    given = {"CALLS": str(calls), "LISTED": listed, "COMMENTS": COMMENTS, "NUMBER": "3"}
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    for report, expected in (("", 0), ("<!-- pytest-calibration -->\n", 2)):
        if report:
            (tmp_path / "calibration.md").write_text(report, "utf-8")
        subprocess.run(
            ["bash", "-euo", "pipefail", "-c", step["run"]],
            cwd=tmp_path, env={**os.environ, **given, "PATH": path}, check=True,
        )  # fmt: skip
        assert len(calls.read_text("utf-8").splitlines()) == expected
    assert called in calls.read_text("utf-8").splitlines()[-1]
    # By the first line of what a report writes.
    assert '"<!-- pytest-calibration -->"' in step["run"]


def documents() -> list[tuple[str, Any]]:
    """Return kind and content of each file of the page, the steps as part of the workflow."""
    workflow, cache, comment = (
        yaml.safe_load(blocks(PAGE, heading)[0].text)
        for heading in ("On GitHub", "Keep answers between runs", "Comment on the pull request")
    )
    # YAML 1.1 takes GitHub's key `on` for true.
    workflow["on"] = workflow.pop(True)
    (job,) = workflow["jobs"].values()
    more = {
        **workflow,
        "jobs": {"calibration": {**job, "steps": [*cache, *job["steps"], *comment]}},
    }
    gitlab = [yaml.safe_load(block.text) for block in blocks(PAGE, "On GitLab")]
    found = [("github-workflows", one) for one in (workflow, more)]
    return found + [("gitlab-ci", one) for one in gitlab]


@pytest.mark.docs
def test_the_published_schemas_describe_these_files() -> None:
    """Each is valid; what each service would refuse is not."""
    jsonschema = pytest.importorskip("jsonschema")
    package = find_spec("check_jsonschema")
    if package is None or package.origin is None:
        pytest.skip("needs the dependency group `examples`, whose check-jsonschema has the schemas")
    folder = Path(package.origin).parent / "builtin_schemas" / "vendor"

    def is_valid(kind: str, document: Any) -> bool:
        schema = json.loads((folder / f"{kind}.json").read_text("utf-8"))
        found: bool = jsonschema.validators.validator_for(schema)(schema).is_valid(document)
        return found

    assert len(documents()) == 4
    for kind, document in documents():
        assert is_valid(kind, document), document
    assert not is_valid("github-workflows", {"on": ["pull_reqest"], "jobs": {}})
    assert not is_valid("gitlab-ci", {"calibration": {"script": 3}})
