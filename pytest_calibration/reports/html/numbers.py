"""Numbers as the page prints them: three decimals, a true minus, a dash for what is not there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

NONE: Final = "–"


def number(value: float | None, *, sign: bool = False, digits: int = 3) -> str:
    """Write a number; a rounded zero has no sign before it unless one is asked for."""
    if value is None:
        return NONE
    return minus(f"{value:{'+' if sign else ''}z.{digits}f}")


def minus(written: str) -> str:
    """Put a minus for each hyphen of a number that is written already."""
    return written.replace("-", "−")


def interval(low: float | None, high: float | None, *, sign: bool = False) -> str:
    """Write the ends of an interval: ``[0.159, 0.250]``."""
    if low is None or high is None:
        return NONE
    return f"[{number(low, sign=sign)}, {number(high, sign=sign)}]"


def count(n: int) -> str:
    """Write a count: ``12,345``."""
    return f"{n:,}"


def counted(n: int, noun: str) -> str:
    """Write a count with its noun: ``1 item``, ``2 items``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def share(value: float) -> str:
    """Write a probability; what is not 0 or 1 is not written so."""
    if 0 < value < 0.0005:
        return "<0.001"
    return ">0.999" if 0.9995 <= value < 1 else number(value)


def moment(written: str) -> str:
    """Write a moment in ISO 8601 for a reader; what is none stays as it is."""
    try:
        then = datetime.fromisoformat(written)
    except ValueError:
        return written
    if then.tzinfo is None:
        return f"{then:%Y-%m-%d %H:%M}"
    return f"{then.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def coordinate(value: float) -> str:
    """Write a coordinate of a drawing: a tenth of a unit is finer than any eye sees."""
    return f"{value:z.1f}".removesuffix(".0")
