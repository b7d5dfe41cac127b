"""Reliability diagrams drawn by matplotlib (``pytest-calibration[plots]``)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pytest_calibration.errors import MissingExtra
from pytest_calibration.measurement import measure
from pytest_calibration.metrics import DEFAULT_BINS
from pytest_calibration.predictions import PredictionsLike, as_predictions
from pytest_calibration.text.numbers import counted
from pytest_calibration.text.visible import visible
from pytest_calibration.uncertainty.reliability import (
    ConfidenceBar,
    ReliabilityBin,
    confidence_histogram,
    reliability,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from pytest_calibration.measurement import Measurement
    from pytest_calibration.reports.model import Number

NAME: Final = 48
# Width and height of a figure, in inches.
SIZE: Final = (5.4, 7.9)
# Colours of Okabe and Ito's palette, for colour-blind readers; shapes differ as well.
NOW, BEFORE, WRONG, FAINT = "#0072b2", "#777777", "#d55e00", "#555555"
# With more bins, the numbers of items would overlap.
MOST_COUNTS: Final = 20


@dataclass(frozen=True)
class Diagram:
    """The numbers and texts of a reliability diagram.

    Attributes:
        title: probe and model, escaped; in two lines where they are long.
        caption: the metric with its interval and noise floor, and a second line with n.
        bins: the non-empty bins.
        histogram: counts of correct and wrong answers over confidence.
        baseline_bins: the non-empty bins of the baseline; empty without one.
        baseline_name: what the baseline is called, escaped; empty without one.
    """

    title: str
    caption: str
    bins: tuple[ReliabilityBin, ...]
    histogram: tuple[ConfidenceBar, ...]
    baseline_bins: tuple[ReliabilityBin, ...]
    baseline_name: str


@dataclass(frozen=True, eq=False)
class ReliabilityDisplay:
    """A reliability diagram that has been drawn, with names as in scikit-learn's displays.

    Attributes:
        diagram: the numbers: bins of both sides, and the histogram.
        line_: the line of accuracy over mean confidence.
        ax_: the axes of the diagram.
        histogram_ax_: the axes of the histogram: below, or inset where ``ax`` was given.
        figure_: their figure.
    """

    diagram: Diagram
    line_: Line2D
    ax_: Axes
    histogram_ax_: Axes
    figure_: Figure

    @property
    def bins(self) -> tuple[ReliabilityBin, ...]:
        """The non-empty bins: accuracy with its interval, mean confidence, noise band, n."""
        return self.diagram.bins


def reliability_diagram(
    predictions: PredictionsLike,
    baseline: PredictionsLike | None = None,
    *,
    bins: int = DEFAULT_BINS,
    ax: Axes | None = None,
) -> ReliabilityDisplay:
    """Draw accuracy over mean confidence, bin by bin.

    A vertical line is the 95 % interval of the accuracy of a bin. The band is where the accuracy of
    a calibrated model lies 95 % of the time: a filled point is outside, an open one inside. Bars
    count right and wrong answers over confidence.

    Args:
        predictions: predictions, or a pair (probabilities, labels).
        baseline: other predictions, drawn in grey for comparison.
        bins: number of equal-width bins.
        ax: axes to draw on, with the histogram inset at the bottom; pyplot is not used then, and no
            setting is changed. Without it a new figure of pyplot.

    Raises:
        MissingExtra: matplotlib is not installed.
        MetricError: bins below 1.
        PredictionsError: values that are no predictions.
    """
    require_matplotlib()
    predictions = as_predictions(predictions)
    other = None if baseline is None else as_predictions(baseline)
    model = predictions.signature.soft.get("model", "")
    diagram = Diagram(
        title=title_of(predictions.probe, model),
        caption=caption_of(
            measure(predictions, bins=bins), predictions.n, predictions.n_clusters, predictions.unit
        ),
        bins=reliability(predictions, bins),
        histogram=confidence_histogram(predictions),
        baseline_bins=() if other is None else reliability(other, bins),
        baseline_name="" if other is None else "baseline",
    )
    if ax is None:
        from matplotlib import pyplot

        return draw_figure(diagram, pyplot.figure(figsize=SIZE, layout="constrained"))
    # Below the points, above the grid.
    inset = ax.inset_axes((0, 0, 1, 0.2), sharex=ax, zorder=0.9)
    display = _draw(diagram, ax, inset)
    inset.set_axis_off()
    for bar in inset.patches:
        bar.set_alpha(0.4)
    ax.set_xlabel("confidence")
    handles = [*ax.get_legend_handles_labels()[0], *inset.get_legend_handles_labels()[0]]
    ax.legend(handles=handles, loc="upper left", fontsize="small", frameon=False)
    return display


def require_matplotlib() -> None:
    """Check that matplotlib is installed.

    Raises:
        MissingExtra: it is not.
    """
    with warnings.catch_warnings():
        # Deprecations inside matplotlib stop nothing where warnings are errors.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            raise MissingExtra(
                "Pictures need matplotlib: pip install 'pytest-calibration[plots]'."
            ) from None


def title_of(probe: str, model: str) -> str:
    """Return the title of a diagram: probe and model, escaped."""
    probe, model = visible(probe, NAME), visible(model, NAME)
    if not model:
        return probe
    return f"{probe}{' ' if len(probe) + len(model) < NAME else chr(10)}on {model}"


def caption_of(number: Measurement | Number, n: int, units: int, unit: str) -> str:
    """Return the metric with its interval and noise floor, and a second line with n."""
    floor = number.noise_floor
    noise = "" if floor is None or math.isnan(floor) else f", noise floor {floor:.3f}"
    groups = f" in {counted(units, 'group')}" if units != n else ""
    return (
        f"{number.label} {number.value:.3f} [{number.low:.3f}, {number.high:.3f}]{noise}\n"
        f"n = {counted(n, visible(unit, NAME))}{groups}"
    )


def draw_figure(diagram: Diagram, figure: Figure) -> ReliabilityDisplay:
    """Draw a diagram with title, caption, histogram and legend on an empty figure."""
    from matplotlib.text import Text

    above, below = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
    display = _draw(diagram, above, below)
    below.set(xlabel="confidence", ylabel="items")
    if len(diagram.bins) <= MOST_COUNTS:
        for b in diagram.bins:
            middle = (b.lower + b.upper) / 2
            above.text(middle, 0.012, f"{b.n:,}", ha="center", fontsize=6.5, color=FAINT)
    above.set_title(diagram.caption, loc="left", fontsize=8.5, color=FAINT)
    figure.suptitle(diagram.title, x=0.02, ha="left", fontsize=11, fontweight="bold")
    # Below both axes, where it hides no point.
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=8.5)
    for text in figure.findobj(Text):
        # A dollar sign in a name starts no formula.
        text.set_parse_math(False)
    return display


def _draw(diagram: Diagram, above: Any, below: Any) -> ReliabilityDisplay:
    line = _draw_bins(above, diagram)
    _draw_histogram(below, diagram)
    return ReliabilityDisplay(diagram, line, above, below, above.figure)


def _points(bins: Sequence[ReliabilityBin]) -> tuple[list[float], list[float]]:
    return [b.confidence for b in bins], [b.accuracy for b in bins]


def _draw_bins(axes: Any, diagram: Diagram) -> Any:
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=(0, (4, 4)), zorder=1)
    for i, b in enumerate(diagram.bins):
        axes.fill_between(
            [b.lower, b.upper],
            b.calibrated_low,
            b.calibrated_high,
            color=NOW,
            alpha=0.13,
            linewidth=0,
            label="a calibrated model, 95 %" if i == 0 else None,
        )
    if diagram.baseline_bins:
        axes.plot(
            *_points(diagram.baseline_bins),
            color=BEFORE,
            marker="D",
            markersize=4,
            markerfacecolor="white",
            linewidth=1,
            zorder=2,
            label=diagram.baseline_name,
        )
    # Faint: between two bins nothing was measured.
    (line,) = axes.plot(*_points(diagram.bins), color=NOW, linewidth=1, alpha=0.4, zorder=3)
    axes.errorbar(
        *_points(diagram.bins),
        # Wilson's interval contains the accuracy; rounding may put it just outside.
        [
            [max(b.accuracy - b.low, 0.0) for b in diagram.bins],
            [max(b.high - b.accuracy, 0.0) for b in diagram.bins],
        ],
        color=NOW,
        linewidth=0,
        elinewidth=1,
        capsize=2,
        marker="",
        zorder=3,
    )
    for beyond, label in ((True, "accuracy, beyond noise"), (False, "accuracy, within noise")):
        chosen = [b for b in diagram.bins if b.beyond_noise == beyond]
        if chosen:
            axes.plot(
                *_points(chosen),
                linestyle="",
                marker="o",
                markersize=6,
                color=NOW,
                markerfacecolor=NOW if beyond else "white",
                zorder=4,
                clip_on=False,
                label=label,
            )
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    return line


def _draw_histogram(axes: Any, diagram: Diagram) -> None:
    bars = diagram.histogram
    edges, widths = [b.lower for b in bars], [b.upper - b.lower for b in bars]
    right, wrong = [b.right for b in bars], [b.wrong for b in bars]
    axes.bar(edges, right, widths, align="edge", color=NOW, edgecolor="white", label="right")
    axes.bar(
        edges,
        wrong,
        widths,
        bottom=right,
        align="edge",
        color=WRONG,
        edgecolor="white",
        hatch="////",
        linewidth=0.5,
        label="wrong",
    )
