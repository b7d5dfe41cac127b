"""Item texts: built when they are read, and they stay with their items."""

from __future__ import annotations

import numpy as np

from pytest_calibration.predictions import ItemText, ItemTexts, Predictions


def test_texts_are_built_when_read_and_follow_their_items() -> None:
    """Taking items takes their texts; only those that are read are built."""
    built: list[int] = []

    def of(row: int) -> ItemText:
        built.append(row)
        return ItemText(prompt=f"question {row}")

    texts = ItemTexts(of, np.arange(10))
    p = Predictions("x", np.full(10, 0.5), np.ones(10, bool), np.arange(10), texts=texts)
    last = p.take(np.array([7, 2])).take(np.array([False, True]))
    assert last.texts is not None
    assert built == []
    assert last.texts[0].prompt == "question 2"
    assert built == [2]


def test_item_ids_of_the_caller_name_the_items() -> None:
    """A report can show the caller's own id, though a baseline stores a hash of it."""
    p = Predictions.from_confidence([0.5, 0.6], [True, False], item_ids=["q-17", 4])
    assert p.texts is not None
    assert [p.texts[i].name for i in range(2)] == ["q-17", "4"]
    assert Predictions.from_confidence([0.5], [True]).texts is None
