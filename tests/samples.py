"""Results of a session as reports get them, with a text in every field that could do harm."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any, get_type_hints

import numpy as np
from hypothesis import strategies as st

from pytest_calibration.gate.verdict import Past, Verdict, compare, judge
from pytest_calibration.measurement import measure
from pytest_calibration.predictions import Predictions, Signature, hash_ids
from pytest_calibration.predictions.item_text import ItemText, ItemTexts
from pytest_calibration.reports.model import Remedy, Result, Results, result_of

# What a page, a terminal, a Markdown table or a spreadsheet might obey instead of showing.
HOSTILE = (
    "<script>alert('x')</script> </script> \"quoted\" & | `code` **bold** <!-- [a](javascript:x) "
    "\u202eright to left\u202c \x1b[31mred\x1b[0m \x07 ::error::no\r\n# line two\ttab \\ %0A @all"
)
OPTIONS = 4
REMEDY = Remedy("to accept it", "pytest tests/test_x.py '--calibration-accept=REASON'")


def predictions(
    seed: int = 0,
    *,
    probe: str = "support-mcq",
    n: int = 600,
    sharpen: float = 1.0,
    model: str = "base",
    table: bool = True,
    groups: bool = True,
    hostile: bool = True,
) -> Predictions:
    """Answers of a model whose logits are ``sharpen`` times those of a calibrated one.

    The same seed gives the same questions and the same answers, whatever ``sharpen`` is.
    """
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.6, (n, OPTIONS))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(OPTIONS, p=row) for row in honest])
    sharp = np.exp(sharpen * logits)
    sharp /= sharp.sum(axis=1, keepdims=True)
    answers = sharp.argmax(axis=1)
    rows = np.arange(n)
    bad = HOSTILE if hostile else "question"
    texts = [
        ItemText(
            prompt=f"{bad} {i}?",
            gold=f"right {bad}" if hostile else f"right {i}",
            answer=f"wrong {bad}" if hostile else f"wrong {i}",
            options=tuple(f"{bad} {letter}" for letter in "ABCD"),
            name=f"row-{i} {bad}" if hostile and i % 2 else "",
        )
        for i in range(n)
    ]
    return Predictions(
        probe=probe,
        confidence=sharp[rows, answers],
        correct=answers == labels,
        item_ids=hash_ids(range(n), f"{probe}{seed}"),
        probabilities=sharp if table else None,
        labels=labels if table else None,
        label_logprobs=np.log(sharp[rows, labels]) if table else None,
        option_mass=np.full(n, 0.8) if table else None,
        groups=np.array([f"passage-{i // 3}" for i in range(n)]) if groups else None,
        slices=np.array([f"{bad} subject {i % 5}" for i in range(n)]),
        texts=ItemTexts.from_list(texts),
        signature=Signature(
            {"kind": "multiple_choice", "shots": "3"},
            {"model": model, "dtype": "float32", "torch": "2.13.0"},
        ),
    )


def turned(made: Predictions, *, every: int = 7) -> Predictions:
    """The same, but every seventh answer is right where it was wrong, and the reverse."""
    flipped = np.arange(made.n) % every == 0
    return replace(made, correct=made.correct ^ flipped)


def verdicts() -> list[Verdict]:
    """One verdict of every state, on two probes and three models."""
    base = predictions()
    hot = predictions(sharpen=2.5, model=f"sft <b>{HOSTILE}")
    facts = predictions(1, probe="facts", table=False, n=900)
    facts_hot = predictions(1, probe="facts", table=False, n=900, sharpen=1.05, model="sft")
    few = predictions(2, probe="few", n=60)
    past = (
        Past("first", 600, 0.051, 0.70, 0.01, "new <i>data</i>"),
        Past("base", 600, 0.032, 0.71, -0.01),
    )
    limit = replace(judge(measure(hot), 0.05), candidate=hot)
    absent = compare(base, base)
    return [
        compare(base, base, against="baseline"),
        replace(compare(hot, base, against="baseline"), past=past),
        compare(facts_hot, facts, against="baseline"),
        compare(few, predictions(2, probe="few", n=60, sharpen=1.3)),
        limit,
        compare(hot, base, against="parent", reference="parent base"),
        compare(replace(base, signature=Signature({"shots": "5"}, {"model": "other"})), base),
        replace(absent, state=type(absent.state).NO_BASELINE, baseline=None, components=(),
                baseline_items=None, reason="nothing is stored at tests/x.yaml."),
    ]  # fmt: skip


def results(*, item_text: bool = True, detailed: bool = True) -> Results:
    """A session with one verdict of every state."""
    made: list[Result] = [
        result_of(
            verdict,
            test=f"tests/test_x.py::test_it[{i}-{verdict.measurement.probe}]",
            remedy=REMEDY if verdict.state.fails else None,
            detailed=detailed,
            item_text=item_text,
        )
        for i, verdict in enumerate(verdicts())
    ]
    return Results(
        version="0.1.0",
        created="2026-01-02T03:04:05Z",
        commit="0123456789abcdef",
        tests=len(made),
        finished=True,
        results=tuple(made),
        remarks=("2 baselines written.",),
        errors=(f"tests/x.yaml: {HOSTILE}",),
    )


def small_results() -> Results:
    """A session of one verdict that has everything, and little of each list."""
    result = next(r for r in results().results if r.detail is not None and r.detail.past)
    detail = result.detail
    assert detail is not None
    side = detail.candidate
    side = replace(
        side,
        metrics={"ece": side.metrics["ece"]},
        reliability=side.reliability[:1],
        histogram=side.histogram[:1],
    )
    detail = replace(
        detail, slices=detail.slices[:2], worst=detail.worst[:1], candidate=side, baseline=side
    )
    return replace(results(), results=(replace(result, detail=detail),))


def everywhere(text: str, value: Any) -> Any:
    """Return results in which every text that others choose is this one."""
    if is_dataclass(value):
        hints = get_type_hints(type(value))
        # Names of metrics, hashes and words of a fixed list are ours.
        free = [
            f.name
            for f in fields(value)
            if f.init and f.name not in {"metric", "id"} and "Literal" not in str(hints[f.name])
        ]
        return replace(value, **{name: everywhere(text, getattr(value, name)) for name in free})
    if isinstance(value, dict):
        return {key: everywhere(text, part) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(everywhere(text, part) for part in value)
    return text if type(value) is str else value


# --- damaged documents ---------------------------------------------------------------------------

BAD = (None, True, 3, 0.5, "x", [], {}, {"x": 1}, ["x"], -1, [None], 10**400, 600.0, HOSTILE, ...)


def places(tree: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the place of every value in a document."""
    yield at
    for key, value in tree.items() if isinstance(tree, dict) else ():
        yield from places(value, (*at, key))
    for i, value in enumerate(tree if isinstance(tree, list) else ()):
        yield from places(value, (*at, i))


def changed(document: Any, at: tuple[str | int, ...], value: Any) -> Any:
    """Return a document with another value in one place; without that place for ``...``."""
    if not at:
        return value
    out = copy.copy(document)
    if len(at) == 1 and value is ...:
        del out[at[0]]
    else:
        out[at[0]] = changed(document[at[0]] if len(at) > 1 else None, at[1:], value)
    return out


def damaged(text: str) -> st.SearchStrategy[Any]:
    """Documents that differ from this JSON in one place."""
    document = json.loads(text)
    at = st.sampled_from(list(places(document))[1:])
    return st.builds(partial(changed, document), at, st.sampled_from(BAD))
