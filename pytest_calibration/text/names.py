"""Names in sentences: no word stands twice, and a name gets an article only with its kind."""

from __future__ import annotations

import re


def labelled(kind: str, name: str) -> str:
    """Name a thing by its kind: ``parent base``; without the kind where the name begins with it.

    >>> labelled("parent", "base"), labelled("parent", "parent-7b"), labelled("parent", "")
    ('parent base', 'parent-7b', 'parent')
    """
    return f"{kind} {name}".strip() if not _begins(name, kind) else name


def definite(name: str, *kinds: str) -> str:
    """Return a name with the article where it begins with one of these kinds, else as it is.

    >>> definite("parent base", "parent"), definite("v1.2", "parent")
    ('the parent base', 'v1.2')
    """
    return f"the {name}" if any(_begins(name, kind) for kind in kinds) else name


def _begins(name: str, kind: str) -> bool:
    return re.match(rf"\s*{re.escape(kind)}(?![^\W_])", name, re.IGNORECASE) is not None
