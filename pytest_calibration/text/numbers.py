"""Numbers in sentences: counts with their noun, and as many digits as a comparison needs."""

from __future__ import annotations

from typing import Final

# With this many decimals no two floats in [0, 1] are written alike, but for the smallest.
ALL_DIGITS: Final = 17


def counted(many: int, what: str) -> str:
    """Write a count with its noun: ``1 item``, ``1,500 items``."""
    return f"{many:,} {what}{'s' * (many != 1)}"


def distinct(
    *values: float, digits: int = 3, most: int = ALL_DIGITS, sign: bool = False
) -> list[str]:
    """Write numbers with the fewest decimals that still show which is larger.

    Args:
        values: the numbers that are compared.
        digits: smallest number of decimals.
        most: largest number of decimals; numbers that agree in all of these are written alike.
            With the default no two numbers are.
        sign: write ``+`` before numbers that are not negative.
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
