"""Which commit a hub id stands for, found the way the loading libraries find it."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

# Every model or tokenizer has one of them; an adapter has only the second.
_NAMES: Final = ("config.json", "adapter_config.json", "tokenizer_config.json", "tokenizer.json")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
# A request waits half a minute for a network that is not there, and loading makes many.
_SILENCE_SECONDS: Final = 600
# Hub ids that got no answer, and when.
_SILENT: Final[dict[str, float]] = {}


def is_silent(repo: str) -> bool:
    """Whether a request for a hub model, a short while ago, got no answer."""
    return time.monotonic() - _SILENT.get(repo, -_SILENCE_SECONDS) < _SILENCE_SECONDS


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` keeps the libraries from asking the hub."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return False
    return bool(constants.HF_HUB_OFFLINE)


def is_kept(repo: str) -> bool:
    """Whether something of a hub model lies in the local copy."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return False
    return os.path.isdir(Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}")


def snapshot(repo: str, revision: str | None, subfolder: str = "", **options: Any) -> Path | None:
    """Return the local folder of a hub model at the commit that its revision stands for now.

    Online the hub is asked, offline the local copy is used. The folder's name is the commit; it
    need not hold the weights.

    Args:
        repo: the hub id.
        revision: branch, tag or commit; None for the default branch.
        subfolder: where in it the model lies.
        options: ``cache_dir``, ``token`` or ``local_files_only``, where loading is given them.

    Returns:
        None where the commit is not known: the library is missing, nothing was downloaded, the hub
        refuses.
    """
    within = [f"{subfolder}/{name}" for name in _NAMES] if subfolder else []
    for name in (*within, *_NAMES):
        file = _download(repo, name, revision, options)
        if file is not None:
            folder = file.parents[name.count("/")]
            if _COMMIT.fullmatch(folder.name):
                return folder
    return None


def file_of(repo: str, folder: Path, name: str, **options: Any) -> Path | None:
    """Return a small file of a snapshot; None where it has no such file.

    Args:
        repo: the hub id.
        folder: as returned by :func:`snapshot`.
        name: of the file, with its folders.
        options: as for :func:`snapshot`.
    """
    if (folder / name).is_file():
        return folder / name
    # An earlier request found that there is none.
    if (folder.parent.parent / ".no_exist" / folder.name / name).is_file():
        return None
    return _download(repo, name, folder.name, options)


def _download(repo: str, name: str, revision: str | None, options: dict[str, Any]) -> Path | None:
    try:
        from huggingface_hub import constants, hf_hub_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError:
        return None
    if is_silent(repo):
        options = {**options, "local_files_only": True}
    try:
        with _quiet():
            return Path(hf_hub_download(repo, name, revision=revision, **options))
    except LocalEntryNotFoundError:
        # There was no answer, and there is no local copy.
        if not (constants.HF_HUB_OFFLINE or options.get("local_files_only")):
            _SILENT[repo] = time.monotonic()
    except Exception:
        # Loading meets the same error and reports it.
        pass
    return None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the progress bar of a small file, and retries, out of a test report."""
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    level, hidden = logging.get_verbosity(), are_progress_bars_disabled()
    logging.set_verbosity_error()
    disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if not hidden:
            enable_progress_bars()
