"""``--calibration-parent``: the candidate is compared with another model, too."""

from __future__ import annotations

import ast
from importlib.util import find_spec

import pytest

CONFTEST = """
import pytest
from fakes import FakeModel
import pytest_calibration.models.loading as loading

LOADED = []

class Held(FakeModel):
    def next_token(self, texts, *, choose=None):
        LOADED.append(self.name)
        return super().next_token(texts, choose=choose)
    def release(self):
        LOADED.append("release " + self.name)

# Both models come through the loader, so that the order in which they are used shows.
loading.load_model = lambda spec, settings=None, cache=None: Held(
    spec.name, sharpen=0.6 if "hot" in spec.name else 0.0)

def pytest_sessionfinish():
    print("ORDER", LOADED)
"""


@pytest.fixture
def family(project):
    """A project whose parent and candidate are fakes that tell when they are used."""
    project.pytester.makeconftest(CONFTEST)
    project.isolated = True
    return project


def test_parent_is_the_comparison_where_nothing_is_stored(family) -> None:
    """A model that is worse than its parent fails, and the text names the parent."""
    result = family.facts("hot", "--calibration-parent=runs/base", "-v")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*calibration regressed: probe facts on hot*"])
    result.stdout.fnmatch_lines(["*parent base: ECE*"])
    assert family.facts("base", "--calibration-parent=runs/base").ret == 0


def test_parent_is_scored_first_and_released(family) -> None:
    """The parent is asked before the candidate is, and let go in between."""
    result = family.facts("base", "--calibration-parent=runs/hot", "-s")
    line = next(x for x in result.outlines if "ORDER" in x)
    order = [x for x in ast.literal_eval(line.partition("ORDER ")[2]) if x != "release base"]
    assert order[:3] == ["hot", "release hot", "base"]


def test_record_is_judged_beside_the_parent(family) -> None:
    """With a parent, an existing record is judged too, and either can fail."""
    assert family.facts("base", "--calibration-record").ret == 0
    result = family.facts("hot", "--calibration-parent=runs/hot")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["1 passed, 1 regressed"])


@pytest.mark.parametrize("flag", ["--calibration-record", "--calibration-accept=x"])
def test_with_a_parent_nothing_is_recorded(family, flag: str) -> None:
    """Record and accept together with a parent are a usage error."""
    result = family.facts("base", "--calibration-parent=runs/base", flag)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*together with --calibration-parent*"])


def test_fixture_gives_the_parent_or_says_what_is_missing(family) -> None:
    """calibration_parent is the parent model; without the flag it is an error that says so."""
    family.write("tests/test_project.py", "def test_p(calibration_parent): assert "
                 "calibration_parent.name == 'base'\n")  # fmt: skip
    result = family.run("--calibration-parent=runs/base")
    result.assert_outcomes(passed=1)
    result = family.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["no parent: pass --calibration-parent."])


def test_subset_is_compared_with_the_parent_too(family) -> None:
    """Predictions that were limited or given a signature still meet the parent."""
    family.write(
        "tests/test_project.py",
        """
from pytest_calibration import assert_no_regression

def test_it(calibration, calibration_baseline):
    facts = calibration.run("facts").limited(2000).with_signature(note="x")
    assert_no_regression(facts, calibration_baseline)
""",
    )
    result = family.facts("hot", "--calibration-parent=runs/base", "-v")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*parent base: ECE*"])


def test_parent_that_is_compared_with_nothing_is_red(family) -> None:
    """A parent that nothing was compared with fails the run."""
    family.write(
        "tests/test_project.py",
        """
from pytest_calibration import assert_ece_below

def test_it(calibration):
    assert_ece_below(calibration.run("facts"), 0.9)
""",
    )
    result = family.facts("base", "--calibration-parent=runs/base")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["ERROR: --calibration-parent was compared with nothing."])


@pytest.mark.torch
@pytest.mark.skipif(find_spec("torch") is None, reason="needs the extra `hf`")
def test_missing_parent_is_one_sentence_without_a_traceback(project) -> None:
    """What goes wrong while a fixture is set up is printed once, as one sentence."""
    project.pytester.makeconftest("")
    project.pytester.mkdir("runs/empty")
    result = project.facts("empty", "--calibration-parent=gone/away/model")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*'gone/away/model': there is no such directory; *holds *"])
    result.stdout.no_fnmatch_line("*loading.py*")
    result.stdout.no_fnmatch_line("During handling*")
