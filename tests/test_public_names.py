"""The public names of the package: the list, for type checkers and at run time."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import public_interface
import pytest
from public_interface import OF_TORCH

import pytest_calibration
from pytest_calibration.errors import MissingExtra

NAMES = [
    *("Agreement", "Baselines", "CalibrationError", "Classification", "Diagnosis", "Facts"),
    *("History", "LmEvalTask", "Measurement", "MultipleChoice", "NextToken", "PTrue"),
    "Predictions",
    *("Preference", "SequenceLogprob", "Signature", "State", "TextClassifier", "Verbalized"),
    *("Verdict", "accuracy"),
    *("assert_accuracy_above", "assert_ece_below", "assert_metric_below", "assert_no_drift"),
    *("assert_no_regression", "assert_no_regression_at", "assert_not_overconfident", "brier"),
    *("by_slice", "checkpoints", "choose_threshold", "compare", "compare_at", "diagnose", "ece"),
    *("judge", "load_model", "measure", "metrics", "nll", "plan"),
    *("read_predictions", "reliability_diagram", "slice_shifts", "trend"),
]
EACH = [
    *NAMES,
    *(
        pytest.param(
            name,
            marks=[
                pytest.mark.torch,
                pytest.mark.skipif(find_spec("transformers") is None, reason="needs transformers"),
            ],
        )
        for name in OF_TORCH
    ),
]


def names_for_type_checkers() -> dict[str, tuple[str, str]]:
    """Return public name to (module, name there), from the block under TYPE_CHECKING."""
    tree = ast.parse(Path(pytest_calibration.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imported: dict[str, tuple[str, str]] = {}
    public: dict[str, tuple[str, str]] = {}
    for node in block.body:
        if isinstance(node, ast.ImportFrom):
            (alias,) = node.names
            imported[alias.name] = str(node.module), alias.name
            # Only `name as name` is exported to type checkers.
            if alias.asname == alias.name:
                public[alias.name] = imported[alias.name]
        else:
            assert isinstance(node, ast.Assign)
            assert isinstance(node.targets[0], ast.Name)
            assert isinstance(node.value, ast.Name)
            public[node.targets[0].id] = imported[node.value.id]
    return public


def test_the_list_of_public_names_is_exact() -> None:
    """At run time and for type checkers it is the list above, which is sorted."""
    assert sorted(NAMES) == NAMES
    assert pytest_calibration.__all__ == NAMES
    assert sorted(names_for_type_checkers()) == sorted([*NAMES, *OF_TORCH])


@pytest.mark.parametrize("name", EACH)
def test_a_name_is_the_object_that_type_checkers_see(name: str) -> None:
    """The lazy table and the imports for type checkers lead to the same object."""
    module, original = names_for_type_checkers()[name]
    if name == "metrics":
        assert pytest_calibration.metrics is import_module("pytest_calibration.metrics")
    else:
        assert getattr(pytest_calibration, name) is getattr(import_module(module), original)


@pytest.mark.parametrize("name", EACH)
def test_every_public_name_has_a_docstring(name: str) -> None:
    """Its first line ends with a full stop."""
    text = inspect.getdoc(getattr(pytest_calibration, name)) or ""
    assert text.partition("\n")[0].endswith((".", "…"))


def test_names_are_listed_before_they_are_loaded() -> None:
    """Completion in a fresh interpreter lists all names and loads none."""
    code = (
        "import sys, pytest_calibration as p\n"
        f"assert set(p.__all__) | {set(OF_TORCH)} <= set(dir(p)), dir(p)\n"
        "assert dir(p) == sorted(dir(p))\n"
        "assert 'numpy' not in sys.modules\n"
        "assert callable(p.metrics.smooth_ece)\n"
        "assert 'metrics' in vars(p) and 'numpy' in sys.modules\n"
        "assert 'matplotlib' not in sys.modules and p.reliability_diagram\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module, with the name in the message."""
    with pytest.raises(AttributeError, match=r"'pytest_calibration' has no attribute 'ecce'"):
        _ = pytest_calibration.ecce
    with pytest.raises(ImportError, match="cannot import name 'ecce'"):
        from pytest_calibration import ecce  # noqa: F401


def test_a_star_import_brings_exactly_the_public_names() -> None:
    """No private name and no helper is imported."""
    space: dict[str, object] = {}
    exec("from pytest_calibration import *", space)
    assert sorted(set(space) - {"__builtins__"}) == NAMES


def test_the_version_is_a_version() -> None:
    """Three numbers, from which the package metadata is built."""
    assert [part.isdecimal() for part in pytest_calibration.__version__.split(".")] == [True] * 3


def test_what_is_public_is_as_recorded() -> None:
    """A name, parameter, flag, key or field that goes or changes is seen in review."""
    recorded = public_interface.RECORD.read_text("utf-8").splitlines()
    possible = [line for line in recorded if public_interface.can_be_made(line)]
    made = public_interface.lines()
    gone = [line for line in possible if line not in made]
    new = [line for line in made if line not in possible]
    assert not gone, (
        "gone or changed, which breaks somebody's use of it: note it under Breaking in "
        "CHANGELOG.md, or keep the old name deprecated (docs/reference/versions.md):\n"
        + "\n".join(gone)
    )
    assert not new, "new: record it (tests/public_interface.py says how):\n" + "\n".join(new)
    assert made == possible


def test_each_kind_of_thing_is_recorded() -> None:
    """The record holds what users type, of every kind."""
    recorded = public_interface.RECORD.read_text("utf-8").splitlines()
    for line in (
        "python pytest_calibration.assert_accuracy_above(predictions, limit)",
        "pytest flag --calibration-model SPEC",
        "pytest ini calibration_tolerance (float)",
        "pytest fixture calibration_model (session)",
        "pytest hook pytest_calibration_probes(config)",
        "pytest state regressed",
        "command check --max-ece",
        "command exit 3 inconclusive, under ``--strict``",
        "calibration.yaml probes.NAME.tolerance",
        "package entry point pytest11: calibration = pytest_calibration.plugin",
        "file baseline field checksum",
    ):
        assert line in recorded


def test_every_module_has_the_names_that_it_lists() -> None:
    """What `__all__` says is there, in each loaded module, unless an extra is missing."""

    def missing(module: object, name: str) -> bool:
        try:
            return not hasattr(module, name)
        except MissingExtra:
            return False

    root = Path(pytest_calibration.__file__).parent
    listed = []
    for path in sorted(root.rglob("*.py")):
        name = ".".join((root.name, *path.relative_to(root).with_suffix("").parts))
        module = sys.modules.get(name.removesuffix(".__init__"))
        listed += [(module, one) for one in getattr(module, "__all__", ())]
    assert len(listed) > len(NAMES)
    assert [(module, one) for module, one in listed if missing(module, one)] == []
