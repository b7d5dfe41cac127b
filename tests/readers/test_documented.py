"""What docs/how-to/predictions.md shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_calibration.errors import PredictionsError
from pytest_calibration.readers import read_predictions

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "predictions.md"
FILES = (
    "confidence,correct\n0.9,1\n87.5,1\n",
    "prob_cat,prob_dog,label\n.5,.5,cat\n-1.5,2.5,dog\n",
    "id,confidence,correct\na,.9,1\nb,.8,1\na,.7,0\n",
    "prob_cat,prob_dog,label\n.5,.5,dogs\n",
)


@pytest.mark.skipif(not PAGE.exists(), reason="the page is not there")
def test_the_page_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code runs, and its messages are those of such files."""
    monkeypatch.chdir(tmp_path)
    page = PAGE.read_text("utf-8")
    code = page.split("```python\n")[-1].partition("```")[0]
    space: dict[str, object] = {}
    exec(code, space)
    assert str(space["answers"]).startswith("Predictions(probe='topics'")
    messages = page.partition("```text\n")[2].partition("```")[0].splitlines()
    for text, message in zip(FILES, messages, strict=True):
        Path("sft.csv").write_text(text)
        with pytest.raises(PredictionsError) as caught:
            read_predictions("sft.csv")
        assert str(caught.value) == message
