"""The blocks of the page on a probe of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from documents import Gated, Section, put_files


@pytest.mark.usefixtures("gate", "fakes")
def test_a_probe_of_ones_own(
    section: Section, folder: Path, pytester: pytest.Pytester, gated: Gated
) -> None:
    """By its class in ``calibration.yaml`` and by the hook; each has a baseline of its own."""
    example = section("docs/how-to/own-probe.md", "")
    assert put_files(folder, example) == ["sums.py", "calibration.yaml", "conftest.py"]
    named = ("sums", "small-sums", "sums-to-15")
    gated(3, "--calibration-model=a", *(f"--calibration-probe={name}" for name in named))
    listed = pytester.runpytest_inprocess("--calibration-list")
    listed.stdout.re_match_lines([r"  sums-to-15 +sums", r"\* sums +sums", r"\* small-sums +sums"])
