"""Preference probe: which of two answers a reward model prefers, against what people chose.

The probability that it prefers the chosen answer is σ(r_chosen − r_rejected), as reward models are
trained to give it (Bradley and Terry 1952; Ouyang et al. 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from pytest_calibration.errors import ModelError, ProbeError, UsageError
from pytest_calibration.items.jsonl import Row, optional_texts, text_of, whole_text
from pytest_calibration.items.sources import DatasetSetting, read_rows, source_of
from pytest_calibration.models.protocols import Message, Text
from pytest_calibration.predictions import Predictions
from pytest_calibration.predictions.item_text import ItemText, ItemTexts
from pytest_calibration.probes.probe import Item, ItemProbe, numbers
from pytest_calibration.probes.prompting import ChatSetting, Prompting
from pytest_calibration.text.visible import quoted

Said: TypeAlias = str | tuple[Message, ...]
"""A text, or turns of a chat."""

KEYS: Final = ("prompt", "chosen", "rejected", "id", "group", "slice")
ROLES: Final = ("system", "user", "assistant")


@dataclass(frozen=True)
class Pair(Item):
    """Two answers to a prompt.

    Attributes:
        prompt: what was asked; empty where the answers are whole conversations.
        chosen: the answer that people preferred.
        rejected: the other.
    """

    prompt: Said
    chosen: Said
    rejected: Said

    @property
    def is_chat(self) -> bool:
        """Whether any of it is in turns."""
        return any(not isinstance(one, str) for one in (self.prompt, self.chosen, self.rejected))


def preference_item(row: Row) -> Pair:
    """Read one row ``{"prompt", "chosen", "rejected"}``."""
    prompt = _said(row, "prompt") if "prompt" in row else ""
    chosen, rejected = _said(row, "chosen"), _said(row, "rejected")
    if chosen == rejected:
        raise ValueError("'chosen' and 'rejected' are the same, which no model can tell apart")
    if prompt:
        chosen, rejected = _after(prompt, chosen), _after(prompt, rejected)
    return Pair(prompt, chosen, rejected, **optional_texts(row, "id", "group", "slice"))


def _said(row: Row, key: str) -> Said:
    value = row.get(key)
    if not isinstance(value, list):
        return text_of(row, key)
    turns: list[Message] = []
    for turn in value:
        known = isinstance(turn, dict) and set(turn) == {"role", "content"}
        if not known or turn["role"] not in ROLES or not isinstance(turn["content"], str):
            raise ValueError(
                f"{key!r} must be text, or turns with a role ({', '.join(ROLES)}) and a content, "
                f"got {quoted(turn)}"
            )
        turns.append({"role": turn["role"], "content": whole_text(turn["content"], key)})
    if not turns:
        raise ValueError(f"{key!r} must not be empty")
    if key != "prompt" and turns[-1]["role"] != "assistant":
        raise ValueError(
            f"{key!r} must end with a turn of the assistant, got the {turns[-1]['role']}'s"
        )
    return tuple(turns)


def _after(prompt: Said, turns: Said) -> Said:
    """Return the turns after a prompt: public data sets repeat it at the begin of each answer."""
    if isinstance(turns, str):
        return turns
    asked = ({"role": "user", "content": prompt},) if isinstance(prompt, str) else prompt
    if len(turns) > len(asked) and turns[: len(asked)] == asked:
        return turns[len(asked) :]
    if asked[-1]["role"] == "user" and turns[0]["role"] != "assistant":
        raise ValueError(
            f"an answer begins with a turn of the {turns[0]['role']}, {quoted(turns[0])}, and "
            "'prompt' is another turn of the user; leave 'prompt' out where answers are whole "
            "conversations"
        )
    return turns


class Preference(ItemProbe[Pair]):
    """Ask a reward model which of two answers is better.

    Args:
        name: name of the probe.
        path: JSONL or CSV file of ``{"prompt", "chosen", "rejected"}`` rows, each of them text or
            turns of a chat; ``prompt`` may be left out where the answers are whole conversations.
        dataset: a public data set in place of a file.
        chat: whether texts are turns of a chat, in the model's own template; a mapping gives
            variables to the template. Rows that are turns always are.
        pair: whether prompt and answer are the two texts of a pair, for a model that was trained
            so; otherwise one follows the other in one text.
        delimiter: what stands between a prompt and its answer in one text; nothing by default.

    Raises:
        ItemError: a bad row.
        ProbeError: rows of text and rows of turns.
        UsageError: no items, or settings that do not go together.
    """

    kind = "preference"
    unit = "pairs"
    asks = "rewards"

    def __init__(
        self,
        name: str = "preference",
        *,
        path: str | Path | None = None,
        dataset: DatasetSetting = None,
        chat: ChatSetting = False,
        pair: bool = False,
        delimiter: str | None = None,
    ) -> None:
        source = source_of(name, path, dataset)
        if source is None:
            raise UsageError(
                f"probe {name!r}: there are no built-in items of kind {self.kind}; name a file of "
                'rows {"prompt", "chosen", "rejected"} (path) or a dataset.'
            )
        super().__init__(name, read_rows(source, preference_item, KEYS), source)
        turns = [item.is_chat for item in self.items]
        if any(turns) and not all(turns):
            raise ProbeError(
                f"probe {name!r}: some rows are turns of a chat and some are text; write all rows "
                "the same way."
            )
        chat = turns[0] if chat is False else chat
        self.prompting = Prompting(name, "" if delimiter is None else delimiter, chat)
        if self.prompting.is_chat and (pair or delimiter is not None):
            raise UsageError(
                f"probe {name!r}: turns of a chat are joined by the model's template; leave out "
                f"{'pair' if pair else 'delimiter'}."
            )
        if pair and (delimiter is not None or not all(item.prompt for item in self.items)):
            raise UsageError(
                f"probe {name!r}: a pair is a prompt and an answer with nothing between them; give "
                "every row a prompt, and leave out delimiter."
            )
        self.pair = pair

    def content(self, item: Pair) -> tuple[object, ...]:
        """Return what identifies a pair."""
        return tuple(_shown(one) for one in (item.prompt, item.chosen, item.rejected))

    def run(self, model: Any, *, limit: int | None = None) -> Predictions:
        """Compare the rewards of both answers of every pair.

        Equal rewards are no preference: a wrong answer with confidence 0.5.

        Raises:
            ModelError: the model is no reward model, or cannot score.
        """
        items, fields = self.sample(limit)
        ask = self.prompting.asking(model, self.asks)
        rewards = numbers(model, self.asks, ask(self._texts(model, items)))
        if rewards.shape != (2 * len(items),) or not np.isfinite(rewards).all():
            raise ModelError(
                f"{model.name}: rewards must give one finite number for each of "
                f"{2 * len(items)} texts, got an array of shape {rewards.shape}."
            )
        margin = rewards[: len(items)] - rewards[len(items) :]
        ties = int((margin == 0).sum())
        hard: dict[str, object] = {"scoring": "sigmoid of the difference of two rewards"}
        if self.prompting.is_chat:
            hard |= self.prompting.signature(model, _conversation(items[0], items[0].chosen))
        else:
            joined = f"joined by {self.prompting.delimiter!r}"
            hard["prompt"] = "first text of a pair" if self.pair else joined
        note = f"{ties:,} of {len(items):,} pairs have equal rewards, which counts as wrong."
        return Predictions(
            confidence=1 / (1 + np.exp(-np.abs(margin))),
            correct=margin > 0,
            label_logprobs=-np.logaddexp(0.0, -margin),
            texts=ItemTexts.from_list(
                [_text(item, float(m)) for item, m in zip(items, margin, strict=True)]
            ),
            signature=self.signature(model, hard),
            notes=(note,) if ties else (),
            **fields,
        )

    def _texts(self, model: Any, items: Sequence[Pair]) -> list[Text]:
        """Return each prompt with its chosen answer, then each with its rejected one."""
        both = [(i, i.chosen) for i in items] + [(i, i.rejected) for i in items]
        if self.prompting.is_chat:
            chats = [_conversation(item, answer) for item, answer in both]
            return list(self.prompting.rendered(model, chats))
        texts = [(str(item.prompt), str(answer)) for item, answer in both]
        if self.pair:
            return list(texts)
        between = self.prompting.delimiter or ""
        return [f"{p}{between}{a}" if p else a for p, a in texts]


def _conversation(item: Pair, answer: Said) -> list[Message]:
    """Return prompt and answer as turns; a text is a turn of the user or of the assistant."""
    out: list[Message] = []
    for role, said in (("user", item.prompt), ("assistant", answer)):
        if isinstance(said, str):
            out += [{"role": role, "content": said}] if said else []
        else:
            out += said
    return out


def _shown(said: Said) -> str:
    if isinstance(said, str):
        return said
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in said)


def _text(item: Pair, margin: float) -> ItemText:
    chosen, rejected = _shown(item.chosen), _shown(item.rejected)
    answer = "" if margin == 0 else chosen if margin > 0 else rejected
    return ItemText(_shown(item.prompt), chosen, answer, name=item.id or "")
