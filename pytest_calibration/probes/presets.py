"""Presets: entries for ``calibration.yaml`` that are there already, of public data sets.

A probe builds on one by ``preset: mmlu``, or by being called so: ``mmlu: {limit: 500}``. What the
probe says itself comes first, key by key within ``dataset``. A project adds presets, or changes
those that there are, under ``presets:`` in the same file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias

from pytest_calibration.errors import ConfigError, ProbeError, suggestion
from pytest_calibration.strict_yaml import read_mapping
from pytest_calibration.text.visible import quoted

Settings: TypeAlias = Mapping[str, Any]
Presets: TypeAlias = Mapping[str, Settings]
PRESET: Final = "preset"
MOST_PRESETS: Final = 50
"""How many may build on each other."""


@lru_cache(maxsize=1)
def packaged() -> Presets:
    """Return the presets of this package."""
    return read_mapping(Path(__file__).with_suffix(".yaml"), ProbeError)


def all_presets(own: Presets | None = None) -> dict[str, Settings]:
    """Return all presets: the packaged ones, and over them those of a project."""
    out: dict[str, Settings] = dict(packaged())
    for name, settings in (own or {}).items():
        builds_on_itself = name in out and "kind" not in settings and PRESET not in settings
        out[name] = merged(out[name], settings) if builds_on_itself else settings
    return out


def merged(base: Settings, over: Settings) -> dict[str, Any]:
    """Return settings with others over them; within ``dataset`` key by key."""
    out = {**base, **over}
    if isinstance(base.get("dataset"), Mapping) and isinstance(over.get("dataset"), Mapping):
        out["dataset"] = {**base["dataset"], **over["dataset"]}
    return out


def full_settings(
    name: str, settings: Settings, presets: Presets, where: str, seen: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the settings of a probe, with those of its preset.

    A probe of another kind takes its data set alone.

    Args:
        name: name of the probe; where it gives neither kind nor preset, the preset of this name.
        settings: what the probe says itself.
        presets: all presets.
        where: how the probe is named in messages.
        seen: presets that build on these settings.

    Raises:
        ConfigError: a preset that is unknown, or builds on itself.
    """
    default = name if not seen and "kind" not in settings and name in presets else None
    preset = settings.get(PRESET, default)
    own = {key: value for key, value in settings.items() if key != PRESET}
    if preset is None:
        return own
    if not isinstance(preset, str) or preset not in presets:
        hint = suggestion(preset, presets) if isinstance(preset, str) else ""
        raise ConfigError(
            f"{where}: unknown preset {quoted(preset)}{hint}; known presets: {', '.join(presets)}."
        )
    if preset in seen or len(seen) > MOST_PRESETS:
        what = "itself" if preset in seen else f"more than {MOST_PRESETS} others"
        raise ConfigError(f"{where}: the preset {quoted(preset)} builds on {what}.")
    base = full_settings(preset, presets[preset], presets, where, (*seen, preset))
    if own.get("kind", base.get("kind")) != base.get("kind"):
        # Its other settings are of another kind.
        base = {key: base[key] for key in ("dataset",) if key in base}
    return merged(base, own)
