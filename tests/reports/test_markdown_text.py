"""Any text as Markdown that shows just that text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rendering import MADE_BY_GITHUB, inline, shown, tokens
from samples import HOSTILE

from pytest_calibration.reports.markdown_text import code, fenced, folded, table, text
from pytest_calibration.text.visible import visible

# Texts that mean something together.
KNOWN = [
    "http://a.bc",
    "www.a.bc",
    "a@b.cd",
    "@all",
    "#12",
    "GH-12",
    ":tada:",
    "1. ",
    "- ",
    "# ",
    "```",
    "~~~",
    "---",
    "===",
    "<b>",
    "</details>",
    "<!--",
    "-->",
    "&amp;",
    "&#64;",
    "[a](b)",
    "![a](b)",
    "[^1]",
    "<http://a.bc>",
    "mailto:a@b.cd",
    "| --- |",
    "**a**",
    "$x$",
    "\u00a0",
    "\ud800",
    "模型",
    "+ a",
    "* a",
    "> a",
    "a | b",
    "`a`",
    "~~a~~",
    "__a__",
    "12) a",
    "=",
    "a  ",
    "\\",
]
# These, and characters that mean something.
MEANINGFUL = st.lists(
    st.one_of(
        st.sampled_from(list("\\`*_~[]()<>&|#@!:$+-=.\"' \t\n\r\x00\x1b\u202e\u200b\ufeff0a1B")),
        st.sampled_from(KNOWN),
        st.characters(),
    ),
    max_size=12,
).map("".join)
# A paragraph, an item of a list, a heading, a cell of a table.
PLACES = {
    "paragraph": "{}\n",
    "middle": "so {} so\n",
    "list": "- {}\n",
    "heading": "### {}\n",
    "bold": "**x {} x**\n",
    "cell": "| a | b |\n| --- | --- |\n| {} | end |\n",
}


def check_text(place: str, raw: str) -> None:
    """Hold a text in its place against the same place with a plain word in it."""
    empty = tokens(PLACES[place].format("x"))
    parsed = tokens(PLACES[place].format(text(raw) or "x"))
    assert [t.type for t in parsed] == [t.type for t in empty]
    allowed = {"text", "strong_open", "strong_close"} if place == "bold" else {"text"}
    html = [t.content for t in inline(parsed) if t.type == "html_inline"]
    assert set(html) <= {"<span>", "</span>"}
    assert {t.type for t in inline(parsed)} - {"html_inline"} <= allowed
    # The parser strips every kind of space off the ends of a block.
    expected = visible(raw).strip()
    if expected and place not in ("middle", "bold"):
        assert shown(parsed) == shown(empty).replace("x", expected)
    seen = "".join(t.content for t in inline(parsed) if t.type == "text")
    assert not MADE_BY_GITHUB.search(seen)


@pytest.mark.parametrize("place", PLACES)
@given(raw=MEANINGFUL)
def test_a_text_shows_as_itself(place: str, raw: str) -> None:
    """No element, no link, nothing for GitHub to make something of, the same characters."""
    check_text(place, raw)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("raw", KNOWN)
def test_a_text_that_means_something_shows_as_itself(place: str, raw: str) -> None:
    """Alone, with a word before it, and with one behind it."""
    for whole in (raw, f"a {raw}", f"{raw} a", f"{raw}\n{raw}"):
        check_text(place, whole)


@pytest.mark.parametrize("raw", ["@all", "a #12", "GH-7", ":tada:", "http://a.bc", "www.a.bc"])
def test_what_github_makes_of_text_is_known_to_the_check(raw: str) -> None:
    """The pattern of the test above finds what it is there to find."""
    assert MADE_BY_GITHUB.search(raw)


@pytest.mark.parametrize("place", PLACES)
@given(raw=MEANINGFUL)
def test_a_name_is_a_code_span(place: str, raw: str) -> None:
    """It shows as it is; only what would end a cell is written without backticks."""
    span = code(raw)
    expected = visible(raw)
    if not expected.strip():
        assert span == ""
        return
    parsed = tokens(PLACES[place].format(span))
    assert [t.type for t in parsed] == [t.type for t in tokens(PLACES[place].format("x"))]
    spans = [t.content for t in inline(parsed) if t.type == "code_inline"]
    if "|" in expected:
        assert spans == []
        html = [t.content for t in inline(parsed) if t.type == "html_inline"]
        assert set(html) <= {"<code>", "</code>", "<span>", "</span>"}
        assert html.count("<code>") == html.count("</code>") == 1
        assert expected.strip() in shown(parsed)
    else:
        assert spans == [expected]


@given(lines=st.lists(MEANINGFUL, max_size=6))
def test_a_fence_holds_its_lines(lines: list[str]) -> None:
    """No line closes it, begins another, or runs into the next."""
    parsed = tokens(f"before\n\n{fenced(lines)}\nafter\n")
    blocks = [t for t in parsed if t.type == "fence"]
    assert len(blocks) == 1
    assert blocks[0].content.split("\n")[:-1] == [visible(line) for line in lines]
    assert [t.content for t in parsed if t.type == "inline"] == ["before", "after"]


def test_a_line_of_backticks_needs_a_longer_fence() -> None:
    """A fence has more backticks than any run within, and three at least."""
    assert fenced(["a"], "sh") == "```sh\na\n```\n"
    assert fenced(["a ````` b"]) == "``````text\na ````` b\n``````\n"
    assert fenced([]) == "```text\n```\n"


@given(rows=st.lists(st.tuples(MEANINGFUL, MEANINGFUL), max_size=4))
def test_cells_stay_in_their_table(rows: list[tuple[str, str]]) -> None:
    """A table has as many rows and cells as were given, with their text."""
    cells = [(text(a), code(b)) for a, b in rows]
    parsed = tokens(table(["x", "y"], cells, "<>"))
    assert [t.type for t in parsed].count("tr_open") == len(rows) + 1
    assert [t.type for t in parsed].count("td_open") == 2 * len(rows)
    # What stands below it is no row, and nothing opened within it goes on.
    assert parsed[-1].type == "table_close"


def test_columns_stand_on_their_side() -> None:
    """Numbers stand on the right."""
    assert table(["a", "b"], [["1", "2"]], "<>") == "| a | b |\n| --- | ---: |\n| 1 | 2 |\n"


def test_what_is_folded_is_markdown() -> None:
    """Blocks within the section are read as such, and the section ends."""
    parsed = tokens(folded("More", "- a\n- b\n") + "\nafter\n")
    kinds = [t.type for t in parsed]
    assert kinds.count("html_block") == 2
    assert kinds.count("list_item_open") == 2
    assert kinds.index("bullet_list_close") < len(kinds) - kinds[::-1].index("html_block") - 1


def test_long_texts_are_cut_before_they_are_escaped() -> None:
    """No half of an escape is left over, and the ends are those of the text."""
    assert shown(tokens(text("<" * 50 + ">" * 50, 25))) == "<" * 10 + " ... " + ">" * 10
    assert shown(tokens(code("<" * 50 + ">" * 50, 25))) == "<" * 10 + " ... " + ">" * 10


def test_ordinary_text_stays_readable() -> None:
    """A program of plain Markdown, or a person, reads the source as well."""
    plain = 'Over-confident by 0.19 (0.83, then 0.62): recalibrate; x = y/z, 95 % "sure".'
    assert text(plain) == plain
    assert text("0.1.0") == "0.1.0"
    assert code("support-mcq") == "`support-mcq`"
    assert text("1. first") == "1\\. first"


def test_the_hostile_text_shows_as_text() -> None:
    """The sample that all reports share."""
    assert shown(tokens(f"{text(HOSTILE)}\n")) == visible(HOSTILE)
