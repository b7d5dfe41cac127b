"""One item as text: the question, the model's answer, and the correct one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from pytest_calibration.text.layout import columns, fitted, padded
from pytest_calibration.text.visible import visible

if TYPE_CHECKING:
    from pytest_calibration.predictions.item_text import ItemText
    from pytest_calibration.reports.model import Item

MOST_OPTIONS: Final = 6
LETTERS: Final = 26
PROMPT_CHARACTERS: Final = 400
NAME_CHARACTERS: Final = 60
ANSWER_CHARACTERS: Final = 100
# However narrow the page is.
LEAST_OPTION_COLUMNS: Final = 8


def item_lines(item: Item, *, width: int = 100) -> Iterator[str]:
    """Yield the lines of one item, the first of which names it.

    ::

        row-17 (slice: city): confidence 0.980, wrong; before: 0.410, correct
          Which river runs through Almond?
            A. 0.980  Teal   <- answered
            B. 0.012  Ochre  <- correct

    Long text is cut: a question in the middle, a statement without options at its start, an option
    at its end. Of more than six options the likeliest are shown, and always the correct one and the
    answer. All text is escaped.

    Args:
        item: the item; without its text only its name and numbers are shown.
        width: columns of a line, at least 50.
    """
    yield from _wrapped(item_heading(item), width, "", "  ")
    text = item.text
    if text is None:
        return
    if text.options:
        yield from _wrapped(visible(text.prompt, PROMPT_CHARACTERS), width, "  ")
        answer, gold = _answer_and_gold(item, text)
        yield from _option_lines(item.probabilities, text.options, answer, gold, width)
        if answer is not None and gold is not None:
            return
    else:
        # A statement ends where its answer begins.
        cut = len(text.prompt) - PROMPT_CHARACTERS
        shown = f"... {visible(text.prompt[cut:])}" if cut > 0 else visible(text.prompt)
        yield from _wrapped(shown, width, "  ")
    yield from _wrapped(_answers(text), width, "  ")


def item_heading(item: Item, width: int | None = None) -> str:
    """Return name, slice, confidence and correctness of an item, in one line.

    Args:
        item: the item.
        width: columns to which name and slice are cut, numbers included.
    """
    numbers = f": confidence {_share(item.confidence)}, {'correct' if item.correct else 'wrong'}"
    if item.confidence_before is not None and item.correct_before is not None:
        before = "correct" if item.correct_before else "wrong"
        numbers += f"; before: {_share(item.confidence_before)}, {before}"
    name = visible(item.title, NAME_CHARACTERS)
    name += f" (slice: {visible(item.slice, NAME_CHARACTERS)})" if item.slice else ""
    return f"{name if width is None else fitted(name, width - len(numbers))}{numbers}"


def _share(share: float) -> str:
    """Write a probability with three decimals, which never round it to 0 or 1."""
    if 0 < share < 0.0005:
        return "<.001"
    return ">.999" if 0.9995 <= share < 1 else f"{share:.3f}"


def _answers(text: ItemText) -> str:
    """Return the model's answer and the correct one, as far as they are known."""
    answer, gold = (visible(one, ANSWER_CHARACTERS) for one in (text.answer, text.gold))
    if text.answer and text.answer == text.gold:
        return f'answered "{answer}", correct'
    parts = [f'answered "{answer}"'] if text.answer else []
    return ", ".join([*parts, f'correct "{gold}"'] if text.gold else parts)


def _answer_and_gold(item: Item, text: ItemText) -> tuple[int | None, int | None]:
    """Return the positions of the answer and of the correct option; None where none is known."""
    options = text.options
    # Several options may have the same text: probabilities and label say which one is meant.
    answer = options.index(text.answer) if text.answer in options else None
    if item.probabilities:
        answer = item.probabilities.index(max(item.probabilities))
    gold = options.index(text.gold) if text.gold in options else None
    if item.label is not None:
        gold = item.label
    places = range(len(options))
    return answer if answer in places else None, gold if gold in places else None


def _option_lines(
    probabilities: tuple[float, ...],
    options: tuple[str, ...],
    answer: int | None,
    gold: int | None,
    width: int,
) -> Iterator[str]:
    """Yield a line for each option that is shown, and one that counts the others."""
    # Rows of probabilities are as long as the longest list of options of their probe, or missing.
    shares = dict(zip(range(len(options)), probabilities, strict=False))
    # The answer and the correct one first, then the likeliest; shown in their own order.
    order = sorted(
        range(len(options)), key=lambda i: (i not in (answer, gold), -shares.get(i, 0.0))
    )
    rows = []
    for i in sorted(order[:MOST_OPTIONS]):
        letter = chr(ord("A") + i) if len(options) <= LETTERS else f"{i + 1}"
        share = f"{_share(shares[i])}  " if i in shares else ""
        marks = [mark for mark, j in (("answered", answer), ("correct", gold)) if i == j]
        mark = f"  <- {', '.join(marks)}" if marks else ""
        rows.append((f"    {letter}. {share}", options[i], mark))
    room = width - max(columns(lead) + columns(mark) for lead, _, mark in rows)
    texts = [_cut(option, max(room, LEAST_OPTION_COLUMNS)) for _, option, _ in rows]
    widest = max(map(columns, texts))
    for (lead, _, mark), text in zip(rows, texts, strict=True):
        yield f"{lead}{padded(text, widest)}{mark}".rstrip()
    others = order[MOST_OPTIONS:]
    if others:
        rest = min(sum(shares.get(i, 0.0) for i in others), 1.0)
        together = f", together {_share(rest)}" if shares else ""
        yield f"    ({len(others):,} more option{'s' * (len(others) > 1)}{together})"


def _cut(text: str, width: int) -> str:
    """Escape a text, and cut its end where it is wider than ``width`` columns."""
    # Most characters take a column or two: a text of any length need not be escaped whole.
    most = 4 * width
    plain = visible(text[:most])
    if len(text) <= most and columns(plain) <= width:
        return plain
    return f"{next(_pieces(plain, width - 3))}..."


def _wrapped(
    text: str, width: int, indent: str, continuation_indent: str | None = None
) -> Iterator[str]:
    """Break a text into lines of at most ``width`` columns, also within words.

    Scripts without spaces are words of any length, and their characters take two columns.
    """
    further = indent if continuation_indent is None else continuation_indent
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
