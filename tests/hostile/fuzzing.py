"""Damaged and hostile files for every reader: ``python tests/hostile/fuzzing.py --inputs 100000``.

Valid files, and what servers answer, are changed at random, as bytes and as trees, and read again.
A reader may read what is left or refuse it with a ``CalibrationError`` whose message is one visible
line without the key of a server; any other exception is foreign, and so is one of too much time or
memory. Digests and checksums of changed records are made anew, so that what lies behind them is
reached, too.

Each input is a function of seed, reader and number. ``--progress FILE`` goes on where a run with
the same file was stopped; ``--reader NAME --number N`` reads one input again, with its traceback.
Changes start from valid files rather than from a grammar (as Hypothesis has them), since nearly all
of what a grammar makes is refused by the first check of a file, and a run can go on by numbers.

Exit code 1 where anything foreign was raised; each first of its kind is printed with its number.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import hashlib
import io
import itertools
import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from fakes import FakeModel
from samples import predictions, small_results

from pytest_calibration import (
    Classification,
    Facts,
    MultipleChoice,
    NextToken,
    Predictions,
    Preference,
    PTrue,
    Verbalized,
)
from pytest_calibration.baselines import Baselines
from pytest_calibration.baselines.check import compare_with_record
from pytest_calibration.baselines.record import checksum, is_record, read_record
from pytest_calibration.cli import main
from pytest_calibration.cli.init.planned import plan
from pytest_calibration.cli.init.surroundings import look
from pytest_calibration.cli.yaml_edit import with_value
from pytest_calibration.config import read_config
from pytest_calibration.errors import CalibrationError
from pytest_calibration.files import write_atomically
from pytest_calibration.gate.strictness import DEFAULT
from pytest_calibration.history.checkpoints import checkpoint_of, checkpoints
from pytest_calibration.history.drift import judge_drift
from pytest_calibration.history.file import History
from pytest_calibration.history.lines import Line
from pytest_calibration.history.series import all_series
from pytest_calibration.input_files import read_text
from pytest_calibration.items.dataset import Dataset
from pytest_calibration.models.backends import ModelSpec
from pytest_calibration.models.backends.transformers.identity import identify_checkpoint
from pytest_calibration.models.backends.transformers.layers import layers
from pytest_calibration.models.backends.transformers.loading_settings import TransformersSettings
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.cached_answers import CachedAnswers
from pytest_calibration.models.spec import parse_spec
from pytest_calibration.probes.presets import all_presets, full_settings
from pytest_calibration.probes.probe_set import probe_set
from pytest_calibration.readers import kind_of, lm_eval, read_predictions
from pytest_calibration.reports.dump import dump_lines, read_both
from pytest_calibration.reports.html import html_report
from pytest_calibration.reports.json_report import json_report, parse_json, read_json
from pytest_calibration.reports.markdown import markdown_report
from pytest_calibration.reports.openmetrics import openmetrics_report
from pytest_calibration.strict_yaml import MAX_BYTES
from pytest_calibration.text.visible import MOST_OF_A_MESSAGE

SECONDS: Final = 10.0
"""Processor time that one input may take."""
SAVE_SECONDS: Final = 5.0
"""Between two writes of the file of progress."""
MEBIBYTES: Final = 1024
"""Memory that all inputs together may add."""
NAMES: Final = (
    *("calibration.yaml", "record", "items", "rows of facts", "rows of quiz", "rows of open"),
    *("rows of stated", "rows of texts", "rows of pairs", "rows of prose"),
    *("table of quiz", "table of texts"),
    *("cache entry", "report", "dump", "history", "items of a history", "trainer state"),
    *("checkpoint", "project", "names", "samples of lm-eval", "results of lm-eval"),
    *(["server", "decisions"] if find_spec("httpx") and find_spec("transformers") else []),
    *("csv", "json lines", *(["parquet"] if find_spec("pyarrow") else [])),
)
SECRET: Final = "sk-swordfish-1234567890"
"""Key of the server, which no message may show."""
# Parts of files that readers have stumbled over, here or elsewhere.
TOKENS: Final = (
    *(b"!!int ''", b"!!float x", b"!!bool x", b"!!timestamp x", b"!!binary =", b"!!set {a}"),
    *(b"!!python/name:os.system", b"&a ", b"*a", b"<<: ", b"&a [*a]", b"{<<: 3}", b"? ", b"- "),
    *(b"0x", b"0o", b"1:30", b"1e-3", b"1e999", b"2020-13-45", b".inf", b".nan", b"---\n", b"%x"),
    *(
        b"|\n",
        b">-\n",
        b"\t",
        b"\r",
        b"\0",
        b"\x1b[31m",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xed\xa0\xbd",
    ),
    *(b'"\\ud83d"', b"\\ud83d", b"NaN", b"-Infinity", b"[" * 2000, b"{" * 300, b'{"a":' * 2000),
    *(b"9" * 400, b"9" * 5000, b"version https://git-lfs.github.com/spec/v1\n", b"::error::x"),
    *("\u202e".encode(), "\u2028".encode(), "é".encode(), b"<<<<<<< HEAD\n", b"=======\n"),
    *(b"!!python/object/apply:os.system [x]", b"!include x", b"!!omap [a: 1]"),
    *(b"!<tag:yaml.org,2002:python/module:os> ''", b"%TAG ! tag:x:\n---\n", b"C:\\x", b"..\\x"),
)
# Values in place of others.
BAD: Final = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        3,
        10**6,
        2**31,
        2**63,
        2**64,
        10**400,
        0.5,
        1e308,
        -0.0,
        5e-324,
    ),
    *(float("nan"), float("inf"), "", " ", "x", "1", "a" * 5000, "\ud83d", "\0", "\x1b[31m\u202e"),
    *(
        "::error::x",
        "../../x",
        "/dev/zero",
        "/",
        "n" * 300,
        [],
        {},
        [[]],
        [None],
        {"x": 1},
        ["x", 1],
    ),
)


# --- changes -------------------------------------------------------------------------------------


def changed_bytes(content: bytes, rng: random.Random) -> bytes:
    """Change some bytes: flip, delete, repeat, insert, cut."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(content) + 1)
        to = min(len(content), at + rng.choice((1, 1, 2, 8, 64)))
        kind = rng.randrange(7)
        if kind == 0 and at < len(content):
            content = content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
        elif kind == 1:
            content = content[:at] + content[to:]
        elif kind == 2:
            content = content[:to] + content[at:]
        elif kind == 3:
            content = content[:at]
        elif kind == 4:
            content = content[:at] + rng.randbytes(to - at) + content[to:]
        else:
            content = content[:at] + rng.choice(TOKENS) + content[at if kind == 5 else to :]
    return content


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield container and key of every value in a tree."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))
    for key in keys:
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from places(tree[key])


def changed_tree(tree: Any, rng: random.Random) -> Any:
    """Change some values: take away, replace, exchange, rename, wrap, repeat."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 2, 3))):
        found = list(places(tree))
        if not found:
            break
        (inside, key), (other, other_key) = rng.choice(found), rng.choice(found)
        kind = rng.randrange(7)
        if kind == 0:
            del inside[key]
        elif kind == 1:
            inside[key] = copy.deepcopy(other[other_key])
        elif kind == 2 and isinstance(inside, dict):
            inside[str(rng.choice(BAD))[:400]] = inside.pop(key)
        elif kind == 3:
            inside[key] = rng.choice(([inside[key]], {"x": inside[key]}, [inside[key]] * 50))
        elif kind == 4 and isinstance(inside[key], int | float):
            inside[key] = (
                -inside[key] if rng.random() < 0.5 else inside[key] * 10 ** rng.randrange(9)
            )
        else:
            inside[key] = copy.deepcopy(rng.choice(BAD))
    return tree


def as_yaml(tree: Any, rng: random.Random) -> bytes:
    """Write a tree as YAML, in one of its styles."""
    style = rng.choice((True, False, None))
    text = yaml.safe_dump(tree, sort_keys=False, default_flow_style=style, allow_unicode=True)
    return text.encode("utf-8", "surrogatepass")


def as_json(tree: Any, rng: random.Random) -> bytes:
    """Write a tree as JSON, with or without escapes."""
    return json.dumps(tree, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")


def changed_lines(content: bytes, rng: random.Random) -> bytes:
    """Change one of several JSON objects as a tree."""
    lines = content.splitlines()
    at = rng.randrange(len(lines))
    lines[at] = as_json(changed_tree(json.loads(lines[at]), rng), rng)
    return b"\n".join(lines)


# --- readers -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """A reader, and how files for it are changed.

    Attributes:
        weight: its share of all inputs.
        files: valid files.
        change: changes a file as a tree.
        read: reads one, as a user's command would, and uses what it holds.
    """

    weight: int
    files: tuple[bytes, ...]
    change: Callable[[bytes, random.Random], bytes]
    read: Callable[[bytes, random.Random], object]


def show(path: Path, *options: str, command: str = "show") -> None:
    """Run ``show`` or another command; exit code 2 stands for a CalibrationError."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([command, str(path), *options])
    if code == 2:
        raise CalibrationError(err.getvalue().rstrip("\n"))
    assert code == 0 or (command in ("check", "drift") and code == 1), f"exit code {code}"
    assert out.getvalue().replace("\n", "").isprintable(), "raw characters on the terminal"


def readers(folder: Path) -> dict[str, Reader]:
    """Return all readers; they use files in this folder."""
    return {
        "calibration.yaml": _config(folder),
        **_records(folder),
        **_rows(folder),
        "cache entry": _cache(folder),
        "report": _report(folder),
        "dump": _dump(folder),
        **_history(folder),
        "checkpoint": _checkpoint(folder),
        "project": _project(folder),
        "names": _names(folder),
        **_lm_eval(folder),
        **(_servers(folder) if "server" in NAMES else {}),
        **_tables(folder),
    }


CONFIG: Final = """
model: {device: cpu, dtype: float32, batch_tokens: 512, tokenizer: null, trust_remote_code: false,
  safetensors_only: true, arguments: {attn_implementation: eager}, tokenizer_arguments: {a: true}}
probes:
  words: {kind: facts, path: facts.jsonl, mode: first_token, limit: 200, tolerance: 0.03}
  quiz: {kind: multiple_choice, path: quiz.jsonl, shots: 1, scoring: text, header: "Go: "}
  prose: {kind: next_token, path: prose.jsonl, positions: 3}
  open: {kind: agreement, path: open.jsonl, samples: 3, temperature: 0.5, seed: 1, stop: [".", "!"]}
  sciq: {limit: 5, dataset: {revision: main, columns: {question: question, answer: 3}}}
presets:
  own: {preset: mmlu, limit: 9, dataset: {config: anatomy, path: copy, where: answer > 0}}
tolerance: 0.01
alpha: 0.1
"""
ROWS: Final[Mapping[str, tuple[Any, bytes]]] = {
    "facts": (Facts, b'{"prompt": "The capital of France is", "answer": "Paris", "id": "a"}'),
    "quiz": (
        MultipleChoice,
        b'{"question": "2 + 2?", "options": ["3", "4"], "answer": 1, "group": "g", "slice": "s"}',
    ),
    "open": (PTrue, b'{"question": "Capital of Peru?", "answers": ["Lima", "L."], "id": 1}'),
    "stated": (Verbalized, b'{"question": "Capital of Peru?", "answers": ["Lima"], "id": "s"}'),
    "texts": (Classification, b'{"text": "Well made.", "label": "good", "group": 1}'),
    "pairs": (Preference, b'{"prompt": "Hi", "chosen": "Hello.", "rejected": "No.", "id": 2}'),
    "prose": (NextToken, b'{"text": "Once upon a time", "id": 7, "group": "g"}'),
}

TEXTS: Final = b'text,label,id\nWell made.,good,1\n"Bad, again",bad,2\nSo so,good,3\n'
TABLE: Final = b"""question,options,answer,slice
"2 + 2, that is?","[""3"", ""4""]",1,s
"3 +
3?","[""5"", ""6""]",1,
"""


def _three(row: bytes) -> bytes:
    tree = json.loads(row)
    key, text = next(iter(tree.items()))
    return b"\n".join(json.dumps({**tree, key: f"{i} {text}"}).encode() for i in range(3)) + b"\n"


def _config(folder: Path) -> Reader:
    path = folder / "calibration.yaml"
    for name, (_, row) in ROWS.items():
        (folder / f"{name}.jsonl").write_bytes(_three(row))

    def read(content: bytes, _: random.Random) -> None:
        path.write_bytes(content)
        config = read_config(path)
        probes = probe_set(config.probes, config.folder)
        for name in config.probes:
            if {"path", "kind"} <= config.probes[name].keys():
                probes.get(name)
            config.probe_tolerance(name)
        assert len(config.limits) <= len(config.probes) + len(config.presets)
        config.load_settings(device=None)
        presets = all_presets(config.presets)
        for name, entry in (config.probes | config.presets).items():
            settings = full_settings(name, entry, presets, "here")
            if "dataset" in settings:
                Dataset.of(settings["dataset"], "here")
        text = read_text(path, MAX_BYTES, CalibrationError)
        for keys in (("probes", "sciq"), ("presets", "own"), ("probes", "words")):
            with_value(text, (*keys, "dataset", "revision"), "a" * 40, path)

    return Reader(10, (CONFIG.encode(),), _changed_yaml, read)


def _changed_yaml(content: bytes, rng: random.Random) -> bytes:
    return as_yaml(changed_tree(yaml.safe_load(content), rng), rng)


def _records(folder: Path) -> dict[str, Reader]:
    """Two readers: of the YAML file, and of the items that it names."""
    made = [
        predictions(n=120, hostile=False),
        Predictions.from_confidence([0.5, 0.9, 0.7], [True, False, True], probe="plain"),
    ]
    store = Baselines(folder / "records")
    paths = [store.record(one) for one in made]
    texts = [path.read_bytes() for path in paths]
    # Accepted twice, with an anchor whose items lie beside.
    for reason in ("a step", "another step"):
        better = replace(made[0], confidence=np.sqrt(made[0].confidence), probabilities=None)
        store.record(made[0] if reason == "another step" else better, reason=reason)
    texts.append(paths[0].read_bytes())
    candidate = {one.probe: one for one in made}
    path = paths[0].with_name("fuzzed.yaml")

    def read(content: bytes, rng: random.Random) -> None:
        path.write_bytes(content)
        is_record(path)
        if rng.random() < 0.05:
            return show(path)
        probe = next((p for p in candidate if p.encode() in content), "plain")
        record = read_record(path, probe, "default")
        if rng.random() < 0.1:
            compare_with_record(candidate[probe], record, DEFAULT)
        return None

    def change(content: bytes, rng: random.Random) -> bytes:
        data = changed_tree(yaml.safe_load(content), rng)
        with contextlib.suppress(Exception):
            data["checksum"] = checksum(data)
        return as_yaml(data, rng)

    def read_items(content: bytes, rng: random.Random) -> None:
        data = copy.deepcopy(yaml.safe_load(texts[0]))
        digest = hashlib.sha256(content).hexdigest()
        data["items"] |= {
            "file": "fuzzed.npz",
            **({"sha256": digest} if rng.random() < 0.9 else {}),
        }
        data["checksum"] = checksum(data)
        path.with_name("fuzzed.npz").write_bytes(content)
        path.write_text(json.dumps(data), encoding="utf-8")
        record = read_record(path, made[0].probe, "default")
        if rng.random() < 0.1:
            compare_with_record(made[0], record, DEFAULT)

    items = next(paths[0].parent.glob(f"{paths[0].stem}.items-*.npz")).read_bytes()
    return {
        "record": Reader(6, tuple(texts), change, read),
        "items": Reader(4, (items,), _changed_arrays, read_items),
    }


def _changed_arrays(content: bytes, rng: random.Random) -> bytes:
    """Write the arrays of an npz file again, one of another type, shape or name."""
    with np.load(io.BytesIO(content)) as archive:
        arrays = {key: archive[key] for key in archive.files}
    key = rng.choice(list(arrays))
    values = arrays[key]
    changes: list[Callable[[], Any]] = [
        lambda: values.astype(rng.choice(("f2", "f8", "i1", "u8", "c8", "S3", "U3", "M8[s]"))),
        lambda: values[: rng.randrange(len(values))],
        lambda: values[:, None],
        lambda: np.array(rng.choice(BAD[:14])),
        lambda: np.full_like(values, rng.choice((0, 1, 2, 255))),
        lambda: np.array([("a", 1)], dtype=[("x", "U1"), ("y", "i4")]),
        lambda: values[::-1],
    ]
    with contextlib.suppress(OverflowError, ValueError), np.errstate(all="ignore"):
        arrays[key] = rng.choice(changes)()
    if rng.random() < 0.2:
        arrays[rng.choice(("x", "groups", "../x"))] = arrays.pop(key)
    file = io.BytesIO()
    writer = np.savez_compressed if rng.random() < 0.3 else np.savez
    writer(file, **{k: v for k, v in arrays.items() if v.dtype != object})
    return file.getvalue()


class Labels:
    """A classifier with two names."""

    name = fingerprint = "labels"
    class_names = ("good", "bad")

    def class_probabilities(self, texts: list[str]) -> Any:
        """Return probabilities that depend on the length of each text."""
        good = np.array([1 / (1 + len(text) % 7) for text in texts])
        return np.column_stack([good, 1 - good])


def _rows(folder: Path) -> dict[str, Reader]:
    model = FakeModel()

    def reader(name: str, kind: Any, rows: bytes, change: Any, ending: str = "jsonl") -> Reader:
        path = folder / f"fuzzed-{name}.{ending}"

        def read(content: bytes, rng: random.Random) -> None:
            path.write_bytes(content)
            probe = kind(name, path=path)
            # The fake model knows no rewards, and states no confidence.
            if rng.random() < 0.2 and kind not in (Preference, Verbalized):
                probe.run(Labels() if kind is Classification else model)
            else:
                probe.ids()

        return Reader(16, (rows,), change, read)

    made = {
        f"rows of {name}": reader(name, kind, _three(row), changed_lines)
        for name, (kind, row) in ROWS.items()
    }
    tables = {"quiz": (MultipleChoice, TABLE), "texts": (Classification, TEXTS)}
    return made | {
        f"table of {name}": reader(name, kind, table, changed_bytes, "csv")
        for name, (kind, table) in tables.items()
    }


class Kept(CachedAnswers):
    """Answers of the fake model, kept in a cache."""

    cache_key = b"key"

    def load(self) -> FakeModel:
        """Return the model."""
        return FakeModel()

    def unchanged(self) -> bool:
        """Return that no file changed: there is none."""
        return True


def _cache(folder: Path) -> Reader:
    cache = Cache(folder / "cache")
    questions: list[Callable[[Kept], object]] = [
        lambda model: model.option_logprobs(["a b", "c"], [[" x", " y"], [" z"]]),
        lambda model: model.next_token(["a b c d", "e f"]),
        lambda model: model.generate(["a b", "c"], max_new_tokens=[2, 1]),
        lambda model: model.description,
    ]
    entries: dict[Path, tuple[bytes, Callable[[Kept], object]]] = {}
    for ask in questions:
        ask(Kept(cache))
        # By their content: their names depend on a secret.
        for path in sorted(cache.folder.rglob("*.answer"), key=lambda file: file.read_bytes()[16:]):
            entries.setdefault(path, (path.read_bytes(), ask))

    def read(content: bytes, rng: random.Random) -> None:
        path, (good, ask) = rng.choice(list(entries.items()))
        if rng.random() < 0.9:
            # A digest that fits, as of a program with a defect.
            key = path.name.encode()
            content = hashlib.blake2b(content, digest_size=16, key=key).digest() + content
        path.write_bytes(content)
        ask(Kept(cache))
        path.write_bytes(good)

    def change(content: bytes, rng: random.Random) -> bytes:
        with np.load(io.BytesIO(content)) as archive:
            arrays = {key: archive[key] for key in archive.files}
        if rng.random() < 0.5:
            meta = as_json(changed_tree(json.loads(arrays["meta"].tobytes()) or {"x": 1}, rng), rng)
            file = io.BytesIO()
            np.savez(file, **{**arrays, "meta": np.frombuffer(meta, np.uint8)})
            return file.getvalue()
        return _changed_arrays(content, rng)

    return Reader(8, tuple(good[16:] for good, _ in entries.values()), change, read)


def _report(folder: Path) -> Reader:
    path = folder / "fuzzed.json"
    text = "".join(json_report(small_results())).encode()

    def read(content: bytes, rng: random.Random) -> None:
        path.write_bytes(content)
        if rng.random() < 0.3:
            return show(path, *rng.choice(((), ("--worst", "2"), ("--json",))))
        results = read_json(path)
        if rng.random() < 0.1:
            for report in (html_report, markdown_report, json_report, openmetrics_report):
                for _ in report(results):
                    pass
        return None

    def change(content: bytes, rng: random.Random) -> bytes:
        return as_json(changed_tree(json.loads(content), rng), rng)

    assert parse_json(text.decode()).results
    return Reader(10, (text,), change, read)


def _dump(folder: Path) -> Reader:
    path = folder / "fuzzed.dump.jsonl"
    made = predictions(n=6, hostile=False)
    before = replace(made, confidence=made.confidence[::-1].copy(), probabilities=None, labels=None)
    plain = Predictions.from_confidence([0.5, 0.9, 0.7], [True, False, True], probe="plain")
    files = [dump_lines(made), dump_lines(made, before), dump_lines(plain)]

    def read(content: bytes, rng: random.Random) -> None:
        path.write_bytes(content)
        if rng.random() < 0.05:
            show(path, *rng.choice(((), ("--slice", "x"), ("--json",), ("--correct",))))
        else:
            read_both(path)

    return Reader(12, tuple("\n".join(f).encode() for f in files), changed_lines, read)


LM_EVAL: Final = Path(__file__).parents[1] / "readers" / "lm_eval_run"


def _lm_eval(folder: Path) -> dict[str, Reader]:
    """Two readers: of samples of lm-eval, and of the results beside them."""
    run = folder / "lm_eval"
    run.mkdir()
    (results,) = LM_EVAL.glob("results_*.json")
    date = results.stem.removeprefix("results_")
    samples = (LM_EVAL / f"samples_places_{date}.jsonl").read_bytes()
    file, beside = run / f"samples_places_{date}.jsonl", run / results.name

    def ask(rng: random.Random) -> None:
        if lm_eval.claims(run):
            lm_eval.read(
                rng.choice((run, file)),
                task=rng.choice((None, None, "mine", "*")),
                metric=rng.choice(("acc", "acc", "acc_norm", "acc_mutual_info")),
            )

    def read(content: bytes, rng: random.Random) -> None:
        file.write_bytes(content)
        beside.write_bytes(results.read_bytes())
        ask(rng)

    def read_results(content: bytes, rng: random.Random) -> None:
        file.write_bytes(samples)
        beside.write_bytes(content)
        ask(rng)

    def change(content: bytes, rng: random.Random) -> bytes:
        return as_json(changed_tree(json.loads(content), rng), rng)

    return {
        "samples of lm-eval": Reader(8, (samples,), changed_lines, read),
        "results of lm-eval": Reader(4, (results.read_bytes(),), change, read_results),
    }


CSV: Final = (
    b"id,group,slice,confidence,correct,text\n" + b"".join(
        b'q%d,g%d,s,0.%d,%d,"what, ""%d""?"\n' % (i, i // 2, i + 3, i % 2, i) for i in range(6)
    ),
    b"id;prob_cat;prob_dog;label\n1;0,25;0,75;dog\n2;0,5;0,5;cat\n3;1,0;0,0;cat\n",
    b"\xef\xbb\xbfprobabilities\tlabel\n[0.1, 0.9]\t1\n[0.5 0.5]\t0\n",
    b"logit_0,logit_1,logit_2,label,prediction\n-1.5,2,0,1,x\n0,0,-inf,0,y\n",
    b"confidence,prediction,label\n0.9,a,a\n.5,1,1.0\n",
)  # fmt: skip
LINES: Final = (
    b'{"id":"a","confidence":0.9,"correct":true,"group":"g","slice":1,"text":"x"}\n'
    b'{"id":7,"confidence":0.5,"correct":0,"text":null}\n',
    b'{"probabilities":[0.1,0.9],"label":1,"id":1}\n{"probabilities":[0.5,0.5],"label":0,"id":2}',
    b'{"probabilities":{"a":0.1,"b":0.9},"label":"b"}\n{"probabilities":{"a":1,"b":0},"label":"a"}',
    b'{"prob_0":0.1,"prob_1":0.9,"label":1}\n{"prob_0":0.5,"prob_1":0.5,"label":0}',
    b'{"logits":[-1.5,2.5],"label":1}\n{"logits":[0,3],"label":0}',
)


def _tables(folder: Path) -> dict[str, Reader]:
    """Readers of predictions: CSV, JSON lines and records, Parquet."""

    def reader(ending: str, files: tuple[bytes, ...], change: Any, weight: int = 12) -> Reader:
        path = folder / f"fuzzed.{ending}"

        def read(content: bytes, rng: random.Random) -> None:
            path.write_bytes(content)
            assert kind_of(path) in (None, "table")
            if rng.random() < 0.05:
                show(path, *rng.choice(((), ("--json",))), "--max-ece=0.5", command="check")
            else:
                found = read_predictions(path)
                assert np.isfinite(found.confidence).all()

        return Reader(weight, files, change, read)

    def changed_cells(content: bytes, rng: random.Random) -> bytes:
        """Put another value, or a part of a hostile file, into a cell."""
        lines = content.splitlines(keepends=True)
        at = rng.randrange(len(lines))
        cells = re.split(rb"([,;\t])", lines[at].rstrip(b"\n"))
        value = (
            rng.choice(TOKENS)
            if rng.random() < 0.5
            else str(rng.choice(BAD)).encode("utf-8", "replace")
        )
        cells[rng.randrange(0, len(cells), 2)] = value
        lines[at] = b"".join(cells) + b"\n"
        return b"".join(lines)

    found = {"csv": reader("csv", CSV, changed_cells)}
    found["json lines"] = reader("jsonl", LINES, changed_lines)
    if find_spec("pyarrow"):
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
        files = []
        for lines in LINES[:2]:
            rows = [json.loads(line) for line in lines.splitlines()]
            names = [name for name in rows[1] if name not in ("id", "correct")]
            table = {name: [row.get(name) for row in rows] for name in names}
            table |= {"correct": [True, False], "id": ["a", "b"]} if "label" not in table else {}
            buffer = io.BytesIO()
            parquet.write_table(arrow.table(table), buffer)
            files.append(buffer.getvalue())
        found["parquet"] = reader("parquet", tuple(files), changed_bytes, 4)
    return found


STATE: Final = {
    "global_step": 40,
    "epoch": 1.5,
    "num_input_tokens_seen": 0,
    "log_history": [{"step": 40, "num_tokens": 100.0}, {"step": 40, "eval_loss": 1.0}],
}


def _history(folder: Path) -> dict[str, Reader]:
    """Three readers: of a history, of the items beside it, and of the state of a Trainer."""
    history = History(folder / "fuzzed.history.jsonl")
    made = predictions(n=20, hostile=False)
    for step in range(3):
        history.append(Line.of(made, model=f"runs/step-{step}", parent="runs/step-0"), made)
    # Models trained side by side from one parent, without items.
    for name in ("sft", "dpo"):
        history.append(Line.of(made, model=f"runs/{name}", parent="runs/step-0"))
    text = history.path.read_bytes()
    [items] = {file.read_bytes() for file in history.items_folder.glob("*.npz")}

    def read(content: bytes, rng: random.Random) -> None:
        history.path.write_bytes(content)
        lines = history.read()
        for series in all_series(lines):
            series.predictions(history)
            if rng.random() < 0.1:
                judge_drift(history, series)
        if rng.random() < 0.03:
            more = rng.choice(((), ("--json",), ("--fail-on-drift",)))
            show(history.path, *more, command="drift")
        assert all(told.isprintable() for told in lines.remarks), "raw characters in a remark"
        if lines.lines and rng.random() < 0.1:
            history.append(replace(lines.lines[0], step=7))
            assert len(history.read()) >= len(lines), "an append loses lines"

    def read_items(content: bytes, _: random.Random) -> None:
        digest = hashlib.sha256(content).hexdigest()
        (history.items_folder / f"{digest}.npz").write_bytes(content)
        first, *rest = text.splitlines(keepends=True)
        told = json.loads(first) | {"items": digest}
        history.path.write_bytes(json.dumps(told).encode() + b"\n" + b"".join(rest))
        try:
            for line in history.read().lines:
                history.predictions(line)
        finally:
            if content != items:
                (history.items_folder / f"{digest}.npz").unlink()

    def read_state(content: bytes, _: random.Random) -> None:
        checkpoint = folder / "checkpoint-40"
        checkpoint.mkdir(exist_ok=True)
        (checkpoint / "trainer_state.json").write_bytes(content)
        found = checkpoint_of(checkpoint)
        json.dumps([found.step, found.epoch, found.tokens], allow_nan=False)
        assert checkpoints(folder)

    def change(content: bytes, rng: random.Random) -> bytes:
        return as_json(changed_tree(json.loads(content), rng), rng)

    state = json.dumps(STATE).encode()
    return {
        "history": Reader(10, (text,), changed_lines, read),
        "items of a history": Reader(3, (items,), _changed_arrays, read_items),
        "trainer state": Reader(4, (state,), change, read_state),
    }


CHECKPOINT: Final = {
    "config.json": {"architectures": ["A"], "auto_map": {"AutoConfig": "owner/repo--m.C"}},
    "adapter_config.json": {"base_model_name_or_path": "base", "revision": None, "r": 4},
    "tokenizer_config.json": {"tokenizer_class": "T", "auto_map": {"AutoTokenizer": ["a", None]}},
    "model.safetensors.index.json": {"weight_map": {"a": "model-00001-of-00001.safetensors"}},
}


def _checkpoint(folder: Path) -> Reader:
    home = folder / "checkpoint"
    (home / "base").mkdir(parents=True)
    for name, tree in CHECKPOINT.items():
        (home / name).write_text(json.dumps(tree))
    spec = ModelSpec(str(home), local=True, name="fuzzed")
    settings = TransformersSettings(trust_remote_code=True, arguments={"subfolder": "base"})

    def read(content: bytes, rng: random.Random) -> None:
        named = [n for n, tree in CHECKPOINT.items() if next(iter(tree)).encode() in content]
        name = rng.choice(named or list(CHECKPOINT))
        (home / name).write_bytes(content)
        try:
            layers(spec, settings, hub=False)
            identify_checkpoint(spec, settings)
        finally:
            (home / name).write_text(json.dumps(CHECKPOINT[name]))

    def change(content: bytes, rng: random.Random) -> bytes:
        return as_json(changed_tree(json.loads(content), rng), rng)

    return Reader(6, tuple(json.dumps(t).encode() for t in CHECKPOINT.values()), change, read)


def _project(folder: Path) -> Reader:
    """Files of a project, at which ``init`` looks, whatever their names promise."""
    home = folder / "project"
    files = {
        "runs/sft/config.json": b'{"architectures": ["GPT2LMHeadModel"], "id2label": {"0": "x"}}',
        "predictions.csv": CSV[0],
        "items.jsonl": _three(ROWS["quiz"][1]),
        "samples_x_2024.jsonl": LINES[0],
        "conftest.py": b"def calibration_model(): ...\n",
    }
    for name, good in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(good)

    def read(content: bytes, rng: random.Random) -> None:
        name = rng.choice(list(files))
        (home / name).write_bytes(content)
        try:
            plan(look(home), ci=False)
        finally:
            (home / name).write_bytes(files[name])

    return Reader(3, tuple(files.values()), changed_bytes, read)


def _servers(folder: Path) -> dict[str, Reader]:
    """Two readers of what a server answers: completions, and typed decisions."""
    # A server may name any model as its own, whose tokenizer is then loaded.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from fake_server import ADDRESS, Answered, DrawnStub, answering

    from pytest_calibration.models.backends.server.address import KEY
    from pytest_calibration.models.backends.server.connecting import connect
    from pytest_calibration.models.backends.server.server_settings import ServerSettings

    os.environ[KEY] = SECRET
    (folder / "served").mkdir()
    stub = DrawnStub(folder / "served")
    settings = ServerSettings(concurrency=1, patience=0.05)
    questions: dict[str, list[Callable[[Any], object]]] = {
        "": [
            lambda model: model.option_logprobs(["Water boils at"], [[" 100", " zero degrees"]]),
            lambda model: model.next_token(["The capital of France"]),
            lambda model: model.generate(["The capital"], max_new_tokens=[3]),
        ],
        "/systemone": [lambda model: model.option_logprobs(["Water boils"], [[" at", " not"]])],
    }

    def reader(route: str, weight: int) -> Reader:
        spec = ModelSpec(f"{ADDRESS}{route}#tiny", local=False, name="tiny", backend="server")
        # Question, number of the reply, and the reply.
        good: list[bytes] = []

        def heard(
            ask: int, count: Iterator[int], reply: bytes
        ) -> tuple[int, bytes, dict[str, str]]:
            good.append(b"%02d%03d" % (ask, next(count)) + reply)
            return 200, reply, {}

        for ask, question in enumerate(questions[route]):
            with answering(stub, partial(heard, ask, itertools.count())):
                question(connect(spec, settings))

        def read(content: bytes, rng: random.Random) -> None:
            head = content[:5] if re.match(rb"\d{5}", content) else b"00003"
            ask, at, count = int(head[:2]), int(head[2:]), itertools.count()
            status, headers, lasts = 200, dict[str, str](), rng.random() < 0.3
            if content not in good:
                status = rng.choice((*[200] * 9, 204, 302, 401, 404, 429, 500))
                headers = rng.choice(
                    (*[{}] * 9, {"Content-Encoding": "br"}, {"Retry-After": "9e9"})
                )

            def answer(reply: bytes) -> Answered:
                number = next(count)
                changed = number == at or (lasts and number > at)
                return (status, content[5:], headers) if changed else (200, reply, {})

            with answering(stub, answer):
                questions[route][ask % len(questions[route])](connect(spec, settings))

        def change(content: bytes, rng: random.Random) -> bytes:
            reply = as_json(changed_tree(json.loads(content[5:]), rng), rng)
            if rng.random() < 0.2:
                # A server may repeat the key.
                reply = reply.replace(rng.choice((b'"', b":", b"tiny")), SECRET.encode(), 1)
            return content[:5] + reply

        return Reader(weight, tuple(good), change, read)

    return {"server": reader("", 2), "decisions": reader("/systemone", 1)}


def _names(folder: Path) -> Reader:
    """Names on the command line: of files to show, and of models."""

    def read(content: bytes, rng: random.Random) -> None:
        text = content.decode("utf-8", rng.choice(("surrogateescape", "replace")))
        if rng.random() < 0.2:
            text += rng.choice(BAD[-9:-6]) if rng.random() < 0.1 else "\ud83d"
        if rng.random() < 0.5:
            parse_spec(text)
        else:
            show(folder / "none" / text if rng.random() < 0.5 else Path(text))

    names = (
        b"runs/base",
        b"owner/name@rev",
        b"a.jsonl",
        b"a.yaml",
        b"b.json",
        b"x=./y",
        b"n" * 300,
    )
    return Reader(4, names, changed_bytes, read)


# --- running -------------------------------------------------------------------------------------


class TooSlowError(Exception):
    """An input took more than its time."""


@contextlib.contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Raise TooSlowError in a block that takes longer."""

    def stop(*_: object) -> None:
        raise TooSlowError(f"more than {seconds:g} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def input_of(reader: Reader, seed: str, number: int) -> tuple[bytes, random.Random]:
    """Return the changed file of this number, and what the reader draws from."""
    rng = random.Random(f"{seed} {number}")
    content = rng.choice(reader.files)
    change = reader.change if rng.random() < 0.6 else changed_bytes
    return change(content, rng), rng


@dataclass
class Tally:
    """What came of the inputs of one reader.

    Attributes:
        read: how many were read.
        refused: how many were refused with a CalibrationError.
        foreign: how many raised anything else, by what and where.
        examples: number of the first input of each of these.
        seconds: processor time taken.
        slowest: that of the slowest input.
        done: number of inputs.
    """

    read: int = 0
    refused: int = 0
    foreign: Counter[str] = field(default_factory=Counter)
    examples: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    slowest: float = 0.0
    done: int = 0


def fuzz(
    reader: Reader,
    inputs: int,
    seed: str,
    tally: Tally | None = None,
    save: Callable[[], object] = lambda: None,
) -> Tally:
    """Give a reader so many changed files.

    Args:
        reader: the reader.
        inputs: number of the last file, and one.
        seed: of the files.
        tally: what came of those before, by a run that was stopped.
        save: keeps the tally; called now and then.
    """
    tally = tally or Tally()
    saved = time.monotonic()
    for number in range(tally.done, inputs):
        if time.monotonic() - saved > SAVE_SECONDS:
            save()
            saved = time.monotonic()
        content, rng = input_of(reader, seed, number)
        started = time.process_time()
        try:
            with bounded(SECONDS):
                reader.read(content, rng)
            tally.read += 1
        except CalibrationError as problem:
            tally.refused += 1
            text = str(problem)
            most = MOST_OF_A_MESSAGE + 9000 * ("\\" in text)
            if not text.isprintable() or len(text) > most or SECRET in text:
                kind = f"a message that is not one short line without the key: {text[:80]!r}"
                tally.foreign[kind] += 1
                tally.examples.setdefault(kind, number)
        except Exception as problem:
            frame = traceback.extract_tb(problem.__traceback__)[-1]
            ours = [
                f for f in traceback.extract_tb(problem.__traceback__) if "pytest_calib" in f[0]
            ]
            inner = ours[-1] if ours else frame
            kind = f"{type(problem).__name__} in {Path(inner[0]).name}:{inner[1]}: {problem}"[:160]
            tally.foreign[kind] += 1
            tally.examples.setdefault(kind, number)
        took = time.process_time() - started
        tally.seconds += took
        tally.slowest = max(tally.slowest, took)
        tally.done = number + 1
    return tally


def shares(found: Mapping[str, Reader], inputs: int) -> dict[str, int]:
    """Divide the inputs among the readers by their weights, at least one each."""
    total = sum(reader.weight for reader in found.values())
    return {name: max(1, round(inputs * r.weight / total)) for name, r in found.items()}


def memory() -> int:
    """Return the largest memory that this process has had, in MiB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // (1 << 20 if sys.platform == "darwin" else 1 << 10)


def tallies_in(path: Path | None, seed: str) -> dict[str, Tally]:
    """Return what came of the inputs of a run that was stopped; nothing without a file."""
    if path is None or not path.exists():
        return {}
    kept = json.loads(path.read_text("utf-8"))
    if kept["seed"] != seed:
        raise SystemExit(f"{path}: is of the seed {kept['seed']}; name another file.")
    found = {name: Tally(**values) for name, values in kept["tallies"].items()}
    for tally in found.values():
        tally.foreign = Counter(tally.foreign)
    return found


def print_tally(name: str, tally: Tally) -> None:
    """Print a row of the table, and what was foreign."""
    foreign = tally.foreign.total()
    print(
        f"{name:<20}{tally.done:>8,}{tally.read:>8,}{tally.refused:>9,}{foreign:>9,}"
        f"{tally.seconds:>7.1f}{tally.slowest:>7.2f} s",
        flush=True,
    )
    for kind, many in tally.foreign.most_common():
        print(f"    {many:,} x {kind!a}, first: --reader {name!r} --number {tally.examples[kind]}")


def run(argv: list[str] | None = None) -> int:
    """Fuzz all readers; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--reader", choices=NAMES, help="this one alone")
    parser.add_argument("--number", type=int, help="this input of the reader alone")
    parser.add_argument("--progress", type=Path, help="file by which a stopped run goes on")
    options = parser.parse_args(argv)
    tallies = tallies_in(options.progress, options.seed)

    def save() -> None:
        if options.progress is not None:
            kept = {"seed": options.seed, "tallies": {n: vars(t) for n, t in tallies.items()}}
            write_atomically(options.progress, json.dumps(kept).encode())

    with tempfile.TemporaryDirectory() as folder:
        found = readers(Path(folder))
        if options.reader:
            found = {options.reader: found[options.reader]}
        if options.number is not None:
            [(name, reader)] = found.items()
            content, rng = input_of(reader, f"{options.seed} {name}", options.number)
            print(repr(content))
            reader.read(content, rng)
            return 0
        before = memory()
        head = f"{'reader':<20}{'inputs':>8}{'read':>8}{'refused':>9}{'foreign':>9}{'s':>7}"
        print(f"{head}  slowest")
        for name, inputs in shares(found, options.inputs).items():
            tally = tallies.setdefault(name, Tally())
            try:
                fuzz(found[name], inputs, f"{options.seed} {name}", tally, save)
            finally:
                save()
            print_tally(name, tally)
        added = memory() - before
        if options.progress is not None:
            options.progress.unlink()
        total = sum(tally.done for tally in tallies.values())
        foreign = sum(tally.foreign.total() for tally in tallies.values())
        print(f"{total:,} inputs, {foreign:,} foreign")
        print(f"memory added: {added:,} MiB (at most {MEBIBYTES:,})")
    return int(foreign > 0 or added > MEBIBYTES)


if __name__ == "__main__":
    raise SystemExit(run())
