"""Attention in parts against attention written out: one row at a time, all scores, float64."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from pytest_calibration.models.backends.transformers import sharing
from pytest_calibration.models.backends.transformers.attention import (
    Pass,
    UnknownAttentionError,
    _shared_attention,
    active,
)
from pytest_calibration.models.backends.transformers.sharing import Segment, forest
from pytest_calibration.models.causal.rows import Row, ScoreTable

pytestmark = pytest.mark.torch

CPU = torch.device("cpu")
SIZE = 8
Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Kind:
    """What attention layers differ in."""

    heads: int
    key_heads: int
    softcap: float | None
    window: int | None
    sinks: bool
    fused: bool
    scale: float = 0.6


@st.composite
def some_rows(draw: st.DrawFn) -> list[Row]:
    """Rows on two levels of common beginnings, read anywhere or nowhere but at the end."""
    rows = []
    trunk = [1] * draw(st.integers(1, 60))
    for question in range(draw(st.integers(1, 3))):
        head = trunk + [10 + question] * draw(st.integers(0, 12))
        for option in range(draw(st.integers(1, 3))):
            ids = head + [20 + option] * draw(st.integers(0, 30))
            last = len(ids) - 1
            at = [*draw(st.lists(st.integers(0, last), max_size=2)), last]
            rows.append(Row(ids, at, [0] * len(at)))
    return rows


def written_out(kind: Kind, path: dict[str, Array], sinks: Array) -> Array:
    """Return what the last token of a path attends to, (heads, d)."""
    t = len(path["key"])
    groups = kind.heads // kind.key_heads
    out = np.zeros((kind.heads, SIZE))
    for head in range(kind.heads):
        keys, values = path["key"][:, head // groups], path["value"][:, head // groups]
        scores = keys @ path["query"][-1, head] * kind.scale
        if kind.softcap is not None:
            scores = kind.softcap * np.tanh(scores / kind.softcap)
        if kind.window is not None:
            scores[: max(0, t - kind.window)] = -np.inf
        weights = np.exp(scores)
        total = weights.sum() + (np.exp(sinks[head]) if kind.sinks else 0.0)
        out[head] = weights @ values / total
    return out


def drawn(segment: Segment, layer: int, kind: Kind) -> dict[str, Array]:
    """Return queries, keys and values of a segment's tokens, the same at every call."""
    names = [int(i) for part in (segment, *segment.ancestors) for i in part.ids]
    rng = np.random.default_rng([layer, segment.start, *names])
    n = len(segment)
    return {
        "query": rng.normal(size=(n, kind.heads, SIZE)),
        "key": rng.normal(size=(n, kind.key_heads, SIZE)),
        "value": rng.normal(size=(n, kind.key_heads, SIZE)),
    }


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
@settings(max_examples=25)
@given(
    rows=some_rows(),
    softcap=st.sampled_from([None, None, 1.5]),
    window=st.sampled_from([None, None, 1, 3, 9, 40]),
    has_sinks=st.booleans(),
    most=st.sampled_from([5, 17, 1000]),
    trimmed=st.booleans(),
    order=st.randoms(use_true_random=False),
)
def test_parts_join_to_attention(
    fused: bool,
    key_heads: int,
    rows: list[Row],
    softcap: float | None,
    window: int | None,
    has_sinks: bool,
    most: int,
    trimmed: bool,
    order: Random,
) -> None:
    """However rows are cut and packed, each token attends to its own row up to itself."""
    kind = Kind(4, key_heads, softcap, window, has_sinks, fused)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharing, "MIN_TOKENS", 1)
        patch.setattr(sharing, "MIN_SHARE", 0.0)
        segments = forest(rows, ScoreTable(rows), range(len(rows)), most=most)
    sinks = np.random.default_rng(3).normal(size=kind.heads)
    while segments:
        # Those below one segment need not stand together.
        order.shuffle(segments)
        one = Pass(segments, CPU, fused=kind.fused, last=1 if trimmed else None)
        for layer in (0, 1):
            parts = [drawn(segment, layer, kind) for segment in segments]
            given_ = {
                name: torch.tensor(np.concatenate([part[name] for part in parts]))
                .float()
                .transpose(0, 1)[None]
                for name in ("query", "key", "value")
            }
            out = one.attend(
                **given_,
                scale=kind.scale,
                softcap=kind.softcap,
                window=kind.window,
                sinks=torch.tensor(sinks).float() if kind.sinks else None,
            )
            assert out.shape == (1, sum(map(len, segments)), kind.heads, SIZE)
            wanted = set(one.reads.tolist()) if one.trimmed and layer == 1 else None
            line = 0
            for segment in segments:
                chain = [segment, *segment.ancestors][::-1]
                whole = [drawn(part, layer, kind) for part in chain]
                path = {name: np.concatenate([p[name] for p in whole]) for name in whole[0]}
                for offset in range(len(segment)):
                    if wanted is None or line in wanted:
                        until = {k: v[: segment.start + offset + 1] for k, v in path.items()}
                        expected = written_out(kind, until, sinks)
                        assert_allclose(out[0, line], expected, rtol=0, atol=2e-5)
                    line += 1
        assert one.layers == 2
        segments = [child for segment in segments for child in segment.children]


def test_only_segments_that_others_need_are_held() -> None:
    """Keys and values are kept where something stands below, one pair a layer, and nowhere else."""
    top = Segment(np.arange(5), 0)
    top.children.append(Segment(np.arange(3), 5, top))
    alone = Segment(np.arange(4), 0)
    one = Pass([top, alone], CPU, fused=True)
    x = torch.randn(1, 2, 9, SIZE)
    for _ in range(3):
        one.attend(x, x, x, scale=1.0, softcap=None, window=None, sinks=None)
    assert len(top.key_values) == 3
    assert alone.key_values == []
    # Copies, which do not keep the whole pass in memory.
    assert all(
        part.untyped_storage().nbytes() == 2 * 5 * SIZE * 4 for p in top.key_values for part in p
    )
    again = Pass([top], CPU, fused=True)
    again.attend(
        x[:, :, :5], x[:, :, :5], x[:, :, :5], scale=1, softcap=None, window=None, sinks=None
    )
    assert len(top.key_values) == 1, "a pass that is run again starts again"


def test_values_of_another_size_than_keys() -> None:
    """Heads whose values are shorter than their keys are attended to without the fused kernels."""
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 2, 6, SIZE)
    value = torch.randn(1, 2, 6, 4)
    one = Pass([Segment(np.arange(6), 0)], CPU, fused=True)
    out = one.attend(query, key, value, scale=0.5, softcap=None, window=None, sinks=None)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=0.5
    )
    assert_allclose(out[0], expected[0].transpose(0, 1), rtol=0, atol=1e-5)


def test_what_is_not_known_is_refused() -> None:
    """A layer that needs what is not computed here raises; one that merely passes more does not."""
    x = torch.randn(1, 2, 4, SIZE)
    layer = torch.nn.Identity()
    one = Pass([Segment(np.arange(4), 0)], CPU, fused=True)
    with pytest.raises(UnknownAttentionError, match=r"attention was called outside of a pass"):
        _shared_attention(layer, x, x, x, None)
    with active(one):
        with pytest.raises(UnknownAttentionError, match=r"its layers bring a mask of their own"):
            _shared_attention(layer, x, x, x, torch.zeros(4, 4))
        with pytest.raises(UnknownAttentionError, match=r"its layers ask for slopes"):
            _shared_attention(layer, x, x, x, None, slopes=x)
        assert one.layers == 0
        out, weights = _shared_attention(layer, x, x, x, None, dropout=0.0, slopes=None)
    assert weights is None
    expected = torch.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
    assert_allclose(out[0], expected[0].transpose(0, 1), rtol=0, atol=1e-5)
    with pytest.raises(UnknownAttentionError, match=r"outside of a pass"):
        _shared_attention(layer, x, x, x, None)
