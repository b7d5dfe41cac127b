"""One item as text: what was asked, what the model made of it, and what is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from pytest_calibration.text.layout import columns, padded
from pytest_calibration.text.visible import visible

if TYPE_CHECKING:
    from pytest_calibration.reports.model import Item, Words

MOST_OPTIONS: Final = 6
LETTERS: Final = 26
# Characters of a prompt, of a name and of an answer that are shown.
PROMPT: Final = 400
NAME: Final = 60
ANSWER: Final = 100
# Columns of an option, however narrow the page is.
LEAST_OPTION: Final = 8


def item_lines(item: Item, *, width: int = 100) -> Iterator[str]:
    """Yield the lines of one item, the first of which names it.

    ::

        row-17 (slice: city): sure 0.980, wrong; the baseline: 0.410, right
          Which river runs through Almond?
            A. 0.980  Teal   <- answered
            B. 0.012  Ochre  <- right

    Long text is cut: a question in the middle, a statement without options at its start, an option
    at its end. Of more than six options the likeliest are shown, and always the right one and the
    answer. Nothing in the text reaches a terminal but as text.

    Args:
        item: the item; without its words only its name and numbers are shown.
        width: columns there are, at least 50.
    """
    yield from _broken(_head(item), width, "", "  ")
    words = item.words
    if words is None:
        return
    if not words.options:
        # A statement ends where its answer begins.
        cut = len(words.prompt) - PROMPT
        shown = f"... {visible(words.prompt[cut:])}" if cut > 0 else visible(words.prompt)
        yield from _broken(shown, width, "  ")
        yield from _broken(_answers(words), width, "  ")
        return
    yield from _broken(visible(words.prompt, PROMPT), width, "  ")
    answer, gold = _places(item, words)
    yield from _options(item.probabilities, words.options, answer, gold, width)
    if answer is None or gold is None:
        yield from _broken(_answers(words), width, "  ")


def _head(item: Item) -> str:
    about = f" (slice: {visible(item.slice, NAME)})" if item.slice else ""
    told = f"sure {_share(item.confidence)}, {_truth(item.correct)}"
    if item.confidence_before is not None and item.correct_before is not None:
        told += f"; the baseline: {_share(item.confidence_before)}, {_truth(item.correct_before)}"
    return f"{visible(item.title, NAME)}{about}: {told}"


def _truth(correct: bool) -> str:
    return "right" if correct else "wrong"


def _share(share: float) -> str:
    """Write a probability with three decimals; what is not 0 or 1 is not written so."""
    if 0 < share < 0.0005:
        return "<.001"
    return ">.999" if 0.9995 <= share < 1 else f"{share:.3f}"


def _answers(words: Words) -> str:
    """Return the answer and what is right, as far as they are known."""
    answer, gold = (visible(text, ANSWER) for text in (words.answer, words.gold))
    if words.answer and words.answer == words.gold:
        return f'answered "{answer}", right'
    said = [f'answered "{answer}"'] if words.answer else []
    return ", ".join([*said, f'right "{gold}"'] if words.gold else said)


def _places(item: Item, words: Words) -> tuple[int | None, int | None]:
    """Return which option is the answer, and which is right; None where none is."""
    known = range(len(words.options))
    answer = gold = None
    if item.probabilities:
        answer = item.probabilities.index(max(item.probabilities))
    elif words.answer in words.options:
        answer = words.options.index(words.answer)
    if item.label is not None:
        gold = item.label
    elif words.gold in words.options:
        gold = words.options.index(words.gold)
    return answer if answer in known else None, gold if gold in known else None


def _options(
    probabilities: Sequence[float],
    options: Sequence[str],
    answer: int | None,
    gold: int | None,
    width: int,
) -> Iterator[str]:
    """Yield a line for each option that is shown, and one that counts the others."""

    # Loaded late: the package of the terminal imports this module.
    def share(i: int) -> float | None:
        return probabilities[i] if i < len(probabilities) else None

    # The answer and the right one first, then the likeliest; shown in their own order.
    order = sorted(range(len(options)), key=lambda i: (i not in (answer, gold), -(share(i) or 0.0)))
    shown = sorted(order[:MOST_OPTIONS])
    rows = []
    for i in shown:
        letter = chr(ord("A") + i) if len(options) <= LETTERS else f"{i + 1}"
        known = share(i)
        marks = [m for m, j in (("answered", answer), ("right", gold)) if i == j]
        lead = f"    {letter}. " + ("" if known is None else f"{_share(known)}  ")
        rows.append((lead, options[i], f"  <- {', '.join(marks)}" if marks else ""))
    room = width - max(columns(lead) + columns(mark) for lead, _, mark in rows)
    texts = [_cut(text, max(room, LEAST_OPTION)) for _, text, _ in rows]
    widest = max(map(columns, texts))
    for (lead, _, mark), text in zip(rows, texts, strict=True):
        yield f"{lead}{padded(text, widest)}{mark}".rstrip()
    left = order[MOST_OPTIONS:]
    if left:
        rest = sum(share(i) or 0.0 for i in left)
        together = f", together {_share(min(rest, 1.0))}" if probabilities else ""
        yield f"    ({len(left):,} more option{'s' * (len(left) > 1)}{together})"


def _cut(text: str, width: int) -> str:
    """Escape a text, and cut at its end what is wider than ``width`` columns."""
    # Most characters take a column or two: a text of any length need not be looked at whole.
    most = 4 * width
    plain = visible(text[:most])
    if len(text) <= most and columns(plain) <= width:
        return plain
    return f"{next(_pieces(plain, width - 3))}..."


def _broken(text: str, width: int, indent: str, further: str | None = None) -> Iterator[str]:
    """Break a text into lines of at most ``width`` columns, words that are too long too.

    Scripts without spaces are words of any length, and their characters take two columns.
    """
    further = indent if further is None else further
    line, filled = indent, False
    for word in filter(None, text.split(" ")):
        for i, piece in enumerate(_pieces(word, width - len(further))):
            gap = " " if filled and i == 0 else ""
            if filled and columns(f"{line}{gap}{piece}") > width:
                yield line
                line, gap = further, ""
            line, filled = f"{line}{gap}{piece}", True
    if filled:
        yield line


def _pieces(word: str, most: int) -> Iterator[str]:
    """Cut a word into pieces of at most ``most`` columns."""
    piece, taken = "", 0
    for character in word:
        wide = columns(character)
        if piece and taken + wide > most:
            yield piece
            piece, taken = "", 0
        piece, taken = piece + character, taken + wide
    if piece:
        yield piece
