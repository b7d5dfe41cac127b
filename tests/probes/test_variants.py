"""What could be otherwise in how a probe asks its items: orders, examples, draws."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering import Answering
from fakes import FakeModel

from pytest_calibration import (
    Agreement,
    Classification,
    Facts,
    MultipleChoice,
    NextToken,
    PTrue,
    SequenceLogprob,
    Verbalized,
)
from pytest_calibration.predictions.item_text import ItemText
from pytest_calibration.probes.probe import ItemProbe, other_order

K = 4
SEEDS = range(12)


def rows(path: Path, n: int = 12, **more: Any) -> Path:
    """Write questions with four options each; of two the options stand in two orders."""
    made = [
        {
            "question": f"Question {i}?",
            "options": [f"{letter}{i}" for letter in "abcd"],
            "answer": i % K,
            "slice": f"s{i % 2}",
            **more,
        }
        for i in range(n)
    ]
    made.append({**made[0], "options": made[0]["options"][::-1], "answer": K - 1})
    path.write_text("\n".join(map(json.dumps, made)), encoding="utf-8")
    return path


def texts(path: Path, *made: dict[str, Any]) -> Path:
    """Write rows."""
    path.write_text("\n".join(map(json.dumps, made)), encoding="utf-8")
    return path


def varied(probe: ItemProbe[Any], name: str) -> Callable[[int], Any]:
    """Return what varies a probe so."""
    found = probe.variants()[name]
    assert callable(found), found
    return found


@pytest.mark.parametrize("k", range(2, 6))
def test_another_order_is_another_one(k: int) -> None:
    """It has every number once, is not that of the numbers, and depends on the key alone."""
    orders = [other_order(k, "order", seed) for seed in range(50)]
    assert all(sorted(order) == list(range(k)) != order for order in orders)
    assert orders == [other_order(k, "order", seed) for seed in range(50)]
    assert other_order(1, "order") == [0]
    assert len({tuple(order) for order in orders}) > (k > 2)


@pytest.mark.parametrize("kind", [MultipleChoice, Agreement])
def test_options_in_another_order_are_the_same_item(kind: Any, tmp_path: Path) -> None:
    """Each question keeps its id, its options and its right answer, and every order is new."""
    probe = kind("quiz", path=rows(tmp_path / "rows.jsonl"))
    for seed in SEEDS:
        other = varied(probe, "options")(seed)
        assert other.name == probe.name
        np.testing.assert_array_equal(other.ids(), probe.ids())
        for before, now in zip(probe.items, other.items, strict=True):
            assert now.question == before.question
            assert now.options != before.options
            assert sorted(now.options) == sorted(before.options)
            if kind is MultipleChoice:
                assert now.options[now.answer] == before.options[before.answer]
            else:
                assert now.answers == before.answers
    first, second = (varied(probe, "options")(seed).items for seed in (0, 1))
    assert first != second


def test_a_limit_takes_the_same_items_in_any_order(tmp_path: Path) -> None:
    """Those of the smallest ids, which do not depend on the order that is shown."""
    probe = MultipleChoice(path=rows(tmp_path / "rows.jsonl"))
    other = varied(probe, "options")(1)
    one, two = (each.run(FakeModel(), limit=5).item_ids for each in (probe, other))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("kind", [MultipleChoice, Agreement, PTrue, SequenceLogprob])
@pytest.mark.parametrize("own", [True, False])
def test_no_examples_hold_the_question_itself(kind: Any, own: bool, tmp_path: Path) -> None:
    """In whichever order its options stand, with any seed; as many are shown as without one."""
    path = rows(tmp_path / "rows.jsonl")
    given = {} if own else {"shots_path": rows(tmp_path / "more.jsonl", 9)}
    probe = kind("quiz", path=path, shots=3, **given)
    shown = probe._shown if kind is MultipleChoice else probe.shown_examples
    sets = {tuple(e.question for e in shown(item)) for item in probe.items}
    for seed in SEEDS:
        others = [varied(probe, name)(seed) for name in ("shots", "options")]
        for other in others:
            shown = other._shown if kind is MultipleChoice else other.shown_examples
            for item in other.items:
                asked = [e.question for e in shown(item)]
                assert len(set(asked)) == 3
                assert item.question not in asked
                if other is others[0]:
                    sets.add(tuple(asked))
    # Other examples than those that are shown without a seed, and others for each seed.
    assert len(sets) > len(SEEDS)


def test_examples_of_a_slice_stay_in_it(tmp_path: Path) -> None:
    """Where a question is shown examples of its own slice, so it is with other ones."""
    probe = MultipleChoice(path=rows(tmp_path / "rows.jsonl"), shots=2, shots_by_slice=True)
    other = varied(probe, "shots")(3)
    assert {e.slice for item in other.items for e in other._shown(item) if item.slice == "s1"} == {
        "s1"
    }


@pytest.mark.parametrize("kind", [MultipleChoice, Agreement])
def test_a_pool_that_is_shown_as_a_whole_has_no_others(kind: Any, tmp_path: Path) -> None:
    """As many examples as there are leave none to choose from; one more does."""
    path = rows(tmp_path / "rows.jsonl")
    few = rows(tmp_path / "few.jsonl", 3)
    probe = kind("quiz", path=path, shots=3, shots_path=few)
    assert probe.variants()["shots"] == "all of the 3 examples there are, are shown"
    assert callable(kind("quiz", path=path, shots=2, shots_path=few).variants()["shots"])
    # Of its own 12 different questions 11 can be shown.
    assert isinstance(kind("quiz", path=path, shots=11).variants()["shots"], str)
    assert callable(kind("quiz", path=path, shots=10).variants()["shots"])


def test_draws_are_those_of_other_seeds(tmp_path: Path) -> None:
    """Only probes that draw have them; the same number draws the same again."""
    path = rows(tmp_path / "rows.jsonl")
    for probe in (Agreement(path=path), PTrue(path=path, samples=2)):
        seeds = [varied(probe, "draws")(seed).seed for seed in (0, 1, 0)]
        assert seeds[0] == seeds[2]
        assert len({probe.seed, *seeds}) == 3


@pytest.mark.parametrize(
    ("make", "name", "why"),
    [
        (lambda _: Facts(), "options", "the model is shown no options"),
        (lambda _: NextToken(), "shots", "the model is shown no solved examples"),
        (lambda _: NextToken(), "draws", "no answer is drawn"),
        (
            lambda f: Classification(
                "reviews", path=texts(f, {"text": "a", "label": 0}, {"text": "b", "label": 1})
            ),
            "options",
            "the model is shown no options",
        ),
        (
            lambda f: MultipleChoice(path=rows(f), scoring="text"),
            "options",
            "each option is scored by itself, and the prompt does not show the others",
        ),
        (lambda f: MultipleChoice(path=rows(f)), "shots", "the model is shown no solved examples"),
        (lambda f: MultipleChoice(path=rows(f)), "draws", "no answer is drawn"),
        (lambda f: PTrue(path=rows(f)), "draws", "no answer is drawn"),
        (lambda f: Verbalized(path=rows(f)), "shots", "the model is shown no solved examples"),
        (
            lambda f: Agreement(path=texts(f, {"question": "Capital of Peru?", "answer": "Lima"})),
            "options",
            "its questions have no options",
        ),
    ],
)
def test_what_does_not_apply_says_why(
    make: Callable[[Path], Any], name: str, why: str, tmp_path: Path
) -> None:
    """A reason stands where there is nothing to vary."""
    assert make(tmp_path / "made.jsonl").variants()[name] == why


def test_options_that_a_text_scored_prompt_shows_have_an_order(tmp_path: Path) -> None:
    """Where the template shows them, their order may matter, whatever is scored."""
    path = rows(tmp_path / "rows.jsonl")
    probe = MultipleChoice(path=path, scoring="text", template="{question}\n{options}\nAnswer:")
    assert callable(probe.variants()["options"])


def test_an_answer_has_one_name_in_any_order(tmp_path: Path) -> None:
    """A letter stands for the option that it was shown with; free text is normalised."""
    probe = Agreement(path=rows(tmp_path / "rows.jsonl"))
    options = ("Rome", "Oslo")
    asked = [
        ItemText("Where?\nA. Rome\nB. Oslo", "Oslo", answer, options)
        for answer in ("B", "oslo", "(B) Oslo")
    ]
    turned = ItemText("Where?\nA. Oslo\nB. Rome", "Oslo", "A", options[::-1])
    assert {probe.answer_named(text) for text in (*asked, turned)} == {"Oslo"}
    free = [ItemText("Where?", "Oslo", answer) for answer in ("Oslo.", "oslo")]
    assert len({probe.answer_named(text) for text in free}) == 1


def test_a_variant_asks_what_it_says(tmp_path: Path) -> None:
    """The prompts of a variant show the other order, and outcomes are judged by it."""
    probe = Agreement(path=rows(tmp_path / "rows.jsonl", 3), samples=2, header="")

    def first_option(prompt: str, _seed: int = 0) -> str:
        return prompt.partition("A. ")[2].partition("\n")[0]

    model = Answering(first_option)
    plain, other = (each.run(model) for each in (probe, varied(probe, "options")(5)))
    expected = [item.options[0] in item.answers for item in varied(probe, "options")(5).items]
    assert other.correct.tolist() == expected
    assert plain.correct.tolist() == [item.options[0] in item.answers for item in probe.items]
