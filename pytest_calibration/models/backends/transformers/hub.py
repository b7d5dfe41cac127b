"""Which commit a hub id stands for, found the way the loading libraries find it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

# Every model or tokenizer has one of them; an adapter has only the second.
_NAMES: Final = ("config.json", "adapter_config.json", "tokenizer_config.json", "tokenizer.json")
_ADAPTER: Final = "adapter_config.json"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


def is_kept(repo: str) -> bool:
    """Whether something of a hub model lies in the local copy."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return False
    return os.path.isdir(Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}")


def snapshot(repo: str, revision: str | None, **options: Any) -> Path | None:
    """Return the local folder of a hub model at the commit that its revision stands for now.

    Online the hub is asked, offline the local copy is used. The folder's name is the commit; it
    need not hold the weights.

    Args:
        repo: the hub id.
        revision: branch, tag or commit; None for the default branch.
        options: ``cache_dir``, ``token`` or ``local_files_only``, where loading is given them.

    Returns:
        None where the commit is not known: the library is missing, nothing was downloaded, the hub
        refuses.
    """
    for name in _NAMES:
        file = _download(repo, name, revision, options)
        if file is not None and _COMMIT.fullmatch(file.parent.name):
            return file.parent
    return None


def adapter_file(repo: str, folder: Path, **options: Any) -> Path | None:
    """Return the adapter configuration of a snapshot; None where it is no adapter.

    Args:
        repo: the hub id.
        folder: as returned by :func:`snapshot`.
        options: as for :func:`snapshot`.
    """
    if (folder / _ADAPTER).is_file():
        return folder / _ADAPTER
    # An earlier request found that there is none.
    if (folder.parent.parent / ".no_exist" / folder.name / _ADAPTER).is_file():
        return None
    return _download(repo, _ADAPTER, folder.name, options)


def _download(repo: str, name: str, revision: str | None, options: dict[str, Any]) -> Path | None:
    try:
        from huggingface_hub import hf_hub_download

        with _quiet():
            return Path(hf_hub_download(repo, name, revision=revision, **options))
    except Exception:
        # Loading meets the same error and reports it.
        return None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the progress bar of a small file out of a test report."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
