"""Rows to scores within a budget of tokens: which path, and what is done without memory."""

from __future__ import annotations

import inspect
from contextlib import closing, nullcontext
from typing import Any, Final

import numpy as np
import torch

from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends.transformers.attention import UnknownAttentionError
from pytest_calibration.models.backends.transformers.onednn import products_of
from pytest_calibration.models.backends.transformers.plain_path import PlainPath
from pytest_calibration.models.backends.transformers.rows import Answers, Row, RowScores
from pytest_calibration.models.backends.transformers.shared_path import SharedPath
from pytest_calibration.models.backends.transformers.vocabulary import Vocabulary
from pytest_calibration.progress import PROGRESS

# Tokens of a pass: on a CPU they should stay in its cache, a GPU is to be filled.
BUDGET: Final = {"cpu": 1024, "cuda": 16384, "mps": 4096}
LEAST_BUDGET: Final = 16
# Tokens of a beginning, and of what follows it in three rows, that the paths are compared on.
TRIAL: Final = (14, 1, 30, 20)
_OUT_OF_MEMORY: Final = ("out of memory", "not enough memory", "can't allocate memory")


class Scorer:
    """Scores rows of tokens with one model.

    Args:
        model: what is called: a causal language model, or one with an adapter around it.
        base: the causal language model in it.
        name: what errors call it.
        device: where it is.
        budget: tokens of a pass; None for what suits the device.
        longest: tokens that the model can read.
        virtual: tokens that an adapter puts before every text.

    Attributes:
        notes: sentences about how the model is scored that somebody should know.
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
    ) -> None:
        self.name = name
        self.notes: list[str] = []
        self.budget = BUDGET.get(device.type, BUDGET["cpu"]) if budget is None else budget
        self._device = device
        self._base = base
        self._size = _vocabulary_size(base)
        # Longer texts share nothing with shorter ones, and stand in no pass with them.
        self._steady = _steady_length(base.config.get_text_config())
        with torch.inference_mode():
            ids = self._trial_tokens(LEAST_BUDGET)
            # Virtual tokens are put in by the adapter, which the parts of the model go without.
            whole = model if virtual else base
            self._vocabulary = Vocabulary(
                whole, torch.tensor(ids, device=device), apart=not virtual
            )
            self._plain = PlainPath(self._vocabulary, device)
            self._path: PlainPath | SharedPath = self._plain
            self._check_causal()
            reason = ""
            if virtual:
                reason = "an adapter puts virtual tokens before every text"
            elif longest < TRIAL[0] + max(TRIAL[1:]):
                reason = f"the model reads only {longest:,} tokens"
            self._choose(base, reason)

    # --- what is scored ----------------------------------------------------------------------

    def score(
        self, rows: list[Row], *, count: tuple[int, int, str] | None = None
    ) -> list[RowScores]:
        """Score all rows.

        Args:
            rows: what to score.
            count: (done before, total, unit) of the work that the rows are a part of; by default
                they are all of it.

        Raises:
            ModelError: a token the model does not know, or memory that suffices for nothing.
        """
        for row in rows:
            highest = max([*row.ids, *row.targets], default=0)
            if highest >= self._size:
                raise ModelError(
                    f"{self.name}: the tokenizer gives token {highest}, but "
                    f"the model knows {self._size:,} tokens; use the tokenizer it was trained with."
                )
        answers = Answers(rows)
        while which := answers.missing():
            steady = [i for i in which if len(rows[i].ids) <= self._steady]
            path = self._path if steady else self._plain
            try:
                with torch.inference_mode():
                    self._run(path, rows, answers, steady or which, count)
            except UnknownAttentionError as problem:
                # Its layers ask for more than they did when it was tried.
                self._go_plain(str(problem))
            except (MemoryError, RuntimeError) as problem:
                if not _is_memory(problem):
                    raise
                self._halve(problem)
        return answers.scores()

    def _run(
        self,
        path: PlainPath | SharedPath,
        rows: list[Row],
        answers: Answers,
        which: list[int],
        count: tuple[int, int, str] | None,
    ) -> None:
        before, total, unit = count or (0, len(rows), "rows")
        # Closed at once, also where whoever listens raises: the model is lent.
        with products_of(self._base), closing(path.run(rows, answers, which, self.budget)) as run:
            for share in run:
                PROGRESS.report(before + answers.rows_read, total, unit, None if count else share)

    def _halve(self, problem: Exception) -> None:
        """Go on with half the tokens at a time, and say so once."""
        if self.budget // 2 < LEAST_BUDGET:
            raise ModelError(
                f"{self.name}: out of memory with {self.budget} tokens at a time "
                f"({_first_line(problem)}); use a smaller dtype or a larger machine."
            ) from problem
        self.budget //= 2
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self._note("it ran out of memory, and went on with fewer tokens at a time")

    def _note(self, what: str) -> None:
        if what not in self.notes:
            self.notes.append(what)

    # --- which path --------------------------------------------------------------------------

    def _choose(self, base: Any, reason: str) -> None:
        """Take the shared path where it gives what the plain one does."""
        reason = reason or self._unfit(base)
        if not reason:
            for fused in (True, False):
                path = SharedPath(base, self._vocabulary, self._device, fused=fused)
                try:
                    off = self._difference(path)
                except UnknownAttentionError as problem:
                    reason = str(problem)
                    break
                except Exception as problem:
                    # A kernel that does not know this device, type or size of heads; or whatever a
                    # model's own code makes of tokens that stand in one line.
                    reason = _first_line(problem)
                    continue
                if off is None:
                    self._path = path
                    return
                reason = f"shared beginnings would change its scores by {off:.2g} nats"
        self._go_plain(reason)

    def _go_plain(self, reason: str) -> None:
        self._path = self._plain
        self._note(f"beginnings that prompts share are computed for each anew, since {reason}")

    def _unfit(self, base: Any) -> str:
        """Say why the shared path cannot be taken; empty if it may be tried."""
        if "position_ids" not in inspect.signature(base.forward).parameters:
            return "the model takes no position ids"
        config = base.config.get_text_config()
        kinds = {*(getattr(config, "layer_types", None) or ())}
        unknown = sorted(map(str, kinds - {"full_attention", "sliding_attention"}))
        return f"it has layers of {unknown[0]}" if unknown else ""

    def _difference(self, path: SharedPath) -> float | None:
        """Score rows that begin alike on both paths; the difference, or None if it is rounding."""
        start, *ends = (self._trial_tokens(n, salt) for salt, n in enumerate(TRIAL))
        whole = [
            Row(ids, list(range(len(ids))), [ids[0]] * len(ids))
            for ids in (start + end for end in ends)
        ]
        # A path may take another way where little is read.
        ends_only = [Row(row.ids, row.positions[-1:], row.targets[-1:]) for row in whole]
        found = []
        for one in (self._plain, path):
            scores: list[RowScores] = []
            for rows in (whole, ends_only):
                answers = Answers(rows)
                # The reference is the model as it came.
                with products_of(self._base) if one is path else nullcontext():
                    for _ in one.run(rows, answers, range(len(rows)), self.budget):
                        pass
                scores += answers.scores()
            found.append(np.hstack([(s.target_logprob, s.top_logprob) for s in scores]))
        plain, shared = found
        if not np.isfinite(plain).all():
            # The first score that is asked for tells so.
            return None
        off = np.abs(plain - shared)
        half = self._vocabulary.dtype != torch.float32
        # Rounding grows with what is rounded. In half precision single scores of a deep model move
        # by a tenth of a nat when sums are taken in another order; what is wrong moves most.
        size = float(np.sqrt((off**2).mean()) if half else off.max())
        slack = (5e-2 if half else 1e-4) * max(1.0, float(np.abs(plain).max()) / 10)
        return None if size <= slack else size

    def _check_causal(self) -> None:
        """Refuse a model whose earlier predictions depend on a later token.

        A masked language model can pass for a causal one by name; it would see every answer before
        it gives it.
        """
        last = int(min(self._size, 5)) - 1
        asked = self._trial_tokens(32)
        rows = [
            Row([0, 0, end], [at for at in (0, 1) for _ in asked], asked * 2) for end in (0, last)
        ]
        answers = Answers(rows)
        for _ in self._plain.run(rows, answers, range(2), 1 << 20):
            pass
        one, other = (s.target_logprob for s in answers.scores())
        spread = float(np.abs(one - other).max())
        slack = 2e-2 if self._vocabulary.dtype != torch.float32 else 1e-5
        # Weights that are not finite are told by the first score that is not.
        if spread > slack * max(1.0, float(np.abs(one).max())):
            raise ModelError(
                f"{self.name}: its predictions depend on the tokens that follow (by {spread:.2g} "
                "nats), so it is no causal language model; it predicts no next tokens."
            )

    def _trial_tokens(self, n: int, salt: int = 0) -> list[int]:
        """Return n tokens from all over the vocabulary."""
        size = int(min(self._size, 1 << 20))
        return [(7919 * (salt * 31 + i + 1)) % size for i in range(n)]


def _is_memory(problem: Exception) -> bool:
    if isinstance(problem, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(problem).lower() for words in _OUT_OF_MEMORY)


def _first_line(problem: Exception) -> str:
    return " ".join(str(problem).split())[:120].rstrip(".") or type(problem).__name__


def _vocabulary_size(model: Any) -> float:
    """Count the tokens the model has embeddings for."""
    try:
        return int(model.get_input_embeddings().num_embeddings)
    except (AttributeError, NotImplementedError):
        # Which is what transformers raises for a model whose embeddings it cannot find.
        return float("inf")


def _steady_length(config: Any) -> float:
    """Count the tokens up to which positions are coded the same way however long a text is.

    Beyond it, a model with long-context rotary factors codes all positions of the text anew.
    """
    rope: Any = getattr(config, "rope_parameters", None)
    if not isinstance(rope, dict):
        return float("inf")
    # One for all layers, or one for each kind of layer.
    kinds = [rope, *(kind for kind in rope.values() if isinstance(kind, dict))]
    return min(
        (
            int(kind["original_max_position_embeddings"])
            for kind in kinds
            if kind.get("rope_type") == "longrope"
        ),
        default=float("inf"),
    )
