"""YAML read strictly: as YAML 1.2 says, and what PyYAML accepts silently is an error here.

PyYAML reads YAML 1.1: ``0100`` is 64, ``1:30`` is 90, ``no`` is false and ``1e-3`` is text there.
Duplicate keys (PyYAML keeps the last), merge-conflict markers, tags beyond plain data, oversized
files and aliases that grow into more than a file may hold are refused with one sentence each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

import yaml

from pytest_calibration.errors import CalibrationError
from pytest_calibration.input_files import read_text
from pytest_calibration.text.visible import MOST_QUOTED, quoted, visible

MAX_BYTES: Final = 1 << 20
MAX_NODES: Final = 20_000
"""Keys, values and lists of a file, each alias counted as all that it stands for."""
MAX_DEPTH: Final = 50
_CONFLICT: Final = re.compile(r"^(<{7}( |\r?$)|={7}\r?$|>{7}( |\r?$))", re.MULTILINE)
_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = f"{_TAG}merge"
# The core schema of YAML 1.2: tag, first characters, all of the text.
CORE: Final = (
    ("null", "~nN\0", r"(~|null|Null|NULL|)\Z"),
    ("bool", "tTfF", r"(true|True|TRUE|false|False|FALSE)\Z"),
    ("int", "-+0123456789", r"([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"),
    (
        "float",
        "-+.0123456789",
        r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z",
    ),
    # Not of the core schema, but it has no other meaning.
    ("merge", "<", r"<<\Z"),
)
_PATTERNS: Final = {name: re.compile(pattern) for name, _, pattern in CORE}


class _Loader(yaml.SafeLoader):
    """Safe loader that refuses what is large, doubtful or given twice.

    Not the C loader: it overruns the stack on brackets nested some thousand deep.
    """

    # Tables of PyYAML, filled below.
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012
    yaml_constructors: ClassVar[dict[Any, Any]] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0
        # Nodes that each anchor stands for.
        self._sizes: dict[str, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        anchor = getattr(event, "anchor", None)
        before = self._nodes
        if anchor in self.anchors and not isinstance(event, yaml.AliasEvent):
            raise _problem(f"the anchor {quoted(anchor)} is given twice", event)
        if isinstance(event, yaml.AliasEvent):
            if anchor in self.anchors and anchor not in self._sizes:
                raise _problem(f"the alias {quoted(anchor)} stands within itself", event)
            self._nodes += self._sizes.get(str(anchor), 0)
        self._nodes += 1
        self._depth += 1
        if self._nodes > MAX_NODES:
            raise _problem(f"holds more than {MAX_NODES:,} values, aliases counted in full", event)
        if self._depth > MAX_DEPTH:
            raise _problem(f"is nested more than {MAX_DEPTH} deep", event)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if anchor is not None:
            self._sizes[anchor] = self._nodes - before
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        # A scalar may have the tag of a mapping.
        if node.id == "mapping":
            self._check_keys(node)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def _check_keys(self, node: yaml.MappingNode) -> None:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:  # << takes over another mapping's keys
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise _problem("a key must be plain text", key_node)
            if key in seen:
                raise _problem(f"the key {quoted(key)} is given twice", key_node)
            seen.add(key)


def _problem(what: str, place: Any) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, what, place.start_mark)


def _scalar(name: str, what: str, make: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    """Return what makes a value of a scalar, also of one with a tag such as ``!!int``."""

    def construct(loader: Any, node: Any) -> Any:
        text = loader.construct_scalar(node)
        fits = _PATTERNS[name].match(text)
        value = make(text) if fits else None
        if not fits or (value is None and name != "null"):
            raise _problem(f"{quoted(text)} is {what}", node)
        return value

    return construct


def _whole(text: str) -> int | None:
    # Enough for any count; Python's own conversion stops at 4,300 digits.
    value = int(text, 0 if text[:2] in ("0o", "0x") else 10) if len(text) < 30 else None
    return value if value is None or abs(value) < 1 << 63 else None


def _number(text: str) -> float | None:
    if "." in text and text[-1] in "fFnN":
        return float(text.replace(".", ""))
    value = float(text)
    # A number that is written in digits is finite.
    return value if math.isfinite(value) else None


def _text(loader: Any, node: Any) -> str:
    text: str = loader.construct_scalar(node)
    if text.isascii():
        return text
    # JSON, which is YAML too, writes a character beyond 16 bits as two escapes.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


for _name, _first, _pattern in CORE:
    _Loader.add_implicit_resolver(_TAG + _name, _PATTERNS[_name], [c.strip("\0") for c in _first])
for _name, _construct in {
    "null": _scalar("null", "not null", lambda _: None),
    "bool": _scalar("bool", "neither true nor false", lambda text: text.lower() == "true"),
    "int": _scalar("int", "no whole number of at most 63 bits", _whole),
    "float": _scalar("float", "no finite number", _number),
    "str": _text,
    "merge": _text,  # where it is not a key
    "seq": _Loader.construct_yaml_seq,
    "map": _Loader.construct_yaml_map,
}.items():
    _Loader.yaml_constructors[_TAG + _name] = _construct
_Loader.yaml_constructors[None] = _Loader.construct_undefined


def is_text(plain: str) -> bool:
    """Whether these characters are read as text where they stand without quotes."""
    return not any(pattern.match(plain) for pattern in _PATTERNS.values())


def read_mapping(path: Path, error: type[CalibrationError]) -> dict[str, Any]:
    """Read a YAML file that holds one mapping with text keys.

    Args:
        path: the file.
        error: class of the errors raised.

    Raises:
        CalibrationError: (as ``error``) unreadable, too large, conflict markers, bad YAML, a key
            given twice, or no mapping; the message names file, line and what to do.
    """
    return mapping_in(read_text(path, MAX_BYTES, error), path, error)


def nodes_of(text: str) -> yaml.Node | None:
    """Return the nodes of a text that :func:`mapping_in` has read, with their places in it."""
    node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    return node


def mapping_in(text: str, path: Path, error: type[CalibrationError]) -> dict[str, Any]:
    """Return the mapping in the text of a file; see :func:`read_mapping`."""
    conflict = _CONFLICT.search(text)
    if conflict:
        line = text.count("\n", 0, conflict.start()) + 1
        raise error(
            f"{path}, line {line}: holds git conflict markers; keep one side, or restore the file "
            "and record it again."
        )
    try:
        data = yaml.load(text, Loader=_Loader)
    except yaml.reader.ReaderError as problem:
        line = text.count("\n", 0, problem.position) + 1
        raise error(
            f"{path}, line {line}: is no YAML (the character U+{ord(text[problem.position]):04X} "
            "may stand in it as an escape only)."
        ) from None
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark is not None else ""
        what = visible(str(getattr(problem, "problem", None) or "is no YAML"), MOST_QUOTED)
        raise error(f"{path}{at}: {what}.") from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise error(f"{path}: must hold a mapping with text keys, got {type(data).__name__}.")
    for key in data:
        if not isinstance(key, str):
            raise error(f"{path}: must hold a mapping with text keys, got the key {quoted(key)}.")
    return data
