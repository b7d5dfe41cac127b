"""One value of a YAML file set, with all else left as it stands: comments, order and layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from pytest_calibration.errors import ConfigError
from pytest_calibration.strict_yaml import is_text, mapping_in, nodes_of

_NULL: Final = "tag:yaml.org,2002:null"


def with_value(text: str, keys: Sequence[str], value: str, path: Path) -> str:
    """Return a YAML text in which one key has a value.

    Where the key is not there, it is put behind a key of one line of the same mapping; mappings on
    the way to it that are missing are written in braces.

    Args:
        text: content of the file, one mapping.
        keys: way to the key, from the top.
        value: its text.
        path: the file, for messages.

    Raises:
        ConfigError: the text cannot be changed so without changing more, as where an alias stands
            for the mapping.
    """
    old = mapping_in(text, path, ConfigError)
    root = nodes_of(text)
    new = _appended(text, keys, value) if root is None else _changed(text, root, keys, value)
    expected = _copied(old)
    _set(expected, keys, value)
    try:
        same = mapping_in(new, path, ConfigError) == expected
    except ConfigError:
        same = False
    if not same:
        raise ConfigError(
            f"{path}: {'.'.join(keys)} cannot be set without changing more of the file; write "
            f"{keys[-1]}: {_scalar(value)} there."
        )
    return new


def _copied(data: Any) -> Any:
    """Return a copy in which nothing stands twice: an alias is as if it had been written out."""
    return {k: _copied(v) for k, v in data.items()} if isinstance(data, dict) else data


def _set(data: Any, keys: Sequence[str], value: str) -> None:
    """Set a value in a tree of mappings; a missing mapping is made."""
    for key in keys[:-1]:
        if data.get(key) is None:
            data[key] = {}
        data = data[key]
    data[keys[-1]] = value


def _changed(text: str, node: yaml.Node, keys: Sequence[str], value: str) -> str:
    for depth, key in enumerate(keys):
        rest = keys[depth:]
        if _is_null(node):
            # Nothing, or a word for it, in the place of a mapping.
            start, end = node.start_mark.index, node.end_mark.index
            space = "" if text[start - 1 : start].isspace() else " "
            return f"{text[:start]}{space}{_braces(rest, value)}{text[end:]}"
        if not isinstance(node, yaml.MappingNode):
            return text
        found = next((v for k, v in node.value if k.value == key), None)
        if found is None:
            if depth == 0 and not node.flow_style:
                return _appended(text, keys, value)
            return _inserted(text, node, _pair(rest, value))
        node = found
    start, end = node.start_mark.index, node.end_mark.index
    space = " " if start == end and not text[start - 1 : start].isspace() else ""
    return f"{text[:start]}{space}{_scalar(value)}{text[end:]}"


def _inserted(text: str, node: yaml.MappingNode, pair: str) -> str:
    """Return a text with a pair added to a mapping."""
    if node.flow_style:
        if not node.value:
            at = node.start_mark.index + 1
            return f"{text[:at]}{pair}{text[at:]}"
        at = node.value[-1][1].end_mark.index
        return f"{text[:at]}, {pair}{text[at:]}"
    indent = " " * node.start_mark.column
    line_end = "\r\n" if "\r\n" in text else "\n"
    for key, found in reversed(node.value):
        if key.start_mark.line == found.end_mark.line:
            at = text.find("\n", found.end_mark.index)
            if at < 0:
                return f"{text}{line_end}{indent}{pair}{line_end}"
            return f"{text[: at + 1]}{indent}{pair}{line_end}{text[at + 1 :]}"
    at = node.start_mark.index
    return f"{text[:at]}{pair}{line_end}{indent}{text[at:]}"


def _appended(text: str, keys: Sequence[str], value: str) -> str:
    """Return a text with a key of the top added at its end."""
    line_end = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not text or text.endswith("\n") else line_end
    return f"{text}{gap}{_pair(keys[:1], None)}{line_end}  {_pair(keys[1:], value)}{line_end}"


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL


def _pair(keys: Sequence[str], value: str | None) -> str:
    """Return ``key: value``, further keys in braces."""
    if value is None:
        return f"{_scalar(keys[0])}:"
    inner = _scalar(value) if len(keys) == 1 else _braces(keys[1:], value)
    return f"{_scalar(keys[0])}: {inner}"


def _braces(keys: Sequence[str], value: str) -> str:
    return f"{{{_pair(keys, value)}}}"


def _scalar(text: str) -> str:
    """Return a text as YAML: plain where it is a name that is read as text."""
    plain = text and all(c.isalnum() or c in "._-/" for c in text) and text[0].isalnum()
    if plain and text.isascii() and is_text(text):
        return text
    quoted: str = yaml.safe_dump(text, default_style='"', width=1 << 20, allow_unicode=True)
    return quoted.strip()
