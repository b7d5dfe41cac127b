"""Texts that mean a directory, and what is said where it is not there."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Final

# Names that a message shows, and characters of each.
MOST_NAMES: Final = 6
MOST_CHARACTERS: Final = 60
_PATH: Final = re.compile(r"/|\.{1,2}(/|$)|~|[A-Za-z]:[/\\]")


def begins_in(text: str, folder: Path) -> bool:
    """Whether the first of several folders in a text exists in a folder."""
    first, separator, _ = text.partition("/")
    return bool(separator and first) and os.path.isdir(folder / first)


def can_only_be_path(text: str) -> bool:
    """Whether a text can be no ``name`` and no ``owner/name``."""
    return bool(_PATH.match(text)) or text.count("/") > 1 or "\\" in text or text.endswith("/")


def what_is_there(text: str) -> str:
    """Say which folders lie where a path ends that is not there, the most similar first.

    Returns:
        ``there is no such directory``, and names if there are any; without a full stop.
    """
    path = Path(os.path.expanduser(text))
    parents = [path, *path.parents]
    at = next((i for i, one in enumerate(parents) if os.path.isdir(one)), 0)
    if not at:
        return "there is no such directory"
    folder, wanted = parents[at], parents[at - 1].name
    try:
        names = sorted(
            one.name
            for one in folder.iterdir()
            if one.is_dir() and not one.name.startswith((".", "__"))
        )
    except OSError:
        names = []
    similar = difflib.get_close_matches(wanted, names, MOST_NAMES, cutoff=0.0)
    more = f" and {len(names) - len(similar):,} more" if len(names) > len(similar) else ""
    holds = ", ".join(shown(name, MOST_CHARACTERS) for name in similar) or "no folder"
    return f"there is no such directory; {shown(str(folder))} holds {holds}{more}"


def similar_folder(text: str) -> str:
    """Return the folder here whose name is most like a text; empty where none is like it."""
    try:
        names = [one.name for one in Path().iterdir() if one.is_dir()]
    except OSError:
        return ""
    return next(iter(difflib.get_close_matches(text[:256], names, 1, cutoff=0.8)), "")


def shown(text: str, most: int = 200) -> str:
    """Return a text in quotation marks; of a long one the end, where paths differ."""
    return repr(text if len(text) <= most else f"…{text[1 - most :]}")
