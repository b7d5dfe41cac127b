"""``--calibration-limit``: at most so many items per probe."""

from __future__ import annotations

import json
import re

import pytest


def test_limit_compares_on_the_intersection(recorded) -> None:
    """A limited run is a subset of the baseline, compared where both have items."""
    recorded.write(
        "tests/test_project.py",
        """
from pytest_calibration import assert_no_regression

def test_it(calibration, calibration_baseline):
    verdict = assert_no_regression(calibration.run("facts"), calibration_baseline)
    print("N", verdict.n, verdict.state)
    print(verdict.explain())
""",
    )
    result = recorded.facts("base", "--calibration-limit=1500", "-s")
    result.stdout.fnmatch_lines(
        ["*N 1500 passed", "*1,500 of the 1,500 items here are among*2,315*"]
    )


def test_limit_order_is_call_flag_ini_yaml(project) -> None:
    """The call's limit wins over the flag, that over the ini key, that over calibration.yaml."""
    project.write("calibration.yaml", "probes: {facts: {limit: 40}}\n")
    project.write(
        "tests/test_project.py",
        """
def test_it(calibration):
    print("N", len(calibration.run("facts")), len(calibration.run("facts", limit=10)))
""",
    )
    model = "--calibration-model=runs/base"
    project.run(model, "-s").stdout.fnmatch_lines(["*N 40 10*"])
    project.pytester.makeini("[pytest]\ncalibration_limit = 30\n")
    project.run(model, "-s").stdout.fnmatch_lines(["*N 30 10*"])
    result = project.run(model, "-s", "--calibration-limit=20")
    result.stdout.fnmatch_lines(["*N 20 10*"])


@pytest.mark.parametrize("value", ["0", "-3"])
def test_limit_below_one_is_a_usage_error(project, value: str) -> None:
    """A limit of nothing would be a silent pass."""
    result = project.facts("base", f"--calibration-limit={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--calibration-limit must be at least 1, got {value}.*"])


@pytest.mark.parametrize("where", ["flag", "calibration.yaml"])
@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_a_limit_hides_no_cut_file(project, where: str, workers: list[str]) -> None:
    """A file cut down to some of the items is not comparable, whatever limit stands beside it."""

    def write(numbers: range, limit: int | None) -> None:
        rows = [{"prompt": f"Number {i} is", "answer": "even"} for i in numbers]
        project.write("rows.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
        setting = f", limit: {limit}" if limit and where == "calibration.yaml" else ""
        project.write(
            "calibration.yaml", f"probes: {{mine: {{kind: facts, path: rows.jsonl{setting}}}}}\n"
        )

    write(range(300), None)
    assert project.run("--calibration-model=runs/base", "--calibration-record").ret == 0
    for kept, limit, comparable in ((300, 100, True), (200, 200, False), (200, 100, False)):
        write(range(kept), limit)
        flags = [f"--calibration-limit={limit}"] if where == "flag" else []
        result = project.run("--calibration-model=runs/base", *flags, *workers)
        assert ("not comparable: probe mine on base" in result.stdout.str()) is not comparable
        assert f"{limit} of the {limit} items here are among" in re.sub(
            r"\nE? +", " ", result.stdout.str()
        )
