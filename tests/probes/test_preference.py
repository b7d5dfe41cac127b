"""The preference probe: rewards of two answers, against what people chose."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import unit
from numpy.typing import NDArray

from pytest_calibration.errors import ItemError, ModelError, ProbeError, UsageError
from pytest_calibration.probes.preference import Preference
from pytest_calibration.probes.probe_set import from_settings

ROWS = [
    {"prompt": f"Question {i}? ", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(6)
]


class FakeRewards:
    """Likes some texts more than others."""

    name, fingerprint = "fake", "1"

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def rewards(self, texts: Sequence[Any]) -> NDArray[np.float64]:
        """A number between -3 and 3."""
        self.asked += texts
        return np.array([6 * unit(text) - 3 for text in texts])


class FakeChat(FakeRewards):
    """The same in a template."""

    def render_chat(
        self, chats: Sequence[Sequence[Mapping[str, str]]], variables: Mapping[str, object]
    ) -> list[str]:
        """Each turn in brackets."""
        assert not variables
        return ["".join(f"[{t['role'][0]}:{t['content']}]" for t in chat) for chat in chats]

    def rewards(
        self, texts: Sequence[Any], *, add_special_tokens: bool = True
    ) -> NDArray[np.float64]:
        """Of whole texts."""
        assert not add_special_tokens
        return super().rewards(texts)


def probe(folder: Path, content: Sequence[dict[str, Any]] = ROWS, **settings: Any) -> Preference:
    """A probe of these rows."""
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, content)), encoding="utf-8")
    return Preference("mine", path=path, **settings)


def turn(role: str, content: str) -> dict[str, str]:
    """One turn of a chat."""
    return {"role": role, "content": content}


def test_confidence_is_the_sigmoid_of_the_difference(tmp_path: Path) -> None:
    """Of the answer that the model prefers; right is what people chose."""
    model = FakeRewards()
    found = probe(tmp_path).run(model)
    r = {text: 6 * unit(text) - 3 for text in model.asked}
    good = np.array([r[f"Question {i}? good {i}"] for i in range(6)])
    bad = np.array([r[f"Question {i}? bad {i}"] for i in range(6)])
    p = 1 / (1 + np.exp(bad - good))
    np.testing.assert_allclose(found.confidence, np.maximum(p, 1 - p))
    np.testing.assert_array_equal(found.correct, good > bad)
    np.testing.assert_allclose(found.label_logprobs, np.log(p))
    assert 0 < found.correct.sum() < 6
    assert found.notes == ()
    assert found.texts[0].answer == ("good 0" if good[0] > bad[0] else "bad 0")


def test_large_differences_stay_numbers(tmp_path: Path) -> None:
    """Rewards of hundreds overflow nothing."""
    model = FakeRewards()
    model.rewards = lambda _: np.array([900.0, -900.0, -900.0, 900.0])  # type: ignore[method-assign]
    found = probe(tmp_path, ROWS[:2]).run(model)
    assert found.confidence.tolist() == [1.0, 1.0]
    assert found.label_logprobs.tolist() == [0.0, -1800.0]


def test_a_tie_is_wrong_and_told(tmp_path: Path) -> None:
    """Equal rewards are no preference."""
    model = FakeRewards()
    model.rewards = lambda _: np.array([1.0, 2.0, 1.0, 0.0])  # type: ignore[method-assign]
    found = probe(tmp_path, ROWS[:2]).run(model)
    assert found.correct.tolist() == [False, True]
    assert found.confidence[0] == 0.5
    assert found.notes == ("1 of 2 pairs have equal rewards, which counts as wrong.",)


def test_a_prompt_and_an_answer_are_joined_as_told(tmp_path: Path) -> None:
    """One text, with a delimiter or none; or the two texts of a pair; or an answer alone."""
    for settings, content, first in (
        ({}, ROWS, "Question 0? good 0"),
        ({"delimiter": "\n"}, ROWS, "Question 0? \ngood 0"),
        ({"pair": True}, ROWS, ("Question 0? ", "good 0")),
        ({}, [{"chosen": "Human: a\n\nAssistant: b", "rejected": "c"}], "Human: a\n\nAssistant: b"),
    ):
        model = FakeRewards()
        probe(tmp_path, content, **settings).run(model)
        assert model.asked[0] == first


def test_turns_are_rendered_in_the_template(tmp_path: Path) -> None:
    """Rows of turns, of a prompt in turns and a text, of whole conversations, and of texts."""
    user, good, bad = turn("user", "Q?"), turn("assistant", "yes"), turn("assistant", "no")
    for row, settings in (
        ({"prompt": [user], "chosen": [good], "rejected": [bad]}, {}),
        ({"prompt": [user], "chosen": "yes", "rejected": "no"}, {}),
        ({"chosen": [user, good], "rejected": [user, bad]}, {}),
        ({"prompt": "Q?", "chosen": "yes", "rejected": "no"}, {"chat": True}),
    ):
        model = FakeChat()
        found = probe(tmp_path, [row], **settings).run(model)
        assert model.asked == ["[u:Q?][a:yes]", "[u:Q?][a:no]"]
        assert found.signature.hard["chat"].startswith("template ")


@pytest.mark.parametrize("prompt", ["Q?", [turn("user", "Q?")]])
def test_a_prompt_that_the_answers_repeat_is_read_once(tmp_path: Path, prompt: Any) -> None:
    """As whole conversations beside a column with their prompt, which public data sets have."""
    chosen, rejected = ([turn("user", "Q?"), turn("assistant", a)] for a in ("yes", "no"))
    row = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    for content in (row, row | {"rejected": [turn("assistant", "no")]}):
        model = FakeChat()
        probe(tmp_path, [content]).run(model)
        assert model.asked == ["[u:Q?][a:yes]", "[u:Q?][a:no]"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {
                "prompt": "Q?",
                "chosen": [turn("user", "Q!"), turn("assistant", "b")],
                "rejected": [turn("assistant", "c")],
            },
            "an answer begins with a turn of the user, .* leave 'prompt' out where answers are",
        ),
        ({"prompt": "a", "chosen": "b"}, "the key 'rejected' is missing"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "'chosen' and 'rejected' are the same"),
        ({"prompt": "a", "chosen": "b", "rejected": 1}, "'rejected' must be text, got 1"),
        ({"prompt": [], "chosen": "b", "rejected": "c"}, "'prompt' must not be empty"),
        ({"chosen": [{"role": "user"}], "rejected": "c"}, r"turns with a role \(system, user, ass"),
        ({"chosen": [turn("tool", "x")], "rejected": "c"}, "'chosen' must be text, or turns with"),
        ({"chosen": [turn("user", "x")], "rejected": "c"}, "must end with a turn of the assistant"),
    ],
)
def test_a_bad_row_is_named_with_its_line(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    """File, line, key and value."""
    with pytest.raises(ItemError, match=f"pairs.jsonl, line 1: .*{message}"):
        probe(tmp_path, [row])


def test_settings_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    """A template joins turns; a pair has nothing between its texts."""
    user, good, bad = turn("user", "Q?"), turn("assistant", "yes"), turn("assistant", "no")
    turns = {"prompt": [user], "chosen": [good], "rejected": [bad]}
    for content, settings, message in (
        ([turns], {"pair": True}, "joined by the model's template; leave out pair"),
        (ROWS, {"chat": True, "delimiter": " "}, "joined by the model's template; leave out del"),
        (ROWS, {"pair": True, "delimiter": " "}, "a pair is a prompt and an answer with nothing"),
        ([{"chosen": "a", "rejected": "b"}], {"pair": True}, "give every row a prompt"),
    ):
        with pytest.raises(UsageError, match=message):
            probe(tmp_path, content, **settings)
    with pytest.raises(ProbeError, match="some rows are turns of a chat and some are text"):
        probe(tmp_path, [turns, ROWS[0]])
    with pytest.raises(UsageError, match="there are no built-in items of kind preference"):
        Preference()


def test_an_entry_of_calibration_yaml(tmp_path: Path) -> None:
    """Every setting can be written there."""
    probe(tmp_path)
    for more in ({"pair": True}, {"delimiter": "\n"}, {"chat": {"a": 1}}):
        entry = {"kind": "preference", "path": "pairs.jsonl", **more}
        assert from_settings("mine", entry, tmp_path, "here").kind == "preference"


def test_what_are_no_rewards_is_refused(tmp_path: Path) -> None:
    """Of a model of one's own."""
    model = FakeRewards()
    for values in ([1.0], [1.0, float("nan")], [[1.0], [2.0]]):
        model.rewards = lambda _, v=values: np.array(v)  # type: ignore[method-assign,misc]
        with pytest.raises(ModelError, match="rewards must give one finite number for each of 2"):
            probe(tmp_path, ROWS[:1]).run(model)
