"""Matrix products on processors that torch's own library of them does not use fully.

On x86 torch multiplies float32 matrices with Intel's MKL, which uses the widest instructions
(AVX-512) on Intel's processors only. oneDNN, which torch brings along too, uses them wherever they
are: on the AMD EPYC of docs/performance.md it is 2.2 times as fast. It adds up in another order, so
the last digits differ. Its products are those of torch.compile, called here without compiling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import torch

# Queries at a time, so that their scores stay in the cache between one step and the next.
BLOCK: Final = 512
# Fewer queries than this are not worth several calls.
MIN_QUERIES: Final = 64
LOG2_E: Final = 1.4426950408889634


@cache
def helps() -> bool:
    """Whether this processor is one that it helps on."""
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
    """Let the linear layers of a model multiply here, for a while."""
    changed: list[torch.nn.Module] = []
    try:
        if helps():
            for layer in model.modules():
                # One whose forward was replaced already has an owner.
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
    """Let queries attend to all keys; None where torch's own kernel is the better one.

    Exponentials are taken to the base of two, which costs a quarter.

    Args:
        query: (1, heads, t, d).
        key: (1, heads, s, d).
        value: (1, heads, s, d).
        scale: what scores are multiplied with.

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
        asked = query[0, head] * (scale * LOG2_E)
        known, carried = key[0, head].contiguous(), value[0, head].T.contiguous()
        for a in range(0, t, BLOCK):
            scores = multiply(asked[a : a + BLOCK], known, None, "none", [], "")
            top = scores.amax(1, keepdim=True)
            total = scores.sub_(top).exp2_().sum(1, keepdim=True)
            found = multiply(scores, carried, None, "none", [], "")
            torch.div(found, total, out=out[0, a : a + BLOCK, head])
            norm[0, head, a : a + BLOCK] = (top + total.log2_())[:, 0]
    return out.transpose(1, 2), norm.div_(LOG2_E)
