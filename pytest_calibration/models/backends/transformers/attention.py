"""A packed pass through a model: each token attends to its own row, shared prefixes included.

The tokens of many segments are concatenated, so that nothing is padded and every layer but
attention treats them as one text. Attention is computed here, in parts: the tokens of a segment to
each other, and all descendants of a shared segment to its keys and values, which exist once. Parts
are merged by their log-sum-exps, as Dao et al. 2022 (FlashAttention) merge blocks: with
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
# Segments of a smaller mean length are padded into one batch; longer ones are computed in turn.
SHORT: Final = 48
# Where more than one token in so many is read, the last layer is computed for all tokens.
READ_ALL: Final = 8
# Arguments of attention layers that do not change the result.
_IGNORED: Final = frozenset(
    {
        *("dropout", "position_ids", "cache_position", "position_embeddings", "use_cache"),
        *("is_causal", "output_attentions", "output_hidden_states", "return_dict"),
        *("output_router_logits", "logits_to_keep", "num_items_in_batch", "past_key_values"),
        *("past_key_value", "layer_idx", "token_type_ids", "labels", "head_mask"),
    }
)
Part = tuple[torch.Tensor, torch.Tensor]


class UnknownAttentionError(Exception):
    """A model's attention needs something that is not computed here."""


class Pass:
    """One packed pass.

    Args:
        segments: whose tokens are concatenated.
        device: where.
        fused: whether to use torch's fused kernels where they apply.
        last: index of the last attention layer, which is computed at the tokens that are read
            only; None to compute all of it.

    Attributes:
        layers: how many attention layers have been computed.
        positions: (t,) position of each token in its row.
        reads: (k,) the tokens that are read, ascending.
        read_of: (r,) for each target of each segment in turn, its index in ``reads``.
        trimmed: whether the last layer is computed at ``reads`` only.
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
        self.longest = int(self.positions.max()) + 1
        at = [segment.offsets + a for segment, a in zip(segments, self.starts, strict=False)]
        self.reads, self.read_of = np.unique(np.concatenate(at), return_inverse=True)
        if not len(self.reads):
            # No token of a shared prefix is read; the model needs one position all the same.
            self.reads = np.zeros(1, dtype=np.int64)
        self.trimmed = last is not None and READ_ALL * len(self.reads) < self.starts[-1]
        self.last = last
        self.contexts = list(self._contexts())
        self._padded: tuple[torch.Tensor, torch.Tensor] | None = None
        self._read_index: torch.Tensor | None = None
        mean = self.starts[-1] / len(segments)
        self._batched = len(segments) > 1 and (device.type != "cpu" or mean < SHORT)

    def _contexts(self) -> Iterator[tuple[int, int, Segment]]:
        """Yield (first token, one past the last, shared segment they attend to)."""
        runs: dict[Segment, tuple[int, int]] = {}
        for segment, a, b in zip(self.segments, self.starts, self.starts[1:], strict=False):
            for shared in segment.ancestors:
                first, last = runs.get(shared, (a, a))
                if last != a:
                    yield first, last, shared
                    first = a
                runs[shared] = first, b
        for shared, (first, last) in runs.items():
            yield first, last, shared

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
        """Return the result of attention for every token, (1, t, heads, d).

        Args:
            query: (1, heads, t, d).
            key: (1, key heads, t, d).
            value: (1, key heads, t, d).
            scale: factor of the scores.
            softcap: scores become softcap * tanh(scores / softcap).
            window: a token sees itself and the window - 1 tokens before it.
            sinks: (heads,) one more score per head, without a value.
        """
        if window is not None and window >= self.longest:
            window = None
        layer, self.layers = self.layers, self.layers + 1
        for segment, a, b in zip(self.segments, self.starts, self.starts[1:], strict=False):
            if segment.children:
                del segment.key_values[layer:]
                pair = key[:, :, a:b], value[:, :, a:b]
                segment.key_values.append((pair[0].contiguous(), pair[1].contiguous()))
        kernel = _Kernel(scale, softcap, window, fused=self.fused)
        trimmed = self.trimmed and layer == self.last
        contexts: Iterable[tuple[int, int, Segment]] = self.contexts
        positions = self.positions
        if trimmed:
            full = query.new_zeros(1, query.shape[2], query.shape[1], value.shape[3])
            at = self.read_index()
            query = query.index_select(2, at)
            out, norm = self._reads_within_segments(kernel, query, key, value)
            contexts = self._read_contexts()
            positions = positions[self.reads]
        else:
            out, norm = self._within_segments(kernel, query, key, value)
        for a, b, shared in contexts:
            keys, values = shared.key_values[layer]
            key_positions = np.arange(shared.start, shared.end)
            mask = None
            if window is not None:
                # Without a window all of it is seen: it lies before the token.
                mask = kernel.mask(positions[a:b], key_positions, self.device)
            part, part_norm = kernel.to_keys(query[:, :, a:b], keys, values, mask)
            _merge(out[:, :, a:b], norm[:, :, a:b], part, part_norm)
        if sinks is not None:
            share = torch.sigmoid(norm - sinks.to(norm.dtype)[None, :, None])
            out = (out * share[..., None]).to(out.dtype)
        if not trimmed:
            return out.transpose(1, 2)
        return full.index_copy_(1, at, out.transpose(1, 2))

    def _within_segments(
        self, kernel: _Kernel, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> Part:
        """Compute attention within each segment."""
        if not self._batched:
            parts = [
                kernel.causal(query[:, :, a:b], key[:, :, a:b], value[:, :, a:b])
                for a, b in zip(self.starts, self.starts[1:], strict=False)
            ]
            if len(parts) == 1:
                return parts[0]
            # Kernels give (1, t, heads, d) viewed as (1, heads, t, d): concatenate without copies.
            out = torch.cat([part.transpose(1, 2) for part, _ in parts], dim=1).transpose(1, 2)
            return out, torch.cat([norm for _, norm in parts], dim=2)
        gather, scatter = self._padding()
        n = len(self.segments)

        def padded(x: torch.Tensor) -> torch.Tensor:
            rows = x[0].index_select(1, gather)
            return rows.view(x.shape[1], n, -1, x.shape[3]).transpose(0, 1)

        out, norm = kernel.causal(padded(query), padded(key), padded(value))
        out = out.transpose(1, 2).flatten(0, 1).index_select(0, scatter)
        norm = norm.transpose(0, 1).flatten(1, 2).index_select(1, scatter)
        return out.transpose(0, 1)[None], norm[None]

    def read_index(self) -> torch.Tensor:
        """Return ``reads`` on the device."""
        if self._read_index is None:
            self._read_index = to_device(self.reads, self.device)
        return self._read_index

    def _reads_within_segments(
        self, kernel: _Kernel, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> Part:
        """Compute attention within each segment, for the tokens that are read."""
        parts = []
        for a, first, last in self._read_runs():
            offsets = self.reads[first:last] - a
            end = a + int(offsets[-1]) + 1
            mask = kernel.mask(offsets, np.arange(end - a), self.device)
            queries, keys, values = query[:, :, first:last], key[:, :, a:end], value[:, :, a:end]
            parts.append(kernel.to_keys(queries, keys, values, mask))
        return torch.cat([part for part, _ in parts], 2), torch.cat([norm for _, norm in parts], 2)

    def _read_runs(self) -> Iterator[tuple[int, int, int]]:
        """Yield (first token, first read, one past the last read) of each segment that is read."""
        for a, b in zip(self.starts, self.starts[1:], strict=False):
            first, last = np.searchsorted(self.reads, (a, b)).tolist()
            if last > first:
                yield a, first, last

    def _read_contexts(self) -> Iterator[tuple[int, int, Segment]]:
        """Yield the contexts of the tokens that are read, which count among ``reads``."""
        for a, b, shared in self.contexts:
            first, last = np.searchsorted(self.reads, (a, b)).tolist()
            if last > first:
                yield first, last, shared

    def _padding(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return indices that pad segments into one batch, and indices that undo it."""
        if self._padded is None:
            width = max(self.lengths)
            inside = np.arange(width)[None, :]
            lengths = np.array(self.lengths)[:, None]
            # Padding repeats the last token; no other token attends to it.
            gather = np.array(self.starts[:-1])[:, None] + np.minimum(inside, lengths - 1)
            scatter = np.flatnonzero((inside < lengths).ravel())
            self._padded = to_device(gather.ravel(), self.device), to_device(scatter, self.device)
        return self._padded


class _Kernel:
    """Attention of queries to keys, with the log-sum-exp of the scores.

    All tensors are (b, heads, t, d); keys and values may have fewer heads, each shared by as many
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
        """Attend to the token itself and to those before it."""
        t = query.shape[2]
        windowed = self.window is not None and self.window < t
        if self._fits(query, key, value) and not windowed:
            groups = query.shape[1] // key.shape[1]
            if groups > 1:
                key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
            return _fused(query, key, value, self.scale, causal=True)
        place = np.arange(t)
        return self._plain(query, key, value, self.mask(place, place, query.device))

    def mask(
        self, queries: NDArray[np.int64], keys: NDArray[np.int64], device: torch.device
    ) -> torch.Tensor | None:
        """Return a mask of keys that a query does not see: later ones, and those out of the window.

        Args:
            queries: (t,) their positions.
            keys: (s,) their positions.
            device: where the mask is needed.

        Returns:
            (t, s), true where a key is not seen; None if all are seen.
        """
        distance = queries[:, None] - keys[None, :]
        mask = distance < 0
        if self.window is not None:
            mask |= distance >= self.window
        return torch.from_numpy(mask).to(device) if mask.any() else None

    def to_keys(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> Part:
        """Attend to all keys, but for those under the mask, (t, s)."""
        if mask is not None or not self._fits(query, key, value):
            return self._plain(query, key, value, mask)
        b, heads, t, d = query.shape
        # Heads that share keys become more queries of these keys.
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
        mask: torch.Tensor | None,
    ) -> Part:
        """Attend with all scores in memory, in float32, with soft caps and masks."""
        b, heads, t, d = query.shape
        grouped = query.float().reshape(b, key.shape[1], -1, t, d)
        scores = grouped @ key.float()[:, :, None].transpose(-1, -2) * self.scale
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        if mask is not None:
            scores = scores.masked_fill_(mask, -torch.inf)
        norm = scores.logsumexp(-1)
        # A query that sees no key has scores of -inf only; its result is zero.
        weights = torch.exp(scores - norm.clamp_min(torch.finfo(torch.float32).min)[..., None])
        out = (weights @ value.float()[:, :, None]).to(value.dtype)
        return out.reshape(b, heads, t, -1), norm.reshape(b, heads, t)


def _fused(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, *, causal: bool
) -> Part:
    """Call the kernel of torch's ``scaled_dot_product_attention`` that returns log-sum-exps."""
    aten = torch.ops.aten
    if query.device.type == "cpu":
        if not causal and len(query) == 1:
            part = onednn.attention(query, key, value, scale)
            if part is not None:
                return part
        out, norm = aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, scale=scale
        )
        return out, norm
    if query.dtype == torch.float32:
        out, norm, *_ = aten._scaled_dot_product_efficient_attention(
            query, key, value, None, True, 0.0, causal, scale=scale
        )
        # The number of log-sum-exps is rounded up.
        return out, norm[:, :, : query.shape[2]]
    out, norm, *_ = aten._scaled_dot_product_flash_attention(
        query, key, value, 0.0, causal, False, scale=scale
    )
    return out, norm


def _merge(
    out: torch.Tensor, norm: torch.Tensor, part: torch.Tensor, part_norm: torch.Tensor
) -> None:
    """Merge a part of attention into a result, in place."""
    weight = torch.sigmoid(part_norm - norm)[..., None]
    if out.dtype == weight.dtype:
        out.lerp_(part, weight)
    else:
        out.copy_(torch.lerp(out.to(weight.dtype), part.to(weight.dtype), weight))
    norm.copy_(torch.logaddexp(norm, part_norm))


# --- hooks into transformers ---------------------------------------------------------------------

_PASS: ContextVar[Pass | None] = ContextVar("pass", default=None)


@contextmanager
def active(current: Pass) -> Iterator[None]:
    """Let attention layers compute this pass."""
    token = _PASS.set(current)
    try:
        yield
    finally:
        _PASS.reset(token)


@contextmanager
def trimmed_to_reads(mlp: torch.nn.Module) -> Iterator[None]:
    """Let the feed-forward part of the last layer compute only the tokens that are read."""

    def before(_mlp: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        current = _PASS.get()
        if current is None or not current.trimmed:
            return inputs
        return inputs[0].index_select(1, current.read_index()), *inputs[1:]

    def after(_mlp: torch.nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
        current = _PASS.get()
        if current is None or not current.trimmed:
            return output
        if isinstance(output, tuple):
            # A mixture of experts also returns which of them it chose.
            return after(_mlp, _inputs, output[0]), *output[1:]
        full = output.new_zeros(output.shape[0], current.starts[-1], output.shape[2])
        return full.index_copy_(1, current.read_index(), output)

    hooks = mlp.register_forward_pre_hook(before), mlp.register_forward_hook(after)
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
    """Attention as transformers calls it, for the active pass.

    Raises:
        UnknownAttentionError: the layer needs something else.
    """
    current = _PASS.get()
    if current is None:
        raise UnknownAttentionError("attention was called outside of a pass")
    if attention_mask is not None:
        raise UnknownAttentionError("its layers bring a mask of their own")
    for name, argument in others.items():
        if argument is not None and name not in _IGNORED:
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
