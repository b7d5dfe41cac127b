"""Simulated pairs of checkpoints whose truth is known, of several makes.

A *source* draws the two sides of a comparison; where nothing else is said, nothing changed between
them. A *damage* changes the candidate's confidences, by as much as makes its ECE on infinitely many
items worse by a wanted amount (:func:`sized`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from pytest_calibration import Predictions
from pytest_calibration.gate.components import Paired

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Draw:
    """One simulated comparison; ``truth`` is the probability of being right, where it is known."""

    confidence0: Array
    correct0: Array
    confidence1: Array
    correct1: Array
    truth0: Array
    truth1: Array
    groups: NDArray[np.int64] | None = None
    part: Array = field(default_factory=lambda: np.empty(0))
    lowest: float = 0.02

    def paired(self) -> Paired:
        """Return what the gate reads."""
        folds = np.arange(len(self.correct0)) if self.groups is None else self.groups
        return Paired(
            self.confidence0.astype(np.float32).astype(np.float64),
            self.correct0,
            self.confidence1.astype(np.float32).astype(np.float64),
            self.correct1,
            self.groups,
            folds % 10,
        )


def sigmoid(x: Array) -> Array:
    """Logistic function."""
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def logit(p: Array) -> Array:
    """Inverse of the logistic function, for confidences short of 0 and 1."""
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return np.log(p / (1 - p))


def softmax(x: Array) -> Array:
    """Soft-max over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def population_ece(confidence: Array, truth: Array, cells: int = 400) -> float:
    """ECE from the true probabilities, over equally filled cells of the confidence."""
    order = np.argsort(confidence, kind="stable")
    # Equal confidences stay together; a cell is closed at the first change after its share.
    sorted_confidence = confidence[order]
    cell = np.arange(len(order)) * cells // len(order)
    first = np.searchsorted(sorted_confidence, sorted_confidence, side="left")
    cell = cell[first]
    gap = (confidence - truth)[order]
    return float(np.abs(np.bincount(cell, gap)).sum() / len(order))


# --- a four-way classifier that knows its truth --------------------------------------------------


@lru_cache
def temper(noise: float) -> float:
    """Return the factor that calibrates a reading of the logits with this noise."""
    rng = np.random.default_rng(1)
    z = 1.3 * rng.standard_normal((200_000, 4))
    reading = z + noise * rng.standard_normal(z.shape)
    low, high = 0.05, 1.5
    for _ in range(50):
        middle = (low + high) / 2
        p = softmax(middle * reading)
        answer = p.argmax(axis=1)
        rows = np.arange(len(z))
        over = (p[rows, answer] - softmax(z)[rows, answer]).mean()
        low, high = (middle, high) if over < 0 else (low, middle)
    return low


def four_way_readings(
    n: int,
    rng: np.random.Generator,
    *,
    noise: tuple[float, ...],
    factor: tuple[float, ...] = (),
    groups: NDArray[np.int64] | None = None,
) -> list[tuple[Array, Array, Array]]:
    """Confidence, outcome and truth of noisy readings of the same logits, see :func:`four_way`."""
    z = 1.3 * rng.standard_normal((n, 4))
    if groups is not None:
        z *= np.exp(0.3 * rng.standard_normal(groups[-1] + 1))[groups][:, None]
    belief = softmax(z)
    label = (rng.random((n, 1)) > belief.cumsum(axis=1)).sum(axis=1).clip(0, 3)
    rows = np.arange(n)
    sides = []
    for sigma, f in zip(noise, factor or (1.0,) * len(noise), strict=True):
        logits = f * temper(sigma) * (z + sigma * rng.standard_normal(z.shape))
        if groups is not None:
            logits = logits * np.exp(0.15 * rng.standard_normal(groups[-1] + 1))[groups][:, None]
        p = softmax(logits)
        answer = p.argmax(axis=1)
        sides.append((p[rows, answer], (answer == label) * 1.0, belief[rows, answer]))
    return sides


def four_way(
    n: int,
    rng: np.random.Generator,
    *,
    noise: tuple[float, float] = (0.3, 0.3),
    factor: tuple[float, float] = (1.0, 1.0),
    twist: float = 1.0,
    document: int = 1,
    grid: float = 0.0,
) -> Draw:
    """Two noisy readings of the same logits, each calibrated but for its factor.

    ``twist`` multiplies the candidate's log-odds about their mean, which leaves the mean gap.
    ``document`` items share an effect on the temperature, drawn anew for each side.
    ``grid`` rounds the confidences, as a model does that is asked to state them.
    """
    groups = np.arange(n) // document if document > 1 else None
    sides = four_way_readings(n, rng, noise=noise, factor=factor, groups=groups)
    (c0, y0, q0), (c1, y1, q1) = sides
    if twist != 1:
        centre, shift = twisted(twist)
        c1 = sigmoid(centre + twist * (logit(c1) - centre) + shift)
    if grid:
        c0, c1 = (np.clip(np.round(c / grid) * grid, 0, 1) for c in (c0, c1))
    return Draw(c0, y0, c1, y1, q0, q1, groups)


@lru_cache
def twisted(factor: float) -> tuple[float, float]:
    """Return the centre of the log-odds, and the shift that keeps the mean confidence."""
    draw = four_way(200_000, np.random.default_rng(2))
    odds = logit(draw.confidence1)
    centre, wanted = float(odds.mean()), float(draw.confidence1.mean())
    low, high = -5.0, 5.0
    for _ in range(60):
        middle = (low + high) / 2
        mean = sigmoid(centre + factor * (odds - centre) + middle).mean()
        low, high = (middle, high) if mean < wanted else (low, middle)
    return centre, low


# --- confidences from a mixture, misread by a shape ----------------------------------------------

BASES: dict[str, Callable[[Array], Array]] = {
    "calibrated": lambda q: q,
    "over-confident": lambda q: sigmoid(logit(q) + 0.5),
    "under-confident": lambda q: sigmoid(logit(q) - 0.4),
}
SHAPES: dict[str, Callable[[Array, float], Array]] = {
    "none": lambda c, _: c,
    "logits scaled": lambda c, d: sigmoid(logit(c) * (1 + d)),
    "logits shifted": lambda c, d: sigmoid(logit(c) + d),
    "drawn to the mean": lambda c, d: c + (0.62 - c) * d,
    "pushed from the mean": lambda c, d: c - (0.62 - c) * d,
    "only below 0.5": lambda c, d: np.where(c < 0.5, c + d * (c - 0.1), c),
    "a share says 0.95": lambda c, d: np.where(_uniform(c) < d, 0.95, c),
    "one wave": lambda c, d: c + d * np.sin(2 * np.pi * (c - 0.15) / 0.84),
    "bow": lambda c, d: c + d * (np.abs((c - 0.15) / 0.84 - 0.55) * 3 - 0.75),
    "two waves": lambda c, d: c + d * np.sin(4 * np.pi * (c - 0.15) / 0.84),
}


def _uniform(c: Array) -> Array:
    """A number in [0, 1) for each confidence that looks random and is always the same."""
    return np.asarray((c * 1e6 * 0.6180339887498949) % 1)


def mixture(
    n: int,
    rng: np.random.Generator,
    *,
    base: str = "calibrated",
    shape: str = "none",
    size: float = 0.0,
    grid: float = 0.0,
    document: int = 1,
) -> Draw:
    """Two models that share what they know, t-distributed noise, one outcome in ten drawn anew."""
    easy = rng.random(n) < 0.6
    odds = logit(np.where(easy, rng.beta(6, 2, n), rng.beta(2, 3, n)))
    groups = np.arange(n) // document if document > 1 else None

    def noise() -> Array:
        out = 0.25 * rng.standard_t(4, n)
        if groups is not None:
            out += 0.25 * rng.standard_normal(groups[-1] + 1)[groups]
        return out

    truth0, truth1 = (0.15 + 0.84 * sigmoid(odds + noise()) for _ in range(2))
    luck = rng.random(n)
    again = np.where(rng.random(n) < 0.1, rng.random(n), luck)
    c0 = BASES[base](truth0)
    c1 = SHAPES[shape](BASES[base](truth1), size)
    if grid:
        c0, c1 = (np.round(c / grid) * grid for c in (c0, c1))
    return Draw(
        np.clip(c0, 0, 1),
        (luck < truth0) * 1.0,
        np.clip(c1, 0, 1),
        (again < truth1) * 1.0,
        truth0,
        truth1,
        groups,
    )


# --- checkpoints of the example project, resampled -----------------------------------------------


@dataclass(frozen=True)
class Real:
    """Predictions of two checkpoints on the same items, to be resampled by group."""

    baseline: Predictions
    candidate: Predictions
    swap: bool

    def __call__(self, n: int, rng: np.random.Generator) -> Draw:
        """Draw groups with replacement; with ``swap`` each side is either checkpoint at random."""
        groups = self.baseline.groups
        codes = np.arange(len(self.baseline))
        if groups is not None:
            codes = np.unique(groups, return_inverse=True)[1]
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(codes.max() + 2))
        per_group = len(codes) / (codes.max() + 1)
        drawn = rng.integers(codes.max() + 1, size=round(n / per_group))
        items = np.concatenate([order[starts[g] : starts[g + 1]] for g in drawn])
        label = np.repeat(np.arange(len(drawn)), starts[drawn + 1] - starts[drawn])
        other = (rng.random(len(drawn)) < 0.5)[label] & self.swap
        sides = []
        for one, two in ((self.baseline, self.candidate), (self.candidate, self.baseline)):
            c = np.where(other, two.confidence[items], one.confidence[items])
            y = np.where(other, two.correct[items], one.correct[items]) * 1.0
            sides.append((c, y))
        (c0, y0), (c1, y1) = sides
        return Draw(c0, y0, c1, y1, y0, y1, label if groups is not None else None)


# --- twelve more sources, and what can go wrong on each ------------------------------------------


def _twice(
    rng: np.random.Generator,
    truth0: Array,
    truth1: Array,
    *,
    again: float = 0.25,
    groups: NDArray[np.int64] | None = None,
) -> Draw:
    """Two sides that know their truth; a share of the outcomes is drawn anew for the second."""
    n = len(truth0)
    luck = rng.random(n)
    second = np.where(rng.random(n) < again, rng.random(n), luck)
    right0, right1 = (luck < truth0) * 1.0, (second < truth1) * 1.0
    return Draw(truth0, right0, truth1, right1, truth0, truth1, groups, rng.random(n))


def _noisy(
    odds: Array, rng: np.random.Generator, spread: float = 0.3, floor: float = 0.0
) -> tuple[Array, Array]:
    """P(correct) on either side: what both know, with noise of its own on the log-odds."""
    first, second = (
        floor + (1 - floor) * sigmoid(odds + spread * rng.standard_normal(len(odds)))
        for _ in range(2)
    )
    return first, second


def item_response(n: int, rng: np.random.Generator) -> Draw:
    """Item response theory: discrimination, difficulty, and a guess of a quarter."""
    odds = np.exp(0.3 * rng.standard_normal(n)) * (0.8 + 1.4 * rng.standard_normal(n))
    return _twice(rng, *_noisy(odds, rng, floor=0.25))


def strong_model(n: int, rng: np.random.Generator) -> Draw:
    """Four items of five are nearly certain."""
    sure = rng.random(n) < 0.8
    return _twice(rng, *_noisy(np.where(sure, 4.5, 0.3) + 0.8 * rng.standard_normal(n), rng))


def ten_way(n: int, rng: np.random.Generator) -> Draw:
    """Ten options, of which a weak model finds the right one three times in ten."""
    z = rng.standard_normal((n, 10))
    sides = [softmax(1.1 * z + 0.3 * rng.standard_normal(z.shape)).max(axis=1) for _ in range(2)]
    return _twice(rng, sides[0], sides[1])


def saturated_binary(n: int, rng: np.random.Generator) -> Draw:
    """Yes or no, mostly beyond doubt: confidences from 0.5 to 1, half of them above 0.98."""
    odds = np.abs(4.5 * rng.standard_normal(n))
    first, second = (sigmoid(np.abs(odds + 0.3 * rng.standard_normal(n))) for _ in range(2))
    return _twice(rng, first, second)


def bfloat16_ties(n: int, rng: np.random.Generator) -> Draw:
    """Confidences in bfloat16: seven bits, many equal, many exactly 1."""
    draw = _twice(rng, *_noisy(1.5 + 3 * rng.standard_normal(n), rng, floor=0.25))
    bits = [np.round(c * 2**8 / (s := 2 ** np.ceil(np.log2(c)))) * s / 2**8 for c in
            (draw.confidence0, draw.confidence1)]  # fmt: skip
    return replace(draw, confidence0=bits[0], confidence1=bits[1])


def uneven_groups(n: int, rng: np.random.Generator) -> Draw:
    """One group holds three items of ten, the rest come in fives; a group errs together."""
    large = int(0.3 * n)
    groups = np.concatenate([np.zeros(large, int), 1 + np.arange(n - large) // 5])
    knows = 0.5 * rng.standard_normal(groups[-1] + 1)[groups]
    sides = []
    for _ in range(2):
        effect = 0.2 * rng.standard_normal(groups[-1] + 1)[groups]
        sides.append(0.25 + 0.75 * sigmoid(0.8 + 1.2 * rng.standard_normal(n) + knows + effect))
    return _twice(rng, sides[0], sides[1], groups=groups)


def next_tokens(n: int, rng: np.random.Generator) -> Draw:
    """Tokens of documents of 20: unsure or sure, little between, and documents differ."""
    groups = np.arange(n) // 20
    odds = rng.choice([-2.0, 0.5, 3.5], n, p=[0.45, 0.25, 0.3]) + 0.9 * rng.standard_normal(n)
    odds = odds + 0.4 * rng.standard_normal(groups[-1] + 1)[groups]
    sides = []
    for _ in range(2):
        document = 0.1 * rng.standard_normal(groups[-1] + 1)[groups]
        sides.append(sigmoid(odds + document + 0.2 * rng.standard_normal(n)))
    return _twice(rng, sides[0], sides[1], again=0.15, groups=groups)


def few_flips(n: int, rng: np.random.Generator) -> Draw:
    """A light touch: three answers in a hundred change."""
    odds = 0.7 + 1.5 * rng.standard_normal(n)
    return _twice(rng, *_noisy(odds, rng, 0.05, floor=0.2), again=0.06)


def heavy_tails(n: int, rng: np.random.Generator) -> Draw:
    """Noise of Student's t with 1.5 degrees of freedom: no variance."""
    odds = 0.7 + 1.2 * rng.standard_normal(n)
    first, second = (0.2 + 0.8 * sigmoid(odds + 0.3 * rng.standard_t(1.5, n)) for _ in range(2))
    return _twice(rng, first, second)


def asymmetric_noise(n: int, rng: np.random.Generator) -> Draw:
    """Each side is now and then far less sure than it could be, never far more."""
    odds = 1.2 + 1.2 * rng.standard_normal(n)
    first, second = (0.2 + 0.8 * sigmoid(odds - 0.5 * rng.exponential(1, n)) for _ in range(2))
    return _twice(rng, first, second)


VERBAL = np.array([0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0])


def verbal(n: int, rng: np.random.Generator) -> Draw:
    """Stated confidences: nearly all from 0.85 to 0.95, whatever the model knows."""
    word = rng.choice(len(VERBAL), n, p=[0.02, 0.01, 0.03, 0.04, 0.1, 0.2, 0.35, 0.2, 0.05])
    knows = rng.standard_normal(n)
    sides, words = [], []
    for _ in range(2):
        moved = word + rng.choice([-1, 0, 1], n, p=[0.15, 0.7, 0.15])
        words.append(VERBAL[moved.clip(0, len(VERBAL) - 1)])
        sides.append(sigmoid(2.5 * (words[-1] - 0.6) + knows + 0.3 * rng.standard_normal(n)))
    return replace(_twice(rng, *sides), confidence0=words[0], confidence1=words[1])


def subjects(n: int, rng: np.random.Generator) -> Draw:
    """Twenty subjects, half of them read too high and half too low, on both sides alike."""
    bias = np.where(rng.integers(20, size=n) < 10, 0.6, -0.6)
    draw = _twice(rng, *_noisy(0.6 + 1.3 * rng.standard_normal(n), rng, floor=0.25))
    read = [0.25 + 0.75 * sigmoid(logit((c - 0.25) / 0.75) + bias) for c in
            (draw.confidence0, draw.confidence1)]  # fmt: skip
    return replace(draw, confidence0=read[0], confidence1=read[1])


# What a guess is worth; 0.02 elsewhere.
LOWEST = {
    "item response": 0.25, "ten-way": 0.1, "saturated binary": 0.5, "bfloat16 ties": 0.25,
    "uneven groups": 0.25, "3 % flips": 0.2, "t(1.5) noise": 0.2, "asymmetric noise": 0.2,
    "verbal": 0.5, "subjects misread both ways": 0.25,
}  # fmt: skip
Source = Callable[[int, np.random.Generator], Draw]
SOURCES: dict[str, Source] = {
    "item response": item_response,
    "strong model": strong_model,
    "ten-way": ten_way,
    "saturated binary": saturated_binary,
    "bfloat16 ties": bfloat16_ties,
    "uneven groups": uneven_groups,
    "next tokens in documents": next_tokens,
    "3 % flips": few_flips,
    "t(1.5) noise": heavy_tails,
    "asymmetric noise": asymmetric_noise,
    "verbal": verbal,
    "subjects misread both ways": subjects,
}


def _share(share: float, damage: Callable[[Array, float], Array], d: Draw, size: float) -> Array:
    return np.where(d.part < share, damage(d.confidence1, size), d.confidence1)


def _shifted(c: Array, size: float) -> Array:
    return sigmoid(logit(c) + size)


def _scaled(c: Array, size: float, lowest: float) -> Array:
    """Log-odds against those of the lowest confidence, which stays."""
    low = logit(np.array(lowest))
    return sigmoid(low + (logit(c) - low) * (1 + size))


def _bowed(c: Array, size: float) -> Array:
    low = float(np.quantile(c, 0.01))
    u = np.clip((c - low) / max(1e-9, float(np.quantile(c, 0.99)) - low), 0, 1)
    return np.clip(c + size * (np.abs(u - 0.55) * 3 - 0.75), 0, 1)


def _least_sure(c: Array, size: float) -> Array:
    return np.where(c < np.quantile(c, 0.1), c * (1 - size), c)


DAMAGES: dict[str, Callable[[Draw, float], Array]] = {
    "scale": lambda d, s: _scaled(d.confidence1, s, d.lowest),
    "shift": lambda d, s: _shifted(d.confidence1, s),
    "flat": lambda d, s: d.confidence1 + (d.confidence1.mean() - d.confidence1) * s,
    "bow": lambda d, s: _bowed(d.confidence1, s),
    "least sure tenth": lambda d, s: _least_sure(d.confidence1, s),
    "class-wise": lambda d, s: _share(1 / 3, _shifted, d, s),
    "slice": lambda d, s: _share(0.2, _shifted, d, s),
}


def damaged(n: int, rng: np.random.Generator, *, source: str, damage: str, size: float) -> Draw:
    """Draw a source whose candidate is damaged."""
    draw = replace(SOURCES[source](n, rng), lowest=LOWEST.get(source, 0.02))
    return replace(draw, confidence1=np.clip(DAMAGES[damage](draw, size), 0, 1))


def mended(n: int, rng: np.random.Generator, *, source: str, damage: str, size: float) -> Draw:
    """Draw a source whose baseline was damaged and whose candidate is not."""
    d = damaged(n, rng, source=source, damage=damage, size=size)
    return replace(
        d, confidence0=d.confidence1, correct0=d.correct1, truth0=d.truth1,
        confidence1=d.confidence0, correct1=d.correct0, truth1=d.truth0,
    )  # fmt: skip


def confident_share(
    n: int, rng: np.random.Generator, *, share: float, right: float = 0.97, sure: float = 0.97
) -> Draw:
    """Item response, where a share is 0.97 right at 0.97 before, and so right at so sure after."""
    odds = np.exp(0.3 * rng.standard_normal(n)) * (0.8 + 1.4 * rng.standard_normal(n))
    first, second = _noisy(odds, rng)
    # All others are at most 0.9 sure.
    d = _twice(rng, 0.25 + 0.65 * first, 0.25 + 0.65 * second)
    tail = rng.random(n) < share
    luck = rng.random(n)
    wobble = 0.01 * rng.uniform(-1, 1, n)

    def put(value: Array, new: Array | float) -> Array:
        return np.where(tail, new, value)

    return replace(
        d, confidence0=put(d.confidence0, 0.97 + wobble), truth0=put(d.truth0, 0.97 + wobble),
        correct0=put(d.correct0, luck < 0.97 + wobble),
        confidence1=put(d.confidence1, np.minimum(1, sure + wobble)),
        truth1=put(d.truth1, right + wobble), correct1=put(d.correct1, luck < right + wobble),
    )  # fmt: skip


def population_worsening(draw: Source, n: int = 400_000) -> float:
    """ECE of the candidate minus ECE of the baseline on n items with known truth."""
    d = draw(n, np.random.default_rng(3))
    after = population_ece(d.confidence1, d.truth1)
    return after - population_ece(d.confidence0, d.truth0)


def sized(
    worsening: float, draw: Callable[..., Draw], sign: float = 1.0, **settings: object
) -> Source:
    """Return a source whose ``size`` gives this population worsening.

    Raises:
        ValueError: no size gives it.
    """

    def reached(size: float) -> bool:
        return (
            sign * population_worsening(partial(draw, size=size, **settings), 100_000) > worsening
        )

    low, high = 0.0, 0.05
    while not reached(high):
        low, high = high, 1.6 * high
        if high > 60:
            raise ValueError(f"{settings} cannot worsen by {worsening}")
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return partial(draw, size=high, **settings)
