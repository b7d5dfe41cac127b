"""Hugging Face classifiers in memory: of texts, of the words of a text, and reward models.

Texts of the same number of tokens are scored together, so that nothing is ever padded: a score does
not depend on what is scored beside it, on the side that a tokenizer pads, or on whether it has a
token for that. The last layer is computed in float32, whatever the model computes in.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends.transformers.in_memory import (
    ModelInMemory,
    explained,
)
from pytest_calibration.models.backends.transformers.kinds import (
    SEQ_CLS,
    TOKEN_CLS,
    of_another_kind,
    task_of_class,
)
from pytest_calibration.models.backends.transformers.reading import quiet
from pytest_calibration.models.backends.transformers.scorer import BUDGET, is_memory
from pytest_calibration.models.causal.encoding import check_texts, excerpt
from pytest_calibration.models.protocols import Text, Truncation
from pytest_calibration.progress import PROGRESS
from pytest_calibration.text.visible import quoted

# What a tokenizer says of a text, by name: one list of the same length each.
Encoded = Mapping[str, Sequence[int]]
# A tokenizer without a limit of its own has one of 1e30.
_NO_LIMIT: Final = 1e9
# No token has this number.
_NO_TOKEN: Final = -1


class ClassifierInMemory(ModelInMemory):
    """A model with a head that gives numbers for classes.

    Attributes:
        class_names: names of the classes, in the order of the columns.
    """

    # What else a user may do about texts that are too long.
    _ADVICE = ""

    @property
    def multi_label(self) -> bool:
        """Whether a text may have any number of classes."""
        return False

    def _prepare(self, batch_tokens: int | None) -> None:
        own = getattr(self.tokenizer, "model_max_length", None)
        if own is not None and own < _NO_LIMIT:
            self.max_tokens = min(self.max_tokens, own)
        self._budget = batch_tokens or BUDGET.get(self.device.type, BUDGET["cpu"])
        self._notes: list[str] = []
        parameters = inspect.signature(self.base.forward).parameters
        self._inputs = [name for name in parameters if name not in ("args", "kwargs", "labels")]
        self._plain = {"use_cache": False} if "use_cache" in parameters else {}
        self.class_names = _class_names(self.name, self.base.config)

    @classmethod
    def check(cls, name: str, model: Any) -> None:
        """See :class:`ModelInMemory`."""
        if task_of_class(model) != cls.TASK:
            raise of_another_kind(name, type(model), cls.TASK)

    @property
    def notes(self) -> list[str]:
        """See :class:`ModelInMemory`."""
        return self._notes

    def _encode(
        self, texts: Sequence[Any], **options: Any
    ) -> tuple[list[dict[str, list[int]]], Any]:
        """Return what the tokenizer says of each text, as far as the model takes it; and all."""
        if not texts:
            return [], None
        with quiet(), explained(self.name):
            found = self.tokenizer(texts, verbose=False, **options)
        names = [name for name in found if name in self._inputs]
        rows = [{name: list(found[name][i]) for name in names} for i in range(len(texts))]
        highest = max(chain.from_iterable(row["input_ids"] for row in rows), default=0)
        size = getattr(self.base.get_input_embeddings(), "num_embeddings", None)
        if isinstance(size, int) and highest >= size:
            raise ModelError(
                f"{self.name}: the tokenizer gives token {highest}, but the model knows {size:,} "
                "tokens; use the tokenizer it was trained with."
            )
        return rows, found

    def _check_lengths(self, rows: Sequence[Encoded], shown: Callable[[int], str]) -> None:
        """Raise ModelError for texts that the model cannot read, with their number."""
        lengths = [len(row["input_ids"]) for row in rows]
        long = [i for i, n in enumerate(lengths) if n > self.max_tokens]
        if long:
            first = long[0]
            raise ModelError(
                f"{self.name}: {len(long):,} of {len(rows):,} texts are longer than the "
                f"{self.max_tokens:,} tokens it reads (first: {shown(first)}, "
                f"{lengths[first]:,} tokens); shorten or leave them out{self._ADVICE}."
            )
        empty = next((i for i, n in enumerate(lengths) if n < 1), None)
        if empty is not None:
            raise ModelError(f"{self.name}: the text {shown(empty)} has no tokens.")

    def _logits(self, rows: Sequence[Encoded], unit: str) -> list[NDArray[np.float64]]:
        """Return what the head gives for each row: (k,), or (t, k) for each token."""
        out: list[NDArray[np.float64] | None] = [None] * len(rows)
        by_length: dict[int, list[int]] = {}
        for i, row in enumerate(rows):
            by_length.setdefault(len(row["input_ids"]), []).append(i)
        done = 0
        PROGRESS.report(0, len(rows), unit)
        with (
            quiet(),
            torch.inference_mode(),
            self._asking(),
            _exact_head(self.base, len(self.class_names)),
            _without_padding(self.base.config),
        ):
            # The longest first: memory that runs out does so at once.
            for length, members in sorted(by_length.items(), reverse=True):
                rest = members
                while rest:
                    batch = rest[: max(1, self._budget // length)]
                    try:
                        table = self._pass([rows[i] for i in batch])
                    except (MemoryError, RuntimeError) as problem:
                        if not is_memory(problem):
                            raise
                        self._halve(problem, len(batch), length)
                        continue
                    for i, values in zip(batch, table, strict=True):
                        out[i] = values
                    rest = rest[len(batch) :]
                    done += len(batch)
                    PROGRESS.report(done, len(rows), unit)
        found = [one for one in out if one is not None]
        for one in found[:1]:
            self._check_width(one.shape[-1])
        return found

    def _pass(self, rows: Sequence[Encoded]) -> NDArray[np.float64]:
        inputs = {
            name: torch.tensor([row[name] for row in rows], device=self.device) for name in rows[0]
        }
        logits = self.model(**inputs, **self._plain).logits
        # Not every device knows numbers of 64 bits.
        return np.asarray(logits.cpu().double().numpy())

    def _check_width(self, width: int) -> None:
        if width != len(self.class_names):
            raise ModelError(
                f"{self.name}: its head gives {width} numbers, and its config.json names "
                f"{len(self.class_names)} classes; put the config.json of these weights beside "
                "them."
            )

    def _halve(self, problem: Exception, texts: int, length: int) -> None:
        """Go on with half the tokens at a time, and note it once."""
        if texts == 1:
            raise ModelError(
                f"{self.name}: out of memory with a text of {length:,} tokens; use a smaller dtype "
                "or a larger machine."
            ) from problem
        self._budget = texts * length // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        note = "it ran out of memory, and went on with fewer tokens at a time"
        if note not in self._notes:
            self._notes.append(note)

    def _check_finite(self, table: NDArray[np.float64], shown: str) -> None:
        if not np.isfinite(table).all():
            raise ModelError(f"{self.name}: not a finite score for {shown}.")

    def _check_gives_classes(self) -> None:
        """Raise ModelError for a head whose numbers are no probabilities of classes."""
        config = self.base.config
        if getattr(config, "problem_type", None) == "regression":
            raise ModelError(
                f"{self.name}: its config.json has problem_type: regression, so it gives numbers "
                "and no probabilities; there is no confidence to test."
            )
        if len(self.class_names) == 1 and not self.multi_label:
            raise ModelError(
                f"{self.name}: its head gives one number and no probabilities of classes: that is "
                "a reward model, which a probe of kind preference asks, or a regression; a "
                "classifier with one output says problem_type: multi_label_classification (under "
                "model: {arguments: ...} in calibration.yaml)."
            )


class TransformersClassifier(ClassifierInMemory):
    """A classifier of texts or pairs, or a reward model, in memory with its tokenizer."""

    TASK = SEQ_CLS
    _ADVICE = ", or say truncate: true in the probe, which cuts and counts them"

    @property
    def multi_label(self) -> bool:
        """Whether a text may have any number of classes: the configuration says so."""
        kind = getattr(self.base.config, "problem_type", None)
        return bool(kind == "multi_label_classification")

    def truncated(self, texts: Sequence[Text]) -> NDArray[np.bool_]:
        """Return which texts are longer than what the model reads, (n,)."""
        rows = self._rows(texts, "")
        return np.array([len(row["input_ids"]) > self.max_tokens for row in rows], dtype=np.bool_)

    def class_probabilities(
        self, texts: Sequence[Text], *, truncate: Truncation = ""
    ) -> NDArray[np.float64]:
        """See :class:`~pytest_calibration.models.protocols.Classifier`.

        The soft-max of the logits, or, for several labels, the logistic function of each.
        """
        self._check_gives_classes()
        table = self.class_logits(texts, truncate=truncate) / self.temperature
        if self.multi_label:
            # Of the smaller side, so that nothing overflows.
            small = np.exp(-np.abs(table))
            return np.asarray(np.where(table >= 0, 1.0, small) / (1.0 + small))
        return _softmax(table)

    def class_logits(
        self,
        texts: Sequence[Text],
        *,
        truncate: Truncation = "",
        add_special_tokens: bool = True,
    ) -> NDArray[np.float64]:
        """See :class:`~pytest_calibration.models.protocols.InferenceModel`."""
        rows = self._rows(texts, truncate, add_special_tokens)
        self._check_lengths(rows, lambda i: _shown(texts[i]))
        table = np.array(self._logits(rows, "texts"), dtype=np.float64)
        for text, row in zip(texts, table, strict=True):
            self._check_finite(row, _shown(text))
        return table.reshape(len(texts), len(self.class_names))

    def rewards(
        self, texts: Sequence[Text], *, add_special_tokens: bool = True
    ) -> NDArray[np.float64]:
        """See :class:`~pytest_calibration.models.protocols.RewardModel`."""
        if len(self.class_names) != 1:
            raise ModelError(
                f"{self.name}: its head gives {len(self.class_names)} numbers and no single "
                "reward, so it is no reward model; a probe of kind classification asks it."
            )
        logits = self.class_logits(texts, add_special_tokens=add_special_tokens)[:, 0]
        return np.asarray(logits / self.temperature)

    def _rows(
        self, texts: Sequence[Text], truncate: Truncation, add_special_tokens: bool = True
    ) -> list[dict[str, list[int]]]:
        check_texts(self.name, chain.from_iterable([t] if isinstance(t, str) else t for t in texts))
        options: dict[str, Any] = {"add_special_tokens": add_special_tokens}
        if truncate and self.max_tokens < _NO_LIMIT:
            options["max_length"] = int(self.max_tokens)
        out: list[dict[str, list[int]]] = [{} for _ in texts]
        for paired in (False, True):
            # One kind at a time: a tokenizer takes texts or pairs.
            at = [i for i, text in enumerate(texts) if isinstance(text, tuple | list) == paired]
            here = [list(texts[i]) if paired else texts[i] for i in at]
            if truncate:
                options["truncation"] = truncate if paired else "longest_first"
            for i, row in zip(at, self._encode(here, **options)[0], strict=True):
                out[i] = row
        return out


class TransformersTokenClassifier(ClassifierInMemory):
    """A classifier of the words of a text, in memory with its tokenizer."""

    TASK = TOKEN_CLS

    def token_class_probabilities(
        self, texts: Sequence[Sequence[str]]
    ) -> list[NDArray[np.float64]]:
        """See :class:`~pytest_calibration.models.protocols.TokenClassifier`.

        A word has the probabilities of its first token (Devlin et al. 2019, section 5.3).

        Raises:
            ModelError: a text does not fit, a word gives no token, or a score is not finite.
        """
        self._check_gives_classes()
        check_texts(self.name, chain.from_iterable(texts))
        if not getattr(self.tokenizer, "is_fast", False):
            raise ModelError(
                f"{self.name}: its tokenizer does not tell which tokens a word gives; use a fast "
                "tokenizer (model: {tokenizer: ...} in calibration.yaml)."
            )
        rows, found = self._encode([list(words) for words in texts], is_split_into_words=True)
        places = [self._first_tokens(words, found.word_ids(i)) for i, words in enumerate(texts)]
        self._check_lengths(rows, lambda i: excerpt(" ".join(texts[i])))
        out = []
        for words, at, table in zip(texts, places, self._logits(rows, "texts"), strict=True):
            self._check_finite(table[at], excerpt(" ".join(words)))
            out.append(_softmax(table[at] / self.temperature))
        return out

    def _first_tokens(self, words: Sequence[str], owners: Sequence[int | None]) -> list[int]:
        first: dict[int, int] = {}
        for place, owner in enumerate(owners):
            if owner is not None:
                first.setdefault(owner, place)
        for i, word in enumerate(words):
            if i not in first:
                raise ModelError(
                    f"{self.name}: word {i} of {excerpt(' '.join(words))}, {excerpt(word)}, gives "
                    "no token, so it cannot be classified; leave it out of the row."
                )
        return [first[i] for i in range(len(words))]


def _class_names(name: str, config: Any) -> tuple[str, ...]:
    named: Any = getattr(config, "id2label", None) or {}
    try:
        # A hand-written file may have texts for keys.
        names = {int(i): str(label) for i, label in named.items()}
    except (AttributeError, TypeError, ValueError):
        names = {}
    if sorted(names) != list(range(len(named))):
        raise ModelError(
            f"{name}: id2label in its config.json must name the classes 0 to {len(named) - 1}, got "
            f"{quoted(named)}."
        )
    out = tuple(names[i] for i in range(len(names)))
    twice = next((label for label in out if out.count(label) > 1), None)
    if twice is not None:
        raise ModelError(
            f"{name}: id2label in its config.json gives several classes the name {twice[:80]!r}; "
            "give each its own name."
        )
    return out


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def _shown(text: Text) -> str:
    return excerpt(text) if isinstance(text, str) else " and ".join(map(excerpt, text))


@contextmanager
def _exact_head(model: Any, outputs: int) -> Iterator[None]:
    """Compute the last layer in float32 for a while: in bfloat16 logits have three digits."""
    body = getattr(model, "base_model", None)
    inside = set() if body is None or body is model else {id(m) for m in body.modules()}
    heads = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear)
        and module.out_features == outputs
        and module.weight.is_floating_point()
        and module.weight.dtype != torch.float32
        and id(module) not in inside
    ]

    def exact(module: Any, given: tuple[torch.Tensor, ...], _: torch.Tensor) -> torch.Tensor:
        bias = None if module.bias is None else module.bias.float()
        return torch.nn.functional.linear(given[0].float(), module.weight.float(), bias)

    hooks = [module.register_forward_hook(exact) for module in heads]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _without_padding(config: Any) -> Iterator[None]:
    """Let models read several texts that have no token for padding: none of them is padded.

    A decoder reads its class at the last token that is no padding, and refuses more than one text
    where it does not know that token.
    """
    text = config.get_text_config()
    before = getattr(text, "pad_token_id", None)
    if before is None:
        text.pad_token_id = _NO_TOKEN
    try:
        yield
    finally:
        text.pad_token_id = before
