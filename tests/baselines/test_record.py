"""One stored record: what its two files hold, and everything that can be wrong with them."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import pickle
import re
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fakes import FakeModel
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration import MultipleChoice, NextToken, Predictions, Signature
from pytest_calibration.baselines import Baselines
from pytest_calibration.baselines.record import (
    STORED_METRICS,
    checksum,
    read_record,
    stored_n,
    summarise,
    to_yaml,
)
from pytest_calibration.errors import MissingBaseline, PredictionsError, UnreadableBaseline
from pytest_calibration.metrics import METRICS
from pytest_calibration.metrics.sharpness import Sharpness
from pytest_calibration.predictions import positional_ids
from pytest_calibration.predictions.stored_items import items_bytes
from pytest_calibration.text.visible import visible

# What the engine says about itself at most, beside the fields of a multiple-choice probe.
LONGEST_SIGNATURE = Signature(
    {"kind": "multiple_choice", "prompt": "0" * 8, "scoring": "letters " * 9, "shots": "5"},
    {
        "device": "cpu",
        "dtype": "float32",
        "model": "m" * 100,
        "options": "with leading space",
        "revision": "step1000",
        "torch": "2.13.0",
        "transformers": "5.23.0",
    },
)


def four_items(probe: str = "facts") -> Predictions:
    """Four answers whose metrics a reader can compute: two at 0.9 (both right), two at 0.6."""
    return Predictions.from_confidence(
        [0.9, 0.9, 0.6, 0.6], [True, True, True, False], item_ids=["a", "b", "c", "d"], probe=probe
    )


def stored(folder: Path, predictions: Predictions | None = None) -> Path:
    """Record and return the YAML file."""
    return Baselines(folder).record(predictions or four_items())


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the content of a record and give it a checksum that fits."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(data)
    data["checksum"] = checksum(data)
    path.write_text(yaml.safe_dump(data), encoding="utf-8")


def with_payload(path: Path, payload: bytes, count: int = 4) -> None:
    """Store other bytes as the items, so that every digest fits."""

    def change(data: dict[str, Any]) -> None:
        data["items"] |= {"sha256": hashlib.sha256(payload).hexdigest(), "count": count}

    (path.parent / items_name(path)).write_bytes(payload)
    rewrite(path, change)


def items_name(path: Path) -> str:
    """Name of the items file that a record names."""
    return str(yaml.safe_load(path.read_text(encoding="utf-8"))["items"]["file"])


def npz(**changes: Any) -> bytes:
    """Encode items by numpy's own writer: those of ``four_items``, with these arrays changed."""
    four = four_items()
    arrays: dict[str, Any] = {
        "ids": four.item_ids,
        "confidence": four.confidence.astype(np.float32),
        "correct": four.correct.astype(np.uint8),
        **changes,
    }
    buffer = io.BytesIO()
    np.savez(buffer, **{k: v for k, v in arrays.items() if v is not None})
    return buffer.getvalue()


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by name."""
    return {str(f): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def refuse(folder: Path, match: str, probe: str = "facts") -> None:
    """Check that reading and replacing are refused with this text, and that nothing is written."""
    before = snapshot(folder)
    store = Baselines(folder)
    with pytest.raises(UnreadableBaseline, match=match):
        store.load(probe)
    with pytest.raises(UnreadableBaseline, match=match):
        store.record(four_items(probe), reason="replaced")
    assert snapshot(folder) == before


# --- what is stored ------------------------------------------------------------------------------


@st.composite
def any_predictions(draw: st.DrawFn) -> Predictions:
    """Predictions of any kind that a store may be given."""
    n = draw(st.integers(1, 40))
    unit = draw(st.sampled_from(["item", "token"]))
    groups = draw(st.none() | st.lists(st.text(max_size=3), min_size=n, max_size=n))
    text = st.text(max_size=12)
    return Predictions(
        probe=draw(st.text(min_size=1, max_size=20).filter(str.isprintable)),
        confidence=np.array(draw(st.lists(st.floats(0, 1), min_size=n, max_size=n))),
        correct=np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n))),
        item_ids=np.array(
            draw(st.lists(st.integers(0, 2**64 - 1), min_size=n, max_size=n, unique=True)),
            dtype=np.uint64,
        ),
        groups=None if groups is None else np.array(groups, dtype=np.str_),
        unit=unit,  # type: ignore[arg-type]
        signature=Signature(
            draw(st.dictionaries(text, text, max_size=3)),
            draw(st.dictionaries(text, text, max_size=3)),
        ),
    )


@given(any_predictions())
def test_predictions_survive_the_round_trip_through_the_files(predictions: Predictions) -> None:
    """Confidence returns as its float32; outcome, ids, unit and signature return as they were."""
    with tempfile.TemporaryDirectory() as folder:
        store = Baselines(Path(folder) / "new")
        store.record(predictions)
        record = store.load(predictions.probe)
    read = record.predictions
    assert np.array_equal(read.confidence, predictions.confidence.astype(np.float32))
    assert np.array_equal(read.correct, predictions.correct)
    assert np.array_equal(read.item_ids, predictions.item_ids)
    assert (read.probe, read.unit, read.signature) == (
        predictions.probe,
        predictions.unit,
        predictions.signature,
    )
    assert (record.n, record.probe, record.name) == (predictions.n, predictions.probe, "default")


@given(any_predictions())
def test_groups_survive_as_a_partition(predictions: Predictions) -> None:
    """Two stored items share a group exactly when they did before; group names are not kept."""
    with tempfile.TemporaryDirectory() as folder:
        Baselines(Path(folder)).record(predictions)
        read = Baselines(Path(folder)).load(predictions.probe).predictions
    if predictions.groups is None:
        assert read.groups is None
    else:
        assert read.groups is not None
        before = predictions.groups[:, None] == predictions.groups
        assert np.array_equal(read.groups[:, None] == read.groups, before)


def test_the_summary_holds_the_values_computed_by_hand(tmp_path: Path) -> None:
    """0.9, 0.9 right and 0.6, 0.6 half right: two bins with gaps of 0.1, Brier 0.54 / 4."""
    data = yaml.safe_load(stored(tmp_path).read_text(encoding="utf-8"))
    assert data["format"] == 1
    assert (data["probe"], data["name"], data["n"]) == ("facts", "default", 4)
    assert data["binning"] == {"bins": 15, "strategy": "equal_width"}
    expected = {"ece": 0.1, "mce": 0.1, "brier": 0.135, "accuracy": 0.75, "mean_confidence": 0.75}
    assert {k: data["metrics"][k] for k in expected} == pytest.approx(expected)
    assert data["metrics"]["signed_gap"] == 0
    assert data["bins"] == [
        {"to": 0.6, "n": 2, "confidence": 0.6, "accuracy": 0.5},
        {"to": round(14 / 15, 6), "n": 2, "confidence": 0.9, "accuracy": 1.0},
    ]
    numbers = {"ece": 0.1, "accuracy": 0.75, "signed_gap": 0.0, "n": 4}
    told = {"model": "", "reason": "recorded first", "steps": 0}
    assert data["anchor"] == numbers | told | {"items": data["items"]}
    assert (data["note"], data["tolerance"], data["limit"]) == ("", None, None)
    assert data["superseded"] == []


def test_nll_is_stored_exactly_where_the_answer_has_a_probability(tmp_path: Path) -> None:
    """−log 0.8 and −log 0.5 have the mean −log(0.4) / 2; without probabilities there is no NLL."""
    both = Predictions.from_probabilities([[0.8, 0.2], [0.5, 0.5]], [0, 1], probe="mcq")
    with_nll = Baselines(tmp_path).load(stored(tmp_path, both).stem)
    assert with_nll.metrics["nll"] == pytest.approx(-math.log(0.4) / 2, abs=1e-6)
    stored(tmp_path)
    assert set(Baselines(tmp_path).load("facts").metrics) == set(STORED_METRICS) - {"nll"}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_no_number_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    """Should a metric come out as NaN or infinity, it is refused by name and nothing is written."""
    monkeypatch.setitem(METRICS, "mce", replace(METRICS["mce"], compute=lambda *_: value))
    with pytest.raises(PredictionsError, match=rf"finite numbers only, and mce is {value}"):
        stored(tmp_path)
    assert list(tmp_path.iterdir()) == []


def full_bins(n: int, signature: Signature) -> Predictions:
    """Items in all 15 bins, with every metric."""
    confidence = (np.arange(n) % 15 + 0.5) / 15
    return Predictions(
        probe="p" * 100,
        confidence=confidence,
        correct=np.arange(n) % 2 == 0,
        item_ids=positional_ids(n),
        label_logprobs=np.full(n, -0.7),
        signature=signature,
    )


@pytest.mark.parametrize(
    "signature",
    [
        pytest.param(LONGEST_SIGNATURE, id="the-engine's-longest"),
        pytest.param(
            Signature(
                {f"h{i}": "x" * 300 for i in range(40)}, {f"s{i}": "y\nz" for i in range(40)}
            ),
            id="eighty-fields",
        ),
    ],
)
def test_the_yaml_file_has_at_most_60_lines(tmp_path: Path, signature: Signature) -> None:
    """All bins full, all metrics, long signature, full history, notes of several lines: ≤ 60."""
    store = Baselines(tmp_path)
    path = store.record(full_bins(300, signature))
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("note: ''", 'note: "one\\ntwo\\nthree"'), encoding="utf-8")
    for turn in range(5):
        store.record(full_bins(301 + turn, signature), reason=f"line 1 of {turn}\nline 2\n\nlast")
    lines = path.read_text(encoding="utf-8").splitlines()
    data = store.load("p" * 100).data
    assert (len(data["bins"]), len(data["metrics"])) == (15, len(STORED_METRICS))
    assert len(data["superseded"]) == 3
    assert data["note"] == "one\ntwo\nthree"
    assert len(lines) <= 60


# A reason without a letter or digit gives none, and is refused.
REASONS = st.text(min_size=1).filter(lambda text: any(map(str.isalnum, text)))


@given(reason=REASONS, note=st.text(), field=st.text(min_size=1))
def test_any_text_is_written_so_that_it_is_read_back(reason: str, note: str, field: str) -> None:
    """Reasons, notes and signature fields survive the YAML whatever they hold, in one line each."""
    with tempfile.TemporaryDirectory() as folder:
        store = Baselines(Path(folder))
        path = store.record(four_items())
        rewrite(path, lambda data: data.update(note=note))
        signature = Signature({field: note}, {"model": reason})
        changed = Predictions.from_confidence([0.5], [True], probe="facts", signature=signature)
        store.record(changed, reason=reason)
        record = store.load("facts")
        assert (record.note, record.superseded[0]["reason"]) == (note, reason)
        assert record.predictions.signature == signature
        assert len(path.read_bytes().split(b"\n")) <= 60


def test_replacing_keeps_three_summaries_and_the_first_anchor(tmp_path: Path) -> None:
    """The last three are kept, newest first, each with its reason; the anchor is the first."""
    store = Baselines(tmp_path)
    for turn in range(6):
        predictions = Predictions.from_confidence(
            [0.5 + turn / 20] * 4,
            [True, False, True, False],
            probe="facts",
            signature=Signature({}, {"model": f"m{turn}"}),
        )
        store.record(predictions, reason=None if turn == 0 else f"reason {turn}")
    record = store.load("facts")
    assert [s["reason"] for s in record.superseded] == ["reason 5", "reason 4", "reason 3"]
    assert [s["model"] for s in record.superseded] == ["m4", "m3", "m2"]
    assert [s["ece"] for s in record.superseded] == pytest.approx([0.2, 0.15, 0.1])
    numbers = {"ece": 0.0, "accuracy": 0.5, "signed_gap": 0.0, "n": 4}
    told = {"model": "m0", "reason": "recorded first", "steps": 5}
    assert {k: v for k, v in record.anchor.items() if k != "items"} == numbers | told


def test_hand_edits_survive_a_replacement(tmp_path: Path) -> None:
    """``note``, ``tolerance`` and ``limit`` are the reviewer's: no replacement touches them."""
    path = stored(tmp_path)
    text = path.read_text(encoding="utf-8")
    text = text.replace("note: ''", "note: known to be hard").replace(
        "tolerance: null\nlimit: null", "tolerance: 0.05\nlimit: 0.2"
    )
    path.write_text(text, encoding="utf-8")
    store = Baselines(tmp_path)
    read = store.load("facts")
    assert (read.note, read.tolerance, read.limit) == ("known to be hard", 0.05, 0.2)
    store.record(Predictions.from_confidence([0.5], [True], probe="facts"), reason="new model")
    kept = store.load("facts")
    assert (kept.note, kept.tolerance, kept.limit, kept.n) == ("known to be hard", 0.05, 0.2, 1)


@pytest.mark.parametrize(
    ("groups", "bytes_each"),
    [pytest.param(None, 13, id="ungrouped"), pytest.param("g", 17, id="grouped")],
)
def test_an_item_takes_13_bytes(groups: str | None, bytes_each: int) -> None:
    """8 bytes of id, 4 of confidence, 1 of outcome; 4 more where there are groups."""

    def size(n: int) -> int:
        given = None if groups is None else [groups] * n
        return len(items_bytes(Predictions.from_confidence([0.5] * n, [True] * n, groups=given)))

    assert size(3000) - size(2000) == 1000 * bytes_each
    assert size(1000) < 1000 * bytes_each + 1024


@pytest.mark.parametrize("unit", ["token", "item"])
def test_a_token_level_probe_stores_a_sample_of_4000(tmp_path: Path, unit: str) -> None:
    """Tokens keep the 4000 smallest ids of n, items all; n and metrics are those of all."""
    n = 6000
    rng = np.random.default_rng(1)
    everything = Predictions(
        probe="facts",
        confidence=rng.random(n),
        correct=rng.random(n) < 0.5,
        item_ids=rng.permutation(positional_ids(n)),
        unit=unit,  # type: ignore[arg-type]
    )
    stored(tmp_path, everything)
    record = Baselines(tmp_path).load("facts")
    kept = 4000 if unit == "token" else n
    assert (record.n, record.predictions.n) == (n, kept)
    smallest = np.sort(everything.item_ids)[:kept]
    assert np.array_equal(np.sort(record.predictions.item_ids), smallest)
    assert record.metrics["accuracy"] == pytest.approx(everything.correct.mean(), abs=1e-6)


def test_the_samples_of_nested_runs_are_nested() -> None:
    """The items stored of a limited run are among those stored of the whole run."""
    rng = np.random.default_rng(2)
    n = 9000
    everything = Predictions(
        probe="t",
        confidence=rng.random(n),
        correct=rng.random(n) < 0.5,
        item_ids=rng.permutation(positional_ids(n)),
        unit="token",
    )

    def ids(predictions: Predictions) -> set[int]:
        with np.load(io.BytesIO(summarise(predictions, "default", str)[1])) as archive:
            return set(archive["ids"].tolist())

    assert ids(everything.limited(1000)) < ids(everything.limited(4000)) == ids(everything)
    assert ids(everything.limited(5000)) == ids(everything)


def test_equal_items_are_the_same_bytes_at_every_time_and_on_every_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither clock nor operating system changes the items file, else its digest would change."""
    here = items_bytes(four_items())
    monkeypatch.setattr(time, "time", lambda: 2e9)
    monkeypatch.setattr(time, "localtime", lambda *_: time.gmtime(2_000_000_000))
    monkeypatch.setattr(sys, "platform", "win32")
    assert items_bytes(four_items()) == here


def test_the_items_file_is_named_by_its_digest(tmp_path: Path) -> None:
    """``<name>.items-<12 digits>.npz`` holds the first digits of the SHA-256 of its content."""
    path = stored(tmp_path)
    (items,) = tmp_path.glob("*.npz")
    sha = hashlib.sha256(items.read_bytes()).hexdigest()
    assert items.name == f"facts.items-{sha[:12]}.npz" == items_name(path)


def test_neither_file_holds_the_text_or_id_of_an_item(tmp_path: Path) -> None:
    """Questions, options, ids, groups and slices of a secret benchmark stay out of both files."""
    secrets = ["Zanzibar", "Quokka", "Xylophone", "row-7", "team-red", "geography"]
    question, right, wrong, own, group, about = secrets
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "\n".join(
            json.dumps(
                {
                    "question": f"{question} {i}?",
                    "options": [right, wrong],
                    "answer": i % 2,
                    "id": f"{own}{i}",
                    "group": group,
                    "slice": about,
                }
            )
            for i in range(3)
        ),
        encoding="utf-8",
    )
    folder = tmp_path / "stored"
    for scoring in ("letter", "text"):
        probe = MultipleChoice(f"mcq-{scoring}", path=rows, shots=1, scoring=scoring)
        stored(folder, probe.run(FakeModel()))
    texts = tmp_path / "texts.jsonl"
    texts.write_text(json.dumps({"text": " ".join(secrets), "id": own}), encoding="utf-8")
    stored(folder, NextToken("tokens", path=texts).run(FakeModel()))
    content = snapshot(folder)
    assert len(content) == 6
    for data in content.values():
        for secret in secrets:
            for encoding in ("utf-8", "utf-16-le", "utf-32-le"):
                assert secret.encode(encoding) not in data


HIDDEN = [
    "turned \u202e\u2066 round",
    "left\u200e to right\u200f",
    "a\u200bzero width",
    "soft\u00adhyphen",
    "tag \U000e0001",
    "\ufeffmark",
    "two\u2028lines\nthree\x85",
    "\x1b[31m \\u202e",
]


@pytest.mark.parametrize("text", HIDDEN, ids=ascii)
def test_what_a_reviewer_cannot_see_is_escaped(tmp_path: Path, text: str) -> None:
    """The file shows every character of a name or reason, and holds the same text."""
    store = Baselines(tmp_path)
    soft = {"model": text, text: "x"}
    for k in (0.5, 0.75):
        one = Predictions.from_confidence([k] * 4, [True] * 4, signature=Signature({}, soft))
        path = store.record(one, reason=text if k > 0.5 else None)
    shown = path.read_text(encoding="utf-8")
    assert all(c == "\n" or visible(c) == c for c in shown)
    assert len(shown.splitlines()) == shown.count("\n") <= 60
    record = store.load("confidence")
    assert dict(record.predictions.signature.soft) == soft
    assert (record.superseded[0]["reason"], record.superseded[0]["model"]) == (text, text)


@pytest.mark.parametrize("text", ["größe", "模型", "👩\u200d👧", "نمونه\u200cها"], ids=ascii)
def test_what_a_reader_can_see_is_not_escaped(tmp_path: Path, text: str) -> None:
    """Words of any script stand there as they are, joiners too."""
    one = Predictions.from_confidence([0.5] * 4, [True] * 4, model=text)
    assert f"model: {text}\n" in Baselines(tmp_path).record(one).read_text(encoding="utf-8")


# --- what can be wrong with the YAML file --------------------------------------------------------


def test_nothing_stored_is_not_something_unreadable(tmp_path: Path) -> None:
    """Where there is no file, the message says where it was looked for and what to do."""
    with pytest.raises(MissingBaseline, match=r"'facts' is stored in .*record it first"):
        Baselines(tmp_path / "none").load("facts")
    assert list(tmp_path.iterdir()) == []


BAD_TEXTS = {
    "conflict": (
        lambda t: f"<<<<<<< HEAD\n{t}=======\n{t}>>>>>>> other\n",
        r"facts\.yaml, line 1: holds git conflict markers; keep one side",
    ),
    "duplicate-key": (
        lambda t: t + "n: 4\n",
        r"facts\.yaml, line \d+: the key 'n' is given twice",
    ),
    "nested-duplicate-key": (
        lambda t: t.replace("  ece: 0.1\n", "  ece: 0.1\n  ece: 0.2\n"),
        r"line \d+: the key 'ece' is given twice",
    ),
    "syntax": (lambda t: t + "bins: [1, 2\n", r"facts\.yaml, line \d+: .*expected"),
    "a-list": (lambda _: "- 1\n", r"must hold a mapping with text keys, got list"),
    "a-text": (lambda _: "hello\n", r"must hold a mapping with text keys, got str"),
    "empty": (lambda _: "", r"facts\.yaml: the field format is missing"),
    "a-python-object": (
        lambda t: t.replace("note: ''", "note: !!python/object/apply:os.getcwd []"),
        r"could not determine a constructor for the tag",
    ),
    "oversized": (
        lambda t: t + "#" * (1 << 20),
        r"1,\d{3},\d{3} bytes are too many for such a file \(1,048,576\)",
    ),
    "nested-too-deep": (lambda t: t + "x: " + "[" * 200_000, r"is nested more than 50 deep"),
    "unknown-field": (
        lambda t: t + "colour: red\n",
        r"facts\.yaml: unknown field colour; known fields: format, probe, ",
    ),
    "edited-value": (
        lambda t: t.replace("  ece: 0.1\n", "  ece: 0.05\n"),
        r"the checksum does not fit the values: they were edited by hand or mixed by a merge",
    ),
    "edited-bins": (
        lambda t: t.replace("to: 0.6,", "to: 0.7,"),
        r"the checksum does not fit the values",
    ),
    "edited-history": (
        lambda t: t.replace("superseded: []", "superseded: [{reason: none}]"),
        r"the checksum does not fit the values",
    ),
    "within-itself": (
        lambda t: t.replace("superseded: []", "superseded: &a [*a]"),
        r"the alias 'a' stands within itself",
    ),
    "a-date": (
        lambda t: t.replace("superseded: []", "superseded: [2020-01-01]"),
        r"the checksum does not fit the values",
    ),
    "edited-checksum": (
        lambda t: re.sub(r"checksum: '?\w+'?", "checksum: '0123456789abcdef'", t),
        r"the checksum does not fit the values",
    ),
    "newer-format": (
        lambda t: t.replace("format: 1", "format: 2"),
        r"has format 2, and this version of pytest-calibration reads format 1; update",
    ),
    "newer-format-with-new-fields": (
        lambda _: "format: 3\nshape: round\n",
        r"has format 3, .* update pytest-calibration",
    ),
    "older-format": (
        lambda t: t.replace("format: 1", "format: 0"),
        r"format is 0, expected 1",
    ),
}


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_a_bad_file_is_refused_by_name_and_left_alone(tmp_path: Path, case: str) -> None:
    """Each bad state of the YAML file has its own message, and nothing is written."""
    spoil, message = BAD_TEXTS[case]
    path = stored(tmp_path)
    text = path.read_text(encoding="utf-8")
    spoilt = spoil(text)
    assert spoilt != text
    path.write_text(spoilt, encoding="utf-8")
    refuse(tmp_path, message)


# Records of an earlier layout have no `sharpness`.
FIELDS = [name for name in summarise(four_items(), "default", str)[0] if name != "sharpness"]


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    """Every field must be there, the hand-edited ones too."""
    path = stored(tmp_path)
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    del data[field]
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    refuse(tmp_path, rf"facts\.yaml: the field {field} is missing")


@pytest.mark.parametrize("field", ["file", "sha256", "count", "unit", "set"])
def test_a_missing_field_of_the_items_is_named(tmp_path: Path, field: str) -> None:
    """The entry that names the items file is checked like the rest."""
    path = stored(tmp_path)
    rewrite(path, lambda data: data["items"].pop(field))
    refuse(tmp_path, rf"facts\.yaml: the field items\.{field} is missing")


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("tolerance", "'a'", r"tolerance must be .*number or nothing, got 'a'"),
        ("tolerance", "no", r"tolerance must be .*number or nothing, got False"),
        ("limit", "yes", r"limit must be .*number or nothing, got True"),
        ("limit", "'0.1'", r"limit must be .*number or nothing, got '0\.1'"),
        ("note", "3", r"note must be text or nothing, got 3"),
        ("n", "'4'", r"n must be a whole number, got '4'"),
        ("n", "4.0", r"n must be a whole number, got 4\.0"),
        ("format", "'1'", r"format must be a whole number, got '1'"),
        ("format", "true", r"format must be a whole number, got True"),
        ("bins", "{}", r"bins must be a list, got \{\}"),
        ("metrics", "[]", r"metrics must be a mapping, got \[\]"),
        ("probe", "1", r"probe must be text, got 1"),
        ("noise_floor", "small", r"noise_floor must be .*a number, got 'small'"),
        ("noise_floor", ".nan", r"noise_floor must be a finite number, got nan"),
        ("tolerance", ".inf", r"tolerance must be a number of at least 0 .* got inf"),
        ("tolerance", "1", r"tolerance must be a number of at least 0 and below 1, got 1"),
        ("limit", "1.01", r"limit must be a number in \[0, 1\], got 1\.01"),
        ("limit", ".nan", r"limit must be a number in \[0, 1\], got nan"),
        ("metrics", "{ece: .nan}", r"metrics\.ece must be a finite number, got nan"),
        ("metrics", "{ece: .inf}", r"metrics\.ece must be a finite number, got inf"),
        ("metrics", "{ece: low}", r"metrics\.ece must be a finite number, got 'low'"),
        ("metrics", "{ece: no}", r"metrics\.ece must be a finite number, got False"),
        ("signature", "{hard: {}}", r"signature\.soft must map text to text, got None"),
        ("signature", "{hard: {shots: 5}, soft: {}}", r"signature\.hard must map text to text"),
    ],
)
def test_a_field_of_the_wrong_type_or_range_is_named(
    tmp_path: Path, field: str, text: str, message: str
) -> None:
    """The message names file, field and the value found."""
    path = stored(tmp_path)
    rewrite(path, lambda data: data.update({field: yaml.safe_load(text)}))
    refuse(tmp_path, rf"facts\.yaml: {message}")


@pytest.mark.parametrize(
    "line", ["note:", "note: null", "note: ~", "note: ''", "note:   # nothing", 'note: ""']
)
def test_an_empty_note_is_no_note(tmp_path: Path, line: str) -> None:
    """An editor may leave the key alone; the record is read, replaced and read again."""
    path = stored(tmp_path)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("note: ''", line), encoding="utf-8")
    store = Baselines(tmp_path)
    assert store.load("facts").note == ""
    store.record(four_items(), reason="again")
    assert "note: ''" in path.read_text(encoding="utf-8")


def _respelt(text: str) -> dict[str, str]:
    """The same values as other programs spell them, by who does so."""
    data = yaml.safe_load(text)
    wide: dict[str, Any] = {"sort_keys": False, "width": 10**6}
    return {
        "JavaScript": re.sub(r"\b(\d+)\.0\b", r"\1", text),
        "exponents": re.sub(r"\b0\.(\d)(\d*)\b", r"\1.\g<2>0e-1", text),
        "more digits": re.sub(r"(\d\.\d+)\b", r"\g<1>000", text),
        "JSON": json.dumps(data),
        "sorted keys": yaml.safe_dump(data, sort_keys=True, width=10**6),
        "double quotes": yaml.safe_dump(data, default_style='"', **wide).replace("!!", "!!"),
        "wrapped": yaml.safe_dump(data, width=20),
        "block style": yaml.safe_dump(data, default_flow_style=False, **wide),
        "Windows lines": text.replace("\n", "\r\n"),
        "byte order mark": f"\ufeff{text}",
        "nulls as ~": text.replace("null", "~"),
    }


@pytest.mark.parametrize("how", [*_respelt("{}")])
def test_a_formatter_may_spell_the_values_its_own_way(tmp_path: Path, how: str) -> None:
    """The checksum is over values: numbers, quotes, order of keys and line breaks are free."""
    path = stored(tmp_path)
    text = path.read_text(encoding="utf-8")
    assert "signed_gap: 0.0" in text
    before = Baselines(tmp_path).load("facts")
    path.write_bytes(_respelt(text)[how].encode())
    assert path.read_bytes() != text.encode()
    after = Baselines(tmp_path).load("facts")
    assert (after.metrics, after.n, after.sharpness) == (before.metrics, before.n, before.sharpness)


@pytest.mark.parametrize(
    "text", ["1e-3", "1E5", "+.5", "0o10", "0100", "1:30", "yes", "2020-01-01", "~", "<<", ".inf"]
)
def test_text_that_looks_like_something_else_stays_text(tmp_path: Path, text: str) -> None:
    """It is quoted, so that YAML 1.1 (PyYAML) and 1.2 read the same."""
    signature = Signature({"kind": text}, {"model": text, "revision": text})
    path = Baselines(tmp_path).record(replace(four_items(), signature=signature))
    assert Baselines(tmp_path).load("facts").predictions.signature == signature
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert data["signature"] == {"hard": signature.hard, "soft": signature.soft}


def test_a_renamed_file_is_refused(tmp_path: Path) -> None:
    """A record says whose it is: another probe's or another name's record is never used."""
    path = stored(tmp_path)
    path.rename(tmp_path / "other.yaml")
    refuse(tmp_path, r"holds the baseline 'default' of probe 'facts', expected .*'other'", "other")
    (tmp_path / "sft").mkdir()
    (tmp_path / "other.yaml").rename(tmp_path / "sft" / "facts.yaml")
    with pytest.raises(UnreadableBaseline, match=r"expected 'sft' of 'facts'; rename the file"):
        Baselines(tmp_path).named("sft").load("facts")


@pytest.mark.parametrize("kind", ["folder", "latin-1"])
def test_what_cannot_be_read_at_all_is_refused(tmp_path: Path, kind: str) -> None:
    """A folder in the file's place, or bytes that are no UTF-8, are there and cannot be trusted."""
    path = tmp_path / "facts.yaml"
    if kind == "folder":
        path.mkdir()
    else:
        path.write_bytes("note: Größe\n".encode("latin-1"))
    refuse(tmp_path, r"facts\.yaml: cannot be read")


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_a_link_to_nowhere_is_not_nothing(tmp_path: Path) -> None:
    """A broken link is something stored that cannot be read, never a missing baseline."""
    (tmp_path / "facts.yaml").symlink_to(tmp_path / "gone.yaml")
    refuse(tmp_path, r"facts\.yaml: cannot be read")


@given(st.data())
def test_no_edit_of_one_character_changes_what_a_record_says(data: st.DataObject) -> None:
    """A changed character is refused, or in a comment, or in a field that may be edited."""
    with tempfile.TemporaryDirectory() as folder:
        path = stored(Path(folder))
        text = path.read_text(encoding="utf-8")
        before = yaml.safe_load(text)
        at = data.draw(st.integers(0, len(text) - 1))
        new = data.draw(st.sampled_from("0179 \n:,-{}[]'\"#&*!%@`|>.enxé\t"))
        path.write_text(text[:at] + new + text[at + 1 :], encoding="utf-8")
        try:
            after = dict(read_record(path, "facts", "default").data)
        except UnreadableBaseline:
            return
        for key in ("note", "tolerance", "limit"):
            before.pop(key), after.pop(key)
        assert after == before


def test_stored_n_asks_for_the_number_alone(tmp_path: Path) -> None:
    """The n of a record is read even where its items are gone; 0 where the file says none."""
    path = stored(tmp_path)
    (tmp_path / items_name(path)).unlink()
    assert stored_n(path) == 4
    path.write_text("n: many\n", encoding="utf-8")
    assert stored_n(path) == 0
    assert stored_n(tmp_path / "none.yaml") == 0


def test_the_checksum_covers_everything_but_hand_edits_in_any_order() -> None:
    """Key order and the three hand-edited fields are free; every other field is covered."""
    summary, _ = summarise(four_items(), "default", str)
    backwards = dict(reversed(summary.items()))
    assert checksum(backwards) == checksum(summary)
    for field in FIELDS:
        changed = checksum({**summary, field: "other"}) != checksum(summary)
        assert changed == (field not in {"note", "tolerance", "limit", "checksum"}), field


def test_a_diff_shows_one_line_per_changed_thing() -> None:
    """Metrics, bins and history have one line an entry, so that a review reads well."""
    lines = to_yaml(summarise(four_items(), "default", str)[0]).splitlines()
    assert "  ece: 0.1" in lines
    assert "  - {to: 0.6, n: 2, confidence: 0.6, accuracy: 0.5}" in lines


# --- what can be wrong with the items file -------------------------------------------------------


def test_items_that_are_missing_are_named(tmp_path: Path) -> None:
    """A clone without the items file says which file is missing and what to do."""
    path = stored(tmp_path)
    name = items_name(path)
    (tmp_path / name).unlink()
    refuse(tmp_path, rf"its items file {re.escape(name)} is missing; restore it")


def flip(content: bytes) -> bytes:
    """Change one bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("which", ["yaml", "npz"])
def test_a_pointer_of_git_lfs_is_told(tmp_path: Path, which: str) -> None:
    """A clone without git-lfs would give the same pointer again: only git lfs pull helps."""
    path = stored(tmp_path)
    file = path if which == "yaml" else path.with_name(items_name(path))
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4000\n"
    for text in (pointer, pointer.replace("\n", "\r\n")):
        file.write_bytes(text.encode())
        refuse(tmp_path, r"is a pointer of Git LFS, not the file itself; fetch it: git lfs pull")


@pytest.mark.parametrize("kind", ["a pipe", "a device", "a folder"])
def test_items_of_another_kind_are_not_read(tmp_path: Path, kind: str) -> None:
    """A pipe would wait for a writer, a device has no end."""
    path = stored(tmp_path)
    file = path.with_name(items_name(path))
    file.unlink()
    if kind == "a pipe":
        os.mkfifo(file)
    elif kind == "a device":
        file.symlink_to("/dev/zero")
    else:
        file.mkdir()
    with pytest.raises(UnreadableBaseline, match=rf"npz: cannot be read \(it is {kind}\)"):
        Baselines(tmp_path).load("facts")


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(flip, id="one-bit"),
        pytest.param(lambda c: c[:-1], id="truncated"),
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda _: npz(correct=np.ones(4, np.uint8)), id="swapped"),
    ],
)
def test_items_that_were_changed_are_found(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    """The YAML names the items by digest: any other bytes are refused."""
    path = stored(tmp_path)
    items = tmp_path / items_name(path)
    items.write_bytes(spoil(items.read_bytes()))
    refuse(tmp_path, r"is not the file that facts\.yaml was written with \(its digest differs\)")


def test_items_that_are_too_large_are_not_even_read(tmp_path: Path) -> None:
    """Four items need no megabyte; the size is checked before the content."""
    path = stored(tmp_path)
    (tmp_path / items_name(path)).write_bytes(bytes(1 << 20))
    refuse(tmp_path, r"1,048,576 bytes are too many for such a file \(65,792\)")


@pytest.mark.parametrize(
    "name",
    ["../secret.npz", "/etc/passwd", "C:\\x.npz", "", ".", "..", "facts.yaml", "a b.npz", "a\nb"],
)
def test_an_items_file_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    """The items lie beside the YAML, under a plain name that ends in .npz."""
    path = stored(tmp_path)
    rewrite(path, lambda data: data["items"].update(file=name))
    refuse(tmp_path, r"items\.file .* must be a plain file name")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"count": 0}, "items.count 0 or items.unit 'item' cannot be."),
        ({"count": -4}, "items.count -4 or "),
        ({"count": 10**12}, "items.count 1000000000000 or "),
        ({"unit": "word"}, "or items.unit 'word' cannot be."),
    ],
    ids=["none", "negative", "endless", "unit"],
)
def test_impossible_counts_and_units_are_refused(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    """A count bounds what is read, so that it must be possible itself."""
    path = stored(tmp_path)
    rewrite(path, lambda data: data["items"].update(change))
    refuse(tmp_path, re.escape(told))


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_pickled_items_are_never_unpickled(tmp_path: Path) -> None:
    """An object array, which runs code as it is read, is refused unread."""
    folder, sprung = tmp_path / "stored", tmp_path / "sprung"
    path = stored(folder)
    trap = np.empty(4, dtype=object)
    trap[:] = [Trap(sprung)] * 4
    with_payload(path, npz(ids=trap))
    refuse(folder, r"does not hold the items \(Object arrays cannot be loaded")
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()  # the trap works where it is unpickled


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """A small file that unpacks to far more than its items need is refused."""
    path = stored(tmp_path)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, ids=np.zeros(1_000_000, np.uint64))
    assert len(buffer.getvalue()) < 65536
    with_payload(path, buffer.getvalue())
    refuse(tmp_path, r"does not hold the items \(it unpacks to more than its items need\)")


def endless_header() -> bytes:
    """An array whose header promises 10¹⁵ numbers."""
    content = io.BytesIO()
    header = {"descr": "<u8", "fortran_order": False, "shape": (10**15,)}
    np.lib.format.write_array_header_1_0(content, header)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("ids.npy", content.getvalue())
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        pytest.param(b"no archive", "not a zip file", id="no-zip"),
        pytest.param(endless_header(), "", id="endless-header"),
        pytest.param(npz(ids=None), "ids", id="array-missing"),
        pytest.param(npz(extra=np.zeros(4)), "unexpected array extra", id="array-unknown"),
        pytest.param(npz(confidence=np.full(4, 0.5)), "confidence of float64", id="type"),
        pytest.param(
            npz(confidence=np.full((4, 1), 0.5, np.float32)),
            r"confidence has shape \(4, 1\) for 4 items",
            id="shape",
        ),
        pytest.param(
            npz(correct=np.ones(3, np.uint8)), r"correct has shape \(3,\) for 4 items", id="length"
        ),
        pytest.param(
            npz(confidence=np.array([0.5, np.nan, 0.5, 0.5], np.float32)),
            r"confidence\[1\] is nan",
            id="nan",
        ),
        pytest.param(
            npz(confidence=np.full(4, 1.5, np.float32)), r"outside \[0, 1\]", id="out-of-range"
        ),
        pytest.param(npz(ids=np.zeros(4, np.uint64)), "have the same id", id="equal-ids"),
    ],
)
def test_items_that_are_no_predictions_are_refused(
    tmp_path: Path, payload: bytes, message: str
) -> None:
    """Even where every digest fits, arrays are checked before anything is computed from them."""
    path = stored(tmp_path)
    with_payload(path, payload)
    refuse(tmp_path, rf"does not hold the items \(.*{message}")


@pytest.mark.parametrize(("n", "count"), [(4, 3), (4, 5)])
def test_the_count_must_be_that_of_the_arrays(tmp_path: Path, n: int, count: int) -> None:
    """Items and YAML agree on how many there are."""
    path = stored(tmp_path)
    with_payload(path, npz(), count)
    refuse(tmp_path, rf"has shape \({n},\) for {count} items")


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_crafted_bytes_never_crash(at: int, value: int) -> None:
    """Whatever a byte of the items file is changed to, it is read or refused."""
    content = bytearray(items_bytes(four_items()))
    content[at % len(content)] = value
    with tempfile.TemporaryDirectory() as folder:
        path = stored(Path(folder))
        with_payload(path, bytes(content))
        try:
            read = Baselines(Path(folder)).load("facts")
        except UnreadableBaseline:
            return
        assert read.predictions.n == 4


# --- sharpness -----------------------------------------------------------------------------------


def test_how_sure_the_model_was_is_stored(tmp_path: Path) -> None:
    """One line of the file, which comes back to six digits."""
    table = np.array([[0.95, 0.05], [0.3, 0.7], [0.6, 0.4]])
    p = Predictions.from_probabilities(table, [0, 1, 1], probe="facts")
    path = Baselines(tmp_path).record(p)
    line = next(x for x in path.read_text().splitlines() if x.startswith("sharpness:"))
    entropy = -float((table * np.log(table)).sum()) / 3
    assert line == (
        f"sharpness: {{share_confident: 0.333333, mean_entropy: {round(entropy, 6)}, "
        "answers: [0.666667, 0.333333]}"
    )
    read = Baselines(tmp_path).load("facts").sharpness
    assert read == Sharpness(0.333333, pytest.approx(entropy, abs=1e-6), None, (0.666667, 0.333333))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"answers": []}, "the field sharpness.share_confident is missing."),
        ({"share_confident": 0.5, "x": 1}, "unknown field sharpness.x; known fields: answers, "),
        ({"share_confident": True}, "sharpness.share_confident must be finite numbers, got True."),
        ({"share_confident": [0.5]}, "sharpness.share_confident must be a number, got [0.5]."),
        ({"share_confident": 0.5, "answers": 1.0}, "sharpness.answers must be a list of numbers"),
        ({"share_confident": math.inf}, "sharpness.share_confident must be finite numbers"),
    ],
)
def test_bad_sharpness_is_named(tmp_path: Path, value: dict[str, object], message: str) -> None:
    """A record whose checksum fits and whose field makes no sense is refused by its name."""
    p = Predictions.from_confidence([0.5, 0.9], [True, False], probe="facts")
    path = Baselines(tmp_path).record(p)
    data = dict(Baselines(tmp_path).load("facts").data)
    data["sharpness"] = value
    data["checksum"] = checksum(data)
    path.write_text(to_yaml(data), encoding="utf-8")
    with pytest.raises(UnreadableBaseline, match=re.escape(message)):
        Baselines(tmp_path).load("facts")
