"""The soft-max over the vocabulary at the positions that are read.

The head of a language model is often most of its arithmetic, so it is computed where it is read and
nowhere else, in float32 whatever the model computes in: bfloat16 knows three digits, and logits of
20 rounded to the next eighth make a confidence that no two machines agree on.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_calibration.models.backends.transformers import onednn
from pytest_calibration.models.backends.transformers.attention import to_device
from pytest_calibration.models.backends.transformers.rows import Answers

# Positions and vocabulary entries whose logits are in memory at once. On a CPU such a block (4 MB)
# stays in the cache between the product and the exponentials; a GPU wants few, large steps.
TILE: Final = (512, 2048)
GPU_BYTES: Final = 1 << 28
# Positions that wait for the head: a few from each pass make a product worth starting.
WAITING: Final = 2048


class Vocabulary:
    """The last step of a model: from hidden states to log-probabilities.

    Where a model is a body, a linear head, and a known function of its logits, the two are called
    apart; where it is not (which is tried, not guessed), the model gives its logits itself.

    Args:
        model: a causal language model.
        ids: (t,) tokens to try on.
        apart: False where the model has to be called as a whole.

    Attributes:
        apart: whether body and head are called apart.
        body: the model without its head; None where it is not called apart.
        dtype: what the model computes in.
    """

    def __init__(self, model: Any, ids: torch.Tensor, *, apart: bool = True) -> None:
        self._model = model
        self.dtype: torch.dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
        self._keeps = apart and "logits_to_keep" in inspect.signature(model.forward).parameters
        config = model.config.get_text_config()
        self._softcap = getattr(config, "final_logit_softcapping", None)
        self._scale = float(getattr(config, "logit_scale", None) or 1.0)
        self._scale /= float(getattr(config, "logits_scaling", None) or 1.0)
        self.body: Any = _body(model) if apart else None
        self._head: Any = model.get_output_embeddings() if apart else None
        self.apart = self.body is not None and self._is_plain_head() and self._adds_up(ids)
        if not self.apart:
            self.body = None

    def _is_plain_head(self) -> bool:
        """Whether the head is a matrix at hand: not quantised, adapted, or kept elsewhere."""
        return type(self._head) is torch.nn.Linear and self._head.weight.device.type != "meta"

    def _adds_up(self, ids: torch.Tensor) -> bool:
        """Whether body and head, called apart, give the logits of the model."""
        whole: torch.Tensor = self._model(ids[None], use_cache=False).logits[0].float()
        try:
            hidden = self.body(ids[None], use_cache=False).last_hidden_state[0]
            mine = self._logits(hidden.to(self._head.weight.device))
        except (AttributeError, RuntimeError, TypeError, ValueError):
            return False
        half = self._head.weight.dtype != torch.float32
        slack = (2e-2 if half else 1e-4) * max(1.0, float(whole.abs().max()))
        return whole.shape == mine.shape and bool(
            (whole.to(mine.device) - mine).abs().max() < slack
        )

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        weight, bias = self._head.weight, self._head.bias
        logits = _product(hidden, weight)
        if bias is not None:
            logits += bias.float()
        return self._shaped(logits)

    def _shaped(self, logits: torch.Tensor) -> torch.Tensor:
        """Apply what the model does to its logits, in place."""
        if self._scale != 1.0:
            logits.mul_(self._scale)
        if self._softcap is not None:
            logits.div_(self._softcap).tanh_().mul_(self._softcap)
        return logits

    def at(self, keep: torch.Tensor, ids: torch.Tensor, **inputs: Any) -> torch.Tensor:
        """Run the model and return what the soft-max is made of at some positions.

        Args:
            keep: (k,) positions in (b, t) tokens read row by row.
            ids: (b, t) tokens.
            inputs: what else the model is called with.

        Returns:
            (k, h) hidden states, or (k, v) logits where body and head are not apart.
        """
        width = ids.shape[1]
        if self.apart:
            hidden: torch.Tensor = self.body(ids, use_cache=False, **inputs).last_hidden_state
            return hidden.flatten(0, 1)[keep]
        logits: torch.Tensor
        if self._keeps and len(ids) == 1:
            logits = self._model(ids, use_cache=False, logits_to_keep=keep, **inputs).logits
            return logits[0]
        # Virtual tokens of an adapter stand before the text.
        logits = self._model(ids, use_cache=False, **inputs).logits[:, -width:]
        return logits.flatten(0, 1)[keep]

    def reduce(
        self, rows: torch.Tensor, targets: torch.Tensor, of: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return log P(target), the largest log-probability and its token, (r,) each.

        Args:
            rows: (k, ·) as :meth:`at` gives them.
            targets: (r,) tokens asked for.
            of: (r,) the row in which each is asked for.
        """
        if not self.apart:
            return _reduced(rows.float(), targets, of)
        device = self._head.weight.device
        hidden, targets, of = rows.to(device), targets.to(device), of.to(device)
        top, rest, best = self._tiled(hidden) if device.type == "cpu" else self._stepped(hidden)
        return self._asked(hidden, targets, of) - top[of] - rest[of], -rest[of], best[of]

    def _stepped(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Reduce whole rows of the vocabulary, a few at a time; returns what `_relative` does."""
        step = max(1, GPU_BYTES // (4 * self._head.weight.shape[0]))
        parts = [_relative(self._logits(hidden[a : a + step])) for a in range(0, len(hidden), step)]
        top, rest, best = (torch.cat(part) for part in zip(*parts, strict=True))
        return top, rest, best

    def _asked(self, hidden: torch.Tensor, targets: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
        """Return the logits of the targets alone, (r,)."""
        weight, bias = self._head.weight, self._head.bias
        out = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        for a in range(0, len(targets), WAITING):
            here = slice(a, a + WAITING)
            rows = hidden[of[here]].float()
            out[here] = (rows * weight[targets[here]].float()).sum(-1)
            if bias is not None:
                out[here] += bias[targets[here]].float()
        return self._shaped(out)

    def _tiled(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Reduce in tiles that stay in the processor's cache; returns what `_relative` does."""
        size, (high, wide) = self._head.weight.shape[0], TILE
        edges = list(range(0, size, wide))
        top, rest = torch.empty(2, len(hidden))
        best = torch.empty(len(hidden), dtype=torch.long)
        for a in range(0, len(hidden), high):
            rows = hidden[a : a + high].float()
            tops, sums = torch.empty(2, len(edges), len(rows))
            for i, b in enumerate(edges):
                tile = self._tile(rows, b)
                torch.amax(tile, 1, out=tops[i])
                # To the base of two: the same numbers, several times as fast.
                powers = tile.sub_(tops[i][:, None]).mul_(onednn.LOG2_E).exp2_()
                torch.sum(powers, 1, out=sums[i])
            here = slice(a, a + high)
            top[here], which = tops.max(0)
            rest[here] = (tops - top[here] + sums.log()).logsumexp(0)
            # Which token it is, is a slow question: it is asked in the tile that holds it.
            for i in which.unique().tolist():
                inside = torch.nonzero(which == i)[:, 0]
                best[a + inside] = edges[i] + self._tile(rows[inside], edges[i]).argmax(1)
        return top, rest, best

    def _tile(self, rows: torch.Tensor, first: int) -> torch.Tensor:
        """Return the logits of some tokens from ``first`` on, (k, at most a tile's width)."""
        here = slice(first, first + TILE[1])
        bias = None if self._head.bias is None else self._head.bias[here].float()
        return self._shaped(onednn.product(rows, self._head.weight[here].float(), bias))


class Reading:
    """Gathers what passes leave for the soft-max, and fills in the answers.

    Results stay on the device until the end: nobody waits for it in between.

    Args:
        vocabulary: the model's last step.
        answers: what is filled in.
    """

    def __init__(self, vocabulary: Vocabulary, answers: Answers) -> None:
        self._vocabulary = vocabulary
        self._answers = answers
        self._waiting: list[tuple[torch.Tensor, _Asked]] = []
        self._done: list[tuple[_Asked, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]] = []

    def add(
        self,
        rows: torch.Tensor,
        of: NDArray[np.int64],
        targets: NDArray[np.int64],
        slots: NDArray[np.int64],
    ) -> None:
        """Take what :meth:`Vocabulary.at` gave.

        Args:
            rows: (k, ·) hidden states or logits.
            of: (r,) the row in which a target is asked for.
            targets: (r,) token ids.
            slots: (r,) where the answers belong.
        """
        self._answers.read(slots)
        self._waiting.append((rows, _Asked(of, targets, slots)))
        wait = WAITING if self._vocabulary.apart else 0
        if sum(len(rows) for rows, _ in self._waiting) > wait:
            self.flush()

    def flush(self) -> None:
        """Reduce what waits."""
        if not self._waiting:
            return
        rows = torch.cat([rows for rows, _ in self._waiting])
        first = np.cumsum([0, *(len(rows) for rows, _ in self._waiting)])
        asked = [asked for _, asked in self._waiting]
        of = np.concatenate([a.of + f for a, f in zip(asked, first, strict=False)])
        targets = np.concatenate([a.targets for a in asked])
        slots = np.concatenate([a.slots for a in asked])
        whole = _Asked(of, targets, slots)
        device = rows.device
        parts = self._vocabulary.reduce(rows, to_device(targets, device), to_device(of, device))
        self._done.append((whole, parts))
        self._waiting.clear()

    def settle(self) -> None:
        """Write all results into the answers; what still waits is forgotten."""
        self._waiting.clear()
        for asked, (target, top, best) in self._done:
            self._answers.fill(
                asked.slots,
                target.double().cpu().numpy(),
                top.double().cpu().numpy(),
                best.cpu().numpy(),
            )
        self._done.clear()


class _Asked:
    """Targets, the rows they are asked for in, and where the answers belong; (r,) each."""

    def __init__(
        self, of: NDArray[np.int64], targets: NDArray[np.int64], slots: NDArray[np.int64]
    ) -> None:
        self.of = of
        self.targets = targets
        self.slots = slots


def _reduced(
    logits: torch.Tensor, targets: torch.Tensor, of: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    asked = logits[of, targets]
    top, rest, best = _relative(logits)
    return asked - top[of] - rest[of], -rest[of], best[of]


def _relative(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the largest logit, the log-sum-exp beyond it, and its token; the logits are used up.

    Logits may be thousands, and what lies beyond the largest a thousandth: their sum in float32
    would not know of it.
    """
    top, best = logits.max(-1)
    return top, logits.sub_(top[:, None]).logsumexp(-1), best


def _product(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return hidden @ weight.T in float32."""
    if weight.dtype == torch.float32:
        return hidden.float() @ weight.T
    if weight.device.type == "cuda":
        # Half-precision numbers in, float32 sums out.
        return torch.mm(hidden.to(weight.dtype), weight.T, out_dtype=torch.float32)
    return hidden.float() @ weight.float().T


def _body(model: Any) -> Any:
    """Return the model without its head, or None where it has no such part."""
    try:
        body = model.get_decoder()
    except (AttributeError, NotImplementedError):
        # Which is what transformers raises for a model that has no such part.
        return None
    return None if body is model else body
