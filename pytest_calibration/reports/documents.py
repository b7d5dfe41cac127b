"""JSON that others may have written or damaged: read it, and say in one sentence what is wrong."""

from __future__ import annotations

import json
import math
import re
from enum import EnumType
from types import NoneType
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NoReturn,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from pytest_calibration.text.visible import visible

# Characters of a value that an error message shows.
MOST_SHOWN: Final = 40
T = TypeVar("T")
_NAMES: Final[dict[Any, str]] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    tuple: "a list",
    NoneType: "null",
}


def loads(text: str) -> Any:
    """Return the values of a JSON document, in which every number is finite.

    Raises:
        json.JSONDecodeError: it is no JSON.
        ValueError: it holds a number that is not finite, or too many digits.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, parse_constant=_not_finite, parse_float=_finite)


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _not_finite(digits)


def _not_finite(word: str) -> NoReturn:
    raise ValueError(f"{visible(word, MOST_SHOWN)} is no finite number")


def converted(document: Any, kind: type[T], name: str = "the document") -> T:
    """Return a value of this type, made from plain values; fields that are not known are ignored.

    Args:
        document: values as ``loads`` returns them.
        kind: a dataclass or a struct.
        name: what an error calls the document.

    Raises:
        ValueError: the document does not fit; says where, what must be there, and what is.
    """
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as problem:
        place, rest = _problem(problem, document, kind)
        raise ValueError(f"{place or name} {rest}") from None


def _problem(problem: msgspec.ValidationError, document: Any, kind: Any) -> tuple[str, str]:
    """Return the place of a problem, and what is wrong there."""
    # msgspec names the place, but neither the value nor the key of a mapping.
    message, _, path = str(problem).partition(" - at `$")
    value, place = document, ""
    for name, index in re.findall(r"\.(\w+)|\[(.+?)\]", path.rstrip("`")):
        if NoneType in get_args(kind):
            kind = get_args(kind)[0]
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        if name:
            kind = get_type_hints(kind, include_extras=True)[name]
            value, place = value[name], f"{place}.{name}"
        elif index == "...":
            kind = get_args(kind)[1]
            key = next(key for key, entry in value.items() if not _fits(entry, kind))
            value, place = value[key], f"{place}.{visible(key, MOST_SHOWN)}"
        else:
            kind, value, place = get_args(kind)[0], value[int(index)], f"{place}[{index}]"
    place = place.removeprefix(".")
    if missing := re.fullmatch("Object missing required field `(.+)`", message):
        return place, f"lacks {missing[1]}"
    return place, f"must be {_expected(kind)}, got {shown(value)}"


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _expected(kind: Any) -> str:
    """Return a type in the words of a reader of JSON."""
    if get_origin(kind) is Annotated:
        return str(get_args(kind)[1].description)
    if isinstance(kind, EnumType) or get_origin(kind) is Literal:
        values = list(kind) if isinstance(kind, EnumType) else get_args(kind)
        return f"one of {', '.join(json.dumps(value) for value in values)}"
    if NoneType in get_args(kind):
        return " or ".join(map(_expected, get_args(kind)))
    return _NAMES.get(get_origin(kind) or kind, "an object")


def shown(value: Any) -> str:
    """Return a plain value in a few printable characters."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return visible(json.dumps(value, ensure_ascii=False), MOST_SHOWN)
