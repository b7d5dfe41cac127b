"""Fixtures of training runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from trainings import facts_file


@pytest.fixture(autouse=True)
def quiet_libraries() -> Iterator[None]:
    """Keep what libraries log and show while they train out of the tests' output."""
    logging = pytest.importorskip("transformers").utils.logging
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    yield
    logging.set_verbosity(level)
    logging.enable_progress_bar()


@pytest.fixture
def items(tmp_path: Path) -> Path:
    """Return the items of a probe of facts that no training tells."""
    return facts_file(tmp_path)
