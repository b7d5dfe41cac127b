"""The text that names a model, and what it resolves to.

A spec is a hub id (``gpt2``, ``EleutherAI/pythia-70m@step1000``), a directory, a glob over
directories, or a PEFT adapter directory, each optionally led by ``name=`` to give it a baseline of
its own. An existing path wins over a hub id; otherwise the last ``@`` splits off a revision.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from pytest_calibration.errors import UsageError

_LABEL: Final = re.compile(r"([A-Za-z0-9._-]+)=(.*)", re.DOTALL)
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class ModelSpec:
    """One model to load.

    Attributes:
        location: a directory, or a hub id.
        revision: branch, tag or commit on the hub; None for the default and for directories.
        local: whether the location is a directory.
        name: short and unique in this run, ASCII, without a path; part of test ids and reports.
        baseline: name of its own baseline, or None for the shared one.
    """

    location: str
    revision: str | None
    local: bool
    name: str = ""
    baseline: str | None = None

    @property
    def text(self) -> str:
        """The spec as a user would type it."""
        return self.location if self.revision is None else f"{self.location}@{self.revision}"

    def as_dict(self) -> dict[str, str | bool | None]:
        """Return plain values, to travel to a worker process."""
        return asdict(self)


def parse_spec(text: str) -> ModelSpec:
    """Read one spec that is no glob.

    Raises:
        UsageError: the text is empty, or a path that does not exist.
    """
    text = text.strip()
    label: str | None = None
    named = _LABEL.fullmatch(text)
    if named and not Path(text).exists():
        label, text = named[1], named[2].strip()
    if not text:
        raise UsageError("an empty model name: pass a directory or a hub id.")
    if Path(text).is_dir():
        return ModelSpec(text, None, local=True, baseline=label)
    if Path(text).exists():
        raise UsageError(
            f"model {text!r} is a file; pass the directory that holds config.json or "
            "adapter_config.json."
        )
    location, at, revision = text.rpartition("@")
    if not at:
        location, revision = text, ""
    elif not location or not revision:
        side = "after" if location else "before"
        raise UsageError(f"model {text!r}: nothing stands {side} the '@'; write id@revision.")
    if at and Path(location).is_dir():
        raise UsageError(
            f"model {text!r}: {location!r} is a directory, and only the hub has revisions; leave "
            f"out @{revision}."
        )
    if _is_path(location):
        raise UsageError(f"model {text!r}: there is no such directory.")
    return ModelSpec(location, revision or None, local=False, baseline=label)


def _is_path(text: str) -> bool:
    """Whether the text can only be meant as a path: a hub id is ``name`` or ``owner/name``."""
    return text.startswith(("/", "./", "../", "~")) or text.count("/") > 1 or "\\" in text


def anchored(text: str, folder: Path) -> str:
    """Return a spec as typed in a file of this folder: a path there becomes a path from here."""
    named = _LABEL.fullmatch(text)
    label, location = (f"{named[1]}=", named[2]) if named else ("", text)
    there = folder / location
    if location and (there.exists() or any(sign in location for sign in "*?[")):
        return f"{label}{there}"
    return text


def resolve(texts: Sequence[str]) -> list[ModelSpec]:
    """Expand globs, parse every spec and give each a unique name.

    Matches of a glob come in natural order, so that ``checkpoint-900`` precedes
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
    if not any(sign in text for sign in "*?[") or Path(text).exists():
        return [text]
    named = _LABEL.fullmatch(text)
    if named:
        raise UsageError(f"model {text!r}: a glob names several models; leave out {named[1]}=.")
    found = sorted((p for p in glob.glob(text) if Path(p).is_dir()), key=natural_key)
    if not found:
        raise UsageError(f"model {text!r} matches no directory (looked from {Path.cwd().name!r}).")
    return found


def natural_key(text: str) -> list[tuple[bool, int, str]]:
    """Sort key that compares runs of digits as numbers."""
    parts = re.split(r"(\d+)", text)
    return [(p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in parts]


def _named(specs: list[ModelSpec]) -> list[ModelSpec]:
    """Name each by the shortest tail of its path that no other shares."""
    tails = [_parts(spec) for spec in specs if not spec.baseline]
    labels = [spec.baseline for spec in specs if spec.baseline]
    for label in labels:
        if labels.count(label) > 1:
            raise UsageError(f"the name {label}= is given to two models; give each its own.")
    names: list[str] = []
    for spec in specs:
        name = spec.baseline or _short(_parts(spec), tails)
        while name in names:
            name += "-again"
        names.append(name)
    return [
        ModelSpec(s.location, s.revision, s.local, name, s.baseline)
        for s, name in zip(specs, names, strict=True)
    ]


def _short(parts: list[str], tails: list[list[str]]) -> str:
    """Join the shortest tail that occurs once; the last part where all do occur again."""
    for length in range(1, len(parts) + 1):
        if sum(other[-length:] == parts[-length:] for other in tails) == 1:
            return "-".join(parts[-length:])
    return parts[-1]


def _parts(spec: ModelSpec) -> list[str]:
    path = Path(spec.location)
    parts = (path.resolve() if spec.local else path).parts
    out = [_UNSAFE.sub("-", part).strip("-") or "model" for part in parts if part not in "/\\"]
    if spec.revision:
        out[-1] = f"{out[-1]}@{_UNSAFE.sub('-', spec.revision)}"
    return out
