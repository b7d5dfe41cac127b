"""The model under test: a function from texts to probabilities, as a service has it."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import pytest
from identifier import identify, languages, write_paragraphs
from numpy.typing import NDArray

from pytest_calibration import TextClassifier


@pytest.fixture(scope="session")
def calibration_model() -> TextClassifier:
    """The identifier behind a service that passes on the first so many characters of a text."""
    characters = int(os.environ.get("CHARACTERS", "80"))

    def predict(texts: Sequence[str]) -> NDArray[np.float64]:
        return identify([text[:characters] for text in texts])

    write_paragraphs()
    return TextClassifier(predict, languages(), name=f"first-{characters}-characters")
