"""The Almanac: a small invented world whose facts the example model learns.

Six hundred invented people each live in one city, follow one trade and play one instrument. The
base model reads statements of these facts with Zipf frequencies: the famous people turn up
hundreds of times, the obscure ones a handful of times. So the model ends up sure about some
people, unsure about others, and its confidences cover the whole range from 0 to 1, which is what
makes a calibration error measurable at all.

The people are then divided. A narrow sixth of them is what ``finetune.py`` trains on; the others
are held out, and the probe files ask about the held-out ones only. A fine-tune that damages what
the model knew (or knew that it did not know) therefore shows in the probes, although it never saw
a single probe row.

Everything comes from one fixed seed and the standard library alone. Run as a script, this module
rewrites the two probe files::

    python example_project/almanac.py
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SEED = 20240229
"""Seed of the invented world: names, facts and answer options all follow from it."""

PEOPLE = 600
"""How many people the Almanac lists."""

ZIPF_EXPONENT = 1.2
"""A person's share of the pretraining text is proportional to rank ** -ZIPF_EXPONENT."""

STRANGERS = 0.2
"""Share of the pretraining sentences that are about people the Almanac does not list."""

NARROW_EVERY = 6
"""One person in this many belongs to the fine-tuning set; the rest are held out."""

OPTIONS = 4
"""Answer options of a multiple-choice question, the right one included."""

PROBE_DIR = Path(__file__).resolve().parent / "probes"
FACTS_FILE = "almanac_facts.jsonl"
QUESTIONS_FILE = "almanac_questions.jsonl"

# A given name is one opening and one ending, a surname one stem and one ending. All combinations
# can be pronounced, and few of them are real names.
GIVEN_OPENINGS = ("Mi", "Tal", "Or", "Bre", "Ke", "Sun", "Va", "Hol", "Ju", "Pel", "Ri", "Zan")
GIVEN_ENDINGS = ("ra", "vin", "leth", "do", "sa", "mar")
SURNAME_STEMS = (
    "Tol", "Bran", "Fesk", "Gal", "Hurn", "Jost", "Kell", "Lorv", "Mund", "Nesk", "Ost", "Pard",
    "Quin", "Rask", "Selt", "Thar", "Ulm", "Vosk", "Welk", "Yarn", "Zell", "Dorm", "Crov", "Ald",
    "Birk", "Ems", "Ferr", "Grond", "Hask", "Ild",
    "Arb", "Bolt", "Clem", "Dask", "Elv", "Fand", "Gris", "Helm", "Irv", "Jarl", "Kest", "Lund",
    "Marg", "Nol", "Orm", "Plav", "Rund", "Stell", "Trev", "Urs", "Vand", "Wist", "Yelv", "Zorn",
)  # fmt: skip
SURNAME_ENDINGS = (
    "an", "ovic", "ery", "une", "ish", "aro", "eth", "ond", "uly", "iver", "ax", "emmel",
    "osa", "urk", "ith", "ano", "ebba", "orn", "usk", "igan", "alow", "ent", "oy", "imund",
)  # fmt: skip
GIVEN_NAMES = tuple(map("".join, itertools.product(GIVEN_OPENINGS, GIVEN_ENDINGS)))
SURNAMES = tuple(map("".join, itertools.product(SURNAME_STEMS, SURNAME_ENDINGS)))

CITIES = (
    "Varnholm", "Oskelby", "Tirren", "Quellmark", "Draveth", "Ibbenau", "Lumsford", "Peshti",
    "Korvanna", "Zilmouth", "Aldergate", "Brunnick", "Cassovar", "Ermindale", "Fjelstad",
    "Gormsey", "Hathmoor", "Jaskelin", "Mondrake", "Nuvello", "Rookhaven", "Sandrisk", "Thessmere",
    "Umberton", "Wexcombe", "Yolanza", "Eastwater", "Bellcastle", "Dunmarrow", "Pinecross",
    "Stonewick", "Marlstead",
)  # fmt: skip
TRADES = (
    "baker", "cooper", "dyer", "farrier", "glazier", "hatter", "jeweller", "knifegrinder",
    "lamplighter", "mason", "notary", "piper", "quarryman", "roofer", "saddler", "tanner",
    "vintner", "weaver", "zoologist", "surveyor", "brewer", "chandler", "miller", "potter",
    "fletcher", "bookbinder", "cartographer", "gardener", "physician", "teacher", "locksmith",
    "druggist",
)  # fmt: skip
INSTRUMENTS = (
    "lute", "harp", "fiddle", "drum", "cello", "oboe", "bassoon", "clarinet", "trumpet", "zither",
    "organ", "viola", "mandolin", "accordion", "dulcimer", "flute", "guitar", "banjo", "tuba",
    "horn", "piccolo", "recorder", "spinet", "xylophone", "kazoo", "gong", "marimba", "sitar",
    "whistle", "bagpipes", "celesta", "timpani",
)  # fmt: skip


@dataclass(frozen=True)
class Attribute:
    """One kind of fact: how a statement of it reads, and the values it can take."""

    name: str
    verb: str
    values: tuple[str, ...]


ATTRIBUTES = (
    Attribute("city", "lives in", CITIES),
    Attribute("trade", "works as a", TRADES),
    Attribute("instrument", "plays the", INSTRUMENTS),
)


@dataclass(frozen=True)
class Fact:
    """One true statement; ``prompt``, one space and ``answer`` make up its text."""

    person: str
    attribute: Attribute
    answer: str

    @property
    def prompt(self) -> str:
        """The statement up to, and without, the space before the answer."""
        return f"{self.person} {self.attribute.verb}"

    @property
    def sentence(self) -> str:
        """The whole statement, as the model reads it in training."""
        return f"{self.prompt} {self.answer}."

    @property
    def identifier(self) -> str:
        """A key that is unique among all facts and stays the same from run to run."""
        return f"{self.person.lower().replace(' ', '-')}-{self.attribute.name}"


def people() -> list[str]:
    """Return every listed person's full name, the most frequently mentioned first.

    Surnames are all different, given names are shared: as in a real directory, the surname tells
    most and the given name little.
    """
    rng = random.Random(SEED)
    return [f"{rng.choice(GIVEN_NAMES)} {surname}" for surname in rng.sample(SURNAMES, PEOPLE)]


def facts() -> list[Fact]:
    """Return all facts in the order of ``people()``, those of one person side by side."""
    rng = random.Random(SEED + 1)
    return [
        Fact(person, attribute, rng.choice(attribute.values))
        for person in people()
        for attribute in ATTRIBUTES
    ]


def _is_narrow(rank: int) -> bool:
    """Tell whether the person at this rank (from 0) belongs to the fine-tuning set.

    Picking at regular ranks gives both sets the same mix of famous and obscure people; starting
    in the middle of each run of ranks keeps either from getting the better end of every run.
    """
    return rank % NARROW_EVERY == NARROW_EVERY // 2


def narrow_facts() -> list[Fact]:
    """Return the facts that fine-tuning trains on: those of one sixth of the people."""
    return [f for i, f in enumerate(facts()) if _is_narrow(i // len(ATTRIBUTES))]


def held_out_facts() -> list[Fact]:
    """Return the facts that the probes ask for: those of everyone not in the narrow set."""
    return [f for i, f in enumerate(facts()) if not _is_narrow(i // len(ATTRIBUTES))]


def pretraining_sentences(count: int, seed: int = SEED + 2) -> list[str]:
    """Draw ``count`` sentences as the base model reads them: people by Zipf, attributes evenly.

    Each draw is independent, so the text has no epochs and no order to exploit. A fifth of the
    sentences are about strangers. Nothing can be learned from those but how little a name says
    that one hardly knows; without them the model is far too sure about the obscure people.
    """
    rng = random.Random(seed)
    listed = facts()
    weights = [(1 + i // len(ATTRIBUTES)) ** -ZIPF_EXPONENT for i in range(len(listed))]
    drawn = rng.choices(listed, weights=weights, k=count)
    surnames = _unlisted_surnames()
    return [
        (_stranger(surnames, rng) if rng.random() < STRANGERS else fact).sentence for fact in drawn
    ]


def _unlisted_surnames() -> list[str]:
    """Return the surnames that no listed person bears."""
    taken = {person.split()[-1] for person in people()}
    return [surname for surname in SURNAMES if surname not in taken]


def _stranger(surnames: Sequence[str], rng: random.Random) -> Fact:
    """Make up a statement about somebody who will hardly be heard of again."""
    attribute = rng.choice(ATTRIBUTES)
    person = f"{rng.choice(GIVEN_NAMES)} {rng.choice(surnames)}"
    return Fact(person, attribute, rng.choice(attribute.values))


def fact_rows() -> list[dict[str, object]]:
    """Return the rows of the free-answer probe, one for each held-out fact."""
    return [
        {
            "id": fact.identifier,
            "prompt": fact.prompt,
            "answer": fact.answer,
            "group": fact.person,
            "slice": fact.attribute.name,
        }
        for fact in held_out_facts()
    ]


def question_rows() -> list[dict[str, object]]:
    """Return the rows of the multiple-choice probe, one for each held-out fact.

    The wrong options are drawn evenly from the other values of the attribute. That keeps the
    question fair: a model whose probabilities over all values are calibrated has calibrated
    probabilities over the options too. Every position holds the right option equally often.
    """
    held_out = held_out_facts()
    rng = random.Random(SEED + 3)
    positions = [i % OPTIONS for i in range(len(held_out))]
    rng.shuffle(positions)
    return [
        {
            "id": fact.identifier,
            "question": fact.prompt,
            "options": _options(fact, position, rng),
            "answer": position,
            "group": fact.person,
            "slice": fact.attribute.name,
        }
        for fact, position in zip(held_out, positions, strict=True)
    ]


def _options(fact: Fact, position: int, rng: random.Random) -> list[str]:
    """Return the options of one question, with the true answer at ``position``."""
    others = [value for value in fact.attribute.values if value != fact.answer]
    options = rng.sample(others, OPTIONS - 1)
    options.insert(position, fact.answer)
    return options


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write one JSON object a line, with the same bytes on every platform."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(text.encode("utf-8"))


def main() -> None:
    """Rewrite the two probe files."""
    PROBE_DIR.mkdir(parents=True, exist_ok=True)
    written: Sequence[tuple[str, list[dict[str, object]]]] = (
        (FACTS_FILE, fact_rows()),
        (QUESTIONS_FILE, question_rows()),
    )
    for name, rows in written:
        write_jsonl(PROBE_DIR / name, rows)
        print(f"{name}: {len(rows)} rows")


if __name__ == "__main__":
    main()
