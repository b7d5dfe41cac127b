"""Mutants are found, drawn and told as `mutation.py` says; runs in the environment `mutation`."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("mutmut", reason="the dependency group `mutation` is not installed")

import mutants
from mutants import Mutant, sample, shares

SOURCE = """
from typing import Final

LEAST: Final = 50


class Gate:
    @property
    def fails(self) -> bool:
        return self.units < LEAST
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a gate of one module."""
    folder = tmp_path / "pytest_calibration" / "gate"
    folder.mkdir(parents=True)
    (folder / "rule.py").write_text(SOURCE)
    return tmp_path


def changes(root: Path) -> dict[tuple[str, str, str], Mutant]:
    """Return the mutants by where they are, and what they change."""
    return {(m.definition, m.before, m.after): m for m in mutants.mutants(root, "gate")}


def test_constants_and_properties_are_changed(root: Path) -> None:
    """The level of the module and decorated functions, which mutmut itself leaves alone."""
    found = changes(root)
    assert ("", "50", "51") in found
    less = found["Gate.fails", "< LEAST", "<= LEAST"]
    assert less.code == SOURCE.replace("<", "<=")
    assert (less.path, less.first, less.room) == ("pytest_calibration/gate/rule.py", 10, "gate")


def test_annotations_are_not_changed(root: Path) -> None:
    """A type says nothing that a test could see."""
    assert not any("bool" in before or before == "Final" for _, before, _ in changes(root))


def test_a_key_stays_where_lines_above_change(root: Path) -> None:
    """What is known of a mutant holds for it where it has moved."""
    before = {mutant.key for mutant in changes(root).values()}
    path = root / "pytest_calibration" / "gate" / "rule.py"
    path.write_text("# A line.\n" + path.read_text())
    assert {mutant.key for mutant in changes(root).values()} == before


def test_equal_changes_of_one_definition_have_keys_of_their_own(root: Path) -> None:
    """The second `1` of a line is another mutant than the first."""
    path = root / "pytest_calibration" / "gate" / "rule.py"
    path.write_text("PAIR = (1, 1)\n")
    codes = {m.key: m.code for m in mutants.mutants(root, "gate") if m.after == "2"}
    assert sorted(map(str, codes.values())) == ["PAIR = (1, 2)\n", "PAIR = (2, 1)\n"]


def test_what_is_no_other_program_is_not_drawn(root: Path) -> None:
    """`return` at the level of the module is refused by Python, so `break` has no mutant there."""
    path = root / "pytest_calibration" / "gate" / "rule.py"
    path.write_text("for _ in range(3):\n    break\n")
    found = list(mutants.mutants(root, "gate"))
    refused = [mutant for mutant in found if mutant.code is None]
    assert [mutant.after for mutant in refused] == ["return"]
    assert not set(refused) & set(sample({"gate": found}, len(found), "0"))


def test_the_same_seed_draws_the_same(root: Path) -> None:
    """A sample depends on the seed and the code alone."""
    found = {"gate": list(mutants.mutants(root, "gate"))}
    assert sample(found, 3, "1") == sample({"gate": found["gate"][::-1]}, 3, "1")
    assert {tuple(sample(found, 3, str(seed))) for seed in range(9)} > {
        tuple(sample(found, 3, "1"))
    }


def test_rooms_are_drawn_from_in_proportion() -> None:
    """Shares as the largest remainders give them: 3.1, 2.4 and 4.5 of ten are 3, 2 and 5."""
    assert shares({"a": 31, "b": 24, "c": 45}, 10) == {"a": 3, "b": 2, "c": 5}
    assert shares({"a": 1, "b": 1, "c": 1}, 2) == {"a": 1, "b": 1, "c": 0}
