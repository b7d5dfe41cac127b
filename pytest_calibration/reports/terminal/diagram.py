"""The reliability diagram of one model as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_calibration.text.layout import WIDTH

if TYPE_CHECKING:
    from pytest_calibration.uncertainty.reliability import ReliabilityBin

NUMBERS: Final = 47
SMALLEST_PLOT: Final = 21
LARGEST_PLOT: Final = 41


class Signs(NamedTuple):
    """The characters of a diagram.

    Attributes:
        inside: accuracy, where noise explains it.
        outside: accuracy, where it does not.
        confidence: mean confidence.
        band: where the accuracy of a calibrated model lies 95 % of the time.
    """

    inside: str
    outside: str
    confidence: str
    band: str


ASCII: Final = Signs("o", "#", "|", "-")
UNICODE: Final = Signs("○", "●", "│", "─")


def reliability_diagram(
    bins: Sequence[ReliabilityBin], *, width: int = WIDTH, unicode: bool = False
) -> Iterator[str]:
    """Yield one line per bin: range, count, confidence, accuracy, gap, and where they lie.

    ::

        confidence          n   mean    acc     gap  0         .5         1
        (0.40, 0.47]       57  0.434  0.491  -0.057          ---|-o-
        (0.93, 1.00]      211  0.981  0.640  +0.341              #      --|
        o # accuracy, # where noise does not explain it; | mean confidence;
        - where a calibrated model's accuracy lies 95 % of the time

    On a narrow terminal the plot is left out, and ``#`` stands behind the numbers.

    Args:
        bins: the bins that hold items.
        width: columns there are.
        unicode: draw with box-drawing characters instead of ASCII.
    """
    signs = UNICODE if unicode else ASCII
    plot = min(LARGEST_PLOT, width - NUMBERS)
    plot -= 1 - plot % 2
    drawn = plot >= SMALLEST_PLOT
    axis = f"  {_axis(plot)}" if drawn else ""
    yield f"{'confidence':<14}{'n':>7}{'mean':>7}{'acc':>7}{'gap':>8}{axis}"
    for b in bins:
        # The first bin holds 0, so it is closed on both sides.
        opening = "[" if b is bins[0] and b.lower <= 0 else "("
        shown = f"  {_plot(b, plot, signs)}" if drawn else f"  {signs.outside * b.beyond_noise}"
        line = (
            f"{opening}{b.lower:.2f}, {b.upper:.2f}]{b.n:>9,}"
            f"{b.confidence:>7.3f}{b.accuracy:>7.3f}{b.gap:>+z8.3f}{shown}"
        )
        yield line.rstrip()
    if drawn:
        yield (
            f"{signs.inside} {signs.outside} accuracy, {signs.outside} where noise does not "
            f"explain it; {signs.confidence} mean confidence;"
        )
        yield f"{signs.band} where a calibrated model's accuracy lies 95 % of the time"
    elif any(b.beyond_noise for b in bins):
        yield f"{signs.outside} noise does not explain the gap"


def _axis(plot: int) -> str:
    middle = plot // 2
    return f"0{'.5':>{middle}}{'1':>{plot - 1 - middle}}"


def _plot(b: ReliabilityBin, plot: int, signs: Signs) -> str:
    def place(x: float) -> int:
        return round(min(max(x, 0.0), 1.0) * (plot - 1))

    cells = [" "] * plot
    for at in range(place(b.calibrated_low), place(b.calibrated_high) + 1):
        cells[at] = signs.band
    cells[place(b.confidence)] = signs.confidence
    cells[place(b.accuracy)] = signs.outside if b.beyond_noise else signs.inside
    return "".join(cells)
