"""Faster matrix products on processors that torch's usual library does not use fully.

On x86 torch multiplies float32 matrices with Intel's MKL, which uses the widest instructions
(AVX-512) on Intel's processors only. oneDNN, which torch includes too, uses them on every processor
that has them: on the AMD EPYC of docs/explanation/performance.md it is 2.2 times as fast. It sums
in another order, so the last digits differ. These are the products of torch.compile, without
compiling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import torch

# Queries at a time, so that their scores stay in the processor's cache between two steps.
BLOCK: Final = 512
# With fewer queries several calls do not pay.
MIN_QUERIES: Final = 64
LOG2_E: Final = 1.4426950408889634


@cache
def helps() -> bool:
    """Whether oneDNN is faster on this processor."""
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.mkl.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and "AuthenticAMD" in _vendor()
    )


def _vendor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            return next((line for line in lines if line.startswith("vendor_id")), "")
    except OSError:
        return ""


def fits(*tensors: torch.Tensor) -> bool:
    """Whether to multiply these here."""
    return helps() and all(x.device.type == "cpu" and x.dtype == torch.float32 for x in tensors)


def product(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Return x @ weight.T + bias, as ``torch.nn.functional.linear``."""
    if not fits(x, weight):
        return torch.nn.functional.linear(x, weight, bias)
    out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


@contextmanager
def products_of(model: torch.nn.Module) -> Iterator[None]:
    """Let the linear layers of a model multiply with oneDNN, for a while."""
    changed: list[torch.nn.Module] = []
    try:
        if helps():
            for layer in model.modules():
                # Another library may have replaced forward.
                if type(layer) is torch.nn.Linear and "forward" not in vars(layer):
                    layer.forward = partial(_forward, layer)
                    changed.append(layer)
        yield
    finally:
        for layer in changed:
            vars(layer).pop("forward", None)


def _forward(layer: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return product(x, layer.weight, layer.bias)


def attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Compute attention of queries to all keys; None where torch's own kernel is faster.

    Powers of two take a quarter of the time of exponentials.

    Args:
        query: (1, heads, t, d).
        key: (1, heads, s, d).
        value: (1, heads, s, d).
        scale: factor of the scores.

    Returns:
        (1, heads, t, d), and the log-sum-exp of the scores, (1, heads, t).
    """
    _, heads, t, d = query.shape
    if t < MIN_QUERIES or key.shape[2] < MIN_QUERIES or not fits(query, key, value):
        return None
    out = torch.empty(1, t, heads, d)
    norm = torch.empty(1, heads, t)
    multiply: Callable[..., Any] = torch.ops.mkldnn._linear_pointwise
    for head in range(heads):
        queries = query[0, head] * (scale * LOG2_E)
        keys, values = key[0, head].contiguous(), value[0, head].T.contiguous()
        for a in range(0, t, BLOCK):
            scores = multiply(queries[a : a + BLOCK], keys, None, "none", [], "")
            top = scores.amax(1, keepdim=True)
            total = scores.sub_(top).exp2_().sum(1, keepdim=True)
            part = multiply(scores, values, None, "none", [], "")
            torch.div(part, total, out=out[0, a : a + BLOCK, head])
            norm[0, head, a : a + BLOCK] = (top + total.log2_())[:, 0]
    return out.transpose(1, 2), norm.div_(LOG2_E)
