"""The blocks of the page on predictions."""

from __future__ import annotations

from pathlib import Path

import pytest
from console import Console
from documents import Section, blocks

from pytest_calibration.errors import PredictionsError
from pytest_calibration.readers import read_predictions

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)
# What the sentences on wrong files speak of, in their order.
WRONG = (
    "confidence,correct\n0.9,1\n87.5,1\n",
    "prob_cat,prob_dog,label\n.5,.5,cat\n-1.5,2.5,dog\n",
    "id,confidence,correct\na,.9,1\nb,.8,1\na,.7,0\n",
    "prob_cat,prob_dog,label\n.5,.5,dogs\n",
)


def answers(folder: Path, name: str, fewer: float = 0.0) -> None:
    """Write 1,000 answers of five confidences, of which this share fewer are right."""
    rows = (
        f"{200 * k + i},{level},{int(i < round(200 * (level - fewer)))}\n"
        for k, level in enumerate(LEVELS)
        for i in range(200)
    )
    (folder / name).write_text("id,confidence,correct\n" + "".join(rows), "utf-8")


def test_two_files_and_a_test(
    section: Section, folder: Path, console: Console, pytester: pytest.Pytester
) -> None:
    """Commands and test find what the other recorded; the text of the failure is the page's."""
    (commands,) = section("docs/how-to/predictions.md", "A file")
    (test,) = section("docs/how-to/predictions.md", "A test")
    answers(folder, "base.csv")
    answers(folder, "sft.csv", 0.1)
    console.type(commands, [0, 1])
    pytester.makepyfile(test.text)
    pytester.runpytest_inprocess().assert_outcomes(failed=1)
    answers(folder, "sft.csv")
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_wrong_files(folder: Path) -> None:
    """What is said of them is what the page shows."""
    (messages,) = blocks("docs/reference/command-line.md", "Files of predictions")
    for text, message in zip(WRONG, messages.text.splitlines(), strict=True):
        (folder / "sft.csv").write_text(text, "utf-8")
        with pytest.raises(PredictionsError) as caught:
            read_predictions("sft.csv")
        assert str(caught.value) == message


def test_from_python(section: Section) -> None:
    """A Trainer's output, a table of scikit-learn, a frame."""
    (code,) = section("docs/how-to/predictions.md", "Arrays and frames")
    space: dict[str, object] = {}
    exec(code.text, space)
    assert str(space["answers"]).startswith("Predictions(probe='topics'")
