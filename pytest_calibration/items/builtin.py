"""Built-in items: public facts and own prose, packaged as tables.

``data/facts.csv`` holds one fact a row (relation, subject, answer), ``data/relations.yaml`` how a
relation is stated and asked, ``data/passages.jsonl`` the prose. Statements and questions are made
from the tables here, the same way every time.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from pytest_calibration.errors import ProbeError
from pytest_calibration.predictions import digest
from pytest_calibration.strict_yaml import read_mapping

DATA: Final = Path(__file__).with_name("data")
OPTIONS: Final = 4


@dataclass(frozen=True)
class Fact:
    """One row of the table.

    Attributes:
        relation: such as ``country_capital``.
        subject: the entity that the fact is about.
        answer: the object.
    """

    relation: str
    subject: str
    answer: str


@lru_cache(maxsize=1)
def facts() -> tuple[Fact, ...]:
    """Return the table of facts, in file order."""
    with (DATA / "facts.csv").open(encoding="utf-8", newline="") as file:
        return tuple(Fact(**row) for row in csv.DictReader(file))


@lru_cache(maxsize=1)
def relations() -> Mapping[str, Mapping[str, str]]:
    """Return ``statement`` and ``question`` templates by relation."""
    return read_mapping(DATA / "relations.yaml", ProbeError)


def statement(fact: Fact) -> str:
    """Return the left context whose continuation is the answer."""
    return relations()[fact.relation]["statement"].format(subject=fact.subject)


def question(fact: Fact) -> str:
    """Return the question whose answer it is."""
    return relations()[fact.relation]["question"].format(subject=fact.subject)


def with_options(items: tuple[Fact, ...]) -> list[tuple[Fact, tuple[str, ...], int]]:
    """Give each fact four options of its own relation, the gold one at balanced positions.

    Wrong options are distinct other answers of the relation, chosen by digest, so that a new fact
    changes as few questions on other facts as possible.
    """
    answers: dict[str, dict[str, None]] = {}
    for fact in items:
        answers.setdefault(fact.relation, {})[fact.answer] = None
    # Ranks by digest: each position is gold equally often, in no visible order.
    rank = {fact: i for i, fact in enumerate(sorted(items, key=_order))}
    out = []
    for fact in items:
        others = [a for a in answers[fact.relation] if a != fact.answer]
        others.sort(key=lambda answer, fact=fact: digest(fact.subject, answer))  # type: ignore[misc]
        position = rank[fact] % OPTIONS
        options = others[: OPTIONS - 1]
        options.insert(position, fact.answer)
        out.append((fact, tuple(options), position))
    return out


def _order(fact: Fact) -> str:
    return digest("order", fact.relation, fact.subject)
