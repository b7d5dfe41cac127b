"""Questions that a model answers in its own words: what all kinds of such probes share.

A model continues a prompt greedily. Its answer is what it writes before the first of the stop
texts, by default a line end, without the white space around it. The kinds differ in where the
confidence in that answer comes from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import ModelError, UsageError
from pytest_calibration.items import builtin
from pytest_calibration.items.jsonl import Row, optional_texts, text_of, whole_text
from pytest_calibration.items.sources import DatasetSetting, read_rows, source_of
from pytest_calibration.models.protocols import Generation, LanguageModel, Message
from pytest_calibration.models.stops import before_stop
from pytest_calibration.predictions import Predictions, digest
from pytest_calibration.predictions.item_text import ItemText, ItemTexts
from pytest_calibration.probes.answer_matching import Match, Matching, normalised
from pytest_calibration.probes.probe import Item, ItemProbe, Variant, other_order
from pytest_calibration.probes.prompting import ChatSetting, Prompting, takes
from pytest_calibration.text.visible import quoted

KEYS: Final = ("question", "answer", "answers", "options", "id", "group", "slice")
HEADER: Final = "Answer each question in as few words as possible.\n\n"
TEMPLATE: Final = "Question: {question}\nAnswer:"
STOP: Final = ("\n",)
MAX_NEW_TOKENS: Final = 32
MOST_OPTIONS: Final = len(ascii_uppercase)
MOST_TEMPERATURE: Final = 100.0
THINKING: Final = "<think>"
MANY_UNFINISHED: Final = 0.05
"""Share of answers cut off, or empty, from which on reports say so."""


@dataclass(frozen=True)
class FreeQuestion(Item):
    """A question, and what counts as a right answer.

    Attributes:
        question: its text.
        answers: the accepted answers, at least one; of options, the right one.
        options: what it may be answered with; empty for any text.
    """

    question: str
    answers: tuple[str, ...]
    options: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The question with its options, a lettered line each."""
        lettered = zip(ascii_uppercase, self.options, strict=False)
        return "\n".join([self.question, *(f"{letter}. {text}" for letter, text in lettered)])


def free_question(row: Row) -> FreeQuestion:
    """Read one row with ``question``, and ``answer``, ``answers``, or ``options`` and ``answer``.

    With options, ``answer`` is the index of the right one, as for a multiple-choice probe.
    """
    question = text_of(row, "question")
    texts = optional_texts(row, "id", "group", "slice")
    if ("answer" in row) == ("answers" in row):
        both = "both are given" if "answer" in row else "neither is given"
        raise ValueError(f"a row has either 'answer' or 'answers', and {both}")
    if "options" in row:
        options = _texts(row, "options")
        index = row.get("answer")
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(options):
            raise ValueError(
                f"'answer' must be the index of an option, 0 to {len(options) - 1}, got "
                f"{quoted(index)}"
            )
        letters = list(ascii_uppercase[: len(options)])
        if any(o.upper() in letters and letters[i] != o.upper() for i, o in enumerate(options)):
            raise ValueError(
                f"one of the 'options' is the letter of another, got {quoted(options)}"
            )
        return FreeQuestion(question, (options[index],), options, **texts)
    if "answers" in row:
        return FreeQuestion(question, _texts(row, "answers"), (), **texts)
    if isinstance(row["answer"], int | float) and not isinstance(row["answer"], bool):
        number = quoted(row["answer"])
        raise ValueError(
            f"'answer' must be text, in quotes, got {number}; a number is the index of one of the "
            "'options', and there are none"
        )
    return FreeQuestion(question, (text_of(row, "answer").strip(),), (), **texts)


def _texts(row: Row, key: str) -> tuple[str, ...]:
    """Return a list of texts; a repeated answer counts once, options must be distinct."""
    values = row[key]
    if not isinstance(values, list) or not all(isinstance(v, str) and v.strip() for v in values):
        raise ValueError(f"{key!r} must be a list of texts, got {quoted(values)}")
    texts = tuple(dict.fromkeys(whole_text(value, key).strip() for value in values))
    if key == "answers" and not texts:
        raise ValueError("'answers' must name at least one accepted answer, got none")
    if key == "options" and (len(texts) != len(values) or not 2 <= len(texts) <= MOST_OPTIONS):
        raise ValueError(
            f"'options' must be 2 to {MOST_OPTIONS} distinct texts, got {quoted(values)}"
        )
    return texts


def _identity(item: FreeQuestion) -> tuple[str, frozenset[str]]:
    """What makes two rows the same question, in any order of its options."""
    return item.question, frozenset(item.options)


class Answer(NamedTuple):
    """What a model wrote.

    Attributes:
        text: its answer.
        generation: the continuation that holds it.
    """

    text: str
    generation: Generation


class FreeAnswer(ItemProbe[FreeQuestion]):
    """Base of probes whose items are questions with free answers.

    Args:
        name: name of the probe.
        path: JSONL or CSV file of ``{"question", "answer"}`` rows; built-in questions on public
            facts by default.
        dataset: a public data set in place of a file.
        shots: solved examples before each question.
        shots_path: where they come from, same rows; else other questions of the probe, in a fixed
            order.
        header: text before everything.
        template: how a question is shown; ``{question}``.
        delimiter: what stands between a question and its answer; by default a space, or nothing
            after a chat template.
        chat: whether header, examples and question are turns of a chat in the model's own
            template; a mapping gives variables to the template.
        stop: texts before which an answer ends.
        max_new_tokens: most tokens of an answer.
        match: which answers are right: ``normalised``, ``exact``, ``contains``, or a function
            (question, answer, accepted answer) → bool.

    Raises:
        ItemError: a bad row.
        UsageError: a setting that makes no sense.
    """

    unit = "questions"

    def __init__(
        self,
        name: str,
        *,
        path: str | Path | None,
        dataset: DatasetSetting,
        shots: int,
        shots_path: str | Path | None,
        header: str,
        template: str,
        delimiter: str | None,
        chat: ChatSetting,
        stop: str | Sequence[str],
        max_new_tokens: int,
        match: Match,
    ) -> None:
        for key, text in {"header": header, "template": template}.items():
            if not isinstance(text, str):
                raise UsageError(f"probe {name!r}: {key} must be text, got {text!r}.")
        self.prompting = Prompting(name, delimiter, chat)
        self.matching = Matching(name, match)
        self.header = header
        self.template = template
        if "{question}" not in template:
            raise UsageError(f"probe {name!r}: the template {template!r} lacks {{question}}.")
        self.stop = _stops(name, stop)
        self.max_new_tokens = whole_number(name, "max_new_tokens", max_new_tokens, 1)
        source = source_of(name, path, dataset)
        items = _builtin_items() if source is None else read_rows(source, free_question, KEYS)
        super().__init__(name, items, source)
        self._shots_path = shots_path
        pool = self._pool()
        # One of its own questions is never shown its own answer.
        self._most_shots = len(pool) - (shots_path is None)
        self.shots = whole_number(name, "shots", shots, 0, self._most_shots)
        self.examples = self._chosen_examples(pool)

    def _pool(self) -> list[FreeQuestion]:
        """Return the questions that solved examples are taken from, each once."""
        path = self._shots_path
        rows = self.items if path is None else read_rows(path, free_question, KEYS)
        return list({_identity(q): q for q in reversed(rows)}.values())

    def _chosen_examples(self, pool: Sequence[FreeQuestion], *seed: int) -> list[FreeQuestion]:
        """Return the solved examples, those of another seed in another order.

        One to spare: a question among the examples is never shown its own answer.
        """
        order = sorted(pool, key=lambda q: digest("shot", *seed, q.shown))
        return order[: self.shots + 1] if self.shots else []

    def variants(self) -> dict[str, Variant]:
        """See :meth:`~pytest_calibration.probes.probe.ItemProbe.variants`."""
        found = super().variants()
        found["options"] = "its questions have no options"
        if any(item.options for item in self.items):
            found["options"] = self._with_options_in_another_order
        if self.shots == self._most_shots > 0:
            found["shots"] = f"all of the {self.shots} examples there are, are shown"
        elif self.shots:
            found["shots"] = self._with_other_examples
        return found

    def _with_options_in_another_order(self, seed: int) -> Self:
        """Return a copy that shows the options of each question in another order."""

        def shown(item: FreeQuestion) -> FreeQuestion:
            order = other_order(len(item.options), "order", seed, item.question, *item.options)
            return replace(item, options=tuple(item.options[i] for i in order))

        return self._with_items([shown(item) for item in self.items])

    def _with_other_examples(self, seed: int) -> Self:
        return self.copied(examples=self._chosen_examples(self._pool(), seed))

    def answer_named(self, text: ItemText) -> str:
        """Return the option that an answer names, else the answer in its normal form."""
        index = None
        if text.options:
            question = text.prompt.removesuffix(FreeQuestion("", (), text.options).shown)
            index = self.matching.choice(question, text.answer, text.options)
        return normalised(text.answer) if index is None else text.options[index]

    def content(self, item: FreeQuestion) -> tuple[object, ...]:
        """Return what identifies a question."""
        return item.question, *item.options, "answers", *item.answers

    def show(self, item: FreeQuestion) -> str:
        """Return a question as the model sees it, up to where its answer begins."""
        return filled(self.template, {"{question}": item.shown})

    def shown_examples(self, item: FreeQuestion) -> list[FreeQuestion]:
        """Return the solved examples before a question."""
        own = _identity(item)
        return [e for e in self.examples if _identity(e) != own][: self.shots]

    def turns(self, item: FreeQuestion) -> list[tuple[str, str]]:
        """Return each solved example as what is asked and what is answered."""
        return [(self.show(e), e.answers[0]) for e in self.shown_examples(item)]

    def prompts(
        self,
        model: LanguageModel,
        turns: Sequence[Sequence[tuple[str, str]]],
        asked: Sequence[str],
        header: str,
    ) -> list[str]:
        """Return the text of each prompt, up to where the model's answer begins.

        Args:
            model: the model.
            turns: (n,) what was asked and answered before.
            asked: (n,) what is asked.
            header: text before everything.
        """
        if self.prompting.is_chat:
            chats = [
                self.conversation(before, last, header)
                for before, last in zip(turns, asked, strict=True)
            ]
            return self.prompting.rendered(model, chats)
        texts = []
        for before, last in zip(turns, asked, strict=True):
            solved = []
            for question, answer in before:
                prompt, (continuation,), _ = self.prompting.joined(question, [answer])
                solved.append(f"{prompt}{continuation}\n\n")
            texts.append(f"{header}{''.join(solved)}{last}")
        return texts

    def conversation(
        self, turns: Sequence[tuple[str, str]], asked: str, header: str
    ) -> list[Message]:
        """Return header, what was asked and answered, and what is asked as turns of a chat."""
        system = header.strip()
        out: list[Message] = [{"role": "system", "content": system}] if system else []
        for question, answer in turns:
            out.append({"role": "user", "content": question})
            said = f"{self.prompting.delimiter or ''}{answer}"
            out.append({"role": "assistant", "content": said})
        return [*out, {"role": "user", "content": asked}]

    def question_prompts(self, model: LanguageModel, items: Sequence[FreeQuestion]) -> list[str]:
        """Return the prompt of each question, solved examples included."""
        turns = [self.turns(item) for item in items]
        return self.prompts(model, turns, [self.show(item) for item in items], self.header)

    def answered(
        self,
        model: LanguageModel,
        prompts: Sequence[str],
        *,
        temperature: float | None = None,
        seeds: Sequence[int] = (),
    ) -> list[Answer]:
        """Let the model continue each prompt, greedily or, at a temperature, by drawn tokens.

        Raises:
            ModelError: it cannot draw, or cannot be asked so.
        """
        closing = self.prompting.end_of_turn(model)
        stop = [*self.stop, *filter(None, [closing])]
        how: dict[str, Any] = {"max_new_tokens": [self.max_new_tokens] * len(prompts)}
        if temperature is None:
            ask = self.prompting.asking(model, "generate")
            # Where a model goes on, what comes after is cut off here.
            if stop and takes(ask, "stop"):
                how["stop"] = stop
        else:
            if not hasattr(model, "sample"):
                raise ModelError(
                    f"{model.name}: the probe {self.name!r} draws answers, and this model has no "
                    "method sample; give it one, or choose a probe that takes the likeliest answer."
                )
            ask = self.prompting.asking(model, "sample")
            how |= {"temperature": temperature, "seeds": list(seeds), "stop": stop}
        ready = [self.prompting.open_end(prompt) for prompt in prompts]
        written: list[Generation] = ask(ready, **how)
        self.check_scored(len(written), len(prompts))
        if closing:
            written = [replace(one, text=one.text.partition(closing)[0]) for one in written]
        return [Answer(self.cut(one.text), one) for one in written]

    def cut(self, text: str) -> str:
        """Return the answer in what a model wrote."""
        before = before_stop(text, self.stop)
        return (text if before is None else before).strip()

    def is_right(self, item: FreeQuestion, answer: str) -> bool:
        """Whether an answer is right; of options, whether it names the right one and no other."""
        if not item.options:
            return self.matching.is_right(item.question, answer, item.answers)
        index = self.matching.choice(item.question, answer, item.options)
        return index is not None and item.options[index] == item.answers[0]

    def hard(self, model: LanguageModel, items: Sequence[FreeQuestion]) -> dict[str, object]:
        """Return what makes runs of such a probe comparable, whatever its kind."""
        examples = (part for e in self.examples for part in (self.show(e), e.answers[0]))
        conversation = self.conversation(self.turns(items[0]), self.show(items[0]), self.header)
        return {
            "prompt": digest(self.header, self.template, *examples, size=4),
            "shots": self.shots,
            "match": self.matching.described,
            "answer": f"to {', '.join(map(repr, self.stop)) or 'the end'}, at most "
            f"{self.max_new_tokens} tokens",
            **self.prompting.signature(model, conversation),
        }

    def made(
        self,
        model: LanguageModel,
        items: Sequence[FreeQuestion],
        fields: dict[str, Any],
        answers: Sequence[str],
        confidence: NDArray[np.float64],
        correct: NDArray[np.bool_],
        hard: dict[str, object],
        soft: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Predictions:
        """Put predictions together; (n,) each."""
        texts = [
            ItemText(i.shown, i.answers[0], answer, i.options, i.id or "")
            for i, answer in zip(items, answers, strict=True)
        ]
        return Predictions(
            confidence=confidence,
            correct=correct,
            texts=ItemTexts.from_list(texts),
            signature=self.signature(model, {**self.hard(model, items), **hard}, **(soft or {})),
            **more,
            **fields,
        )

    def notes(self, answers: Sequence[Answer]) -> tuple[str, ...]:
        """Say where many answers are cut off or empty, or begin with a thought."""
        n = len(answers)
        cut = sum(not a.generation.finished for a in answers)
        empty = sum(not a.text for a in answers)
        out = []
        if cut >= MANY_UNFINISHED * n:
            out.append(
                f"{cut:,} of {n:,} answers were cut off after {self.max_new_tokens} tokens: raise "
                "max_new_tokens, or name in stop what ends an answer."
            )
        if empty >= MANY_UNFINISHED * n:
            out.append(
                f"{empty:,} of {n:,} answers are empty, which counts as wrong: the prompt may not "
                "lead to an answer."
            )
        thinking = sum(a.text.startswith(THINKING) for a in answers)
        if thinking >= MANY_UNFINISHED * n:
            out.append(
                f"{thinking:,} of {n:,} answers begin with {THINKING}, and are read up to the "
                "first stop text only: switch thinking off (chat: {enable_thinking: false}, where "
                "the template knows it)."
            )
        return tuple(out)


def filled(template: str, fields: Mapping[str, str]) -> str:
    """Return a template with its fields; braces inside what is filled in stay as they are."""
    return re.sub("|".join(map(re.escape, fields)), lambda match: fields[match[0]], template)


def whole_number(probe: str, name: str, value: Any, least: int, most: float = math.inf) -> int:
    """Return a setting that must be a whole number within bounds."""
    bounds = f"of at least {least}" if most == math.inf else f"between {least} and {most:,}"
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not least <= value <= most:
        raise UsageError(f"probe {probe!r}: {name} must be a whole number {bounds}, got {value!r}.")
    return int(value)


def temperature_of(probe: str, value: Any) -> float:
    """Return a setting that must be a temperature to draw at."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value <= MOST_TEMPERATURE:
        raise UsageError(
            f"probe {probe!r}: temperature must be a number above 0 and at most "
            f"{MOST_TEMPERATURE:g}, got {value!r}."
        )
    return float(value)


def _stops(probe: str, stop: str | Sequence[str]) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, Sequence) else ()
    if not isinstance(stop, Sequence) or not all(isinstance(one, str) and one for one in stops):
        raise UsageError(f"probe {probe!r}: stop must be texts that are not empty, got {stop!r}.")
    return stops


def _builtin_items() -> list[FreeQuestion]:
    return [
        FreeQuestion(builtin.question(f), (f.answer,), group=f.subject, slice=f.relation)
        for f in builtin.facts()
    ]
