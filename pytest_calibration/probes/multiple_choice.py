"""Multiple-choice probe: a soft-max over the options' log-probabilities.

With ``scoring: letter`` the prompt is that of Hendrycks et al. 2021 (lettered options, ``Answer:``)
and the options are the letters; with ``scoring: text`` the options' own texts are scored,
which suits models too small to know what a letter means. The probability of all options together,
before renormalisation, is kept as the option mass: where it is small, the renormalised confidence
says little.

The prompts are those of lm-evaluation-harness, with the settings of its tasks: solved examples in
the order of their file, a header that names the slice, scores divided by the length of an option.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from string import ascii_uppercase
from typing import Final, Literal, Self, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import ModelError, ProbeError, UsageError
from pytest_calibration.items import builtin
from pytest_calibration.items.dataset import Dataset
from pytest_calibration.items.jsonl import Row, optional_texts, text_of, whole_text
from pytest_calibration.items.sources import DatasetSetting, Source, read_rows, source_of
from pytest_calibration.models.protocols import LanguageModel, Message
from pytest_calibration.predictions import LOG_SLACK, Predictions, digest
from pytest_calibration.predictions.item_text import ItemText, ItemTexts
from pytest_calibration.probes.probe import Item, ItemProbe, Variant, other_order, softmax
from pytest_calibration.probes.prompting import ChatSetting, Prompting
from pytest_calibration.text.visible import quoted

Scoring: TypeAlias = Literal["letter", "text"]
Normalise: TypeAlias = Literal["none", "bytes", "characters"]
ShotsOrder: TypeAlias = Literal["hash", "file"]
SMALL_MASS: Final = 0.01
"""Median option mass of single characters below which a prompt does not lead to its options."""
NATS: Final = 1.0
"""What a further byte of an option may cost; a small model pays about one for English."""
KEYS: Final = ("question", "options", "answer", "id", "group", "slice")
SLICE: Final = "{slice}"
HEADER: Final = "The following are multiple choice questions (with answers).\n\n"
TEMPLATES: Final = {
    "letter": "{question}\n{options}\nAnswer:",
    "text": "Question: {question}\nAnswer:",
}


@dataclass(frozen=True)
class Question(Item):
    """A question with options.

    Attributes:
        question: its text.
        options: k texts, distinct.
        answer: index of the right one.
    """

    question: str
    options: tuple[str, ...]
    answer: int


def question_item(row: Row, *, distinct: bool = True, blank: bool = False) -> Question:
    """Read one row ``{"question", "options", "answer": index}``.

    Args:
        row: the row; in one of a table of text, ``options`` is a JSON list.
        distinct: whether options that are the same are an error. Public data sets have some.
        blank: whether an option may have no text. A letter stands for it all the same.
    """
    text = text_of(row, "question")
    for key in ("options", "answer"):
        if key not in row:
            raise ValueError(f"the key {key!r} is missing")
    options, answer = row["options"], row["answer"]
    if isinstance(options, str):
        options, answer = _of_cells(options, answer)
    texts = isinstance(options, list) and all(isinstance(option, str) for option in options)
    if not texts or not (blank or all(option.strip() for option in options)):
        raise ValueError(f"'options' must be a list of texts, got {quoted(options)}")
    if not 2 <= len(options) <= len(ascii_uppercase):
        raise ValueError(f"'options' must be 2 to {len(ascii_uppercase)} texts, got {len(options)}")
    if distinct and len(set(options)) != len(options):
        raise ValueError(f"'options' must be distinct, got {quoted(options)}")
    if isinstance(answer, bool) or not isinstance(answer, int):
        raise ValueError(f"'answer' must be the index of an option, got {quoted(answer)}")
    if not 0 <= answer < len(options):
        raise ValueError(
            f"'answer' must be an index from 0 to {len(options) - 1}, got {quoted(answer)}"
        )
    for option in options:
        whole_text(option, "options")
    return Question(text, tuple(options), answer, **optional_texts(row, "id", "group", "slice"))


def _of_cells(options: str, answer: object) -> tuple[object, object]:
    """Return options and answer of a table of text; what is no JSON list stays as it is."""
    found = None
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(options)
    if isinstance(answer, str) and answer.strip().isdecimal():
        answer = int(answer)
    return (found, answer) if isinstance(found, list) else (options, answer)


def _shuffled(item: Question) -> Question:
    """Return a question with its options in an order made of their texts.

    In some data sets the right option is always the first, or always the last.
    """
    order = sorted(
        range(len(item.options)), key=lambda i: digest("option", item.question, item.options[i])
    )
    return in_order(item, order)


def in_order(item: Question, order: Sequence[int]) -> Question:
    """Return a question with its options in an order."""
    options = tuple(item.options[i] for i in order)
    return replace(item, options=options, answer=order.index(item.answer))


def _identity(item: Question) -> tuple[str, frozenset[str]]:
    """What makes two rows the same question, in any order of its options."""
    return item.question, frozenset(item.options)


class MultipleChoice(ItemProbe[Question]):
    """Answer questions by choosing an option.

    Args:
        name: name of the probe.
        path: JSONL or CSV file of ``{"question", "options", "answer"}`` rows; built-in questions on
            public facts by default.
        dataset: a public data set in place of a file.
        shots: solved examples before each question.
        shots_path: where they come from, same rows; else the first ``shots`` other questions of the
            probe, so that no question is shown its own answer and none is left out.
        shots_split: the split of the data set that they come from, in place of a path.
        shots_order: ``hash``, a fixed order made of the questions' texts, or ``file``, the order in
            which they stand there.
        shots_by_slice: whether a question is shown examples of its own slice only.
        scoring: ``letter`` or ``text``.
        normalise: what the log-probability of an option is divided by before the soft-max: nothing,
            or its length in ``bytes`` or ``characters``; for ``scoring: text``. The most likely
            option is then that of lm-evaluation-harness's ``acc``, ``acc_bytes`` or ``acc_norm``.
        shuffle: whether options are put into an order made of their texts.
        header: text before everything; ``{slice}`` in it is what the question is about, with spaces
            for underscores.
        template: how a question is shown; ``{question}`` and, for letters, ``{options}``.
        delimiter: what stands between a question and its answer; by default a space, or nothing
            where the tokenizer merges it or after a chat template.
        chat: whether header, examples and question are turns of a chat in the model's own template;
            a mapping gives variables to the template.

    Raises:
        ItemError: a bad row.
        UsageError: an unknown scoring, normalise or order, too many shots, a template without its
            fields, a header with a slice for questions without one, a delimiter or chat of another
            type.
    """

    kind = "multiple_choice"
    unit = "questions"
    asks = "option_logprobs"

    def __init__(
        self,
        name: str = "multiple_choice",
        *,
        path: str | Path | None = None,
        dataset: DatasetSetting = None,
        shots: int = 0,
        shots_path: str | Path | None = None,
        shots_split: str | None = None,
        shots_order: ShotsOrder = "hash",
        shots_by_slice: bool = False,
        scoring: Scoring = "letter",
        normalise: Normalise = "none",
        shuffle: bool = False,
        header: str | None = None,
        template: str | None = None,
        delimiter: str | None = None,
        chat: ChatSetting = False,
    ) -> None:
        self.prompting = Prompting(name, delimiter, chat)
        for key, value, allowed in (
            ("scoring", scoring, get_args(Scoring)),
            ("normalise", normalise, get_args(Normalise)),
            ("shots_order", shots_order, get_args(ShotsOrder)),
        ):
            if value not in allowed:
                raise UsageError(
                    f"probe {name!r}: {key} must be one of {', '.join(allowed)}, got {value!r}."
                )
        if normalise != "none" and scoring == "letter":
            raise UsageError(
                f"probe {name!r}: normalise is for scoring: text; letters are all of one length."
            )
        self.scoring: Scoring = scoring
        self.normalise: Normalise = normalise
        self.header = header if header is not None else (HEADER if scoring == "letter" else "")
        self.template = template if template is not None else TEMPLATES[scoring]
        fields = ("{question}", "{options}") if scoring == "letter" else ("{question}",)
        for field in fields:
            if field not in self.template:
                raise UsageError(f"probe {name!r}: the template {self.template!r} lacks {field}.")
        source = source_of(name, path, dataset)
        self._shuffle = shuffle
        super().__init__(name, self._questions(source), source)
        if SLICE in self.header and not all(item.slice for item in self.items):
            raise UsageError(
                f"probe {name!r}: the header holds {SLICE}, and not every question has a slice."
            )
        self.shots = shots
        self._by_slice = shots_by_slice
        # Read anew where other examples are wanted: there may be many.
        self._example_rows = partial(self._shots_rows, source, shots_path, shots_split)
        self._examples = self._chosen_examples(self._pools()[0], shots_order)
        # The questions of a slice are shown the same examples.
        self._solved = cache(self.solved)

    def _questions(self, source: Source | None) -> list[Question]:
        """Read questions; those of public data may have options that are the same."""
        if source is None:
            items = _builtin_items()
        else:
            public = isinstance(source, Dataset)
            blank = public and self.scoring == "letter"
            make = partial(question_item, distinct=not public, blank=blank)
            items = read_rows(source, make, KEYS)
        return [_shuffled(item) for item in items] if self._shuffle else items

    def _shots_rows(
        self, source: Source | None, path: str | Path | None, split: str | None
    ) -> Sequence[Question]:
        """Return the questions that solved examples are taken from."""
        if split is None:
            return self.items if path is None else self._questions(path)
        if path is not None or not isinstance(source, Dataset):
            raise UsageError(
                f"probe {self.name!r}: shots_split names a split of the probe's dataset; it needs "
                "one, and no shots_path."
            )
        return self._questions(source.of_split(split))

    def _pools(self) -> tuple[dict[str | None, list[Question]], int]:
        """Return the examples of each slice, and how many more there are than are shown.

        All are under None unless they go by slice.

        Raises:
            UsageError: there are fewer than are shown.
        """
        rows = self._example_rows() if self.shots else self.items
        pools: dict[str | None, dict[object, Question]] = {}
        for row in rows:
            pool = pools.setdefault(row.slice if self._by_slice else None, {})
            pool.setdefault(_identity(row), row)
        spare = []
        for slice_ in {item.slice if self._by_slice else None: None for item in self.items}:
            most = len(pools.get(slice_, ())) - (rows is self.items)
            if not 0 <= self.shots <= most:
                raise UsageError(
                    f"probe {self.name!r}: shots must lie between 0 and {max(most, 0)}, the number "
                    f"of examples there are{f' of {slice_!r}' if self._by_slice else ''}, got "
                    f"{self.shots}."
                )
            spare.append(most - self.shots)
        found = {slice_: list(pool.values()) for slice_, pool in pools.items()}
        return (found if self.shots else {}), min(spare, default=0)

    def _chosen_examples(
        self, pools: Mapping[str | None, Sequence[Question]], order: ShotsOrder, *seed: int
    ) -> dict[str | None, list[Question]]:
        """Return the solved examples of each slice, those of another seed in another order.

        One more than is shown: a question among the examples is never shown its own answer.
        """
        out = {}
        for slice_, pool in pools.items():
            found = list(pool)
            if order == "hash":
                found.sort(key=lambda q: digest("shot", *seed, q.question, *q.options))
            out[slice_] = found[: self.shots + 1]
        return out

    def variants(self) -> dict[str, Variant]:
        """See :meth:`~pytest_calibration.probes.probe.ItemProbe.variants`."""
        found = super().variants()
        found["options"] = (
            "each option is scored by itself, and the prompt does not show the others"
        )
        if "{options}" in self.template:
            found["options"] = self._with_options_in_another_order
        if self.shots:
            pools, spare = self._pools()
            found["shots"] = f"all of the {self.shots} examples there are, are shown"
            if spare:
                found["shots"] = lambda seed: self.copied(
                    _examples=self._chosen_examples(pools, "hash", seed)
                )
        return found

    def _with_options_in_another_order(self, seed: int) -> Self:
        """Return a copy that shows the options of each question in another order.

        The examples stay as they are.
        """

        def shown(item: Question) -> Question:
            order = other_order(len(item.options), "order", seed, item.question, *item.options)
            return in_order(item, order)

        return self._with_items([shown(item) for item in self.items])

    def content(self, item: Question) -> tuple[object, ...]:
        """Return what identifies a question; its slice, too, where the prompt depends on it."""
        by_slice = self._by_slice or SLICE in self.header
        return item.question, *item.options, item.answer, *([item.slice] if by_slice else ())

    def show(self, item: Question) -> str:
        """Return a question as the model sees it, up to where its answer begins."""
        lettered = zip(ascii_uppercase, item.options, strict=False)
        fields = {
            "{question}": item.question,
            "{options}": "\n".join(f"{letter}. {option}" for letter, option in lettered),
        }
        # In one pass, so that braces inside a question or an option stay as they are.
        return re.sub(r"\{question\}|\{options\}", lambda m: fields[m[0]], self.template)

    def answer_text(self, item: Question) -> str:
        """Return the right answer as the model sees it."""
        right = item.options[item.answer]
        return ascii_uppercase[item.answer] if self.scoring == "letter" else right

    def prompt(self, item: Question) -> str:
        """Return header, solved examples and question."""
        examples = "".join(map(self._solved, self._shown(item)))
        return f"{self.header_of(item)}{examples}{self.show(item)}"

    def header_of(self, item: Question) -> str:
        """Return the header of a question."""
        return self.header.replace(SLICE, (item.slice or "").replace("_", " "))

    def solved(self, item: Question) -> str:
        """Return a question with its answer, as an example."""
        prompt, (answer,), _ = self.prompting.joined(self.show(item), [self.answer_text(item)])
        return f"{prompt}{answer}\n\n"

    def conversation(self, item: Question) -> list[Message]:
        """Return header, solved examples and question as turns of a chat."""
        header = self.header_of(item).strip()
        out: list[Message] = [{"role": "system", "content": header}] if header else []
        for example in self._shown(item):
            out.append({"role": "user", "content": self.show(example)})
            answer = f"{self.prompting.delimiter or ''}{self.answer_text(example)}"
            out.append({"role": "assistant", "content": answer})
        return [*out, {"role": "user", "content": self.show(item)}]

    def _shown(self, item: Question) -> list[Question]:
        examples = self._examples.get(item.slice if self._by_slice else None, [])
        return [e for e in examples if _identity(e) != _identity(item)][: self.shots]

    def run(self, model: LanguageModel, *, limit: int | None = None) -> Predictions:
        """Score every question.

        Raises:
            TokenBoundaryError: the tokenizer merges prompts with options, with a space and without.
            ModelError: the model cannot score.
        """
        items, fields = self.sample(limit)
        logprobs, variant = self.option_logprobs(model, items)
        self._check(model, items, logprobs)
        probabilities = softmax(self._normalised(items, logprobs))
        labels = np.array([i.answer for i in items], dtype=np.int64)
        answers = probabilities.argmax(axis=1)
        rows = np.arange(len(items))
        gold = np.maximum(probabilities[rows, labels], np.finfo(np.float64).tiny)
        examples = (self.solved(e) for pool in self._examples.values() for e in pool)
        per = "" if self.normalise == "none" else f", log-probability per {self.normalise[:-1]}"
        hard = {
            "scoring": f"softmax over {self.scoring} options{per}",
            "shots": self.shots,
            "prompt": digest(self.header, self.template, *examples, size=4),
            **self.prompting.signature(model, self.conversation(items[0])),
        }
        return Predictions(
            confidence=probabilities[rows, answers],
            correct=answers == labels,
            probabilities=probabilities,
            labels=labels,
            label_logprobs=np.log(gold),
            option_mass=np.array([float(np.exp(row).sum()) for row in logprobs]),
            texts=ItemTexts.from_list(
                [_text(i, int(a)) for i, a in zip(items, answers, strict=True)]
            ),
            signature=self.signature(model, hard, options=variant),
            notes=self._notes(items, logprobs),
            **fields,
        )

    def _normalised(
        self, items: Sequence[Question], logprobs: list[NDArray[np.float64]]
    ) -> list[NDArray[np.float64]]:
        if self.normalise == "none":
            return logprobs
        length = len if self.normalise == "characters" else _bytes
        return [
            row / np.array([length(option) for option in item.options])
            for item, row in zip(items, logprobs, strict=True)
        ]

    def _notes(
        self, items: Sequence[Question], logprobs: list[NDArray[np.float64]]
    ) -> tuple[str, ...]:
        """Say where the prompt does not lead to the options.

        That is where on most questions their log mass is below that of ``SMALL_MASS``, and for
        texts by ``NATS`` more for each further byte of the shortest: longer texts are less likely.
        """
        # Scores that are no numbers become an error elsewhere.
        with np.errstate(invalid="ignore"):
            mass = np.array([np.logaddexp.reduce(row) for row in logprobs])
        least = np.full(len(items), np.log(SMALL_MASS))
        if self.scoring == "text":
            shortest = [min(_bytes(option.strip()) for option in i.options) for i in items]
            least -= NATS * (np.array(shortest) - 1)
        if np.median(mass - least) >= 0:
            return ()
        middle = float(np.exp(np.median(mass)))
        held = f"{middle:.5f}" if middle >= 1e-5 else "less than 0.00001"
        way = "another delimiter, or other variables of the chat template"
        if not self.prompting.is_chat:
            way = "chat: true for a model that was trained on chats, or another delimiter"
        return (
            f"the options hold {held} of the probability (median): the prompt does not lead to "
            f"them, and confidence says little; try {way}.",
        )

    def _check(
        self, model: LanguageModel, items: Sequence[Question], logprobs: list[NDArray[np.float64]]
    ) -> None:
        """Raise unless every option of every question has a log-probability."""
        self.check_scored(len(logprobs), len(items))
        for item, row in zip(items, logprobs, strict=True):
            if len(row) != len(item.options):
                raise ProbeError(
                    f"probe {self.name!r}: {len(row)} of {len(item.options)} options of "
                    f"{item.question[:40]!r} were scored; none may be dropped."
                )
            if np.any(np.asarray(row) > LOG_SLACK):
                raise ModelError(
                    f"{model.name}: log P(option) is {np.max(row):.3g} for {item.question[:40]!r}, "
                    "above 0; a model gives log-probabilities, not logits."
                )

    def option_logprobs(
        self, model: LanguageModel, items: Sequence[Question]
    ) -> tuple[list[NDArray[np.float64]], str]:
        """Return log P of each option of each question, (k,) arrays, and what stands before them.

        Raises:
            TokenBoundaryError: the tokenizer merges prompts with options, with a space and without.
            ModelError: the model cannot score.
        """
        if self.prompting.is_chat:
            prompts = self.prompting.rendered(model, [self.conversation(i) for i in items])
        else:
            prompts = [self.prompt(i) for i in items]
        if self.scoring == "letter":
            options = [list(ascii_uppercase[: len(i.options)]) for i in items]
        else:
            options = [list(i.options) for i in items]
        return self.prompting.option_logprobs(model, prompts, options)


def _text(item: Question, answer: int) -> ItemText:
    return ItemText(
        prompt=item.question,
        gold=item.options[item.answer],
        answer=item.options[answer],
        options=item.options,
        name=item.id or "",
    )


def _bytes(option: str) -> int:
    return len(option.encode("utf-8", "surrogatepass"))


def _builtin_items() -> list[Question]:
    return [
        Question(builtin.question(f), options, gold, group=f.subject, slice=f.relation)
        for f, options, gold in builtin.with_options(builtin.facts())
    ]
