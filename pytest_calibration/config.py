"""``calibration.yaml``: what a project probes, reviewed like code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pytest_calibration.errors import ConfigError, UsageError
from pytest_calibration.gate.strictness import range_error
from pytest_calibration.models.checkpoint import LoadSettings
from pytest_calibration.strict_yaml import read_mapping

MODEL_KEYS: Final[dict[str, tuple[type, ...]]] = {
    "device": (str,),
    "dtype": (str,),
    "batch_tokens": (int,),
    "tokenizer": (str, type(None)),
    "trust_remote_code": (bool,),
    "safetensors_only": (bool,),
    "arguments": (dict,),
    "tokenizer_arguments": (dict,),
}
TOP_KEYS: Final = ("model", "probes", "tolerance", "alpha")


@dataclass(frozen=True)
class Config:
    """A project's ``calibration.yaml``, or nothing where there is none.

    Attributes:
        path: the file; None where there is none.
        model: settings of :class:`~pytest_calibration.models.checkpoint.LoadSettings`.
        probes: probe name to its settings.
        tolerance: allowed worsening where neither call nor record says anything.
        alpha: one-sided error level of each bound.
    """

    path: Path | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    probes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tolerance: float | None = None
    alpha: float | None = None

    @property
    def folder(self) -> Path:
        """What paths in the file are relative to."""
        return self.path.parent if self.path is not None else Path()

    @property
    def limits(self) -> dict[str, int]:
        """The ``limit:`` of each probe that has one."""
        return {n: entry["limit"] for n, entry in self.probes.items() if entry.get("limit")}

    def probe_tolerance(self, name: str) -> float | None:
        """Return the ``tolerance:`` of a probe, else the project's."""
        own = self.probes.get(name, {}).get("tolerance")
        return self.tolerance if own is None else float(own)

    def load_settings(self, **chosen: Any) -> LoadSettings:
        """Combine the file's model settings with what the command line chose (None: nothing)."""
        said = {key: value for key, value in chosen.items() if value is not None}
        settings = {**self.model, **said}
        tokenizer = settings.get("tokenizer")
        if "tokenizer" not in said and tokenizer is not None:
            beside = self.folder / tokenizer
            settings["tokenizer"] = str(beside) if beside.is_dir() else tokenizer
        return LoadSettings(**settings)


def read_config(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        ConfigError: what is wrong, by file, key and value.
    """
    data = read_mapping(path, ConfigError)
    _known(path, "", data, TOP_KEYS)
    model = _mapping(path, "model", data.get("model"))
    _known(path, "model.", model, tuple(MODEL_KEYS))
    for key, value in model.items():
        allowed = MODEL_KEYS[key]
        wrong_bool = isinstance(value, bool) and bool not in allowed
        if wrong_bool or not isinstance(value, allowed):
            names = " or ".join(_WORDS[t] for t in allowed)
            raise ConfigError(f"{path}: model.{key} must be {names}, got {value!r}.")
    try:
        LoadSettings(**model)
    except UsageError as problem:
        raise ConfigError(f"{path}: model: {problem}") from None
    probes = _mapping(path, "probes", data.get("probes"))
    for name, settings in probes.items():
        entry = _mapping(path, f"probes.{name}", settings)
        _check_limit(path, name, entry)
        _strictness(path, f"probes.{name}.tolerance", entry.get("tolerance"))
    return Config(
        path=path,
        model=model,
        probes={name: settings or {} for name, settings in probes.items()},
        tolerance=_strictness(path, "tolerance", data.get("tolerance")),
        alpha=_strictness(path, "alpha", data.get("alpha")),
    )


_WORDS: Final[dict[type, str]] = {
    str: "text",
    int: "a whole number",
    bool: "true or false",
    dict: "a mapping",
    type(None): "null",
}


def _known(path: Path, prefix: str, data: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    for key in data:
        if key not in keys:
            near = get_close_matches(key, keys, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ConfigError(
                f"{path}: unknown key {prefix}{key}{hint}; known keys: {', '.join(keys)}."
            )


def _mapping(path: Path, key: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
        raise ConfigError(f"{path}: {key} must be a mapping with text keys, got {value!r}.")
    return value


def _check_limit(path: Path, name: str, entry: Mapping[str, Any]) -> None:
    limit = entry.get("limit")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ConfigError(
            f"{path}: probes.{name}.limit must be a whole number of at least 1, got {limit!r}."
        )


def _strictness(path: Path, key: str, value: Any) -> float | None:
    problem = value is not None and range_error(key.rpartition(".")[2], value)
    if problem:
        raise ConfigError(f"{path}: {key} {problem}.")
    return None if value is None else float(value)
