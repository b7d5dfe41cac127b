"""Which questions go to a replica together."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.models.replicas.batching import BATCHES, batches


def unlike(*parts: int) -> str:
    """Return a text of 120 characters that no other begins like."""
    return hashlib.sha512(repr(parts).encode()).hexdigest()[:120]


@given(
    st.lists(st.text("ab", max_size=6), max_size=30),
    st.integers(1, 9),
)
def test_every_question_is_in_one_batch(texts: list[str], replicas: int) -> None:
    """Nothing is lost or asked twice, and no batch but the only one is empty."""
    found = batches(texts, replicas)
    assert sorted(i for part in found for i in part) == list(range(len(texts)))
    assert all(found) or found == [[]]
    assert found == batches(texts, replicas)


@pytest.mark.parametrize("replicas", [2, 3])
def test_questions_with_one_header_go_to_one_replica(replicas: int) -> None:
    """As long as a header's questions are no more than the work of a batch."""
    headers = [f"subject {i}: " + "solved examples. " * 20 for i in range(24)]
    texts = [header + unlike(i, j) for i in range(5) for j, header in enumerate(headers)]
    found = batches(texts, replicas)
    owner = {i: number for number, part in enumerate(found) for i in part}
    for header in headers:
        assert len({owner[i] for i, text in enumerate(texts) if text.startswith(header)}) == 1
    assert len(found) >= replicas * 2


def test_one_header_for_all_is_shared_by_all_replicas() -> None:
    """Where all questions begin alike, no replica is left without work."""
    header = "the same examples. " * 200
    texts = [header + unlike(i) for i in range(100)]
    found = batches(texts, 4)
    # Each batch computes the examples anew, so there are few.
    assert 4 <= len(found) <= 2 * 4
    assert max(map(len, found)) <= 2 * len(texts) / 4
    # Not so where the beginning is short.
    assert len(batches([text[len(header) :] for text in texts], 4)) >= 3 * 4


def test_what_is_written_counts() -> None:
    """A question with a long answer weighs more than many with short ones; it comes first."""
    texts = [f"question {i}" for i in range(16)]
    found = batches(texts, 1, [1000.0] + [1.0] * 15)
    assert found[0] == [0]
    assert len(found) <= BATCHES + 1
