"""Which module may import what: the rooms of the package and the doors between them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import pytest_calibration

PACKAGE = "pytest_calibration"
ROOT = Path(pytest_calibration.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# Module, or package with all in it (the longest name that fits counts):
# (what it may import of ours, whenever it does so; third-party packages as it is loaded).
CORE = "errors text predictions metrics uncertainty measurement"
ROOMS: dict[str, tuple[str, str]] = {
    "": ("*", ""),
    "__main__": ("cli", ""),
    "version": ("", ""),
    "errors": ("text", ""),
    "text": ("text", ""),
    "extras": ("errors", ""),
    "files": ("", ""),
    "input_files": ("errors text", ""),
    "progress": ("text", ""),
    "strict_yaml": ("errors input_files text", "yaml"),
    "predictions": ("errors text predictions", "numpy"),
    "metrics": ("errors predictions metrics", "numpy"),
    "uncertainty": ("errors predictions metrics uncertainty", "numpy"),
    "measurement": ("errors predictions metrics uncertainty", "numpy"),
    "gate": (f"{CORE} gate", "numpy"),
    "diagnosis": (f"{CORE} gate diagnosis", "numpy"),
    "baselines": (f"{CORE} gate files input_files strict_yaml version baselines", "numpy yaml"),
    "models": ("errors extras files history.checkpoints progress text version models", ""),
    "models.protocols": ("", "numpy"),
    "models.cached_answers": ("errors models", "numpy"),
    "models.loading": ("errors extras models progress", "numpy"),
    "models.replicas": ("errors progress text models", "numpy"),
    "models.text_classifier": ("errors predictions", "numpy"),
    "models.causal": ("errors text models.protocols models.stops models.causal", "numpy"),
    "models.backends.server": (
        "errors extras progress text models.backends models.cache models.causal models.digests "
        "models.places models.protocols models.settings models.stops",
        "httpx msgspec numpy tenacity",
    ),
    "models.backends.transformers": (
        "errors extras input_files progress text models",
        "numpy torch transformers",
    ),
    "history": (f"{CORE} gate files input_files reports.documents history", "msgspec numpy"),
    "history.checkpoints": ("errors input_files models.places", ""),
    "history.commit": ("", ""),
    "history.format": ("errors input_files", ""),
    "items": ("errors extras input_files text predictions strict_yaml items", ""),
    "probes": (
        "errors extras text predictions strict_yaml items models.protocols models.stops probes",
        "numpy",
    ),
    "asking": ("errors predictions probes models progress asking", "numpy"),
    "config": ("errors text strict_yaml gate.strictness models", ""),
    "reports": (f"{CORE} gate diagnosis files input_files version reports", "msgspec"),
    "reports.html": (f"{CORE} gate diagnosis reports", "jinja2 markupsafe"),
    "reports.model": (f"{CORE} gate diagnosis", "msgspec numpy"),
    "reports.dump": (f"{CORE} files input_files reports", "msgspec numpy"),
    "readers": (
        "errors extras text input_files predictions reports.dump readers",
        "numpy",
    ),
    "sink": ("predictions gate baselines reports.model", ""),
    "assertions": (f"{CORE} gate baselines history reports sink", ""),
    "training": (
        f"{CORE} extras gate baselines history assertions asking config probes models training",
        "numpy torch transformers",
    ),
    "remedies": (
        "errors extras models predictions probes remedies",
        "numpy torch transformers trl",
    ),
    "plugin": ("*", "pytest"),
    "cli": ("*", ""),
    "cli.yaml_edit": ("errors strict_yaml", "yaml"),
    "suite": ("assertions baselines plugin.run", "pytest"),
}
# What only these may import anywhere, also inside a function.
HEAVY = frozenset({"torch", "transformers", "peft", "safetensors", "accelerate", "trl"})
HEAVY_ROOMS = frozenset(
    {"models.backends.transformers", "remedies", "training"}
    # Of transformers the tokenizer alone.
    | {"models.backends.server.served_tokenizer"}
)
# What the numpy core knows nothing of, not even inside a function.
NUMPY_CORE = frozenset(
    {"predictions", "metrics", "uncertainty", "measurement", "gate", "diagnosis", "reports.model"}
    | {"readers", "text", "models.cache", "models.cached_answers"}
)
UNKNOWN_TO_CORE = HEAVY | {"pytest", "_pytest", "yaml"}
# What a start of pytest must not load.
TEXT = ("text.visible", "text.numbers", "text.layout")
LAZY = ("numpy", "yaml", "jinja2", "torch", "transformers")


@dataclass(frozen=True)
class Import:
    """One import.

    Attributes:
        module: what is imported, in full.
        names: what is taken from it.
        line: where.
        at_load: whether it happens as the module is loaded.
        for_types: whether only a type checker sees it.
    """

    module: str
    names: tuple[str, ...]
    line: int
    at_load: bool
    for_types: bool


def imports(tree: ast.AST, *, at_load: bool = True, for_types: bool = False) -> Iterator[Import]:
    """Yield the imports of a piece of code, those inside functions too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), node.lineno, at_load, for_types)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            names = tuple(alias.name for alias in node.names)
            yield Import(str(node.module), names, node.lineno, at_load, for_types)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(node, at_load=False, for_types=for_types)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for part in node.body:
                yield from imports(ast.Module([part], []), at_load=at_load, for_types=True)
            for part in node.orelse:
                yield from imports(ast.Module([part], []), at_load=at_load, for_types=for_types)
        else:
            yield from imports(node, at_load=at_load, for_types=for_types)


def imports_of(file: Path) -> list[Import]:
    """Return all imports of a file."""
    return list(imports(ast.parse(file.read_text(encoding="utf-8"))))


def module_name(file: Path, root: Path = ROOT) -> str:
    """Name of a module within the package: ``probes.probe``; the package itself is empty."""
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def ours(found: Import, known: set[str]) -> list[str]:
    """Return the modules of ours that an import names."""
    if found.module.partition(".")[0] != PACKAGE:
        return []
    base = found.module.removeprefix(PACKAGE).removeprefix(".")
    inner = [f"{base}.{name}".removeprefix(".") for name in found.names]
    modules = [name for name in inner if name in known]
    # `from package import module` names the module; any other name comes from the package itself.
    return modules + ([base] if len(modules) < len(found.names) or not found.names else [])


def within(module: str, room: str) -> bool:
    """Whether a module is this one, or in this package."""
    return module == room or module.startswith(f"{room}.")


def room_of(module: str) -> str:
    """Return the row of the table that holds for a module."""
    fitting = [room for room in ROOMS if within(module, room) and (room or not module)]
    assert fitting, f"{module}: no row in ROOMS; say what this module may import"
    return max(fitting, key=len)


def offences(module: str, found: list[Import], known: set[str]) -> list[str]:
    """Return what a module imports against the rules, as sentences."""
    own, third = (set(text.split()) for text in ROOMS[room_of(module)])
    out = []
    for one in found:
        top = one.module.partition(".")[0]
        where = f"{module or PACKAGE}, line {one.line}"
        if top in HEAVY and not any(within(module, room) for room in HEAVY_ROOMS):
            out.append(f"{where}: only {', '.join(sorted(HEAVY_ROOMS))} may import {top}")
        in_core = any(within(module, room) for room in NUMPY_CORE)
        if top in UNKNOWN_TO_CORE and in_core:
            out.append(f"{where}: the numpy core does not know {top}")
        for name in ours(one, known):
            if "*" not in own and not any(within(name, room) for room in own):
                out.append(f"{where}: may not import {PACKAGE}.{name}".rstrip("."))
        if one.for_types or not one.at_load:
            continue
        if top not in sys.stdlib_module_names and top != PACKAGE and top not in third:
            out.append(f"{where}: may not import {top} as it is loaded")
    return out


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of an import cycle; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@cache
def graph_of(root: Path) -> dict[str, set[str]]:
    """Map each module to what it imports of ours: as it is loaded, later, and for types.

    The package itself is left out: it gives the public names of all rooms.
    """
    files = {module_name(file, root): file for file in sorted(root.rglob("*.py"))}
    return {
        module: {name for one in imports_of(file) for name in ours(one, set(files))} - {module, ""}
        for module, file in files.items()
        if module
    }


def repeated_stems(modules: Iterable[str]) -> dict[str, list[str]]:
    """Return file stems that several modules have, with these modules."""
    by_stem: dict[str, list[str]] = {}
    for module in filter(None, modules):
        by_stem.setdefault(module.rpartition(".")[2], []).append(module)
    return {stem: found for stem, found in by_stem.items() if len(found) > 1}


@pytest.mark.parametrize("file", FILES, ids=lambda f: module_name(f) or PACKAGE)
def test_a_module_imports_only_what_its_room_allows(file: Path) -> None:
    """Each module keeps to its row of the table, and torch to its one room."""
    known = {module_name(f) for f in FILES}
    assert offences(module_name(file), imports_of(file), known) == []


def test_no_two_modules_import_each_other() -> None:
    """Imports form no cycle, not even those inside functions or for types."""
    assert cycle(graph_of(ROOT)) == []


def test_nothing_imports_the_remedies() -> None:
    """They train; what measures and gates knows nothing of them."""
    users = {
        module
        for module, names in graph_of(ROOT).items()
        if any(within(name, "remedies") for name in names) and not within(module, "remedies")
    }
    assert users == set()


def test_no_two_modules_have_the_same_name() -> None:
    """The last part of a module's name says which module it is, packages aside."""
    files = [file for file in FILES if file.name != "__init__.py"]
    assert repeated_stems(map(module_name, files)) == {}


def test_every_row_of_the_table_is_about_a_module() -> None:
    """A room that is gone leaves no row behind, nor a name in another row."""
    modules = {module_name(file) for file in FILES}
    named = {*ROOMS, *NUMPY_CORE, *HEAVY_ROOMS}
    for own, _ in ROOMS.values():
        named |= set(own.split()) - {"*"}
    assert named <= modules


# --- the checks themselves ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "code", "offence"),
    [
        ("metrics", "import torch", "transformers, remedies, training may import torch"),
        ("metrics", "def f():\n    import torch", "may import torch"),
        ("metrics", "async def f():\n    from torch.nn import Module", "may import torch"),
        ("metrics", "class A:\n    import torch", "may import torch"),
        ("metrics", "if TYPE_CHECKING:\n    import torch", "may import torch"),
        ("metrics", "try:\n    import torch\nexcept ImportError:\n    pass", "may import torch"),
        ("metrics", "def f():\n    import yaml", "the numpy core does not know yaml"),
        ("gate", "def f():\n    import pytest", "the numpy core does not know pytest"),
        ("metrics", "import scipy", "may not import scipy as it is loaded"),
        ("metrics", "from pytest_calibration import measurement", "import pytest_calibration.meas"),
        (
            "metrics",
            "from pytest_calibration.measurement import measure",
            "pytest_calibration.meas",
        ),
        ("metrics", "import pytest_calibration.measurement as m", "pytest_calibration.measurement"),
        ("metrics", "from pytest_calibration import ece", "may not import pytest_calibration"),
        ("metrics", "with a:\n    import scipy", "may not import scipy"),
        ("metrics", "if TYPE_CHECKING:\n    pass\nelse:\n    import scipy", "may not import scipy"),
        ("plugin.run", "import numpy", "may not import numpy as it is loaded"),
        ("metrics", "def f():\n    from pytest_calibration import measurement", "calibration.meas"),
        (
            "gate",
            "if TYPE_CHECKING:\n    from pytest_calibration.reports.model import Result",
            "may not import pytest_calibration.reports.model",
        ),
        ("models.spec", "import numpy", "may not import numpy as it is loaded"),
        ("", "import numpy", "may not import numpy as it is loaded"),
    ],
)
def test_an_offence_is_found(tmp_path: Path, module: str, code: str, offence: str) -> None:
    """The check fails where a rule is broken, wherever the import hides."""
    file = tmp_path / "module.py"
    file.write_text(code, encoding="utf-8")
    known = {module_name(f) for f in FILES}
    found = offences(module, imports_of(file), known)
    assert len(found) >= 1
    assert any(offence in sentence for sentence in found), found


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("metrics", "import math, numpy\nfrom pytest_calibration.predictions import Predictions"),
        ("gate", "if TYPE_CHECKING:\n    from pytest_calibration.measurement import Measurement"),
        ("plugin", "def f():\n    from pytest_calibration.gate.verdict import Verdict"),
        ("models.backends.transformers", "import torch\ndef f():\n    import peft"),
    ],
)
def test_what_is_allowed_is_no_offence(tmp_path: Path, module: str, code: str) -> None:
    """The check passes what the table allows."""
    file = tmp_path / "module.py"
    file.write_text(code, encoding="utf-8")
    assert offences(module, imports_of(file), {module_name(f) for f in FILES}) == []


def test_a_repeated_name_is_found() -> None:
    """Two modules with the same last part are reported, at any depth."""
    modules = ["a.x", "b.c.x", "y", "x.z", ""]
    assert repeated_stems(modules) == {"x": ["a.x", "b.c.x"]}


def test_a_module_without_a_row_is_found() -> None:
    """A new module needs a line in the table before it is green."""
    with pytest.raises(AssertionError, match="newcomer: no row in ROOMS"):
        room_of("newcomer")


def test_a_relative_import_is_found(tmp_path: Path) -> None:
    """Imports are written in full, so that the table can be read against them."""
    file = tmp_path / "module.py"
    file.write_text("from . import sibling", encoding="utf-8")
    with pytest.raises(AssertionError, match="line 1: a relative import"):
        imports_of(file)


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        pytest.param("from pytest_calibration.a import x", True, id="at-load"),
        pytest.param("import math", False, id="none"),
        pytest.param("from pytest_calibration import a", True, id="from-the-package"),
        pytest.param("def f():\n    import pytest_calibration.a", True, id="in-a-function"),
        pytest.param(
            "if TYPE_CHECKING:\n    from pytest_calibration.a import x", True, id="for-types"
        ),
    ],
)
def test_a_cycle_is_found(tmp_path: Path, second: str, expected: bool) -> None:
    """Two modules that import each other are a cycle, whenever they do so."""
    (tmp_path / "a.py").write_text("import pytest_calibration.b", encoding="utf-8")
    (tmp_path / "b.py").write_text(second, encoding="utf-8")
    assert ({"a", "b"} <= set(cycle(graph_of(tmp_path)))) == expected


# --- the start of pytest ------------------------------------------------------------------------


def loaded_by(code: str) -> list[str]:
    """Return which of the lazy packages are loaded after this code, in a fresh interpreter."""
    report = f"import sys\n{code}\nprint(*[m for m in {LAZY!r} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, check=True
    )
    return result.stdout.split()


@pytest.mark.parametrize(
    "module",
    [PACKAGE, *(f"{PACKAGE}.{name}" for name in ("plugin", "sink", "progress", *TEXT))],
)
def test_a_start_of_pytest_loads_nothing_heavy(module: str) -> None:
    """Whoever has the package installed pays nothing for it in other projects."""
    assert loaded_by(f"import {module}") == []


def test_a_run_of_other_tests_loads_nothing_heavy(pytester: pytest.Pytester) -> None:
    """With the plugin active, a project without calibration tests never meets numpy."""
    pytester.makepyfile(
        f"import sys\n\ndef test_light():\n"
        f"    assert not [m for m in {LAZY!r} if m in sys.modules]\n"
    )
    pytester.runpytest_subprocess("-p", "no:hypothesispytest").assert_outcomes(passed=1)


def test_the_check_of_what_is_loaded_can_fail() -> None:
    """Modules that need numpy and YAML are seen to load them."""
    assert loaded_by(f"import {PACKAGE}.metrics") == ["numpy"]
    assert loaded_by(f"import {PACKAGE}.baselines") == ["numpy", "yaml"]
    assert loaded_by(f"from {PACKAGE} import ece") == ["numpy"]


# --- the length of functions ----------------------------------------------------------------------

LONGEST = 60
"""Lines of a function, its docstring aside."""


def long_functions(tree: ast.AST, longest: int = LONGEST) -> list[str]:
    """Return the functions with more lines, their docstrings aside."""
    out = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = int(node.end_lineno or 0) - node.lineno + 1
            if ast.get_docstring(node, clean=False) is not None:
                docstring = node.body[0]
                lines -= int(docstring.end_lineno or 0) - docstring.lineno + 1
            if lines > longest:
                out.append(f"{node.name}, line {node.lineno}: {lines} lines")
    return out


def test_no_function_is_too_long() -> None:
    """A function fits on a screen; what it says of its arguments may be longer."""
    found = {module_name(f): long_functions(ast.parse(f.read_text("utf-8"))) for f in FILES}
    assert {module: names for module, names in found.items() if names} == {}


def test_a_long_function_is_found() -> None:
    """Also a method, or one that waits; neither docstring nor blank line saves it."""
    docstring = '        """Say it.\n\n        At length.\n        """\n'
    body = "\n".join(["        x = 1", ""] * 3)
    for begin in ("def", "async def"):
        tree = ast.parse(f"class A:\n    {begin} f(self):\n{docstring}{body}")
        assert long_functions(tree, 6) == []
        assert long_functions(tree, 5) == ["f, line 2: 6 lines"]
