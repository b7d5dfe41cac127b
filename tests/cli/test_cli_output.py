"""How subcommands print."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.cli.output import as_json, at_most, percent, table


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0.0 %"), (1e-9, "< 0.1 %"), (0.0004, "< 0.1 %"), (0.0005, "0.1 %"), (1.0, "100.0 %")],
)
def test_percent(share: float, text: str) -> None:
    """One decimal; a share that is not 0 is not written as 0."""
    assert percent(share) == text


@given(st.floats(0, 1))
def test_an_upper_bound_is_rounded_up(bound: float) -> None:
    """What is printed is no less than the bound, and less than 0.1 % above it."""
    printed = float(at_most(bound).removesuffix(" %")) / 100
    assert bound - 1e-8 <= printed < bound + 0.00100001


def test_table_is_aligned_to_the_right() -> None:
    """Columns are as wide as their widest cell, two spaces apart."""
    assert list(table([["n", "yes"], ["1,000", "-"]])) == ["      n  yes", "  1,000    -"]


def test_json_has_numbers_for_leaves() -> None:
    """Yes is 1, None and NaN are left out, keys are text; the rest is as it was."""
    tree = {"a": True, "b": math.nan, "c": None, "d": {1: 0.5, "e": False}, "f": 3}
    more = {"g": "text", "h": [("a", True), 0.5]}
    found = json.loads(as_json({**tree, **more}))
    assert found == {"a": 1, "d": {"1": 0.5, "e": 0}, "f": 3, "g": "text", "h": [["a", 1], 0.5]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json({"a": math.inf})
