"""Reliability diagrams as pictures."""

from __future__ import annotations

import subprocess
import sys
import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest
from samples import HOSTILE, predictions, results

from pytest_calibration.errors import MetricError, MissingExtra, UsageError
from pytest_calibration.gate.verdict import compare, judge
from pytest_calibration.measurement import measure
from pytest_calibration.reports.model import Result, Results, result_of
from pytest_calibration.reports.plots import (
    Diagram,
    diagram_of,
    figure_of,
    picture,
    plot,
    plots_of,
)
from pytest_calibration.text.visible import visible
from pytest_calibration.uncertainty.reliability import confidence_histogram, reliability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

matplotlib = pytest.importorskip("matplotlib")
SVG = "{http://www.w3.org/2000/svg}"


@cache
def result() -> Result:
    """Return a comparison that fails."""
    return result_of(compare(predictions(sharpen=2.5, model="sft", hostile=False), predictions()))


@cache
def diagram() -> Diagram:
    """Return its numbers."""
    return diagram_of(result())


def session(*made: Result) -> Results:
    """Return a session of these verdicts."""
    return Results("1", "now", len(made), True, made)


def words_of(svg: bytes) -> list[str]:
    """Return the texts of a picture."""
    return ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def points(figure: Figure, label: str) -> np.ndarray:
    """Return the points of the line with this label."""
    (line,) = [one for one in figure.axes[0].lines if one.get_label() == label]
    return np.column_stack(line.get_data())


# --- numbers -------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_result() -> None:
    """Bins of both sides and the histogram, measured on the predictions themselves."""
    hot, base = predictions(sharpen=2.5), predictions()
    assert diagram().bins == reliability(hot)
    assert diagram().before == reliability(base)
    assert diagram().histogram == confidence_histogram(hot)
    m = measure(hot)
    assert diagram().title == "support-mcq on sft"
    assert diagram().caption == (
        f"ECE (15 equal-width bins) {m.value:.3f} [{m.low:.3f}, {m.high:.3f}], "
        f"noise floor {m.noise_floor:.3f}\nn = 600 items in 200 groups"
    )
    assert diagram().reference == "baseline"


def test_a_limit_has_no_baseline() -> None:
    """Nothing is drawn for what is not there; what is no error has no noise floor."""
    p = predictions(groups=False)
    made = diagram_of(
        result_of(replace(judge(measure(p, "accuracy"), 0.1, above=True), candidate=p))
    )
    assert (made.before, made.reference) == ((), "")
    assert made.caption.startswith("accuracy 0.618 [")
    assert "noise floor" not in made.caption
    assert made.caption.endswith("\nn = 600 items")


def test_a_result_without_bins_is_an_error() -> None:
    """The message says which, and what to do."""
    bare = replace(result(), detail=None, probe="p\x1b")
    with pytest.raises(MetricError, match=r"^p\\x1b on sft: there are no bins to draw; make .*\.$"):
        diagram_of(bare)


def test_long_names_take_two_lines() -> None:
    """Names are cut in the middle, and made visible."""
    made = diagram_of(replace(result(), model="m" * 100 + "\x1b"))
    first, second = made.title.split("\n")
    assert first == "support-mcq"
    assert second.startswith("on mmmm")
    assert second.endswith("m\\x1b")
    assert len(second) < 60
    assert diagram_of(replace(result(), model="")).title == "support-mcq"


# --- the picture ---------------------------------------------------------------------------------


def test_points_stand_where_the_numbers_are() -> None:
    """Accuracy over mean confidence, filled beyond noise, with the intervals and the baseline."""
    figure = figure_of(diagram())
    drawn = {True: "accuracy, beyond noise", False: "accuracy, within noise"}
    for beyond, label in drawn.items():
        expected = [[b.confidence, b.accuracy] for b in diagram().bins if b.beyond_noise == beyond]
        assert expected
        assert np.array_equal(points(figure, label), expected)
    before = [[b.confidence, b.accuracy] for b in diagram().before]
    assert np.array_equal(points(figure, "baseline"), before)
    (bars,) = figure.axes[0].containers
    segments = np.array(bars.lines[2][0].get_segments())
    ends = [[[b.confidence, b.low], [b.confidence, b.high]] for b in diagram().bins]
    assert segments == pytest.approx(np.array(ends))


def test_filled_points_are_told_from_open_ones() -> None:
    """By more than colour: by the filling."""
    figure = figure_of(diagram())
    faces = {one.get_label(): one.get_markerfacecolor() for one in figure.axes[0].lines}
    assert faces["accuracy, within noise"] == "white" != faces["accuracy, beyond noise"]


def test_the_band_is_where_noise_puts_a_calibrated_model() -> None:
    """One box per bin, over its width."""
    axes = figure_of(diagram()).axes[0]
    boxes = [path.get_extents() for c in axes.collections[: len(diagram().bins)] for path in
             c.get_paths()]  # fmt: skip
    for box, b in zip(boxes, diagram().bins, strict=True):
        assert (box.x0, box.x1) == pytest.approx((b.lower, b.upper))
        assert (box.y0, box.y1) == pytest.approx((b.calibrated_low, b.calibrated_high))


def test_bars_count_right_and_wrong() -> None:
    """Wrong answers stand on the right ones."""
    right, wrong = figure_of(diagram()).axes[1].containers
    for a, b, bar in zip(right, wrong, diagram().histogram, strict=True):
        assert (a.get_height(), b.get_height()) == (bar.right, bar.wrong)
        assert b.get_y() == bar.right
        assert (a.get_x(), a.get_width()) == pytest.approx((bar.lower, bar.upper - bar.lower))


def test_counts_stand_at_their_bins() -> None:
    """Unless there are so many bins that they would run into each other."""
    texts = {t.get_text() for t in figure_of(diagram()).axes[0].texts}
    assert texts == {f"{b.n:,}" for b in diagram().bins}
    many = replace(diagram(), bins=reliability(predictions(), 40))
    assert not figure_of(many).axes[0].texts


def test_the_two_axes_are_aligned() -> None:
    """A bar stands below its bin, however long the title is."""
    for title in ("short", "long\nlong"):
        figure = figure_of(replace(diagram(), title=title))
        figure.draw_without_rendering()
        above, below = (axes.get_position() for axes in figure.axes)
        assert (above.x0, above.x1) == pytest.approx((below.x0, below.x1))


@pytest.mark.parametrize("n", [1, 2])
def test_few_items_are_drawn(n: int) -> None:
    """One item is a picture too."""
    p = predictions(n=n, groups=False)
    made = result_of(replace(judge(measure(p), 0.5), candidate=p))
    assert diagram_of(made).caption.endswith(f"\nn = {n} item{'s' * (n > 1)}")
    assert picture(diagram_of(made), ".png")


# --- files ---------------------------------------------------------------------------------------


def png_size(content: bytes) -> tuple[int, int]:
    """Check a PNG file, and return its width and height."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    at, size, data = 8, (0, 0), b""
    while at < len(content):
        length = int.from_bytes(content[at : at + 4])
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + body) == int.from_bytes(content[at + 8 + length :][:4])
        if kind == b"IHDR":
            size = int.from_bytes(body[:4]), int.from_bytes(body[4:8])
        data += body if kind == b"IDAT" else b""
        assert kind not in (b"tEXt", b"iTXt", b"tIME")
        at += 12 + length
    assert zlib.decompress(data)
    return size


def test_a_picture_is_written_by_its_ending(tmp_path: Path) -> None:
    """PNG or SVG, whole; the numbers come back."""
    for name in ("a.png", "a.PNG", "a.svg"):
        assert plot(result(), tmp_path / name) == diagram()
    assert png_size((tmp_path / "a.png").read_bytes()) == (810, 1185)
    assert (tmp_path / "a.PNG").read_bytes() == (tmp_path / "a.png").read_bytes()
    svg = (tmp_path / "a.svg").read_bytes()
    assert {"support-mcq on sft", "confidence", "accuracy", "items", "right", "wrong"} <= set(
        words_of(svg)
    )
    assert ElementTree.fromstring(svg).findtext(f"{SVG}title") == "support-mcq on sft"


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_same_diagram_gives_the_same_bytes(suffix: str) -> None:
    """No date, no version, no random name."""
    first = picture(diagram(), suffix)
    assert picture(diagram(), suffix) == first
    assert matplotlib.__version__.encode() not in first
    again = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.path[:0] = sys.argv[1:]; import test_plots, zlib\n"
            f"print(zlib.crc32(test_plots.picture(test_plots.diagram(), {suffix!r})))",
            *(str(path) for path in (Path(__file__).parent, Path(__file__).parent.parent)),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(again.stdout) == zlib.crc32(first)


def test_hostile_text_is_drawn_as_text() -> None:
    """No formula, no markup, no control character; a sign that the font lacks stops nothing."""
    for name in (
        HOSTILE[:40],
        "$x$ \\frac{a}{b} $y_2$",
        "<b>&amp;</b>",
        "模型 \U0001f600",
        "\x1b\x00",
    ):
        made = diagram_of(replace(result(), model=name, reference=f"parent {name}"))
        svg = picture(made, ".svg")
        assert f"on {visible(name)}" in " ".join(words_of(svg))
        assert f"parent {visible(name)}" in words_of(svg)
        assert b"<script" not in svg
        assert png_size(picture(made, ".png")) == (810, 1185)


def test_settings_of_a_project_change_nothing() -> None:
    """Nor are they changed."""
    expected = picture(diagram(), ".svg")
    with matplotlib.rc_context({"font.size": 30, "text.color": "red", "axes.grid": True}):
        given = dict(matplotlib.rcParams)
        assert picture(diagram(), ".svg") == expected
        assert dict(matplotlib.rcParams) == given


def test_no_window_and_no_state_is_touched() -> None:
    """Drawing loads no pyplot, and importing the module no matplotlib."""
    code = (
        "import sys; import pytest_calibration.reports.plots as p\n"
        "print('matplotlib' in sys.modules)\n"
        "p.picture(p.Diagram('a', 'b', (), (), (), ''), '.png')\n"
        "print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "True", "False"]


def test_another_ending_is_an_error(tmp_path: Path) -> None:
    """It is named with those there are, and nothing is written."""
    with pytest.raises(UsageError, match=r"a\.pdf: a picture ends in \.png or \.svg; name such"):
        plot(result(), tmp_path / "a.pdf")
    with pytest.raises(UsageError, match="a picture ends in"):
        next(plots_of(session(result()), tmp_path / "a"))
    assert not list(tmp_path.iterdir())


def test_matplotlib_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (lambda: figure_of(diagram()), lambda: picture(diagram(), ".png")):
        with pytest.raises(MissingExtra) as caught:
            draw()
        assert str(caught.value) == (
            "Pictures need matplotlib: pip install 'pytest-calibration[plots]'."
        )


# --- one per verdict -----------------------------------------------------------------------------


def names(made: Results, path: Path = Path("out/report.svg")) -> list[str]:
    """Return the names of the pictures of a session."""
    found = [file for file, _ in plots_of(made, path)]
    assert {file.parent for file in found} <= {path.parent}
    return [file.name for file in found]


def test_each_verdict_has_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by probe and model, numbered where these are not enough; equal ones share one."""
    monkeypatch.setattr("pytest_calibration.reports.plots.picture", lambda *_: b"")
    other = replace(result(), reference="parent base")
    assert names(session(result(), result(), other)) == [
        "report-support-mcq-sft.svg",
        "report-support-mcq-sft-2.svg",
    ]
    assert names(session(replace(result(), model=""))) == ["report-support-mcq.svg"]
    assert names(session(replace(result(), detail=None))) == []
    mixed = [replace(result(), model=name) for name in ("SFT", "sft", "Sft-2")]
    assert names(session(*mixed)) == [
        "report-support-mcq-SFT.svg",
        "report-support-mcq-sft-2.svg",
        "report-support-mcq-Sft-2-2.svg",
    ]


def test_names_of_files_are_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of models may hold anything; no file leaves its folder."""
    monkeypatch.setattr("pytest_calibration.reports.plots.picture", lambda *_: b"")
    bad: list[Any] = ["../../x", "a/b", "C:\\x", HOSTILE, "\0", "x" * 500]
    found = names(session(*[replace(result(), model=m, probe=m) for m in bad]), Path("o/r.PNG"))
    assert len({*found}) == len(bad)
    for name in found:
        assert name.endswith(".PNG")
        assert len(name) < 255
        assert not set(name) & set('/\\:\0<>|"?*\r\n')


def test_a_session_of_every_state_is_drawn() -> None:
    """The content is that of each picture alone."""
    made = results()
    found = list(plots_of(made, Path("r.svg")))
    drawn = {diagram_of(r) for r in made.results if r.detail is not None}
    assert len(found) == len(drawn) == len({file for file, _ in found})
    assert {content for _, content in found} == {picture(d, ".svg") for d in drawn}
