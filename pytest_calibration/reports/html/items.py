"""The most over-confident wrong items: each opens to show what was asked and answered."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING, Final

from pytest_calibration.reports.html.diagrams import bar
from pytest_calibration.reports.html.markup import Markup, joined, name, tag, text
from pytest_calibration.reports.html.numbers import count, counted, share

if TYPE_CHECKING:
    from pytest_calibration.reports.model import Item, Words

# Characters that are shown.
PROMPT: Final = 1200
ANSWER: Final = 400
NAME: Final = 80
MOST_OPTIONS: Final = 26


def worst_items(worst: Sequence[Item], *, key: str, most: int) -> Markup:
    """Return the list of items, the surest first.

    Args:
        worst: the items, in order.
        key: start of the ids, unique on the page.
        most: how many are shown.
    """
    if not worst:
        return tag("p", "No wrong answer.", class_="hint")
    shown = worst[:most]
    left = len(worst) - len(shown)
    silent = all(item.words is None for item in shown)
    return joined(
        [
            tag("ol", *(tag("li", _item(item)) for item in shown), class_="items", id=key),
            tag("p", f"{count(left)} more not shown.", class_="hint") if left else None,
            tag("p", "The text of the items is not shown in this report.", class_="hint")
            if silent
            else None,
        ]
    )


def _item(item: Item) -> Markup:
    head = tag(
        "summary",
        tag("span", name(item.title, NAME), class_="title"),
        tag("span", name(item.slice, NAME), class_="slice") if item.slice else None,
        tag(
            "span",
            tag("b", share(item.confidence)),
            f" sure, {_truth(item.correct)}",
            joined(
                [
                    f"; before {share(item.confidence_before)}",
                    "" if item.correct_before is None else f", {_truth(item.correct_before)}",
                ]
            )
            if item.confidence_before is not None
            else None,
            class_="sure",
        ),
    )
    return tag("details", head, _body(item), class_="item")


def _truth(correct: bool) -> str:
    return "right" if correct else "wrong"


def _body(item: Item) -> Markup:
    words = item.words
    facts = [
        ("item", name(item.title, 400)),
        ("id", tag("code", item.id)),
        ("group", name(item.group, NAME) if item.group else None),
        ("slice", name(item.slice, 400) if item.slice else None),
        ("option mass", None if item.option_mass is None else share(item.option_mass)),
    ]
    return tag(
        "div",
        tag("p", text(words.prompt, PROMPT, keep_breaks=True), class_="prompt", dir="auto")
        if words is not None and words.prompt
        else None,
        _options(item),
        _answers(words) if words is not None and not words.options else None,
        tag(
            "dl",
            *(
                tag("div", tag("dt", what), tag("dd", said))
                for what, said in facts
                if said is not None
            ),
            class_="facts",
        ),
        class_="body",
    )


def _answers(words: Words) -> Markup:
    said = [("answered", words.answer), ("right is", words.gold)]
    return tag(
        "dl",
        *(
            tag(
                "div",
                tag("dt", what),
                tag("dd", text(saying, ANSWER, keep_breaks=True), dir="auto"),
            )
            for what, saying in said
            if saying
        ),
        class_="answers",
    )


def _options(item: Item) -> Markup | None:
    """Return the options with their probabilities; without words, the letters and probabilities."""
    texts = () if item.words is None else item.words.options
    number_of = max(len(texts), len(item.probabilities))
    if not number_of:
        return None
    answer = gold = None
    if item.probabilities:
        answer = item.probabilities.index(max(item.probabilities))
    elif item.words is not None and item.words.answer in texts:
        answer = texts.index(item.words.answer)
    if item.label is not None:
        gold = item.label
    elif item.words is not None and item.words.gold in texts:
        gold = texts.index(item.words.gold)

    def known(i: int) -> float | None:
        return item.probabilities[i] if i < len(item.probabilities) else None

    # The answer and the right one first, then the likeliest; shown in their own order.
    order = sorted(range(number_of), key=lambda i: (i not in (answer, gold), -(known(i) or 0.0)))
    shown = sorted(order[:MOST_OPTIONS])
    rows = []
    for i in shown:
        probability = known(i)
        marks = []
        if i == answer:
            marks.append(tag("span", "answered", class_="mark-answer"))
        if i == gold:
            marks.append(tag("span", "✓ right", class_="mark-gold"))
        rows.append(
            tag(
                "li",
                tag("span", _letter(i, number_of), class_="letter"),
                tag("span", "" if probability is None else share(probability), class_="share"),
                Markup("")
                if probability is None
                else bar(probability, kind=_kind(i, answer, gold)),
                tag(
                    "span",
                    text(texts[i], ANSWER) if i < len(texts) else None,
                    class_="option",
                    dir="auto",
                ),
                tag("span", joined(marks, " "), class_="marks") if marks else None,
                class_="chosen" if i == answer else None,
            )
        )
    left = number_of - len(shown)
    return joined(
        [
            tag("ul", *rows, class_="options"),
            tag("p", f"{counted(left, 'less likely option')} not shown.", class_="hint")
            if left
            else None,
        ]
    )


def _kind(i: int, answer: int | None, gold: int | None) -> str:
    return "wrong" if i == answer != gold else "right" if i == gold else "rest"


def _letter(i: int, of: int) -> str:
    return ascii_uppercase[i] if of <= len(ascii_uppercase) else f"{i + 1}"
