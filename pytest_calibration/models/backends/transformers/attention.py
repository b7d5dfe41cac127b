"""A packed pass through a model: each token attends to its own row and to what that row shares.

The tokens of many segments stand in one line, so that nothing is padded and every layer but
attention treats them as one text. Attention is done here, in parts: a segment's own tokens among
themselves, and all tokens below a shared segment against its keys and values, which are there once.
Parts are joined by their log-sum-exps, as Dao et al. 2022 (FlashAttention) join blocks: with
l = log sum exp(scores) of each part, soft-max over both is the mean of the parts' results with
weights sigmoid(l1 - l2) and sigmoid(l2 - l1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AttentionInterface

from pytest_calibration.models.backends.transformers import onednn
from pytest_calibration.models.backends.transformers.sharing import Segment

NAME: Final = "calibration_shared"
# Below this mean length segments are laid side by side, with padding; above, one after the other.
SHORT: Final = 48
# Where more than one token in so many is read, the last layer is computed whole.
READ_ALL: Final = 8
# What attention layers are called with and what does not concern the result.
_HARMLESS: Final = frozenset(
    {
        *("dropout", "position_ids", "cache_position", "position_embeddings", "use_cache"),
        *("is_causal", "output_attentions", "output_hidden_states", "return_dict"),
        *("output_router_logits", "logits_to_keep", "num_items_in_batch", "past_key_values"),
        *("past_key_value", "layer_idx", "token_type_ids", "labels", "head_mask"),
    }
)
Part = tuple[torch.Tensor, torch.Tensor]


class UnknownAttentionError(Exception):
    """A model's attention asks for something that is not done here."""


class Pass:
    """One packed pass.

    Args:
        segments: whose tokens stand in line.
        device: where.
        fused: whether to use torch's fused kernels where they apply.
        last: index of the last attention layer, of which only what is read is computed; None to
            compute all of it.

    Attributes:
        layers: how many attention layers have been computed.
        reads: (k,) the tokens in line that are read, ascending.
        of: (r,) for each target of each segment in turn, the one of ``reads`` it is asked for at.
        trims: whether the last layer is computed at ``reads`` only.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        device: torch.device,
        *,
        fused: bool,
        last: int | None = None,
    ) -> None:
        self.segments = segments
        self.device = device
        self.fused = fused
        self.layers = 0
        self.lengths = [len(s) for s in segments]
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)]).tolist()
        self.positions = np.concatenate([np.arange(s.start, s.end) for s in segments])
        self.reach = int(self.positions.max()) + 1
        at = [segment.offsets + a for segment, a in zip(segments, self.starts, strict=False)]
        self.reads, self.of = np.unique(np.concatenate(at), return_inverse=True)
        if not len(self.reads):
            # Nobody reads a shared beginning; one token stands for it where one is needed.
            self.reads = np.zeros(1, dtype=np.int64)
        # Many reads are cheaper among all tokens than one by one.
        self.trims = last is not None and READ_ALL * len(self.reads) < self.starts[-1]
        self.last = last
        self.contexts = list(self._contexts())
        self._padded: tuple[torch.Tensor, torch.Tensor] | None = None
        self._reads: torch.Tensor | None = None
        mean = self.starts[-1] / len(segments)
        self._side_by_side = len(segments) > 1 and (device.type != "cpu" or mean < SHORT)

    def _contexts(self) -> Iterator[tuple[int, int, Segment]]:
        """Yield (first token, one past the last, shared segment they attend to)."""
        runs: dict[Segment, tuple[int, int]] = {}
        for segment, a, b in zip(self.segments, self.starts, self.starts[1:], strict=False):
            for above in segment.above:
                first, last = runs.get(above, (a, a))
                if last != a:
                    yield first, last, above
                    first = a
                runs[above] = first, b
        for above, (first, last) in runs.items():
            yield first, last, above

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scale: float,
        softcap: float | None,
        window: int | None,
        sinks: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return what every token attends to, (1, t, heads, d).

        Args:
            query: (1, heads, t, d).
            key: (1, key heads, t, d).
            value: (1, key heads, t, d).
            scale: what scores are multiplied with.
            softcap: scores become softcap * tanh(scores / softcap).
            window: a token sees itself and the window - 1 tokens before it.
            sinks: (heads,) one more score per head that nothing is read from.
        """
        if window is not None and window >= self.reach:
            window = None
        layer, self.layers = self.layers, self.layers + 1
        for segment, a, b in zip(self.segments, self.starts, self.starts[1:], strict=False):
            if segment.children:
                del segment.held[layer:]
                pair = key[:, :, a:b], value[:, :, a:b]
                segment.held.append((pair[0].contiguous(), pair[1].contiguous()))
        kernel = _Kernel(scale, softcap, window, fused=self.fused)
        trims = self.trims and layer == self.last
        contexts: Iterable[tuple[int, int, Segment]] = self.contexts
        positions = self.positions
        if trims:
            whole = query.new_zeros(1, query.shape[2], query.shape[1], value.shape[3])
            at = self.rows_read()
            query = query.index_select(2, at)
            out, norm = self._own_reads(kernel, query, key, value)
            contexts = self._read_contexts()
            positions = positions[self.reads]
        else:
            out, norm = self._own(kernel, query, key, value)
        for a, b, shared in contexts:
            keys, values = shared.held[layer]
            there = np.arange(shared.start, shared.end)
            # All of it stands before; only a window hides any of it.
            hidden = None if window is None else kernel.hidden(positions[a:b], there, self.device)
            part, part_norm = kernel.onto(query[:, :, a:b], keys, values, hidden)
            _join(out[:, :, a:b], norm[:, :, a:b], part, part_norm)
        if sinks is not None:
            share = torch.sigmoid(norm - sinks.to(norm.dtype)[None, :, None])
            out = (out * share[..., None]).to(out.dtype)
        if not trims:
            return out.transpose(1, 2)
        return whole.index_copy_(1, at, out.transpose(1, 2))

    def _own(
        self, kernel: _Kernel, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> Part:
        """Let the tokens of each segment attend to those before them in it."""
        if not self._side_by_side:
            parts = [
                kernel.causal(query[:, :, a:b], key[:, :, a:b], value[:, :, a:b])
                for a, b in zip(self.starts, self.starts[1:], strict=False)
            ]
            if len(parts) == 1:
                return parts[0]
            # Kernels give (1, t, heads, d) seen as (1, heads, t, d): joined so, nothing is moved.
            out = torch.cat([part.transpose(1, 2) for part, _ in parts], dim=1).transpose(1, 2)
            return out, torch.cat([norm for _, norm in parts], dim=2)
        into, back = self._padding()
        n = len(self.segments)

        def padded(x: torch.Tensor) -> torch.Tensor:
            rows = x[0].index_select(1, into)
            return rows.view(x.shape[1], n, -1, x.shape[3]).transpose(0, 1)

        out, norm = kernel.causal(padded(query), padded(key), padded(value))
        out = out.transpose(1, 2).flatten(0, 1).index_select(0, back)
        norm = norm.transpose(0, 1).flatten(1, 2).index_select(1, back)
        return out.transpose(0, 1)[None], norm[None]

    def rows_read(self) -> torch.Tensor:
        """Return ``reads`` on the device."""
        if self._reads is None:
            self._reads = to_device(self.reads, self.device)
        return self._reads

    def _own_reads(
        self, kernel: _Kernel, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> Part:
        """Let the tokens that are read attend to those before them in their segment."""
        parts = []
        for a, first, last in self._read_runs():
            offsets = self.reads[first:last] - a
            end = a + int(offsets[-1]) + 1
            hidden = kernel.hidden(offsets, np.arange(end - a), self.device)
            asked, keys, values = query[:, :, first:last], key[:, :, a:end], value[:, :, a:end]
            parts.append(kernel.onto(asked, keys, values, hidden))
        return torch.cat([part for part, _ in parts], 2), torch.cat([norm for _, norm in parts], 2)

    def _read_runs(self) -> Iterator[tuple[int, int, int]]:
        """Yield (first token, first read, one past the last read) of each segment that is read."""
        for a, b in zip(self.starts, self.starts[1:], strict=False):
            first, last = np.searchsorted(self.reads, (a, b)).tolist()
            if last > first:
                yield a, first, last

    def _read_contexts(self) -> Iterator[tuple[int, int, Segment]]:
        """Yield the contexts, of the tokens that are read."""
        for a, b, shared in self.contexts:
            first, last = np.searchsorted(self.reads, (a, b)).tolist()
            if last > first:
                yield first, last, shared

    def _padding(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what lays segments side by side, and what puts them in line again."""
        if self._padded is None:
            width = max(self.lengths)
            inside = np.arange(width)[None, :]
            lengths = np.array(self.lengths)[:, None]
            # Beyond its end a row repeats its last token: no token of it looks there.
            into = np.array(self.starts[:-1])[:, None] + np.minimum(inside, lengths - 1)
            back = np.flatnonzero((inside < lengths).ravel())
            self._padded = to_device(into.ravel(), self.device), to_device(back, self.device)
        return self._padded


class _Kernel:
    """Attention of queries to keys, with the log-sum-exp of the scores.

    All tensors are (b, heads, t, d); keys and values may have fewer heads, each for as many
    neighbouring heads of the queries. Results are (b, heads, t, d) and (b, heads, t).
    """

    def __init__(
        self, scale: float, softcap: float | None, window: int | None, *, fused: bool
    ) -> None:
        self.scale = scale
        self.softcap = softcap
        self.window = window
        self.fused = fused and softcap is None

    def causal(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Part:
        """Attend to oneself and to those before."""
        t = query.shape[2]
        windowed = self.window is not None and self.window < t
        if self._fits(query, key, value) and not windowed:
            groups = query.shape[1] // key.shape[1]
            if groups > 1:
                key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
            return _fused(query, key, value, self.scale, causal=True)
        place = np.arange(t)
        return self._plain(query, key, value, self.hidden(place, place, query.device))

    def hidden(
        self, here: NDArray[np.int64], there: NDArray[np.int64], device: torch.device
    ) -> torch.Tensor | None:
        """Say which tokens a token does not see, (t, s): later ones, and those out of the window.

        Args:
            here: (t,) positions of the tokens that look.
            there: (s,) positions of those that are looked at.
            device: where the answer is wanted.

        Returns:
            None if all are seen.
        """
        distance = here[:, None] - there[None, :]
        hidden = distance < 0
        if self.window is not None:
            hidden |= distance >= self.window
        return torch.from_numpy(hidden).to(device) if hidden.any() else None

    def onto(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        hidden: torch.Tensor | None,
    ) -> Part:
        """Attend to keys, but for those that are hidden, (t, s)."""
        if hidden is not None or not self._fits(query, key, value):
            return self._plain(query, key, value, hidden)
        b, heads, t, d = query.shape
        # Heads that share keys become more queries to them.
        packed = query.reshape(b, key.shape[1], -1, d)
        out, norm = _fused(packed, key, value, self.scale, causal=False)
        return out.reshape(b, heads, t, -1), norm.reshape(b, heads, t)

    def _fits(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
        alike = query.shape[-1] == key.shape[-1] == value.shape[-1]
        return self.fused and alike and query.device.type in ("cpu", "cuda")

    def _plain(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        hidden: torch.Tensor | None,
    ) -> Part:
        """Attend with all scores in memory, in float32; it knows soft caps and hidden tokens."""
        b, heads, t, d = query.shape
        grouped = query.float().reshape(b, key.shape[1], -1, t, d)
        scores = grouped @ key.float()[:, :, None].transpose(-1, -2) * self.scale
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        if hidden is not None:
            scores = scores.masked_fill_(hidden, -torch.inf)
        norm = scores.logsumexp(-1)
        # Where a token sees nothing, all scores are -inf: it takes nothing from here.
        weights = torch.exp(scores - norm.clamp_min(torch.finfo(torch.float32).min)[..., None])
        out = (weights @ value.float()[:, :, None]).to(value.dtype)
        return out.reshape(b, heads, t, -1), norm.reshape(b, heads, t)


def _fused(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, *, causal: bool
) -> Part:
    """Call the kernel behind torch's ``scaled_dot_product_attention`` that tells its norms."""
    aten = torch.ops.aten
    if query.device.type == "cpu":
        if not causal and len(query) == 1:
            made = onednn.attention(query, key, value, scale)
            if made is not None:
                return made
        out, norm = aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, scale=scale
        )
        return out, norm
    if query.dtype == torch.float32:
        out, norm, *_ = aten._scaled_dot_product_efficient_attention(
            query, key, value, None, True, 0.0, causal, scale=scale
        )
        # It rounds the number of queries up.
        return out, norm[:, :, : query.shape[2]]
    out, norm, *_ = aten._scaled_dot_product_flash_attention(
        query, key, value, 0.0, causal, False, scale=scale
    )
    return out, norm


def _join(out: torch.Tensor, norm: torch.Tensor, part: torch.Tensor, other: torch.Tensor) -> None:
    """Add a part of attention to what is there, in place."""
    weight = torch.sigmoid(other - norm)[..., None]
    if out.dtype == weight.dtype:
        out.lerp_(part, weight)
    else:
        out.copy_(torch.lerp(out.to(weight.dtype), part.to(weight.dtype), weight))
    norm.copy_(torch.logaddexp(norm, other))


# --- the door into transformers ------------------------------------------------------------------

_PASS: ContextVar[Pass | None] = ContextVar("pass", default=None)


@contextmanager
def underway(one: Pass) -> Iterator[None]:
    """Make this the pass that attention layers belong to."""
    token = _PASS.set(one)
    try:
        yield
    finally:
        _PASS.reset(token)


@contextmanager
def read_only(step: torch.nn.Module) -> Iterator[None]:
    """Let a step that treats each token by itself see only the tokens that are read.

    It belongs to the last layer: what it makes of other tokens is seen by nobody.
    """

    def before(_step: torch.nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        current = _PASS.get()
        if current is None or not current.trims:
            return given
        return given[0].index_select(1, current.rows_read()), *given[1:]

    def after(_step: torch.nn.Module, _given: tuple[Any, ...], made: Any) -> Any:
        current = _PASS.get()
        if current is None or not current.trims:
            return made
        if isinstance(made, tuple):
            # A mixture of experts also tells which of them it chose.
            return after(_step, _given, made[0]), *made[1:]
        whole = made.new_zeros(made.shape[0], current.starts[-1], made.shape[2])
        return whole.index_copy_(1, current.rows_read(), made)

    hooks = step.register_forward_pre_hook(before), step.register_forward_hook(after)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _shared_attention(
    _module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    s_aux: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it, for the pass under way.

    Raises:
        UnknownAttentionError: the layer asks for something else.
    """
    current = _PASS.get()
    if current is None:
        raise UnknownAttentionError("attention was called outside of a pass")
    if attention_mask is not None:
        raise UnknownAttentionError("its layers bring a mask of their own")
    for name, given in others.items():
        if given is not None and name not in _HARMLESS:
            raise UnknownAttentionError(f"its layers ask for {name}")
    out = current.attend(
        query,
        key,
        value,
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        softcap=softcap,
        window=sliding_window,
        sinks=s_aux,
    )
    return out, None


AttentionInterface.register(NAME, _shared_attention)


def to_device(array: np.ndarray[Any, np.dtype[np.int64]], device: torch.device) -> torch.Tensor:
    """Copy whole numbers to a device without waiting for it."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
