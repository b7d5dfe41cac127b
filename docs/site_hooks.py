"""What the site makes of the pages, which are written to be read on GitHub, too."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# A link up and out of the pages, at any depth: to the code, the example project, a benchmark.
_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([\w.-]+[^)]*)\)")
# A role of Sphinx in a docstring, around a name that may be given with its module.
_ROLE = re.compile(r":(?:attr|class|data|func|meth):<code>~?(?:[\w.]*\.)?(\w+)</code>")


def on_config(config: Any) -> Any:
    """Name the repository that a runner of GitHub builds."""
    server, name = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    if not config.repo_url and server and name:
        config.repo_url, config.repo_name = f"{server}/{name}", name
    return config


def on_page_markdown(markdown: str, config: Any, **_: Any) -> str:
    """Let links to other files of the repository lead there; their text alone stays without one."""

    def outside(match: re.Match[str]) -> str:
        text, path = match[1], match[2]
        if (ROOT / "docs" / path).exists() or not (ROOT / path.partition("#")[0]).exists():
            return match[0]
        return f"[{text}]({config.repo_url}/blob/main/{path})" if config.repo_url else text

    return _OUTSIDE.sub(outside, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Show what docstrings say in the marks of Sphinx: names by roles, and blocks of code."""
    named = _ROLE.sub(r"<code>\1</code>", html)
    return named.replace("<p>::</p>", "").replace("::</p>", ":</p>")
