"""The blocks of the page on the threshold that people act on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from console import Console
from documents import Section, blocks, put_files

from pytest_calibration import Predictions
from pytest_calibration.reports.dump import write_dump


def logistic(n: int) -> Predictions:
    """Return the answers of the page's own model, the first of 2,000."""
    rng = np.random.default_rng(0)
    truth = 1 / (1 + np.exp(-(1.6 + 1.5 * rng.standard_normal(2000))))
    right = rng.random(2000) < truth
    return Predictions.from_confidence(truth[:n], right[:n], item_ids=range(n), probe="support-mcq")


def test_chosen(section: Section, console: Console, folder: Path) -> None:
    """One that holds the precision on many items, none on few."""
    (chosen,) = section("docs/how-to/thresholds.md", "Choose a threshold")
    for name, n in (("base", 2000), ("small", 400)):
        write_dump(folder, logistic(n)).rename(f"{name}.jsonl")
    console.type(chosen, [0, 1])


@pytest.mark.usefixtures("gate", "fakes")
def test_gated(
    section: Section,
    folder: Path,
    pytester: pytest.Pytester,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each comparison has a second verdict; Python prints what the comments beside it say."""
    config, code = section("docs/how-to/thresholds.md", "Gate it")
    put_files(folder, [config])
    with (folder / "calibration.yaml").open("a", encoding="utf-8") as file:
        file.write("probes: {facts: {limit: 400}}\n")
    assert points(folder, pytester) == {("facts", None), ("facts", 0.9)}
    capsys.readouterr()
    exec(code.text, {})
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["precision regressed at 0.9: probe confidence", "True"]
    assert all(f"  # {line}" in code.text for line in printed)


def points(folder: Path, pytester: pytest.Pytester) -> set[tuple[str, float | None]]:
    """Record all probes, compare them, and return the probe and threshold of each verdict."""
    pytester.runpytest_inprocess("--calibration-model=a", "--calibration-record")
    pytester.runpytest_inprocess("--calibration-model=a", "--calibration-report=r.json")
    results = json.loads((folder / "r.json").read_text("utf-8"))["results"]
    return {(one["probe"], (one["point"] or {}).get("threshold")) for one in results}


def test_planned(section: Section, console: Console) -> None:
    """Before any model is run."""
    (plan,) = section("docs/how-to/thresholds.md", "How many items it takes")
    console.type(plan)


@pytest.mark.usefixtures("gate", "fakes")
def test_the_reference(folder: Path, pytester: pytest.Pytester) -> None:
    """Two points of one probe, none of the other."""
    (config,) = blocks(
        "docs/reference/calibration-yaml.md", "`operating_points:` in `calibration.yaml`"
    )
    (folder / "calibration.yaml").write_text(config.text, "utf-8")
    (folder / "probes").mkdir()
    rows = [{"question": f"Which {i}?", "options": ["a", "b"], "answer": 0} for i in range(60)]
    texts = [{"prompt": f"Fact {i} is", "answer": "known"} for i in range(60)]
    for name, some in (("mcq", rows), ("trivia", texts)):
        lines = "".join(f"{json.dumps(row)}\n" for row in some)
        (folder / "probes" / f"{name}.jsonl").write_text(lines, "utf-8")
    found = points(folder, pytester)
    mcq = {("support-mcq", point) for point in (None, 0.9, 0.97)}
    assert found == {*mcq, ("trivia", None)}
