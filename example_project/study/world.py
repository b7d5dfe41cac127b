"""What the study's models read and are asked: the Almanac's people, and what is said of them.

There are 720 people and four relations. Three (city, trade, instrument) are taught in alignment;
the fourth, what a person drinks, is read in pretraining only: questions of it are *out of domain*.

Of everything two things are said, one more often than the other: of 100 texts, 50 to 100 say the
one. So there is something to be unsure of that no training can take away: what the next text says.
The answer to a question is one further such text, and a model that knows all shares is calibrated
and has an accuracy of about 0.75; what is higher on a training set has been learnt by heart.

The people are divided by their rank, so that each part has the same mix of famous and obscure ones:

* ``instruct`` are those of the instruction sets,
* ``prefer`` those of preferences, of the reward model and of the prompts of RLOO,
* ``remedy`` those whose questions CFT, RCFT and label smoothing train on,
* ``fit`` those on whose questions a temperature is fitted,
* ``held-out`` those whom the probes ask for.

All of them are in the pretraining text. Everything follows from fixed seeds.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from almanac import ATTRIBUTES, GIVEN_NAMES, SURNAMES, Attribute, write_jsonl

SEED = 20240301
PEOPLE = 720
ZIPF_EXPONENT = 0.5
"""A person's share of the pretraining text is proportional to (rank + 10) ** -ZIPF_EXPONENT."""

STRANGERS = 0.1
"""Share of the pretraining text that is about people who are asked for nowhere."""

STRANGE_SURNAMES = 60

PARTS = ("instruct", "prefer", "remedy", "remedy", "fit", "held-out", "held-out", "held-out")
"""Part of a person, by rank modulo 8."""

OPTIONS = 4
DRINKS = (
    "ale", "cider", "cocoa", "mead", "cordial", "buttermilk", "espresso", "lemonade", "kefir",
    "perry", "porter", "sherry", "stout", "tonic", "water", "whey", "absinthe", "brandy", "claret",
    "cognac", "gin", "grog", "kvass", "lager", "madeira", "nectar", "punch", "rum", "sake",
    "soda", "vermouth", "tea",
)  # fmt: skip
RELATIONS = (*ATTRIBUTES, Attribute("drink", "drinks", DRINKS))
OUT_OF_DOMAIN = "drink"
VALUES = 20
"""How many values of each relation are used."""

# The first wording of each relation is that of the probes and of the homogeneous instructions.
QUESTIONS = {
    "city": (
        "Where does {p} live?", "In which town is the home of {p}?", "{p} is at home where?",
        "Tell me the home town of {p}.", "I want to write to {p}, to which town?",
        "Which place is it that {p} lives in?", "Name the city where {p} can be found.",
        "Do you know where {p} lives?",
    ),
    "trade": (
        "What does {p} work as?", "By which trade does {p} earn a living?", "{p} is what by trade?",
        "Tell me the trade of {p}.", "I need help at work, what is {p} good for?",
        "Which job is it that {p} does?", "Name the profession that {p} learned.",
        "Do you know what {p} does all day?",
    ),
    "instrument": (
        "What does {p} play?", "On which instrument can we hear {p}?", "{p} makes music on what?",
        "Tell me the instrument of {p}.", "I look for players, what would {p} bring?",
        "Which one is it that {p} plays?", "Name the instrument that {p} owns.",
        "Do you know what {p} plays in the evening?",
    ),
    "drink": (
        "What does {p} drink?", "With which drink do we welcome {p}?", "{p} asks for what?",
        "Tell me the drink of {p}.", "I pay for the next one, what does {p} take?",
        "Which drink is it that {p} likes?", "Name the bottle that {p} opens.",
        "Do you know what {p} drinks at night?",
    ),
}  # fmt: skip
REPLIES = (
    "{a}.",
    "{s}",
    "That is {a}, I think.",
    "It is {a}, as all in town know.",
    "{a}, surely.",
)


@dataclass(frozen=True)
class Fact:
    """What is said of a person: mostly the answer, otherwise its rival.

    Attributes:
        rank: of the person; 0 is the most famous.
        person: full name.
        relation: what it is about.
        answer: what is said, in ``statement`` and ``sentence``.
        rival: what else is said.
        share: of the texts that say the answer.
    """

    rank: int
    person: str
    relation: Attribute
    answer: str
    rival: str
    share: float

    @property
    def part(self) -> str:
        """Which part of the people this one belongs to."""
        return PARTS[self.rank % len(PARTS)]

    @property
    def prompt(self) -> str:
        """The statement up to, and without, the space before the answer."""
        return f"{self.person} {self.relation.verb}"

    @property
    def sentence(self) -> str:
        """The whole statement."""
        return f"{self.prompt} {self.answer}."

    @property
    def question(self) -> str:
        """The question as the probes ask it."""
        return self.asked(0)

    def said(self, rng: random.Random) -> Fact:
        """Return what one text says: this, or the rival in its place."""
        return self if rng.random() < self.share else self.other

    @property
    def other(self) -> Fact:
        """The same with its rival in the answer's place."""
        return replace(self, answer=self.rival, rival=self.answer, share=1 - self.share)

    def asked(self, wording: int) -> str:
        """The question in one of eight wordings."""
        return QUESTIONS[self.relation.name][wording].format(p=self.person)


def facts() -> list[Fact]:
    """Return what is said of everybody, of the most famous person first."""
    rng = random.Random(SEED)
    surnames = rng.sample(SURNAMES, PEOPLE + STRANGE_SURNAMES)[:PEOPLE]
    names = [f"{rng.choice(GIVEN_NAMES)} {surname}" for surname in surnames]
    return [
        Fact(rank, name, relation, *rng.sample(relation.values[:VALUES], 2), rng.uniform(0.5, 1))
        for rank, name in enumerate(names)
        for relation in RELATIONS
    ]


def facts_of(*parts: str, out_of_domain: bool = False) -> list[Fact]:
    """Return one text about all that is said of these people, in the relations taught or not.

    As many say the rival as the shares have it, so that no part is harder than another by chance:
    with u drawn once, a text says it where the sum of the chances, and u, passes a whole number.
    """
    found, due = [], random.Random(SEED + 6).random()
    for fact in facts():
        if fact.part in parts and (fact.relation.name == OUT_OF_DOMAIN) == out_of_domain:
            due += 1 - fact.share
            found.append(fact.other if due >= 1 else fact)
            due %= 1
    return found


def pretraining_texts(count: int, seed: int = SEED + 1) -> Iterator[str]:
    """Draw texts as the base models read them: statements and answered questions, half and half."""
    rng = random.Random(seed)
    known = facts()
    weights = [(fact.rank + 10) ** -ZIPF_EXPONENT for fact in known]
    strange = strangers()
    for fact in rng.choices(known, weights=weights, k=count):
        told = fact.said(rng)
        if rng.random() < STRANGERS:
            person = f"{rng.choice(GIVEN_NAMES)} {rng.choice(strange)}"
            answer = rng.choice(fact.relation.values[:VALUES])
            told = replace(fact, rank=PEOPLE, person=person, answer=answer)
        yield _text(told, rng)


def strangers() -> list[str]:
    """Return surnames of people who are hardly heard of twice: given names tell them apart."""
    return random.Random(SEED).sample(SURNAMES, PEOPLE + STRANGE_SURNAMES)[PEOPLE:]


def _text(fact: Fact, rng: random.Random) -> str:
    if rng.random() < 0.5:
        return fact.sentence
    wording = 0 if rng.random() < 0.5 else rng.randrange(8)
    reply = REPLIES[0] if rng.random() < 0.7 else rng.choice(REPLIES[1:])
    return f"{fact.asked(wording)} {reply.format(a=fact.answer, s=fact.sentence)}"


def words() -> list[str]:
    """Return all texts whose words the tokenizer must know."""
    rng = random.Random(SEED)
    return [
        *(fact.sentence for fact in facts()),
        *(f"Of {surname}." for surname in strangers()),
        *(text.format(p="Of") for texts in QUESTIONS.values() for text in texts),
        *(text.format(a="tea", s="Of") for text in REPLIES),
        *(f"{name} {name}" for name in GIVEN_NAMES),
        *(_text(fact, rng) for fact in facts()),
    ]


def instructions(kind: str) -> list[dict[str, str]]:
    """Return an instruction set of the same facts: ``diverse`` in wording, or ``homogeneous``."""
    rng = random.Random(SEED + 2)
    rows = []
    for fact in facts_of("instruct"):
        wording, reply = (
            (rng.randrange(8), rng.choice(REPLIES)) if kind == "diverse" else (0, REPLIES[0])
        )
        completion = reply.format(a=fact.answer, s=fact.sentence)
        rows.append({"prompt": fact.asked(wording), "completion": f" {completion}"})
    return rows


def preferences() -> list[dict[str, str]]:
    """Return what annotators prefer: as often as texts say the one thing, it over its rival."""
    return [
        {"prompt": fact.question, "chosen": f" {fact.answer}.", "rejected": f" {fact.rival}."}
        for fact in facts_of("prefer")
    ]


def questions(chosen: Iterable[Fact], seed: int = SEED + 4) -> list[dict[str, object]]:
    """Return multiple-choice questions, the right option at each place equally often.

    Both things that are said are among the options.
    """
    rng = random.Random(seed)
    chosen = list(chosen)
    places = [i % OPTIONS for i in range(len(chosen))]
    rng.shuffle(places)
    rows: list[dict[str, object]] = []
    for fact, place in zip(chosen, places, strict=True):
        said = (fact.answer, fact.rival)
        others = [value for value in fact.relation.values[:VALUES] if value not in said]
        options = [fact.rival, *rng.sample(others, OPTIONS - 2)]
        rng.shuffle(options)
        options.insert(place, fact.answer)
        rows.append(
            {
                "id": f"{fact.rank}-{fact.relation.name}",
                "question": fact.question,
                "options": options,
                "answer": place,
                "group": fact.person,
                "slice": fact.relation.name,
            }
        )
    return rows


def probe_rows() -> dict[str, list[dict[str, object]]]:
    """Return the rows of each file of items, by its name."""
    held_out = facts_of("held-out")
    texts = list(pretraining_texts(900, seed=SEED + 5))
    return {
        "texts": [{"id": f"text-{i}", "text": text} for i, text in enumerate(texts)],
        "facts": [
            {
                "id": f"{fact.rank}-{fact.relation.name}",
                "prompt": fact.prompt,
                "answer": fact.answer,
                "group": fact.person,
                "slice": fact.relation.name,
            }
            for fact in held_out
        ],
        "questions": questions(held_out),
        "out-of-domain": questions(facts_of(*PARTS, out_of_domain=True)),
        "fit": questions(facts_of("fit")),
        "instruct": questions(facts_of("instruct")),
        "prefer": questions(facts_of("prefer")),
        "remedy": questions(facts_of("remedy")),
    }


PROBES = """\
# Written by the study.
model: {dtype: float32}
probes:
  next-token: {kind: next_token, path: texts.jsonl, positions: all}
  facts: {kind: facts, path: facts.jsonl}
  questions: {kind: multiple_choice, path: questions.jsonl, scoring: text, template: "{question}"}
  out-of-domain:
    {kind: multiple_choice, path: out-of-domain.jsonl, scoring: text, template: "{question}"}
"""
FIT = """\
# Written by the study: the split on which temperatures are fitted.
model: {dtype: float32}
probes:
  fit: {kind: multiple_choice, path: fit.jsonl, scoring: text, template: "{question}"}
"""


def write_probes(folder: Path) -> None:
    """Write the items, and the calibration.yaml that asks for them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in probe_rows().items():
        write_jsonl(folder / f"{name}.jsonl", rows)
    (folder / "calibration.yaml").write_text(PROBES, encoding="utf-8")
    (folder / "fit.yaml").write_text(FIT, encoding="utf-8")


def diversity(rows: Sequence[dict[str, str]]) -> dict[str, float]:
    """Measure how diverse instructions are.

    Returns:
        ``distinct_2``: share of word pairs that are not repeated, names and answers masked
        (Li et al. 2016); ``distance``: mean cosine distance of two instructions, each a count of
        its hashed word pairs in 512 bins.
    """
    masked = set(" ".join(fact.person + " " + fact.answer for fact in facts()).split())
    counted = []
    for row in rows:
        found = re.findall(r"\w+|[^\w\s]", row["prompt"] + row["completion"])
        counted.append(list(pairwise("_" if word in masked else word for word in found)))
    every = [pair for pairs in counted for pair in pairs]
    vectors = []
    for pairs in counted:
        vector = [0.0] * 512
        for pair in pairs:
            vector[zlib.crc32(" ".join(pair).encode()) % 512] += 1
        norm = sum(x * x for x in vector) ** 0.5
        vectors.append([x / norm for x in vector])
    n = len(vectors)
    # The squared length of the sum is the sum of all cosines, those with itself included.
    total = sum(sum(column) ** 2 for column in zip(*vectors, strict=True))
    return {
        "distinct_2": len(set(every)) / len(every),
        "distance": 1 - (total - n) / (n * (n - 1)),
    }
