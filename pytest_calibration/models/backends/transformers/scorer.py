"""Rows to scores within a budget of tokens; chooses a path, and goes on when memory runs out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, nullcontext
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends.transformers.attention import UnknownAttentionError
from pytest_calibration.models.backends.transformers.decoding import Decoder, batches
from pytest_calibration.models.backends.transformers.onednn import products_of
from pytest_calibration.models.backends.transformers.plain_path import PlainPath
from pytest_calibration.models.backends.transformers.shared_path import SharedPath
from pytest_calibration.models.backends.transformers.vocabulary import Vocabulary
from pytest_calibration.models.causal.continuation import Continuation
from pytest_calibration.models.causal.rows import Row, RowScores, ScoreTable
from pytest_calibration.progress import PROGRESS

# Tokens of a pass: on a CPU few enough for its cache, on a GPU enough to keep it busy.
BUDGET: Final = {"cpu": 1024, "cuda": 16384, "mps": 4096}
MIN_BUDGET: Final = 16
# Lengths of a prefix, and of what follows it in three rows, that the paths are compared on.
TRIAL_TOKENS: Final = (14, 1, 30, 20)
_OUT_OF_MEMORY: Final = ("out of memory", "not enough memory", "can't allocate memory")


class Scorer:
    """Scores rows of tokens with one model.

    Args:
        model: a causal language model, or one with an adapter around it.
        base: the causal language model in it.
        name: what errors call it.
        device: where it is.
        budget: tokens of a pass; None for what suits the device.
        longest: tokens that the model can read.
        virtual: tokens that an adapter puts before every text.
        temperature: that the model is served at.

    Attributes:
        notes: sentences about how the model is scored that a user should know.
        budget: tokens of a pass.
    """

    def __init__(
        self,
        model: Any,
        base: Any,
        *,
        name: str,
        device: torch.device,
        budget: int | None,
        longest: float,
        virtual: int,
        temperature: float = 1.0,
    ) -> None:
        self.name = name
        self.notes: list[str] = []
        self.budget = BUDGET.get(device.type, BUDGET["cpu"]) if budget is None else budget
        self._device = device
        self._base = base
        self._size = _vocabulary_size(base)
        self._virtual = virtual
        # Whether keys and values are kept; None until something is to be continued.
        self._keeps: bool | None = None
        # Longer texts share no prefix with shorter ones, and are in no pass with them.
        self._fixed_length = _fixed_rope_length(base.config.get_text_config())
        with torch.inference_mode():
            ids = self._trial_tokens(MIN_BUDGET)
            # The adapter inserts virtual tokens, so the model has to be called through it.
            self._vocabulary = Vocabulary(
                model if virtual else base, torch.tensor(ids, device=device), split=not virtual
            )
            self._plain = PlainPath(self._vocabulary, device)
            self._path: PlainPath | SharedPath = self._plain
            self._check_causal()
            reason = ""
            if virtual:
                reason = "an adapter puts virtual tokens before every text"
            elif longest < TRIAL_TOKENS[0] + max(TRIAL_TOKENS[1:]):
                reason = f"the model reads only {longest:,} tokens"
            self._choose_path(base, reason)
        # Only now: which path is right does not depend on it.
        self._vocabulary.temperature = temperature

    # --- what is scored ----------------------------------------------------------------------

    def score(
        self,
        rows: list[Row],
        *,
        count: tuple[int, int, str] | None = None,
        temperature: float | None = None,
    ) -> list[RowScores]:
        """Score all rows.

        Args:
            rows: what to score.
            count: (done before, total, unit) of the work that the rows are a part of; by default
                they are all of it.
            temperature: of the distribution that tokens are drawn from, as the rows' ``draws``
                say; None to take the most likely.

        Raises:
            ModelError: a token the model does not know, or too little memory for any pass.
        """
        self._check_tokens([*row.ids, *row.targets] for row in rows)
        table = ScoreTable(rows, temperature)
        while missing := table.missing():
            short = [i for i in missing if len(rows[i].ids) <= self._fixed_length]
            path = self._path if short else self._plain
            try:
                with torch.inference_mode():
                    self._run(path, rows, table, short or missing, count)
            except UnknownAttentionError as problem:
                # The layers' attention is another than when the paths were compared.
                self._use_plain_path(str(problem))
            except (MemoryError, RuntimeError) as problem:
                if not is_memory(problem):
                    raise
                self._halve(problem)
        return table.scores()

    def _check_tokens(self, rows: Iterable[list[int]]) -> None:
        """Raise ModelError for a token the model does not know."""
        highest = max(map(max, filter(None, rows)), default=0)
        if highest >= self._size:
            raise ModelError(
                f"{self.name}: the tokenizer gives token {highest}, but "
                f"the model knows {self._size:,} tokens; use the tokenizer it was trained with."
            )

    def grow(
        self,
        rows: Sequence[Continuation],
        *,
        temperature: float | None = None,
        check: Callable[[Sequence[Continuation]], None],
    ) -> None:
        """Continue rows until none is active.

        Args:
            rows: what to continue.
            temperature: of the distribution that tokens are drawn from; None for none.
            check: is given the rows of each pass before it; what it raises ends the work.

        Raises:
            ModelError: a token the model does not know, or too little memory for any pass.
        """
        self._check_tokens(row.ids for row in rows)
        longest = max((len(row.ids) + row.most for row in rows if row.active), default=0)
        if longest > self._fixed_length or not self._keeps_values():
            self._grow_anew(rows, temperature, check)
            return
        decoder = Decoder(self._base, self._vocabulary, self._device)
        while any(row.active for row in rows):
            try:
                with torch.inference_mode(), products_of(self._base):
                    for batch in batches(rows, self.budget):
                        inside = {*map(id, batch)}
                        rest = _count([row for row in rows if id(row) not in inside])
                        for active in decoder.run(batch, temperature):
                            check(active)
                            done, total = np.add(rest, _count(batch)).tolist()
                            PROGRESS.report(done, total, "tokens")
            except (MemoryError, RuntimeError) as problem:
                if not is_memory(problem):
                    raise
                # What was written so far stands; it is read again.
                self._halve(problem)

    def _grow_anew(
        self,
        rows: Sequence[Continuation],
        temperature: float | None,
        check: Callable[[Sequence[Continuation]], None],
    ) -> None:
        """Continue rows; each pass reads them from their first token."""
        while active := [row for row in rows if row.active]:
            check(active)
            drawn = temperature is not None
            scores = self.score(
                [Row(r.ids, [len(r.ids) - 1], [0], [r.draw] if drawn else []) for r in active],
                count=(*_count(rows), "tokens"),
                temperature=temperature,
            )
            for row, score in zip(active, scores, strict=True):
                row.take(int(score.top_id[0]), float(score.top_logprob[0]))

    def _run(
        self,
        path: PlainPath | SharedPath,
        rows: list[Row],
        table: ScoreTable,
        indices: list[int],
        count: tuple[int, int, str] | None,
    ) -> None:
        before, total, unit = count or (0, len(rows), "rows")
        # Closed at once, also if the listener raises: a path changes the model while it runs.
        with products_of(self._base), closing(path.run(rows, table, indices, self.budget)) as run:
            for share in run:
                PROGRESS.report(before + table.rows_done, total, unit, None if count else share)

    def _halve(self, problem: Exception) -> None:
        """Go on with half the tokens at a time, and note it once."""
        if self.budget // 2 < MIN_BUDGET:
            raise ModelError(
                f"{self.name}: out of memory with {self.budget} tokens at a time "
                f"({_first_line(problem)}); use a smaller dtype or a larger machine."
            ) from problem
        self.budget //= 2
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self._note("it ran out of memory, and went on with fewer tokens at a time")

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    # --- choosing a path ---------------------------------------------------------------------

    def _choose_path(self, base: Any, reason: str) -> None:
        """Take the shared path if its scores are those of the plain one."""
        reason = reason or self._why_not_shared(base)
        if not reason:
            for fused in (True, False):
                path = SharedPath(base, self._vocabulary, self._device, fused=fused)
                try:
                    difference = self._difference(path)
                except UnknownAttentionError as problem:
                    reason = str(problem)
                    break
                except Exception as problem:
                    # A kernel that does not support this device, type or size of heads; or a
                    # model's own code that fails on concatenated rows.
                    reason = _first_line(problem)
                    continue
                if difference is None:
                    self._path = path
                    return
                reason = f"shared prefixes would change its scores by {difference:.2g} nats"
        self._use_plain_path(reason)

    def _use_plain_path(self, reason: str) -> None:
        self._path = self._plain
        self._note(f"prefixes that prompts share are computed for each prompt, since {reason}")

    def _keeps_values(self) -> bool:
        """Whether continuing with kept keys and values gives the scores of a plain pass."""
        if self._keeps is None:
            reason = self._why_not_kept()
            self._keeps = not reason
            if reason:
                self._note(f"continuations are read anew for each of their tokens, since {reason}")
        return self._keeps

    def _why_not_kept(self) -> str:
        """Return why keys and values are not kept; empty if they are."""
        decoder = Decoder(self._base, self._vocabulary, self._device)
        if self._virtual:
            return "an adapter puts virtual tokens before every text"
        if not decoder.keeps:
            return "the model takes no keys and values"
        first, after = TRIAL_TOKENS[0], 4
        rows = [self._trial_tokens(first + after, salt) for salt in (0, 1)]
        positions = list(range(first - 1, first + after))
        targets = [row[0] for row in rows for _ in positions]
        table_rows = [Row(row, positions, [row[0]] * len(positions)) for row in rows]
        table = ScoreTable(table_rows)
        try:
            with torch.inference_mode():
                for _ in self._plain.run(table_rows, table, range(2), self.budget):
                    pass
                outputs = decoder.forced(torch.tensor(rows, device=self._device), first)
                of = torch.arange(len(outputs), device=outputs.device)
                wanted = torch.tensor(targets, device=outputs.device)
                target, top, _ = self._vocabulary.reduce(outputs, wanted, of)
        except Exception as problem:
            # A model of its own kind, with a cache of its own kind.
            return _first_line(problem)
        plain = np.hstack([(s.target_logprob, s.top_logprob) for s in table.scores()])
        kept = np.stack([target.double().cpu().numpy(), top.double().cpu().numpy()])
        size = self._beyond_rounding(plain, kept)
        return "" if size is None else f"kept values would change its scores by {size:.2g} nats"

    def _why_not_shared(self, base: Any) -> str:
        """Return why the shared path cannot be taken; empty if it may be tried."""
        if "position_ids" not in inspect.signature(base.forward).parameters:
            return "the model takes no position ids"
        config = base.config.get_text_config()
        kinds = {*(getattr(config, "layer_types", None) or ())}
        unknown = sorted(map(str, kinds - {"full_attention", "sliding_attention"}))
        return f"it has layers of {unknown[0]}" if unknown else ""

    def _difference(self, path: SharedPath) -> float | None:
        """Return the difference between the scores of both paths; None if it is rounding."""
        start, *ends = (self._trial_tokens(n, salt) for salt, n in enumerate(TRIAL_TOKENS))
        whole = [
            Row(ids, list(range(len(ids))), [ids[0]] * len(ids))
            for ids in (start + end for end in ends)
        ]
        # The shared path computes less of the last layer where few positions are read.
        ends_only = [Row(row.ids, row.positions[-1:], row.targets[-1:]) for row in whole]
        results = []
        for one in (self._plain, path):
            scores: list[RowScores] = []
            for rows in (whole, ends_only):
                table = ScoreTable(rows)
                # The reference is the model unchanged.
                with products_of(self._base) if one is path else nullcontext():
                    for _ in one.run(rows, table, range(len(rows)), self.budget):
                        pass
                scores += table.scores()
            results.append(np.hstack([(s.target_logprob, s.top_logprob) for s in scores]))
        plain, shared = results
        return self._beyond_rounding(plain, shared)

    def _beyond_rounding(
        self, plain: NDArray[np.float64], other: NDArray[np.float64]
    ) -> float | None:
        """Return the difference of scores that should be equal; None if it is rounding."""
        if not np.isfinite(plain).all():
            # Scoring reports it.
            return None
        difference = np.abs(plain - other)
        half = self._vocabulary.dtype != torch.float32
        # Rounding grows with what is rounded. In half precision single scores of a deep model
        # change by a tenth of a nat with the order of sums; an error changes most scores.
        size = float(np.sqrt((difference**2).mean()) if half else difference.max())
        slack = (5e-2 if half else 1e-4) * max(1.0, float(np.abs(plain).max()) / 10)
        return None if size <= slack else size

    def _check_causal(self) -> None:
        """Raise ModelError for a model whose predictions depend on later tokens.

        A masked language model may have the name of a causal one; it would see every answer.
        """
        last = int(min(self._size, 5)) - 1
        targets = self._trial_tokens(32)
        positions = [position for position in (0, 1) for _ in targets]
        rows = [Row([0, 0, end], positions, targets * 2) for end in (0, last)]
        table = ScoreTable(rows)
        for _ in self._plain.run(rows, table, range(2), 1 << 20):
            pass
        one, other = (s.target_logprob for s in table.scores())
        spread = float(np.abs(one - other).max())
        slack = 2e-2 if self._vocabulary.dtype != torch.float32 else 1e-5
        # Scores that are not finite are reported by scoring.
        if spread > slack * max(1.0, float(np.abs(one).max())):
            raise ModelError(
                f"{self.name}: its predictions depend on the tokens that follow (by {spread:.2g} "
                "nats), so it is no causal language model; it predicts no next tokens."
            )

    def _trial_tokens(self, n: int, salt: int = 0) -> list[int]:
        """Return n tokens spread over the vocabulary."""
        size = int(min(self._size, 1 << 20))
        return [(7919 * (salt * 31 + i + 1)) % size for i in range(n)]


def _count(rows: Sequence[Continuation]) -> tuple[int, int]:
    """Return how many tokens are written, of how many; a bound, since rows may end early."""
    written = sum(len(row.logprobs) for row in rows)
    left = sum(row.most - len(row.logprobs) for row in rows if row.active)
    return written, written + left


def is_memory(problem: Exception) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(problem, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(problem).lower() for words in _OUT_OF_MEMORY)


def _first_line(problem: Exception) -> str:
    return " ".join(str(problem).split())[:120].rstrip(".") or type(problem).__name__


def _vocabulary_size(model: Any) -> float:
    """Count the tokens the model has embeddings for."""
    try:
        layer = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        # What transformers raises for a model whose embeddings it cannot find.
        layer = None
    # Adapters wrap layers, in several ways.
    while layer is not None and not isinstance(getattr(layer, "num_embeddings", None), int):
        layer = getattr(layer, "base_layer", None) or getattr(layer, "original_module", None)
    if layer is None:
        return float(getattr(model.config.get_text_config(), "vocab_size", "inf"))
    return int(layer.num_embeddings)


def _fixed_rope_length(config: Any) -> float:
    """Return up to how many tokens the encoding of positions is independent of the text's length.

    Beyond it, a model with long-context rotary factors encodes all positions in another way.
    """
    rope: Any = getattr(config, "rope_parameters", None)
    if not isinstance(rope, dict):
        return float("inf")
    # One mapping for all layers, or one for each kind of layer.
    kinds = [rope, *(kind for kind in rope.values() if isinstance(kind, dict))]
    return min(
        (
            int(kind["original_max_position_embeddings"])
            for kind in kinds
            if kind.get("rope_type") == "longrope"
        ),
        default=float("inf"),
    )
