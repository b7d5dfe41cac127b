"""The README for the package index, where links to files of the repository are absolute."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# Of Markdown and of HTML: what stands before a link, the link to a file, what stands behind it.
_LINK = re.compile(r"""(\]\(|(?:href|src)=")(?![a-z]+:|#)([^)"\s]+)""")


def absolute(text: str, repository: str, version: str) -> str:
    """Return a text whose links into the repository lead to the files of a version on GitHub."""

    def link(match: re.Match[str]) -> str:
        kind = "raw" if match[2].endswith((".svg", ".png")) else "blob"
        return f"{match[1]}{repository}/{kind}/v{version}/{match[2]}"

    return _LINK.sub(link, text)


class CustomMetadataHook(MetadataHookInterface):
    """Gives the package its readme, and its address where a runner of GitHub names it."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the readme, and the address of the repository."""
        text = Path(self.root, "README.md").read_text("utf-8")
        server, name = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
        if server and name:
            text = absolute(text, f"{server}/{name}", metadata["version"])
            metadata["urls"] = {"Source": f"{server}/{name}"}
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
