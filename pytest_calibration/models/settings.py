"""Settings of a backend, and how they are checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Final, Self, get_args, get_origin, get_type_hints

from pytest_calibration.errors import UsageError
from pytest_calibration.text.visible import quoted

_WORDS: Final[dict[type, str]] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Mapping: "a mapping",
    NoneType: "null",
}


@dataclass(frozen=True)
class BackendSettings:
    """Base class of the settings of a backend; the annotations of its fields are checked.

    Attributes:
        NOT_IN_FILE: fields that cannot be written in ``calibration.yaml``.
        FOLDERS: fields that may name a folder, which in a file is relative to the file.

    Raises:
        UsageError: a value of another type.
    """

    NOT_IN_FILE: ClassVar[frozenset[str]] = frozenset()
    FOLDERS: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for name in self.names():
            value, hint = getattr(self, name), hints[name]
            options = get_args(hint) if get_origin(hint) is UnionType else (hint,)
            types = tuple(get_origin(option) or option for option in options)
            wrong_bool = isinstance(value, bool) and bool not in types
            # A whole number is a number, too.
            allowed = (*types, int) if float in types else types
            if wrong_bool or not isinstance(value, allowed):
                words = " or ".join(_WORDS[one] for one in types)
                raise UsageError(f"{name} must be {words}, got {quoted(value)}.")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of the settings."""
        return tuple(field.name for field in fields(cls))

    @classmethod
    def names_in_file(cls) -> tuple[str, ...]:
        """Return the names of the settings that ``calibration.yaml`` may hold."""
        return tuple(name for name in cls.names() if name not in cls.NOT_IN_FILE)

    @classmethod
    def chosen(cls, values: Mapping[str, Any]) -> Self:
        """Return the settings with these values; those of other backends are left out."""
        return cls(**{name: value for name, value in values.items() if name in cls.names()})

    @classmethod
    def anchored(cls, values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Return the values of a file in this folder; a folder beside it becomes a path to it."""
        return {
            name: str(folder / value)
            if name in cls.FOLDERS and isinstance(value, str) and os.path.isdir(folder / value)
            else value
            for name, value in values.items()
        }
