"""The packaged items: facts, the questions made from them, and prose."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from pytest_calibration.items import builtin
from pytest_calibration.predictions import digest

FACTS = builtin.facts()
QUESTIONS = builtin.with_options(FACTS)


def test_there_are_enough_facts_of_enough_kinds() -> None:
    """At least 1000 facts of at least 8 relations, no relation a handful."""
    sizes = Counter(fact.relation for fact in FACTS)
    assert len(FACTS) >= 1000
    assert len(sizes) >= 8
    assert min(sizes.values()) >= 20


def test_the_table_is_sorted_and_says_nothing_twice() -> None:
    """Rows are in order, and no subject has two rows in a relation, so that diffs stay small."""
    with (builtin.DATA / "facts.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["relation", "subject", "answer"]
    assert rows == sorted(rows)
    assert len({(relation, subject) for relation, subject, _ in rows}) == len(rows)
    assert all(cell and cell == cell.strip() for row in rows for cell in row)


def test_every_relation_has_its_wording_and_no_more() -> None:
    """Each relation of the table has a statement and a question that name the subject once."""
    relations = builtin.relations()
    assert set(relations) == {fact.relation for fact in FACTS}
    for wording in relations.values():
        assert set(wording) == {"statement", "question"}
        assert all(text.count("{subject}") == 1 for text in wording.values())
        assert all(text.count("{") == 1 for text in wording.values())


def test_statements_stop_where_the_answer_begins_and_questions_ask() -> None:
    """Every statement names its subject and can be continued; every question ends in its mark."""
    for fact in FACTS:
        statement, question = builtin.statement(fact), builtin.question(fact)
        assert fact.subject in statement
        assert fact.subject in question
        assert statement == statement.strip()
        assert statement[-1].isalnum()
        assert question.endswith("?")
        assert "{" not in statement + question


def test_no_two_statements_and_no_two_questions_are_the_same() -> None:
    """A text asked twice would count one answer as two."""
    for make in (builtin.statement, builtin.question):
        texts = Counter(map(make, FACTS))
        assert texts.most_common(1)[0][1] == 1


def test_options_are_four_distinct_answers_of_the_relation() -> None:
    """Wrong options are other answers of the same relation, never the right one again."""
    answers: dict[str, set[str]] = {}
    for fact in FACTS:
        answers.setdefault(fact.relation, set()).add(fact.answer)
    for fact, options, gold in QUESTIONS:
        assert len(options) == len(set(options)) == 4
        assert options[gold] == fact.answer
        assert set(options) <= answers[fact.relation]


def test_the_right_answer_stands_equally_often_at_each_place() -> None:
    """Gold positions are balanced: their counts differ by at most one."""
    counts = Counter(gold for _, _, gold in QUESTIONS)
    assert set(counts) == {0, 1, 2, 3}
    assert max(counts.values()) - min(counts.values()) <= 1


def test_wrong_options_vary_within_a_relation() -> None:
    """Distractors are drawn per subject: no wrong option follows every question."""
    for relation in builtin.relations():
        rows = [(f, o) for f, o, _ in QUESTIONS if f.relation == relation]
        many = len({f.answer for f, _ in rows}) >= 10
        seen = Counter(o for f, options in rows for o in options if o != f.answer)
        if many:
            assert seen.most_common(1)[0][1] < len(rows) * 0.9


def test_there_are_enough_passages() -> None:
    """At least 60 texts, each with its own id, none twice."""
    lines = (builtin.DATA / "passages.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) >= 60
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({row["text"] for row in rows}) == len(rows)
    assert all(set(row) == {"id", "text"} for row in rows)
    assert all(len(row["text"].split()) >= 50 for row in rows)


PRINT_DIGEST = """
import sys
sys.path[:0] = {path!r}
from fakes import FakeModel
from pytest_calibration.predictions import digest
from pytest_calibration.items import builtin
from pytest_calibration.probes.multiple_choice import MultipleChoice
from pytest_calibration.probes.next_token import NextToken
probes = MultipleChoice(shots=2), NextToken()
runs = [p.run(FakeModel(), limit=50) for p in probes]
print(digest(builtin.with_options(builtin.facts()), *(r.item_ids.tobytes() for r in runs),
             *(r.signature for r in runs), probes[0].prompt(probes[0].items[0])))
"""


@pytest.mark.parametrize("seed", ["0", "1"])
def test_items_are_the_same_in_every_process(seed: str) -> None:
    """Neither ids nor options nor shots depend on the seed of Python's hashes."""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", PRINT_DIGEST.format(path=sys.path)],
            env={**os.environ, "PYTHONHASHSEED": value},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for value in (seed, "4242")
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0].strip()) == len(digest())
