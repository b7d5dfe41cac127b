"""A kind of probe that a project brings: what it may be, and what is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_calibration.errors import ConfigError, UsageError
from pytest_calibration.probes.probe_set import from_settings, probe_set

MODULE = """
from __future__ import annotations
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from pytest_calibration.errors import UsageError

if TYPE_CHECKING:
    from nowhere import Hidden

class Riddles:
    kind = "riddles"
    def __init__(self, name, path: Path, most: int = 9, style: Literal["old", "new"] = "old",
                 words: list[str] | None = None, share: float = 1.0, free=None):
        self.name, self.given = name, (path, most, style, words, share, free)
        if most > 100:
            raise UsageError("most must be at most 100, got 101.")
    def run(self, model, limit=None): ...

@dataclass
class Plain:
    name: str
    most: int = 1
    kind = "plain"
    def run(self, model, limit=None): ...

def hidden(name, one: Hidden = None):
    return Plain(name)

def anything(name, **settings):
    probe = Plain(name)
    probe.settings = settings
    return probe

def renamed(name): return Plain("other")
def nothing(name): return None
def no_name(): return Plain("x")
def fails(name): return {}["why"]
number = 7
"""
WHERE = "calibration.yaml: probes.mine"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module of probes; what is imported from it is forgotten after the test."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    (tmp_path / "brought").mkdir()
    (tmp_path / "brought" / "probes_here.py").write_text(MODULE, "utf-8")
    (tmp_path / "brought" / "broken.py").write_text("import gone_away\n", "utf-8")
    (tmp_path / "brought" / "torn.py").write_text("def f(:\n", "utf-8")
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def make(folder: Path, kind: str, **settings: Any) -> Any:
    """Build the probe ``mine`` of a kind in the module."""
    kind = kind if ":" in kind else f"brought.probes_here:{kind}"
    return from_settings("mine", {"kind": kind, **settings}, folder, WHERE)


def test_a_class_beside_the_file_is_a_kind(folder: Path) -> None:
    """It is given the name and its settings; a path is relative to the file; limits are not its."""
    probe = make(folder, "Riddles", path="a/b.txt", most=3, words=["x"], share=2, limit=5)
    assert probe.name == "mine"
    assert probe.given == (folder / "a/b.txt", 3, "old", ["x"], 2.0, None)
    assert make(folder, "Plain", most=2, tolerance=0.1).most == 2
    assert make(folder, "anything", a=1, b="x").settings == {"a": 1, "b": "x"}
    assert make(folder, "hidden", one="anything").name == "mine"


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("Riddles", {}, r"does not take them so \(missing a required argument: 'path'\)"),
        ("no_name", {}, r"called with the name of the probe .* \(too many positional arguments\)"),
        ("Riddles", {"path": "x", "mots": 1}, r"unknown setting 'mots' \(did you mean 'most'\?\); "
         r"settings of brought\.probes_here:Riddles: path, most, style, words, share, free"),
        ("renamed", {"x": 1}, r"unknown setting 'x'; settings of .*: none"),
        ("Riddles", {"path": 3}, r"path must be Path, got 3"),
        ("Riddles", {"path": "x", "most": "3"}, r"most must be int, got '3'"),
        ("Riddles", {"path": "x", "most": True}, r"most must be int, got True"),
        ("Riddles", {"path": "x", "style": "odd"}, r"style must be .*Literal\['old', 'new'\], got"),
        ("Riddles", {"path": "x", "words": [1]}, r"words must be list\[str\] \| None, got \[1\]"),
        ("Riddles", {"path": "x", "most": 101}, r"most must be at most 100, got 101"),
        ("renamed", {}, r"made a probe named 'other'; its `name` is the first argument, 'mine'"),
        ("Riddle", {}, r"module 'brought\.probes_here' has no 'Riddle' \(did you mean 'Riddles'"),
        ("number", {}, r"kind 'brought\.probes_here:number' is neither a class nor a function"),
        ("brought.gone:A", {}, r"there is no module 'brought\.gone', neither in .* nor where"),
        ("gone:A", {}, r"there is no module 'gone'"),
        ("my module:A", {}, r"kind 'my module:A' names no class; write package\.module:Class"),
        ("a:b:c", {}, r"kind 'a:b:c' names no class"),
        (":A", {}, r"kind ':A' names no class"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_where_it_stands(
    folder: Path, kind: str, settings: dict[str, Any], message: str
) -> None:
    """File and key come first, then what is wrong; never a traceback of an import."""
    with pytest.raises(ConfigError, match=rf"calibration\.yaml: probes\.mine: .*{message}"):
        make(folder, kind, **settings)


def test_what_is_made_must_be_a_probe(folder: Path) -> None:
    """As for a probe of the hook."""
    entry = {"mine": {"kind": "brought.probes_here:nothing"}}
    with pytest.raises(UsageError, match=r"probe 'mine': a probe has a `name`.*, got None"):
        probe_set(entry, folder).get("mine")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "brought.broken:A",
            r"module 'brought\.broken' cannot be imported \(ModuleNotFoundError: .*'gone_away'; "
            r"broken\.py, line 1\)",
        ),
        (
            "brought.torn:A",
            r"module 'brought\.torn' cannot be imported \(SyntaxError: .*torn\.py, line 1\)",
        ),
        ("fails", r":fails cannot be built \(KeyError: 'why'; probes_here\.py, line \d+\)"),
    ],
)
def test_an_error_of_the_code_itself_is_told_with_its_line(
    folder: Path, kind: str, message: str
) -> None:
    """It is for its author to see, and the traceback of a wrong entry is cut."""
    with pytest.raises(ConfigError, match=message) as caught:
        make(folder, kind)
    assert caught.value.__cause__ is not None


def test_two_modules_of_one_name_are_not_mixed_up(folder: Path, tmp_path: Path) -> None:
    """Of two projects with a module of one name each, the second is told, not given the first's."""
    assert make(folder, "Plain").name == "mine"
    other = tmp_path / "other"
    (other / "brought").mkdir(parents=True)
    (other / "brought" / "probes_here.py").write_text(MODULE, "utf-8")
    with pytest.raises(ConfigError, match=r"module 'brought\.probes_here' is .*, and not the one "):
        make(other, "Plain")
