"""All items that were scored, as JSON lines in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fakes import FakeModel

from pytest_calibration.probes.facts import Facts

if TYPE_CHECKING:
    from user_project import Project

WORKERS = pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])


# Loading a checkpoint needs torch; here it gives a fake of the same name.
PARENT = """
import pytest_calibration.models.loading

def load_model(spec, settings=None, cache=None):
    model = FakeModel(getattr(spec, "name", spec))
    model.release = lambda: None
    return model

pytest_calibration.models.loading.load_model = load_model
"""


def dumped(folder: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The items of each file, by probe and model."""
    out = {}
    for path in sorted(folder.iterdir()):
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        ((probe, model),) = {(row["probe"], row.get("model", "")) for row in rows}
        out[probe, model] = rows
    return out


@WORKERS
def test_every_item_is_written(recorded: Project, workers: list[str]) -> None:
    """One line per item of the probe, with the model's own numbers and the item's text."""
    recorded.facts("hot", "--calibration-dump=items", *workers)
    (rows,) = dumped(recorded.path / "items").values()
    asked = Facts().run(FakeModel("hot", sharpen=0.6))
    assert [int(row["id"], 16) for row in rows] == asked.item_ids.tolist()
    assert [row["confidence"] for row in rows] == asked.confidence.tolist()
    assert [row["correct"] for row in rows] == asked.correct.tolist()
    assert [row["prompt"] for row in rows] == [item.prompt for item in Facts().items]


@WORKERS
def test_several_models_and_a_parent_have_files_of_their_own(
    recorded: Project, workers: list[str]
) -> None:
    """Each model's answers are in its own file, the parent's too."""
    recorded.isolated = True
    recorded.write("conftest.py", (recorded.path / "conftest.py").read_text() + PARENT)
    recorded.facts(
        "hot",
        "--calibration-model=runs/other",
        "--calibration-parent=runs/base",
        "--calibration-dump=items",
        *workers,
    )
    found = dumped(recorded.path / "items")
    assert {*found} == {("facts", name) for name in ("base", "hot", "other")}


LIMIT = """
from pytest_calibration import assert_ece_below

def test_limit(calibration):
    assert_ece_below(calibration.run("facts"), 0.99)
"""


@pytest.mark.parametrize("name", ["test_a_limit", "test_z_limit"], ids=["before", "after"])
@WORKERS
def test_the_baseline_stands_beside_each_item(
    recorded: Project, workers: list[str], name: str
) -> None:
    """Whichever test or worker writes last: a test without a baseline takes none away."""
    recorded.write(f"tests/{name}.py", LIMIT)
    recorded.facts("other", "--calibration-dump=items", *workers)
    (rows,) = dumped(recorded.path / "items").values()
    base = Facts().run(FakeModel("base"))
    np.testing.assert_allclose([row["confidence_before"] for row in rows], base.confidence, 1e-6)
    assert [row["correct_before"] for row in rows] == base.correct.tolist()
    assert [row["correct"] for row in rows] != base.correct.tolist()


def test_an_earlier_run_leaves_no_baseline(recorded: Project) -> None:
    """A run without a comparison says what it knows, and not what another run did."""
    recorded.facts("hot", "--calibration-dump=items")
    recorded.write("tests/test_project.py", LIMIT)
    recorded.facts("hot", "--calibration-dump=items")
    (rows,) = dumped(recorded.path / "items").values()
    assert all("confidence_before" not in row for row in rows)


@pytest.mark.parametrize("against", ["parent", "predictions"])
def test_any_baseline_is_written(recorded: Project, against: str) -> None:
    """That of a comparison with a parent or with other predictions, on the items of both."""
    recorded.isolated = True
    recorded.write("conftest.py", (recorded.path / "conftest.py").read_text() + PARENT)
    for path in recorded.baselines.iterdir():
        path.unlink()
    flags = []
    if against == "parent":
        flags = ["--calibration-parent=runs/base"]
    else:
        recorded.write(
            "tests/test_project.py",
            """
from fakes import FakeModel
from pytest_calibration import assert_no_regression
from pytest_calibration.probes.facts import Facts

def test_it(calibration):
    before = Facts().run(FakeModel("base")).limited(1000)
    assert_no_regression(calibration.run("facts"), before)
""",
        )
    recorded.facts("hot", "--calibration-dump=items", *flags)
    rows = dumped(recorded.path / "items")["facts", "hot"]
    base = Facts().run(FakeModel("base"))
    before = dict(zip(base.item_ids.tolist(), base.confidence.tolist(), strict=True))
    there = [row for row in rows if "confidence_before" in row]
    assert len(there) == (len(rows) if against == "parent" else 1000)
    assert all(row["confidence_before"] == before[int(row["id"], 16)] for row in there)
    assert len(rows) == base.n


def test_arrays_are_written_too(project: Project) -> None:
    """What a test brings itself is dumped when it is judged."""
    project.write(
        "tests/test_project.py",
        """
import numpy as np
from pytest_calibration import assert_ece_below

def test_arrays(calibration):
    assert_ece_below((np.array([[0.9, 0.1]] * 50), np.zeros(50, int)), 0.5)
""",
    )
    result = project.run("--calibration-model=runs/base", "--calibration-dump=items")
    assert result.ret == 0
    ((probe, _),) = (found := dumped(project.path / "items"))
    assert probe == "probabilities"
    (rows,) = found.values()
    np.testing.assert_array_equal([row["probabilities"] for row in rows], [[0.9, 0.1]] * 50)


@WORKERS
def test_a_probe_of_a_project_has_one_file_for_each_model(
    project: Project, workers: list[str]
) -> None:
    """What it was asked, and what is judged of that, are the same items of the same model."""
    project.write(
        "tests/test_project.py",
        """
from pytest_calibration import Facts, Predictions, assert_ece_below

class Own:
    name = kind = "own"

    def run(self, model, limit=None):
        p = Facts().run(model, limit=limit)
        return Predictions.from_confidence(p.confidence, p.correct, probe="own")

def test_own(calibration):
    assert_ece_below(calibration.run(Own()), 0.9)
""",
    )
    models = [f"--calibration-model=runs/{name}" for name in ("base", "hot")]
    assert project.run(*models, "--calibration-dump=items", *workers).ret == 0
    assert list(dumped(project.path / "items")) == [("own", "base"), ("own", "hot")]
    assert len(list((project.path / "items").iterdir())) == 2


def test_no_text_where_none_may_be_shown(recorded: Project) -> None:
    """With calibration_item_text = none the numbers stay and the words go."""
    recorded.facts("hot", "--calibration-dump=items", "-o", "calibration_item_text=none")
    text = next((recorded.path / "items").iterdir()).read_text("utf-8")
    assert '"prompt"' not in text
    assert not any(item.prompt in text for item in Facts().items)


def test_a_folder_that_cannot_be_written_is_an_error(recorded: Project) -> None:
    """The test fails with one sentence: evidence that was asked for is not lost in silence."""
    recorded.write("items", "a file")
    result = recorded.facts("base", "--calibration-dump=items")
    assert result.ret == 1
    result.stdout.re_match_lines([r"E .*items: is a file, and items are dumped into a folder\."])
    result.stdout.no_fnmatch_line("*dump.py:*")


def test_the_ini_key_is_relative_to_rootdir(recorded: Project) -> None:
    """A lasting setting means the same wherever pytest is started."""
    recorded.pytester.makeini("[pytest]\ncalibration_dump = items\n")
    recorded.facts("base")
    assert dumped(recorded.path / "items")


def test_nothing_is_written_unasked(recorded: Project) -> None:
    """Without the option there is no folder."""
    before = {*recorded.files()}
    recorded.facts("base")
    assert {*recorded.files()} == before
