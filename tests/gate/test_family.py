"""Holm's correction for several comparisons."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.gate.family import holm

P = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_the_example_of_a_textbook() -> None:
    """P = 0.01, 0.04, 0.03, 0.005 at level 0.05: the first and the last remain (Holm 1979)."""
    assert holm([0.01, 0.04, 0.03, 0.005], [0.05] * 4) == [True, False, False, True]


@given(P)
def test_it_is_between_bonferroni_and_none(p: list[float]) -> None:
    """What Bonferroni keeps remains, and nothing remains that fails alone is above the level."""
    kept = holm(p, [0.05] * len(p))
    assert all(k for k, value in zip(kept, p, strict=True) if value <= 0.05 / len(p) * (1 - 1e-9))
    assert all(value <= 0.05 for k, value in zip(kept, p, strict=True) if k)


@given(P, st.randoms(use_true_random=False))
def test_the_order_is_no_matter(p: list[float], random) -> None:
    """The same p-values in another order keep the same ones."""
    places = list(range(len(p)))
    random.shuffle(places)
    shuffled = holm([p[i] for i in places], [0.05] * len(p))
    kept = holm(p, [0.05] * len(p))
    # Equal p-values are interchangeable.
    assert sorted(p[i] for i, k in zip(places, shuffled, strict=True) if k) == sorted(
        value for value, k in zip(p, kept, strict=True) if k
    )


def test_each_comparison_has_its_own_level() -> None:
    """A p-value counts in units of its level."""
    assert holm([0.02, 0.02], [0.1, 0.01]) == [True, False]
