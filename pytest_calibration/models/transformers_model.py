"""Hugging Face causal language models, scored with torch. The only module that imports torch.

Scores do not depend on batch size or padding: rows are padded on the right, where a causal model
never looks, logits are taken at the scored positions only, and the soft-max runs in float32.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from pytest_calibration.errors import ModelError, TokenBoundaryError
from pytest_calibration.models.checkpoint import (
    LoadSettings,
    adapter_base,
    fingerprint,
    require,
)
from pytest_calibration.models.protocols import Choose, Generation, NextTokenScores
from pytest_calibration.models.spec import ModelSpec
from pytest_calibration.progress import PROGRESS

# Vocabulary rows reduced at a time: larger blocks fall out of the cache and are slower.
ROWS_AT_ONCE: Final = 64
_CAUSAL: Final = re.compile(r"(ForCausalLM|LMHeadModel|ForConditionalGeneration)$")


@dataclass(frozen=True)
class Row:
    """One sequence to score.

    Attributes:
        ids: token ids of the sequence, as far as it is needed.
        positions: (t,) index of the token whose logits are read (they predict the next one).
        targets: (t,) token ids whose log-probability is wanted there; positions may repeat.
    """

    ids: list[int]
    positions: list[int]
    targets: list[int]


@dataclass(frozen=True)
class RowScores:
    """What the model says at the positions of a row; (t,) each.

    Attributes:
        target_logprob: log P(target), nats.
        top_logprob: log-probability of the most likely token.
        top_id: that token.
    """

    target_logprob: NDArray[np.float64]
    top_logprob: NDArray[np.float64]
    top_id: NDArray[np.int64]


class TransformersModel:
    """A causal language model in memory.

    Args:
        spec: what to load.
        settings: how to load it.

    Raises:
        ModelError: it is not there, is no causal language model, lacks weights or a tokenizer, or
            would need something that was not allowed.
    """

    def __init__(self, spec: ModelSpec, settings: LoadSettings) -> None:
        self.name = spec.name
        self.spec = spec
        self.settings = settings
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self.device = _device(settings.device)
        with _quiet():
            self.model = _load(spec, settings, self.device)
            self.tokenizer = _load_tokenizer(spec, settings)
        self.model.eval()
        base = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        # Prompt-learning adapters put virtual tokens before the text and shift its logits.
        virtual = _virtual_tokens(self.model)
        self._keeps_logits = (
            not virtual and "logits_to_keep" in inspect.signature(base.forward).parameters
        )
        self.max_tokens = _max_tokens(base.config) - virtual
        self._vocabulary = _vocabulary(base)
        self._closing = _closing(self.tokenizer)
        self._token_texts: dict[int, str] = {}
        self._check_causal()

    def _check_causal(self) -> None:
        """Refuse a model whose earlier predictions depend on a later token.

        A masked language model can pass for a causal one by name; it would see every answer before
        it gives it.
        """
        last = int(min(self._vocabulary, 5)) - 1
        ids = torch.tensor([[0, 0, 0], [0, 0, last]], device=self.device)
        with torch.inference_mode():
            logits = self._forward(ids, 0)[:, :2].float()
        spread = float((logits[0] - logits[1]).abs().max())
        slack = 1e-4 if logits.dtype == next(self.model.parameters()).dtype else 2e-2
        # Weights that are not finite are told by the first score that is not.
        if spread > slack * max(1.0, float(logits.abs().max())):
            raise ModelError(
                f"{self.name}: its predictions depend on the tokens that follow (by {spread:.2g} "
                "in the logits), so it is no causal language model; it predicts no next tokens."
            )

    def close(self) -> None:
        """Free the weights."""
        del self.model
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def fingerprint(self) -> str:
        """Digest of weights and settings; see ``models.checkpoint.fingerprint``."""
        return fingerprint(self.spec, self.settings)

    @property
    def description(self) -> Mapping[str, str]:
        """Settings and versions that stand beside every number."""
        first = next(self.model.parameters())
        out = {
            "dtype": str(first.dtype).removeprefix("torch."),
            "device": self.device.type,
            "torch": torch.__version__.partition("+")[0],
            "transformers": transformers.__version__,
        }
        if self.spec.revision:
            out["revision"] = self.spec.revision
        return out

    # --- what probes ask ---------------------------------------------------------------------

    def option_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[NDArray[np.float64]]:
        """Return log P(option | prompt) in nats, one (k,) array per prompt.

        A prompt and its single-token options take one row; longer options a row each.

        Raises:
            TokenBoundaryError: the tokenizer merges the end of a prompt with an option.
            ModelError: an option adds no token, a prompt does not fit, a score is not finite.
        """
        heads = self._encode(list(prompts))
        whole = iter(
            self._encode([p + o for p, os in zip(prompts, options, strict=True) for o in os])
        )
        rows: list[Row] = []
        # For each (prompt, option): the row and the slice of its positions.
        places: list[list[tuple[int, int, int]]] = []
        for i, (head, texts) in enumerate(zip(heads, options, strict=True)):
            contexts: dict[tuple[int, ...], int] = {}
            where: list[tuple[int, int, int]] = []
            for text in texts:
                ids = next(whole)
                _check_boundary(head, ids, prompts[i], text)
                self._check_length(len(ids) - 1, prompts[i])
                context = tuple(ids[:-1])
                if context not in contexts:
                    contexts[context] = len(rows)
                    rows.append(Row(ids[:-1], [], []))
                row = rows[contexts[context]]
                first = len(row.positions)
                row.positions.extend(range(len(head) - 1, len(ids) - 1))
                row.targets.extend(ids[len(head) :])
                where.append((contexts[context], first, len(row.positions)))
            places.append(where)
        scores = self._score(rows)
        out = [
            np.array([scores[r].target_logprob[a:b].sum() for r, a, b in where], dtype=np.float64)
            for where in places
        ]
        for prompt, values in zip(prompts, out, strict=True):
            if not np.isfinite(values).all():
                raise ModelError(f"{self.name}: not a finite score for {_excerpt(prompt)}.")
        return out

    def next_token(
        self, texts: Sequence[str], *, choose: Choose | None = None
    ) -> list[NextTokenScores]:
        """Return what the model expected at each predicted token of each text.

        A text longer than the model's context is read in windows that overlap by half, so every
        token past the first window still has at least half a context before it. Scores come in the
        order of the text, whatever order the positions were chosen in.

        Raises:
            ModelError: the tokenizer gives no character offsets, or a score is not finite.
        """
        if not texts:
            return []
        if not getattr(self.tokenizer, "is_fast", False):
            raise ModelError(
                f"{self.name}: its tokenizer gives no character offsets, which next-token probes "
                "need; use a fast tokenizer (model: {tokenizer: ...} in calibration.yaml)."
            )
        encoded = self.tokenizer(
            list(texts), return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False
        )
        rows: list[Row] = []
        owner: list[int] = []
        wanted: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        for i in range(len(texts)):
            ids = np.array(encoded["input_ids"][i], dtype=np.int64)
            spans = np.array(encoded["offset_mapping"][i], dtype=np.int64).reshape(-1, 2)
            special = np.array(encoded["special_tokens_mask"][i], dtype=np.bool_)
            target = np.flatnonzero(~special)
            target = target[target > 0]
            if choose is not None:
                target = target[np.sort(np.asarray(choose(i, spans[target]), dtype=np.int64))]
            wanted.append((spans[target], ids[target]))
            for row in self._windows(ids, target):
                rows.append(row)
                owner.append(i)
        scores = self._score(rows)
        parts: list[list[RowScores]] = [[] for _ in texts]
        for i, score in zip(owner, scores, strict=True):
            parts[i].append(score)
        return [
            self._next_token_scores(text, spans, ids, part)
            for text, (spans, ids), part in zip(texts, wanted, parts, strict=True)
        ]

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: Sequence[int]
    ) -> list[Generation]:
        """Continue each prompt greedily; stops at the end-of-text token (which is counted).

        Raises:
            ModelError: a prompt does not fit, or a score is not finite.
        """
        ids = self._encode(list(prompts))
        starts = [len(row) for row in ids]
        logprobs: list[list[float]] = [[] for _ in ids]
        ends = self._end_tokens()
        active = [i for i, most in enumerate(max_new_tokens) if most > 0]
        while active:
            for i in active:
                self._check_length(len(ids[i]), prompts[i])
            before = sum(map(len, logprobs))
            # At most; a continuation that ends early takes fewer.
            rest = sum(max_new_tokens[i] - len(logprobs[i]) for i in active)
            scores = self._score(
                [Row(ids[i], [len(ids[i]) - 1], [0]) for i in active],
                count=(before, before + rest, "tokens"),
            )
            for i, score in zip(active, scores, strict=True):
                if not np.isfinite(score.top_logprob[0]):
                    raise ModelError(f"{self.name}: not a finite score for {_excerpt(prompts[i])}.")
                ids[i] = [*ids[i], int(score.top_id[0])]
                logprobs[i].append(float(score.top_logprob[0]))
            active = [
                i for i in active if len(logprobs[i]) < max_new_tokens[i] and ids[i][-1] not in ends
            ]
        return [
            Generation(
                self.tokenizer.decode(row[start:], clean_up_tokenization_spaces=False),
                np.array(values, dtype=np.float64),
            )
            for row, start, values in zip(ids, starts, logprobs, strict=True)
        ]

    # --- how -----------------------------------------------------------------------------------

    def _encode(self, texts: list[str]) -> list[list[int]]:
        """Return token ids without the end token that some tokenizers put after every text."""
        if not texts:
            return []
        ids = self.tokenizer(texts, verbose=False)["input_ids"]
        ids = [list(row)[: len(row) - self._closing] for row in ids]
        for text, row in zip(texts, ids, strict=True):
            if not row:
                raise ModelError(
                    f"{self.name}: the prompt {_excerpt(text)} has no tokens; a model needs at "
                    "least one to predict from."
                )
        return ids

    def _end_tokens(self) -> frozenset[int]:
        configured = getattr(self.model.generation_config, "eos_token_id", None)
        if configured is None:
            configured = self.tokenizer.eos_token_id
        if configured is None:
            return frozenset()
        return frozenset([configured] if isinstance(configured, int) else configured)

    def _check_length(self, n: int, prompt: str) -> None:
        if n > self.max_tokens:
            raise ModelError(
                f"{self.name}: the prompt {_excerpt(prompt)} takes {n:,} tokens, more than the "
                f"{self.max_tokens:,} this model can read; use fewer shots or shorter items."
            )

    def _windows(self, ids: NDArray[np.int64], target: NDArray[np.int64]) -> Iterator[Row]:
        """Yield rows that cover the targets, each as short as they allow."""
        size = int(min(self.max_tokens, 1 << 30))
        stride = max(1, size // 2)
        done = 0
        start = 0
        while done < len(target):
            end = start + size
            here = target[done:][target[done:] <= end]
            if len(here):
                last = int(here[-1])
                yield Row(
                    ids[start:last].tolist(),
                    (here - 1 - start).tolist(),
                    ids[here].tolist(),
                )
                done += len(here)
            start += stride

    def _next_token_scores(
        self, text: str, spans: NDArray[np.int64], ids: NDArray[np.int64], parts: list[RowScores]
    ) -> NextTokenScores:
        def joined(name: str) -> NDArray[Any]:
            arrays = [getattr(part, name) for part in parts]
            return np.concatenate(arrays) if arrays else np.empty(0)

        top, logprob = joined("top_logprob"), joined("target_logprob")
        if not (np.isfinite(top).all() and np.isfinite(logprob).all()):
            raise ModelError(f"{self.name}: not a finite score in {_excerpt(text)}.")
        top_ids = joined("top_id")
        return NextTokenScores(
            spans=spans,
            top_probability=np.exp(np.minimum(top, 0.0)),
            hit=top_ids == ids,
            target_logprob=logprob,
            token_ids=ids,
            top_text=[self._token_text(int(i)) for i in top_ids],
        )

    def _token_text(self, token: int) -> str:
        """Return a token as text; each is decoded once."""
        if token not in self._token_texts:
            self._token_texts[token] = self.tokenizer.decode(
                [token], clean_up_tokenization_spaces=False
            )
        return self._token_texts[token]

    def _score(
        self, rows: list[Row], *, count: tuple[int, int, str] | None = None
    ) -> list[RowScores]:
        """Score all rows, longest first, in batches of at most ``batch_tokens`` padded tokens.

        Args:
            rows: what to score.
            count: (done before, total, unit) of the work that the rows are a part of; by default
                they are all of it.
        """
        for row in rows:
            if max(*row.ids, *row.targets) >= self._vocabulary:
                raise ModelError(
                    f"{self.name}: the tokenizer gives token {max(*row.ids, *row.targets)}, but "
                    f"the model knows {self._vocabulary:,} tokens; use the tokenizer it was "
                    "trained with."
                )
        out: list[RowScores | None] = [None] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i].ids))
        before, total, unit = count or (0, len(rows), "rows")
        # Long rows come first and take longer: how much is left is counted in tokens.
        tokens = left = sum(len(row.ids) for row in rows)
        with torch.inference_mode():
            while order:
                share = None if count else 1 - left / tokens
                PROGRESS.report(before + len(rows) - len(order), total, unit, share)
                longest = len(rows[order[0]].ids)
                size = max(1, self.settings.batch_tokens // max(1, longest))
                batch, order = order[:size], order[size:]
                left -= sum(len(rows[i].ids) for i in batch)
                scores = self._score_batch([rows[i] for i in batch])
                for i, score in zip(batch, scores, strict=True):
                    out[i] = score
        return [score for score in out if score is not None]

    def _score_batch(self, rows: list[Row]) -> list[RowScores]:
        width = max(len(row.ids) for row in rows)
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row.ids)] = torch.tensor(row.ids, dtype=torch.long)
        first = min((min(row.positions) for row in rows if row.positions), default=0)
        logits = self._forward(ids.to(self.device), first)
        count = [len(row.positions) for row in rows]
        which = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(count))
        at = torch.tensor([p - first for row in rows for p in row.positions], dtype=torch.long)
        target = torch.tensor([t for row in rows for t in row.targets], dtype=torch.long)
        # A position read for several options is reduced over the vocabulary once.
        cell, inverse = torch.unique(which * width + at, return_inverse=True)
        top, best, norm = _reduce(logits, cell // width, cell % width)
        inverse = inverse.to(top.device)
        picked = logits[which.to(logits.device), at.to(logits.device), target.to(logits.device)]
        target_logprob = (picked.float() - norm[inverse]).double().cpu().numpy()
        top_logprob = (top - norm)[inverse].double().cpu().numpy()
        top_id = best[inverse].cpu().numpy()
        ends = np.cumsum(count)
        return [
            RowScores(target_logprob[a:b], top_logprob[a:b], top_id[a:b])
            for a, b in zip(ends - count, ends, strict=True)
        ]

    def _forward(self, ids: torch.Tensor, first: int) -> torch.Tensor:
        """Return logits (b, t - first, v) from position ``first`` on."""
        if self._keeps_logits:
            keep = torch.arange(first, ids.shape[1], device=ids.device)
            logits: torch.Tensor = self.model(ids, use_cache=False, logits_to_keep=keep).logits
            return logits
        whole: torch.Tensor = self.model(ids, use_cache=False).logits
        return whole[:, -ids.shape[1] :][:, first:]


def _reduce(
    logits: torch.Tensor, row: torch.Tensor, at: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the largest logit, its token and the log-sum-exp of each (row, position), float32."""
    tops, bests, norms = [], [], []
    for a in range(0, len(row), ROWS_AT_ONCE):
        index = (
            row[a : a + ROWS_AT_ONCE].to(logits.device),
            at[a : a + ROWS_AT_ONCE].to(logits.device),
        )
        block = logits[index].float()
        top, best = block.max(dim=-1)
        tops.append(top)
        bests.append(best)
        norms.append(block.logsumexp(dim=-1))
    if not tops:
        empty = torch.empty(0, device=logits.device)
        return empty, empty.long(), empty
    return torch.cat(tops), torch.cat(bests), torch.cat(norms)


def _check_boundary(head: list[int], ids: list[int], prompt: str, option: str) -> None:
    if ids[: len(head)] != head:
        raise TokenBoundaryError(
            f"the tokenizer merges the end of the prompt {_excerpt(prompt, tail=True)} with the "
            f"option {option!r}, so their probabilities cannot be told apart; end the prompt or "
            "begin the option elsewhere."
        )
    if len(ids) == len(head):
        raise ModelError(f"the option {option!r} adds no token to {_excerpt(prompt, tail=True)}.")


def _excerpt(text: str, *, tail: bool = False, size: int = 40) -> str:
    if len(text) <= size:
        return repr(text)
    return f"...{text[-size:]!r}" if tail else f"{text[:size]!r}..."


# --- loading -------------------------------------------------------------------------------------


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep progress bars and library chatter out of a test report; errors still come through."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    count = {
        "cuda": torch.cuda.device_count,
        "mps": lambda: int(torch.backends.mps.is_available()),
        "cpu": lambda: 1,
    }[kind]()
    if int(index or 0) >= count:
        raise ModelError(f"device {name!r} is not available here; use cpu or auto.")
    return torch.device(name)


def _max_tokens(config: Any) -> float:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length"):
        value = getattr(text, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return math.inf


def _vocabulary(model: Any) -> float:
    """Count the tokens the model has embeddings for."""
    try:
        return int(model.get_input_embeddings().num_embeddings)
    except (AttributeError, NotImplementedError):
        return math.inf


def _closing(tokenizer: Any) -> int:
    """Count the tokens it puts after every text."""
    mask = tokenizer("a", return_special_tokens_mask=True, verbose=False)["special_tokens_mask"]
    return 0 if all(mask) else mask[::-1].index(0)


def _virtual_tokens(model: Any) -> int:
    """Count the tokens that a prompt-learning adapter puts before every text."""
    config = getattr(model, "active_peft_config", None)
    if not getattr(config, "is_prompt_learning", False):
        return 0
    return int(getattr(config, "num_virtual_tokens", 0))


def _load(spec: ModelSpec, settings: LoadSettings, device: torch.device) -> Any:
    base = adapter_base(spec)
    if base is None:
        return _load_whole(spec, settings, device)
    require("peft", "peft")
    import peft

    if not (Path(spec.location) / "adapter_model.safetensors").is_file():
        if settings.safetensors_only:
            _refuse_pickles(spec)
        if not (Path(spec.location) / "adapter_model.bin").is_file():
            raise ModelError(
                f"{spec.location!r} holds adapter_config.json and no adapter_model.safetensors; "
                "save the adapter again with save_pretrained."
            )
    model = _load_whole(base, settings, device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = _explained(
            spec, lambda: peft.PeftModel.from_pretrained(model, spec.location, is_trainable=False)
        )
    for warning in caught:
        if "missing adapter keys" in str(warning.message):
            raise ModelError(
                f"{spec.name}: the adapter in {spec.location!r} does not hold all the weights its "
                "configuration names; save it again with save_pretrained."
            )
    return _placed(spec, model, settings, device)


def _placed(spec: ModelSpec, model: Any, settings: LoadSettings, device: torch.device) -> Any:
    """Move a model to its device, unless its arguments have placed it already."""
    if {"device_map", "quantization_config"} & set(settings.arguments):
        return model
    return _explained(spec, lambda: model.to(device))


def _load_whole(spec: ModelSpec, settings: LoadSettings, device: torch.device) -> Any:
    if spec.local and not (Path(spec.location) / "config.json").is_file():
        raise ModelError(
            f"{spec.location!r} holds no config.json and no adapter_config.json, so it is no "
            "checkpoint; pass the directory that save_pretrained wrote."
        )
    common = {"revision": spec.revision, "trust_remote_code": settings.trust_remote_code}
    arguments: dict[str, Any] = {
        "dtype": settings.dtype if settings.dtype == "auto" else getattr(torch, settings.dtype),
        **({"use_safetensors": True} if settings.safetensors_only else {}),
        **settings.arguments,
    }
    config = _explained(
        spec, lambda: transformers.AutoConfig.from_pretrained(spec.location, **common)
    )
    kinds = getattr(config, "architectures", None) or []
    if getattr(config, "is_encoder_decoder", False):
        kinds = kinds or [type(config).__name__]
        raise ModelError(
            f"{spec.name}: is a {kinds[0]}, an encoder with a decoder and no causal language "
            "model; it predicts no next tokens of a text."
        )
    if kinds and not any(_CAUSAL.search(kind) for kind in kinds):
        raise ModelError(
            f"{spec.name}: is a {kinds[0]}, no causal language model; it predicts no next tokens."
        )
    model, report = _explained(
        spec,
        lambda: transformers.AutoModelForCausalLM.from_pretrained(
            spec.location, output_loading_info=True, **common, **arguments
        ),
    )
    missing = sorted(report.get("missing_keys") or ())
    if missing:
        raise ModelError(
            f"{spec.name}: the checkpoint lacks {len(missing)} weights (first: {missing[0]}), "
            "which would be random numbers; save the whole model with save_pretrained."
        )
    return _placed(spec, model, settings, device)


def _load_tokenizer(spec: ModelSpec, settings: LoadSettings) -> Any:
    source: ModelSpec = spec
    if settings.tokenizer is not None:
        local = Path(settings.tokenizer).is_dir()
        source = ModelSpec(settings.tokenizer, None, local=local, name=spec.name)
    elif spec.local and not any(
        (Path(spec.location) / file).is_file()
        for file in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
    ):
        base = adapter_base(spec)
        if base is None:
            raise ModelError(
                f"{spec.location!r} holds no tokenizer; save one beside the model, or name one: "
                "model: {tokenizer: ...} in calibration.yaml."
            )
        source = base
    return _explained(
        source,
        lambda: transformers.AutoTokenizer.from_pretrained(
            source.location,
            revision=source.revision,
            trust_remote_code=settings.trust_remote_code,
            **settings.tokenizer_arguments,
        ),
    )


def _explained(spec: ModelSpec, load: Callable[[], Any]) -> Any:
    """Run a loading step; say in one sentence what stopped it."""
    try:
        return load()
    except Exception as problem:
        # Whatever the libraries raise: a truncated file, a configuration of the wrong type, ...
        first = " ".join(str(problem).split())
        if isinstance(problem, KeyError):
            first = f"the key {first} is missing"
        if "safetensors" in first and "use_safetensors" not in first and spec.local:
            _refuse_pickles(spec, problem)
        if "trust_remote_code" in first and isinstance(problem, ValueError):
            raise ModelError(
                f"{spec.name}: needs Python code that comes with the checkpoint, which is run only "
                "where calibration.yaml says model: {trust_remote_code: true}."
            ) from problem
        where, aside = ("directory", "") if spec.local else ("hub id", " (no such directory here)")
        raise ModelError(
            f"cannot load {where} {spec.text!r}{aside}: {first[:300].rstrip('.')}."
        ) from problem


def _refuse_pickles(spec: ModelSpec, problem: Exception | None = None) -> None:
    """Raise ModelError where the weights are there, but pickled."""
    folder = Path(spec.location)
    pickled = sorted(
        p.name for stem in ("pytorch_model", "adapter_model") for p in folder.glob(f"{stem}*.bin")
    )
    if pickled:
        raise ModelError(
            f"{spec.name}: holds {pickled[0]} and no safetensors; pickled weights can run code, so "
            "they are read only where calibration.yaml says model: {safetensors_only: false}."
        ) from problem
