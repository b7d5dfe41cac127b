"""The soft-max over the vocabulary at the positions that are read.

The head of a language model is often most of its arithmetic, so it is computed at these positions
only. It is computed in float32 whatever the model computes in: bfloat16 has three digits, and
logits of 20 rounded to the next eighth make a confidence that no two machines agree on.
"""

from __future__ import annotations

import inspect
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_calibration.models.backends.transformers import onednn
from pytest_calibration.models.backends.transformers.attention import to_device
from pytest_calibration.models.causal.rows import ScoreTable

Index: TypeAlias = NDArray[np.int64]

# Positions and vocabulary entries of a block of logits. On a CPU such a block (4 MB) stays in the
# processor's cache between product and exponentials; a GPU is faster with few, large steps.
TILE: Final = (512, 2048)
GPU_BYTES: Final = 1 << 28
# Positions that wait for the head, so that a few from each pass make one large product.
WAITING: Final = 2048


class Vocabulary:
    """The output layer of a model: from hidden states to log-probabilities.

    A model that is a body, a linear head, and a known function of its logits is split into body and
    head; that this gives the model's own logits is tested. Any other computes its logits itself.

    Args:
        model: a causal language model.
        ids: (t,) tokens to test with.
        split: False where the model has to be called as a whole.

    Attributes:
        split: whether body and head are called separately.
        body: the model without its head; None where it is not split.
        dtype: what the model computes in.
        temperature: that all logits are divided by; 1 leaves every score as it is.
    """

    def __init__(self, model: Any, ids: torch.Tensor, *, split: bool = True) -> None:
        self._model = model
        # The body and head are compared with the model, which knows no temperature.
        self.temperature = 1.0
        self.dtype: torch.dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
        self._takes_positions = (
            split and "logits_to_keep" in inspect.signature(model.forward).parameters
        )
        config = model.config.get_text_config()
        self._softcap = getattr(config, "final_logit_softcapping", None)
        self._scale = float(getattr(config, "logit_scale", None) or 1.0)
        self._scale /= float(getattr(config, "logits_scaling", None) or 1.0)
        self.body: Any = _body(model) if split else None
        self._head: Any = model.get_output_embeddings() if split else None
        self.split = self.body is not None and self._is_plain_head() and self._split_agrees(ids)
        if not self.split:
            self.body = None

    def _is_plain_head(self) -> bool:
        """Whether the head is a matrix in memory: not quantised, adapted or offloaded."""
        plain = type(self._head) is torch.nn.Linear and onednn.is_plain(self._head.weight)
        return plain and self._head.weight.device.type != "meta"

    def _split_agrees(self, ids: torch.Tensor) -> bool:
        """Whether body and head, called separately, give the logits of the model."""
        whole: torch.Tensor = self._model(ids[None], use_cache=False).logits[0].float()
        try:
            hidden = self.body(ids[None], use_cache=False).last_hidden_state[0]
            logits = self._logits(hidden.to(self._head.weight.device))
        except (AttributeError, RuntimeError, TypeError, ValueError):
            return False
        half = self._head.weight.dtype != torch.float32
        slack = (2e-2 if half else 1e-4) * max(1.0, float(whole.abs().max()))
        return whole.shape == logits.shape and bool(
            (whole.to(logits.device) - logits).abs().max() < slack
        )

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        weight, bias = self._head.weight, self._head.bias
        logits = _product(hidden, weight)
        if bias is not None:
            logits += bias.float()
        return self._adjusted(logits)

    def _adjusted(self, logits: torch.Tensor) -> torch.Tensor:
        """Apply scale and soft cap of the model's logits, and the temperature, in place."""
        if self._scale != 1.0:
            logits.mul_(self._scale)
        if self._softcap is not None:
            logits.div_(self._softcap).tanh_().mul_(self._softcap)
        return self._tempered(logits)

    def _tempered(self, logits: torch.Tensor) -> torch.Tensor:
        return logits if self.temperature == 1 else logits.div_(self.temperature)

    def outputs_at(self, reads: torch.Tensor, ids: torch.Tensor, **inputs: Any) -> torch.Tensor:
        """Run the model and return its outputs at some positions.

        Args:
            reads: (k,) positions in the (b, t) tokens, counted row by row.
            ids: (b, t) tokens.
            inputs: further arguments of the model.

        Returns:
            (k, h) hidden states, or (k, v) logits where body and head are not split.
        """
        width = ids.shape[1]
        inputs.setdefault("use_cache", False)
        if self.split:
            hidden: torch.Tensor = self.body(ids, **inputs).last_hidden_state
            return hidden.flatten(0, 1)[reads]
        logits: torch.Tensor
        if self._takes_positions and len(ids) == 1:
            logits = self._model(ids, logits_to_keep=reads, **inputs).logits
            return logits[0]
        # Virtual tokens of an adapter come before the text.
        logits = self._model(ids, **inputs).logits[:, -width:]
        return logits.flatten(0, 1)[reads]

    def reduce(
        self, outputs: torch.Tensor, targets: torch.Tensor, read_of: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return log P(target), the largest log-probability and its token, (r,) each.

        Args:
            outputs: (k, ·) as :meth:`outputs_at` returns them.
            targets: (r,) tokens whose log-probability is wanted.
            read_of: (r,) the row of ``outputs`` that each belongs to.
        """
        if not self.split:
            return _reduced(self._whole_logits(outputs), targets, read_of)
        device = self._head.weight.device
        hidden, targets, of = outputs.to(device), targets.to(device), read_of.to(device)
        top, rest, best = self._tiled(hidden) if device.type == "cpu" else self._stepped(hidden)
        return self._target_logits(hidden, targets, of) - top[of] - rest[of], -rest[of], best[of]

    def draw(
        self, outputs: torch.Tensor, draws: torch.Tensor, read_of: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw tokens; return the log-probability of each, as the model is served, and the token.

        A token is the first, in the order of the vocabulary, at which the cumulated probability
        exceeds the number drawn. So it depends on that number and the model alone.

        Args:
            outputs: (k, ·) as :meth:`outputs_at` returns them.
            draws: (r,) numbers in [0, 1).
            read_of: (r,) the row of ``outputs`` that each belongs to.
            temperature: that the logits are divided by, beside that of the model.
        """
        device = self._head.weight.device if self.split else outputs.device
        outputs, draws, of = outputs.to(device), draws.to(device), read_of.to(device)
        # The sum of many small probabilities; some devices have no float64.
        precise = torch.float32 if device.type == "mps" else torch.float64
        size = self._head.weight.shape[0] if self.split else outputs.shape[1]
        step = max(1, GPU_BYTES // (8 * size))
        logprobs, tokens = [], []
        for a in range(0, len(draws), step):
            here = outputs[of[a : a + step]]
            logits = self._logits(here) if self.split else self._whole_logits(here)
            shares = (logits.to(precise) / temperature).softmax(-1).cumsum(-1)
            aims = draws[a : a + step, None].to(precise) * shares[:, -1:]
            token = torch.searchsorted(shares, aims, right=True).clamp_(max=logits.shape[1] - 1)
            logprobs.append(logits.log_softmax(-1).gather(1, token)[:, 0])
            tokens.append(token[:, 0])
        return torch.cat(logprobs), torch.cat(tokens)

    def _whole_logits(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return in float32 the logits that a model gave which is not split."""
        logits = outputs.float()
        # What is float32 already is not copied, and may be read again.
        return logits if self.temperature == 1 else logits / self.temperature

    def _stepped(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Reduce whole rows of the vocabulary, a few at a time; returns the same as `_relative`."""
        step = max(1, GPU_BYTES // (4 * self._head.weight.shape[0]))
        parts = [_relative(self._logits(hidden[a : a + step])) for a in range(0, len(hidden), step)]
        top, rest, best = (torch.cat(part) for part in zip(*parts, strict=True))
        return top, rest, best

    def _target_logits(
        self, hidden: torch.Tensor, targets: torch.Tensor, of: torch.Tensor
    ) -> torch.Tensor:
        """Return the logits of the targets only, (r,)."""
        weight, bias = self._head.weight, self._head.bias
        out = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        for a in range(0, len(targets), WAITING):
            here = slice(a, a + WAITING)
            rows = hidden[of[here]].float()
            out[here] = (rows * weight[targets[here]].float()).sum(-1)
            if bias is not None:
                out[here] += bias[targets[here]].float()
        return self._adjusted(out)

    def _tiled(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Reduce in tiles that stay in the processor's cache; returns the same as `_relative`."""
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
                # Powers of two: the same numbers, several times as fast.
                powers = tile.sub_(tops[i][:, None]).mul_(onednn.LOG2_E).exp2_()
                torch.sum(powers, 1, out=sums[i])
            here = slice(a, a + high)
            top[here], which = tops.max(0)
            rest[here] = (tops - top[here] + sums.log()).logsumexp(0)
            # Finding the token is slow, so only the tile that holds it is searched.
            for i in which.unique().tolist():
                inside = torch.nonzero(which == i)[:, 0]
                best[a + inside] = edges[i] + self._tile(rows[inside], edges[i]).argmax(1)
        return top, rest, best

    def _tile(self, rows: torch.Tensor, first: int) -> torch.Tensor:
        """Return the logits of the tokens from ``first`` on, (k, at most a tile's width)."""
        here = slice(first, first + TILE[1])
        bias = None if self._head.bias is None else self._head.bias[here].float()
        return self._adjusted(onednn.product(rows, self._head.weight[here].float(), bias))


class Collector:
    """Collects outputs of passes, reduces them in large steps, and fills a table of scores.

    Results stay on the device until the end, so that nothing waits for it in between.

    Args:
        vocabulary: the model's output layer.
        table: what is filled in.
    """

    def __init__(self, vocabulary: Vocabulary, table: ScoreTable) -> None:
        self._vocabulary = vocabulary
        self._table = table
        # Outputs of a pass; per target its row in them, its token and its slot.
        self._waiting: list[tuple[torch.Tensor, Index, Index, Index]] = []
        self._done: list[tuple[Index, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]] = []

    def add(self, outputs: torch.Tensor, read_of: Index, targets: Index, slots: Index) -> None:
        """Add the outputs of a pass.

        Args:
            outputs: (k, ·) as :meth:`Vocabulary.outputs_at` returns them.
            read_of: (r,) the row of ``outputs`` that a target belongs to.
            targets: (r,) token ids.
            slots: (r,) the slots of their scores.
        """
        self._table.count(slots)
        self._waiting.append((outputs, read_of, targets, slots))
        most = WAITING if self._vocabulary.split else 0
        if sum(len(outputs) for outputs, *_ in self._waiting) > most:
            self.flush()

    def flush(self) -> None:
        """Reduce what waits."""
        if not self._waiting:
            return
        parts, read_of, targets, slots = zip(*self._waiting, strict=True)
        outputs = torch.cat(parts)
        first = np.cumsum([0, *map(len, parts)])
        rows = np.concatenate([of + start for of, start in zip(read_of, first, strict=False)])
        device = outputs.device
        of, places = to_device(rows, device), np.concatenate(slots)
        if self._table.temperature is None:
            scores = self._vocabulary.reduce(
                outputs, to_device(np.concatenate(targets), device), of
            )
        else:
            draws = torch.from_numpy(self._table.draws[places])
            logprob, token = self._vocabulary.draw(outputs, draws, of, self._table.temperature)
            scores = logprob, logprob, token
        self._done.append((places, scores))
        self._waiting.clear()

    def write(self) -> None:
        """Write all results into the table; what still waits is dropped."""
        self._waiting.clear()
        for slots, (target, top, best) in self._done:
            self._table.fill(
                slots,
                target.double().cpu().numpy(),
                top.double().cpu().numpy(),
                best.cpu().numpy(),
            )
        self._done.clear()


def _reduced(
    logits: torch.Tensor, targets: torch.Tensor, of: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    target_logits = logits[of, targets]
    top, rest, best = _relative(logits)
    return target_logits - top[of] - rest[of], -rest[of], best[of]


def _relative(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the largest logit, the log-sum-exp minus it, and its token; overwrites the logits.

    The two are kept apart: logits may be in the thousands and the difference a thousandth, which
    would be lost in their float32 sum.
    """
    top, best = logits.max(-1)
    return top, logits.sub_(top[:, None]).logsumexp(-1), best


def _product(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return hidden @ weight.T in float32."""
    if weight.dtype == torch.float32:
        return hidden.float() @ weight.T
    if weight.device.type == "cuda":
        # Half-precision factors, float32 sums.
        return torch.mm(hidden.to(weight.dtype), weight.T, out_dtype=torch.float32)
    return hidden.float() @ weight.float().T


def _body(model: Any) -> Any:
    """Return the model without its head, or None where it has no such part."""
    try:
        body = model.get_decoder()
    except (AttributeError, NotImplementedError):
        # What transformers raises for a model that has no such part.
        return None
    return None if body is model else body
