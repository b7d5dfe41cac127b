"""The page around the verdicts: head, summary, sections, script."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from pytest_calibration.reports.html.diagrams import NAMELESS, PATTERNS, legend, span, strip
from pytest_calibration.reports.html.drift import drift_section, drifts
from pytest_calibration.reports.html.markup import Content, Markup, joined, name, tag, text
from pytest_calibration.reports.html.numbers import count, counted, interval, moment, number
from pytest_calibration.reports.html.states import look, pill, sign
from pytest_calibration.reports.html.tables import Cell, Column, Row, table
from pytest_calibration.reports.html.verdicts import verdict_section

if TYPE_CHECKING:
    from pytest_calibration.reports.model import Result, Results

# What a session of many verdicts shares out, so that the page still opens at once.
ALL_SLICES: Final = 1500
ALL_ITEMS: Final = 400
FEWEST_SLICES: Final = 20
FEWEST_ITEMS: Final = 5
NAME: Final = 60
ORDER: Final = {"bad": 0, "doubt": 1, "good": 2}


def html_report(results: Results) -> Iterator[str]:
    """Yield a whole page in pieces: one file that loads nothing and runs no script but its own.

    Equal results give the same page, byte for byte. Without scripts everything is there to be read;
    with them tables sort, verdicts filter, and a light or dark look can be chosen.

    Args:
        results: the session.
    """
    style, script = _packaged("style.css"), _packaged("script.js")
    headline, kind = _headline(results)
    yield "<!DOCTYPE html>\n"
    yield '<html lang="en">\n'
    yield tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy(style, script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{headline} – calibration report"),
        # Its own text, and as such not escaped: what is hashed must be what a browser reads.
        tag("style", Markup(style)),
    )
    yield "\n<body>\n"
    courses = drifts(results.results)
    yield tag("a", "Skip to the content", href="#main", class_="skip")
    yield PATTERNS
    yield _banner(results, headline, kind, drifting=bool(courses))
    yield '\n<main id="main">\n'
    yield from _summary(results)
    yield "\n"
    yield from drift_section(courses)
    if results.results:
        yield '\n<section id="verdicts" aria-labelledby="verdicts-h">'
        yield tag("h2", "Verdicts", id="verdicts-h")
        yield "\n"
        of = len(results.results)
        for place, result in enumerate(results.results, start=1):
            yield verdict_section(
                result,
                place,
                most_slices=max(FEWEST_SLICES, ALL_SLICES // of),
                most_items=max(FEWEST_ITEMS, ALL_ITEMS // of),
                drifts=bool(courses),
            )
            yield "\n"
        yield "</section>\n"
    yield "</main>\n"
    yield _footer(results)
    yield tag("script", Markup(script))
    yield "\n</body>\n</html>\n"


def policy(style: str, script: str) -> str:
    """Return a content security policy that allows this style and this script, and nothing else."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _packaged(file: str) -> str:
    return files("pytest_calibration.reports.html").joinpath(file).read_text(encoding="utf-8")


# --- top of the page -----------------------------------------------------------------------------


def _headline(results: Results) -> tuple[str, str]:
    """Return what came out in one sentence, and how it looks."""
    of = len(results.results)
    failing = sum(r.fails for r in results.results)
    if failing:
        return f"{count(failing)} of {counted(of, 'comparison')} failed", "bad"
    said = f"{counted(of, 'comparison')}, none failed" if of else "No comparison was made"
    if results.errors:
        return f"{said}, but {counted(len(results.errors), 'error')}", "bad"
    if not results.finished:
        return f"{said}, but not every test was run", "bad"
    if not of:
        return said, "doubt"
    doubtful = sum(look(r) == "doubt" for r in results.results)
    if doubtful:
        return f"{said}; {count(doubtful)} undecided", "doubt"
    return f"All {count(of)} comparisons passed" if of > 1 else "The comparison passed", "good"


def _banner(results: Results, headline: str, kind: str, *, drifting: bool) -> Markup:
    links = [("summary", "Summary")]
    if drifting:
        links.append(("drift", "Drift"))
    if results.results:
        links.append(("verdicts", "Verdicts"))
    return tag(
        "header",
        tag(
            "div",
            tag("p", "Calibration report", class_="kicker"),
            tag(
                "nav",
                tag("ul", *(tag("li", tag("a", said, href=f"#{to}")) for to, said in links)),
                aria_label="On this page",
            ),
            tag("div", class_="look", id="look"),
            class_="bar-top",
        ),
        tag("h1", sign(kind), tag("span", headline), class_=kind),
        _facts(results),
        class_="banner",
    )


def _facts(results: Results) -> Markup:
    facts: list[tuple[str, Content]] = [
        ("written", tag("time", text(moment(results.created), NAME), datetime=results.created)),
        ("commit", tag("code", text(results.commit[:12])) if results.commit else None),
        ("tests", count(results.tests)),
        ("pytest-calibration", text(results.version, NAME)),
    ]
    return tag(
        "dl",
        *(tag("div", tag("dt", what), tag("dd", said)) for what, said in facts if said is not None),
        class_="session",
    )


def _footer(results: Results) -> Markup:
    return tag(
        "footer",
        tag(
            "p",
            joined(
                [
                    "Written by pytest-calibration ",
                    text(results.version, NAME),
                    ". Intervals are 95 %; the noise floor is the ECE that a perfectly calibrated "
                    "model with the same confidences would show on average.",
                ]
            ),
        ),
    )


# --- summary -------------------------------------------------------------------------------------


def _summary(results: Results) -> Iterator[Markup]:
    yield tag(
        "section",
        tag("h2", "Summary", id="summary-h"),
        _counts(results),
        *_messages(results),
        *_verdict_table(results.results),
        id="summary",
        aria_labelledby="summary-h",
    )


def _counts(results: Results) -> Markup | None:
    if not results.results:
        return None
    looks = {r.said: look(r) for r in results.results}
    return tag(
        "ul",
        *(
            tag(
                "li",
                sign(looks[said]),
                tag("b", count(n)),
                f" {said}",
                class_=f"count {looks[said]}",
            )
            for said, n in results.counts.items()
        ),
        class_="counts",
    )


def _messages(results: Results) -> Iterator[Markup]:
    """Yield what else to know: errors first."""
    if results.errors:
        yield tag(
            "div",
            tag("h3", counted(len(results.errors), "error")),
            tag("ul", *(tag("li", text(line, 2000)) for line in results.errors)),
            class_="message bad",
        )
    said = [text(line, 2000) for line in results.remarks]
    if not results.finished:
        said.append(text("Not every test was run."))
    for r in results.results:
        if r.improved and r.against == "baseline":
            said.append(joined([name(r.subject, NAME), " is better than its baseline."]))
    total = results.expected_false_alarms
    if total is not None:
        # Rounded up: what is said is an upper bound.
        most = max(math.ceil(total * 1000) / 1000, 0.001)
        compared = sum(r.false_alarm_rate is not None for r in results.results)
        said.append(
            text(
                f"Expected false alarms, had nothing changed: at most {number(most)} in "
                f"{counted(compared, 'comparison')}."
            )
        )
    if said:
        yield tag("ul", *(tag("li", line) for line in said), class_="remarks")


def _verdict_table(results: Sequence[Result]) -> Iterator[Markup]:
    if not results:
        return
    states, models, probes = (
        list(dict.fromkeys(values))
        for values in (
            [r.said for r in results],
            [r.model for r in results],
            [r.probe for r in results],
        )
    )
    filters = [("state", states), ("model", models), ("probe", probes)]
    yield tag(
        "div",
        tag("label", "Search ", tag("input", type="search", id="find", autocomplete="off")),
        *(_choice(what, values) for what, values in filters if len(values) > 1),
        tag("button", "Show all", type="button", id="clear"),
        tag(
            "output",
            f"{count(len(results))} of {count(len(results))} shown",
            id="shown",
            aria_live="polite",
        ),
        class_="filters",
        role="search",
        aria_label="Filter the verdicts",
        hidden=True,
    )
    scales = {
        metric: span(
            v
            for r in results
            if r.number.metric == metric
            for v in (
                r.number.value,
                r.number.low,
                r.number.high,
                r.number.noise_floor,
                r.limit,
                None if r.baseline is None else r.baseline.value,
            )
        )
        for metric in dict.fromkeys(r.number.metric for r in results)
    }
    rows = [
        _verdict_row(
            r,
            place,
            scales[r.number.metric],
            (
                ("data_verdict", place),
                ("data_state", states.index(r.said)),
                ("data_model", models.index(r.model)),
                ("data_probe", probes.index(r.probe)),
            ),
        )
        for place, r in enumerate(results, start=1)
    ]
    yield table(
        "All verdicts; each links to its section",
        [
            Column("state", "text"),
            Column("probe", "text"),
            Column("model", "text"),
            Column("n"),
            Column("metric", "text"),
            Column("value"),
            Column("drawn", "drawing"),
            Column("floor", hint="noise floor: what a calibrated model would show on average"),
            Column("against"),
            Column("worse by"),
        ],
        rows,
        key="all",
        sortable=True,
        hidden_caption=True,
    )
    signs = [
        ("point", "value with its 95 % interval"),
        ("off", "failing"),
        ("band", "noise floor"),
        ("before", "baseline"),
        ("limit", "limit"),
    ]
    yield tag("ul", *(tag("li", legend(kind), meaning) for kind, meaning in signs), class_="legend")


def _choice(what: str, values: Sequence[str]) -> Markup:
    options = [tag("option", f"every {what}", value="")]
    options += [
        tag("option", text(value or NAMELESS, NAME), value=i) for i, value in enumerate(values)
    ]
    return tag("label", f"{what.capitalize()} ", tag("select", *options, data_filter=what))


def _verdict_row(
    r: Result, place: int, scale: tuple[float, float], data: tuple[tuple[str, int], ...]
) -> Row:
    label, binning = _parted(r.number.label)
    against: Content = None
    held: float | None = None
    below: Content = None
    if r.limit is not None:
        against, held, below = number(r.limit), r.limit, "limit"
    elif r.baseline is not None:
        against, held = number(r.baseline.value), r.baseline.value
        below = name(r.reference or "baseline", 30)
    compared = r.limit is None and r.difference is not None
    return Row(
        [
            Cell(
                pill(r),
                key=f"{ORDER[look(r)]} {r.said}",
                below=text(", ".join(r.fired)) if r.fired else None,
            ),
            Cell(tag("a", name(r.probe, NAME), href=f"#v{place}"), key=r.probe, heads=True),
            Cell(name(r.model, NAME) if r.model else None, key=r.model),
            Cell(
                count(r.n),
                key=r.n,
                below=None if r.units == r.n else f"in {counted(r.units, 'group')}",
            ),
            Cell(text(label), key=r.number.label, below=text(binning) if binning else None),
            Cell(
                number(r.number.value),
                key=r.number.value,
                below=interval(r.number.low, r.number.high),
            ),
            Cell(
                strip(
                    scale,
                    value=r.number.value,
                    low=r.number.low,
                    high=r.number.high,
                    before=None if r.baseline is None else r.baseline.value,
                    floor=r.number.noise_floor,
                    limit=r.limit,
                    bad=r.fails,
                )
            ),
            Cell(number(r.number.noise_floor), key=r.number.noise_floor),
            Cell(against, key=held, below=below),
            Cell(
                number(r.difference) if compared else None,
                key=r.difference if compared else None,
                below=f"at least {number(r.bound)}" if compared and r.bound is not None else None,
            ),
        ],
        data=data,
    )


def _parted(label: str) -> tuple[str, str]:
    """Part a label from its binning: ``ECE (15 equal-width bins)``."""
    head, bracket, rest = label.partition(" (")
    return (head, rest.removesuffix(")")) if bracket else (label, "")
