"""Which commit is checked out. Light."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Final

# Where continuous integration says which commit it tests.
_VARIABLES: Final = ("GITHUB_SHA", "CI_COMMIT_SHA", "BUILD_VCS_NUMBER", "GIT_COMMIT")
_SECONDS: Final = 10.0
_COMMIT: Final = re.compile(r"[0-9a-f]{40,64}")


def commit_of_ci() -> str:
    """Return the commit that continuous integration tests; empty where it does not say."""
    return next(filter(None, map(os.environ.get, _VARIABLES)), "")


def commit_of(folder: Path) -> str:
    """Return the commit that is tested: what continuous integration says, else that of git.

    Args:
        folder: lies in a working tree.

    Returns:
        The full digest; empty where there is no git, or no repository that it trusts.
    """
    told = commit_of_ci()
    if told:
        return told
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    commit = done.stdout.strip()
    return commit if done.returncode == 0 and _COMMIT.fullmatch(commit) else ""
