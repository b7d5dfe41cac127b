"""Which free answers are the same."""

from __future__ import annotations

import re
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.errors import ProbeError, UsageError
from pytest_calibration.probes.answer_matching import Matching, normalised

Q = "Which?"


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("The Eiffel Tower.", "eiffel tower"),
        ("  New\n York ", "new york"),
        ("“Paris”", "paris"),
        ("*Paris*", "`Paris`"),
        ("U.S.", "US"),
        ("STRASSE", "Straße"),
        ("１００", "100"),
        ("ﬁsh", "fish"),
        ("1,250.50", "1250.5"),
        ("1,000,000", "1000000"),
        ("3.0", "3"),
        (".5", "0.50"),
        ("−5", "-5"),
        ("3.50km", "3.5km"),
        ("50 %", "50%"),
        ("an apple a day", "apple day"),
        ("1990–2000", "1990-2000"),
        ("½", "1/2"),
        ("1'000", "1000"),
        ("東京。", "東京"),
        ("2⁵", "2^5"),
        ("10⁻³", "10^-3"),
        ("3½", "3 1/2"),
        ("CO₂", "co2"),
    ],
)
def test_these_are_the_same(text: str, same: str) -> None:
    """Case, articles, punctuation, white space and the way a number is written do not count."""
    assert normalised(text) == normalised(same)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("-5", "5"),
        ("3.14", "314"),
        ("1.5", "15"),
        ("x+1", "x-1"),
        ("C++", "C"),
        ("$5", "5"),
        ("10", "1"),
        ("007", "7"),
        ("A", "The"),
        ("!", "?"),
        ("another", "other"),
        ("1/2", "12"),
        ("2-3", "23"),
        ("2/-3", "2-3"),
        ("10:30", "1030"),
        ("3,14", "314"),
        ("1.2.3", "123"),
        ("9/11", "911"),
        # Digits that NFKC makes of other forms.
        ("2⁵", "25"),
        ("10⁻³", "10-3"),
        ("3½", "31/2"),
        ("10₂", "102"),
    ],
)
def test_these_are_not_the_same(text: str, other: str) -> None:
    """Signs, points and symbols tell answers apart, and no answer becomes nothing."""
    assert normalised(text) != normalised(other)


def squad(text: str) -> str:
    """The normalisation of SQuAD's evaluation script, from its description."""
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


@given(st.text(alphabet=string.ascii_letters + " .,;:!?'\"()", max_size=40))
def test_text_without_numbers_and_symbols_is_normalised_as_in_squad(text: str) -> None:
    """Where SQuAD's rule leaves anything, the two agree."""
    if squad(text):
        assert normalised(text) == squad(text)


@given(st.text(max_size=30))
def test_an_answer_never_becomes_nothing_and_is_normalised_once(text: str) -> None:
    """Only white space is nothing; what is normalised stays as it is."""
    once = normalised(text)
    assert bool(once) or not text.strip(" `\ue000\ue001").strip()
    assert normalised(once) == once


@pytest.mark.parametrize(
    ("match", "answer", "right"),
    [
        ("normalised", "the Paris!", True),
        ("normalised", "It is Paris", False),
        ("exact", "Paris", True),
        ("exact", "paris", False),
        ("contains", "It is Paris.", True),
        ("contains", "Parisian", False),
        ("contains", "", False),
        ("normalised", "", False),
        ("exact", "", False),
    ],
)
def test_rules(match: str, answer: str, right: bool) -> None:
    """Each rule against two accepted answers; an empty answer is never right."""
    assert Matching("p", match).is_right(Q, answer, ["Paris", "Lutetia"]) is right


@pytest.mark.parametrize(
    ("answer", "accepted", "right"),
    [
        ("日本の首都は東京です。", "東京", True),
        ("수도는 서울입니다", "서울", True),
        ("เมืองหลวงคือกรุงเทพ", "กรุงเทพ", True),
        ("日本の首都は京都です。", "東京", False),
        ("東京の人口は14000000", "4000000", False),
        ("столица Римини", "Рим", False),
        ("It is 15.5", "5", False),
    ],
)
def test_contains_finds_words_in_scripts_that_join_them(
    answer: str, accepted: str, right: bool
) -> None:
    """Where words are written without spaces between them, and as whole words elsewhere."""
    assert Matching("p", "contains").is_right(Q, answer, [accepted]) is right


@pytest.mark.parametrize("value", [0.3, 1, None, "yes"])
def test_a_function_that_gives_a_score_is_refused(value: Any) -> None:
    """A score is true for almost every pair, which would make every answer right."""
    words = rf"must return True or False, got {value!r} for 'x' and 'y'; compare a score with"
    with pytest.raises(ProbeError, match=words):
        Matching("p", lambda *_: value).is_same(Q, "x", "y")


def test_contains_compares_samples_as_wholes() -> None:
    """Whether one answer lies in another says nothing of whether they are the same."""
    matching = Matching("p", "contains")
    assert not matching.is_same(Q, "Paris", "Paris, Texas")
    assert matching.is_same(Q, "Paris", "paris.")


OPTIONS = ["The Hague", "Rome", "Bern"]


@pytest.mark.parametrize(
    ("answer", "index"),
    [
        ("A", 0),
        ("a", 0),
        ("(B)", 1),
        ("b.", 1),
        ("C) Bern", 2),
        ("A. The Hague", 0),
        ("hague", 0),
        ("Bern.", 2),
        ("D", None),
        ("A. Rome", None),
        ("a: the Hague.", 0),
        ("Rome is it", None),
        ("Rome or Bern", None),
        ("", None),
    ],
)
def test_an_answer_names_an_option(answer: str, index: int | None) -> None:
    """By its text, its letter, or both, however they are written."""
    assert Matching("p", "normalised").choice(Q, answer, OPTIONS) == index


def test_options_that_are_alike_when_normalised_are_told_apart_exactly() -> None:
    """An answer that could be both names neither."""
    matching = Matching("p", "normalised")
    options = ["The cat", "A cat"]
    assert matching.choice(Q, "A cat", options) == 1
    assert matching.choice(Q, "cat", options) is None


def test_contains_needs_one_option_and_no_other() -> None:
    """A sentence that names two options has not chosen."""
    matching = Matching("p", "contains")
    assert matching.choice(Q, "That would be Rome.", OPTIONS) == 1
    assert matching.choice(Q, "Rome, not Bern.", OPTIONS) is None


def equal_numbers(question: str, answer: str, other: str) -> bool:
    """Whether two fractions are equal."""
    from fractions import Fraction

    return Fraction(answer) == Fraction(other)


def test_a_function_decides() -> None:
    """The signature names it; what it raises is told with the answers."""
    matching = Matching("p", equal_numbers)
    assert matching.is_right(Q, "1/2", ["0.5"])
    assert matching.is_same(Q, "2/4", "1/2")
    assert not matching.is_right(Q, "", ["0.5"])
    assert matching.described == "function test_answer_matching:equal_numbers"
    message = r"^probe 'p': function test_.*:equal_numbers fails for 'x' and '0.5' \(ValueError"
    with pytest.raises(ProbeError, match=message):
        matching.is_right(Q, "x", ["0.5"])


@pytest.mark.parametrize("match", ["fuzzy", 3, "my_rules:equal"])
def test_an_unknown_rule_is_told(match: Any) -> None:
    """With what there is."""
    message = r"^probe 'p': match must be one of normalised, exact, contains, or a function \(pack"
    with pytest.raises(UsageError, match=message):
        Matching("p", match)
