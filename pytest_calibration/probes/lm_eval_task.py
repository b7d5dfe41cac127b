"""Tasks of lm-eval, the Language Model Evaluation Harness, as probes.

The harness makes the prompts and judges the answers; this package scores. The log-probabilities
are those that ``lm_eval`` computes for the same model, so that a run of the harness and a run of
this probe give the same predictions, with the same ids.

A task with options gives a soft-max over them. A task with one right text (``lambada``) is correct
where each token of that text is the most likely one, as the harness's ``acc`` says; its confidence
is the probability of the model's own continuation of as many tokens.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from importlib import import_module
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, Final, Self, cast
from unittest.mock import patch
from weakref import finalize

import numpy as np

from pytest_calibration.errors import ModelError, ProbeError, UsageError, suggestion
from pytest_calibration.extras import require
from pytest_calibration.models.protocols import LanguageModel, Likelihood
from pytest_calibration.predictions import ItemText, ItemTexts, Predictions
from pytest_calibration.predictions.arrays import IdArray
from pytest_calibration.predictions.harness import (
    Document,
    NotMeasurable,
    TaskSettings,
    check_metric,
    choice_predictions,
    document_ids,
    signature,
)
from pytest_calibration.probes.probe import Item, ItemProbe, Variant, other_seed
from pytest_calibration.probes.prompting import ChatSetting, Prompting
from pytest_calibration.text.visible import quoted

EXTRA: Final = "lm-eval"
SEED: Final = 1234
"""With which lm-eval draws examples unless told otherwise."""
SEEDS: Final = (0, 1234)
"""Of Python's and numpy's random numbers, as lm-eval sets them: tasks may shuffle their options."""
SHOWN: Final = 2000
"""Characters of a prompt that are kept for reports."""
REFUSED: Final = {
    "generate_until": "its answers are generated text, which has no probability of its own; ask "
    "for a confidence with a probe of kind agreement, verbalized or p_true",
    "loglikelihood_rolling": "perplexity is a sum over a whole text, which is no answer; measure "
    "the texts with a probe of kind next_token",
}


@dataclass(frozen=True)
class TaskDocument(Item):
    """A document of a task.

    Attributes:
        task: name of the task.
        number: of the document, as in the harness's samples.
        doc_hash: the harness's hash of it.
        doc: its content.
    """

    task: str
    number: int
    doc_hash: str
    doc: Mapping[str, Any]


class LmEvalTask(ItemProbe[TaskDocument]):
    """Ask the documents of a task of lm-eval, in the prompts of that task.

    Args:
        name: name of the probe; by default ``lm_eval:TASK``.
        task: name of a task, a group or a tag, or a pattern such as ``mmlu_*``. The documents of
            several tasks are one set of items, whose slices are the tasks.
        include_path: folder of further tasks, as for ``lm_eval --include_path``.
        shots: solved examples before each document; by default as many as the task says.
        metric: ``acc``, ``acc_norm``, ``acc_bytes`` or ``acc_mutual_info``: the answer is the
            option that this metric takes, and the confidence the soft-max of what it compares.
        chat: whether prompts are turns of a chat, in the model's own template; a mapping gives
            variables to the template.
        system: text before everything, as for ``lm_eval --system_instruction``.
        seed: with which examples are drawn.
        cut: whether a prompt that does not fit into the model loses its begin, as in lm-eval, which
            a note then tells; else it is an error.

    Raises:
        MissingExtra: lm-eval is not installed.
        UsageError: an unknown metric, or shots that the task does not allow.
        ProbeError: no such task, its data cannot be loaded, or it has no answers with a
            probability.
    """

    kind = "lm_eval"
    unit = "documents"

    def __init__(
        self,
        name: str = "",
        *,
        task: str,
        include_path: str | Path | None = None,
        shots: int | None = None,
        metric: str = "acc",
        chat: ChatSetting = False,
        system: str | None = None,
        seed: int = SEED,
        cut: bool = False,
    ) -> None:
        require("lm_eval", EXTRA)
        if not isinstance(task, str):
            raise UsageError(f"the task of an lm-eval probe must be text, got {quoted(task)}.")
        name = name or f"lm_eval:{task}"
        self.prompting = Prompting(name, None, chat)
        self.metric = check_metric(metric)
        self.system = system
        self.seed = seed
        self.cut = cut
        # Rows of local files lie here as long as the tasks read them.
        cache = mkdtemp(prefix="lm-eval-")
        finalize(self, rmtree, cache, ignore_errors=True)
        with _quiet(name, task), _data_as_they_are(cache):
            self._tasks = _loaded(name, task, include_path)
        self._check_kinds(name)
        self._set_shots(name, shots)
        self._instances: dict[tuple[str, int], list[Any]] = {}
        several = len(self._tasks) > 1
        items = []
        with _quiet(name, task):
            for each, one in self._tasks.items():
                for number, doc in one.doc_iterator():
                    items.append(
                        TaskDocument(each, number, _hash(doc), doc, slice=each if several else None)
                    )
        if not items:
            raise ProbeError(f"probe {name!r}: the task {task} has no documents.")
        super().__init__(name, items)

    # --- the task ------------------------------------------------------------------------------

    def _check_kinds(self, name: str) -> None:
        for each, task in self._tasks.items():
            reason = REFUSED.get(str(task.OUTPUT_TYPE))
            if getattr(task, "MULTIMODAL", False):
                reason = "it shows images or sounds, and this package scores text"
            if reason:
                raise ProbeError(f"probe {name!r}: the task {each} cannot be measured: {reason}.")
        single = [each for each, task in self._tasks.items() if _is_single(task)]
        if 0 < len(single) < len(self._tasks):
            raise ProbeError(
                f"probe {name!r}: {', '.join(single)} ask for one right text, and the other tasks "
                "for one of several options; make a probe of each sort."
            )
        self.is_single = bool(single)
        if self.is_single and self.metric != "acc":
            raise UsageError(
                f"probe {name!r}: a task with one right text has the metric acc alone, got "
                f"{quoted(self.metric)}."
            )

    def _set_shots(self, name: str, shots: int | None) -> None:
        """Set how many examples are shown, by the rules of the harness."""
        whole = isinstance(shots, int | None) and not isinstance(shots, bool)
        if not whole or (shots or 0) < 0:
            raise UsageError(
                f"probe {name!r}: shots must be a whole number of at least 0, got {quoted(shots)}."
            )
        for each, task in self._tasks.items():
            own = task.get_config("num_fewshot")
            if shots and own == 0:
                raise UsageError(
                    f"probe {name!r}: the task {each} fixes its shots at 0, and lm-eval ignores "
                    f"any other number, got {shots}; leave shots out."
                )
            if own != 0:
                task.set_config(key="num_fewshot", value=(own or 0) if shots is None else shots)

    def _settings(self) -> list[TaskSettings]:
        return [
            TaskSettings.of(_plain(task.dump_config()), None, task.VERSION, self.seed)
            for task in self._tasks.values()
        ]

    def variants(self) -> dict[str, Variant]:
        """See :meth:`~pytest_calibration.probes.probe.ItemProbe.variants`.

        The harness makes the prompts: the order of the options is what the task says.
        """
        from lm_eval.api.samplers import FirstNSampler

        found = super().variants()
        found["options"] = "the task of lm-eval says in which order it shows options"
        showing = [t for t in self._tasks.values() if t.get_config("num_fewshot")]
        drawing = [t for t in showing if not isinstance(getattr(t, "sampler", 0), FirstNSampler)]
        if drawing:
            found["shots"] = self._with_other_examples
        elif showing:
            found["shots"] = "the task of lm-eval always shows its first examples"
        return found

    def _with_other_examples(self, seed: int) -> Self:
        """Return a copy for which the harness draws other examples."""
        return self.copied(seed=other_seed(self.seed, seed), _instances={})

    # --- items ---------------------------------------------------------------------------------

    def ids(self) -> IdArray:
        """Return the id of every document, (n,): the same as for the harness's samples."""
        return document_ids((i.task, self._filter(i.task), i.doc_hash) for i in self.items)

    def _filter(self, task: str) -> str:
        filters = getattr(self._tasks[task], "_filters", None)
        return str(filters[0].name) if filters else "none"

    def _requests(self, model: LanguageModel) -> dict[tuple[str, int], list[Any]]:
        """Return the requests of each document, made by the harness.

        They are made for all documents, since examples are drawn for one after the other.
        """
        if self._instances and not self.prompting.is_chat:
            return self._instances
        out: dict[tuple[str, int], list[Any]] = {}
        chat = partial(self._rendered, model) if self.prompting.is_chat else None
        for each, task in self._tasks.items():
            task.set_fewshot_seed(seed=self.seed)
            with _quiet(self.name, each):
                task.build_all_requests(
                    system_instruction=self.system,
                    apply_chat_template=chat is not None,
                    fewshot_as_multiturn=chat is not None,
                    chat_template=chat,
                )
            for instance in task.instances:
                out.setdefault((each, instance.doc_id), []).append(instance)
        for instances in out.values():
            instances.sort(key=lambda one: one.idx)
            for one in instances:
                if one.request_type != "loglikelihood" or len(one.args) != 2:
                    reason = REFUSED.get(one.request_type, "it asks for more than text")
                    raise ProbeError(f"probe {self.name!r}: a task cannot be measured: {reason}.")
        self._instances = out
        return out

    def _rendered(
        self,
        model: LanguageModel,
        messages: Sequence[Mapping[str, str]],
        add_generation_prompt: bool = True,
    ) -> str:
        if not add_generation_prompt:
            raise ProbeError(
                f"probe {self.name!r}: its task begins the answer itself (gen_prefix), which a "
                "chat here cannot; leave chat out."
            )
        return self.prompting.rendered(model, [messages])[0]

    # --- answers -------------------------------------------------------------------------------

    def run(self, model: LanguageModel, *, limit: int | None = None) -> Predictions:
        """Score every document.

        Raises:
            ModelError: a prompt does not fit, or the model cannot score.
            ProbeError: the task cannot make or judge its requests.
        """
        items, fields = self.sample(limit)
        requests = self._requests(model)
        wanted = [[tuple(one.args) for one in requests[i.task, i.number]] for i in items]
        # A request without a prompt is the same for many documents.
        unique = list(dict.fromkeys(pair for row in wanted for pair in row))
        answers = self._ask(model, unique)
        self.check_scored(len(answers), len(unique))
        found = dict(zip(unique, answers, strict=True))
        rows = [[found[pair] for pair in row] for row in wanted]
        hard = self._hard(model)
        soft = {"model": str(model.name), **getattr(model, "description", {}), **_version()}
        notes = _cut_notes(rows)
        if self.is_single:
            return self._single(items, rows, {**fields, "notes": notes}, soft, hard)
        documents = [
            self._document(item, requests[item.task, item.number], row)
            for item, row in zip(items, rows, strict=True)
        ]
        try:
            return choice_predictions(
                self.name,
                documents,
                self.metric,
                item_ids=fields["item_ids"],
                settings=self._settings(),
                soft=soft,
                hard=hard,
                notes=notes,
            )
        except NotMeasurable as reason:
            raise ProbeError(
                f"probe {self.name!r}: the task {reason.task} cannot be measured: {reason}"
            ) from None

    def _ask(self, model: LanguageModel, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """Return how likely the model finds each continuation.

        A model that cannot cut tokens as the harness does is asked as any other probe asks it.
        """
        ask = getattr(model, "loglikelihood", None)
        if ask is not None:
            return cast("list[Likelihood]", ask(pairs, own=self.is_single, cut=self.cut))
        if self.is_single or any(not context for context, _ in pairs):
            raise ModelError(
                f"{model.name}: has no method loglikelihood, which the probe {self.name!r} needs; "
                "give it one (see HarnessModel), or choose a task with options and the metric acc."
            )
        options: dict[str, list[str]] = {}
        for context, continuation in pairs:
            options.setdefault(context, []).append(continuation)
        bare = [context.rstrip() for context in options]
        ends = [context[len(cut) :] for context, cut in zip(options, bare, strict=True)]
        scores = model.option_logprobs(
            bare, [[end + o for o in row] for end, row in zip(ends, options.values(), strict=True)]
        )
        known = {
            (context, continuation): Likelihood(float(logprob), is_greedy=False)
            for (context, row), found in zip(options.items(), scores, strict=True)
            for continuation, logprob in zip(row, found, strict=True)
        }
        return [known[pair] for pair in pairs]

    def _hard(self, model: LanguageModel) -> dict[str, str]:
        out = {}
        if self.system:
            out["system"] = hashlib.sha256(self.system.encode("utf-8")).hexdigest()[:8]
        if self.prompting.is_chat:
            out |= self.prompting.signature(model, [{"role": "user", "content": ""}])
        return out

    def _document(
        self, item: TaskDocument, instances: Sequence[Any], answers: Sequence[Likelihood]
    ) -> Document:
        """Return the log-probabilities of a document, and what the harness makes of them."""
        task, doc = self._tasks[item.task], item.doc
        where = f"probe {self.name!r}: document {item.number} of {item.task}"
        metrics = self._judged(item, answers)
        with _quiet(self.name, item.task):
            options, gold = _options_and_gold(task, doc, instances)
        if len(answers) == 1:
            raise ProbeError(f"{where}: has one option; there is nothing to choose from.")
        logprobs = np.array([a.logprob for a in answers])
        half, unconditional = len(answers) // 2, None
        if "acc_mutual_info" in metrics and 2 * half == len(answers):
            logprobs, unconditional = logprobs[:half], logprobs[half:]
        return Document(
            task=item.task,
            filter=self._filter(item.task),
            doc_hash=item.doc_hash,
            where=where,
            logprobs=logprobs,
            gold=gold,
            unconditional=unconditional,
            options=options,
            metrics=metrics,
            text=self._text(item, str(instances[0].args[0]), str(gold)),
        )

    def _judged(self, item: TaskDocument, answers: Sequence[Likelihood]) -> Mapping[str, Any]:
        """Return what the task makes of the answers to a document: metric to value."""
        with _quiet(self.name, item.task):
            found: Mapping[str, Any] = self._tasks[item.task].process_results(
                item.doc, [(a.logprob, a.is_greedy) for a in answers]
            )
        return found

    def _single(
        self,
        items: Sequence[TaskDocument],
        rows: Sequence[Sequence[Likelihood]],
        fields: Mapping[str, Any],
        soft: Mapping[str, str],
        hard: Mapping[str, str],
    ) -> Predictions:
        """Return the predictions of a task with one right text."""
        answers = [row[0] for row in rows]
        own = [one.own_logprob for one in answers]
        if any(len(row) != 1 for row in rows) or any(one is None for one in own):
            raise ProbeError(f"probe {self.name!r}: a document has not one answer with its score.")
        for item, one in zip(items, answers, strict=True):
            right = self._judged(item, [one]).get("acc", one.is_greedy)
            if right != one.is_greedy:
                raise ProbeError(
                    f"probe {self.name!r}: document {item.number} of {item.task} has an acc of "
                    f"{quoted(right)} where the right text is{'' if one.is_greedy else ' not'} the "
                    "most likely one: the task judges answers in a way of its own, for which there "
                    "is no confidence."
                )
        requests = self._instances
        texts = []
        for item, one in zip(items, answers, strict=True):
            context, target = requests[item.task, item.number][0].args
            text = self._text(item, str(context), str(target).strip())
            texts.append(ItemText(text.prompt, text.gold, one.own_text.strip(), name=text.name))
        logprobs = np.array([one.logprob for one in answers])
        return Predictions(
            confidence=np.minimum(np.exp(np.array(own, dtype=np.float64)), 1.0),
            correct=np.array([one.is_greedy for one in answers]),
            label_logprobs=np.minimum(logprobs, 0.0),
            texts=ItemTexts.from_list(texts),
            signature=signature(
                self._settings(), "greedy continuation as long as the right text", soft, **hard
            ),
            **fields,
        )

    def _text(self, item: TaskDocument, prompt: str, gold: str) -> ItemText:
        config = self._tasks[item.task].config
        if config.num_fewshot and not self.prompting.is_chat:
            prompt = prompt.rpartition(config.fewshot_delimiter)[2]
        return ItemText(prompt=prompt[-SHOWN:], gold=gold, name=str(item.number))


def _cut_notes(rows: Sequence[Sequence[Likelihood]]) -> tuple[str, ...]:
    """Say how many documents were asked without the begin of their prompt."""
    cut = sum(any(one.n_cut for one in row) for row in rows)
    if not cut:
        return ()
    return (
        f"{cut} of {len(rows)} prompts did not fit into the model and lost their begin, as in "
        "lm-eval: examples or instructions may be missing.",
    )


# --- lm-eval -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _quiet(probe: str, task: str) -> Iterator[None]:
    """Use the harness without its logs and bars, and with its seeds.

    What it raises becomes one sentence.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Not below: what it brings along keeps the stream that errors go to.
        import_module("lm_eval.tasks")
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    states = random.getstate(), np.random.get_state()
    _seed()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except (ProbeError, ModelError, UsageError):
        raise
    except Exception as problem:
        first = " ".join(str(problem).split())[:300].rstrip(".")
        said = ": ".join(filter(None, [type(problem).__name__, first]))
        hint = ""
        if isinstance(problem, OSError | ValueError):  # what is not in the cache is either
            hint = (
                "; where its data are missing, fetch them once with a network: "
                f"lm_eval --model dummy --tasks {task} --limit 1"
            )
        raise ProbeError(
            f"probe {probe!r}: lm-eval fails at the task {task} ({said}){hint}."
        ) from problem
    finally:
        logger.setLevel(level)
        random.setstate(states[0])
        np.random.set_state(states[1])


def _seed() -> None:
    random.seed(SEEDS[0])
    np.random.seed(SEEDS[1])


@contextlib.contextmanager
def _data_as_they_are(cache: str) -> Iterator[None]:
    """Let tasks read their data as they are, whatever the cache of the library ``datasets`` holds.

    A local file that was changed within one tick of its time is an old one to that cache, and rows
    that a task made with random numbers (gpqa) are those of the run that came first.
    """
    import datasets

    load = datasets.load_dataset

    def loaded(path: str, *given: Any, **options: Any) -> Any:
        if Path(path).exists() or options.get("data_files"):
            options = {**options, "cache_dir": cache}
        data = load(path, *given, **options)
        for split in data.values() if isinstance(data, dict) else [data]:
            # What the cache knows rows by that a task makes of these.
            name = f"{getattr(split, '_fingerprint', '')} {SEEDS}"
            split._fingerprint = hashlib.sha256(name.encode("utf-8")).hexdigest()[:16]
        _seed()
        return data

    with patch.object(datasets, "load_dataset", loaded):
        yield


def _loaded(probe: str, task: str, include_path: str | Path | None) -> dict[str, Any]:
    """Return the tasks of a name or pattern, in the order of the harness.

    Raises:
        ProbeError: there are none.
    """
    from lm_eval.tasks import TaskManager

    if include_path is not None and not Path(include_path).is_dir():
        raise ProbeError(
            f"probe {probe!r}: include_path {quoted(str(include_path))} is no folder; name one "
            "with tasks of lm-eval."
        )
    known: list[str] = []
    # To read the thousands of tasks that come with lm-eval takes seconds.
    own = include_path is not None or Path(task).is_file()
    for defaults in (False, True) if own else (True,):
        manager = TaskManager(
            include_path=None if include_path is None else str(include_path),
            include_defaults=defaults,
        )
        known = list(manager.all_tasks)
        if task in known or Path(task).is_file():
            try:
                return dict(manager.load(task)["tasks"])
            except Exception:
                # A group of one's own may hold tasks that come with lm-eval.
                if defaults:
                    raise
        fitting = [name for name in manager.all_subtasks if fnmatchcase(name, task)]
        if fitting:
            return dict(manager.load(fitting)["tasks"])
    # lm-eval passes over a file that it cannot read while it looks for tasks; here it raises.
    for file in Path(include_path).rglob("*.yaml") if include_path else ():
        if file.stem == task:
            manager.load(str(file))
    raise ProbeError(
        f"probe {probe!r}: lm-eval has no task {quoted(task)}{suggestion(task, known)}; `lm_eval "
        "ls tasks` lists them, and include_path names a folder of your own."
    )


def _is_single(task: Any) -> bool:
    """Whether a document has one right text in place of options.

    The output type alone does not tell: tasks written in Python may have options, too.
    """
    if str(task.OUTPUT_TYPE) != "loglikelihood":
        return False
    _, doc = next(iter(task.doc_iterator(limit=1)))
    requests = task.construct_requests(doc=doc, ctx="", metadata=(None, 0, 1))
    return not isinstance(requests, list) or len(requests) == 1


def _options_and_gold(
    task: Any, doc: Mapping[str, Any], instances: Sequence[Any]
) -> tuple[tuple[str, ...], object]:
    """Return the options, empty where they are prompts, and the target of a document."""
    if getattr(task, "multiple_input", 0):
        return (), task.doc_to_text(doc)
    gold = task.doc_to_target(doc)
    if getattr(task.config, "doc_to_choice", None) is not None:
        return tuple(task.doc_to_choice(doc)), gold
    return tuple(str(one.args[1]).removeprefix(" ") for one in instances), gold


def _hash(doc: Mapping[str, Any]) -> str:
    """Return the harness's hash of a document."""
    from lm_eval.utils import handle_non_serializable, hash_string

    text = json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
    return str(hash_string(text))


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration as it stands in the harness's results."""
    from lm_eval.utils import handle_non_serializable

    out: dict[str, Any] = json.loads(json.dumps(config, default=handle_non_serializable))
    return out


def _version() -> dict[str, str]:
    from importlib.metadata import version

    return {"lm-eval": version("lm_eval")}
