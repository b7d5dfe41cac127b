"""Pictures of verdicts as PNG and SVG files."""

from __future__ import annotations

import subprocess
import sys
import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from samples import HOSTILE, predictions, results

from pytest_calibration.errors import MetricError, MissingExtra, UsageError
from pytest_calibration.gate.verdict import compare, judge
from pytest_calibration.measurement import measure
from pytest_calibration.reports.model import Result, Results, result_of
from pytest_calibration.reports.plots import diagram_of, picture, plots_of
from pytest_calibration.reports.reliability_display import Diagram
from pytest_calibration.text.visible import visible
from pytest_calibration.uncertainty.reliability import confidence_histogram, reliability

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


# --- numbers -------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_result() -> None:
    """Bins of both sides and the histogram are those of the predictions."""
    hot, base = predictions(sharpen=2.5), predictions()
    assert diagram().bins == reliability(hot)
    assert diagram().baseline_bins == reliability(base)
    assert diagram().histogram == confidence_histogram(hot)
    m = measure(hot)
    assert diagram().title == "support-mcq on sft"
    assert diagram().caption == (
        f"ECE (15 equal-width bins) {m.value:.3f} [{m.low:.3f}, {m.high:.3f}], "
        f"noise floor {m.noise_floor:.3f}\nn = 600 items in 200 groups"
    )
    assert diagram().baseline_name == "baseline"


def test_a_limit_has_no_baseline() -> None:
    """Without a baseline its bins are empty; a metric that is no error has no noise floor."""
    p = predictions(groups=False)
    made = diagram_of(
        result_of(replace(judge(measure(p, "accuracy"), 0.1, above=True), candidate=p))
    )
    assert (made.baseline_bins, made.baseline_name) == ((), "")
    assert made.caption.startswith("accuracy 0.618 [")
    assert "noise floor" not in made.caption
    assert made.caption.endswith("\nn = 600 items")


def test_a_result_without_bins_is_an_error() -> None:
    """The message names the verdict and says what to do."""
    bare = replace(result(), detail=None, probe="p\x1b")
    with pytest.raises(MetricError, match=r"^p\\x1b on sft: there are no bins to draw; make .*\.$"):
        diagram_of(bare)


def test_long_names_take_two_lines() -> None:
    """Names are escaped, and cut in the middle."""
    made = diagram_of(replace(result(), model="m" * 100 + "\x1b"))
    first, second = made.title.split("\n")
    assert first == "support-mcq"
    assert second.startswith("on mmmm")
    assert second.endswith("m\\x1b")
    assert len(second) < 60
    assert diagram_of(replace(result(), model="")).title == "support-mcq"


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2])
def test_few_items_are_drawn(n: int) -> None:
    """Pictures of one and of two items."""
    p = predictions(n=n, groups=False)
    made = result_of(replace(judge(measure(p), 0.5), candidate=p))
    assert diagram_of(made).caption.endswith(f"\nn = {n} item{'s' * (n > 1)}")
    assert picture(diagram_of(made), ".png")


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


def test_a_picture_is_a_png_or_an_svg() -> None:
    """By its suffix; the text of an SVG is text, and its title that of the diagram."""
    assert png_size(picture(diagram(), ".png")) == (810, 1185)
    svg = picture(diagram(), ".svg")
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
    """No formula, markup or control character; a character that the font lacks is no error."""
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
    """Pictures use their own settings, and leave those of the project as they are."""
    expected = picture(diagram(), ".svg")
    with matplotlib.rc_context({"font.size": 30, "text.color": "red", "axes.grid": True}):
        settings = dict(matplotlib.rcParams)
        assert picture(diagram(), ".svg") == expected
        assert dict(matplotlib.rcParams) == settings


def test_a_picture_needs_no_pyplot() -> None:
    """Drawing a picture loads no pyplot, and importing the module no matplotlib."""
    code = (
        "import sys; import pytest_calibration.reports.plots as p\n"
        "print('matplotlib' in sys.modules)\n"
        "p.picture(p.Diagram('a', 'b', (), (), (), ''), '.png')\n"
        "print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "True", "False"]


def test_another_ending_is_an_error(tmp_path: Path) -> None:
    """The error names the two endings, and nothing is written."""
    with pytest.raises(UsageError, match=r"a\.pdf: a picture ends in \.png or \.svg; name such"):
        next(plots_of(session(result()), tmp_path / "a.pdf"))
    assert not list(tmp_path.iterdir())


def test_matplotlib_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"^Pictures need matplotlib: pip install "):
        picture(diagram(), ".png")


# --- one per verdict -----------------------------------------------------------------------------


def names(made: Results, path: Path = Path("out/report.svg")) -> list[str]:
    """Return the names of the pictures of a session."""
    files = [file for file, _ in plots_of(made, path)]
    assert {file.parent for file in files} <= {path.parent}
    return [file.name for file in files]


def test_each_verdict_has_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by probe and model, numbered where these repeat; equal diagrams share one."""
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
    """Whatever the names of models, no file leaves its folder."""
    monkeypatch.setattr("pytest_calibration.reports.plots.picture", lambda *_: b"")
    bad: list[Any] = ["../../x", "a/b", "C:\\x", HOSTILE, "\0", "x" * 500]
    files = names(session(*[replace(result(), model=m, probe=m) for m in bad]), Path("o/r.PNG"))
    assert len({*files}) == len(bad)
    for name in files:
        assert name.endswith(".PNG")
        assert len(name) < 255
        assert not set(name) & set('/\\:\0<>|"?*\r\n')


def test_a_session_of_every_state_is_drawn() -> None:
    """Every verdict with bins has a picture, with the content of its diagram."""
    made = results()
    pictures = list(plots_of(made, Path("r.svg")))
    drawn = {diagram_of(r) for r in made.results if r.detail is not None}
    assert len(pictures) == len(drawn) == len({file for file, _ in pictures})
    assert {content for _, content in pictures} == {picture(d, ".svg") for d in drawn}
