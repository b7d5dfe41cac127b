"""Multiple-choice questions as the probe asks them, in tokens, and the collator of batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_calibration.errors import UsageError
from pytest_calibration.models.causal.chat import rendered
from pytest_calibration.models.causal.encoding import TextEncoder, check_boundary, excerpt
from pytest_calibration.models.protocols import Message
from pytest_calibration.probes.multiple_choice import MultipleChoice
from pytest_calibration.remedies.losses import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS: Final = ("option_ids", "answer", "item")
"""Columns beside tokens and labels that calibration needs."""
# What tokenizers say where they know of no limit is far beyond it.
NO_LIMIT: Final = 10**9


class _Recorder(TextEncoder):
    """Takes the place of a model that a probe asks, and keeps the tokens of what is asked.

    So prompts are those of the probe to the last token: its examples, chat template and delimiter.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.name = str(getattr(tokenizer, "name_or_path", "")) or "tokenizer"
        self.tokenizer = tokenizer
        self._prepare_encoding()
        self.asked: list[tuple[list[int], list[list[int]]]] = []

    def render_chat(
        self, chats: Sequence[Sequence[Message]], variables: Mapping[str, object]
    ) -> list[str]:
        return [rendered(self.tokenizer, self.name, chat, variables) for chat in chats]

    def option_logprobs(
        self,
        prompts: Sequence[str],
        options: Sequence[Sequence[str]],
        *,
        add_special_tokens: bool = True,
    ) -> list[NDArray[np.float64]]:
        heads, wholes = self._encode_options(prompts, options, add_special_tokens)
        for prompt, texts, head, rows in zip(prompts, options, heads, wholes, strict=True):
            for text, ids in zip(texts, rows, strict=True):
                check_boundary(head, ids, prompt, text)
        self.asked = [
            (head, [ids[len(head) :] for ids in rows])
            for head, rows in zip(heads, wholes, strict=True)
        ]
        return [np.zeros(len(row)) for row in options]


class QuestionSet(torch.utils.data.Dataset):  # type: ignore[misc]
    """The questions of a probe with their answers, to train on.

    A row is ``input_ids`` (question and right answer), ``labels`` (the answer alone; -100 before
    it), ``option_ids`` (the token that tells each option from the others), ``answer`` (index of the
    right one) and ``item`` (its own index).

    Args:
        probe: a probe of kind ``multiple_choice`` over the questions to train on. Those that the
            gate asks must be others.
        tokenizer: the model's.
        limit: the most questions; those that a probe with this limit asks.

    Attributes:
        single: whether the options of each question differ by their last token alone, as
            calibration of the options needs.

    Raises:
        TokenBoundaryError: the tokenizer merges prompts with options, with a space and without.
        UsageError: a probe of another kind, a question that is longer than the tokenizer allows,
            or two options of a question that begin alike.
    """

    def __init__(self, probe: MultipleChoice, tokenizer: Any, *, limit: int | None = None) -> None:
        if not isinstance(probe, MultipleChoice):
            raise UsageError(
                f"QuestionSet takes a probe of kind multiple_choice, got {type(probe).__name__}."
            )
        self.probe = probe
        items, _ = probe.sample(limit)
        recorder = _Recorder(tokenizer)
        probe.option_logprobs(recorder, items)  # type: ignore[arg-type]  # records, and scores 0
        self.single = True
        self._rows: list[dict[str, Any]] = []
        most = getattr(tokenizer, "model_max_length", None) or NO_LIMIT
        for item, (head, options) in zip(items, recorder.asked, strict=True):
            ids = [*head, *options[item.answer]]
            if len(ids) > most:
                raise UsageError(
                    f"probe {probe.name!r}: the question {excerpt(item.question)} takes "
                    f"{len(ids):,} tokens, more than the {most:,} of the tokenizer; leave it out, "
                    "since a cut question has another answer."
                )
            # Where options begin alike, as by a token for the space, they differ by the rest.
            shared = _shared(options)
            if self.single and any(len(option) != shared + 1 for option in options):
                self.single = False
                self._several = f"the options of {excerpt(item.question)} differ by several tokens"
            self._rows.append(
                {
                    "input_ids": ids,
                    "labels": [IGNORED] * len(head) + options[item.answer],
                    "option_ids": [(option[shared:] or option)[0] for option in options],
                    "answer": item.answer,
                    "item": len(self._rows),
                }
            )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._rows[index]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)

    def check_single(self) -> None:
        """Raise UsageError unless options differ by their last token alone."""
        if not self.single:
            raise UsageError(
                f"probe {self.probe.name!r}: {self._several}, and RCFT calibrates options that "
                "differ by one; use scoring: letter, or CFT, which trains on answers of any length."
            )

    def to_datasets(self) -> Dataset:
        """Return the same rows as a ``datasets.Dataset``, which TRL asks for."""
        from datasets import Dataset

        return Dataset.from_list(self._rows)


class QuestionCollator:
    """Makes batches of rows of a :class:`QuestionSet`, padded on the right.

    Args:
        pad_token_id: what shorter rows are filled with; nothing attends to it.
    """

    def __init__(self, pad_token_id: int | None = None) -> None:
        self.pad_token_id = pad_token_id or 0

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the columns as tensors, and the attention mask.

        (b, t) tokens and labels, (b, k) tokens of the options, (b,) answers and items. Options that
        a row does not have are -1.
        """
        batch = {
            name: _padded([row[name] for row in rows], fill)
            for name, fill in (
                ("input_ids", self.pad_token_id),
                ("labels", IGNORED),
                ("option_ids", -1),
            )
        }
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        width = batch["input_ids"].shape[1]
        batch["attention_mask"] = (torch.arange(width) < lengths[:, None]).long()
        for name in ("answer", "item"):
            batch[name] = torch.tensor([row[name] for row in rows])
        return batch


def _shared(options: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all options begin with alike."""
    together = (len({*tokens}) == 1 for tokens in zip(*options, strict=False))
    return sum(takewhile(bool, together))


def _padded(rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])
