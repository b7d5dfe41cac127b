"""How the page writes numbers and text: filters and functions of the templates."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from jinja2 import Undefined
from markupsafe import Markup, escape

from pytest_calibration.diagnosis.slices import FDR
from pytest_calibration.text.numbers import distinct
from pytest_calibration.text.visible import visible

NONE: Final = "–"


def printable(value: Any) -> Any:
    """Return what a template may print of a value: text with nothing in it that is invisible.

    Every expression of every template passes here before it is escaped. What has no one way to be
    written (a float, None, a list) needs a filter.

    Raises:
        TypeError: a template prints such a value.
    """
    if isinstance(value, Markup | Undefined):
        return value
    if isinstance(value, str):
        return value if value.isprintable() else visible(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise TypeError(f"a template prints {value!r}; it needs a filter")


def cut(text: str, most: int) -> str:
    """Return a text of at most about ``most`` characters, cut in the middle."""
    return visible(text, most) if len(text) > most else text


def prose(text: str, most: int) -> Markup:
    """Return a text with its line breaks, cut in the middle where it is longer than ``most``."""
    return escape(visible(text, most, keep_breaks=True))


def tail(text: str, most: int) -> str:
    """Return the last ``most`` characters: checkpoints of one run differ at the end."""
    return text if len(text) <= most else f"…{text[1 - most :]}"


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """Write a number with a true minus; a dash for None. A rounded zero has no minus."""
    if value is None:
        return NONE
    return _minus(f"{value:{'+' if sign else ''}z.{digits}f}")


def signed(value: float | None) -> str:
    """Write a number with its sign."""
    return number(value, sign=True)


def interval(low: float | None, high: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """Write the ends of an interval: ``[0.159, 0.250]``."""
    if low is None or high is None:
        return NONE
    return f"[{number(low, digits, sign=sign)}, {number(high, digits, sign=sign)}]"


def side_by_side(*values: float | None) -> list[str]:
    """Write numbers with as many digits as show which is larger."""
    finite = [v for v in values if v is not None]
    if len(finite) < len(values):
        return [number(v) for v in values]
    return [_minus(text) for text in distinct(*finite)]


def share(value: float) -> str:
    """Write a probability; what is not 0 or 1 is not written so."""
    if 0 < value < 0.0005:
        return "<0.001"
    return ">0.999" if 0.9995 <= value < 1 else number(value)


def q_value(value: float | None) -> str:
    """Write a q-value so that one sees on which side of the false discovery rate it lies."""
    if value is None:
        return NONE
    return "<0.001" if value < 0.0005 else side_by_side(value, FDR)[0]


def thousands(n: int) -> str:
    """Write a count: ``12,345``."""
    return f"{n:,}"


def moment(iso: str) -> str:
    """Write a moment in ISO 8601 for a reader, in UTC; any other text stays as it is."""
    try:
        when = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    if when.tzinfo is None:
        return f"{when:%Y-%m-%d %H:%M}"
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def px(coordinate: float) -> str:
    """Write a coordinate of a drawing, to a tenth of its unit."""
    return f"{coordinate:z.1f}".removesuffix(".0")


def exact(key: float | str) -> str:
    """Write what a cell sorts by: a number as Python does, which tells apart all that differ."""
    return key if isinstance(key, str) else repr(key)


def _minus(text: str) -> str:
    return text.replace("-", "−")
