"""An empty project for what a page shows, and the blocks of a page, which must all be used.

A page has a module of its own here, ``test_page_<name>.py``. A test asks for the blocks below one
heading by ``section("docs/how-to/ci.md", "On GitHub")``, with both names in full, as
``test_all_blocks.py`` looks for them. At its end it has used each: run it, or compared it with what
a command printed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import all_loaded  # noqa: F401  before any inner run
import pytest
from console import Console
from documents import Block, Gated, Section, pages, sections

TESTS = Path(__file__).parents[1]
# A copy without the documents, as the archive of the sources, has none of their tests.
collect_ignore_glob = [] if pages() else ["test_page_*.py"]

GATE = """
from pytest_calibration import assert_no_regression

def test_nothing_got_worse(calibration, calibration_baseline, calibration_probe):
    assert_no_regression(calibration.run(calibration_probe), calibration_baseline)
"""
# A model that stands for every checkpoint; those of a run are over-confident.
FAKES = """
import pytest
from fakes import FakeModel

@pytest.fixture(scope="session")
def calibration_model(calibration_model_spec):
    return FakeModel(calibration_model_spec, sharpen=0.6 if "sft" in calibration_model_spec else 0)
"""
# The service that the examples speak of: a classifier that is right as often as it says.
SERVICE = """
import numpy as np
from fakes import unit

def predict(texts):
    p = np.array([unit(text) for text in texts])
    return np.column_stack([1 - p, p])

predict.class_names = ["negative", "positive"]

def log_probability(prompt, option):
    return float(np.log(unit(prompt, option)))
"""


@pytest.fixture
def section() -> Iterator[Section]:
    """Give the blocks below a heading of a page; at the end of the test each was used."""
    given: list[tuple[str, str, Block]] = []

    def blocks_of(page: str, heading: str) -> list[Block]:
        some = sections(page)[heading]
        assert some, f"{page} has no block below {heading!r}"
        given.extend((page, heading, block) for block in some)
        return some

    yield blocks_of
    assert not [one for one in given if not one[2].used]


@pytest.fixture
def folder(empty_project: Path) -> Path:
    """A project that holds the service alone."""
    (empty_project / "my_service.py").write_text(SERVICE, "utf-8")
    return empty_project


@pytest.fixture
def gated(pytester: pytest.Pytester) -> Gated:
    """Record a number of probes, and find them unchanged."""

    def run(probes: int, *args: str) -> None:
        pytester.runpytest_inprocess(*args, "--calibration-record").assert_outcomes(passed=probes)
        again = pytester.runpytest_inprocess(*args)
        again.assert_outcomes(passed=probes)
        again.stdout.fnmatch_lines([f"{probes} passed"])

    return run


@pytest.fixture
def gate(folder: Path) -> Path:
    """A test that compares every probe with its baseline."""
    path = folder / "tests" / "test_calibration.py"
    path.parent.mkdir()
    path.write_text(GATE, "utf-8")
    return path


@pytest.fixture
def fakes(folder: Path) -> None:
    """A model that stands for every checkpoint; those below ``sft`` are over-confident."""
    (folder / "tests").mkdir(exist_ok=True)
    (folder / "tests" / "conftest.py").write_text(FAKES, "utf-8")


@pytest.fixture
def sft_by_name(fakes: None, folder: Path) -> None:
    """The same, called by the last part of their paths, as checkpoints are."""
    conftest = folder / "tests" / "conftest.py"
    named = 'FakeModel(calibration_model_spec.rpartition("/")[2]'
    conftest.write_text(FAKES.replace("FakeModel(calibration_model_spec", named), "utf-8")


@pytest.fixture
def reviews() -> list[dict[str, str]]:
    """Texts that are positive as often as the service says."""
    from fakes import unit

    names = ("negative", "positive")
    texts = [f"review {i}" for i in range(400)]
    return [{"text": t, "label": names[unit("truth", t) < unit(t)]} for t in texts]


@pytest.fixture
def reviews_jsonl(folder: Path, reviews: list[dict[str, str]]) -> Path:
    """The same as a file of JSON lines."""
    path = folder / "reviews.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in reviews), "utf-8")
    return path


@pytest.fixture
def console(
    folder: Path,
    pytester: pytest.Pytester,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Console:
    """Type the commands of a block in the project, whose processes find what tests share."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
    # As wide as what the pages show.
    monkeypatch.setenv("COLUMNS", "100")
    return Console(pytester, capsys)
