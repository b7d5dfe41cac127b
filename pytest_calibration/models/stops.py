"""Where an answer ends."""

from __future__ import annotations

from collections.abc import Iterable


def before_stop(text: str, stops: Iterable[str]) -> str | None:
    """Return what comes before the first of the stop texts; None where there is none of them.

    White space at the begin is left out first: an answer that begins on a new line has begun there.
    """
    begun = text.lstrip()
    places = [begun.find(stop) for stop in stops]
    found = [place for place in places if place >= 0]
    return begun[: min(found)] if found else None
