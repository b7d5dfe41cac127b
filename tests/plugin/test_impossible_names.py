"""Values of options that name files no file system can have."""

from __future__ import annotations

import pytest

LONG = "n" * 5000
OPTIONS = ("model", "parent", "config", "baseline-dir", "dump", "report", "cache-dir")


@pytest.mark.parametrize("joined", [True, False], ids=["one-word", "two-words"])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_name_that_is_too_long_is_told(project, name: str, joined: bool) -> None:
    """One sentence, never a traceback from inside, and the run is red where it was needed."""
    value = f"./{LONG}{'.json' * (name == 'report')}"
    model = [] if name == "model" else ["--calibration-model=runs/base"]
    flag = f"--calibration-{name}"
    option = [f"{flag}={value}"] if joined else [flag, value]
    result = project.run(*model, *option, "--calibration-record")
    text = "\n".join([*result.outlines, *result.errlines])
    assert "INTERNALERROR" not in text
    assert "Traceback" not in text
    assert "OSError" not in text
    assert result.ret != 0 or name == "cache-dir"
