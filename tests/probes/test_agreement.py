"""Agreement: the share of the commonest of several drawn answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from answering import Answering
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration import Agreement
from pytest_calibration.metrics import bin_table
from pytest_calibration.probes.free_answer import FreeQuestion

PERU = {"question": "Capital of Peru?", "answer": "Lima"}
BUILT_IN = Agreement()
CHAD = {"question": "Capital of Chad?", "answer": "N'Djamena"}


def rows(folder: Path, *content: Mapping[str, object]) -> Path:
    """Write rows."""
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, content)), encoding="utf-8")
    return path


def drawing(*answers: str) -> Answering:
    """A model that draws these answers to each prompt, in turn."""
    counts: dict[str, int] = {}

    def says(prompt: str, seed: int) -> str:
        counts[prompt] = counts.get(prompt, -1) + 1
        return answers[counts[prompt] % len(answers)]

    return Answering(says)


@pytest.mark.parametrize(
    ("answers", "share", "shown", "right"),
    [
        (["Lima", "Cusco", "lima.", "The Lima"], 0.75, "Lima", True),
        (["Cusco", "Lima", "Cusco", "Lima"], 0.5, "Cusco", False),
        (["Lima", "Cusco", "Cusco", "Lima"], 0.5, "Lima", True),
        (["a1", "b", "c", "d"], 0.25, "a1", False),
        (["", "", "", "Lima"], 0.75, "", False),
        (["Lima\nQ", "Lima", "\nLima", " Lima "], 1.0, "Lima", True),
    ],
)
def test_the_largest_cluster_is_the_answer(
    tmp_path: Path, answers: Sequence[str], share: float, shown: str, right: bool
) -> None:
    """Normalised answers that are equal are one; of equal clusters the first counts."""
    predictions = Agreement(path=rows(tmp_path, PERU), samples=4).run(drawing(*answers))
    assert predictions.confidence.tolist() == [share]
    assert predictions.correct.tolist() == [right]
    assert predictions.texts is not None
    assert predictions.texts[0].answer == shown


def test_exact_answers_differ_in_case(tmp_path: Path) -> None:
    """The rule that says what is right says what is the same."""
    probe = Agreement(path=rows(tmp_path, PERU), samples=4, match="exact")
    predictions = probe.run(drawing("lima", "Lima", "LIMA", "Lima"))
    assert (predictions.confidence[0], predictions.correct[0]) == (0.5, True)


def test_a_function_says_what_is_the_same(tmp_path: Path) -> None:
    """It is given the question, and decides what is right, too."""
    asked = set()

    def first_letter(question: str, one: str, other: str) -> bool:
        asked.add(question)
        return one[0] == other[0]

    probe = Agreement(path=rows(tmp_path, PERU), samples=4, match=first_letter)
    predictions = probe.run(drawing("Lyon", "Lima", "Cusco", "Leon"))
    assert (predictions.confidence[0], predictions.correct[0]) == (0.75, True)
    assert asked == {"Capital of Peru?"}
    assert "first_letter" in predictions.signature.hard["match"]


def test_an_option_is_the_same_by_letter_and_by_text(tmp_path: Path) -> None:
    """All ways to name one option are one answer; what names none is its own."""
    row = {"question": "Capital?", "options": ["Lima", "Cusco"], "answer": 0}
    probe = Agreement(path=rows(tmp_path, row), samples=5)
    predictions = probe.run(drawing("A", "Lima", "x", "(A) Lima", "B"))
    assert predictions.confidence.tolist() == pytest.approx([0.6])
    assert predictions.correct.tolist() == [True]
    assert probe.run(drawing("x", "x", "y", "A", "B")).confidence.tolist() == pytest.approx([0.4])


def test_seeds_belong_to_the_question(tmp_path: Path) -> None:
    """Not to its place, to other questions, or to a limit; another seed draws anew."""
    both = rows(tmp_path, PERU, CHAD)
    probe = Agreement(path=both, samples=3)
    model = drawing("Lima")
    probe.run(model)
    drawn = model.drawn
    assert len({seed for _, seed in drawn}) == 6
    assert [prompt for prompt, _ in drawn][:3] == [drawn[0][0]] * 3
    Agreement(path=rows(tmp_path, CHAD, PERU), samples=3).run(model)
    assert model.drawn == drawn[3:] + drawn[:3]
    probe.run(model, limit=1)
    assert model.drawn in (drawn[:3], drawn[3:])
    Agreement(path=both, samples=3, seed=1).run(model)
    assert not {seed for _, seed in model.drawn} & {seed for _, seed in drawn}
    assert all(0 <= seed < 2**63 for _, seed in drawn)


def test_the_settings_of_the_draw_are_in_the_signature(tmp_path: Path) -> None:
    """Each makes another probe of it."""
    path = rows(tmp_path, PERU)
    plain = Agreement(path=path).run(drawing("Lima")).signature
    assert plain.hard["scoring"] == "largest share of 10 sampled answers"
    for change in ({"samples": 5}, {"temperature": 0.5}, {"seed": 1}, {"match": "exact"}):
        other = Agreement(path=path, **change).run(drawing("Lima")).signature
        assert len(plain.hard_differences(other)) == 1


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12))
def test_the_largest_cluster_is_the_mode(answers: list[str]) -> None:
    """The largest count, reached first by the answer that came first."""
    text, count = BUILT_IN.largest(FreeQuestion("Q?", ("a",)), answers)
    counts = {one: answers.count(one) for one in answers}
    assert count == max(counts.values())
    assert text == next(one for one in answers if counts[one] == count)


@pytest.mark.parametrize("m", [2, 3, 5, 10, 15, 20, 30])
def test_each_share_is_in_one_bin(tmp_path: Path, m: int) -> None:
    """A share of k of m falls into the bin that holds it, a bin's right edge included."""
    items = [{"question": f"Q{k}?", "answer": "a"} for k in range(1, m + 1)]
    counts: dict[str, int] = {}

    def says(prompt: str, seed: int) -> str:
        k = int(prompt.rpartition("Q")[2].partition("?")[0])
        counts[prompt] = counts.get(prompt, 0) + 1
        return "a" if counts[prompt] <= k else f"other {counts[prompt]}"

    predictions = Agreement(path=rows(tmp_path, *items), samples=m).run(Answering(says))
    expected = np.bincount([-(-15 * k // m) - 1 for k in range(1, m + 1)], minlength=15)
    assert bin_table(predictions, bins=15).count.tolist() == expected.tolist()
