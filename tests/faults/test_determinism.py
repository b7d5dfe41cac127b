"""Equal runs write equal bytes, wherever, whenever and however they run: all but the times."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from checkpoints import bpe, new_model, save
from projects import CONFTEST, HISTORY, Project
from samples import small_results

from pytest_calibration import Predictions
from pytest_calibration.baselines import Baselines
from pytest_calibration.models.cached_answers import packed
from pytest_calibration.reports.dump import write_dump
from pytest_calibration.reports.writing import write_report

# How files name a time: as machines read it, and as the page shows it.
TIME = re.compile(
    rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)|\d{4}-\d\d-\d\d \d\d:\d\d UTC"
)
TIMES = {"r.html": 2, "r.json": 1, "r.md": 1, "r.txt": 0, "summary.md": 2, HISTORY: 4}
REVERSED = """
import os

def pytest_collection_modifyitems(items):
    if os.environ.get("REVERSED"):
        items.reverse()
"""
ELSEWHERE = {"TZ": "Asia/Tokyo", "LC_ALL": "C", "COLUMNS": "60"}


# --- without a run -------------------------------------------------------------------------------


def test_files_name_no_time_and_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written a year later, in another time zone and folder, they are the same bytes."""
    results = small_results()
    found = []
    for name, zone, later in (("a", "UTC", 0.0), ("b/c", "Asia/Tokyo", 3e7)):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        now = time.time() + later
        monkeypatch.setattr(time, "time", lambda now=now: now)
        monkeypatch.setattr(time, "localtime", lambda *_, now=now: time.gmtime(now))
        folder = tmp_path / name
        made = Predictions.from_confidence([0.5, 0.75] * 9, [True, False, True] * 6, probe="facts")
        store = Baselines(folder / "baselines")
        store.record(made)
        store.record(made, reason="again")
        write_dump(folder / "dump", made, made)
        for ending in ("html", "md", "json", "txt"):
            assert [*write_report(folder / f"r.{ending}", results)]
        (folder / "answer").write_bytes(packed({"a": 1}, {"rows": [made.confidence]}))
        found.append(
            {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
        )
        monkeypatch.undo()
        time.tzset()
    assert found[0] == found[1]
    assert len(found[0]) == 8


# --- whole runs ----------------------------------------------------------------------------------


def run_twice(folder: Path, *more: str, cwd: str = ".", **environment: str) -> Project:
    """Record a model, then gate a worse one.

    Args:
        folder: of the project, which is made.
        more: arguments of both runs.
        cwd: where they are started, within the project.
        environment: of both runs.
    """
    project = Project(folder)
    project.write("conftest.py", CONFTEST + REVERSED)
    project.write("calibration.yaml", "model: {folder: .}\n")
    (folder / cwd).mkdir(exist_ok=True)
    up = "../" * (cwd != ".")
    for model, asked in (("base", "--calibration-record"), ("hot", "--junitxml=junit.xml")):
        arguments = project.arguments(model, asked, *more, f"{up}.")
        # Relative paths are those of where pytest is started.
        places = re.compile(r"=(?=(history|dump|cache|junit|r\.))")
        arguments = [places.sub(f"={up}", one) for one in arguments]
        code, output = project.run(*arguments, cwd=cwd, **environment)
        assert code == (model == "hot"), output
    return project


def written(project: Project) -> dict[str, bytes]:
    """What runs wrote, without times, and without what JUnit's own format says."""
    files = {name: TIME.sub(b"TIME", text) for name, text in project.files().items()}
    del files["junit.xml"]
    return files


def properties(project: Project) -> list[tuple[str, list[dict[str, str]]]]:
    """What a JUnit file says of each test beside its outcome."""
    cases = ElementTree.parse(project.path / "junit.xml").iter("testcase")
    return [(case.attrib["name"], [p.attrib for p in case.iter("property")]) for case in cases]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """What the plainest runs write."""
    return run_twice(tmp_path_factory.mktemp("plain") / "project")


@pytest.mark.faults
def test_only_known_fields_name_a_time(plain: Project) -> None:
    """The creation of a report, and the time of a line of a history."""
    files = plain.files()
    found = {name: len(TIME.findall(files[name])) for name in TIMES}
    assert found == TIMES
    others = {name for name, text in files.items() if TIME.search(text)}
    assert others - {"junit.xml"} <= {*TIMES}
    assert "created" in json.loads(files["r.json"])
    for line in files[HISTORY].splitlines():
        assert TIME.fullmatch(json.loads(line)["time"].encode())
    for name, text in files.items():
        assert str(plain.path).encode() not in text or name == "junit.xml", name


@pytest.mark.faults
@pytest.mark.parametrize(
    ("arguments", "cwd", "environment"),
    [
        ([], ".", {}),
        ([], "elsewhere", ELSEWHERE),
        (["-n", "2"], ".", {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2"}),
    ],
    ids=["again", "elsewhere", "workers"],
)
def test_equal_runs_write_equal_bytes(
    plain: Project, tmp_path: Path, arguments: list[str], cwd: str, environment: dict[str, str]
) -> None:
    """In another folder, started elsewhere, with other time zone, locale, hash seed and workers.

    Commands and names of files are as they would be typed where pytest was started.
    """
    other = run_twice(tmp_path / "other", *arguments, cwd=cwd, **environment)
    expected, found = written(plain), written(other)
    if cwd != ".":
        found = {name: text.replace(b"../", b"") for name, text in found.items()}
    assert {*found} == {*expected}
    assert [name for name in found if found[name] != expected[name]] == []
    # The order of a JUnit file is that in which tests ended.
    assert sorted(properties(other), key=str) == sorted(properties(plain), key=str)


@pytest.mark.faults
def test_the_order_of_tests_is_that_of_reports_and_of_nothing_else(
    plain: Project, tmp_path: Path
) -> None:
    """Baselines, items, dumps and cache are the same bytes; lists have the same members."""
    other = run_twice(tmp_path / "other", REVERSED="1")
    expected, found = written(plain), written(other)
    assert {*found} == {*expected}
    differ = {name for name in found if found[name] != expected[name]}
    assert differ <= {*TIMES}
    assert sorted(found[HISTORY].splitlines()) == sorted(expected[HISTORY].splitlines())
    results = [json.loads(files["r.json"])["results"] for files in (expected, found)]
    assert results[1] == results[0][::-1]
    assert sorted(found["r.txt"].splitlines()) == sorted(expected["r.txt"].splitlines())
    assert sorted(properties(other), key=str) == sorted(properties(plain), key=str)


@pytest.mark.faults
@pytest.mark.torch
def test_threads_change_scores_by_rounding_alone(tmp_path: Path) -> None:
    """The same number of threads gives the same bytes; another, confidences to a millionth."""
    pytest.importorskip("torch")
    model = save(tmp_path / "model", new_model("gpt_neox"), bpe())
    gate = "from pytest_calibration import assert_no_regression\n\n\ndef test_it(calibration, "
    gate += "calibration_baseline):\n    assert_no_regression(calibration.run('facts', limit=300)"
    gate += ", calibration_baseline)\n"
    made = []
    for name, threads in (("a", "1"), ("b", "1"), ("c", "2")):
        project = Project(tmp_path / name, gate)
        project.write("conftest.py", "")
        record = ["-p", "no:cacheprovider", f"--calibration-model={model}", "--calibration-record"]
        record += [f"--calibration-history={HISTORY}", "--calibration-dump=dump"]
        code, output = project.run(*record, OMP_NUM_THREADS=threads)
        assert code == 0, output
        made.append(project)
    one, again, two = map(written_alone, made)
    assert one == again
    stored = [Baselines(project.baselines).load("facts") for project in (made[0], made[2])]
    confidence = [record.predictions.confidence for record in stored]
    assert confidence[1] == pytest.approx(confidence[0], abs=1e-6)
    assert stored[0].predictions.item_ids.tolist() == stored[1].predictions.item_ids.tolist()
    assert {*two} == {*one} or confidence[0].tolist() != confidence[1].tolist()


def written_alone(project: Project) -> dict[str, bytes]:
    """What one run wrote, without times."""
    return {name: TIME.sub(b"TIME", text) for name, text in project.files().items()}
