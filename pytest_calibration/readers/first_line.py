"""The first line of a file, by which a reader knows what it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pytest_calibration.errors import PredictionsError
from pytest_calibration.input_files import text_lines

# Characters that a line may have; the prompt of an item may be long.
MOST_OF_A_LINE = 1 << 26


def first_object(path: Path) -> dict[str, Any] | None:
    """Return the object in the first line of a JSON Lines file; None where there is none."""
    try:
        _, text = next(text_lines(path, MOST_OF_A_LINE, PredictionsError))
        found = json.loads(text)
    except (PredictionsError, StopIteration, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
