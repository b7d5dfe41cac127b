"""The page from its templates: one file that loads nothing and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pytest_calibration.diagnosis.slices import FDR
from pytest_calibration.reports.html import drawing, formats, views
from pytest_calibration.reports.html.drift_charts import all_drifts
from pytest_calibration.text.numbers import counted

if TYPE_CHECKING:
    from pytest_calibration.reports.model import Results

# What the verdicts of a session share out, so that a page of many still opens at once.
ALL_SLICES: Final = 1500
ALL_ITEMS: Final = 400
FEWEST_SLICES: Final = 20
FEWEST_ITEMS: Final = 5
# Number of texts and expressions of the templates that make one piece of the page.
PIECE: Final = 200


def html_report(results: Results) -> Iterator[str]:
    """Yield a whole page in pieces. Equal results give the same page, byte for byte.

    Without scripts everything is there to be read; with them tables sort, verdicts filter, and a
    light or dark theme can be chosen.

    Args:
        results: the session.
    """
    environment = templates()
    style, script = (source(environment, name) for name in ("style.css", "script.js"))
    title, outcome = views.headline(results)
    verdicts = max(len(results.results), 1)
    stream = environment.get_template("page.html.jinja").stream(
        style=style,
        script=script,
        policy=policy(style, script),
        session=results,
        title=title,
        title_outcome=outcome,
        drifts=all_drifts(results),
        most_slices=max(FEWEST_SLICES, ALL_SLICES // verdicts),
        most_items=max(FEWEST_ITEMS, ALL_ITEMS // verdicts),
    )
    stream.enable_buffering(PIECE)
    yield from stream


def policy(style: str, script: str) -> str:
    """Return a content security policy that allows this style and this script, and nothing else."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def templates() -> Environment:
    """Return the templates of the page, with the filters and functions that they may use.

    All text is escaped as it is printed, control and bidirectional characters too. An unknown name
    is an error.
    """
    environment = Environment(
        loader=_Unindented(__package__),
        autoescape=True,
        finalize=formats.printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (
        formats.cut, formats.prose, formats.tail, formats.moment, formats.exact,
        formats.number, formats.signed, formats.share, formats.q_value,
        formats.thousands, formats.px, counted,
        views.outcome, views.metric_name, views.options, views.most_likely,
    )  # fmt: skip
    functions = (
        formats.interval, formats.side_by_side,
        drawing.Scale, drawing.span, drawing.widened, drawing.ticks,
        views.worst_first, views.false_alarms, views.choices, views.ranges,
        views.paired, views.recalibrations, views.settings,
    )  # fmt: skip
    environment.filters.update({function.__name__: function for function in filters})
    environment.globals.update({function.__name__: function for function in functions})
    environment.globals.update(SIGNS=views.SIGNS, FDR=FDR)
    return environment


def source(environment: Environment, name: str) -> Markup:
    """Return a file of the templates' folder that is no template, to be printed unescaped."""
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])


def _digest(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


class _Unindented(PackageLoader):
    """Reads templates without their indentation, which would be a third of the page."""

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str, Callable[[], bool] | None]:
        text, path, is_current = super().get_source(environment, template)
        return re.sub(r"(?m)^[ \t]+", "", text), path, is_current
