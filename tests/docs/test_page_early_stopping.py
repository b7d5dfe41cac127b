"""The blocks of the page on stopping early."""

from __future__ import annotations

from pathlib import Path

import pytest
from console import Console
from documents import Block, Section, put_files


@pytest.mark.usefixtures("gate", "sft_by_name")
def test_a_regression_stops_early(section: Section, folder: Path, console: Console) -> None:
    """By the flag and by the ini key; the summary says what the page shows."""
    command, ini = section("docs/how-to/early-stopping.md", "Switch it on")
    (folder / "calibration.yaml").write_text("probes: {facts: {}}\n", "utf-8")
    for name in ("base", "sft"):
        (folder / "runs" / name).mkdir(parents=True)
    console.type(Block("", "$ pytest --calibration-model=runs/base --calibration-record"))
    console.type(command, [1])
    assert put_files(folder, [ini]) == ["pytest.ini"]
    console.type(Block("", command.text.replace(" --calibration-early-stop", "")), [1])
