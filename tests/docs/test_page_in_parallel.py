"""The blocks of the page on tests in parallel."""

from __future__ import annotations

from pathlib import Path

import pytest
from console import Console
from documents import Section, blocks

pytestmark = pytest.mark.docs


@pytest.mark.usefixtures("gate", "sft_by_name")
def test_side_by_side(section: Section, folder: Path, console: Console) -> None:
    """Two checkpoints on four workers: each model's tests go to one, as the page says."""
    (command,) = section("docs/how-to/in-parallel.md", "")
    (folder / "calibration.yaml").write_text("probes: {facts: {limit: 200}}\n", "utf-8")
    for name in ("checkpoint-100", "checkpoint-200"):
        (folder / "runs" / "sft" / name).mkdir(parents=True)
    (said,) = console.type(command, [1], add=["-v"])
    for name in ("checkpoint-100", "checkpoint-200"):
        assert f"test_nothing_got_worse[{name}-facts]@{name}" in said
    assert "2 no baseline" in said


@pytest.mark.usefixtures("fakes")
def test_a_group_of_ones_own(section: Section, folder: Path, console: Console) -> None:
    """It is what ``loadgroup`` sees."""
    (test,) = section("docs/how-to/in-parallel.md", "Groups")
    (folder / "test_own.py").write_text(f"import pytest\n\n{test.text}", "utf-8")
    (command,) = blocks("docs/how-to/in-parallel.md")
    (folder / "runs" / "sft" / "checkpoint-1").mkdir(parents=True)
    (said,) = console.type(command, [1], add=["-v"])
    assert "test_facts_are_calibrated[checkpoint-1]@gpu 1" in said
