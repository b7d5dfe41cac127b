"""How the state of a verdict looks: a sign and a word, and only then a colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytest_calibration.reports.html.markup import Markup, tag

if TYPE_CHECKING:
    from pytest_calibration.reports.model import Result

SIGNS: Final = {"bad": "✗", "doubt": "?", "good": "✓"}
GOOD: Final = frozenset({"passed", "recorded"})


def look(result: Result) -> str:
    """Return ``bad``, ``doubt`` or ``good``."""
    if result.fails:
        return "bad"
    return "good" if result.state in GOOD else "doubt"


def sign(kind: str) -> Markup:
    """Return the sign of a look, which its word repeats."""
    return tag("span", SIGNS[kind], class_="sign", aria_hidden="true")


def pill(result: Result) -> Markup:
    """Return the state as a sign with its word."""
    kind = look(result)
    return tag("span", sign(kind), result.said, class_=f"pill {kind}")
