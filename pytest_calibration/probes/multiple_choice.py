"""Multiple-choice probe: a soft-max over the options' log-probabilities.

With ``scoring: letter`` the prompt is that of Hendrycks et al. 2021 (lettered options, ``Answer:``)
and the options are the letters; with ``scoring: text`` the options' own texts are scored,
which suits models too small to know what a letter means. The probability of all options together,
before renormalisation, is kept as the option mass: where it is small, the renormalised confidence
says little.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import ModelError, ProbeError, TokenBoundaryError, UsageError
from pytest_calibration.models.protocols import LanguageModel, Message
from pytest_calibration.predictions import LOG_SLACK, Predictions, digest
from pytest_calibration.predictions.item_text import ItemText, ItemTexts
from pytest_calibration.probes import builtin
from pytest_calibration.probes.jsonl import Row, optional_texts, text_of, whole_text
from pytest_calibration.probes.probe import Item, ItemProbe, softmax
from pytest_calibration.probes.prompting import ChatSetting, Prompting, described
from pytest_calibration.probes.sources import DatasetSetting, read_rows, source_of
from pytest_calibration.text.visible import quoted

Scoring: TypeAlias = Literal["letter", "text"]
SMALL_MASS: Final = 0.01
"""Median option mass of single characters below which a prompt does not lead to its options."""
NATS: Final = 1.0
"""What a further byte of an option may cost; a small model pays about one for English."""
KEYS: Final = ("question", "options", "answer", "id", "group", "slice")
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


def question_item(row: Row) -> Question:
    """Read one row ``{"question", "options", "answer": index}``."""
    text = text_of(row, "question")
    for key in ("options", "answer"):
        if key not in row:
            raise ValueError(f"the key {key!r} is missing")
    options, answer = row["options"], row["answer"]
    if not isinstance(options, list) or not all(isinstance(o, str) and o.strip() for o in options):
        raise ValueError(f"'options' must be a list of texts, got {quoted(options)}")
    if not 2 <= len(options) <= len(ascii_uppercase):
        raise ValueError(f"'options' must be 2 to {len(ascii_uppercase)} texts, got {len(options)}")
    if len(set(options)) != len(options):
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
            probe in a fixed order, so that no question is shown its own answer and none is left
            out.
        scoring: ``letter`` or ``text``.
        header: text before everything.
        template: how a question is shown; ``{question}`` and, for letters, ``{options}``.
        delimiter: what stands between a question and its answer; by default a space, or nothing
            where the tokenizer merges it or after a chat template.
        chat: whether header, examples and question are turns of a chat in the model's own template;
            a mapping gives variables to the template.

    Raises:
        ItemError: a bad row.
        UsageError: an unknown scoring, too many shots, a template without its fields, a delimiter
            or chat of another type.
    """

    kind = "multiple_choice"
    unit = "questions"

    def __init__(
        self,
        name: str = "multiple_choice",
        *,
        path: str | Path | None = None,
        dataset: DatasetSetting = None,
        shots: int = 0,
        shots_path: str | Path | None = None,
        scoring: Scoring = "letter",
        header: str | None = None,
        template: str | None = None,
        delimiter: str | None = None,
        chat: ChatSetting = False,
    ) -> None:
        self.prompting = Prompting(name, delimiter, chat)
        if scoring not in get_args(Scoring):
            known = ", ".join(get_args(Scoring))
            raise UsageError(f"probe {name!r}: scoring must be one of {known}, got {scoring!r}.")
        self.scoring: Scoring = scoring
        self.header = header if header is not None else (HEADER if scoring == "letter" else "")
        self.template = template if template is not None else TEMPLATES[scoring]
        fields = ("{question}", "{options}") if scoring == "letter" else ("{question}",)
        for field in fields:
            if field not in self.template:
                raise UsageError(f"probe {name!r}: the template {self.template!r} lacks {field}.")
        source = source_of(name, path, dataset)
        items = _builtin_items() if source is None else read_rows(source, question_item, KEYS)
        super().__init__(name, items, source)
        rows = self.items if shots_path is None else read_rows(shots_path, question_item, KEYS)
        pool = list({_identity(q): q for q in reversed(rows)}.values())
        most = len(pool) - (shots_path is None)
        if not 0 <= shots <= most:
            raise UsageError(
                f"probe {name!r}: shots must lie between 0 and {most}, the number of examples "
                f"there are, got {shots}."
            )
        self.shots = shots
        # One to spare: a question among the examples is never shown its own answer.
        order = sorted(pool, key=lambda q: digest("shot", q.question, *q.options))
        self._examples = order[: shots + 1] if shots else []

    def content(self, item: Question) -> tuple[object, ...]:
        """Return what identifies a question."""
        return item.question, *item.options, item.answer

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
        examples = "".join(map(self.solved, self._shown(item)))
        return f"{self.header}{examples}{self.show(item)}"

    def solved(self, item: Question) -> str:
        """Return a question with its answer, as an example."""
        prompt, (answer,), _ = self.prompting.joined(self.show(item), [self.answer_text(item)])
        return f"{prompt}{answer}\n\n"

    def conversation(self, item: Question) -> list[Message]:
        """Return header, solved examples and question as turns of a chat."""
        header = self.header.strip()
        out: list[Message] = [{"role": "system", "content": header}] if header else []
        for example in self._shown(item):
            out.append({"role": "user", "content": self.show(example)})
            answer = f"{self.prompting.delimiter or ''}{self.answer_text(example)}"
            out.append({"role": "assistant", "content": answer})
        return [*out, {"role": "user", "content": self.show(item)}]

    def _shown(self, item: Question) -> list[Question]:
        return [e for e in self._examples if _identity(e) != _identity(item)][: self.shots]

    def run(self, model: LanguageModel, *, limit: int | None = None) -> Predictions:
        """Score every question.

        Raises:
            TokenBoundaryError: the tokenizer merges prompts with options, with a space and without.
            ModelError: the model cannot score.
        """
        items, fields = self.sample(limit)
        logprobs, variant = self._score(model, items)
        self._check(model, items, logprobs)
        probabilities = softmax(logprobs)
        labels = np.array([i.answer for i in items], dtype=np.int64)
        answers = probabilities.argmax(axis=1)
        rows = np.arange(len(items))
        gold = np.maximum(probabilities[rows, labels], np.finfo(np.float64).tiny)
        examples = map(self.solved, self._examples)
        hard = {
            "scoring": f"softmax over {self.scoring} options",
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
            least -= NATS * np.array([min(map(_bytes, i.options)) - 1 for i in items])
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

    def _score(
        self, model: LanguageModel, items: Sequence[Question]
    ) -> tuple[list[NDArray[np.float64]], str]:
        """Score the options, and say what stands before them.

        That is the space that most tokenizers want, else none, unless the probe says otherwise.
        """
        if self.prompting.is_chat:
            prompts = self.prompting.rendered(model, [self.conversation(i) for i in items])
        else:
            prompts = [self.prompt(i) for i in items]
        if self.scoring == "letter":
            options = [list(ascii_uppercase[: len(i.options)]) for i in items]
        else:
            options = [list(i.options) for i in items]
        ask = self.prompting.asking(model, "option_logprobs")

        def scored(*, again: bool) -> tuple[list[NDArray[np.float64]], str]:
            joined = [
                self.prompting.joined(p, row, again=again)
                for p, row in zip(prompts, options, strict=True)
            ]
            logprobs = ask([j.prompt for j in joined], [j.continuations for j in joined])
            return logprobs, described([gap for j in joined for gap in j.gaps])

        try:
            return scored(again=False)
        except TokenBoundaryError:
            return scored(again=True)


def _text(item: Question, answer: int) -> ItemText:
    return ItemText(
        prompt=item.question,
        gold=item.options[item.answer],
        answer=item.options[answer],
        options=item.options,
        name=item.id or "",
    )


def _bytes(option: str) -> int:
    return len(option.strip().encode("utf-8", "surrogatepass"))


def _builtin_items() -> list[Question]:
    return [
        Question(builtin.question(f), options, gold, group=f.subject, slice=f.relation)
        for f, options, gold in builtin.with_options(builtin.facts())
    ]
