"""One item as text."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import HOSTILE

from pytest_calibration.predictions.item_text import ItemText
from pytest_calibration.reports.item_lines import MOST_OPTIONS, PROMPT_CHARACTERS, item_lines
from pytest_calibration.reports.model import Item
from pytest_calibration.text.layout import columns

RIVER = Item(
    id="0123456789abcdef",
    name="row-17",
    group="",
    slice="city",
    confidence=0.98,
    correct=False,
    probabilities=(0.98, 0.012, 0.0002, 0.0078),
    label=1,
    confidence_before=0.41,
    correct_before=True,
    text=ItemText(
        "Which river runs through Almond?", "Ochre", "Teal", ("Teal", "Ochre", "X", "Yew")
    ),
)
FACT = replace(
    RIVER,
    name="",
    slice="",
    probabilities=(),
    label=None,
    confidence_before=None,
    correct_before=None,
    text=ItemText("The capital of Almond is", "Ochre", "Teal"),
)


def test_a_question_with_options() -> None:
    """Name, slice, both confidences; the question; each option, the answer and the correct one."""
    assert list(item_lines(RIVER)) == [
        "row-17 (slice: city): confidence 0.980, wrong; before: 0.410, correct",
        "  Which river runs through Almond?",
        "    A. 0.980  Teal   <- answered",
        "    B. 0.012  Ochre  <- correct",
        "    C. <.001  X",
        "    D. 0.008  Yew",
    ]


def test_a_statement_without_options() -> None:
    """The answer and the right one stand below it; an item without a name goes by its hash."""
    assert list(item_lines(FACT)) == [
        "#0123456789abcdef: confidence 0.980, wrong",
        "  The capital of Almond is",
        '  answered "Teal", correct "Ochre"',
    ]


@pytest.mark.parametrize(
    ("answer", "gold", "shown"),
    [
        ("Ochre", "Ochre", '  answered "Ochre", correct'),
        ("Och", "Ochre", '  answered "Och", correct "Ochre"'),
        ("", "Ochre", '  correct "Ochre"'),
        ("Teal", "", '  answered "Teal"'),
        (" the", "\n", '  answered " the", correct "\\n"'),
    ],
)
def test_what_is_known_of_the_answer_is_said(answer: str, gold: str, shown: str) -> None:
    """No empty quotes stand for what is not known."""
    assert list(item_lines(replace(FACT, text=ItemText("?", gold, answer))))[2:] == [shown]


def test_a_right_answer_bears_both_marks() -> None:
    """Answered and right in one line."""
    *_, a, b, c, d = item_lines(replace(RIVER, label=0, correct=True))
    assert a == "    A. 0.980  Teal   <- answered, correct"
    assert not any("<-" in line for line in (b, c, d))


def test_without_words_nothing_is_said_but_the_numbers() -> None:
    """Where text may not be shown, neither the options' letters nor which is right are shown."""
    assert list(item_lines(replace(RIVER, text=None))) == [
        "row-17 (slice: city): confidence 0.980, wrong; before: 0.410, correct"
    ]


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.0, "0.000"), (1e-9, "<.001"), (0.0004999, "<.001"), (0.0005, "0.001"),
        (0.9994, "0.999"), (0.9995, ">.999"), (1 - 1e-12, ">.999"), (1.0, "1.000"),
    ],
)  # fmt: skip
def test_only_0_and_1_are_written_as_such(share: float, shown: str) -> None:
    """Rounding makes no answer certain."""
    first = next(item_lines(replace(FACT, confidence=share)))
    assert first == f"#0123456789abcdef: confidence {shown}, wrong"


@given(
    k=st.integers(1, 40),
    gold=st.integers(0, 39),
    weights=st.lists(st.floats(0.001, 1), min_size=40, max_size=40),
)
def test_the_answer_and_the_right_option_are_never_cut(
    k: int, gold: int, weights: list[float]
) -> None:
    """At most six options in their own order, the likeliest ones, and the number of the others."""
    gold %= k
    total = sum(weights[:k])
    shares = tuple(w / total for w in weights[:k])
    answer = shares.index(max(shares))
    names = tuple(f"option{i}" for i in range(k))
    item = replace(
        RIVER,
        probabilities=shares,
        label=gold,
        text=ItemText("?", names[gold], names[answer], names),
    )
    lines = list(item_lines(item))[2:]
    rest = lines.pop() if k > MOST_OPTIONS else ""
    shown = [int(re.findall(r"option(\d+)", line)[0]) for line in lines]
    assert shown == sorted(shown)
    assert len(shown) == min(k, MOST_OPTIONS)
    marked = {i: line.partition("  <- ")[2] for i, line in zip(shown, lines, strict=True)}
    if gold == answer:
        assert marked.pop(answer) == "answered, correct"
    else:
        assert marked.pop(answer) == "answered"
        assert marked.pop(gold) == "correct"
    assert not any(marked.values())
    hidden = [shares[i] for i in range(k) if i not in shown]
    others = [shares[i] for i in shown if i not in (answer, gold)]
    assert min(others, default=1) >= max(hidden, default=0)
    for i, line in zip(shown, lines, strict=True):
        assert line.strip().startswith(f"{chr(65 + i) if k <= 26 else i + 1}. ")
    if rest:
        shown = re.fullmatch(r"    \((\d+) more options?, together ([0-9.<>]+)\)", rest)
        assert shown is not None
        assert int(shown[1]) == len(hidden)
        if shown[2][0].isdigit():
            assert float(shown[2]) == pytest.approx(sum(hidden), abs=0.00051)


def test_one_option_more_is_singular() -> None:
    """Six of seven."""
    words = ItemText("?", "a", "a", tuple("abcdefg"))
    item = replace(RIVER, probabilities=(0.4, *[0.1] * 6), label=0, text=words)
    assert list(item_lines(item))[-1] == "    (1 more option, together 0.100)"


def test_a_question_with_fewer_options_than_the_widest_of_its_probe() -> None:
    """Rows of probabilities are filled up with zeros, which stand for no option."""
    item = replace(RIVER, probabilities=(0.7, 0.3, 0, 0), text=ItemText("?", "b", "a", ("a", "b")))
    assert list(item_lines(item))[2:] == [
        "    A. 0.700  a  <- answered",
        "    B. 0.300  b  <- correct",
    ]


def test_options_without_probabilities() -> None:
    """The answer and the correct one are found by their text; else they stand below."""
    item = replace(RIVER, probabilities=(), label=None)
    assert list(item_lines(item))[2:] == [
        "    A. Teal   <- answered",
        "    B. Ochre  <- correct",
        "    C. X",
        "    D. Yew",
    ]
    words = ItemText("?", "Ochre", "Mauve", ("Teal", "Ochre"))
    assert list(item_lines(replace(item, text=words)))[2:] == [
        "    A. Teal",
        "    B. Ochre  <- correct",
        '  answered "Mauve", correct "Ochre"',
    ]
    many = ItemText("?", "h", "g", tuple("abcdefgh"))
    assert list(item_lines(replace(item, text=many)))[2:] == [
        "    A. a",
        "    B. b",
        "    C. c",
        "    D. d",
        "    G. g  <- answered",
        "    H. h  <- correct",
        "    (2 more options)",
    ]


def test_a_label_beyond_the_options_is_told_by_its_text() -> None:
    """A row whose texts do not fit its numbers is shown as far as it goes."""
    lines = list(item_lines(replace(RIVER, label=3, text=ItemText("?", "Ochre", "a", ("a", "b")))))
    assert lines[-1] == '  answered "a", correct "Ochre"'


def test_long_text_keeps_what_matters() -> None:
    """A question keeps both ends, a statement its end, where the answer begins."""
    filler = "very " * 400
    question = " ".join(
        line.strip()
        for line in item_lines(replace(RIVER, text=replace(RIVER.text, prompt=f"Is {filler}so?")))
    )
    assert "Is very" in question
    assert " ... " in question
    assert "very so?" in question
    lines = list(item_lines(replace(FACT, text=ItemText(f"Start {filler}end is", "b", "a"))))
    assert lines[1].startswith("  ... ")
    assert lines[-2].endswith("end is")
    assert "Start" not in " ".join(lines)
    assert PROMPT_CHARACTERS <= sum(map(len, lines[1:-1])) <= PROMPT_CHARACTERS + 40


def test_a_long_option_is_cut_at_its_end() -> None:
    """The options stay one line each, whatever their length, and say that they were cut."""
    marked = f"e{chr(0x301) * 9}"
    words = ItemText("?", "b", "a", ("first " * 50_000, "b", marked * 500, "d" * 65))
    lines = list(item_lines(replace(RIVER, text=words), width=80))[2:]
    assert lines[0] == f"    A. 0.980  {'first ' * 8}fi...  <- answered"
    assert columns(lines[0]) == 80
    assert lines[1].endswith("  <- correct")
    assert lines[2].endswith("\u0301...")
    assert lines[3].endswith("d...")


text = st.text(max_size=120) | st.sampled_from(
    [HOSTILE, "首都" * 60, "x" * 300, "a\u0301" * 80, "\u202e\x1b[0m", "", " ", "\U0001f600 " * 40]
)


@given(
    prompt=text, gold=text, answer=text, name=text, about=text,
    options=st.lists(text, max_size=9).map(tuple),
    width=st.integers(50, 120),
)  # fmt: skip
def test_no_line_is_wider_than_asked_or_does_anything(
    prompt: str,
    gold: str,
    answer: str,
    name: str,
    about: str,
    options: tuple[str, ...],
    width: int,
) -> None:
    """Whatever an item says, it is printable text within the width."""
    words = ItemText(prompt, gold, answer, options)
    shares = tuple(1 / len(options) for _ in options)
    item = replace(RIVER, name=name, slice=about, text=words, probabilities=shares, label=0)
    for line in item_lines(item, width=width):
        assert columns(line) <= width
        assert line == line.rstrip(" ")
        assert line.splitlines() in ([], [line])
        assert all(c.isprintable() or c.isspace() or c in "\u200c\u200d" for c in line)


@given(text)
def test_breaking_lines_loses_nothing(prompt: str) -> None:
    """A prompt that is short enough is there from its first to its last word."""
    from pytest_calibration.text.visible import visible

    lines = list(item_lines(replace(FACT, text=ItemText(prompt, "gold", "")), width=50))
    body = "".join(line.strip(" ") for line in lines[1:-1])
    assert body.replace(" ", "") == visible(prompt).replace(" ", "")
