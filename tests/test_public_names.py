"""What ``from pytest_calibration import …`` offers."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import pytest_calibration

SOURCE = Path(pytest_calibration.__file__)


def names_for_type_checkers() -> dict[str, str]:
    """Name to module, as the block under TYPE_CHECKING says."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.asname or alias.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_all_is_sorted_and_says_nothing_twice() -> None:
    """``__all__`` is in the order of the alphabet, capitals first."""
    names = pytest_calibration.__all__
    assert names == sorted(set(names))


def test_all_is_what_type_checkers_see() -> None:
    """What is promised, what a type checker finds and what is loaded lazily are one list."""
    assert set(pytest_calibration.__all__) == set(names_for_type_checkers())
    assert set(pytest_calibration.__all__) == set(pytest_calibration._MODULE_OF)


@pytest.mark.parametrize("name", pytest_calibration.__all__)
def test_every_name_comes_from_the_module_that_is_named(name: str) -> None:
    """The lazy table and the type checker's imports lead to the same object."""
    home = import_module(names_for_type_checkers()[name])
    assert getattr(pytest_calibration, name) is getattr(home, name)
    assert home.__name__ == f"pytest_calibration.{pytest_calibration._MODULE_OF[name]}"


@pytest.mark.parametrize("name", pytest_calibration.__all__)
def test_every_public_name_says_what_it_is(name: str) -> None:
    """A public object has a docstring that ends its first line with a full stop."""
    text = inspect.getdoc(getattr(pytest_calibration, name)) or ""
    assert text.partition("\n")[0].endswith((".", "…"))


def test_dir_lists_every_name_before_any_is_loaded() -> None:
    """Completion in a fresh interpreter offers all of it, loading none."""
    code = (
        "import sys, pytest_calibration as p\n"
        "assert set(p.__all__) <= set(dir(p)), dir(p)\n"
        "assert dir(p) == sorted(dir(p))\n"
        "assert 'numpy' not in sys.modules\n"
        "p.ece\n"
        "assert 'ece' in vars(p) and 'numpy' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """As of any module, with the name in the message."""
    with pytest.raises(AttributeError, match=r"'pytest_calibration' has no attribute 'ecce'"):
        _ = pytest_calibration.ecce
    with pytest.raises(ImportError, match="cannot import name 'ecce'"):
        from pytest_calibration import ecce  # noqa: F401


def test_a_star_import_brings_exactly_the_public_names() -> None:
    """Nothing private, no module and no helper comes along."""
    space: dict[str, object] = {}
    exec("from pytest_calibration import *", space)
    assert set(space) - {"__builtins__"} == set(pytest_calibration.__all__)


def test_the_version_is_a_version() -> None:
    """Three numbers, as the package metadata takes them from here."""
    assert [part.isdecimal() for part in pytest_calibration.__version__.split(".")] == [True] * 3
