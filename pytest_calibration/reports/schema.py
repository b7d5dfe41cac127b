"""The JSON Schema of the JSON report, made from the dataclasses that the report is made of.

``python -m pytest_calibration.reports.schema`` prints what stands in ``results-1.schema.json``.
"""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Final, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

Schema: TypeAlias = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
FILE: Final = "results-{format}.schema.json"
# How a problem names the value that stands in a document.
MOST_SHOWN: Final = 40
_SCALARS: Final[dict[Any, Schema]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
}
_WORDS: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


@cache
def results_schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of what ``json_report`` writes."""
    from pytest_calibration.reports.model import FORMAT, Results

    definitions: dict[str, Schema] = {}
    top = _object(Results, definitions)
    metrics = {
        "description": "every number by model, probe and metric, for programs that compare two "
        "files",
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": {"type": "number"},
            },
        },
    }
    return {
        "$schema": DIALECT,
        "$id": f"urn:pytest-calibration:results:{FORMAT}",
        "title": f"JSON report of pytest-calibration, format {FORMAT}",
        **top,
        "properties": {**top["properties"], "metrics": metrics},
        "required": [*top["required"], "metrics"],
        "$defs": dict(sorted(definitions.items())),
    }


def schema_text() -> str:
    """Return the schema as it is published."""
    return json.dumps(results_schema(), indent=2) + "\n"


def _special() -> dict[tuple[str, str], Any]:
    """Return what the type of a field does not tell: a schema, or the type that it stands for."""
    from pytest_calibration.gate.decision import State
    from pytest_calibration.reports.model import FORMAT

    return {
        ("Results", "format"): {"type": "integer", "const": FORMAT},
        ("Result", "state"): {"type": "string", "enum": [str(state) for state in State]},
        ("SliceRow", "change"): {"type": "string", "enum": ["", "worse", "better", "moved"]},
    }


def _object(kind: type, definitions: dict[str, Schema]) -> Schema:
    """Describe a dataclass: every field is there, and nothing else."""
    hints, told, special = get_type_hints(kind), dict(_attributes(kind)), _special()
    properties = {}
    for field in fields(kind):
        meant = special.get((kind.__name__, field.name), hints[field.name])
        described = meant if isinstance(meant, dict) else _schema(meant, definitions)
        properties[field.name] = {"description": told[field.name], **described}
    return {
        "description": (inspect.getdoc(kind) or "").splitlines()[0],
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _schema(kind: Any, definitions: dict[str, Schema]) -> Schema:
    origin, args = get_origin(kind), get_args(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        if kind.__name__ not in definitions:
            # Named before it is described, should it ever hold itself.
            definitions[kind.__name__] = {}
            definitions[kind.__name__] = _object(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(one, definitions) for one in args]}
    if kind is type(None):
        return {"type": "null"}
    if origin is Literal:
        return {"type": "string", "enum": list(args)}
    if origin is tuple:
        return {"type": "array", "items": _schema(args[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(args[1], definitions)}
    return dict(_SCALARS[kind])


def _attributes(kind: type) -> Iterator[tuple[str, str]]:
    """Yield name and description of each attribute that the docstrings of a class tell."""
    for base in reversed(kind.__mro__):
        text = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        _, _, listed = text.partition("Attributes:\n")
        for name, said in re.findall(r"^    (\w+): (.*(?:\n     .*)*)", listed, re.MULTILINE):
            yield name, re.sub(r"\bNone\b", "null", " ".join(said.replace("``", "").split()))


# --- holding a document against it ---------------------------------------------------------------


def problems(document: Any) -> Iterator[str]:
    """Yield what is wrong with a document, the first thing of each part: where, what, what is due.

    It knows the words of this schema and no others.

    Args:
        document: what a JSON parser makes of a report.
    """
    schema = results_schema()
    yield from _problems(document, schema, "", schema["$defs"])


def _problems(
    value: Any, schema: Schema, where: str, definitions: dict[str, Schema]
) -> Iterator[str]:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        # Every choice here is one type, or null.
        choices = [one for one in schema["anyOf"] if one != _NULL]
        if value is not None:
            yield from _problems(value, choices[0], where, definitions)
        return
    at = where or "the document"
    kind = schema["type"]
    if not _is(value, kind):
        yield f"{at} must be {_WORDS[kind]}, got {_shown(value)}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{at} must be one of {', '.join(map(repr, schema['enum']))}, got {_shown(value)}"
    elif "const" in schema and value != schema["const"]:
        yield f"{at} must be {schema['const']!r}, got {_shown(value)}"
    elif kind == "array":
        for i, one in enumerate(value):
            yield from _problems(one, schema["items"], f"{where}[{i}]", definitions)
    elif kind == "object":
        known = schema.get("properties", {})
        rest = schema["additionalProperties"]
        missing = [name for name in schema.get("required", ()) if name not in value]
        if missing:
            yield f"{at} lacks {', '.join(missing)}"
        for name, one in value.items():
            inner = f"{where}.{_shown(name, '')}".removeprefix(".")
            if name in known:
                yield from _problems(one, known[name], inner, definitions)
            elif rest is False:
                yield f"{at} has {_shown(name)}, which is not known"
            else:
                yield from _problems(one, rest, inner, definitions)


_NULL: Final[Schema] = {"type": "null"}


def _is(value: Any, kind: str) -> bool:
    if kind in ("integer", "number"):
        # 600.0 is a whole number to JSON Schema, and to nobody who counts in Python.
        number = int if kind == "integer" else int | float
        return isinstance(value, number) and not isinstance(value, bool)
    expected = {"string": str, "boolean": bool, "array": list, "object": dict}[kind]
    return isinstance(value, expected)


def _shown(value: Any, quote: str = "'") -> str:
    """Write a value of a document in a few characters that do nothing."""
    from pytest_calibration.text.visible import visible

    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, str):
        return f"{quote}{visible(value, MOST_SHOWN)}{quote}"
    return json.dumps(value)


if __name__ == "__main__":
    print(schema_text(), end="")
