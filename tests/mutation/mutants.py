"""Small faults put into the package one at a time, by the rules of mutmut: see `mutation.py`.

mutmut finds the places and what may stand there instead. Unlike mutmut itself, a mutant here is the
whole file as it would be written, so that constants of modules and decorated functions, properties
above all, are changed, too.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Final

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import MutationVisitor
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

PACKAGE: Final = "pytest_calibration"
ROOMS: Final = (
    *("metrics", "uncertainty", "measurement", "predictions"),
    *("gate", "baselines", "history"),
)


@dataclass(frozen=True)
class Mutant:
    """One changed place of one file.

    Attributes:
        room: which room of the package it is in.
        path: the file, from the root of the repository.
        first: the first line of what is changed.
        last: its last line.
        definition: the class and function around it, with dots; empty at the level of the module.
        before: the code that is replaced.
        after: what stands there instead.
        occurrence: how often the same was found before in the same definition.
    """

    room: str
    path: str
    first: int
    last: int
    definition: str
    before: str
    after: str
    occurrence: int
    tree: cst.Module = field(repr=False, compare=False)
    node: cst.CSTNode = field(repr=False, compare=False)
    changed: cst.CSTNode = field(repr=False, compare=False)

    @property
    def key(self) -> str:
        """What names it, also after other lines of the file have changed."""
        parts = (self.path, self.definition, self.before, self.after, self.occurrence)
        return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]

    @cached_property
    def code(self) -> str | None:
        """Return the file with the change; nothing where no other program comes of it.

        That is so where Python refuses it, and where its syntax tree is the same.
        """
        changed = self.tree.deep_replace(self.node, self.changed)
        assert isinstance(changed, cst.Module)
        try:
            compile(changed.code, self.path, "exec")
        except SyntaxError:
            return None
        return None if _shape(changed.code) == _shape(self.tree.code) else changed.code

    def diff(self) -> str:
        """Return what is changed, as a diff."""
        lines = difflib.unified_diff(
            self.tree.code.splitlines(), (self.code or "").splitlines(), lineterm="", n=1
        )
        return "\n".join(list(lines)[2:])


@lru_cache(maxsize=2)
def _shape(code: str) -> str:
    """Return what tells one program from another, whatever its layout."""
    return ast.dump(ast.parse(code))


class _Places(MutationVisitor):
    """Collects what mutmut would change, in decorated functions too."""

    def __init__(self) -> None:
        super().__init__(mutation_operators, IgnoredCode(set(), set(), set()))
        self.names: list[str] = []
        self.places: list[tuple[str, int, int]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.ClassDef | cst.FunctionDef):
            self.names.append(node.name.value)
        return super().on_visit(node)

    def on_leave(self, original_node: cst.CSTNode) -> None:
        super().on_leave(original_node)
        if isinstance(original_node, cst.ClassDef | cst.FunctionDef):
            self.names.pop()

    def _create_mutations(self, node: cst.CSTNode) -> None:
        super()._create_mutations(node)
        position = self.get_metadata(PositionProvider, node)
        place = (".".join(self.names), position.start.line, position.end.line)
        self.places += [place] * (len(self.mutations) - len(self.places))

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef) and node.decorators:
            return False
        if isinstance(node, cst.If) and cst.Module([]).code_for_node(node.test) == "TYPE_CHECKING":
            return True
        return super()._skip_node_and_children(node)


def files(root: Path, room: str) -> list[Path]:
    """Return the modules of a room."""
    place = root / PACKAGE / room
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def mutants(root: Path, room: str) -> Iterator[Mutant]:
    """Find all places of a room where something else may stand."""
    for path in files(root, room):
        wrapper = MetadataWrapper(cst.parse_module(path.read_text()))
        visitor = _Places()
        wrapper.visit(visitor)
        code: Any = wrapper.module.code_for_node
        seen: Counter[tuple[str, ...]] = Counter()
        name = path.relative_to(root).as_posix()
        for found, (definition, first, last) in zip(visitor.mutations, visitor.places, strict=True):
            node, changed = found.original_node, found.mutated_node
            same = (definition, code(node).strip(), code(changed).strip())
            yield Mutant(room, name, first, last, *same, seen[same], wrapper.module, node, changed)
            seen[same] += 1


def shares(many: Mapping[str, int], size: int) -> dict[str, int]:
    """Divide a sample among rooms in proportion to what each has, the largest remainders first."""
    total = sum(many.values())
    taken = {room: size * count // total for room, count in many.items()}
    left = sorted(many, key=lambda room: -(size * many[room] % total))
    for room in left[: size - sum(taken.values())]:
        taken[room] += 1
    return taken


def sample(found: Mapping[str, Sequence[Mutant]], size: int, seed: str) -> list[Mutant]:
    """Draw mutants from each room in proportion to what there is: those of the lowest digests.

    So a change of the code changes little else of the sample than what stands there.
    """
    drawn: list[Mutant] = []
    for room, many in shares({room: len(all_) for room, all_ in found.items()}, size).items():
        order = sorted(
            found[room], key=lambda m: hashlib.sha256(f"{seed} {m.key}".encode()).digest()
        )
        drawn += islice((mutant for mutant in order if mutant.code is not None), many)
    return drawn
