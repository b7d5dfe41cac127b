"""Names in sentences."""

from __future__ import annotations

import pytest

from pytest_calibration.text.names import definite, labelled


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("base", "parent base"),
        ("parent", "parent"),
        ("Parent", "Parent"),
        ("parent-7b", "parent-7b"),
        ("parent_v2", "parent_v2"),
        ("parents", "parent parents"),
        ("", "parent"),
        ("my parent", "parent my parent"),
    ],
)
def test_no_kind_stands_twice(name: str, expected: str) -> None:
    """A name that begins with its kind, as a word, says it already."""
    assert labelled("parent", name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("baseline", "the baseline"),
        ("parent base", "the parent base"),
        ("parent-7b", "the parent-7b"),
        ("v1.2", "v1.2"),
        ("the previous release", "the previous release"),
        ("", ""),
    ],
)
def test_a_kind_has_an_article(name: str, expected: str) -> None:
    """A name that others chose is used as it is."""
    assert definite(name, "baseline", "parent") == expected
