"""Reliability diagrams as pictures, drawn by matplotlib (``pytest-calibration[plots]``).

Three functions: ``diagram_of`` takes the numbers out of a result, ``figure_of`` makes a picture of
them, and ``plot`` does both and writes a file.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_calibration.errors import MetricError, MissingExtra, UsageError
from pytest_calibration.text.numbers import counted
from pytest_calibration.text.visible import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pytest_calibration.reports.model import Result, Results
    from pytest_calibration.uncertainty.reliability import ConfidenceBar, ReliabilityBin

SUFFIXES: Final = (".png", ".svg")
NAME: Final = 48
# Inches, and dots in each of them.
SIZE: Final = (5.4, 7.9)
DPI: Final = 150
# Readable by the colour-blind (Okabe and Ito's palette), and told apart by shape as well.
NOW, BEFORE, WRONG, FAINT = "#0072b2", "#777777", "#d55e00", "#555555"
# Of more bins, the counts would run into each other.
MOST_COUNTS: Final = 20


@dataclass(frozen=True)
class Diagram:
    """The numbers of one picture.

    Attributes:
        title: probe and model, made visible; in two lines where they are long.
        caption: the metric with its interval and noise floor, and a second line of n.
        bins: the bins that hold items.
        histogram: counts of right and wrong answers over confidence.
        before: the bins of the baseline; empty without one.
        reference: what the baseline is called, made visible; empty without one.
    """

    title: str
    caption: str
    bins: tuple[ReliabilityBin, ...]
    histogram: tuple[ConfidenceBar, ...]
    before: tuple[ReliabilityBin, ...]
    reference: str


def diagram_of(result: Result) -> Diagram:
    """Return the numbers of the reliability diagram of a verdict.

    Raises:
        MetricError: the result holds no bins: it was made without details, or without items.
    """
    if result.detail is None:
        raise MetricError(
            f"{visible(result.subject, NAME)}: there are no bins to draw; make the result of a "
            "verdict on items, with detailed=True."
        )
    side, before = result.detail.candidate, result.detail.baseline
    number = side.metrics.get(result.number.metric, result.number)
    floor = "" if number.noise_floor is None else f", noise floor {number.noise_floor:.3f}"
    groups = f" in {counted(side.units, 'group')}" if side.units != side.n else ""
    return Diagram(
        title=_title(result),
        caption=(
            f"{number.label} {number.value:.3f} [{number.low:.3f}, {number.high:.3f}]{floor}\n"
            f"n = {counted(side.n, visible(result.unit, NAME))}{groups}"
        ),
        bins=side.reliability,
        histogram=side.histogram,
        before=() if before is None else before.reliability,
        reference="" if before is None else visible(result.reference or "baseline", NAME),
    )


def _title(result: Result) -> str:
    probe = visible(result.probe, NAME)
    if not result.model:
        return probe
    model = visible(result.model, NAME)
    return f"{probe}{' ' if len(probe) + len(model) < NAME else chr(10)}on {model}"


def figure_of(diagram: Diagram) -> Figure:
    """Return a picture of a reliability diagram with its histogram of confidence below.

    The band is where the accuracy of a calibrated model lies 95 % of the time; a filled point lies
    outside of it, an open one inside. Bars are 95 % intervals of the accuracy.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    with _matplotlib():
        return _drawn(diagram)


def plot(result: Result, path: Path | str) -> Diagram:
    """Write the reliability diagram of a verdict as a picture, and return its numbers.

    Args:
        result: the verdict, with details.
        path: a file that ends in ``.png`` or ``.svg``.

    Raises:
        MissingExtra: matplotlib is not installed.
        MetricError: the result holds no bins.
        UsageError: another ending.
    """
    from pytest_calibration.files import write_atomically

    path = Path(path)
    diagram = diagram_of(result)
    write_atomically(path, picture(diagram, _suffix(path)))
    return diagram


def plots_of(results: Results, path: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield file and content of a picture for each verdict that holds bins.

    ``report.svg`` becomes ``report-facts-sft.svg``, named by probe and model; further pictures of
    the same two are numbered from 2. Verdicts that would look the same share one.

    Args:
        results: the session.
        path: a file that ends in ``.png`` or ``.svg``.

    Raises:
        MissingExtra: matplotlib is not installed.
        UsageError: another ending.
    """
    from pytest_calibration.files import file_stem

    suffix = _suffix(path)
    drawn: set[Diagram] = set()
    names: set[str] = set()
    for result in results.results:
        if result.detail is None:
            continue
        diagram = diagram_of(result)
        if diagram in drawn:
            continue
        drawn.add(diagram)
        parts = [path.stem, file_stem(result.probe)]
        parts += [file_stem(result.model)] if result.model else []
        stem = name = "-".join(parts)
        k = 1
        # Some file systems know no difference between large and small letters.
        while name.lower() in names:
            k += 1
            name = f"{stem}-{k}"
        names.add(name.lower())
        yield path.with_name(f"{name}{path.suffix}"), picture(diagram, suffix)


def picture(diagram: Diagram, suffix: str) -> bytes:
    """Return the content of a file; the same diagram gives the same bytes.

    Args:
        diagram: what to draw.
        suffix: ``.png`` or ``.svg``.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    with _matplotlib():
        figure = _drawn(diagram)
        buffer = io.BytesIO()
        # No date, no version: a picture that did not change makes no difference in a repository.
        about: dict[str, str | None] = {"Software": None}
        if suffix == ".svg":
            about = {"Date": None, "Creator": None, "Title": diagram.title.replace("\n", " ")}
        figure.savefig(buffer, format=suffix[1:], dpi=DPI, metadata=about)
    return buffer.getvalue()


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path}: a picture ends in {' or '.join(SUFFIXES)}; name such a file.")
    return suffix


@contextmanager
def _matplotlib() -> Iterator[None]:
    """Draw with matplotlib's own defaults, whatever a project has set, and leave no trace."""
    with warnings.catch_warnings():
        # Where warnings are errors, what matplotlib or its parts will drop one day stops nothing,
        # nor does a sign that the font lacks: it is drawn as a box.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from")
        try:
            import matplotlib
        except ImportError:
            raise MissingExtra(
                "Pictures need matplotlib: pip install 'pytest-calibration[plots]'."
            ) from None
        # The backend is left alone: none is used.
        ours = {k: v for k, v in matplotlib.rcParamsDefault.items() if "backend" not in k}
        ours |= {
            "svg.hashsalt": "pytest-calibration",
            # Text stays text: it can be searched and read aloud.
            "svg.fonttype": "none",
            "font.size": 9.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
        with matplotlib.rc_context(ours):
            yield


def _drawn(diagram: Diagram) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    figure = Figure(figsize=SIZE, layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
    _reliability(above, diagram)
    _histogram(below, diagram)
    above.set_title(diagram.caption, loc="left", fontsize=8.5, color=FAINT)
    figure.suptitle(diagram.title, x=0.02, ha="left", fontsize=11, fontweight="bold")
    # Below both, where it hides no point.
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=8.5)
    for words in figure.findobj(Text):
        # A dollar in a name begins no formula.
        words.set_parse_math(False)
    return figure


def _reliability(axes: Any, diagram: Diagram) -> None:
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
    if diagram.before:
        axes.plot(
            [b.confidence for b in diagram.before],
            [b.accuracy for b in diagram.before],
            color=BEFORE,
            marker="D",
            markersize=4,
            markerfacecolor="white",
            linewidth=1,
            zorder=2,
            label=diagram.reference,
        )
    # Faint: what joins two bins is no measurement.
    axes.plot(
        [b.confidence for b in diagram.bins],
        [b.accuracy for b in diagram.bins],
        color=NOW,
        linewidth=1,
        alpha=0.4,
        zorder=3,
    )
    axes.errorbar(
        [b.confidence for b in diagram.bins],
        [b.accuracy for b in diagram.bins],
        # Wilson's interval holds the share; rounding may take it a hair outside.
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
    for filled, said in ((True, "accuracy, beyond noise"), (False, "accuracy, within noise")):
        chosen = [b for b in diagram.bins if b.beyond_noise == filled]
        if chosen:
            axes.plot(
                [b.confidence for b in chosen],
                [b.accuracy for b in chosen],
                linestyle="",
                marker="o",
                markersize=6,
                color=NOW,
                markerfacecolor=NOW if filled else "white",
                zorder=4,
                clip_on=False,
                label=said,
            )
    if len(diagram.bins) <= MOST_COUNTS:
        for b in diagram.bins:
            middle = (b.lower + b.upper) / 2
            axes.text(middle, 0.012, f"{b.n:,}", ha="center", fontsize=6.5, color=FAINT)
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)


def _histogram(axes: Any, diagram: Diagram) -> None:
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
    axes.set(xlabel="confidence", ylabel="items")
