"""What lm-eval, the Language Model Evaluation Harness, measures on its documents, as predictions.

A document that the harness asked and wrote to its samples, and one that this package asks with the
harness's own prompts, become the same predictions here: the same ids, confidence and outcome.

The answer is the option with the largest score, and the confidence its soft-max. A score is what a
metric of the harness takes the largest of: the log-probability (``acc``), the same for each
character (``acc_norm``) or byte (``acc_bytes``) of the option, or its difference to the
log-probability without a prompt (``acc_mutual_info``).
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import PredictionsError, UsageError, suggestion
from pytest_calibration.predictions.arrays import LOG_SLACK, FloatArray, IdArray
from pytest_calibration.predictions.ids import digest, hash_ids
from pytest_calibration.predictions.item_text import ItemText, ItemTexts
from pytest_calibration.predictions.predictions import Predictions
from pytest_calibration.predictions.signature import Signature
from pytest_calibration.text.visible import quoted

# Metric to what its scores are, for the signature.
SCORES: Final = {
    "acc": "log-probabilities",
    "acc_norm": "log-probabilities per character",
    "acc_bytes": "log-probabilities per byte",
    "acc_mutual_info": "log-probabilities less those without a prompt",
}
# Metrics of the harness for options, `bypass` of runs with --predict_only among them. A task that
# has none of these judges answers in a way of its own.
STANDARD: Final = frozenset({*SCORES, "exact_match", "bypass"})
SMALL_MASS: Final = 0.01
"""Median probability of all options together below which they are no answer to the prompt."""
# Metrics whose value for a document begins with the index of the right option.
PAIRS: Final = ("f1", "mcc", "brier_score", "likelihood")
# Settings of a task that make its prompts; those of examples count where there are any.
PROMPT: Final = (
    *("doc_to_text", "doc_to_target", "doc_to_choice", "description", "use_prompt"),
    *("target_delimiter", "fewshot_delimiter", "gen_prefix"),
)
# Settings of examples in `fewshot_config`, beside the sampler; most are by default those of PROMPT.
EXAMPLES: Final = frozenset({*PROMPT, "split", "samples", "fewshot_indices"})
# Where in memory a function lay, which is not what it does.
_ADDRESS: Final = re.compile(r" at 0x[0-9a-f]+")
_NUMBER: Final = re.compile(r"-?\d+")
_NUMBERS: Final = re.compile(r"\[[-\d,\s]*\]")
_TRUTH: Final = {"False": 0, "True": 1}
DEFAULTS: Final = {"description": "", "target_delimiter": " ", "fewshot_delimiter": "\n\n"}


@dataclass(frozen=True)
class Document:
    """One document with the log-probabilities of its options.

    Attributes:
        task: name of the task.
        filter: name of the harness's filter.
        doc_hash: the harness's hash of the document.
        where: what messages call it.
        logprobs: (k,) float64, log P(option | prompt) in nats.
        gold: what the task gives as its target: the index of an option, several of them, its text
            or its letter.
        unconditional: (k,) float64, log P(option) without a prompt, where it was asked for.
        options: (k,) texts of the options; empty where they are not known, or where options are
            prompts that one text continues.
        metrics: metric of the harness to its value for this document.
        text: for reports.
    """

    task: str
    filter: str
    doc_hash: str
    where: str
    logprobs: NDArray[np.float64]
    gold: object = None
    unconditional: NDArray[np.float64] | None = None
    options: tuple[str, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    text: ItemText = field(default_factory=ItemText)


class NotMeasurable(Exception):  # noqa: N818  a reason, told by the caller
    """Why a task has no confidence, or no right answers.

    Attributes:
        task: name of the task.
    """

    def __init__(self, task: str, reason: str) -> None:
        super().__init__(reason)
        self.task = task


def check_metric(metric: object) -> str:
    """Return the name of a metric that has a confidence; raises UsageError for any other."""
    if not isinstance(metric, str) or metric not in SCORES:
        hint = suggestion(str(metric), SCORES)
        raise UsageError(
            f"the metric of an lm-eval task must be one of {', '.join(SCORES)}, got "
            f"{quoted(metric)}{hint}."
        )
    return metric


def document_ids(documents: Iterable[tuple[str, str, str]]) -> IdArray:
    """Return the ids of documents, from (task, filter, doc hash) and which repeat each is."""
    seen: Counter[tuple[str, str, str]] = Counter()
    keys = []
    for document in documents:
        seen[document] += 1
        keys.append(digest(*document, seen[document]))
    return hash_ids(keys, salt="lm_eval")


def option_scores(document: Document, metric: str) -> NDArray[np.float64]:
    """Return what a metric takes the largest of, (k,).

    Raises:
        PredictionsError: what it needs is not known.
    """
    if metric == "acc":
        return document.logprobs
    if metric == "acc_mutual_info":
        if document.unconditional is None:
            raise PredictionsError(
                f"{document.where}: {metric} needs the log-probabilities of the options without a "
                f"prompt, which were not asked for; add {metric} to the task's metric_list, or "
                "choose the metric acc."
            )
        return document.logprobs - document.unconditional
    if not all(document.options):
        raise PredictionsError(
            f"{document.where}: an option is empty, and {metric} divides by its length; choose the "
            "metric acc."
        )
    if not document.options:
        raise PredictionsError(
            f"{document.where}: {metric} divides by the lengths of the options, which are not "
            "known (a task whose options are prompts); choose the metric acc."
        )
    lengths = [len(o if metric == "acc_norm" else o.encode("utf-8")) for o in document.options]
    return np.asarray(document.logprobs / np.array(lengths, dtype=np.float64))


# --- which option is right ---------------------------------------------------------------------


def _numbers(gold: object) -> list[int] | None:
    """Return the indices that a target names; None where it names none."""
    if isinstance(gold, str):
        if _NUMBER.fullmatch(gold):
            return [int(gold)]
        gold = ast.literal_eval(gold) if _NUMBERS.fullmatch(gold) else gold
    if isinstance(gold, int | np.integer):
        return [int(gold)]
    if isinstance(gold, list | tuple) and gold:
        inner = [_numbers(one) for one in gold]
        return [i for one in inner if one for i in one] if all(inner) else None
    return None


def _by_pair(document: Document) -> list[int] | None:
    pairs = (document.metrics.get(name) for name in PAIRS)
    found = next((p for p in pairs if isinstance(p, list | tuple) and len(p) == 2), None)
    return None if found is None else _numbers(found[0])


def _by_number(document: Document) -> list[int] | None:
    return _numbers(document.gold)


def _by_text(document: Document) -> list[int] | None:
    options = [option.strip() for option in document.options]
    text = document.gold.strip() if isinstance(document.gold, str) else None
    return [options.index(text)] if text is not None and options.count(text) == 1 else None


def _by_letter(document: Document) -> list[int] | None:
    gold = document.gold
    letter = isinstance(gold, str) and len(gold.strip()) == 1 and gold.strip() in ascii_uppercase
    return [ascii_uppercase.index(str(gold).strip())] if letter else None


def _by_truth(document: Document) -> list[int] | None:
    return [_TRUTH[document.gold]] if document.gold in ("False", "True") else None


READINGS: Final[tuple[Callable[[Document], list[int] | None], ...]] = (
    *(_by_pair, _by_number, _by_text, _by_letter, _by_truth),
)


@dataclass(frozen=True)
class Outcomes:
    """Which answers are right.

    Attributes:
        correct: (n,) bool.
        labels: (n,) int64, the right option; None where an item has several, or none, or where it
            is not known which one.
        unanswerable: positions of items whose target names no option: they count as wrong.
    """

    correct: NDArray[np.bool_]
    labels: NDArray[np.int64] | None
    unanswerable: tuple[int, ...] = ()


def outcomes(documents: Sequence[Document], answers: NDArray[np.int64], metric: str) -> Outcomes:
    """Return which answers are right: what the harness says, else what the targets say.

    Each task has its own way to write a target.

    Raises:
        PredictionsError: neither says it.
        NotMeasurable: no target of a task names an option, or its metric says something else.
    """
    tasks = [document.task for document in documents]
    correct, labels = np.zeros(len(tasks), np.bool_), np.zeros(len(tasks), np.int64)
    known, unanswerable = True, []
    for task in dict.fromkeys(tasks):
        index = np.array([i for i, name in enumerate(tasks) if name == task])
        one = _of_task([documents[i] for i in index], answers[index], metric)
        correct[index] = one.correct
        known &= one.labels is not None
        labels[index] = 0 if one.labels is None else one.labels
        unanswerable += [int(index[i]) for i in one.unanswerable]
    return Outcomes(correct, labels if known else None, tuple(unanswerable))


def _of_task(documents: Sequence[Document], answers: NDArray[np.int64], metric: str) -> Outcomes:
    """Return which answers to the documents of one task are right."""
    recorded = _recorded(documents, metric)
    own = set(documents[0].metrics)
    if recorded is None and own and not own & STANDARD.union(PAIRS):
        raise NotMeasurable(
            documents[0].task,
            f"its metrics are its own ({', '.join(sorted(own))}), and none says whether an answer "
            "is right (as in crows_pairs, which compares two sentences).",
        )
    readings = [[read(d) for d in documents] for read in READINGS]
    known = [one for one in readings if all(golds is not None for golds in one)]
    fitting = [
        golds
        for one in known
        if (golds := [list(g or ()) for g in one]) and _fits(golds, answers, recorded)
    ]
    if recorded is None:
        if len({tuple(map(tuple, golds)) for golds in fitting}) != 1:
            raise PredictionsError(_unreadable(documents, readings, metric, several=bool(fitting)))
        recorded = np.array(
            [answer in golds for answer, golds in zip(answers, fitting[0], strict=True)]
        )
    if not fitting:
        return Outcomes(recorded, None)
    golds = [
        [g for g in row if 0 <= g < len(d.logprobs)]
        for row, d in zip(fitting[0], documents, strict=True)
    ]
    without = tuple(i for i, row in enumerate(golds) if not row)
    if len(without) == len(documents):
        raise NotMeasurable(
            documents[0].task,
            f"the target {quoted(documents[0].gold)} of the first document is none of its "
            f"{len(documents[0].logprobs)} options, and so for all documents: this split has no "
            "answers; evaluate another split.",
        )
    single = all(len(row) == 1 for row in golds)
    labels = np.array([row[0] for row in golds], dtype=np.int64) if single else None
    return Outcomes(recorded, labels, without)


def _unreadable(
    documents: Sequence[Document],
    readings: Sequence[Sequence[list[int] | None]],
    metric: str,
    *,
    several: bool,
) -> str:
    """Say why targets do not tell which options are right."""
    unread = [d for i, d in enumerate(documents) if all(one[i] is None for one in readings)]
    document = (unread or documents)[0]
    reason = "is written in another way than those of other documents"
    if several:
        reason = "can mean two options"
    elif unread:
        reason = "names none of the options"
    return (
        f"{document.where}: it has no {metric}, and its target {quoted(document.gold)} {reason}; "
        f"let lm-eval compute {metric} (metric_list of the task)."
    )


def _recorded(documents: Sequence[Document], metric: str) -> NDArray[np.bool_] | None:
    """Return what the harness computed, (n,); None where it did not."""
    if not all(metric in d.metrics for d in documents):
        return None
    for document in documents:
        value = document.metrics[metric]
        if not isinstance(value, int | float | np.number) or value not in (0, 1):
            raise NotMeasurable(
                document.task,
                f"its {metric} is {quoted(value)}, neither 0 nor 1, and does not say whether an "
                "answer is right (as in truthfulqa_mc2, where it is a share of probability; take "
                "truthfulqa_mc1).",
            )
    return np.array([d.metrics[metric] == 1 for d in documents], dtype=np.bool_)


def _fits(
    golds: Sequence[Sequence[int]],
    answers: NDArray[np.int64],
    recorded: NDArray[np.bool_] | None,
) -> bool:
    """Whether right answers, as read, agree with what the harness recorded."""
    if recorded is None:
        return True
    return all(
        (answer in gold) == bool(right)
        for gold, answer, right in zip(golds, answers, recorded, strict=True)
    )


# --- settings of tasks -------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskSettings:
    """What makes two runs of a task comparable; None for what is not known.

    Attributes:
        version: of the task, as its authors count.
        shots: solved examples before each document.
        prompt: digest of what makes its prompts.
    """

    version: str | None = None
    shots: int | None = None
    prompt: str | None = None

    @classmethod
    def of(
        cls, config: Mapping[str, Any], shots: int | None, version: object, seed: object
    ) -> TaskSettings:
        """Describe a task by its configuration, as the harness dumps it.

        Args:
            config: the configuration.
            shots: number of solved examples; None for what the configuration says.
            version: of the task.
            seed: with which examples are drawn.
        """
        own, few = config.get("num_fewshot"), config.get("fewshot_config")
        count = (own if isinstance(own, int) else 0) if shots is None else shots
        parts = [config.get(key, DEFAULTS.get(key)) for key in PROMPT]
        if count:
            sampler = (few.get("sampler") if isinstance(few, Mapping) else None) or "default"
            drawn = seed if sampler == "default" else None
            parts += [config.get("fewshot_split"), sampler, drawn, *_own_examples(config, few)]
        text = [_ADDRESS.sub("", str(part)) for part in parts]
        return cls(str(version), count, digest(*text, size=4))


def _own_examples(config: Mapping[str, Any], few: object) -> list[tuple[str, str]]:
    """Return what makes examples other than documents are; nothing where nothing does.

    Newer versions of the harness repeat here what the task says, and functions as their addresses.
    """
    own = []
    for key, value in sorted(few.items()) if isinstance(few, Mapping) else ():
        task = config.get("fewshot_split" if key == "split" else key, DEFAULTS.get(key))
        function = callable(value) or _ADDRESS.search(str(value))
        if key in EXAMPLES and value is not None and str(value) != str(task) and not function:
            own.append((key, str(value)))
    return own


def signature(
    settings: Sequence[TaskSettings], scoring: str, soft: Mapping[str, str], **hard: str
) -> Signature:
    """Return the signature of one or several tasks; what is not known is left out."""
    out = {"kind": "lm_eval", "scoring": scoring, **hard}
    versions = [s.version for s in settings if s.version is not None]
    shots = [s.shots for s in settings if s.shots is not None]
    prompts = [s.prompt for s in settings if s.prompt is not None]
    if versions:
        out["version"] = ", ".join(dict.fromkeys(versions))
    if shots:
        out["shots"] = ", ".join(map(str, sorted(set(shots))))
    if prompts:
        out["prompt"] = prompts[0] if len(prompts) == 1 else digest(*sorted(prompts), size=4)
    return Signature(out, soft)


# --- predictions -------------------------------------------------------------------------------


def choice_predictions(
    probe: str,
    documents: Sequence[Document],
    metric: str,
    *,
    item_ids: IdArray | None = None,
    settings: Sequence[TaskSettings] = (),
    soft: Mapping[str, str] | None = None,
    hard: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Predictions:
    """Return the predictions of documents with options.

    Args:
        probe: name of the probe.
        documents: at least one; those of several tasks become slices.
        metric: a key of ``SCORES``.
        item_ids: (n,) of :func:`document_ids`, where these documents are a part of those of a task.
        settings: of each task.
        soft: settings that may differ between runs.
        hard: settings that may not.
        notes: for readers of the numbers.

    Raises:
        PredictionsError: a score that is no number, or as :func:`outcomes`.
        NotMeasurable: as :func:`outcomes`.
    """
    scores = [option_scores(document, metric) for document in documents]
    table = _probabilities(documents, scores)
    # Taken from the scores: equal probabilities may stand for scores that differ.
    answers = np.array([row.argmax() for row in scores], dtype=np.int64)
    found = outcomes(documents, answers, metric)
    rows = np.arange(len(documents))
    fields: dict[str, Any] = {}
    if found.labels is not None:
        gold = np.maximum(table[rows, found.labels], np.finfo(np.float64).tiny)
        fields |= {"labels": found.labels, "label_logprobs": np.log(gold)}
    if all(d.options for d in documents):
        fields["option_mass"] = np.array([float(np.exp(d.logprobs).sum()) for d in documents])
    if item_ids is None:
        item_ids = document_ids((d.task, d.filter, d.doc_hash) for d in documents)
    tasks = [d.task for d in documents]
    if len(set(tasks)) > 1:
        fields["slices"] = tasks
    return Predictions(
        probe=probe,
        confidence=table[rows, answers],
        correct=found.correct,
        item_ids=item_ids,
        probabilities=table,
        texts=ItemTexts.from_list(
            [_text(d, int(answers[i]), found, i) for i, d in enumerate(documents)]
        ),
        signature=signature(
            settings, f"softmax over {SCORES[metric]} of options", soft or {}, **(hard or {})
        ),
        notes=(
            *notes,
            *_tied(documents),
            *_unanswerable(documents, found),
            *_small_mass(documents),
        ),
        **fields,
    )


def _probabilities(documents: Sequence[Document], scores: Sequence[FloatArray]) -> FloatArray:
    """Return the soft-max over the scores of each document, (n, k); its options first.

    Raises:
        PredictionsError: a score that is no number.
    """
    for document, row in zip(documents, scores, strict=True):
        if (
            np.isnan(row).any()
            or not np.isfinite(row.max())
            or (document.logprobs > LOG_SLACK).any()
        ):
            raise PredictionsError(
                f"{document.where}: the log-probabilities of its options are "
                f"{quoted(document.logprobs.tolist())}; they must be numbers of at most 0."
            )
    table = np.full((len(scores), max(map(len, scores))), -np.inf)
    for i, row in enumerate(scores):
        table[i, : len(row)] = row
    table = np.exp(table - table.max(axis=1, keepdims=True))
    return np.asarray(table / table.sum(axis=1, keepdims=True))


def _tied(documents: Sequence[Document]) -> tuple[str, ...]:
    """Say how many documents have options that were not told apart.

    Raises:
        NotMeasurable: none was.
    """
    tied = sum(bool((d.logprobs == d.logprobs[0]).all()) for d in documents)
    if not tied:
        return ()
    told = (
        "the same log-probability, so their own tokens were not scored: the tokenizer ends every "
        "text with a token, or the server that was asked gives no log-probabilities"
    )
    if tied == len(documents):
        raise NotMeasurable(documents[0].task, f"all options of each document have {told}.")
    return (f"{tied} of {len(documents)} documents give all their options {told}.",)


def _unanswerable(documents: Sequence[Document], found: Outcomes) -> tuple[str, ...]:
    """Say which items have a target that is none of their options."""
    if not found.unanswerable:
        return ()
    first = documents[found.unanswerable[0]]
    return (
        f"{len(found.unanswerable)} of {len(documents)} documents have a target that is none of "
        f"their options, and count as wrong, as in lm-eval; the first is {first.where} (target "
        f"{quoted(first.gold)}).",
    )


def _small_mass(documents: Sequence[Document]) -> tuple[str, ...]:
    """Say where the prompts do not lead to their options, if these are single characters.

    Longer options are less likely whatever the prompt is.
    """
    if any(len(o.strip()) != 1 for d in documents for o in d.options or ("",)):
        return ()
    mass = float(np.median([np.exp(d.logprobs).sum() for d in documents]))
    if mass >= SMALL_MASS:
        return ()
    held = f"{mass:.5f}" if mass >= 1e-5 else "less than 0.00001"
    return (
        f"the options hold {held} of the probability (median): the prompt does not lead to them, "
        "and confidence says little; a model that was trained on chats needs its chat template.",
    )


def _text(document: Document, answer: int, found: Outcomes, index: int) -> ItemText:
    text, options = document.text, document.options
    label = None if found.labels is None else int(found.labels[index])
    gold = options[label].strip() if options and label is not None else text.gold
    return ItemText(
        prompt=text.prompt,
        gold=gold,
        answer=options[answer].strip() if options else text.answer,
        options=options,
        name=text.name,
    )
