"""``--calibration-report``: files by the ending of their name, written by the controller."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from samples import small_results

from pytest_calibration.probes.facts import Facts
from pytest_calibration.reports.writing import append_summary

if TYPE_CHECKING:
    from user_project import Project

WORKERS = pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
TEXT_ENDINGS = ("html", "md", "json", "txt")
PROMPTS = [item.prompt for item in Facts().items]


def session(path: Path) -> dict[str, Any]:
    """The session that a JSON report holds."""
    document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return document


def verdicts(path: Path) -> list[dict[str, Any]]:
    """Its verdicts."""
    found: list[dict[str, Any]] = session(path)["results"]
    return found


@WORKERS
def test_every_format_is_written_from_the_same_session(
    recorded: Project, workers: list[str]
) -> None:
    """Each file names the failing model; the summary names the files."""
    flags = [f"--calibration-report=out/report.{ending}" for ending in TEXT_ENDINGS]
    result = recorded.facts("hot", "--calibration-model=runs/base", *flags, *workers)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["written: out/report.html, out/report.md, out/report.json, out/report.txt"]
    )
    texts = {e: (recorded.path / f"out/report.{e}").read_text("utf-8") for e in TEXT_ENDINGS}
    assert texts["html"].startswith("<!DOCTYPE html>")
    assert texts["txt"].endswith("# EOF\n")
    found = verdicts(recorded.path / "out/report.json")
    assert [(v["model"], v["state"]) for v in found] == [("hot", "regressed"), ("base", "passed")]
    for text in texts.values():
        assert "hot" in text
        assert (
            f"{found[0]['number']['value']:.3f}" in text or str(found[0]["number"]["value"]) in text
        )


@WORKERS
def test_details_stand_behind_passing_verdicts_too(recorded: Project, workers: list[str]) -> None:
    """Bins, metrics, diagnosis and both sides are in the report of a run that passes."""
    recorded.facts("base", "--calibration-report=r.json", *workers)
    (verdict,) = verdicts(recorded.path / "r.json")
    detail = verdict["detail"]
    assert sum(b["n"] for b in detail["candidate"]["reliability"]) == verdict["n"]
    assert detail["baseline"]["metrics"]["ece"]["value"] == verdict["baseline"]["value"]
    assert detail["diagnosis"]["sentences"]


@pytest.mark.parametrize("ending", TEXT_ENDINGS)
def test_item_text_is_in_no_report_unless_it_may(recorded: Project, ending: str) -> None:
    """By default items are named by id; with calibration_item_text = reports they are shown."""
    path = recorded.path / f"r.{ending}"
    recorded.facts("hot", f"--calibration-report=r.{ending}")
    assert not any(prompt in path.read_text("utf-8") for prompt in PROMPTS)
    recorded.facts("hot", f"--calibration-report=r.{ending}", "-o",
                   "calibration_item_text=reports")  # fmt: skip
    if ending != "txt":
        shown = path.read_text("utf-8").replace("&#x27;", "'").replace("&amp;", "&")
        assert any(prompt in shown for prompt in PROMPTS)


def test_pictures_have_a_file_per_verdict(recorded: Project) -> None:
    """A name that ends in .svg or .png is that of a family of pictures."""
    pytest.importorskip("matplotlib")
    result = recorded.facts("hot", "--calibration-report=plot.svg", "--calibration-report=plot.png")
    result.stdout.re_match_lines([r"written: plot.*\.svg, plot.*\.png"])
    (svg,) = recorded.path.glob("plot*.svg")
    (png,) = recorded.path.glob("plot*.png")
    assert svg.read_text("utf-8").startswith("<?xml")
    assert png.read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_run_is_reported_as_one(recorded: Project) -> None:
    """What was decided before is in the report, which says that the run did not finish."""
    recorded.write(
        "tests/test_zz.py",
        "def test_stop(calibration):\n    raise KeyboardInterrupt\n",
    )
    # An interrupt would end the outer run, too.
    recorded.isolated = True
    result = recorded.facts("base", "--calibration-report=r.json")
    assert result.ret == 2
    report = session(recorded.path / "r.json")
    assert report["finished"] is False
    assert report["green"] is False
    assert [v["state"] for v in report["results"]] == ["passed"]


@WORKERS
def test_a_rerun_is_reported_once(recorded: Project, workers: list[str]) -> None:
    """Only the last attempt of a test counts."""
    recorded.facts("hot", "--reruns=2", "--calibration-report=r.json", *workers)
    assert len(verdicts(recorded.path / "r.json")) == 1


def test_an_unknown_ending_is_a_usage_error(project: Project) -> None:
    """It stops the run before any test."""
    result = project.facts("base", "--calibration-report=report.pdf")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*--calibration-report: 'report.pdf' must end in one of .html, .md, .json, .txt, .png, "
         ".svg, which says what is written."]
    )  # fmt: skip


def test_a_report_that_cannot_be_written_fails_the_run(recorded: Project) -> None:
    """A green run without the report that was asked for would be a silent loss."""
    recorded.write("out", "a file")
    result = recorded.facts("base", "--calibration-report=out/r.json")
    assert result.ret == 1
    result.stdout.re_match_lines([r"ERROR: .*out/r\.json: cannot be written \(.*\)\."])


def test_a_run_without_calibration_tests_writes_nothing_unasked(project: Project) -> None:
    """A lasting setting is silent as an ini key, and says so where it is a flag of addopts."""
    project.write("tests/test_project.py", "def test_other():\n    pass\n")
    project.pytester.makeini("[pytest]\naddopts = --calibration-report=r.html\n")
    result = project.run()
    assert result.ret == 0
    result.stdout.fnmatch_lines(["no calibration test was collected: r.html not written."])
    project.pytester.makeini("[pytest]\ncalibration_report = r.html\n")
    project.run().stdout.no_re_match_line("=+ calibration =+")
    assert not (project.path / "r.html").exists()


@pytest.mark.parametrize("files", ["'an a.json' b.md", "\n  'an a.json'\n  b.md"])
def test_the_ini_key_is_relative_to_rootdir(recorded: Project, files: str) -> None:
    """Several files in one key, on one line or on several, each beside the ini file."""
    recorded.pytester.makeini(f"[pytest]\ncalibration_report = {files}\n")
    recorded.facts("base")
    assert (recorded.path / "an a.json").is_file()
    assert (recorded.path / "b.md").is_file()


def test_collecting_writes_nothing(recorded: Project) -> None:
    """A listing is no session to report."""
    recorded.facts("base", "--collect-only", "--calibration-report=r.html")
    assert not (recorded.path / "r.html").exists()


# --- GitHub --------------------------------------------------------------------------------------


@WORKERS
def test_the_step_summary_is_written_unasked(
    recorded: Project, monkeypatch: pytest.MonkeyPatch, workers: list[str]
) -> None:
    """Where GitHub names a file for it, Markdown is added to what stands there."""
    path = recorded.write("summary.md", "before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    recorded.facts("hot", *workers)
    text = path.read_text("utf-8")
    assert text.startswith("before\n")
    assert "regressed" in text
    assert "| " in text
    assert not any(prompt in text for prompt in PROMPTS)


def test_no_step_summary_without_calibration_tests(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other runs of the same job leave it alone."""
    path = project.write("summary.md", "")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    project.write("tests/test_project.py", "def test_other():\n    pass\n")
    project.run()
    assert path.read_text() == ""


def annotations(result: pytest.RunResult) -> list[str]:
    """The workflow commands that were printed."""
    return [line for line in result.outlines if line.startswith("::error")]


@WORKERS
def test_each_failing_test_has_one_annotation(
    recorded: Project, monkeypatch: pytest.MonkeyPatch, workers: list[str]
) -> None:
    """From the controller, at the file and line of the test; none outside GitHub."""
    plugin = ["-p", "no:pytest_github_actions_annotate_failures"]
    assert annotations(recorded.facts("hot", *workers, *plugin)) == []
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    (line,) = annotations(recorded.facts("hot", *workers, *plugin))
    assert re.match(r"::error file=tests/test_project\.py,line=4,title=", line)
    assert "regressed" in line
    assert annotations(recorded.facts("base", *workers, *plugin)) == []


PLACES = {
    "unset": (".", "", "tests/test_project.py"),
    "rootdir": (".", "{path}", "tests/test_project.py"),
    "working-directory": (".", "{parent}", "{name}/tests/test_project.py"),
    "relative": (".", "..", "{name}/tests/test_project.py"),
    "linked": (".", "{path}/link", "{name}/tests/test_project.py"),
    "rootdir-within": ("tests", "{path}", "tests/test_project.py"),
    "rootdir-above": ("..", "{path}", "tests/test_project.py"),
    "both-above": ("..", "{parent}/", "{name}/tests/test_project.py"),
    "elsewhere": (".", "{path}/runs", "{path}/tests/test_project.py"),
}


@pytest.mark.parametrize(
    ("place", "workers"), [*((place, []) for place in PLACES), ("both-above", ["-n", "2"])]
)
def test_an_annotation_names_the_file_from_the_workspace(
    recorded: Project,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    workers: list[str],
) -> None:
    """GitHub finds a file by its path from GITHUB_WORKSPACE, wherever rootdir is."""
    rootdir, workspace, file = PLACES[place]
    names = {"path": recorded.path, "parent": recorded.path.parent, "name": recorded.path.name}
    (recorded.path / "link").symlink_to(recorded.path.parent, target_is_directory=True)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", workspace.format(**names))
    plugin = "no:pytest_github_actions_annotate_failures"
    result = recorded.facts("hot", f"--rootdir={rootdir}", "-p", plugin, *workers, "tests")
    (line,) = annotations(result)
    assert line.startswith(f"::error file={file.format(**names)},line=4,")


def test_a_link_in_the_workspace_is_a_file_of_it(
    recorded: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test file that is a link keeps its name in the repository."""
    outside = recorded.path.parent / f"{recorded.path.name}-shared.py"
    (recorded.path / "tests/test_project.py").rename(outside)
    (recorded.path / "tests/test_project.py").symlink_to(outside)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(recorded.path))
    plugin = "no:pytest_github_actions_annotate_failures"
    (line,) = annotations(recorded.facts("hot", "-p", plugin))
    assert line.startswith("::error file=tests/test_project.py,")


def test_no_annotation_where_another_plugin_makes_them(
    recorded: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With pytest-github-actions-annotate-failures there is one annotation, and it is theirs."""
    pytest.importorskip("pytest_github_actions_annotate_failures")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    recorded.isolated = True
    result = recorded.facts("hot")
    lines = [*result.outlines, *result.errlines]
    (line,) = [text for text in lines if text.startswith("::error")]
    assert "title=" not in line
    # Theirs holds our whole text, in which no item is quoted.
    assert not any(prompt in line for prompt in PROMPTS)


@WORKERS
def test_github_obeys_no_line_of_an_item(
    recorded: Project, monkeypatch: pytest.MonkeyPatch, workers: list[str]
) -> None:
    """What may hold item text stands between a stop of all commands and its own unguessable end."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    lines = recorded.facts("hot", *workers).outlines
    stops = [i for i, line in enumerate(lines) if line.startswith("::stop-commands::")]
    assert len(stops) == 2
    for start in stops:
        token = lines[start].removeprefix("::stop-commands::")
        assert re.fullmatch("[0-9a-f]{32}", token)
        end = lines.index(f"::{token}::")
        between = "\n".join(lines[start:end])
        assert "most confident wrong answers:" in between or "1 regressed" in between
        assert "::error" not in between
    silent = recorded.facts("base", "-p", "no:terminal").outlines
    assert not any("::stop" in line for line in silent)


ROOMS = (40_000, 2_100, 2_000, 1_900, 200, 90, 2, 0, -5)


@pytest.mark.parametrize(
    ("room", "workers"), [*((room, []) for room in ROOMS), (40_000, ["-n", "2"]), (90, ["-n", "2"])]
)
def test_the_step_summary_stays_within_what_github_takes(
    recorded: Project, monkeypatch: pytest.MonkeyPatch, room: int, workers: list[str]
) -> None:
    """Of what stands there already nothing is lost; a report that has no room is a sentence."""
    before = "x" * (2**20 - room)
    path = recorded.write("summary.md", before)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    result = recorded.facts("hot", *workers)
    text = path.read_text("utf-8")
    assert text.startswith(before)
    assert len(text.encode()) <= max(2**20, len(before))
    added = text.removeprefix(before)
    sentence = "Calibration: the verdict failed. The report found no room in this summary."
    # One byte is the line break that ends what stood there.
    if room > 2_000:
        assert added.startswith("\n<!-- pytest-calibration -->")
        assert ("Left out to stay within" in added) == (room == 2_100)
    else:
        assert added == (f"\n\n\u274c {sentence}\n" if room >= 90 else "")
        result.stdout.fnmatch_lines(
            [f"GITHUB_STEP_SUMMARY: no room for the report, {len(before):,} bytes are taken."]
        )


def test_runs_of_one_step_share_its_summary(
    recorded: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several runs each adds what still fits; a line break in place gets no second one."""
    path = recorded.write("summary.md", "x" * (2**20 - 6_000) + "\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    for _ in range(4):
        recorded.facts("hot")
        assert path.stat().st_size <= 2**20
    text = path.read_text("utf-8")
    assert text.count("<!-- pytest-calibration -->") >= 1
    assert "The report found no room in this summary." in text
    assert "x\n<!--" in text


def test_runs_at_the_same_time_share_the_summary(tmp_path: Path) -> None:
    """A run that is adding its report locks the file; the others wait, and see what it added."""
    fcntl = pytest.importorskip("fcntl")
    path = tmp_path / "summary.md"
    # So much that only one of two reports fits.
    path.write_bytes(b"x" * (2**20 - 2_600) + b"\n")
    results = small_results()
    with path.open("ab") as first, ThreadPoolExecutor(1) as pool:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = pool.submit(append_summary, path, results)
        first.write(b"y" * 2_000 + b"\n")
        first.flush()
        assert not second.done()
        fcntl.flock(first, fcntl.LOCK_UN)
        assert "no room" in second.result()
    assert path.stat().st_size <= 2**20


# --- red means red -------------------------------------------------------------------------------


@WORKERS
@pytest.mark.parametrize(
    "body",
    [
        "def test_it(calibration):\n    calibration.run('facts')\n    raise KeyError('oops')\n",
        "import pytest\n\n@pytest.fixture\ndef late():\n    yield\n    raise KeyError('oops')\n\n"
        "def test_it(calibration, late):\n    calibration.run('facts')\n",
        "import pytest\n\n@pytest.fixture\ndef early():\n    raise KeyError('oops')\n\n"
        "def test_it(calibration, early):\n    calibration.run('facts')\n",
    ],
    ids=["test", "teardown", "setup"],
)
def test_what_fails_without_a_verdict_is_no_green_report(
    recorded: Project, body: str, workers: list[str]
) -> None:
    """A report is read without pytest's own output: it names the test and is red."""
    recorded.write("tests/test_more.py", body)
    result = recorded.facts("base", "--calibration-report=r.json", *workers)
    assert result.ret == 1
    report = session(recorded.path / "r.json")
    assert report["green"] is False
    assert report["errors"] == ["tests/test_more.py::test_it[base] failed without a verdict."]
    result.stdout.no_fnmatch_line("ERROR: tests/test_more.py*")


def test_a_file_that_cannot_be_collected_is_no_green_report(recorded: Project) -> None:
    """Where pytest goes on without it, the report says what is missing."""
    recorded.write("tests/test_more.py", "import nothing_of_this_name\n")
    recorded.facts("base", "--calibration-report=r.json", "--continue-on-collection-errors")
    report = session(recorded.path / "r.json")
    assert report["green"] is False
    assert report["errors"] == ["tests/test_more.py could not be collected."]


@WORKERS
def test_an_expected_failure_is_no_red_report(
    recorded: Project, monkeypatch: pytest.MonkeyPatch, workers: list[str]
) -> None:
    """A verdict that fails no test: not red, no annotation, a note that says why."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    recorded.write(
        "tests/test_project.py",
        """
import pytest
from pytest_calibration import assert_ece_below

@pytest.mark.xfail
def test_known(calibration):
    assert_ece_below(calibration.run("facts"), 0.001)

def test_caught(calibration):
    with pytest.raises(AssertionError):
        assert_ece_below(calibration.run("facts"), 0.001)
""",
    )
    result = recorded.facts("base", "--calibration-report=r.json", *workers)
    assert result.ret == 0
    assert annotations(result) == []
    report = session(recorded.path / "r.json")
    assert report["green"] is True
    for verdict in report["results"]:
        assert (verdict["state"], verdict["fails"]) == ("above_limit", False)
        assert verdict["notes"][-1].startswith("the test did not fail")


@WORKERS
def test_arrays_alone_are_reported(
    project: Project, monkeypatch: pytest.MonkeyPatch, workers: list[str]
) -> None:
    """A project without a model and without fixtures has reports and annotations, too."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    project.write(
        "tests/test_project.py",
        """
import numpy as np
from pytest_calibration import assert_ece_below

def test_arrays():
    assert_ece_below((np.array([[0.9, 0.1]] * 50), np.arange(50) % 2), 0.2)
""",
    )
    result = project.run(
        "--calibration-report=r.json", "-p", "no:pytest_github_actions_annotate_failures", *workers
    )
    assert result.ret == 1
    assert [v["state"] for v in verdicts(project.path / "r.json")] == ["above_limit"]
    assert session(project.path / "r.json")["tests"] == 1
    (line,) = annotations(result)
    assert "file=tests/test_project.py,line=5," in line


def test_the_order_of_results_does_not_depend_on_workers(recorded: Project) -> None:
    """Models in their order, and in each the tests as they were collected."""
    recorded.write(
        "tests/test_more.py",
        """
import time
import pytest
from pytest_calibration import assert_ece_below

@pytest.mark.parametrize("n", range(6))
def test_it(calibration, n):
    time.sleep(0.3 * (n % 2 == 0))
    assert_ece_below(calibration.run("facts"), 0.9)
""",
    )
    orders = []
    for workers in ([], ["-n", "2"]):
        models = ["--calibration-model=runs/other", "--calibration-report=r.json"]
        recorded.facts("hot", *models, *workers)
        orders.append([v["test"] for v in verdicts(recorded.path / "r.json")])
    assert len(orders[0]) == 14
    assert orders[0] == orders[1]


@WORKERS
def test_pytest_repeats_the_headline_alone(
    recorded: Project, monkeypatch: pytest.MonkeyPatch, workers: list[str]
) -> None:
    """In CI pytest repeats a whole message at its end; of ours it repeats one line."""
    monkeypatch.setenv("CI", "true")
    lines = recorded.facts("hot", *workers).outlines
    start = next(i for i, line in enumerate(lines) if "short test summary info" in line)
    assert [line for line in lines[start + 1 : -1] if line] == [
        "FAILED tests/test_project.py::test_nothing_got_worse[hot-facts] - AssertionError: "
        "calibration regressed: probe facts on hot"
    ]
