"""``calibration.yaml``: what a project probes, reviewed like code."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pytest_calibration.errors import ConfigError, UsageError, suggestion
from pytest_calibration.gate.strictness import OperatingPoint, range_error
from pytest_calibration.models.backends import all_backends
from pytest_calibration.strict_yaml import read_mapping
from pytest_calibration.text.visible import MOST_QUOTED, quoted, visible

CONFIG: Final = "calibration.yaml"
MISNAMED: Final = re.compile(r"\.?calibrations?\.ya?ml", re.IGNORECASE)
POINTS: Final = "operating_points"
TOP_KEYS: Final = (
    *("model", "probes", "presets", "tolerance", "drift_tolerance", "alpha", "tail"),
    POINTS,
)
POINT_KEYS: Final = ("threshold", "tolerance", "coverage_tolerance")


@dataclass(frozen=True)
class Config:
    """A project's ``calibration.yaml``; empty where there is none.

    Attributes:
        path: the file; None where there is none.
        model: settings of the models' backends, by name.
        probes: probe name to its settings.
        presets: name of a preset to its settings, which probes build on.
        tolerance: allowed worsening where neither call nor record gives one.
        drift_tolerance: allowed worsening since the anchor, over all accepted steps together.
        alpha: one-sided error level of each bound.
        tail: the answers with more confidence than this are also compared by themselves.
        points: operating points of all probes; None where the file names none.
    """

    path: Path | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    probes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tolerance: float | None = None
    drift_tolerance: float | None = None
    alpha: float | None = None
    tail: float | None = None
    points: tuple[OperatingPoint, ...] | None = None

    @property
    def folder(self) -> Path:
        """What paths in the file are relative to."""
        return self.path.parent if self.path is not None else Path()

    @property
    def limits(self) -> dict[str, int]:
        """The ``limit:`` of each probe that has one."""
        limits = {name: self._setting(name, "limit") for name in (*self.probes, *self.presets)}
        return {name: limit for name, limit in limits.items() if limit}

    def probe_tolerance(self, name: str) -> float | None:
        """Return the ``tolerance:`` of a probe, else the project's."""
        own = self._setting(name, "tolerance")
        return self.tolerance if own is None else float(own)

    def own_points(self, name: str) -> tuple[OperatingPoint, ...] | None:
        """Return the ``operating_points:`` of a probe; None where it names none of its own."""
        points: tuple[OperatingPoint, ...] | None = self._setting(name, POINTS)
        return points

    def operating_points(self, name: str) -> tuple[OperatingPoint, ...]:
        """Return the ``operating_points:`` of a probe, else the project's."""
        own = self.own_points(name)
        return self.points or () if own is None else own

    def _setting(self, name: str, key: str) -> Any:
        """Return a setting of a probe, else of the presets of this file that it builds on."""
        entry = self.probes.get(name, {})
        seen: set[object] = set()
        while entry.get(key) is None:
            preset = entry.get("preset", None if "kind" in entry else name)
            if not isinstance(preset, str) or preset in seen or preset not in self.presets:
                return None
            seen.add(preset)
            entry = self.presets[preset]
        return entry[key]

    def load_settings(self, **chosen: Any) -> dict[str, Any]:
        """Return the model settings, those of the command line over the file's (None: nothing).

        Raises:
            UsageError: a value that the backend which has the setting refuses.
        """
        settings: dict[str, Any] = dict(self.model)
        for backend in all_backends():
            settings = backend.Settings.anchored(settings, self.folder)
        settings |= {name: value for name, value in chosen.items() if value is not None}
        for backend in all_backends():
            backend.Settings.chosen(settings)
        return settings


def nearest_config(folder: Path) -> Path | None:
    """Return the ``calibration.yaml`` of a folder or of the nearest one above; None without any."""
    for place in (folder, *folder.parents):
        path = place / CONFIG
        # A link that leads nowhere is there, too: it must not be passed over in silence.
        if os.path.lexists(path) and not os.path.isdir(path):
            return path
    return None


def misnamed_config(folder: Path) -> str:
    """Return the name of a file that was meant to be read and is not; empty where there is none."""
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder)):
            if MISNAMED.fullmatch(name) and name != CONFIG:
                return name
    return ""


def read_config(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        ConfigError: what is wrong, by file, key and value.
    """
    data = read_mapping(path, ConfigError)
    _check_keys(path, "", data, TOP_KEYS)
    model = _mapping(path, "model", data.get("model"))
    backends = all_backends()
    names = dict.fromkeys(name for one in backends for name in one.Settings.names_in_file())
    _check_keys(path, "model.", model, names)
    try:
        for backend in backends:
            backend.Settings.chosen(model)
    except UsageError as problem:
        raise ConfigError(f"{path}: model: {problem}") from None
    return Config(
        path=path,
        model=model,
        probes=_entries(path, "probes", data),
        presets=_entries(path, "presets", data),
        tolerance=_strictness(path, "tolerance", data.get("tolerance")),
        drift_tolerance=_strictness(path, "drift_tolerance", data.get("drift_tolerance")),
        alpha=_strictness(path, "alpha", data.get("alpha")),
        tail=_strictness(path, "tail", data.get("tail")),
        points=_points(path, POINTS, data.get(POINTS)),
    )


def _check_keys(path: Path, prefix: str, data: Mapping[str, Any], keys: Iterable[str]) -> None:
    for key in data:
        if key not in keys:
            raise ConfigError(
                f"{path}: unknown key {prefix}{visible(key, MOST_QUOTED)}{suggestion(key, keys)}; "
                f"known keys: {', '.join(keys)}."
            )


def _mapping(path: Path, key: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
        raise ConfigError(f"{path}: {key} must be a mapping with text keys, got {quoted(value)}.")
    return value


def _entries(path: Path, section: str, data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings of each probe or preset in a section."""
    entries = {}
    for name, settings in _mapping(path, section, data.get(section)).items():
        key = f"{section}.{visible(name, MOST_QUOTED)}"
        entries[name] = entry = dict(_mapping(path, key, settings))
        _check_limit(path, f"{key}.limit", entry.get("limit"))
        _strictness(path, f"{key}.tolerance", entry.get("tolerance"))
        points = _points(path, f"{key}.{POINTS}", entry.get(POINTS))
        if points is not None:
            entry[POINTS] = points
    return entries


def _check_limit(path: Path, key: str, value: Any) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and (not whole or value < 1):
        raise ConfigError(
            f"{path}: {key} must be a whole number of at least 1, got {quoted(value)}."
        )


def _points(path: Path, key: str, value: Any) -> tuple[OperatingPoint, ...] | None:
    """Return operating points, each a threshold or a mapping; None where none are named."""
    if value is None:
        return None
    if not isinstance(value, list):
        raise ConfigError(
            f"{path}: {key} must be a list of thresholds, such as [0.9], got {quoted(value)}."
        )
    points = tuple(_point(path, f"{key}[{i}]", one) for i, one in enumerate(value))
    for i, point in enumerate(points):
        if point.threshold in [p.threshold for p in points[:i]]:
            raise ConfigError(
                f"{path}: {key}[{i}] names the threshold {point.name} a second time; name it once."
            )
    return points


def _point(path: Path, key: str, value: Any) -> OperatingPoint:
    settings = value if isinstance(value, dict) else {"threshold": value}
    _check_keys(path, f"{key}.", settings, POINT_KEYS)
    if "threshold" not in settings:
        raise ConfigError(f"{path}: {key} needs a threshold: the confidence answers are used from.")
    for name, setting in settings.items():
        where = key if settings is not value else f"{key}.{name}"
        if problem := range_error(name, setting):
            raise ConfigError(f"{path}: {where} {problem}.")
    return OperatingPoint(**settings)


def _strictness(path: Path, key: str, value: Any) -> float | None:
    problem = value is not None and range_error(key.rpartition(".")[2], value)
    if problem:
        raise ConfigError(f"{path}: {key} {problem}.")
    return None if value is None else float(value)
