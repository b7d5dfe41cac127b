"""Samples of lm-eval, the Language Model Evaluation Harness, as its ``--log_samples`` writes them.

A run is a folder with a file ``samples_TASK_DATE.jsonl`` for each task, and
``results_DATE.json`` beside them, which says what was run on what. lm-eval is not needed to read
them. The layouts of versions 0.4.0 to 0.4.13 are read: JSON lines with numbers as text, and one
list of JSON with numbers.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import CalibrationError, PredictionsError, UsageError, suggestion
from pytest_calibration.input_files import opened, read_text, text_lines
from pytest_calibration.predictions import ItemText, Predictions, digest
from pytest_calibration.predictions.harness import (
    Document,
    NotMeasurable,
    TaskSettings,
    check_metric,
    choice_predictions,
)
from pytest_calibration.text.visible import quoted

DATE: Final = r"\d{4}-\d\d-\d\dT[\d.:+-]+"
SAMPLES: Final = re.compile(rf"samples_(?P<task>.+)_(?P<date>{DATE})\.jsonl?")
RESULTS: Final = re.compile(rf"(?P<stem>.+)_(?P<date>{DATE})\.json")
OLD_RESULTS: Final = "results.json"
NONE: Final = "none"
"""The filter that changes nothing, and the only one of most tasks."""
NEWEST: Final = "newest"
# Parts of the results that are read, by task or setting.
SECTIONS: Final = ("configs", "config", "versions", "n-shot", "group_subtasks", "task_hashes")
# What a sample has beside the values of metrics.
FIELDS: Final = frozenset(
    {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"}
    | {"doc_hash", "prompt_hash", "target_hash"}
)
# Bytes of a file of results, of a list of samples, and characters of a line of samples.
MOST_RESULTS: Final = 1 << 26
MOST_LIST: Final = 1 << 29
MOST_LINE: Final = 1 << 26
HEAD: Final = 1 << 16
SHOWN: Final = 2000
"""Characters of a prompt that are kept for reports."""


@dataclass
class Run:
    """One run of lm-eval.

    Attributes:
        folder: where its files lie.
        date: when, as in the names of its files; empty for versions that did not say.
        samples: task to its file.
        results: the file of results; None where there is none.
        summary: what it holds.
    """

    folder: Path
    date: str
    samples: dict[str, Path] = field(default_factory=dict)
    results: Path | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What a user can choose it by."""
        return f"{self.folder.name}/{self.date}" if self.date else self.folder.name

    def part(self, key: str, name: str) -> Any:
        """Return an entry of a mapping of the results; None without one."""
        return self.summary.get(key, {}).get(name)


def claims(path: Path) -> bool:
    """Whether a file is one of lm-eval's samples or results, or a folder holds some."""
    try:
        if path.is_dir():
            return any(_is_named(file.name) for file in _files(path))
        if _is_named(path.name):
            return True
        with opened(path, PredictionsError) as file:
            head = file.read(HEAD)
    except (CalibrationError, OSError):
        return False
    return b'"doc_id"' in head and b'resps"' in head and head.lstrip()[:1] in (b"{", b"[")


def read(
    path: Path,
    *,
    task: str | None = None,
    filter: str | None = None,  # noqa: A002  as lm-eval calls it
    metric: str = "acc",
    run: str | None = None,
) -> list[Predictions]:
    """Read samples, one set of predictions for each task and filter.

    Args:
        path: a file of samples or results, or the folder of a run.
        task: names of tasks, with commas between them; all by default. The name of a group, or a
            pattern (``mmlu_*``), is read as one set of predictions whose slices are the tasks.
        filter: name of a filter; all by default.
        metric: ``acc``, ``acc_norm``, ``acc_bytes`` or ``acc_mutual_info``: what the answer is the
            largest of.
        run: which run, where a folder holds several: the begin of its date, its folder, both as
            ``folder/date``, or ``newest``.

    Raises:
        PredictionsError: no samples; several runs; an unknown task or filter; a task without the
            probability of its answers; a row that is none of lm-eval's, by file and line.
        UsageError: an unknown metric, or a name that is no text.
    """
    check_metric(metric)
    for name, value in (("task", task), ("filter", filter), ("run", run)):
        if not isinstance(value, str | None):
            raise UsageError(f"{path}: {name} must be text, got {quoted(value)}.")
    one = _run(path, run)
    out: list[Predictions] = []
    refused: dict[str, str] = {}
    for name, tasks in _selected(one, path, task).items():
        samples: dict[str, list[_Sample]] = {}
        try:
            for each in tasks:
                for key, found in _samples(one, each, filter).items():
                    samples.setdefault(key, []).extend(found)
            for key, found in samples.items():
                probe = f"lm_eval:{name}" if key == NONE else f"lm_eval:{name}:{key}"
                out.append(_predictions(one, probe, found, metric))
        except NotMeasurable as reason:
            refused[reason.task] = str(reason)
    if refused:
        raise PredictionsError(_refusal(path, refused, out))
    return out


# --- which files -------------------------------------------------------------------------------


def _is_named(name: str) -> bool:
    found = RESULTS.fullmatch(name)
    return SAMPLES.fullmatch(name) is not None or (found is not None and found["stem"] == "results")


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder, and of the folders in it: lm-eval makes one for each model."""
    for file in sorted(folder.iterdir()):
        if file.is_dir():
            yield from sorted(inner for inner in file.iterdir() if inner.is_file())
        else:
            yield file


def _runs(path: Path) -> list[Run]:
    """Return the runs of a folder, or the one of a file, with the files of each."""
    runs: dict[tuple[Path, str], Run] = {}
    for file in _files(path) if path.is_dir() else [path]:
        samples, results = SAMPLES.fullmatch(file.name), RESULTS.fullmatch(file.name)
        if samples is not None:
            run = runs.setdefault((file.parent, samples["date"]), Run(file.parent, samples["date"]))
            run.samples[samples["task"]] = file
        elif results is not None:
            key = (file.parent, results["date"])
            runs.setdefault(key, Run(file.parent, results["date"])).results = file
        elif not path.is_dir():
            runs[file.parent, ""] = Run(file.parent, "", {_old_task(file): file})
    return list(runs.values())


def _old_task(file: Path) -> str:
    """Return the task of a file of lm-eval 0.4.0 to 0.4.2, ``MODEL-ARGUMENTS_TASK.jsonl``.

    Its results name the tasks; without them the whole name is the task.
    """
    results = file.parent / OLD_RESULTS
    tasks = _summary(results)["configs"] if results.is_file() else {}
    fitting = [name for name in tasks if file.stem == name or file.stem.endswith(f"_{name}")]
    return max(fitting, key=len, default=file.stem)


def _run(path: Path, wanted: str | None) -> Run:
    """Return the run that is read, with its results.

    Raises:
        PredictionsError: none, or several, or none with samples.
    """
    runs = _runs(path)
    with_samples = [run for run in runs if run.samples]
    if path.is_file() and runs and not runs[0].samples:
        # A file of results stands for its run.
        with_samples = [r for r in _runs(path.parent) if r.samples and r.date == runs[0].date]
    if not with_samples:
        raise PredictionsError(
            f"{path}: holds the results of lm-eval and no samples, and without the probabilities "
            "of single answers there is no calibration; run lm-eval again with --log_samples."
        )
    chosen = [run for run in with_samples if wanted is None or _is_run(run, wanted)]
    if wanted == NEWEST:
        chosen = [max(with_samples, key=lambda run: run.date)]
    if len(chosen) != 1:
        shown = ", ".join(sorted(run.name for run in with_samples))
        problem = f"holds {len(with_samples)} runs of lm-eval"
        if wanted is not None:
            problem += f", of which {len(chosen)} fit run {quoted(wanted)}"
        raise PredictionsError(
            f"{path}: {problem}; choose one with run, or {NEWEST!r}, or name one of their files: "
            f"{shown}."
        )
    run = chosen[0]
    if run.results is None:
        run.results = _results_beside(run)
    if run.results is not None:
        run.summary = _summary(run.results)
    return run


def _is_run(run: Run, wanted: str) -> bool:
    return wanted in (run.name, run.folder.name) or bool(run.date and run.date.startswith(wanted))


def _results_beside(run: Run) -> Path | None:
    for file in sorted(run.folder.iterdir()):
        named = RESULTS.fullmatch(file.name)
        if named is not None and named["date"] == run.date:
            return file
    old = run.folder / OLD_RESULTS
    return old if not run.date and old.is_file() else None


def _summary(results: Path) -> Mapping[str, Any]:
    """Return what a file of results holds; all of ``SECTIONS`` are mappings."""
    content = _json(read_text(results, MOST_RESULTS, PredictionsError), str(results))
    if not isinstance(content, dict):
        raise PredictionsError(f"{results}: must be a JSON object, as lm-eval writes its results.")
    sections = {key: content.get(key) or {} for key in SECTIONS}
    inner = {f"configs.{name}": one for name, one in _items(sections["configs"])}
    for key, value in (sections | inner).items():
        if not isinstance(value, dict):
            raise PredictionsError(f"{results}: {key} must be a mapping, got {quoted(value)}.")
    return content | sections


def _items(value: object) -> list[tuple[str, object]]:
    return list(value.items()) if isinstance(value, dict) else []


def _selected(run: Run, path: Path, wanted: str | None) -> dict[str, list[str]]:
    """Return the tasks of each set of predictions.

    Raises:
        PredictionsError: a name that is no task, group or pattern of some.
    """
    if wanted is None:
        return {task: [task] for task in run.samples}
    out = {}
    for name in (part.strip() for part in wanted.split(",")):
        plain = name.removeprefix("lm_eval:")
        if plain in run.samples:
            out[plain] = [plain]
            continue
        found = _members(run, plain)
        if not found:
            known = [*run.samples, *run.summary.get("group_subtasks", ())]
            raise PredictionsError(
                f"{path}: there are no samples of a task {quoted(name)}{suggestion(plain, known)}; "
                f"tasks and groups with samples: {', '.join(dict.fromkeys(known))}."
            )
        out[plain] = found
    return out


def _members(run: Run, name: str, above: frozenset[str] = frozenset()) -> list[str]:
    """Return the tasks of a group, those of groups in it included, or those that a pattern fits."""
    inner = run.part("group_subtasks", name)
    if not isinstance(inner, list) or name in above:
        return [task for task in run.samples if fnmatchcase(task, name)]
    found = [
        [one] if one in run.samples else _members(run, one, above | {name})
        for one in map(str, inner)
    ]
    return list(dict.fromkeys(task for tasks in found for task in tasks))


# --- rows --------------------------------------------------------------------------------------


def _refusal(path: Path, refused: Mapping[str, str], read_too: Sequence[Predictions]) -> str:
    first, reason = next(iter(refused.items()))
    text = f"{path}: task {first}: {reason}"
    others = list(refused)[1:]
    if others:
        text += f" The same, or alike, for {', '.join(others)}."
    if read_too:
        names = ",".join(p.probe.removeprefix("lm_eval:") for p in read_too)
        text += f" The other tasks can be read: task={names}"
    return text


def _samples(run: Run, task: str, wanted: str | None) -> dict[str, list[_Sample]]:
    """Return the samples of a task, by filter.

    Raises:
        PredictionsError: a damaged row, an unknown filter, a document that is there twice.
        NotMeasurable: the task has no options.
    """
    file = run.samples[task]
    out: dict[str, list[_Sample]] = {}
    for where, row in _rows(file):
        rows = out.setdefault(str(row.get("filter", NONE)), [])
        rows.append(_sample(run, task, row, where))
    if not out:
        raise PredictionsError(f"{file}: holds no samples.")
    if wanted is not None:
        if wanted not in out:
            raise PredictionsError(
                f"{file}: has no filter {quoted(wanted)}{suggestion(wanted, out)}; filters: "
                f"{', '.join(out)}."
            )
        out = {wanted: out[wanted]}
    for rows in out.values():
        twice = [i for i, count in Counter(one.doc_id for one in rows).items() if count > 1]
        if twice:
            raise PredictionsError(
                f"{file}: document {twice[0]} is there more than once, and no filter tells its "
                "rows apart; take the samples of one run, written by lm-eval 0.4.5 or newer."
            )
        # Which repeat of a document an item is must not depend on the order of processes.
        rows.sort(key=lambda one: one.doc_id)
    return out


def _rows(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each row, and what messages call it."""
    with opened(file, PredictionsError) as opened_file:
        is_list = opened_file.read(HEAD).lstrip()[:1] == b"["
    if is_list:
        content = _json(read_text(file, MOST_LIST, PredictionsError), str(file))
        rows: Iterator[tuple[str, Any]] = (
            (f"{file}, sample {i}", row) for i, row in enumerate(content)
        )
    else:
        rows = (
            (f"{file}, line {number}", _json(line, f"{file}, line {number}"))
            for number, line in text_lines(file, MOST_LINE, PredictionsError)
        )
    for where, row in rows:
        if not isinstance(row, dict):
            raise PredictionsError(f"{where}: must be a JSON object, got {type(row).__name__}.")
        yield where, row


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise PredictionsError(f"{where}: is no JSON ({problem}); was the file cut off?") from None


def _requests(row: Mapping[str, Any], where: str) -> list[list[Any]]:
    """Return the arguments of each request of a row."""
    given = row.get("arguments")
    if isinstance(given, Mapping):
        given = [
            [one.get(f"arg_{j}") for j in range(len(one))] if isinstance(one, Mapping) else one
            for one in (given.get(f"gen_args_{i}") for i in range(len(given)))
        ]
    if not isinstance(given, list) or not given or not all(isinstance(a, list) for a in given):
        shapes = set()
    else:
        shapes = {tuple(type(part) for part in one[:2]) for one in given}
    # Of all requests alike: a text, and what continues it or how to.
    if len(shapes) != 1 or next(iter(shapes))[:1] != (str,):
        raise PredictionsError(
            f"{where}: is no sample of lm-eval: 'arguments' must hold what each request asked, got "
            f"{quoted(row.get('arguments'))}."
        )
    return cast("list[list[Any]]", given)


def _check_kind(requests: Sequence[Sequence[Any]], task: str) -> None:
    """Raise the reason where the requests of a document are no options."""
    if len(requests[0]) == 1:
        raise NotMeasurable(
            task,
            "a task of perplexity has one sum of log-probabilities for a whole text, which is no "
            "answer; measure its texts with a probe of kind next_token.",
        )
    if not isinstance(requests[0][1], str):
        raise NotMeasurable(
            task,
            "its answers are generated text, and lm-eval keeps no probability of them; ask for "
            "a confidence with a probe of kind agreement, verbalized or p_true.",
        )
    if len(requests) == 1:
        raise NotMeasurable(
            task,
            "its samples hold one log-probability, that of the right text, and not how sure the "
            "model was of its own; measure it with the model: "
            f"--calibration-probe=lm_eval:{task}.",
        )


class _Sample(NamedTuple):
    """A row: number and log-probabilities of its document, and the size of its longest text."""

    doc_id: int
    document: Document
    n_bytes: int
    n_words: int


def _sample(run: Run, task: str, row: Mapping[str, Any], where: str) -> _Sample:
    """Read a row."""
    requests = _requests(row, where)
    _check_kind(requests, task)
    doc_id = row.get("doc_id")
    if isinstance(doc_id, bool) or not isinstance(doc_id, int):
        raise PredictionsError(f"{where}: 'doc_id' must be a whole number, got {quoted(doc_id)}.")
    values = _log_probabilities(row, len(requests), where)
    named = row.get("metrics")
    metrics = {name: row[name] for name in row if name not in FIELDS}
    if isinstance(named, list):
        metrics = {name: row[name] for name in named if isinstance(name, str) and name in row}
    longest = max((f"{r[0]}{r[1]}" for r in requests), key=len)
    unconditional = None
    half = len(requests) // 2
    if "acc_mutual_info" in metrics and 2 * half == len(requests):
        # The second half asks for the same options without a prompt.
        requests, values, unconditional = requests[:half], values[:half], values[half:]
    same = all(request[0] == requests[0][0] for request in requests)
    options = _options(run, task, [str(r[1]) for r in requests]) if same else ()
    target = row.get("target")
    document = Document(
        task=task,
        filter=str(row.get("filter", NONE)),
        doc_hash=_hash_of(row, where),
        where=where,
        logprobs=values,
        gold=target,
        unconditional=unconditional,
        options=options,
        metrics=metrics,
        text=ItemText(
            prompt=_question(run, task, str(requests[0][0])),
            gold=str(target).strip(),
            name=str(doc_id),
        ),
    )
    return _Sample(doc_id, document, len(longest.encode("utf-8", "replace")), len(longest.split()))


def _log_probabilities(row: Mapping[str, Any], n: int, where: str) -> NDArray[np.float64]:
    """Return the log-probability of each request, (n,)."""
    out = []
    filtered, raw = row.get("filtered_resps"), row.get("resps")
    for i in range(n):
        answer = _response(filtered, i)
        if answer is None:
            # A filter may leave something else, and old samples have none; repeats are alike.
            repeats = raw[i] if isinstance(raw, list) and i < len(raw) else None
            answer = _response(repeats, 0)
        if answer is None:
            shown = {"filtered_resps": filtered, "resps": raw}
            raise PredictionsError(
                f"{where}: request {i} must have the pair [log-probability, is greedy], got "
                f"{quoted(shown)}."
            )
        out.append(answer)
    for given in (filtered, raw):
        if isinstance(given, list) and len(given) != n:
            raise PredictionsError(
                f"{where}: {len(given)} responses to {n} requests; the row is damaged."
            )
    return np.array(out, dtype=np.float64)


def _response(responses: object, i: int) -> float | None:
    """Return the log-probability of a response, ``["-12.5", "False"]``; None where it is none."""
    pair = responses[i] if isinstance(responses, list) and i < len(responses) else None
    if not isinstance(pair, list) or len(pair) != 2 or str(pair[1]) not in ("True", "False"):
        return None
    try:
        return float(pair[0])
    except (TypeError, ValueError, OverflowError):
        return None


def _hash_of(row: Mapping[str, Any], where: str) -> str:
    """Return the hash of a row's document; old samples do not have it."""
    known = row.get("doc_hash")
    if isinstance(known, str) and known:
        return known
    if "doc" not in row:
        raise PredictionsError(
            f"{where}: has neither 'doc_hash' nor 'doc', so the document cannot be told from "
            "others; keep one of them in the samples."
        )
    text = json.dumps(row["doc"], indent=2, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _options(run: Run, task: str, continuations: Sequence[str]) -> tuple[str, ...]:
    """Return the options, without the delimiter that stands before each."""
    config = run.part("configs", task) or {}
    delimiter = str(config.get("target_delimiter", " "))
    if run.summary.get("chat_template_sha") and not config.get("gen_prefix"):
        delimiter = ""
    if all(one.startswith(delimiter) for one in continuations):
        return tuple(one.removeprefix(delimiter) for one in continuations)
    return tuple(continuations)


def _question(run: Run, task: str, prompt: str) -> str:
    """Return the end of a prompt, which is what it asks, for reports."""
    config = run.part("configs", task) or {}
    if run.part("n-shot", task):
        prompt = prompt.rpartition(str(config.get("fewshot_delimiter") or "\n\n"))[2]
    return prompt[-SHOWN:]


# --- what was run on what ----------------------------------------------------------------------


def _predictions(run: Run, probe: str, samples: Sequence[_Sample], metric: str) -> Predictions:
    """Return the predictions of one or several tasks."""
    documents = [one.document for one in samples]
    tasks = list(dict.fromkeys(one.task for one in documents))
    settings = [_settings(run, task) for task in tasks] if run.summary else []
    hard = {}
    if run.summary.get("system_instruction_sha"):
        hard["system"] = str(run.summary["system_instruction_sha"])[:8]
    if run.summary.get("chat_template_sha"):
        turns = "turns" if run.summary.get("fewshot_as_multiturn") else "one turn"
        hard["chat"] = f"template {str(run.summary['chat_template_sha'])[:8]}, {turns}"
    return choice_predictions(
        probe,
        documents,
        metric,
        settings=settings,
        soft=_soft(run, tasks),
        hard=hard,
        notes=[*_unknown(run), *_truncation(run, samples)],
    )


def _settings(run: Run, task: str) -> TaskSettings:
    config = run.part("configs", task) or {}
    shots, version = run.part("n-shot", task), run.part("versions", task)
    seed = run.part("config", "fewshot_seed")
    return TaskSettings.of(config, shots if isinstance(shots, int) else None, version, seed)


def _soft(run: Run, tasks: Sequence[str]) -> dict[str, str]:
    """Return what may differ between two runs: the model, versions, device and limit.

    The harness's hash covers all documents with their prompts, and so changes with a limit.
    """
    summary = run.summary
    config = summary.get("config", {})
    model = summary.get("model_name") or _model_of(config.get("model_args")) or ""
    if not model and run.date:
        model = run.folder.name
    given = {
        "model": PurePath(str(model)).name if PurePath(str(model)).is_absolute() else model,
        "revision": config.get("model_revision"),
        "dtype": str(config.get("model_dtype") or "").removeprefix("torch."),
        "device": config.get("device"),
        "lm-eval": summary.get("lm_eval_version"),
        "transformers": summary.get("transformers_version"),
        "limit": config.get("limit"),
        "task hash": _hash_of_tasks(run, tasks),
    }
    return {key: str(value) for key, value in given.items() if value not in (None, "")}


def _hash_of_tasks(run: Run, tasks: Sequence[str]) -> str:
    known = [str(run.part("task_hashes", task) or "") for task in tasks]
    return known[0][:8] if len(known) == 1 else digest(*known, size=4) if all(known) else ""


def _model_of(arguments: object) -> str:
    """Return the model that ``pretrained=NAME,...`` names."""
    if isinstance(arguments, Mapping):
        return str(arguments.get("pretrained") or arguments.get("model") or "")
    found = re.search(r"(?:^|,)(?:pretrained|model)=([^,]+)", str(arguments or ""))
    return found[1] if found else ""


def _unknown(run: Run) -> tuple[str, ...]:
    if run.summary:
        return ()
    return (
        f"there is no results_{run.date or 'DATE'}.json beside these samples: prompts, shots and "
        "version of the task are not known, so a change of them would not be seen.",
    )


def _truncation(run: Run, samples: Sequence[_Sample]) -> tuple[str, ...]:
    """Say which prompts lm-eval may have cut off at their begin, which leaves no trace.

    A word is a token or more, and a token is a byte or more.
    """
    most = run.summary.get("max_length")
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        return ()
    certain = sum(one.n_words > most for one in samples)
    possible = sum(one.n_bytes > most for one in samples) - certain
    out = []
    if certain:
        out.append(
            f"{certain} of {len(samples)} prompts have more words than the {most} tokens that the "
            "model reads: lm-eval cut off their begin, which its samples do not show."
        )
    if possible > 0:
        out.append(
            f"{possible} of {len(samples)} prompts may be longer than the {most} tokens that the "
            "model reads; whether lm-eval cut off their begin cannot be known from its samples."
        )
    return tuple(out)
