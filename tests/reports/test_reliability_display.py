"""The public reliability diagram: the drawn data against the bin table; no side effects."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from typing import Any

import numpy as np
import pytest
from samples import predictions

from pytest_calibration import metrics
from pytest_calibration.errors import MissingExtra, PredictionsError
from pytest_calibration.measurement import measure
from pytest_calibration.predictions import Predictions
from pytest_calibration.reports.reliability_display import ReliabilityDisplay, reliability_diagram
from pytest_calibration.uncertainty.reliability import confidence_histogram, reliability

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def _no_open_figures(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Draw without a window, and close what was opened."""
    monkeypatch.setitem(matplotlib.rcParams, "backend", "Agg")
    yield
    matplotlib.pyplot.close("all")


def figure() -> Any:
    """Return a figure that pyplot does not know."""
    from matplotlib.figure import Figure

    return Figure()


@cache
def pair() -> tuple[Predictions, Predictions]:
    """Return an over-confident model and its baseline."""
    return predictions(sharpen=2.5, model="sft", hostile=False), predictions(hostile=False)


def drawn(bins: int = 15, ax: Any = None) -> ReliabilityDisplay:
    """Return the diagram of the two."""
    return reliability_diagram(*pair(), bins=bins, ax=ax)


def points(display: ReliabilityDisplay, label: str) -> np.ndarray:
    """Return the points of the line with this label."""
    (line,) = [line for line in display.ax_.lines if line.get_label() == label]
    return np.column_stack(line.get_data())


AXES = {"own figure": lambda: None, "given axes": lambda: figure().subplots()}
everywhere = pytest.mark.parametrize("make", AXES.values(), ids=AXES)


@everywhere
@pytest.mark.parametrize("bins", [15, 6])
def test_the_line_is_that_of_the_bin_table(make: Any, bins: int) -> None:
    """Accuracy over mean confidence of the non-empty bins; the baseline likewise."""
    display = drawn(bins, make())
    tables = [metrics.bin_table(p, bins) for p in pair()]
    expected, before = (
        np.column_stack([table.confidence, table.accuracy])[table.count > 0] for table in tables
    )
    np.testing.assert_allclose(np.column_stack(display.line_.get_data()), expected)
    np.testing.assert_allclose(points(display, "baseline"), before)
    assert display.bins == reliability(pair()[0], bins)


@everywhere
def test_points_are_filled_beyond_noise(make: Any) -> None:
    """They differ by more than colour: filled outside the noise band, open inside."""
    display = drawn(ax=make())
    for beyond, label in ((True, "accuracy, beyond noise"), (False, "accuracy, within noise")):
        expected = [[b.confidence, b.accuracy] for b in display.bins if b.beyond_noise == beyond]
        assert expected
        assert np.array_equal(points(display, label), expected)
    faces = {line.get_label(): line.get_markerfacecolor() for line in display.ax_.lines}
    assert faces["accuracy, within noise"] == "white" != faces["accuracy, beyond noise"]


@everywhere
def test_error_bars_are_the_intervals_of_the_accuracy(make: Any) -> None:
    """From the lower to the upper end, at the mean confidence of the bin."""
    display = drawn(ax=make())
    (bars,) = display.ax_.containers
    segments = np.array(bars.lines[2][0].get_segments())
    ends = [[[b.confidence, b.low], [b.confidence, b.high]] for b in display.bins]
    assert segments == pytest.approx(np.array(ends))


@everywhere
def test_the_band_is_the_noise_band(make: Any) -> None:
    """One box per bin, over its width; and the diagonal."""
    display = drawn(ax=make())
    paths = [path for c in display.ax_.collections for path in c.get_paths()]
    for path, b in zip(paths, display.bins, strict=False):
        box = path.get_extents()
        assert (box.x0, box.x1) == pytest.approx((b.lower, b.upper))
        assert (box.y0, box.y1) == pytest.approx((b.calibrated_low, b.calibrated_high))
    assert np.array_equal(display.ax_.lines[0].get_data(), [[0, 1], [0, 1]])


@everywhere
def test_bars_count_right_and_wrong(make: Any) -> None:
    """Wrong answers are stacked on right ones, in 20 bars."""
    display = drawn(ax=make())
    right, wrong = display.histogram_ax_.containers
    for a, b, bar in zip(right, wrong, confidence_histogram(pair()[0]), strict=True):
        assert (a.get_height(), b.get_height()) == (bar.right, bar.wrong)
        assert b.get_y() == bar.right
        assert (a.get_x(), a.get_width()) == pytest.approx((bar.lower, bar.upper - bar.lower))


def test_the_own_figure_has_title_caption_and_counts() -> None:
    """Probe and model; ECE with interval and floor; n; and the number of items of each bin."""
    display = drawn()
    m = measure(pair()[0])
    assert display.diagram.title == "support-mcq on sft"
    assert (
        display.ax_.get_title(loc="left")
        == display.diagram.caption
        == (
            f"ECE (15 equal-width bins) {m.value:.3f} [{m.low:.3f}, {m.high:.3f}], "
            f"noise floor {m.noise_floor:.3f}\nn = 600 items in 200 groups"
        )
    )
    assert {t.get_text() for t in display.ax_.texts} == {f"{b.n:,}" for b in display.bins}
    assert not reliability_diagram(pair()[0], bins=40).ax_.texts
    assert display.figure_.number in matplotlib.pyplot.get_fignums()


def test_arrays_are_drawn_too() -> None:
    """A pair (probabilities, labels), or (confidence, correct), without a baseline."""
    display = reliability_diagram(([[0.75, 0.25]] * 4, [0, 0, 0, 1]), bins=10)
    assert [(b.n, b.confidence, b.accuracy) for b in display.bins] == [(4, 0.75, 0.75)]
    other = reliability_diagram(([0.8, 0.8], np.array([True, False])), ([0.6], np.array([True])))
    assert np.array_equal(points(other, "baseline"), [[0.6, 1.0]])
    with pytest.raises(PredictionsError, match="got str"):
        reliability_diagram("facts")  # type: ignore[arg-type]


def test_given_axes_keep_their_figure_title_and_legend_entries() -> None:
    """The axes are the user's: figure, title and earlier lines stay, with no axes added."""
    own = figure()
    left, right = own.subplots(1, 2)
    left.set_title("mine")
    left.plot([0, 1], [1, 0], label="my line")
    display = drawn(ax=left)
    assert (display.ax_, display.figure_) == (left, own)
    assert own.axes == [left, right]
    assert left.child_axes == [display.histogram_ax_]
    assert left.get_title() == "mine"
    labels = [text.get_text() for text in left.get_legend().get_texts()]
    assert labels[0] == "my line"
    assert {"baseline", "a calibrated model, 95 %", "right", "wrong"} < set(labels)
    assert (left.get_xlabel(), left.get_ylabel()) == ("confidence", "accuracy")


def test_given_axes_leave_pyplot_and_settings_alone() -> None:
    """Pyplot is not imported, and no backend and no setting changes."""
    code = (
        "import sys, matplotlib, numpy, pytest_calibration as p\n"
        "from matplotlib.figure import Figure\n"
        "pair = [0.7, 0.6], numpy.array([True, False])\n"
        "matplotlib.rcParams['lines.linewidth'] = 7\n"
        "before = matplotlib.rcParams.copy()\n"
        "p.reliability_diagram(pair, pair, ax=Figure().subplots())\n"
        "assert matplotlib.rcParams.copy() == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_matplotlib_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra) as caught:
        drawn()
    assert str(caught.value) == "Pictures need matplotlib: pip install 'pytest-calibration[plots]'."
