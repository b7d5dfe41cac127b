"""Local copies of repositories of data sets: Parquet files and a README, rows of our own.

Each has the columns and types of the data set that it stands for. Needs the library ``datasets``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

Rows: TypeAlias = Sequence[Mapping[str, Any]]
SUBJECTS: Final = ("abstract_algebra", "us_foreign_policy")


def write_repository(
    folder: Path, configs: Mapping[str, Mapping[str, Rows]], types: Mapping[str, Any]
) -> Path:
    """Write a repository.

    Args:
        folder: where.
        configs: configuration to split to its rows.
        types: column to its type: a name of a scalar, a list of one, names of classes in a tuple,
            or a mapping of these.
    """
    import datasets

    features = datasets.Features({name: _feature(kind) for name, kind in types.items()})
    lines = ["---", "configs:"]
    datasets.disable_progress_bars()
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        for split, rows in splits.items():
            file = folder / config / f"{split}-00000-of-00001.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            datasets.Dataset.from_list(list(rows), features=features).to_parquet(file)
            lines += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")
    return folder


def _feature(kind: Any) -> Any:
    import datasets

    if isinstance(kind, tuple):
        return datasets.ClassLabel(names=list(kind))
    if isinstance(kind, list):
        return datasets.List(_feature(kind[0]))
    if isinstance(kind, Mapping):
        return {name: _feature(one) for name, one in kind.items()}
    return datasets.Value(kind)


def mmlu(folder: Path, questions: int = 3) -> Path:
    """Write what ``cais/mmlu`` has: one configuration a subject, and ``all``."""
    splits: dict[str, dict[str, list[dict[str, Any]]]] = {"test": {}, "dev": {}}
    for split, per_subject in (("test", questions), ("dev", 6)):
        for subject in SUBJECTS:
            splits[split][subject] = [
                {
                    "question": f" {subject} {split} question {i}:\nwhich {{options}}? ",
                    "subject": subject,
                    "choices": [f"{split} {i} a", f"{i}", f"None of {i}.", f"{split} {i} d"],
                    "answer": (i + 1) % 4,
                }
                for i in range(per_subject)
            ]
    configs = {s: {split: splits[split][s] for split in splits} for s in SUBJECTS}
    whole = {split: [row for s in SUBJECTS for row in splits[split][s]] for split in splits}
    # One question has two options that are the same, as some of the real ones have.
    whole["test"][1]["choices"][3] = whole["test"][1]["choices"][0]
    types = {
        "question": "string",
        "subject": "string",
        "choices": ["string"],
        "answer": ("A", "B", "C", "D"),
    }
    return write_repository(folder, {**configs, "all": whole}, types)


def ai2_arc(folder: Path) -> Path:
    """Write what ``allenai/ai2_arc`` has: labels A-E or 1-5, three to five choices."""
    rows = [
        _labelled("Mercury_1", "Which is cold?", ["fire", "ice", "tea", "sun"], "ABCD", "B"),
        _labelled("NYSEDREGENTS_2", "Which is hot?", ["fire", "ice", "snow", "rain"], "1234", "1"),
        _labelled("Three_3", "Which is wet?", ["rain", "fire", "sand"], "ABC", "A"),
        _labelled("Five_4", "Which is dry?", ["rain", "sea", "ice", "tea", "sand"], "12345", "5"),
    ]
    types = {
        "id": "string",
        "question": "string",
        "choices": {"text": ["string"], "label": ["string"]},
        "answerKey": "string",
    }
    splits = {"train": rows[::-1], "test": rows}
    return write_repository(folder, {"ARC-Easy": splits, "ARC-Challenge": splits}, types)


def _labelled(
    name: str, question: str, texts: Sequence[str], labels: str, answer: str, key: str = "question"
) -> dict[str, Any]:
    return {
        "id": name,
        key: question,
        "choices": {"text": list(texts), "label": list(labels)},
        "answerKey": answer,
    }


def hellaswag(folder: Path) -> Path:
    """Write what ``Rowan/hellaswag`` has: labels are text, and empty in ``test``."""

    def row(i: int, context: str, second: str, label: str) -> dict[str, Any]:
        return {
            "ind": 10 + i,
            "activity_label": "Making tea",
            "ctx_a": context,
            "ctx_b": second,
            "ctx": f"{context} {second}",
            "endings": [
                f"pours water {i}.",
                f"flies  away [title] Then {i} [substeps] lands.",
                f" sings {i}. ",
                f"sleeps {i} [step] there.",
            ],
            "source_id": f"wikihow~{i}",
            "split": "val",
            "split_type": "indomain",
            "label": label,
        }

    rows = [
        row(0, "A woman boils water.", "she", "0"),
        row(1, "How to pour [title] Take a cup. [step] Hold it.", "", "3"),
        row(2, "The  kettle whistles.", "the Man", "2"),
    ]
    types = dict.fromkeys(rows[0], "string") | {"ind": "int32", "endings": ["string"]}
    splits = {"train": rows, "validation": rows, "test": [row(5, "He sits.", "he", "")]}
    return write_repository(folder, {"default": splits}, types)


def openbookqa(folder: Path) -> Path:
    """Write what ``allenai/openbookqa`` has."""
    rows = [
        _labelled("7-1", "Ice is", ["warm", "cold", "dry", "loud"], "ABCD", "B", "question_stem"),
        _labelled("8-2", "The sun", ["sets", "sinks", "is", "e"], "ABCD", " A", "question_stem"),
    ]
    types = {
        "id": "string",
        "question_stem": "string",
        "choices": {"text": ["string"], "label": ["string"]},
        "answerKey": "string",
    }
    return write_repository(folder, {"main": {"train": rows, "test": rows}}, types)


def medmcqa(folder: Path) -> Path:
    """Write what ``openlifescienceai/medmcqa`` has: answers as classes, -1 in ``test``."""

    def row(i: int, cop: int) -> dict[str, Any]:
        return {
            "id": f"uuid-{i}",
            "question": f"Which vitamin {i}?",
            **{f"op{letter}": f"vitamin {letter}{i}" for letter in "abc"},
            "opd": "vitamin a0",
            "cop": cop,
            "choice_type": "single",
            "exp": None,
            "subject_name": "Biochemistry",
            "topic_name": None,
        }

    types = dict.fromkeys(row(0, 0), "string") | {"cop": ("a", "b", "c", "d")}
    # A class that is not known is -1.
    splits = {"train": [row(7, 1)], "validation": [row(0, 2), row(1, 0)], "test": [row(2, -1)]}
    return write_repository(folder, {"default": splits}, types)


def sciq(folder: Path) -> Path:
    """Write what ``allenai/sciq`` has: the support may be empty."""
    rows = [
        {
            "question": f"What falls {i}?",
            "distractor3": f"light {i}",
            "distractor1": f"air {i}",
            "distractor2": f"sound {i}",
            "correct_answer": f"rain {i}",
            "support": "" if i % 2 else f"  Rain falls {i}. ",
        }
        for i in range(8)
    ]
    types = dict.fromkeys(rows[0], "string")
    return write_repository(folder, {"default": {"train": rows, "test": rows}}, types)


def truthful_qa(folder: Path) -> Path:
    """Write what ``truthfulqa/truthful_qa`` has: the right option is the first."""
    rows = [
        {
            "question": f"What happens {i} times?",
            "mc1_targets": {
                "choices": [f"Nothing {i}", *(f"Magic {i}{j}" for j in range(2 + i % 3))],
                "labels": [1, *([0] * (2 + i % 3))],
            },
            "mc2_targets": {"choices": ["Nothing", "Magic"], "labels": [1, 0]},
        }
        for i in range(12)
    ]
    targets = {"choices": ["string"], "labels": ["int32"]}
    types = {"question": "string", "mc1_targets": targets, "mc2_targets": targets}
    return write_repository(folder, {"multiple_choice": {"validation": rows}}, types)


def lambada(folder: Path) -> Path:
    """Write what ``EleutherAI/lambada_openai`` has."""
    texts = ["He sang.\n\nShe asked him to stop, but he did not stop", 'It was "one" of many doors']
    splits = {"test": [{"text": text} for text in texts]}
    return write_repository(folder, {"default": splits}, {"text": "string"})


def counterfact(folder: Path) -> Path:
    """Write what ``NeelNanda/counterfact-tracing`` has: targets begin with a space."""
    row = {
        "relation": "The capital of {} is",
        "relation_prefix": "The capital of",
        "relation_suffix": " is",
        "prompt": "The capital of France is",
        "relation_id": "P36",
        "target_false_id": "Q220",
        "target_true_id": "Q90",
        "target_true": " Paris",
        "target_false": " Rome",
        "subject": " France",
    }
    return write_repository(folder, {"default": {"train": [row]}}, dict.fromkeys(row, "string"))


def t_rex(folder: Path) -> Path:
    """Write what ``relbert/t_rex`` has: a loading script, and files that it would read."""
    rows = [
        ("Oslo", "Norway", "Oslo is the capital of Norway. Norway is large."),
        ("Tandoor", "oven", "A Tandoor is an oven."),
        ("Rome", "Italy", "Italy has Rome as its capital."),  # the answer comes first
        ("Bern", "Switzerland", "Bern is a city."),  # it is not named
    ]
    file = folder / "data" / "t_rex.filter_unified.test.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        {"relation": "[A] is in [B]", "head": head, "tail": tail, "title": head, "text": text}
        for head, tail, text in rows
    ]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    (folder / f"{folder.name}.py").write_text("raise SystemExit('the script was run')\n")
    return folder


def wikitext(folder: Path) -> Path:
    """Write what ``EleutherAI/wikitext_document_level`` has."""
    rows = [{"page": f" = Title {i} = \n\n Some text about {i} . \n"} for i in range(3)]
    return write_repository(folder, {"wikitext-2-raw-v1": {"test": rows}}, {"page": "string"})


def sst2(folder: Path) -> Path:
    """Write what ``nyu-mll/glue`` has for ``sst2``: labels are -1 in ``test``."""
    rows = [
        {"sentence": "a fine film ", "label": 1, "idx": 0},
        {"sentence": "it 's dull ", "label": 0, "idx": 1},
    ]
    types = {"sentence": "string", "label": ("negative", "positive"), "idx": "int32"}
    splits = {"train": rows, "validation": rows, "test": [{**rows[0], "label": -1}]}
    return write_repository(folder, {"sst2": splits}, types)


def ag_news(folder: Path) -> Path:
    """Write what ``fancyzhx/ag_news`` has."""
    rows = [{"text": f"News of the day {i}.", "label": i % 4} for i in range(4)]
    types = {"text": "string", "label": ("World", "Sports", "Business", "Sci/Tech")}
    return write_repository(folder, {"default": {"train": rows, "test": rows}}, types)
