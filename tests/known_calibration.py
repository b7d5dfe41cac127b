"""Deterministic datasets and simulated models with known calibration.

D1, D2 and D3 are defined by formulas and hold no random number, so other programs can be run on
the very same values. The simulated model is a four-way classifier whose truth is drawn from its
own beliefs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.predictions import BoolArray, FloatArray, Predictions

D3_COUNTS = {
    0.0: 10, 0.1: 4, 0.2: 10, 0.25: 4, 0.3: 6, 0.4: 10, 0.5: 40, 0.6: 30, 0.65: 6, 0.7: 40,
    0.75: 20, 0.8: 70, 0.85: 40, 0.9: 110, 0.95: 60, 1.0: 140,
}  # fmt: skip


def _frac(x: FloatArray) -> FloatArray:
    return x - np.floor(x)


def d1() -> tuple[FloatArray, BoolArray]:
    """1000 confidences along the golden ratio, none of them on an edge of 5, 10 or 15 bins."""
    i = np.arange(1, 1001, dtype=np.float64)
    confidence = 0.25 + 0.75 * _frac(0.6180339887498949 * i)
    truth = 0.55 + 0.55 * (confidence - 0.625) + 0.08 * np.sin(23 * confidence)
    return confidence, _frac(0.7548776662466927 * i) < truth


def d2() -> tuple[FloatArray, BoolArray]:
    """320 confidences, every one of them on an edge of 15 bins."""
    confidence, correct = [], []
    for k in range(16):
        threshold = np.clip(0.9 * (k / 15) + (0.10 if k % 2 == 0 else -0.05), 0, 1)
        for j in range(20):
            confidence.append(k / 15)
            correct.append((j + 0.5) / 20 < threshold)
    return np.array(confidence), np.array(correct)


def d3() -> tuple[FloatArray, BoolArray]:
    """600 verbalised confidences: multiples of 0.05, with 140 times 1 and 10 times 0."""
    confidence, correct = [], []
    for c, m in D3_COUNTS.items():
        for t in range(m):
            confidence.append(c)
            correct.append((t + 0.5) / m < np.clip(0.30 + 0.45 * c, 0, 1))
    return np.array(confidence), np.array(correct)


DATASETS = {"D1": d1, "D2": d2, "D3": d3}


def exact(
    gaps: dict[float, float] | None = None, each: int = 400, *, probe: str = "exact"
) -> Predictions:
    """Return predictions whose gap (confidence - accuracy) is known at every confidence.

    Args:
        gaps: confidence to gap; calibrated at five confidences by default.
        each: items per confidence; confidence minus gap times this must be whole.
        probe: name of the probe.
    """
    gaps = gaps or dict.fromkeys((0.5, 0.6, 0.7, 0.8, 0.9), 0.0)
    confidence, correct = [], []
    for c, gap in gaps.items():
        right = (c - gap) * each
        assert abs(right - round(right)) < 1e-6
        confidence += [c] * each
        correct += [i < round(right) for i in range(each)]
    return Predictions.from_confidence(confidence, correct, probe=probe)


def softmax(logits: FloatArray) -> FloatArray:
    """Softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def four_way(n: int, seed: int) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return (logits (n, 4), labels (n,)): labels are drawn from softmax(logits)."""
    rng = np.random.default_rng(seed)
    logits = 1.3 * rng.standard_normal((n, 4))
    cumulative = softmax(logits).cumsum(axis=1)
    labels = (rng.random((n, 1)) > cumulative).sum(axis=1).clip(0, 3)
    return logits, labels.astype(np.int64)


def calibrated(n: int, seed: int) -> Predictions:
    """Return predictions of a perfectly calibrated four-way model (accuracy about 0.57)."""
    return Predictions.from_logits(*four_way(n, seed))


def sharpened(n: int = 2000, seed: int = 7, factor: float = 1.6) -> Predictions:
    """Return predictions of a four-way model that is too sure: logits times ``factor``."""
    logits, labels = four_way(n, seed)
    return Predictions.from_logits(factor * logits, labels)


def two_runs(n: int, seed: int, factor: float = 1.0) -> tuple[Predictions, Predictions]:
    """Return (baseline, candidate): noisy readings of the same truth, one in eight flips.

    Both are calibrated but for ``factor``, which multiplies the logits of the candidate.
    """
    logits, labels = four_way(n, seed)
    rng = np.random.default_rng(seed + 1_000_003)
    # The mean of the Gaussian posterior takes the noise back out; its own spread softens the
    # softmax once more, by the factor that minimises NLL on a million items.
    shrink = 0.977 * 1.3**2 / (1.3**2 + 0.3**2)
    first = shrink * (logits + 0.3 * rng.standard_normal(logits.shape))
    second = shrink * (logits + 0.3 * rng.standard_normal(logits.shape))
    return (
        Predictions.from_logits(first, labels),
        Predictions.from_logits(factor * second, labels),
    )
