"""Digests of values and of code."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.models.digests import Digest, code_digest

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, VALUES)
def test_a_digest_is_that_of_the_value(a: object, b: object) -> None:
    """Equal values of equal types have one digest, others another."""
    same = repr(a) == repr(b) or (isinstance(a, dict) and a == b and _typed(a) == _typed(b))
    assert (Digest(a).text() == Digest(b).text()) == (same or _typed(a) == _typed(b))
    assert Digest(a).stable


def _typed(value: object) -> object:
    """A form in which values are equal only with their types, and mappings in any order."""
    if isinstance(value, dict):
        return "m", sorted(((repr(k), repr(_typed(v))) for k, v in value.items()))
    if isinstance(value, list):
        return "l", [_typed(one) for one in value]
    return type(value).__name__, repr(value)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ((["a", "b"],), (["a"], "b")),
        (("ab", "c"), ("a", "bc")),
        (("1",), (1,)),
        ((b"a",), ("a",)),
        ((True,), (1,)),
        (({"a": 1, "b": 2},), ({"a": 2, "b": 1},)),
    ],
)
def test_neighbours_are_set_apart(one: tuple[object, ...], two: tuple[object, ...]) -> None:
    """Where one value ends, and of which type it is, counts."""
    assert Digest(*one).text() != Digest(*two).text()


def test_order_counts_where_it_means_something() -> None:
    """In lists, not in mappings and sets."""
    assert Digest([1, 2]).text() != Digest([2, 1]).text()
    assert Digest({"a": 1, "b": 2}).text() == Digest({"b": 2, "a": 1}).text()
    assert Digest({"x", "y", "z"}).text() == Digest({"z", "y", "x"}).text()


def test_an_object_without_a_text_of_its_own_is_not_stable() -> None:
    """An address in memory means nothing in another process; half a surrogate pair is text."""
    assert not Digest({"hook": object()}).stable
    assert not Digest([lambda: 0]).stable
    assert Digest(Path("a"), 1j, "\ud800").stable


def test_the_code_that_answers_counts(tmp_path: Path) -> None:
    """A changed line in any module, however deep, gives another digest."""
    (tmp_path / "inner").mkdir()
    for name in ("a.py", "inner/b.py"):
        (tmp_path / name).write_text("x = 1")
    first = code_digest.__wrapped__(tmp_path)
    assert code_digest.__wrapped__(tmp_path) == first
    (tmp_path / "inner" / "b.py").write_text("x = 2")
    assert code_digest.__wrapped__(tmp_path) != first
    assert code_digest() != first
