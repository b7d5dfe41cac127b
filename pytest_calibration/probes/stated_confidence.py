"""Answers whose confidence is stated in words: how they are asked for, and how they are read.

What cannot be read by the rules here is no answer. They are strict, so that what counts as stated
does not depend on taste.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

Form: TypeAlias = Literal["top_1", "top_k", "tag"]

_NUMBER: Final = re.compile(r"([0-9]+(?:[.,][0-9]+)?|[.,][0-9]+)\s*(%|percent|per cent)?")
_HEDGE: Final = re.compile(r"(?:about|around|approximately|roughly|~|≈)\s*")
# `Guess: Paris`, also where mark-up makes the label or the line bold.
_LABELLED: Final = re.compile(r"\**\s*(\w+)\s*\**\s*[:：]\s*\**\s*(.*?)\s*\**")
# `<Paris>`: the prompt shows what is to be written so.
_PLACEHOLDER: Final = re.compile(r"<\s*([^<>]*?)\s*>")
_THINK, _THOUGHT = "<think>", "</think>"
_ANSWER: Final = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_CONFIDENCE: Final = re.compile(r"<confidence>(.*?)</confidence>", re.DOTALL)

_LINE: Final = "<{what}, in as few words as possible>"
_CHANCE: Final = "<the probability that {it} is right, a number from 0.0 to 1.0 and nothing else>"


class Stated(NamedTuple):
    """An answer with its stated confidence.

    Attributes:
        text: the answer.
        confidence: in [0, 1].
    """

    text: str
    confidence: float


def probability(text: str) -> float | None:
    """Return a stated probability; None for anything else.

    A number in digits, with a decimal point or comma: a fraction from 0 to 1 (``0.95``, ``.95``,
    ``0,95``, ``1``), a percentage (``95%``, ``95 percent``), or a whole number from 2 to 100, which
    is a percentage, too. ``about``, ``around``, ``approximately``, ``roughly``, ``~`` or ``≈`` may
    come before it; a full stop, and mark-up around it, count for nothing. All else is unreadable:
    words, ranges, fractions with a bar, and numbers beyond the bounds.
    """
    plain = unicodedata.normalize("NFKC", text).casefold().strip(" \t\r\n*`_").removesuffix(".")
    hedge = _HEDGE.match(plain)
    found = _NUMBER.fullmatch(plain[hedge.end() :] if hedge else plain)
    if found is None:
        return None
    number, unit = found[1], found[2]
    value = float(number.replace(",", "."))
    if unit or (value > 1 and number.isdecimal()):
        value /= 100
    return value if value <= 1 else None


def labelled(text: str, labels: tuple[str, ...]) -> list[str] | None:
    """Return the values of lines ``label: value`` that follow each other, or None.

    They begin at the first line with the first label; blank lines, and ``<>`` around a value, count
    for nothing.
    """
    lines = [_LABELLED.fullmatch(line.strip()) for line in text.splitlines() if line.strip()]
    names = [line[1].casefold() if line else "" for line in lines]
    if labels[0] not in names:
        return None
    first = names.index(labels[0])
    if tuple(names[first : first + len(labels)]) != labels:
        return None
    found = [line[2] for line in lines[first : first + len(labels)] if line]
    values = [_PLACEHOLDER.sub(r"\1", v) if _PLACEHOLDER.fullmatch(v) else v for v in found]
    return values if all(values) else None


@dataclass(frozen=True)
class Asking:
    """One way to ask for an answer and its probability.

    Attributes:
        form: its name.
        guesses: how many guesses are asked for.
    """

    form: Form
    guesses: int = 1

    @property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """The labels of each guess and its probability; none for tags."""
        if self.form == "tag":
            return ()
        if self.form == "top_1":
            return (("Guess", "Probability"),)
        return tuple((f"G{i}", f"P{i}") for i in range(1, self.guesses + 1))

    @property
    def cue(self) -> str:
        """What a prompt that is no chat ends with: the begin of the answer."""
        return f"{self.labels[0][0]}:" if self.labels else ""

    @property
    def template(self) -> str:
        """The prompt, with ``{question}``."""
        if not self.labels:
            return (
                "Answer the question. Write the answer, in as few words as possible, between "
                "<answer> and </answer>. Then write the probability that it is right, a number "
                "from 0.0 to 1.0 and nothing else, between <confidence> and </confidence>.\n\n"
                "Question: {question}\n"
            )
        if self.form == "top_1":
            begin = "Give your best guess at the answer, and the probability that it is right."
            whats = ["your best guess"]
        else:
            begin = (
                f"Give your {self.guesses} best guesses at the answer, the likeliest first, and "
                "the probability that each is right."
            )
            whats = [f"guess {i}" for i in range(1, self.guesses + 1)]
        lines = "\n".join(
            f"{guess}: {_LINE.format(what=what)}\n{chance}: {_CHANCE.format(it=what)}"
            for what, (guess, chance) in zip(whats, self.labels, strict=True)
        )
        return f"{begin} Write these lines and nothing else:\n\n{lines}\n\nQuestion: {{question}}\n"

    @property
    def stop(self) -> tuple[str, ...]:
        """What ends what a model writes: the closing tag, or the begin of another question."""
        return ("\nQuestion:",) if self.labels else ("</confidence>",)

    @property
    def max_new_tokens(self) -> int:
        """Most tokens: a few per line, or room to think before the tags."""
        return 48 * len(self.labels) if self.labels else 512

    def read(self, text: str, *, finished: bool = True) -> Stated | None:
        """Return the answer that a text states; None where it states none.

        The last line of a text that was cut off is not read: its number may have gone on.
        The lines of all guesses must be there, each probability one that :func:`probability` reads.
        Of several guesses the one with the highest probability is the answer, of equals the first.
        Of tags, it is the first answer and the first confidence after it. What comes before the
        last ``</think>``, or in a thought that does not end, is not read.
        """
        text = text.rpartition(_THOUGHT)[2].partition(_THINK)[0]
        if not self.labels:
            return _tagged(text)
        if not finished:
            text = text.rpartition("\n")[0]
        names = tuple(name.casefold() for pair in self.labels for name in pair)
        values = labelled(text, names)
        if values is None:
            return None
        chances = [probability(value) for value in values[1::2]]
        stated = [
            Stated(guess, chance)
            for guess, chance in zip(values[::2], chances, strict=True)
            if chance is not None
        ]
        whole = len(stated) == len(self.labels)
        return max(stated, key=lambda one: one.confidence) if whole else None


def _tagged(text: str) -> Stated | None:
    answer = _ANSWER.search(text)
    confidence = _CONFIDENCE.search(text, answer.end()) if answer else None
    if answer is None or confidence is None or not answer[1].strip():
        return None
    chance = probability(confidence[1])
    return None if chance is None else Stated(answer[1].strip(), chance)
