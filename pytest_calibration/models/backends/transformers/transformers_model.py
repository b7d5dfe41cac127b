"""A Hugging Face causal language model in memory.

Texts become rows of tokens here, and scores of rows become answers. Scores do not depend on what is
scored together: each token sees its own row only, and the soft-max is computed in float32.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import chain
from typing import Any, Final

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from pytest_calibration.errors import CalibrationError, ModelError, TokenBoundaryError
from pytest_calibration.models.backends import ModelSpec
from pytest_calibration.models.backends.transformers.chat import rendered
from pytest_calibration.models.backends.transformers.harness_requests import (
    encoded,
    likelihoods,
    own_continuations,
)
from pytest_calibration.models.backends.transformers.kinds import check_class
from pytest_calibration.models.backends.transformers.layers import layers
from pytest_calibration.models.backends.transformers.loading_settings import TransformersSettings
from pytest_calibration.models.backends.transformers.reading import (
    device_of,
    load_tokenizer,
    load_weights,
    quiet,
)
from pytest_calibration.models.backends.transformers.rows import Row, RowScores
from pytest_calibration.models.backends.transformers.scorer import Scorer
from pytest_calibration.models.digests import Digest
from pytest_calibration.models.protocols import (
    Choose,
    Generation,
    Likelihood,
    Message,
    NextTokenScores,
)
from pytest_calibration.text.visible import has_half_pair

# Where a prompt may be cut, to tokenise both parts separately: between a word and the space after
# it, where tokenizers split texts into words. It is checked each time.
_CUT: Final = re.compile(r"(?<=[^\W_])(?=\s)")
TAIL: Final = (40, 400)
"""Fewest and most characters between the cut and the end of a prompt."""
# What makes a model return named outputs, and no more of them than are read.
_PLAIN_OUTPUT: Final = {
    "return_dict": True,
    "output_hidden_states": False,
    "output_router_logits": False,
}
# Integer type by number of bytes.
_BITS: Final = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Switch a model to evaluation and plain output for a while, and each part back afterwards."""
    training = [module for module in model.modules() if module.training]
    configs = {id(c): c for c in (getattr(m, "config", None) for m in model.modules())}
    forms = [
        (config, name, getattr(config, name))
        for config in configs.values()
        for name, plain in _PLAIN_OUTPUT.items()
        if getattr(config, name, plain) is not plain
    ]
    for module in training:
        module.training = False
    for config, name, _ in forms:
        setattr(config, name, _PLAIN_OUTPUT[name])
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for config, name, before in forms:
            setattr(config, name, before)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Raise what a model's own code raises as ModelError, in one sentence."""
    try:
        yield
    except CalibrationError:
        raise
    except Exception as problem:
        first = " ".join(str(problem).split())[:200].rstrip(".")
        raise ModelError(
            f"{name}: the model's own code fails at scoring ({type(problem).__name__}: {first})."
        ) from problem


class TransformersModel:
    """A causal language model in memory, with its tokenizer.

    Made by :meth:`load` or :meth:`of`.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        *,
        device: torch.device,
        batch_tokens: int | None = None,
        revision: str | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.device = device
        self.revision = revision
        self.checkpoint_notes: tuple[str, ...] = ()
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        virtual = _virtual_tokens(model)
        self.max_tokens = _max_tokens(base) - virtual
        with quiet(), evaluating(model), _explained(name):
            self._scorer = Scorer(
                model,
                base,
                name=name,
                device=device,
                budget=batch_tokens,
                longest=self.max_tokens,
                virtual=virtual,
            )
        self._opening, self._closing = _added_tokens(tokenizer)
        self._opening_text = _text_of_opening(tokenizer, self._opening)
        self._token_texts: dict[int, str] = {}

    @classmethod
    def load(cls, spec: ModelSpec, settings: TransformersSettings) -> TransformersModel:
        """Load a checkpoint.

        Raises:
            ModelError: it is not there, is no causal language model, lacks weights or a tokenizer,
                or would need something that was not allowed.
        """
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        device = device_of(settings.device)
        notes: list[str] = []
        with quiet():
            stack = layers(spec, settings)
            model = load_weights(stack, settings, device, notes)
            tokenizer = load_tokenizer(stack, settings)
            model.eval()
        made = cls(
            model,
            tokenizer,
            spec.name,
            device=device,
            batch_tokens=settings.batch_tokens,
            revision=spec.revision,
        )
        made.checkpoint_notes = tuple(notes)
        made.notes[:0] = notes
        return made

    @classmethod
    def of(
        cls, model: Any, tokenizer: Any, *, name: str = "model", batch_tokens: int | None = None
    ) -> TransformersModel:
        """Take a model that is already in memory, such as one in training.

        It is scored with the weights it has then, without dropout, and keeps its mode.

        Args:
            model: a causal language model of transformers, or a peft model around one.
            tokenizer: its tokenizer.
            name: what reports call it.
            batch_tokens: tokens per forward pass; None for what suits the device.

        Raises:
            ModelError: it is no causal language model.
        """
        check_class(name, model.get_base_model() if hasattr(model, "get_base_model") else model)
        device = next(model.parameters()).device
        return cls(model, tokenizer, name, device=device, batch_tokens=batch_tokens)

    def close(self) -> None:
        """Free the weights."""
        del self.model, self._scorer
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def notes(self) -> list[str]:
        """Sentences about how this model is scored that a user should know; each once."""
        return self._scorer.notes

    @property
    def fingerprint(self) -> str:
        """Digest of configuration, tokenizer and the weights as they are now."""
        template = str(getattr(self.tokenizer, "chat_template", None))
        config = self.model.config.to_json_string()
        digest = Digest(config, self._tokenizer_digest, template, size=16)
        for name, weight in sorted(self.model.state_dict().items()):
            # Sums of whole numbers do not depend on their order, and overflow the same everywhere.
            bits = weight.detach().view(_BITS[weight.element_size()])
            digest.add([name, str(weight.dtype), list(weight.shape), int(bits.sum())])
        return digest.text()

    @cached_property
    def _tokenizer_digest(self) -> str:
        fast = getattr(self.tokenizer, "backend_tokenizer", None)
        vocabulary = self.tokenizer.get_vocab() if fast is None else fast.to_str()
        return Digest(vocabulary, size=16).text()

    @property
    def description(self) -> Mapping[str, str]:
        """Settings and versions that describe how it scores."""
        first = next(self.model.parameters())
        out = {
            "dtype": str(first.dtype).removeprefix("torch."),
            "device": self.device.type,
            "torch": torch.__version__.partition("+")[0],
            "transformers": transformers.__version__,
        }
        if self.revision:
            out["revision"] = self.revision
        return out

    # --- what probes call --------------------------------------------------------------------

    def render_chat(
        self, chats: Sequence[Sequence[Message]], variables: Mapping[str, object]
    ) -> list[str]:
        """See :class:`~pytest_calibration.models.protocols.ChatModel`."""
        with quiet():
            return [rendered(self.tokenizer, self.name, chat, variables) for chat in chats]

    def option_logprobs(
        self,
        prompts: Sequence[str],
        options: Sequence[Sequence[str]],
        *,
        add_special_tokens: bool = True,
    ) -> list[NDArray[np.float64]]:
        """See :class:`~pytest_calibration.models.protocols.LanguageModel`.

        A prompt and its single-token options are one row; each longer option is a row of its own.
        """
        _check_texts(self.name, chain(prompts, *options))
        prompt_ids, option_ids = self._encode_options(prompts, options, add_special_tokens)
        rows: list[Row] = []
        # For each (prompt, option): the row, and first and one-past-last of its positions.
        places: list[list[tuple[int, int, int]]] = []
        for i, (head, texts, tokens) in enumerate(
            zip(prompt_ids, options, option_ids, strict=True)
        ):
            contexts: dict[tuple[int, ...], int] = {}
            slices: list[tuple[int, int, int]] = []
            for text, ids in zip(texts, tokens, strict=True):
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
                slices.append((contexts[context], first, len(row.positions)))
            places.append(slices)
        scores = self._score(rows)
        out = [
            np.array([scores[r].target_logprob[a:b].sum() for r, a, b in slices], dtype=np.float64)
            for slices in places
        ]
        for prompt, values in zip(prompts, out, strict=True):
            if not np.isfinite(values).all():
                raise ModelError(f"{self.name}: not a finite score for {_excerpt(prompt)}.")
        return out

    def next_token(
        self,
        texts: Sequence[str],
        *,
        choose: Choose | None = None,
        add_special_tokens: bool = True,
    ) -> list[NextTokenScores]:
        """See :class:`~pytest_calibration.models.protocols.LanguageModel`.

        A text longer than the model's context is read in windows that overlap by half, so every
        token past the first window has at least half a context before it. Each window begins with
        the tokens that the tokenizer puts before a text. Scores come in the order of the text.

        Raises:
            ModelError: the tokenizer gives no character offsets, or a score is not finite.
        """
        if not texts:
            return []
        _check_texts(self.name, texts)
        if not getattr(self.tokenizer, "is_fast", False):
            raise ModelError(
                f"{self.name}: its tokenizer gives no character offsets, which next-token probes "
                "need; use a fast tokenizer (model: {tokenizer: ...} in calibration.yaml)."
            )
        bare = [self._without_opening(text) if add_special_tokens else text for text in texts]
        encoded = self.tokenizer(
            bare,
            add_special_tokens=add_special_tokens,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            verbose=False,
        )
        rows: list[Row] = []
        owner: list[int] = []
        wanted: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        for i in range(len(texts)):
            ids = np.array(encoded["input_ids"][i], dtype=np.int64)
            spans = np.array(encoded["offset_mapping"][i], dtype=np.int64).reshape(-1, 2)
            spans += len(texts[i]) - len(bare[i])
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
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: Sequence[int],
        add_special_tokens: bool = True,
    ) -> list[Generation]:
        """Continue each prompt greedily; stops at the end-of-text token (which is counted).

        Raises:
            ModelError: a prompt does not fit, or a score is not finite.
        """
        _check_texts(self.name, prompts)
        ids = self._encode(list(prompts), add_special_tokens)
        starts = [len(row) for row in ids]
        logprobs: list[list[float]] = [[] for _ in ids]
        ends = self._end_tokens()
        active = [i for i, most in enumerate(max_new_tokens) if most > 0]
        while active:
            for i in active:
                self._check_length(len(ids[i]), prompts[i])
            before = sum(map(len, logprobs))
            # An upper bound: a continuation may end early.
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

    def loglikelihood(
        self, requests: Sequence[tuple[str, str]], *, own: bool = False
    ) -> list[Likelihood]:
        """See :class:`~pytest_calibration.models.protocols.HarnessModel`."""
        _check_texts(self.name, chain.from_iterable(requests))
        tokens = encoded(self.tokenizer, self.name, requests)
        for (context, _), (head, rest) in zip(requests, tokens, strict=True):
            self._check_length(len(head) + len(rest) - 1, context)
        found, parts = likelihoods(requests, tokens, self._score)
        if own:
            found = [
                replace(
                    one,
                    own_logprob=logprob,
                    own_text=self.tokenizer.decode(ids, clean_up_tokenization_spaces=False),
                )
                for one, (ids, logprob) in zip(
                    found, own_continuations(tokens, parts, self._score), strict=True
                )
            ]
        for (context, _), one in zip(requests, found, strict=True):
            if not math.isfinite(one.logprob) or not math.isfinite(one.own_logprob or 0.0):
                raise ModelError(f"{self.name}: not a finite score for {_excerpt(context)}.")
        return found

    # --- how -----------------------------------------------------------------------------------

    def _score(self, rows: list[Row], count: tuple[int, int, str] | None = None) -> list[RowScores]:
        with evaluating(self.model), _explained(self.name):
            return self._scorer.score(rows, count=count)

    def _encode_options(
        self,
        prompts: Sequence[str],
        options: Sequence[Sequence[str]],
        add_special_tokens: bool = True,
    ) -> tuple[list[list[int]], list[list[list[int]]]]:
        """Return the tokens of each prompt, and of each prompt with each of its options.

        A long prompt is tokenised once, with its first option; for every other option only its
        last few words are tokenised again. The first option also shows whether the cut changes a
        token; if it does, prompt and options are tokenised whole.
        """
        cuts = [_cut(p) if texts else 0 for p, texts in zip(prompts, options, strict=True)]
        firsts = self._encode(
            [p + texts[0] for p, texts, cut in zip(prompts, options, cuts, strict=True) if cut],
            add_special_tokens,
        )
        ends = [p[cut:] for p, cut in zip(prompts, cuts, strict=True) if cut]
        tails = self._encode_bare(
            [
                end + text
                for end, texts in zip(ends, _of_cut(options, cuts), strict=True)
                for text in ("", *texts)
            ]
        )
        prompt_ids: list[list[int]] = [[] for _ in prompts]
        option_ids: list[list[list[int]]] = [[] for _ in prompts]
        rest: list[int] = []
        first, tail = iter(firsts), iter(tails)
        for i, (texts, cut) in enumerate(zip(options, cuts, strict=True)):
            if cut:
                whole = next(first)
                end, *ids = [next(tail) for _ in range(len(texts) + 1)]
                if ids[0] and whole[-len(ids[0]) :] == ids[0]:
                    begin = whole[: -len(ids[0])]
                    prompt_ids[i], option_ids[i] = begin + end, [begin + one for one in ids]
                    continue
            rest.append(i)
        heads = self._encode([prompts[i] for i in rest], add_special_tokens)
        for i, head in zip(rest, heads, strict=True):
            prompt_ids[i] = head
        wholes = [prompts[i] + text for i in rest for text in options[i]]
        each = iter(self._encode(wholes, add_special_tokens))
        for i in rest:
            option_ids[i] = [next(each) for _ in options[i]]
        return prompt_ids, option_ids

    def _encode_bare(self, texts: list[str]) -> list[list[int]]:
        """Return token ids without those that the tokenizer adds around a text."""
        if not texts:
            return []
        encoded = self.tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        return [list(row) for row in encoded["input_ids"]]

    def _encode(self, texts: list[str], add_special_tokens: bool = True) -> list[list[int]]:
        """Return token ids without the end token that some tokenizers add to every text."""
        if not texts:
            return []
        if add_special_tokens:
            bare = [self._without_opening(text) for text in texts]
            whole = self.tokenizer(bare, return_attention_mask=False, verbose=False)["input_ids"]
            ids = [list(row)[: len(row) - self._closing] for row in whole]
        else:
            ids = self._encode_bare(texts)
        for text, row in zip(texts, ids, strict=True):
            if not row:
                raise ModelError(
                    f"{self.name}: the prompt {_excerpt(text)} has no tokens; a model needs at "
                    "least one to predict from."
                )
        return ids

    def _without_opening(self, text: str) -> str:
        """Return a text without what the tokenizer puts before it: a model reads one BOS."""
        while self._opening_text and text.startswith(self._opening_text):
            text = text.removeprefix(self._opening_text)
        return text

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
        opening = self._opening
        if size - len(opening) < stride or ids[: len(opening)].tolist() != opening:
            opening = []
        done = 0
        start = 0
        while done < len(target):
            # The first window holds the opening already.
            before = opening if start else []
            here = target[done:][target[done:] <= start + size - len(before)]
            if len(here):
                last = int(here[-1])
                yield Row(
                    [*before, *ids[start:last].tolist()],
                    (here - 1 - start + len(before)).tolist(),
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


def _check_texts(name: str, texts: Iterable[str]) -> None:
    """Raise ModelError for a text that no tokenizer takes."""
    for text in texts:
        if has_half_pair(text):
            raise ModelError(
                f"{name}: the text {_excerpt(text)} holds half a surrogate pair (an emoji cut in "
                "two?), which is no character; cut texts between characters."
            )


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


def _cut(prompt: str) -> int:
    """Return where a prompt is cut; 0 where it is too short or has no such place."""
    least, most = TAIL
    if len(prompt) < 2 * least:
        return 0
    start = max(1, len(prompt) - most)
    found = [match.start() for match in _CUT.finditer(prompt, start, len(prompt) - least)]
    return found[-1] if found else 0


def _of_cut(options: Sequence[Sequence[str]], cuts: Sequence[int]) -> list[Sequence[str]]:
    return [texts for texts, cut in zip(options, cuts, strict=True) if cut]


def _max_tokens(model: Any) -> float:
    """Return how many tokens a model has positions for."""
    config = model.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    for name in (
        "max_position_embeddings",
        "n_positions",
        "max_sequence_length",
        "max_target_positions",
    ):
        value = getattr(text, name, None)
        if isinstance(value, int) and value > 0:
            return value - _positions_of_padding(model, value)
    return math.inf


def _positions_of_padding(model: torch.nn.Module, size: int) -> int:
    """Return how many of the positions are kept for padding: tokens begin after it.

    RoBERTa and its like count 514 positions, the first two for padding, and read 512 tokens.
    """
    tables = (m for name, m in model.named_modules() if "position" in name.rpartition(".")[2])
    return max(
        (
            table.padding_idx + 1
            for table in tables
            if isinstance(table, torch.nn.Embedding)
            and table.num_embeddings == size
            and table.padding_idx is not None
        ),
        default=0,
    )


def _added_tokens(tokenizer: Any) -> tuple[list[int], int]:
    """Return the tokens that it puts before every text, and how many after."""
    whole, bare = (
        list(tokenizer("a", add_special_tokens=added, verbose=False)["input_ids"])
        for added in (True, False)
    )
    for first in range(len(whole) - len(bare) + 1):
        if bare and whole[first : first + len(bare)] == bare:
            return whole[:first], len(whole) - first - len(bare)
    return [], 0


def _text_of_opening(tokenizer: Any, opening: list[int]) -> str:
    """Return the text that is read as these tokens; empty where there is none."""
    text = "".join(map(str, tokenizer.convert_ids_to_tokens(opening)))
    read = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] if text else []
    return text if list(read) == opening else ""


def _virtual_tokens(model: Any) -> int:
    """Return how many tokens a prompt-learning adapter adds before every text."""
    config = getattr(model, "active_peft_config", None)
    if not getattr(config, "is_prompt_learning", False):
        return 0
    return int(getattr(config, "num_virtual_tokens", 0))
