"""Pictures of a session's verdicts, as PNG or SVG files; and the public ``reliability_diagram``."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_calibration.errors import MetricError, UsageError
from pytest_calibration.files import readable_stem
from pytest_calibration.reports.reliability_display import (
    NAME,
    SIZE,
    Diagram,
    caption_of,
    draw_figure,
    reliability_diagram,
    require_matplotlib,
    title_of,
)
from pytest_calibration.text.visible import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pytest_calibration.reports.model import Result, Results

__all__ = ["diagram_of", "picture", "plots_of", "reliability_diagram", "saved"]

SUFFIXES: Final = (".png", ".svg")
DPI: Final = 150


def diagram_of(result: Result) -> Diagram:
    """Return the reliability diagram of a verdict.

    Raises:
        MetricError: the result has no bins: it was made without details, or without items.
    """
    if result.detail is None:
        raise MetricError(
            f"{visible(result.subject, NAME)}: there are no bins to draw; make the result of a "
            "verdict on items, with detailed=True."
        )
    candidate, baseline = result.detail.candidate, result.detail.baseline
    number = candidate.metrics.get(result.number.metric, result.number)
    caption = caption_of(number, candidate.n, candidate.units, result.unit)
    if result.n < result.baseline_n:
        reference = visible(result.reference or "baseline", NAME)
        caption += f", of the {result.baseline_n:,} of the {reference}"
    return Diagram(
        title=title_of(result.probe, result.source),
        caption=caption,
        bins=candidate.reliability,
        histogram=candidate.histogram,
        baseline_bins=() if baseline is None else baseline.reliability,
        baseline_name="" if baseline is None else visible(result.reference or "baseline", NAME),
    )


def plots_of(results: Results, path: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield file and content of a picture for each verdict with bins.

    ``report.svg`` becomes ``report-facts-sft.svg``, named by probe and model; further pictures of
    the same two are numbered from 2. Verdicts with equal diagrams share a picture.

    Args:
        results: the session.
        path: a file that ends in ``.png`` or ``.svg``.

    Raises:
        MissingExtra: matplotlib is not installed.
        UsageError: another ending.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path}: a picture ends in {' or '.join(SUFFIXES)}; name such a file.")
    drawn: set[Diagram] = set()
    names: set[str] = set()
    for result in results.results:
        if result.detail is None:
            continue
        diagram = diagram_of(result)
        if diagram in drawn:
            continue
        drawn.add(diagram)
        parts = [path.stem, readable_stem(result.probe)]
        parts += [readable_stem(result.source)] if result.source else []
        stem = name = "-".join(parts)
        k = 1
        # Some file systems do not distinguish upper and lower case.
        while name.lower() in names:
            k += 1
            name = f"{stem}-{k}"
        names.add(name.lower())
        yield path.with_name(f"{name}{path.suffix}"), picture(diagram, suffix)


def picture(diagram: Diagram, suffix: str) -> bytes:
    """Return the content of a picture file; equal diagrams give equal bytes.

    Args:
        diagram: what to draw.
        suffix: ``.png`` or ``.svg``.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    return saved(lambda figure: draw_figure(diagram, figure), SIZE, suffix, diagram.title)


def saved(
    draw: Callable[[Figure], object], size: tuple[float, float], suffix: str, title: str
) -> bytes:
    """Return the content of the file of a figure, drawn with settings of its own.

    Args:
        draw: draws on an empty figure.
        size: of the figure, in inches.
        suffix: ``.png`` or ``.svg``.
        title: in the metadata of an SVG.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    require_matplotlib()
    with _own_settings():
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        buffer = io.BytesIO()
        # Without date and version, so that an unchanged picture is an unchanged file.
        metadata: dict[str, str | None] = {"Software": None}
        if suffix == ".svg":
            metadata = {"Date": None, "Creator": None, "Title": title.replace("\n", " ")}
        figure.savefig(buffer, format=suffix[1:], dpi=DPI, metadata=metadata)
    return buffer.getvalue()


@contextmanager
def _own_settings() -> Iterator[None]:
    """Use matplotlib's defaults instead of the project's settings, and restore these."""
    with warnings.catch_warnings():
        # Where warnings are errors: deprecations inside matplotlib stop nothing, nor does a
        # character that the font lacks, which is drawn as a box.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from")
        import matplotlib

        # The backend stays: none is used.
        settings = {k: v for k, v in matplotlib.rcParamsDefault.items() if "backend" not in k}
        settings |= {
            "svg.hashsalt": "pytest-calibration",
            # Text stays text: searchable, and readable by a screen reader.
            "svg.fonttype": "none",
            "font.size": 9.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
        with matplotlib.rc_context(settings):
            yield
