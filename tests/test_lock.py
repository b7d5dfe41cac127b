"""The locked versions are complete, and anybody can install them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT: Final = Path(__file__).parent.parent
# The groups and extras of pyproject.toml in each file.
FILES: Final = {
    "core": ("test", "lint", "types", "browser", "docs", "mutation", "tools"),
    "torch": (
        *("test", "cross-check", "training", "data", "serving", "examples", "torch"),
        *("hf", "peft", "server"),
    ),
    "oldest": ("test",),
}


def pins(name: str) -> Iterator[Requirement]:
    """Yield the lines of a lock file."""
    for line in (ROOT / "lock" / f"{name}.txt").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            yield Requirement(line)


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.mark.parametrize("name", FILES)
def test_every_requirement_is_locked_within_its_range(name: str, pyproject: dict[str, Any]) -> None:
    """Where this fails, a requirement has changed since the last `tox -e lock`."""
    project = pyproject["project"]
    lists = {**project["optional-dependencies"], **pyproject["dependency-groups"]}
    wanted = [*project["dependencies"], *(text for key in FILES[name] for text in lists[key])]
    locked: dict[str, list[str]] = {}
    for pin in pins(name):
        locked.setdefault(canonicalize_name(pin.name), []).append(str(pin.specifier)[2:])
    for requirement in map(Requirement, wanted):
        versions = locked.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement} is not in lock/{name}.txt: run `tox -e lock`"
        assert all(v in requirement.specifier for v in versions), f"{requirement}: {versions}"


@pytest.mark.parametrize("name", FILES)
def test_a_lock_names_nothing_of_the_machine_that_made_it(name: str) -> None:
    """Versions alone: no address, no path, no build of torch, no CUDA."""
    for pin in pins(name):
        assert pin.url is None
        assert re.fullmatch(r"==[\d.]+(post\d+)?", str(pin.specifier)), pin
        assert not re.match("nvidia|cuda|triton", pin.name)


def test_both_locks_agree() -> None:
    """What both environments install they install in one version."""
    core, torch = (
        {(p.name, str(p.marker)): p.specifier for p in pins(name)} for name in ("core", "torch")
    )
    assert {key: core[key] for key in core.keys() & torch.keys()} == {
        key: torch[key] for key in core.keys() & torch.keys()
    }


def test_the_oldest_versions_are_those_that_the_ranges_begin_with(
    pyproject: dict[str, Any],
) -> None:
    """Where `tox -e oldest` passes, the lower bounds of pyproject.toml are true."""
    oldest = {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in pins("oldest")}
    wanted = [*pyproject["project"]["dependencies"], *pyproject["dependency-groups"]["test"]]
    for requirement in map(Requirement, wanted):
        (bound,) = (one.version for one in requirement.specifier if one.operator == ">=")
        assert Version(oldest[canonicalize_name(requirement.name)]) == Version(bound)
