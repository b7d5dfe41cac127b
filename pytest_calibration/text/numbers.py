"""Numbers in sentences: with as many digits as tell apart what differs, and no more."""

from __future__ import annotations

from typing import Final

# More than these no float in [0, 1] needs to be told from its neighbours.
ALL_DIGITS: Final = 17


def counted(many: int, what: str) -> str:
    """Write a number of things: ``1 item``, ``1,500 items``."""
    return f"{many:,} {what}{'s' * (many != 1)}"


def distinct(
    *values: float, digits: int = 3, most: int = ALL_DIGITS, sign: bool = False
) -> list[str]:
    """Write numbers with as few digits as still show which is larger.

    Args:
        values: what stands side by side.
        digits: decimals at least.
        most: decimals at most; numbers that agree in all of these are written alike, but for
            the default, which never writes two numbers alike.
        sign: with ``+`` before what is not negative.
    """
    plus = "+" if sign else ""
    finest = [f"{value:{plus}z.{most}f}" for value in values]
    if most == ALL_DIGITS and len({*finest}) < len({*values}):
        return [repr(value) for value in values]
    for places in range(digits, most):
        texts = [f"{value:{plus}z.{places}f}" for value in values]
        if len({*texts}) == len({*finest}):
            return texts
    return finest
