"""What a row of a data set says, in terms of its columns: Jinja expressions, run in its sandbox.

``question``, ``choices.text``, ``choices.label.index(answerKey)``, ``question | trim``. A list of
expressions gives a list of values. ``names.label`` are the names of the classes of a column.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_calibration.text.visible import quoted

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

Expression: TypeAlias = str | int | Sequence[str]


@lru_cache(maxsize=1)
def _environment() -> SandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
    # Jinja's own filter makes 0 of what is no number.
    environment.filters |= {"regex_replace": _regex_replace, "int": int}
    return environment


def _regex_replace(text: str, pattern: str, by: str = "") -> str:
    return re.sub(pattern, by, text)


def compiled(
    expression: Expression, columns: Sequence[str]
) -> tuple[Callable[[Mapping[str, Any]], Any], set[str]]:
    """Return what computes an expression from a row, and the columns that it reads.

    Args:
        expression: text; or a list of texts; or a number, which is the same for every row.
        columns: names of all columns. A column of this very name is taken before an expression.

    Raises:
        ValueError: it is no expression, or reads a column that is not there.
    """
    if not isinstance(expression, str | Sequence):
        return lambda _: expression, set()
    if not isinstance(expression, str):
        parts = [compiled(part, columns) for part in expression]
        values = [value for value, _ in parts]
        return lambda row: [value(row) for value in values], {n for _, used in parts for n in used}
    if expression in columns:
        return lambda row: row[expression], {expression}
    from jinja2 import TemplateSyntaxError, meta

    environment = _environment()
    try:
        used = meta.find_undeclared_variables(environment.parse(f"{{{{ {expression} }}}}"))
        run = environment.compile_expression(expression, undefined_to_none=False)
    except TemplateSyntaxError as problem:
        raise ValueError(f"{quoted(expression)} is no expression ({problem.message})") from None
    used -= {"names", *environment.globals} - set(columns)
    for name in sorted(used):
        if name not in columns:
            raise ValueError(
                f"{quoted(expression)}: there is no column {quoted(name)}; columns: "
                f"{', '.join(columns)}"
            )
    return lambda row: _plain(run(**row)), used


def _plain(value: Any) -> Any:
    """Return a value; an attribute that a row has not raises here what it would say later."""
    from jinja2 import Undefined

    if isinstance(value, Undefined):
        str(value)
    # What `map` and its like give.
    return list(value) if isinstance(value, Iterator | tuple) else value
