"""Models of a backend that this package does not bring, in whole runs without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from user_project import Project

CONFTEST = """
import sys
import toy_backend

toy_backend.register()

def pytest_unconfigure():
    print("LOG", toy_backend.LOG, {"torch", "transformers"} & {*sys.modules})
"""
OPTIONS = ("--calibration-probe=facts", "--calibration-limit=600", "--calibration-cache-dir=kept")


@pytest.fixture
def toys(project: Project) -> Project:
    """A project with two models of the toy backend."""
    project.pytester.makeconftest(CONFTEST)
    project.write("calm", "beliefs")
    project.write("hot", "beliefs")
    project.write("calibration.yaml", "model: {percent: 0, dtype: float32}\n")
    return project


def run(toys: Project, *arguments: str) -> pytest.RunResult:
    """Run pytest in a process of its own."""
    return toys.pytester.runpytest_subprocess(*OPTIONS, *arguments)


def test_a_run_on_another_backend(toys: Project) -> None:
    """Recorded, gated from the cache without loading, and failed by settings that make it hot."""
    first = run(toys, "--calibration-model=toy:calm", "--calibration-record")
    first.stdout.fnmatch_lines(["*1 recorded*", "LOG ['load toy-calm', 'close toy-calm'] set()"])
    second = run(toys, "--calibration-model=toy:calm")
    assert second.ret == 0
    second.stdout.fnmatch_lines(
        ["answers from cache: all (no model was loaded).", "LOG [[]] set()"]
    )
    toys.write("calibration.yaml", "model: {percent: 60}\n")
    third = run(toys, "--calibration-model=toy:hot")
    assert third.ret == 1
    third.stdout.fnmatch_lines(["*it is only a toy.*", "LOG ['load toy-hot', *"])


def test_a_spec_of_no_backend_is_a_usage_error(toys: Project) -> None:
    """One sentence names the backends and what their specs look like."""
    result = run(toys, "--calibration-model=ftp://localhost:8000/v1#m")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "*model 'ftp://localhost:8000/v1#m' is of no kind that can be loaded here (tried: "
            "transformers, server, own, toy); pass a directory that holds a checkpoint or an "
            "adapter, or a hub id (name, owner/name, owner/name@revision); or a model on a server "
            "(http://host:port/v1#model); or a function from texts to class probabilities, or a "
            "model, that can be imported (module:name); or a file of beliefs (toy:FILE)."
        ]
    )
