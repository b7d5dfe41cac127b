"""The text that names a model, and what it resolves to.

A spec is whatever a backend takes (a directory, a hub id, ``EleutherAI/pythia-70m@step1000``), or a
glob over directories, optionally led by ``name=`` to give the model a baseline of its own.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from pytest_calibration.errors import UsageError
from pytest_calibration.history.checkpoints import in_order
from pytest_calibration.models.backends import BACKENDS, ModelSpec, backend_named
from pytest_calibration.models.places import begins_in, shown

_LABEL: Final = re.compile(r"[A-Za-z0-9._-]+")
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


def parse_spec(text: str) -> ModelSpec:
    """Read one spec that is no glob.

    Raises:
        UsageError: the text is empty, no backend takes it, or what it names does not exist.
    """
    label, location = _split(text.strip())
    if not location:
        raise UsageError("an empty model name: pass a directory or a hub id.")
    for name in BACKENDS:
        spec = backend_named(name).parse(location)
        if spec is not None:
            return replace(spec, baseline=label, backend=name)
    kinds = "; or ".join(backend_named(name).KINDS for name in BACKENDS)
    raise UsageError(
        f"model {shown(location)} is of no kind that can be loaded here "
        f"(tried: {', '.join(BACKENDS)}); pass {kinds}."
    )


def _split(text: str, folder: Path | None = None) -> tuple[str | None, str]:
    """Return the name that leads a spec, if any, and the rest.

    ``lr=1e-5/checkpoint-*`` may be a name before a model, or a path. What is there decides: the
    whole text before the rest; where neither is, the folder that the text begins with.
    A shell leaves a tilde after an equals sign as it is.
    """
    folder = folder or Path()
    label, separator, rest = text.partition("=")
    text, rest = os.path.expanduser(text), os.path.expanduser(rest.strip())
    if not separator or not _LABEL.fullmatch(label) or _is_there(text, folder):
        return None, text
    if not _is_there(rest, folder) and begins_in(text, folder):
        return None, text
    return label, rest


def _is_there(text: str, folder: Path) -> bool:
    """Whether a text is a path, or a glob that matches one."""
    return bool(text) and (os.path.exists(folder / text) or bool(_matches(text, folder)))


def _matches(text: str, folder: Path) -> list[str]:
    """Return the directories that a glob matches, from the working directory, in order of steps."""
    if not _is_glob(text):
        return []
    whole = os.path.join(glob.escape(str(folder)), text) if folder.parts else text
    return in_order(filter(os.path.isdir, glob.glob(whole)))


def _is_glob(text: str) -> bool:
    return any(sign in text for sign in "*?[") and not _URL.match(text)


def anchored(text: str, folder: Path) -> str:
    """Return a spec as typed in a file of this folder: a path there becomes a path from here."""
    label, location = _split(text, folder)
    if not location or _URL.match(location):
        return text
    if os.path.exists(folder / location):
        there = str(folder / location)
    elif _is_glob(location):
        there = os.path.join(glob.escape(str(folder)), location)
    else:
        return text
    return f"{label}={there}" if label else there


def resolve(texts: Sequence[str]) -> list[ModelSpec]:
    """Expand globs, parse every spec and give each a unique name.

    Matches of a glob come in order of their steps, so that ``checkpoint-900`` precedes
    ``checkpoint-1000``. The same model named twice counts once.

    Raises:
        UsageError: a glob without a match, a path that does not exist, an empty spec.
    """
    specs: dict[tuple[object, ...], ModelSpec] = {}
    for text in texts:
        for one in _expand(text):
            spec = parse_spec(one)
            place = Path(spec.location).resolve() if spec.local else spec.location
            specs.setdefault((place, spec.revision, spec.baseline), spec)
    return _named(list(specs.values()))


def _expand(text: str) -> list[str]:
    text = text.strip()
    label, location = _split(text)
    if not _is_glob(location) or os.path.exists(text):
        return [text]
    folders = _matches(location, Path())
    if not folders:
        raise UsageError(
            f"model {shown(text)} matches no directory (looked from {Path.cwd().name!r})."
        )
    if label:
        raise UsageError(f"model {shown(text)}: a glob names several models; leave out {label}=.")
    return folders


def _named(specs: list[ModelSpec]) -> list[ModelSpec]:
    """Name each by its own name, else by the shortest tail of its path that no other shares."""
    labels = [spec.baseline for spec in specs if spec.baseline]
    for label in labels:
        if labels.count(label) > 1:
            raise UsageError(f"the name {label}= is given to two models; give each its own.")
    paths = [_parts(spec) for spec in specs if not spec.baseline]
    names: list[str] = []
    for spec in specs:
        name = spec.baseline or _short(_parts(spec), paths)
        while name in names:
            name += "-again"
        names.append(name)
    return [replace(spec, name=name) for spec, name in zip(specs, names, strict=True)]


def _short(parts: list[str], others: list[list[str]]) -> str:
    """Join the shortest tail that occurs once; the last part where all occur again."""
    for length in range(1, len(parts) + 1):
        if sum(other[-length:] == parts[-length:] for other in others) == 1:
            return "-".join(parts[-length:])
    return parts[-1]


def _parts(spec: ModelSpec) -> list[str]:
    # Of a model on a server, its id is the last part.
    path = Path(spec.location if spec.local else spec.location.replace("#", "/"))
    parts = (path.resolve() if spec.local else path).parts
    names = [_UNSAFE.sub("-", part).strip("-") or "model" for part in parts if part not in "/\\"]
    out = names or ["model"]
    if spec.revision:
        out[-1] = f"{out[-1]}@{_UNSAFE.sub('-', spec.revision)}"
    return out
