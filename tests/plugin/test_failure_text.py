"""The text of a failure in a test session."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_a_failure_is_short_and_whole_under_v(recorded, workers: list[str]) -> None:
    """At most 25 lines by default, with a pointer to -v; under -v diagram and figures too."""
    short = [x for x in recorded.facts("hot", *workers).outlines if x.startswith("E  ")]
    assert len(short) <= 25
    assert "calibration regressed: probe facts on hot" in short[0]
    assert short[-1].endswith("more: pytest -v, or --calibration-report=FILE.html")
    whole = [x for x in recorded.facts("hot", "-v", *workers).outlines if x.startswith("E ")]
    assert len(whole) > 40
    for text in ("confidence          n   mean", "temperature  ", "signed gap worsened by"):
        assert any(text in line for line in whole)
        assert not any(text in line for line in short)
