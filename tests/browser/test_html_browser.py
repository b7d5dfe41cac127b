"""The HTML report in a real browser: it works, it is silent, and it obeys no text."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import samples
from samples import HOSTILE, results

from pytest_calibration.reports.html import html_report
from pytest_calibration.reports.model import Results

if TYPE_CHECKING:
    from conftest import Page

pytestmark = pytest.mark.browser

ROWS = "#all tbody tr"
STATES = ["regressed", "above limit", "regressed", "not comparable", "no baseline",
          "inconclusive", "passed", "passed"]  # fmt: skip
# Each would run, load or leave if it were taken for markup, style, an address or script.
PAYLOADS = (
    "<script>window.__x = 1; alert(1)</script>",
    "</script><script>window.__x = 1</script>",
    "</style><style>body { display: none }</style>",
    "</title><img src=x onerror='window.__x = 1'>",
    '"><img src=x onerror="window.__x = 1"><a href="javascript:window.__x=1">',
    "' onmouseover='window.__x=1' onfocus='window.__x=1' autofocus tabindex=0 x='",
    '" style="background: url(http://127.0.0.1:9/x)" x="',
    "<svg onload='window.__x = 1'><iframe src='http://127.0.0.1:9/'></iframe>",
    "<!-- <meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
    "javascript:window.__x=1",
    HOSTILE,
)


@cache
def source(item_text: bool = True, detailed: bool = True) -> str:
    """Return the page of a session with every state and hostile text."""
    return "".join(html_report(results(item_text=item_text, detailed=detailed)))


@cache
def everywhere(payload: str) -> str:
    """Return the page of a session in which every text that others choose is this one."""
    return "".join(html_report(samples.everywhere(payload, results())))


def column(page: Page, head: str) -> list[str]:
    """Return what the visible rows show first in a column."""
    heads = page.run("return [...document.querySelectorAll('#all thead th')].map(e => e.innerText)")
    index = [h.strip() for h in heads].index(head)
    cells = page.run(
        f"return [...document.querySelectorAll('{ROWS}')].filter(r => !r.hidden)"
        ".map(r => r.cells[arguments[0]].innerText.split('\\n')[0])",
        index,
    )
    return [cell.strip() for cell in cells]


def head(page: Page, name: str) -> Any:
    """Return the button that sorts by a column."""
    (found,) = [b for b in page.all("#all thead button") if b.text.strip() == name]
    return found


def states(page: Page) -> list[str]:
    """Return the states in the order of the visible rows."""
    pills = page.all(f"{ROWS}:not([hidden]) .pill")
    return [pill.get_attribute("textContent")[1:] for pill in pills]


# --- sorting and filtering -----------------------------------------------------------------------


def test_tables_sort_by_numbers(page: Page) -> None:
    """Up, then down, then as written; the head says which."""
    page.open(source())
    written = column(page, "value")
    button = head(page, "value")
    cell = page.one("#all thead th[data-sort]:nth-child(6)")
    button.click()
    assert [*map(float, column(page, "value"))] == sorted(map(float, written))
    assert cell.get_attribute("aria-sort") == "ascending"
    button.click()
    assert [*map(float, column(page, "value"))] == sorted(map(float, written), reverse=True)
    assert cell.get_attribute("aria-sort") == "descending"
    button.click()
    assert column(page, "value") == written
    assert cell.get_attribute("aria-sort") is None


def test_numbers_sort_by_size_and_not_by_digits(page: Page) -> None:
    """60 comes before 1,200, and 0.00001, which Python writes with an exponent, before 0.2."""
    made = results()
    sizes = [1200, 600, 60, 900, 10_000, 7, 80, 500]
    values = [0.2, 1e-05, 0.03, 0.5, 0.1, 3e-07, 0.4, 1.0]
    changed = tuple(
        replace(r, n=n, baseline_n=n, number=replace(r.number, value=value))
        for r, n, value in zip(made.results, sizes, values, strict=True)
    )
    page.open("".join(html_report(replace(made, results=changed))))
    head(page, "n").click()
    assert column(page, "n") == [f"{n:,}" for n in sorted(sizes)]
    head(page, "value").click()
    by_value = [n for _, n in sorted(zip(values, sizes, strict=True))]
    assert column(page, "n") == [f"{n:,}" for n in by_value]


def test_what_is_missing_sorts_last_both_ways(page: Page) -> None:
    """A dash is no number: it is below the others whichever way they go."""
    page.open(source())
    button = head(page, "worse by")
    for reverse in (False, True):
        button.click()
        shown = column(page, "worse by")
        numbers = [float(v) for v in shown if v != "–"]
        assert shown == [*(v for v in shown if v != "–"), "–", "–", "–"]
        assert numbers == sorted(numbers, reverse=reverse)


def test_states_sort_by_how_bad_they_are(page: Page) -> None:
    """What fails comes first, what passed last; only one column sorts at a time."""
    page.open(source())
    head(page, "model").click()
    head(page, "state").click()
    assert states(page)[:5] == sorted(s for s in STATES if s not in ("passed", "inconclusive"))
    assert states(page)[5:] == ["inconclusive", "passed", "passed"]
    assert len(page.all("#all th[aria-sort]")) == 1


def test_every_table_that_can_sort_does(page: Page) -> None:
    """Each button of each table puts its rows in an order, and loses none."""
    page.open(source())
    page.run("for (const d of document.querySelectorAll('details')) d.open = true")
    lost = page.run(
        """
        const lost = [];
        for (const table of document.querySelectorAll("table[data-sortable]")) {
          const before = [...table.tBodies[0].rows].map((row) => row.innerText).sort().join();
          for (const button of table.querySelectorAll("thead button")) {
            button.click();
            const after = [...table.tBodies[0].rows].map((row) => row.innerText).sort().join();
            if (after !== before) lost.push(table.id);
          }
        }
        return lost;
        """
    )
    assert lost == []
    assert len(page.all("table[data-sortable] thead button")) > 50


def choose(page: Page, what: str, option: str) -> None:
    """Choose an option of a filter."""
    from selenium.webdriver.support.select import Select

    Select(page.one(f"select[data-filter={what}]")).select_by_visible_text(option)


def test_filters_hide_rows_and_sections(page: Page) -> None:
    """What does not fit is gone from table and page, and the count is said aloud."""
    page.open(source())
    choose(page, "state", "regressed")
    assert states(page) == ["regressed"] * 2
    assert [a.get_attribute("id") for a in page.all("article") if a.is_displayed()] == ["v2", "v6"]
    assert page.one("#shown").text == "2 of 8 shown"
    assert page.one("#shown").get_attribute("aria-live") == "polite"
    choose(page, "probe", "few")
    assert page.one("#shown").text == "0 of 8 shown"
    page.one("#clear").click()
    assert states(page) == STATES
    assert page.one("#shown").text == "8 of 8 shown"
    choose(page, "model", "other")
    assert states(page) == ["not comparable"]


def test_the_search_finds_all_its_words(page: Page) -> None:
    """In any order, in any case, anywhere in a row; it keeps to what else is chosen."""
    page.open(source())
    page.one("#find").send_keys("BASE Passed")
    assert states(page) == ["passed"] * 2
    page.one("#find").send_keys(" facts")
    assert column(page, "probe") == ["facts"]
    choose(page, "state", "regressed")
    assert states(page) == []


def test_sorting_keeps_what_is_filtered(page: Page) -> None:
    """Rows that are hidden stay hidden in any order."""
    page.open(source())
    choose(page, "state", "passed")
    head(page, "value").click()
    assert states(page) == ["passed"] * 2


def test_a_link_leads_to_a_section_that_was_filtered_away(page: Page) -> None:
    """From the drift table to a verdict that the filters hide: they give way."""
    page.open(source())
    choose(page, "state", "inconclusive")
    page.one("#drift a[href='#v2']").click()
    assert page.one("#v2").is_displayed()
    assert page.one("#shown").text == "8 of 8 shown"


# --- opening -------------------------------------------------------------------------------------


def test_items_open_and_close(page: Page) -> None:
    """A click shows what was asked, another hides it."""
    page.open(source())
    item = page.all("#v2 .item")[0]
    prompt = item.find_element("css selector", ".prompt")
    assert not prompt.is_displayed()
    item.find_element("css selector", "summary").click()
    assert prompt.is_displayed()
    assert "<script>alert('x')</script>" in prompt.text
    assert item.find_element("css selector", ".mark-correct").is_displayed()
    item.find_element("css selector", "summary").click()
    assert not prompt.is_displayed()


def test_what_passed_is_folded_until_a_link_leads_there(page: Page) -> None:
    """Failures are open at once; a link opens the rest, also one from elsewhere."""
    page.open(source())
    opened = [
        a.get_attribute("id")
        for a in page.all("article")
        if a.find_element("css selector", "details.figures").get_attribute("open")
    ]
    assert opened == ["v2", "v5", "v6", "v7", "v8"]
    page.one("#all a[href='#v3']").click()
    page.run("return new Promise(requestAnimationFrame)")
    assert page.one("#v3 .reliability").is_displayed()
    page.open(source(), "#v4")
    assert page.one("#v4 .reliability").is_displayed()
    assert abs(page.run("return document.querySelector('#v4').getBoundingClientRect().top")) < 60


def test_the_command_is_selected_and_copied(page: Page) -> None:
    """Where the clipboard may not be written, the command is at least selected; both are said."""
    page.open(source())
    box = page.all(".remedy")[0]
    box.find_element("css selector", "button").click()
    page.driver.implicitly_wait(2)
    said = box.find_element("css selector", "[role=status]:not(:empty)").text
    page.driver.implicitly_wait(0)
    command = box.find_element("css selector", ".command").text
    assert page.run("return String(getSelection())").strip() == command
    assert said in {"Copied.", "Selected: copy it with Ctrl+C or ⌘C."}


# --- theme ----------------------------------------------------------------------------------------


def ground(page: Page) -> int:
    """Return how light the page is, 0 to 765."""
    colour = page.run("return getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))


@pytest.mark.parametrize(("preferred", "other"), [("light", "dark"), ("dark", "light")])
def test_the_theme_follows_the_reader(page: Page, preferred: str, other: str) -> None:
    """As the system prefers, until the button is pressed; nothing is kept of it anywhere."""
    page.emulate(prefers_color_scheme=preferred)
    page.open(source())
    assert (ground(page) > 382) == (preferred == "light")
    button = page.one("#theme button")
    assert button.text == f"{other.capitalize()} theme"
    button.click()
    assert (ground(page) > 382) == (other == "light")
    assert button.text == f"{preferred.capitalize()} theme"
    button.click()
    assert (ground(page) > 382) == (preferred == "light")
    kept = "return [document.cookie, localStorage.length, sessionStorage.length, location.hash]"
    assert page.run(kept) == ["", 0, 0, ""]


# Contrast as WCAG 2 defines it, of every text against the nearest ground that is painted.
CONTRAST = """
const channel = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const ground = (e) => {
  for (; e; e = e.parentElement) {
    const colour = parts(getComputedStyle(e).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const low = new Set();
for (const e of document.querySelectorAll("body *")) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  if (!own || ["SCRIPT", "OPTION"].includes(e.tagName) || !e.checkVisibility()) continue;
  const style = getComputedStyle(e);
  const text = light(parts(e.closest("svg") ? style.fill : style.color));
  const back = light(ground(e));
  const ratio = (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05);
  if (ratio < 4.5) low.add(`${e.tagName}.${e.getAttribute("class")} ${ratio.toFixed(2)}`);
}
return [...low];
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_can_be_read(page: Page, theme: str) -> None:
    """Every text has a contrast of 4.5 or more to its ground, light and dark."""
    page.emulate(prefers_color_scheme=theme)
    page.open(source())
    page.run("for (const d of document.querySelectorAll('details')) d.open = true")
    assert page.run(CONTRAST) == []


@pytest.mark.parametrize("width", [320, 375, 600, 800, 1200, 1920])
def test_the_page_never_scrolls_sideways(page: Page, width: int) -> None:
    """Whatever the width and the text, only frames within the page scroll."""
    page.resize(width)
    for made in (source(), everywhere("longword" * 40)):
        page.open(made)
        page.run("for (const d of document.querySelectorAll('details')) d.open = true")
        wide = page.run(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert wide[0] <= wide[1] <= width


def test_a_phone_shows_the_numbers_of_the_summary(page: Page) -> None:
    """Each row is a block with all its numbers in view, each with its name above it."""
    page.resize(400)
    page.open(source())
    hidden = page.run(
        "return [...document.querySelectorAll('#all td')].filter(e => {"
        " const r = e.getBoundingClientRect();"
        " return r.width === 0 || r.left < 0 || r.right > innerWidth; }).length"
    )
    assert hidden == 0
    names = page.run(
        "return [...document.querySelectorAll('#all tbody tr:first-child td.number')]"
        ".map(e => getComputedStyle(e, '::before').content)"
    )
    assert names == ['"n"', '"value"', '"floor"', '"accuracy"', '"reference"', '"worse by"']


@pytest.mark.parametrize("width", [400, 1280])
def test_what_is_cut_has_a_shadow_at_its_side(page: Page, width: int) -> None:
    """A table wider than its frame says that there is more: the frame's edge is darker there."""
    page.resize(width)
    page.open(source())
    wide = page.run(
        "return [...document.querySelectorAll('div.scroll')]"
        ".filter(e => e.offsetParent && e.scrollWidth > e.clientWidth + 1)"
        ".map(e => getComputedStyle(e).backgroundAttachment)"
    )
    assert bool(wide) == (width == 400)
    assert set(wide) <= {"local, local, scroll, scroll"}


@pytest.mark.parametrize("width", [1000, 1280, 1920])
def test_the_table_of_a_drift_is_not_cut(page: Page, width: int) -> None:
    """On a desktop all columns are in view beside the chart."""
    page.resize(width)
    page.open(source())
    cut = page.run(
        "return [...document.querySelectorAll('#drift .scroll')]"
        ".filter(e => e.scrollWidth > e.clientWidth + 1).length"
    )
    assert cut == 0


def test_names_that_are_long_cover_nothing(page: Page) -> None:
    """Cells of the summary hold their text, also one without a place to break."""
    page.open(everywhere("longword" * 40))
    over = page.run(
        "return [...document.querySelectorAll('#all th, #all td')]"
        ".filter(e => e.scrollWidth > e.clientWidth + 1).length"
    )
    assert over == 0


# --- keyboard and screen reader ------------------------------------------------------------------


def test_the_keyboard_reaches_all_that_a_mouse_does(page: Page) -> None:
    """From the skip link on, each control in the order of the page, with a ring around it."""
    from selenium.webdriver.common.keys import Keys

    page.open(source())
    wanted = page.run(
        "return [...document.querySelectorAll('a, button, input, select, summary')]"
        ".filter(e => e.checkVisibility({checkVisibilityCSS: true})).length"
    )
    met, ringless = [], []
    for _ in range(wanted + 60):
        page.press(Keys.TAB)
        now = page.run(
            "const e = document.activeElement, s = getComputedStyle(e);"
            "return e === document.body ? null : [e.tagName, e.innerText, s.outlineStyle,"
            " parseFloat(s.outlineWidth), e.matches('a, button, input, select, summary'),"
            " e.getBoundingClientRect().top + scrollY]"
        )
        if now is None:
            break
        met.append(now)
        if now[2] == "none" or now[3] < 2:
            ringless.append(now)
    assert met[0][1] == "Skip to the content"
    assert sum(m[4] for m in met) == wanted
    assert ringless == []


def test_sorting_filtering_and_opening_need_no_mouse(page: Page) -> None:
    """Enter sorts, letters choose and search, space opens."""
    from selenium.webdriver.common.keys import Keys

    page.open(source())
    page.run("arguments[0].focus()", head(page, "value"))
    page.press(Keys.ENTER)
    assert [*map(float, column(page, "value"))] == sorted(map(float, column(page, "value")))
    page.run("arguments[0].focus()", page.one("select[data-filter=state]"))
    page.press("i")
    assert states(page) == ["inconclusive"]
    page.run("arguments[0].focus()", page.one("#clear"))
    page.press(Keys.SPACE)
    assert states(page) != ["inconclusive"]
    assert page.run("return document.activeElement.id") == "find"
    item = page.all("#v2 .item")[0]
    page.run("arguments[0].focus()", item.find_element("css selector", "summary"))
    page.press(Keys.SPACE)
    assert item.find_element("css selector", ".prompt").is_displayed()
    page.run("arguments[0].focus()", page.one("#theme button"))
    before = ground(page)
    page.press(Keys.ENTER)
    assert ground(page) != before


def test_a_frame_that_scrolls_can_be_reached(page: Page) -> None:
    """On a phone wide tables take the focus, so that arrow keys move them; others do not."""
    page.resize(375)
    page.open(source())
    page.run("return new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")
    frames = page.run(
        "return [...document.querySelectorAll('.scroll')].filter(e => e.checkVisibility())"
        ".map(e => [e.scrollWidth > e.clientWidth + 1, e.tabIndex === 0])"
    )
    assert any(scrolls for scrolls, _ in frames)
    assert all(scrolls == reached for scrolls, reached in frames)


NAMED = (
    "button link searchbox combobox image table group navigation heading article region search "
    "columnheader rowheader DisclosureTriangle"
)


@pytest.mark.parametrize("width", [375, 1200])
def test_a_screen_reader_has_a_name_for_everything(page: Page, width: int) -> None:
    """In the accessibility tree no control, landmark, table, head or drawing is without a name."""
    page.resize(width)
    page.open(source())
    page.run("for (const d of document.querySelectorAll('details')) d.open = true")
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    seen: dict[str, int] = {}
    nameless = []
    for node in nodes:
        role = node.get("role", {}).get("value", "")
        if node.get("ignored") or role not in NAMED.split():
            continue
        # A group without a name is a plain fold, whose summary speaks for it.
        seen[role] = seen.get(role, 0) + 1
        fold = role == "group" and not node.get("name", {}).get("value")
        if not fold and not node.get("name", {}).get("value", "").strip():
            nameless.append(node)
    assert nameless == []
    for role in ("button", "link", "image", "table", "navigation", "article", "columnheader"):
        assert seen.get(role), seen
    roles = {node.get("role", {}).get("value") for node in nodes}
    assert {"banner", "main", "contentinfo", "search"} <= roles


# --- paper, and no script ------------------------------------------------------------------------

CLOSED = """
return [...document.querySelectorAll("details")].flatMap((d) => [...d.children].slice(1))
  .filter((e) => !e.checkVisibility()).length
"""


def test_on_paper_everything_is_open_and_nothing_is_cut(page: Page) -> None:
    """All that folds is laid out, controls are gone, tables fit, and the ground is white."""
    page.emulate(media="print", prefers_color_scheme="dark")
    # A4 less its margins, in pixels of CSS.
    page.resize(703)
    page.open(source())
    page.run("document.documentElement.dataset.theme = 'dark'")
    assert page.run(CLOSED) == 0
    assert page.shown("button:not(th *), input, select, nav") == []
    cut = page.run(
        "return [...document.querySelectorAll('.scroll, article, section')]"
        ".filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.outerHTML.slice(0, 200))"
    )
    assert cut == []
    assert page.run("return getComputedStyle(document.documentElement).colorScheme") == "light"


def test_printing_makes_a_document_and_changes_nothing(page: Page) -> None:
    """The page prints on several sheets; what was closed before is closed again."""
    page.open(source())
    before = page.run("return document.querySelectorAll('details[open]').length")
    printed = page.printed()
    assert printed.startswith(b"%PDF-")
    assert printed.count(b"/Type /Page\n") > 5
    assert page.run("return document.querySelectorAll('details[open]').length") == before


def test_without_scripts_all_is_there(page: Page) -> None:
    """Nothing is folded, no dead control is shown, and items still open."""
    page.send("Emulation.setScriptExecutionDisabled", value=True)
    page.open(source())
    assert all(svg.is_displayed() for svg in page.all("article .reliability"))
    assert page.shown("button, input, select") == []
    item = page.all("#v2 .item")[0]
    item.find_element("css selector", "summary").click()
    assert item.find_element("css selector", ".prompt").is_displayed()


# --- hostile text --------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda p: p[:24])
def test_hostile_text_does_nothing(page: Page, payload: str) -> None:
    """Put in every place that others may write, it runs, loads, styles and opens nothing."""
    from selenium.common.exceptions import NoAlertPresentException

    page.open(everywhere(payload))
    page.run(
        "for (const e of document.querySelectorAll('*')) {"
        " if (e.tagName === 'DETAILS') e.open = true;"
        " e.dispatchEvent(new MouseEvent('mouseover', {bubbles: true})); e.focus?.(); }"
    )
    with pytest.raises(NoAlertPresentException):
        page.driver.switch_to.alert.accept()
    assert page.run("return window.__x") is None
    assert len(page.all("script")) == len(page.all("style")) == 1
    assert page.all("img, iframe, [onmouseover], [onfocus], [onload], [style], [src]") == []
    assert page.one("main").is_displayed()
    shown = page.run("return document.querySelector('article h3').innerText")
    assert payload[:20] in shown


def test_the_policy_stops_what_would_get_in(page: Page) -> None:
    """Were a script to slip in, the browser would refuse to run it, or to load anything."""
    page.open(source())
    page.run(
        "const s = document.createElement('script'); s.textContent = 'window.__x = 1';"
        "document.body.append(s);"
        "document.body.insertAdjacentHTML('beforeend', '<img src=http://127.0.0.1:9/x>');"
        "document.body.insertAdjacentHTML('beforeend', '<b onclick=\"window.__x=1\">b</b>');"
        "document.body.lastChild.click();"
    )
    assert page.run("return window.__x") is None
    page.read_logs()
    # What was tried here was refused, and told; no other test may leave such a trace.
    assert page.refused == ["csp"]
    assert len(page.messages) >= 3
    assert all("Content Security Policy" in message for message in page.messages)
    page.requested.remove("http://127.0.0.1:9/x")
    page.messages.clear()


# --- size ----------------------------------------------------------------------------------------


def test_a_large_session_can_be_searched(page: Page) -> None:
    """Fifty-six verdicts with all their details are shown and filtered."""
    few = results()
    many = Results(
        version=few.version,
        created=few.created,
        tests=56,
        finished=True,
        results=few.results * 7,
    )
    page.open("".join(html_report(many)))
    page.one("#find").send_keys("inconclusive")
    assert page.one("#shown").text == "7 of 56 shown"


@pytest.mark.parametrize("made", [(True, False), (False, True)])
def test_smaller_pages_are_silent_too(page: Page, made: tuple[bool, bool]) -> None:
    """Without details, or without item text, the script finds what it looks for."""
    page.open(source(*made))
    assert page.one("#shown").text == "8 of 8 shown"


def test_an_empty_session_is_silent_too(page: Page) -> None:
    """Nothing to sort or filter is no error."""
    empty = Results(version="0", created="", tests=0, finished=True, results=())
    page.open("".join(html_report(empty)))
    assert page.one("h1").text.endswith("No comparison was made")
    assert page.shown("input, select") == []
