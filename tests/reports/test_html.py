"""The page for a browser: safe, whole, and drawn where the numbers say."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from markupsafe import Markup
from samples import HOSTILE, everywhere, predictions, results, turned, verdicts

from pytest_calibration.diagnosis.slices import SliceMeasurement, SliceShift
from pytest_calibration.gate.verdict import Past, compare
from pytest_calibration.predictions.item_text import ItemText
from pytest_calibration.reports.html import formats, html_report
from pytest_calibration.reports.html.drawing import Scale, span, ticks
from pytest_calibration.reports.html.drift_charts import Point, drifts
from pytest_calibration.reports.html.rendering import (
    FEWEST_ITEMS,
    FEWEST_SLICES,
    source,
    templates,
)
from pytest_calibration.reports.model import (
    ComponentRow,
    Item,
    Remedy,
    Result,
    Results,
    SliceRow,
    result_of,
)
from pytest_calibration.text.numbers import counted
from pytest_calibration.text.visible import visible
from pytest_calibration.uncertainty.reliability import ConfidenceBar, ReliabilityBin

VOID = frozenset({"br", "input", "meta"})
# All that the page is made of: nothing that loads, frames, submits or embeds.
ELEMENTS = (
    "html head meta title style body script header nav main section article footer a h1 h2 h3 h4 p "
    "div span ul ol li dl dt dd b small bdi time code pre table caption thead tbody tr th td "
    "details summary figure figcaption label input select option button output "
    "svg desc defs pattern g path line circle rect text"
)


@dataclass
class Node:
    """One element of a parsed page."""

    name: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    children: list[Node | str] = field(default_factory=list)

    def all(self, name: str = "", **attributes: str) -> list[Node]:
        """Return the elements within that have this name and these attributes."""
        wanted = {k.rstrip("_").replace("_", "-"): v for k, v in attributes.items()}
        return [n for n in self.walk() if name in ("", n.name) and n.has(wanted)]

    def one(self, name: str = "", **attributes: str) -> Node:
        """Return the only one of these elements."""
        (found,) = self.all(name, **attributes)
        return found

    def has(self, attributes: dict[str, str]) -> bool:
        """Whether it has these attributes, and these words among its classes."""
        classes = set((self.attributes.get("class") or "").split())
        return all(
            set(v.split()) <= classes if k == "class" else self.attributes.get(k) == v
            for k, v in attributes.items()
        )

    def walk(self) -> Iterator[Node]:
        """Yield all elements within, in order."""
        for child in self.elements:
            yield child
            yield from child.walk()

    @property
    def elements(self) -> list[Node]:
        """The elements directly within."""
        return [child for child in self.children if isinstance(child, Node)]

    @property
    def text(self) -> str:
        """All text within."""
        return "".join(c if isinstance(c, str) else c.text for c in self.children)

    @property
    def words(self) -> str:
        """All text within, each run of blanks as one."""
        return " ".join(self.text.split())

    def rows(self, key: str) -> list[list[Node]]:
        """Return the cells of each row of the table with this id."""
        return [row.elements for row in self.one("table", id=key).one("tbody").elements]

    def number(self, attribute: str) -> float:
        """Return a coordinate."""
        return float(self.attributes[attribute] or "")


class Reader(HTMLParser):
    """Builds the tree of a page, and takes nothing that a browser would have to guess."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("#page")
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element."""
        assert len({k for k, _ in attrs}) == len(attrs), f"<{tag}> has an attribute twice"
        node = Node(tag, dict(attrs))
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take an element that closes itself."""
        assert tag in {"circle", "line", "path", "rect"}, f"<{tag}/> does not close itself"
        self.open[-1].children.append(Node(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Close an element."""
        assert self.open[-1].name == tag, f"</{tag}> closes <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        """Take text."""
        self.open[-1].children.append(data)

    def handle_comment(self, data: str) -> None:
        """Refuse a comment, which text must not become."""
        raise AssertionError(f"a comment: {data}")


def read(source: str) -> Node:
    """Parse a page or a piece of one."""
    reader = Reader()
    reader.feed(source)
    reader.close()
    assert reader.open == [reader.root], f"<{reader.open[-1].name}> is never closed"
    return reader.root


session = cache(results)


def html_of(results: Results) -> str:
    """Return the page of a session."""
    return "".join(html_report(results))


def of(*results: Result, **more: Any) -> Results:
    """Return a session of these verdicts."""
    made: dict[str, Any] = {"tests": len(results), "finished": True, **more}
    return Results(version="0.1.0", created="2026-01-02T03:04:05Z", results=results, **made)


def page_of(*results: Result, **more: Any) -> Node:
    """Return the page of a session of these verdicts."""
    return read(html_of(of(*results, **more)))


@cache
def regressed() -> Result:
    """Return a verdict that fails, with friendly text."""
    base = predictions(hostile=False)
    hot = predictions(sharpen=2.5, model="sft", hostile=False)
    return result_of(compare(hot, base), item_text=True, test="tests/test_a.py::test_b")


@cache
def passed() -> Result:
    """Return a verdict that passes."""
    base = predictions(hostile=False)
    return result_of(compare(base, base), item_text=True)


def bare(result: Result) -> Result:
    """Return a verdict without its measurements."""
    return replace(result, detail=None)


def detailed(result: Result, **more: Any) -> Result:
    """Return a verdict whose measurements differ in these."""
    assert result.detail is not None
    return replace(result, detail=replace(result.detail, **more))


SESSIONS = {
    "all states": session,
    "no item text": lambda: session(item_text=False),
    "no details": lambda: session(detailed=False),
    "one": lambda: of(regressed()),
    "no baseline": lambda: of(session().results[-1]),
    "nothing": of,
    "only an error": lambda: of(errors=("no model: pass --calibration-model",)),
    "without slices or items": lambda: of(
        detailed(regressed(), slices=(), worst=(), diagnosis=None)
    ),
    "hostile names": lambda: everywhere(HOSTILE, session()),
}
every_session = pytest.mark.parametrize("kind", SESSIONS)


@cache
def source_of(kind: str) -> str:
    """Return the page of one of the sessions."""
    return html_of(SESSIONS[kind]())


@cache
def tree_of(kind: str) -> Node:
    """Return that page, parsed."""
    return read(source_of(kind))


def page() -> Node:
    """Return the page of all states, parsed."""
    return tree_of("all states")


# --- safe ----------------------------------------------------------------------------------------


@every_session
def test_the_page_is_well_formed(kind: str) -> None:
    """Every element that opens closes, in order, and none has an attribute twice."""
    assert [n.name for n in tree_of(kind).all()[:2]] == ["html", "head"]


@every_session
def test_the_page_holds_only_known_elements(kind: str) -> None:
    """No text makes an element, and none of ours loads or runs what is not in the file."""
    nodes = tree_of(kind).all()
    assert {n.name for n in nodes} <= set(ELEMENTS.split())
    assert sum(n.name == "script" for n in nodes) == 1
    for node in nodes:
        for key, value in node.attributes.items():
            assert not key.startswith("on"), f"<{node.name} {key}>"
            assert key not in {"src", "srcset", "style", "action", "formaction", "xlink:href"}
            assert key != "href" or (value or "").startswith("#")


@every_session
def test_every_link_and_reference_leads_somewhere(kind: str) -> None:
    """Ids are generated and unique, and whatever names one finds it."""
    nodes = tree_of(kind).all()
    ids = [n.attributes["id"] or "" for n in nodes if "id" in n.attributes]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z0-9-]+", one) for one in ids)
    for node in nodes:
        for key in ("aria-labelledby", "aria-describedby", "href"):
            for one in (node.attributes.get(key) or "").split():
                assert one.removeprefix("#") in ids


@every_session
def test_the_policy_allows_this_style_and_this_script_alone(kind: str) -> None:
    """The content security policy names the digests of what stands in the file."""
    tree = tree_of(kind)

    def digest(name: str) -> str:
        hashed = hashlib.sha256(tree.one(name).text.encode()).digest()
        return f"'sha256-{base64.b64encode(hashed).decode()}'"

    meta = tree.one("meta", http_equiv="Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in (meta.attributes["content"] or "").split("; "))
    assert rules == {
        "default-src": "'none'",
        "style-src": digest("style"),
        "script-src": digest("script"),
        "base-uri": "'none'",
        "form-action": "'none'",
    }


@every_session
def test_nothing_that_a_reader_cannot_see_reaches_the_page(kind: str) -> None:
    """Control and bidirectional characters are written as escapes; only line breaks stay."""
    invisible = {c for c in source_of(kind) if visible(c, keep_breaks=True) != c}
    assert invisible == set()


def test_hostile_text_shows_as_text() -> None:
    """What an item, a model, a slice or an error says stands on the page as it is."""
    shown = visible(HOSTILE)
    body = page().one("body")
    for holder in (
        body.one("div", class_="message bad"),
        body.all("p", class_="prompt")[0],
        body.all("span", class_="option")[0],
    ):
        # A prompt keeps its line breaks.
        assert shown in holder.text.replace("\n", "\\n").replace("\t", "\\t")
    assert any(visible(HOSTILE, 120)[:50] in h.text for h in body.all("h3"))


def test_half_a_character_can_be_written() -> None:
    """A lone surrogate, which UTF-8 has no bytes for, shows as its escape."""
    source = html_of(of(replace(bare(passed()), model="a\ud800b")))
    assert "a\\ud800b" in source
    source.encode("utf-8")


@given(st.text(), st.text(), st.text())
def test_any_text_is_printed_as_text(content: str, value: str, more: str) -> None:
    """A parser reads the visible form of what an expression of a template printed."""
    template = templates().from_string('<p title="{{ a }}">{{ b }}<b>{{ c }}</b></p>')
    node = read(template.render(a=value, b=content, c=more)).one("p")
    a, b, c = (t if t.isprintable() else visible(t) for t in (value, content, more))
    assert node.text == b + c
    assert node.attributes == {"title": a}


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ("'<b>'", "&lt;b&gt;"),
        ("markup", "<i></i>"),
        ("text|prose(9)", "a\nb\\x00"),
        ("12", "12"),
    ],
)
def test_only_markup_is_not_escaped(expression: str, shown: str) -> None:
    """A plain string is escaped wherever it is printed; markup is taken as it is."""
    template = templates().from_string(f"{{{{ {expression} }}}}")
    assert template.render(markup=Markup("<i></i>"), text="a\nb\x00") == shown


@pytest.mark.parametrize("value", [0.25, None, True, [1]])
def test_a_template_prints_no_value_by_accident(value: Any) -> None:
    """A float without a format and a missing value are errors, as is a misspelt name."""
    with pytest.raises(TypeError, match="it needs a filter"):
        templates().from_string("{{ value }}").render(value=value)
    with pytest.raises(UndefinedError):
        templates().from_string("{{ valeu }}").render(value=value)


def test_no_template_takes_text_for_markup() -> None:
    """Each compiles, and none switches the escaping off."""
    names = templates().list_templates(extensions=["jinja"])
    assert len(names) > 10
    for name in names:
        templates().get_template(name)
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", source(templates(), name))


def test_what_is_packaged_reaches_for_nothing() -> None:
    """Style and script name no address, and the script has no way to make markup or keep a note."""
    style, script = (source(templates(), name) for name in ("style.css", "script.js"))
    assert re.findall(r"url\(([^)]*)\)", style) == ['"#stripes"']
    for word in ("http", "//cdn", "@import", "@font-face", "</", "<!--"):
        assert word not in style
    makes_markup = ("innerHTML", "outerHTML", "insertAdjacent", "document.write")
    reaches = ("http", "import", "fetch", "XMLHttp", "eval", "Function(", "Storage", "cookie")
    for word in (*makes_markup, *reaches, "</", "<!--"):
        assert word not in script


# --- whole ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "more", "headline", "outcome"),
    [
        ("regressed passed", {}, "1 of 2 comparisons failed", "bad"),
        ("regressed", {}, "1 of 1 comparison failed", "bad"),
        ("passed passed", {}, "All 2 comparisons passed", "good"),
        ("passed", {}, "The comparison passed", "good"),
        ("passed", {"errors": ("x", "y")}, "1 comparison, none failed, but 2 errors", "bad"),
        ("passed", {"finished": False}, "1 comparison, none failed, but not every test was run",
         "bad"),
        ("passed undecided", {}, "2 comparisons, none failed; 1 undecided", "doubt"),
        ("refused", {}, "1 of 1 comparison failed", "bad"),
        ("", {}, "No comparison was made", "doubt"),
        ("", {"errors": ("x",)}, "No comparison was made, but 1 error", "bad"),
    ],
)  # fmt: skip
def test_the_headline_says_what_came_out(
    kinds: str, more: dict[str, Any], headline: str, outcome: str
) -> None:
    """Green only where the session is; the title of the page says the same."""
    of_kind = {
        "regressed": regressed(),
        "passed": passed(),
        "undecided": replace(passed(), state="inconclusive"),
        "refused": replace(passed(), state="inconclusive", fails=True),
    }
    results = of(*(bare(of_kind[kind]) for kind in kinds.split()), **more)
    tree = read(html_of(results))
    sign = {"good": "✓", "bad": "✗", "doubt": "?"}[outcome]
    assert tree.one("h1", class_=outcome).text == sign + headline
    assert tree.all("title")[0].text == f"{headline} – calibration report"
    assert (outcome == "bad") == (not results.green)


def test_the_summary_counts_every_state() -> None:
    """The states stand in the words and numbers of the results, as do alarms and remarks."""
    summary = page().one("section", id="summary")
    counts = [re.split(r"(?<=\d) ", li.text) for li in summary.all("li", class_="count")]
    assert [c[-1] for c in counts] == [*session().counts]
    assert [li.one("b").text for li in summary.all("li", class_="count")] == [
        str(n) for n in session().counts.values()
    ]
    alarms = session().expected_false_alarms
    assert alarms is not None
    (line,) = [li.text for li in summary.all("li") if "false alarms" in li.text]
    shown = re.search(r"at most (\d\.\d{3}) in (\d+)", line)
    assert shown is not None
    # An upper bound may only be rounded up.
    assert alarms <= float(shown[1]) < alarms + 0.001
    assert int(shown[2]) == sum(r.false_alarm_rate is not None for r in session().results)
    assert "2 baselines written." in summary.text


def test_every_verdict_has_a_row_and_a_section() -> None:
    """As the sections stand, what fails first; with links to them, sorting by true numbers."""
    rows = page().rows("all")
    heads = [th.text for th in page().one("table", id="all").one("thead").all("th")]
    numbers = [
        int(row.attributes["data-verdict"])
        for row in page().one("table", id="all").one("tbody").all("tr")
    ]
    signs = [
        "bad" if r.fails else "good" if r.state == "passed" else "doubt" for r in session().results
    ]
    order = sorted(range(len(signs)), key=lambda i: ["bad", "doubt", "good"].index(signs[i]))
    assert numbers == [i + 1 for i in order]
    assert [article.attributes["id"] for article in page().all("article")] == [
        f"v{i}" for i in numbers
    ]
    for i, row in zip(numbers, rows, strict=True):
        r = session().results[i - 1]
        cells = dict(zip(heads, row, strict=True))
        section = page().one("article", id=f"v{i}")
        assert cells["probe"].one("a").attributes["href"] == f"#v{i}"
        assert cells["probe"].text == r.probe
        assert r.state_name in cells["state"].text
        assert section.one("h3").text.startswith(r.probe)
        assert r.state_name in section.one("header").one("span", class_="pill").text
        assert cells["value"].number("data-key") == r.number.value
        assert cells["accuracy"].number("data-key") == r.accuracy
        assert cells["value"].text.startswith(f"{r.number.value:.3f}")
        assert int(cells["n"].number("data-key")) == r.n
        against = r.limit if r.limit is not None else r.baseline and r.baseline.value
        assert cells["reference"].attributes.get("data-key") == (against and repr(against))
        for name in r.fired:
            assert name in cells["state"].text


def test_rows_carry_what_filters_look_for() -> None:
    """Equal states, models and probes have equal numbers, those of the options to choose from."""
    summary = page().one("section", id="summary")
    rows = summary.one("table", id="all").one("tbody").all("tr")
    shown = [session().results[int(row.attributes["data-verdict"] or 0) - 1] for row in rows]
    for what, values in (
        ("state", [r.state_name for r in shown]),
        ("model", [r.model for r in shown]),
        ("probe", [r.probe for r in shown]),
    ):
        options = summary.one("select", data_filter=what).all("option")
        named = {o.attributes["value"]: o.text for o in options}
        assert named.pop("") == f"all {what}s"
        assert [named[row.attributes[f"data-{what}"]] for row in rows] == [
            visible(v, 60) for v in values
        ]


@every_session
def test_tables_are_tables(kind: str) -> None:
    """A caption, a scope for every head, a cell for every column, a named frame that scrolls."""
    tree = tree_of(kind)
    frames = [n for n in tree.all("div", class_="scroll") if n.attributes.get("role") == "group"]
    assert len(frames) == len(tree.all("table"))
    for table in tree.all("table"):
        assert table.one("caption").text
        heads = table.one("thead").all("th")
        assert all(h.attributes["scope"] == "col" and h.text for h in heads)
        for row in table.one("tbody").all("tr"):
            cells = row.elements
            assert len(cells) == len(heads)
            assert all(c.attributes["scope"] == "row" for c in cells if c.name == "th")


@every_session
def test_numbers_sort_as_numbers(kind: str) -> None:
    """In a table that sorts, each cell of a number has a number to sort by, or shows none."""
    for table in tree_of(kind).all("table"):
        if "data-sortable" not in table.attributes:
            assert not [h for h in table.all("th") if "data-sort" in h.attributes]
            continue
        heads = table.one("thead").all("th")
        assert {h.attributes.get("data-sort") for h in heads} <= {"text", "number", None}
        for row in table.one("tbody").all("tr"):
            cells = row.elements
            for head, cell in zip(heads, cells, strict=True):
                if head.attributes.get("data-sort") == "number" and cell.text.strip("–"):
                    float(cell.attributes["data-key"] or "")


@every_session
def test_drawings_have_a_name_or_stand_beside_their_numbers(kind: str) -> None:
    """Each drawing is named and described, or hidden from who cannot see it."""
    for svg in tree_of(kind).all("svg"):
        if svg.attributes.get("aria-hidden") == "true":
            continue
        assert svg.attributes["role"] == "img"
        title, description = svg.elements[:2]
        assert (title.name, description.name) == ("title", "desc")
        assert title.text
        assert description.text
        names = f"{title.attributes['id']} {description.attributes['id']}"
        assert svg.attributes["aria-labelledby"] == names


@every_session
def test_the_page_has_landmarks_and_one_heading_of_the_first_rank(kind: str) -> None:
    """Banner, navigation, main and footer, and no heading that skips a rank."""
    tree = tree_of(kind)
    for name in ("main", "nav", "footer", "h1"):
        tree.one(name)
    ranks = [int(n.name[1]) for n in tree.all() if re.fullmatch(r"h\d", n.name)]
    assert ranks[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(ranks))


def test_equal_results_make_equal_pages() -> None:
    """The page depends on the results alone."""
    assert html_of(results()) == source_of("all states")


def test_without_scripts_nothing_is_closed_but_what_opens_by_itself() -> None:
    """The details of every verdict are open in the file as it is written."""
    for place, r in enumerate(session().results, start=1):
        fold = page().one("article", id=f"v{place}").one("details", class_="figures")
        assert "open" in fold.attributes
        assert ("data-fold" in fold.attributes) == (not r.fails)
    assert "hidden" in page().one("div", class_="filters").attributes
    # What only a script can do is made by the script.
    assert [b.attributes["id"] for b in page().all("button")] == ["clear"]


def test_a_large_session_stays_small() -> None:
    """Fifty verdicts with all their details make a page of a few megabytes."""
    slices = tuple(some_slice(i) for i in range(200))
    assert len(html_of(of(*[detailed(regressed(), slices=slices)] * 50))) < 5e6


def test_what_fails_comes_first() -> None:
    """Sections: what fails, what is undecided, what passed; each in the order of the summary."""
    assert [a.attributes["id"] for a in page().all("article")] == [
        *("v2", "v5", "v6", "v7", "v8"),
        "v4",
        *("v1", "v3"),
    ]


def test_the_page_comes_in_pieces() -> None:
    """A report of many verdicts is not one string in memory."""
    pieces = [*html_report(session())]
    assert max(map(len, pieces)) < sum(map(len, pieces)) / 10


# --- one verdict ---------------------------------------------------------------------------------


def test_the_diagnosis_stands_on_top() -> None:
    """In words first, before any table; its figures can be opened, none left out."""
    diagnosis = regressed().diagnosis
    assert diagnosis is not None
    section = page_of(regressed()).one("article")
    assert section.one("p", class_="lead").text == diagnosis.paragraph
    names = [n.name for n in section.all()]
    classes = [n.attributes.get("class") for n in section.all()]
    assert classes.index("lead") < names.index("table")
    figures = section.one("details", id="v1-why").text
    for line in diagnosis.lines():
        for word in line.split():
            assert word in figures


def test_of_a_model_that_is_not_accurate_enough_there_is_no_diagnosis() -> None:
    """A limit from below is about accuracy, which the diagnosis is not."""
    section = page_of(replace(regressed(), above=True)).one("article")
    assert section.all("p", class_="lead") == []
    assert section.all("details", id="v1-why") == []


def test_what_decided_stands_above_the_figures() -> None:
    """The reason, else the first finding, else the headline; nothing beside a good diagnosis."""
    r = bare(replace(regressed(), reason="nothing is stored at a.yaml.", components=()))
    assert page_of(r).one("p", class_="headline").text == r.reason
    r = replace(r, reason="")
    assert page_of(r).one("p", class_="headline").text == regressed().findings[0]
    assert page_of(replace(r, findings=())).one("p", class_="headline").text == r.headline
    assert page_of(passed()).all("p", class_="headline") == []


def test_the_verdict_stands_there_as_text() -> None:
    """Headline and explanation, line by line."""
    section = page_of(regressed()).one("article")
    assert section.one("pre").text.splitlines() == [
        regressed().headline,
        *(f"  {line}" for line in regressed().explanation),
    ]


def test_components_say_which_failed() -> None:
    """Before, after, worsening, bound and tolerance of each; the failing ones say so in words."""
    tree = page_of(regressed())
    marked = tree.one("table", id="v1-components").all("tr", class_="fired")
    assert [row.elements[0].one("b").text for row in marked] == ["✗ fails"] * len(marked)
    for c, cells in zip(regressed().components, tree.rows("v1-components"), strict=True):
        assert cells[0].text.startswith(c.name)
        assert ("fails" in cells[0].text) == c.fired
        if c.unavailable:
            assert c.unavailable in cells[0].text
            continue
        shown = [n.text.replace("−", "-") for n in cells[1:6]]
        values = (c.before, c.after, c.worsening, c.bound, c.tolerance)
        assert shown == [f"{v:z.3f}" for v in values if v is not None]


def test_a_bound_that_just_fails_looks_larger() -> None:
    """Numbers that decide are written with the digits that show it."""
    close = ComponentRow("slope", "", 0.0, 0.03, 0.03, 0.020004, 0.02, True, False, "")
    (cells,) = page_of(replace(regressed(), components=(close,))).rows("v1-components")
    assert [cell.text for cell in cells[4:6]] == ["0.020004", "0.020000"]


def test_the_command_stands_alone() -> None:
    """What is copied is the command, without the words before it."""
    remedy = Remedy("to accept it", "pytest a.py -k 'x y'")
    section = page_of(replace(bare(regressed()), remedy=remedy)).one("div", class_="remedy")
    assert section.one("p").text == "To accept it:"
    assert section.one("code").text == remedy.command
    assert page_of(bare(regressed())).all("code", class_="command") == []


def test_bins_and_bars_stand_in_tables() -> None:
    """Whoever does not see the diagram reads the same numbers, before and now."""
    detail = regressed().detail
    assert detail is not None
    assert detail.baseline is not None
    tree = page_of(regressed())
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in tree.rows("v1-bins")}
    edges = {(b.lower, b.upper) for s in (detail.candidate, detail.baseline) for b in s.reliability}
    assert len(rows) == len(edges)
    for b in detail.candidate.reliability:
        assert rows[f"{b.lower:.2f} – {b.upper:.2f}"][:5] == [
            f"{b.n:,}",
            f"{b.confidence:.3f}",
            f"{b.accuracy:.3f}[{b.low:.3f}, {b.high:.3f}]",
            f"[{b.calibrated_low:.3f}, {b.calibrated_high:.3f}]",
            "beyond noise" if b.beyond_noise else "within noise",
        ]
    bars = {row[0].text: [int(cell.text) for cell in row[1:]] for row in tree.rows("v1-bars")}
    correct, wrong, *before = map(sum, zip(*bars.values(), strict=True))
    assert correct == round(regressed().accuracy * regressed().n)
    assert correct + wrong == sum(before) == regressed().n
    for side, at in ((detail.candidate, 0), (detail.baseline, 2)):
        for b in side.histogram:
            if b.right + b.wrong:
                counts = bars[f"{b.lower:.2f} – {b.upper:.2f}"][at : at + 2]
                assert counts == [b.right, b.wrong]


def test_metrics_stand_beside_those_of_the_baseline() -> None:
    """Every metric with its interval, its floor, the baseline's and the change."""
    detail = regressed().detail
    assert detail is not None
    assert detail.baseline is not None
    rows = page_of(regressed()).rows("v1-metrics")
    for (name, m), cells in zip(detail.candidate.metrics.items(), rows, strict=True):
        before = detail.baseline.metrics[name]
        assert cells[0].text == m.label
        assert cells[1].number("data-key") == m.value
        assert cells[4].number("data-key") == before.value
        assert cells[6].number("data-key") == pytest.approx(m.value - before.value)
    alone = page_of(session().results[-1]).one("table", id="v1-metrics")
    assert len(alone.one("thead").all("th")) == 4


def some_slice(i: int, move: SliceShift | None = None) -> SliceRow:
    """Return a slice."""
    return SliceRow(
        SliceMeasurement(f"subject {i}", 50, 50, 5, 0.5, 0.6, 0.1, 0.0, 0.2, 0.1, 0.05, 0.08), move
    )


def test_slices_say_how_many_are_left_out() -> None:
    """In a large session fewer slices are shown, and how many are not is said."""
    slices = tuple(some_slice(i) for i in range(200))
    many = detailed(regressed(), slices=slices, slices_left_out=7)
    alone = page_of(many)
    assert len(alone.rows("v1-slices")) == 200
    assert "7 of 207 slices not shown." in alone.text
    section, _, _ = html_of(of(*[many] * 100)).split("<article")[9].partition("</art")
    crowd = read(f"<article{section}</article>").one("article", id="v9")
    assert len(crowd.rows("v9-slices")) == FEWEST_SLICES
    assert f"{207 - FEWEST_SLICES} of 207 slices not shown." in crowd.text
    assert len(crowd.one("ol", id="v9-items").elements) == FEWEST_ITEMS
    assert f"{20 - FEWEST_ITEMS} more not shown." in crowd.text


@pytest.mark.parametrize("item_text", [True, False])
def test_answers_that_turned_wrong_are_listed(item_text: bool) -> None:
    """Under how many turned, before the surest wrong answers; with text only where it may be."""
    base = predictions(hostile=False)
    made = result_of(
        compare(turned(predictions(sharpen=2, hostile=False)), base), item_text=item_text
    )
    assert made.detail is not None
    found = made.detail.turned
    assert found is not None
    section = page_of(made).one("article")
    heads = [head.text for head in section.all("h4")]
    at = heads.index(found.sentence)
    assert heads[at + 1] == "Wrong answers of the highest confidence"
    listed = section.one("ol", id="v1-turned").all("details")
    assert len(listed) == len(found.items) == 20
    for item, shown in zip(found.items, listed, strict=True):
        text = shown.one("summary").words
        assert text.startswith(item.title)
        assert text.endswith(", correct")
        assert bool(shown.all("p", class_="prompt")) == item_text
    assert f"{found.wrong - 20} more not shown." in section.text
    # None turned wrong: how many did, and no list.
    alike = page_of(result_of(compare(base, base))).one("article")
    assert "0 answers turned wrong, 0 turned right" in [head.text for head in alike.all("h4")]
    assert alike.all("ol", id="v1-turned") == []


def test_slices_show_shift_margin_and_change() -> None:
    """What moved says so in a word; what is too small to test has no q."""
    rows = (
        some_slice(1, SliceShift("subject 1", 50, 50, 0.7, 0.5, -0.05, 0.1, 0.15, 0.02, 0.04,
                                 p_value=0.0001, q_value=0.0001, change="worse")),
        some_slice(2, SliceShift("subject 2", 50, 50, 0.5, 0.5, 0.1, 0.1, 0.0, 0.02, 0.04,
                                 p_value=None, q_value=None, change="")),
        some_slice(3),
    )  # fmt: skip
    tree = page_of(detailed(regressed(), slices=rows))
    first, second, third = ([cell.text for cell in row] for row in tree.rows("v1-slices"))
    assert first[:4] == ["subject 1", "50", "0.500before 0.700", "+0.100before −0.050"]
    assert first[5:] == ["+0.150± 0.040", "<0.001", "worse", "0.100floor 0.050"]
    assert second[5:8] == ["+0.000± 0.040", "–", "–"]
    assert third[5:8] == ["–", "–", "–"]
    assert "1 changed (false discovery rate 5 %). 1 too small to test." in tree.words


def test_settings_that_differ_are_marked() -> None:
    """Both sides of every setting, those that must agree first, with a word where they differ."""
    rows = page_of(regressed()).rows("v1-settings")
    by_name = {name.text: [cell.text for cell in cells] for name, *cells in rows}
    assert by_name["shotsmust agree"] == ["3", "3", "="]
    assert by_name["modelshown only"] == ["sft", "base", "≠ differs"]
    assert by_name["itemsmeasured"] == ["600", "600", "="]


# --- items ---------------------------------------------------------------------------------------

ITEM = Item(
    id="00ff",
    name="row-17",
    group="passage-3",
    slice="city",
    confidence=0.98,
    correct=False,
    probabilities=(0.98, 0.0001, 0.0199),
    label=2,
    option_mass=0.4,
    confidence_before=0.41,
    correct_before=True,
    text=ItemText("Which river\nruns here?", "Ochre", "Teal", ("Teal", "Sable", "Ochre")),
)


def items(*shown: Item) -> Node:
    """Return the section of a verdict with these items."""
    return page_of(detailed(regressed(), worst=shown)).one("article")


def test_an_item_opens_to_its_words() -> None:
    """Closed it shows the confidence, open what was asked and answered."""
    node = items(ITEM).one("details", class_="item")
    assert [n.words for n in node.one("summary").elements] == [
        "row-17",
        "city",
        "confidence 0.980, wrong; before 0.410, correct",
    ]
    assert "open" not in node.attributes
    assert node.one("p", class_="prompt").text == "Which river\nruns here?"
    assert [li.words for li in node.one("ul", class_="options").all("li")] == [
        "A 0.980 Teal model's answer",
        "B <0.001 Sable",
        "C 0.020 Ochre ✓ correct",
    ]
    assert "passage-3" in node.one("dl").text
    assert "0.400" in node.one("dl").text


def test_the_bars_of_an_item_are_its_probabilities() -> None:
    """Each bar is as long as its probability, of a trough that stands for 1."""
    for value in (0.0, 0.25, 1.0):
        trough, filled = drawn("bar", value, "correct").all("rect")
        assert filled.number("width") == pytest.approx(value * trough.number("width"), abs=0.05)


def test_without_its_words_an_item_keeps_its_numbers() -> None:
    """No text, no answer and no option: the id, the letters and the probabilities."""
    node = items(replace(ITEM, text=None))
    assert not re.search("river|Teal|Sable|Ochre", node.text)
    assert [li.words for li in node.one("ul", class_="options").all("li")] == [
        "A 0.980 model's answer",
        "B <0.001",
        "C 0.020 ✓ correct",
    ]
    assert "not shown in this report" in node.text
    assert items(replace(ITEM, text=None, name="")).one("span", class_="title").text == "#00ff"


def test_no_item_text_is_on_a_page_without_it() -> None:
    """Where words are withheld nothing on the whole page holds them."""
    secret = "sesame"
    base = predictions(hostile=False)
    hot = predictions(sharpen=2.5, hostile=False)
    assert hot.texts is not None
    text_of = hot.texts.of
    hot = replace(
        hot,
        texts=replace(
            hot.texts,
            of=lambda i: replace(text_of(i), prompt=secret, gold=secret, answer=secret, options=()),
        ),
    )
    for shown in (True, False):
        result = result_of(compare(hot, base), item_text=shown)
        assert (secret in html_of(of(result))) == shown


def test_an_item_without_options_shows_answer_and_gold() -> None:
    """A free answer stands beside the right one."""
    free = replace(
        ITEM, probabilities=(), label=None, text=ItemText("Capital of X?", "Rome", "Oslo")
    )
    node = items(free)
    assert [d.text for d in node.one("dl", class_="answers").all("div")] == [
        "model's answerOslo",
        "correct answerRome",
    ]
    assert node.all("ul", class_="options") == []


def test_of_many_options_the_right_one_and_the_answer_are_kept() -> None:
    """However many there are, what was right and what was answered are among those shown."""
    options = tuple(f"option {i}" for i in range(60))
    share = tuple(0.5 if i == 41 else 0.0 if i == 59 else 0.5 / 58 for i in range(60))
    many = replace(ITEM, probabilities=share, label=59, text=ItemText("?", "", "", options))
    node = items(many)
    shown = [li.text for li in node.one("ul", class_="options").all("li")]
    assert any("option 41" in li and "model's answer" in li for li in shown)
    assert any("option 59" in li and "correct" in li for li in shown)
    assert f"{60 - len(shown)} less likely options not shown" in node.text


def test_a_model_without_wrong_answers_has_none_to_show() -> None:
    """An empty list says so."""
    assert "No wrong answer." in items().text


# --- drawn where the numbers say -----------------------------------------------------------------

shares = st.floats(0, 1)


def drawn(macro: str, *arguments: Any, **more: Any) -> Node:
    """Return what a macro of the drawings draws."""
    module = templates().get_template("drawings.svg.jinja").module
    return read(getattr(module, macro)(*arguments, **more))


@st.composite
def diagrams(draw: st.DrawFn) -> list[ReliabilityBin]:
    """Bins of any numbers, in order."""
    out = []
    for i in sorted(draw(st.sets(st.integers(0, 14), min_size=1))):
        low, accuracy, high = sorted(draw(st.tuples(shares, shares, shares)))
        calibrated = sorted(draw(st.tuples(shares, shares)))
        confidence = (i + draw(shares)) / 15
        n = draw(st.integers(1, 10**6))
        out.append(
            ReliabilityBin(i / 15, (i + 1) / 15, n, confidence, accuracy, low, high, *calibrated)
        )
    return out


def unit_square(svg: Node) -> tuple[Scale, Scale]:
    """Read the axes off the diagonal, which runs from (0, 0) to (1, 1)."""
    d = svg.one("line", class_="diagonal")
    x = Scale(0, 1, d.number("x1"), d.number("x2"))
    y = Scale(0, 1, d.number("y1"), d.number("y2"))
    return x, y


def path_numbers(node: Node) -> list[float]:
    """Return the numbers of a path."""
    return [float(n) for n in re.findall(r"-?[\d.]+", node.attributes["d"] or "")]


@given(diagrams())
def test_points_lie_where_their_numbers_say(bins: list[ReliabilityBin]) -> None:
    """Accuracy over confidence on the axes of the diagonal, with the ends of the interval."""
    svg = drawn("reliability", "k", bins, []).one("svg")
    x, y = unit_square(svg)
    assert x(1) - x(0) == y(0) - y(1) > 0
    points = svg.all("circle", class_="point")
    whiskers = svg.all("line", class_="whisker")
    most = max(bins, key=lambda b: b.n)
    for b, point, whisker in zip(bins, points, whiskers, strict=True):
        assert point.number("cx") == pytest.approx(x(b.confidence), abs=0.051)
        assert point.number("cy") == pytest.approx(y(b.accuracy), abs=0.051)
        assert whisker.number("x1") == whisker.number("x2") == point.number("cx")
        assert whisker.number("y1") == pytest.approx(y(b.low), abs=0.051)
        assert whisker.number("y2") == pytest.approx(y(b.high), abs=0.051)
        assert ("off" in (point.attributes["class"] or "").split()) == b.beyond_noise
        largest = points[bins.index(most)].number("r")
        # The area, not the radius, goes with the count; the smallest can still be seen.
        assert point.number("r") == pytest.approx(
            max(2.5, largest * (b.n / most.n) ** 0.5), abs=0.06
        )


@given(diagrams())
def test_the_band_is_where_a_calibrated_model_lies(bins: list[ReliabilityBin]) -> None:
    """Each bin has a box from its left to its right edge, as high as its calibrated range."""
    svg = drawn("reliability", "k", bins, []).one("svg")
    x, y = unit_square(svg)
    numbers = path_numbers(svg.one("path", class_="band"))
    boxes = [numbers[i : i + 5] for i in range(0, len(numbers), 5)]
    for b, (left, top, right, bottom, back) in zip(bins, boxes, strict=True):
        assert (left, back) == pytest.approx((x(b.lower),) * 2, abs=0.051)
        assert right == pytest.approx(x(b.upper), abs=0.051)
        assert top == pytest.approx(y(b.calibrated_high), abs=0.051)
        assert bottom == pytest.approx(y(b.calibrated_low), abs=0.051)


@given(diagrams(), diagrams())
def test_the_baseline_has_marks_of_its_own(
    bins: list[ReliabilityBin], before: list[ReliabilityBin]
) -> None:
    """Diamonds, not circles, centred on the accuracy of the baseline; none without one."""
    svg = drawn("reliability", "k", bins, [], before).one("svg")
    x, y = unit_square(svg)
    marks = svg.all("path", class_="mark before")
    for b, mark in zip(before, marks, strict=True):
        top_x, top_y, _, middle = path_numbers(mark)[:4]
        assert top_x == pytest.approx(x(b.confidence), abs=0.051)
        assert middle == pytest.approx(y(b.accuracy), abs=0.051)
        assert top_y < middle
    alone = drawn("reliability", "k", bins, [])
    assert alone.all("path", class_="before") == []


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999)), min_size=1, max_size=20))
def test_bars_are_as_high_as_their_counts(counts: list[tuple[int, int]]) -> None:
    """Wrong answers stand on right ones, on one scale, above the same confidences."""
    k = len(counts)
    bars = [ConfidenceBar(i / k, (i + 1) / k, *pair) for i, pair in enumerate(counts)]
    # The baseline has twice as many right answers, so that it may set the scale.
    before = [replace(b, right=2 * b.right) for b in bars]
    svg = drawn("reliability", "k", [], bars, [], before).one("svg")
    x, _ = unit_square(svg)
    base = svg.one("line", class_="base").number("y1")
    most = max(2 * r + w for r, w in counts) or 1
    unit = 84 / most
    shown = {
        kind: {r.number("x"): r for r in svg.all("rect", class_=kind)}
        for kind in ("correct", "wrong")
    }
    assert len(shown["correct"]) == sum(r > 0 for r, _ in counts)
    assert len(shown["wrong"]) == sum(w > 0 for _, w in counts)
    for i, (right, wrong) in enumerate(counts):
        for kind, low, high in (("correct", 0, right), ("wrong", right, right + wrong)):
            if high == low:
                continue
            (rect,) = [r for at, r in shown[kind].items() if x(i / k) < at < x((i + 1) / k)]
            bottom = rect.number("y") + rect.number("height")
            assert bottom == pytest.approx(base - unit * low, abs=0.11)
            assert rect.number("height") == pytest.approx(unit * (high - low), abs=0.11)
    # The outline of the baseline runs along the tops of its bars.
    steps = re.findall(
        r"V([\d.]+)H([\d.]+)", svg.one("path", class_="outline").attributes["d"] or ""
    )
    for i, ((right, wrong), (top, edge)) in enumerate(zip(counts, steps, strict=True)):
        assert float(top) == pytest.approx(base - unit * (2 * right + wrong), abs=0.051)
        assert float(edge) == pytest.approx(x((i + 1) / k), abs=0.051)


@given(st.lists(st.floats(-2, 2), min_size=5, max_size=5))
def test_a_strip_is_linear(values: list[float]) -> None:
    """Value, ends, baseline, floor and limit lie on one straight scale with all of them on it."""
    value, low, high, before, limit = values
    scale = span(values)
    svg = drawn("strip", scale, value, low, high, before=before, limit=limit).one("svg")
    axis = svg.one("line", class_="grid")
    x = Scale(*scale, axis.number("x1"), axis.number("x2"))
    assert svg.one("circle").number("cx") == pytest.approx(x(value), abs=0.051)
    assert svg.one("line", class_="whisker").number("x1") == pytest.approx(x(low), abs=0.051)
    assert svg.one("line", class_="whisker").number("x2") == pytest.approx(x(high), abs=0.051)
    assert svg.one("line", class_="limit").number("x1") == pytest.approx(x(limit), abs=0.051)
    assert path_numbers(svg.one("path"))[0] == pytest.approx(x(before), abs=0.051)
    assert svg.one("line", class_="base").number("x1") == pytest.approx(x(0), abs=0.051)


@given(st.lists(st.none() | st.floats(-5, 5)))
def test_a_range_holds_all_of_its_numbers_and_zero(values: list[float | None]) -> None:
    """So that no interval is cut off, and no length exaggerated; it is never empty."""
    low, high = span(values)
    known = [v for v in values if v is not None]
    assert low <= min([0.0, *known])
    assert high >= max([0.0, *known])
    assert high > low


@given(st.floats(-1000, 1000), st.floats(1e-6, 1000), st.integers(3, 8))
def test_ticks_are_round_and_even(low: float, size: float, most: int) -> None:
    """At most as many as asked, within the range, 1, 2 or 5 times a power of 10 apart."""
    found = ticks(low, low + size, most)
    assert 1 <= len(found) <= most
    if len(found) > 1:
        gap = (found[-1] - found[0]) / (len(found) - 1)
        assert f"{gap:.1e}"[:3] in {"1.0", "2.0", "5.0"}
        assert all(b - a == pytest.approx(gap) for a, b in pairwise(found))
        assert low - 1e-6 * gap <= found[0]
        assert found[-1] <= low + size + 1e-6 * gap


def test_a_scale_is_straight_and_ends_at_its_ends() -> None:
    """Halfway is halfway; beyond the ends nothing is drawn; no range is a middle."""
    scale = Scale(1, 3, 10, 20)
    assert [scale(v) for v in (1, 2, 3, 0, 9)] == [10, 15, 20, 10, 20]
    assert Scale(1, 1, 10, 20)(1) == 15


# --- drift ---------------------------------------------------------------------------------------


def test_the_drift_chart_keeps_to_its_scale() -> None:
    """Points, ends and floors lie on the scale that two labels of the axis define."""
    points = [
        Point("a", "replaced", 10, 0.05, 0.70),
        Point("b", "baseline", 10, 0.03, 0.72),
        Point("c", "this run", 10, 0.20, 0.71, 0.15, 0.25, 0.04, verdict=1, fails=True),
    ]
    svg = drawn("drift", "k", "t", points).one("svg")
    labels = [(n.text, n.number("y") - 4) for n in svg.all("text", text_anchor="end")]
    (low, y0), (high, y1) = [(float(t), y) for t, y in labels[:2]]
    assert (low, y0 > y1) == (0.0, True)

    def y(value: float) -> Any:
        return pytest.approx(y0 + (value - low) / (high - low) * (y1 - y0), abs=0.3)

    marks = [path_numbers(m)[3] for m in svg.all("path", class_="mark before")]
    assert marks[0] == y(0.05)
    assert marks[2] == y(0.03)
    large, small = svg.all("circle")
    assert large.number("cy") == y(0.20)
    assert "off" in (large.attributes["class"] or "")
    assert large.number("cx") == small.number("cx")
    whisker = svg.one("line", class_="whisker")
    assert (whisker.number("y1"), whisker.number("y2")) == (y(0.15), y(0.25))
    band = svg.one("rect", class_="band")
    assert band.number("y") == y(0.04)
    assert band.number("y") + band.number("height") == y(0.0)
    # The accuracies stand in one order with their heights.
    heights = [marks[1], marks[3], small.number("cy")]
    assert heights[0] > heights[2] > heights[1]


def test_a_small_move_of_accuracy_looks_small() -> None:
    """A thousandth is a flat line, also where all are equal, and at the ends of the range."""
    for level in (0.0, 0.6, 0.999):
        points = [Point("m", "this run", 9, 0.1, level + i / 1000, verdict=i) for i in (0, 1)]
        svg = drawn("drift", "k", "t", points).one("svg")
        first, second = (c.number("cy") for c in svg.all("circle") if c.attributes["r"] == "3")
        assert abs(first - second) < 1
        equal = [replace(p, accuracy=level) for p in points]
        drawn("drift", "k", "t", equal)


PAST = (Past("v0", 600, 0.06, 0.7, 0.01, "a reason"), Past("base", 600, 0.04, 0.7, 0.0))


def test_a_drift_is_what_was_stored_then_what_was_measured() -> None:
    """In order, each measurement once however many verdicts are about it."""
    (drift,) = drifts(
        [detailed(passed(), past=PAST), regressed(), detailed(regressed(), past=PAST)]
    )
    assert [(p.model, p.kind, p.verdict) for p in drift.points] == [
        ("v0", "replaced", None),
        ("base", "baseline", None),
        ("base", "this run", 1),
        ("sft", "this run", 2),
    ]
    assert [p.fails for p in drift.points] == [False, False, False, True]
    assert drift.points[0].reason == "a reason"


def test_a_missing_baseline_does_not_mark_a_measurement() -> None:
    """What fails for another reason than its number says nothing against the number."""
    absent = replace(passed(), state="no_baseline", fails=True)
    (drift,) = drifts([absent, regressed()])
    assert [p.fails for p in drift.points] == [False, True]


def test_different_histories_are_different_charts() -> None:
    """Two stored baselines of one probe, or two settings that must agree, do not mix."""
    other = (Past("elsewhere", 600, 0.09, 0.5, 0.0),)
    two = drifts([detailed(passed(), past=PAST), detailed(regressed(), past=other)])
    assert [[p.model for p in c.points] for c in two] == [
        ["v0", "base", "base"],
        ["elsewhere", "sft"],
    ]
    # What has no history is in neither.
    more = [detailed(passed(), past=PAST), detailed(regressed(), past=other), passed(), regressed()]
    assert [len(c.points) for c in drifts(more)] == [3, 2, 2]
    detail = regressed().detail
    assert detail is not None
    shots = replace(detail, candidate=replace(detail.candidate, hard={"shots": "9"}))
    assert drifts([passed(), replace(regressed(), detail=shots)]) == []
    assert drifts([passed(), replace(regressed(), probe="another")]) == []


def measured(*models: str, past: tuple[Past, ...] = PAST) -> list[int | None]:
    """Which point each measurement of a drift came after, by its number from 0."""
    made = [
        replace(detailed(regressed(), past=past), model=model, accuracy=0.5 + i / 100)
        for i, model in enumerate(models)
    ]
    (drift,) = drifts(made)
    return [p.follows for p in drift.points]


@pytest.mark.parametrize(
    ("models", "follows"),
    [
        (["lora", "full"], [1, 1]),
        (["base", "lora", "full"], [1, 1, 1]),
        (["checkpoint-100", "checkpoint-200", "checkpoint-1000"], [1, 2, 3]),
        (["checkpoint-300", "checkpoint-200"], [1, 1]),
        (["a/checkpoint-1", "b/checkpoint-2"], [1, 1]),
        (["a/step_1", "b/step_1", "a/step_2", "b/step_2"], [1, 1, 2, 3]),
        (["sft-lr1-step10", "sft-lr1-step20", "sft-lr2-step30"], [1, 2, 1]),
        (["ckpt9", "Epoch=1-last", "Epoch=2-last", "ckpt10"], [1, 1, 3, 2]),
        (["qwen-7b", "qwen-14b"], [1, 1]),
        (["dpo-v1", "dpo-v2"], [1, 1]),
        (["", "x"], [1, 1]),
    ],
)
def test_siblings_are_not_joined(models: list[str], follows: list[int]) -> None:
    """Models of one baseline came after it; only steps of one training came after each other."""
    assert measured(*models) == [None, 0, *follows]
    # Without a stored baseline nothing is known of the first.
    alone = [None if at == 1 else at - 2 for at in follows]
    assert measured(*models, past=()) == alone


def test_lines_lead_from_what_a_point_came_after() -> None:
    """One line of the ECE and one of the accuracy to each point that follows another."""
    points = [
        Point("base", "baseline", 9, 0.05, 0.7),
        Point("lora", "this run", 9, 0.06, 0.7, verdict=1, follows=0),
        Point("full", "this run", 9, 0.20, 0.6, verdict=2, follows=0),
        Point("other", "this run", 9, 0.10, 0.6, verdict=3),
    ]
    svg = drawn("drift", "k", "t", points).one("svg")
    lines = [n for n in svg.all("line") if "joint" in (n.attributes["class"] or "")]
    assert len(lines) == 4
    large = [c for c in svg.all("circle") if c.attributes["r"] == "5"]
    assert {n.number("x1") for n in lines} == {lines[0].number("x1")}
    assert {n.number("x2") for n in lines} == {c.number("cx") for c in large[:2]}


def test_one_measurement_is_no_drift() -> None:
    """Without a drift there is no section, nor a link to it."""
    for single in ((), (regressed(),), (bare(regressed()), bare(passed()))):
        tree = page_of(*single)
        assert tree.all("section", id="drift") == []
        assert [a for a in tree.all("a") if a.attributes["href"] == "#drift"] == []


def test_drift_links_to_what_was_measured() -> None:
    """The table beside the chart has every number, and links to the verdicts of this run."""
    section = page_of(detailed(passed(), past=PAST), regressed()).one("section", id="drift")
    rows = section.one("table").one("tbody").all("tr")
    assert [row.one("th").text for row in rows] == ["v0", "base", "base", "sft"]
    assert [a.attributes["href"] for a in section.one("table").all("a")] == ["#v1", "#v2"]
    assert [row.all("td")[3].text[:5] for row in rows[:2]] == ["0.060", "0.040"]
    assert "a reason" in rows[0].text


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (formats.number(-0.0004), "0.000"),
        (formats.number(-0.25), "−0.250"),
        (formats.signed(0.25), "+0.250"),
        (formats.number(None), "–"),
        (formats.interval(-0.1, 0.25), "[−0.100, 0.250]"),
        (formats.interval(None, 0.25), "–"),
        (formats.share(0.0), "0.000"),
        (formats.share(0.0004), "<0.001"),
        (formats.share(0.9996), ">0.999"),
        (formats.share(1.0), "1.000"),
        (counted(1, "item"), "1 item"),
        (counted(12_345, "item"), "12,345 items"),
        (formats.moment("2026-01-02T03:04:05Z"), "2026-01-02 03:04 UTC"),
        (formats.moment("2026-01-02T03:04:05+02:00"), "2026-01-02 01:04 UTC"),
        (formats.moment("2026-01-02T03:04:05"), "2026-01-02 03:04"),
        (formats.moment("<now>"), "<now>"),
        (formats.tail("checkpoint-1200", 8), "…nt-1200"),
        (formats.q_value(None), "–"),
        (formats.q_value(0.0004), "<0.001"),
        (formats.q_value(0.04999), "0.04999"),
        (formats.px(12.0), "12"),
        (formats.px(-0.04), "0"),
        (formats.px(1.25), "1.2"),
    ],
)
def test_numbers_as_they_are_written(shown: str, expected: str) -> None:
    """Three decimals, a true minus, a dash for nothing; what is not 0 or 1 is not written so."""
    assert shown == expected


def test_every_state_has_a_sign_and_a_word() -> None:
    """A sign and the word stand with the colour, for all the states that there are."""
    signs = {"bad": "✗", "doubt": "?", "good": "✓"}
    outcomes = {}
    for place, r in enumerate(session().results, start=1):
        pill = page().one("article", id=f"v{place}").one("header").one("span", class_="pill")
        (outcome,) = set((pill.attributes["class"] or "").split()) - {"pill"}
        assert pill.text == signs[outcome] + r.state_name
        outcomes[r.state] = outcome
    assert outcomes == {
        "passed": "good",
        "regressed": "bad",
        "inconclusive": "doubt",
        "above_limit": "bad",
        "not_comparable": "bad",
        "no_baseline": "bad",
    }
    assert len(verdicts()) == len(session().results)


def test_cautions_are_told_whatever_the_verdict() -> None:
    """What a probe says of its numbers stands with each verdict on them, escaped."""
    passed = replace(session().results[0], cautions=("it is <noise>.",))
    page = "".join(html_report(replace(session(), results=(passed,))))
    assert "<li>it is &lt;noise&gt;.</li>" in page
