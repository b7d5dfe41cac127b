"""Predictions drawn by hypothesis: rows of confidence and outcome, tables of probabilities."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from pytest_calibration.metrics import Strategy
from pytest_calibration.predictions import Predictions

STRATEGIES: tuple[Strategy, ...] = ("equal_width", "equal_mass")

Rows = list[tuple[float, bool]]

# Any confidence, often with two decimals: ties, edges, 0 and 1 occur.
answers = st.lists(
    st.tuples(
        st.one_of(st.floats(0, 1), st.integers(0, 100).map(lambda k: k / 100)), st.booleans()
    ),
    min_size=1,
    max_size=80,
)
# Multiples of 0.05: a value near an edge is on it.
grid = st.lists(
    st.tuples(st.integers(0, 20).map(lambda k: k / 20), st.booleans()), min_size=1, max_size=60
)
strategies = st.sampled_from(STRATEGIES)


def built(rows: Rows) -> Predictions:
    """Return predictions from (confidence, correct) rows."""
    return Predictions.from_confidence([c for c, _ in rows], [h for _, h in rows])


@st.composite
def tables(draw: st.DrawFn) -> Predictions:
    """Draw a table of probabilities that are multiples of 1/steps, with labels."""
    options = draw(st.integers(2, 5))
    steps = draw(st.sampled_from([4, 10, 1000]))
    rows, labels = [], []
    for _ in range(draw(st.integers(1, 25))):
        cuts = sorted(
            draw(st.lists(st.integers(0, steps), min_size=options - 1, max_size=options - 1))
        )
        rows.append(np.diff([0, *cuts, steps]) / steps)
        labels.append(draw(st.integers(0, options - 1)))
    return Predictions.from_probabilities(np.array(rows), labels)
