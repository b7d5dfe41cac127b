"""Whether two free answers are the same: one rule for right answers and for equal samples.

``normalised`` is close to what SQuAD's evaluation does (Rajpurkar et al. 2016), see
:func:`normalised`; it keeps what tells numbers apart. ``exact`` compares the texts themselves,
``contains`` looks for the right answer in what the model says, and a function decides by itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from string import ascii_uppercase
from typing import Final, TypeAlias

import numpy as np

from pytest_calibration.errors import ProbeError, UsageError
from pytest_calibration.text.visible import quoted

Same: TypeAlias = Callable[[str, str, str], bool]
"""(question, answer, other answer) → whether the two mean the same."""
Match: TypeAlias = str | Same
RULES: Final = ("normalised", "exact", "contains")

# A whole or decimal number, with commas or apostrophes between thousands or without.
_NUMBER: Final = re.compile(
    r"(?<![\w.])(?P<sign>-?)(?P<whole>\d{1,3}(?:[,'’]\d{3})+|\d+)?(?:\.(?P<part>\d+))?(?!\d|[.,]\d)"
)
_ARTICLES: Final = re.compile(r"\b(?:a|an|the)\b")
# `B. Rome`, `(B) Rome`
_LETTERED: Final = re.compile(r"\(?([A-Za-z])[.):]\s*(\S.*)", re.DOTALL)
# What follows a digit and is made a digit itself by NFKC: `2⁵` is not 25, `3½` not 31/2.
_AFTER_DIGIT: Final = re.compile(r"(?<=\d)\D")
_APART: Final = {"<super>": "^", "<sub>": "_", "<fraction>": " "}
# Stand for the point and the sign of a number while punctuation is removed.
_POINT, _SIGN = "\ue000", "\ue001"
_BACK: Final = str.maketrans({_POINT: ".", _SIGN: "-"})
# Symbols that are mark-up, and other ways to write what ASCII has: minus, dashes, and the bar of a
# fraction.
_PLAIN: Final = str.maketrans(
    {"`": "", _POINT: "", _SIGN: "", "\u2044": "/"} | dict.fromkeys("\u2212\u2010\u2012\u2013", "-")
)
_SEPARATORS: Final = str.maketrans("", "", ",'’")
# Scripts that write words without white space between them, or with particles joined to them.
_JOINED: Final = (
    *("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR"),
)


def normalised(text: str) -> str:
    """Return what of an answer counts.

    In this order: compatibility forms (NFKC), dashes and case are made one (``2⁵`` is ``2^5``, and
    ``3½`` is ``3 1/2``); numbers lose their
    commas between thousands and the zeros that end a decimal part (``1,250.50`` is ``1250.5``), and
    keep point and sign; other punctuation is removed where it does not stand between two digits
    (``1/2`` is not ``12``); the articles a, an and the are removed; white space is made one space.
    A step that would leave nothing is left out: ``A`` and ``The`` are answers, too.
    """
    apart = _AFTER_DIGIT.sub(_set_apart, text)
    plain = unicodedata.normalize("NFKC", apart).casefold().translate(_PLAIN)
    marked = _NUMBER.sub(_number, plain)
    letters = "".join(
        c
        for before, c, after in zip(f" {marked}", marked, f"{marked[1:]} ", strict=False)
        if not unicodedata.category(c).startswith("P")
        or (before.isdigit() and (after.isdigit() or after in _POINT + _SIGN))
    )
    kept = letters.translate(_BACK) if letters.strip() else plain
    return " ".join((_ARTICLES.sub(" ", kept).strip() or kept).split())


def _set_apart(match: re.Match[str]) -> str:
    form = unicodedata.decomposition(match[0]).partition(" ")[0]
    mark = _APART.get(form, "") if unicodedata.category(match[0]) in ("No", "Sm") else ""
    return mark + match[0]


def _number(match: re.Match[str]) -> str:
    whole, part = match["whole"], (match["part"] or "").rstrip("0")
    if whole is None and match["part"] is None:
        return match[0]
    out = (whole or "0").translate(_SEPARATORS) + (_POINT + part if part else "")
    return (_SIGN if match["sign"] else "") + out


def occurs(part: str, text: str) -> bool:
    """Whether a text occurs in another as whole words; both are normalised.

    An end of it in a script that joins words, such as Chinese, need not be the end of a word.
    """
    first, last = (unicodedata.name(c, "").startswith(_JOINED) for c in (part[0], part[-1]))
    begin, end = "" if first else r"(?<!\S)", "" if last else r"(?!\S)"
    return re.search(f"{begin}{re.escape(part)}{end}", text) is not None


class Matching:
    """A rule, as a probe uses it.

    Args:
        probe: name of the probe.
        match: ``normalised``, ``exact``, ``contains``, or a function.

    Attributes:
        described: the rule, for the signature.

    Raises:
        UsageError: an unknown rule.
    """

    def __init__(self, probe: str, match: Match) -> None:
        self.probe = probe
        self.rule = match if isinstance(match, str) else ""
        self._same: Same | None = None
        if callable(match):
            self._same = match
            name = getattr(match, "__qualname__", type(match).__qualname__)
            self.described = f"function {getattr(match, '__module__', '')}:{name}"
        elif match in RULES:
            self.described = match
        else:
            raise UsageError(
                f"probe {probe!r}: match must be one of {', '.join(RULES)}, or a function "
                f"(package.module:function), got {match!r}."
            )

    def is_same(self, question: str, answer: str, other: str) -> bool:
        """Whether two answers of a model are the same; ``contains`` compares as ``normalised``."""
        if not (answer and other):
            return answer == other
        if self._same is None:
            return (
                answer == other if self.rule == "exact" else normalised(answer) == normalised(other)
            )
        try:
            found: object = self._same(question, answer, other)
        except Exception as problem:
            raise ProbeError(
                f"probe {self.probe!r}: {self.described} fails for {quoted(answer)} and "
                f"{quoted(other)} ({type(problem).__name__}: {problem})."
            ) from problem
        if not isinstance(found, bool | np.bool_):
            raise ProbeError(
                f"probe {self.probe!r}: {self.described} must return True or False, got "
                f"{quoted(found)} for {quoted(answer)} and {quoted(other)}; compare a score with a "
                "threshold."
            )
        return bool(found)

    def is_right(self, question: str, answer: str, accepted: Iterable[str]) -> bool:
        """Whether an answer is one of the accepted ones; an empty answer never is."""
        return any(self._names(question, answer, one) for one in accepted)

    def choice(self, question: str, answer: str, options: Sequence[str]) -> int | None:
        """Return the one option that an answer names, by its text, its letter, or both.

        None where it names none, or more than one.
        """
        letters = ascii_uppercase[: len(options)]
        if answer in options:
            return options.index(answer)
        plain = normalised(answer) if self.rule != "exact" else answer.strip("(). ")
        if plain.upper() in letters and len(plain) == 1:
            return letters.index(plain.upper())
        lead = _LETTERED.fullmatch(answer)
        if lead and lead[1].upper() in letters:
            index = letters.index(lead[1].upper())
            return index if self._names(question, lead[2].strip(), options[index]) else None
        found = [i for i, text in enumerate(options) if self._names(question, answer, text)]
        return found[0] if len(found) == 1 else None

    def _names(self, question: str, answer: str, accepted: str) -> bool:
        if self.rule == "contains" and answer:
            return occurs(normalised(accepted), normalised(answer))
        return self.is_same(question, answer, accepted)
