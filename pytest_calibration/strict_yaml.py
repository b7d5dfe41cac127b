"""YAML read strictly: what PyYAML accepts silently is an error here.

Duplicate keys (PyYAML keeps the last), merge-conflict markers and oversized files are refused with
one sentence each. Nothing but plain data is ever built.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

from pytest_calibration.errors import CalibrationError

MAX_BYTES: Final = 1 << 20
_CONFLICT: Final = re.compile(r"^(<{7}( |$)|={7}$|>{7}( |$))", re.MULTILINE)


class _Loader(yaml.SafeLoader):
    """Safe loader that refuses a key given twice in one mapping.

    Not the C loader: it overruns the stack on brackets nested some thousand deep.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # << takes over another mapping's keys
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be plain text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def read_mapping(path: Path, error: type[CalibrationError]) -> dict[str, Any]:
    """Read a YAML file that holds one mapping with text keys.

    Args:
        path: the file.
        error: class of the errors raised.

    Raises:
        CalibrationError: (as ``error``) unreadable, too large, conflict markers, bad YAML, a key
            given twice, or no mapping; the message names file, line and what to do.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise error(f"{path}: {size:,} bytes are too many for such a file ({MAX_BYTES:,}).")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise error(f"{path}: cannot be read ({problem}).") from None
    conflict = _CONFLICT.search(text)
    if conflict:
        line = text.count("\n", 0, conflict.start()) + 1
        raise error(
            f"{path}, line {line}: holds git conflict markers; keep one side, or restore the file "
            "and record it again."
        )
    try:
        data = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark is not None else ""
        what = getattr(problem, "problem", None) or "is no YAML"
        raise error(f"{path}{at}: {what}.") from None
    except (RecursionError, ValueError) as problem:
        raise error(f"{path}: is no YAML that can be read ({problem}).") from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise error(f"{path}: must hold a mapping with text keys, got {type(data).__name__}.")
    for key in data:
        if not isinstance(key, str):
            raise error(f"{path}: must hold a mapping with text keys, got the key {key!r}.")
    return data
