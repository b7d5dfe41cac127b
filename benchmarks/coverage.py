"""How often does a 95 % interval hold the truth? Every metric, on simulated models.

::

    python benchmarks/coverage.py                     # print the tables (15 minutes, two cores)
    python benchmarks/coverage.py --quick             # a tenth of the trials
    python benchmarks/coverage.py --only ece,auroc    # these metrics
    python benchmarks/coverage.py --write docs/explanation/intervals.md

A trial draws n items from a model of which the probability of being right is known, measures every
metric with ``measure`` and looks whether the value of the population lies within the interval. That
value comes from two million items with their true probabilities in place of outcomes, so that it
holds no sampling noise of outcomes: a calibrated model has an error of exactly 0.

What is asked for is the value of the same functional: binned metrics with the same bins (for equal
mass, with the edges of the sample), MCE over the bins that hold items of the sample, smooth ECE at
the bandwidth that the population chooses for itself.
"""

from __future__ import annotations

import argparse
import math
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from generators import SOURCES
from numpy.typing import NDArray
from pages import publish

from pytest_calibration import Predictions, measure
from pytest_calibration.metrics import METRICS, Strategy, bin_edges, bin_index
from pytest_calibration.metrics.binless import deposit
from pytest_calibration.metrics.binning import DEFAULT_BINS, EDGE_SNAP
from pytest_calibration.metrics.selective import DEFAULT_COVERAGE
from pytest_calibration.metrics.sharpness import SURE
from pytest_calibration.uncertainty.smoothing import CELLS, TRAPEZIUM, density

Array = NDArray[np.float64]
SIZES = (500, 1000, 5000)
OPTIONS = 4
DOCUMENT = 10
POPULATION = 2_000_000
CHUNK = 250_000
# Metrics one end of which is conservative by design, because no unbiased estimate is to be had.
CONSERVATIVE = (
    "ece", "equal_mass_ece", "cross_fitted_ece", "mce", "rms_ce", "debiased_rms_ce",
    "debiased_squared_ce", "classwise_ece", "overconfidence", "underconfidence", "smooth_ece",
    "ks_ce", "brier_reliability", "brier_resolution",
)  # fmt: skip


# --- models with a known truth -------------------------------------------------------------------


def normalised(weights: Array) -> Array:
    """Rows that sum to 1."""
    return weights / weights.sum(axis=1, keepdims=True)


def normal_cdf(x: Array) -> Array:
    """Distribution function of the standard normal distribution."""
    return 0.5 * (1 + np.array([math.erf(v) for v in x / math.sqrt(2)]))


@dataclass(frozen=True)
class Model:
    """What a model believes and what is true.

    Attributes:
        name: what the table says.
        shown: true probabilities of the options to those that the model shows; both (n, k). The
            most probable option must stay so.
        bonus: added to the logit of the first option: how sure it is of it, and rightly.
        documents: whether items come in documents of ten, that share how hard they are and err
            together.
        grid: step to which confidences are rounded; 0 for none. Other options are then not shown.
    """

    name: str
    shown: Callable[[Array], Array]
    bonus: float = 0.0
    documents: bool = False
    grid: float = 0.0

    def truths(self, n: int, rng: np.random.Generator) -> Array:
        """Draw (n, k) true probabilities."""
        logits = 1.3 * rng.standard_normal((n, OPTIONS))
        if self.documents:
            hardness = np.exp(0.4 * rng.standard_normal(math.ceil(n / DOCUMENT)))
            logits *= np.repeat(hardness, DOCUMENT)[:n, None]
        logits[:, 0] += self.bonus
        return normalised(np.exp(logits - logits.max(axis=1, keepdims=True)))

    def confidence(self, shown: Array) -> Array:
        """(n,) confidence in the answer."""
        top = shown.max(axis=1)
        return np.round(top / self.grid) * self.grid if self.grid else top

    def draw(self, n: int, rng: np.random.Generator) -> Predictions:
        """Draw the predictions of n items."""
        truth = self.truths(n, rng)
        answer = truth.argmax(axis=1)
        groups = None
        if self.documents:
            # Whether an answer is right hangs together within a document: a Gaussian copula.
            groups = np.arange(n) // DOCUMENT
            shared = rng.standard_normal(n // DOCUMENT + 1)[groups]
            level = normal_cdf(math.sqrt(0.3) * shared + math.sqrt(0.7) * rng.standard_normal(n))
            right = level < truth.max(axis=1)
            others = truth.copy()
            others[np.arange(n), answer] = 0
            labels = np.where(right, answer, drawn(normalised(others), rng))
        else:
            labels = drawn(truth, rng)
        shown = self.shown(truth)
        if self.grid:
            return Predictions.from_confidence(self.confidence(shown), labels == answer)
        return Predictions.from_probabilities(
            shown, labels, groups=None if groups is None else groups.tolist()
        )


def drawn(probabilities: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw one option per row."""
    reached = rng.random((len(probabilities), 1)) > probabilities.cumsum(axis=1)
    return reached.sum(axis=1).clip(0, OPTIONS - 1)


def as_it_is(truth: Array) -> Array:
    """A calibrated model."""
    return truth


def sharper(truth: Array) -> Array:
    """Logits x1.5."""
    return normalised(truth**1.5)


def softer(truth: Array) -> Array:
    """Logits x0.6."""
    return normalised(truth**0.6)


def reshaped(truth: Array) -> Array:
    """Too sure where it is sure, and not sure enough where it is not."""
    return normalised(truth ** np.exp(3 * (truth.max(axis=1, keepdims=True) - 0.56)))


MODELS = (
    Model("calibrated", as_it_is),
    Model("logits x1.5", sharper),
    Model("logits x0.6", softer),
    Model("reshaped", reshaped),
    Model("documents of 10", as_it_is, documents=True),
    Model("documents of 10, x1.5", sharper, documents=True),
    Model("x1.5 on a grid of 0.05", sharper, grid=0.05),
    Model("95 % right", as_it_is, bonus=5.5),
)


@dataclass(frozen=True)
class Other:
    """A source of the benchmarks of the gate: confidences and outcomes alone.

    Attributes:
        name: a key of ``generators.SOURCES``.
    """

    name: str

    def draw(self, n: int, rng: np.random.Generator) -> Predictions:
        """Draw the predictions of n items."""
        d = SOURCES[self.name](n, rng)
        return Predictions.from_confidence(d.confidence0, d.correct0 > 0.5, groups=d.groups)


OTHERS = tuple(
    map(Other, ("strong model", "ten-way", "bfloat16 ties", "next tokens in documents", "verbal",
                "subjects misread both ways"))
)  # fmt: skip


# --- the value of the population -----------------------------------------------------------------


class Population:
    """A large sample with true probabilities, sorted by confidence."""

    def __init__(self, model: Model | Other) -> None:
        rng = np.random.default_rng(zlib.crc32(model.name.encode()))
        if isinstance(model, Other):
            drawn = SOURCES[model.name](POPULATION, rng)
            self._hold(drawn.confidence0, drawn.truth0, {})
        else:
            self._hold(*self._drawn(model, rng))

    @staticmethod
    def _drawn(model: Model, rng: np.random.Generator) -> tuple[Array, Array, dict[str, float]]:
        """Draw confidences, probabilities of being right, and what the whole table says."""
        confidence, right = [], []
        classwise = np.zeros((OPTIONS, DEFAULT_BINS))
        sums = dict.fromkeys(("nll", "mean_entropy", "brier_multiclass"), 0.0)
        for _ in range(POPULATION // CHUNK):
            truth = model.truths(CHUNK, rng)
            shown = model.shown(truth)
            confidence.append(model.confidence(shown))
            right.append(truth.max(axis=1))
            for k in range(OPTIONS):
                column = np.ascontiguousarray(shown[:, k])
                gap = column - truth[:, k]
                classwise[k] += np.bincount(bin_index(column, DEFAULT_BINS), gap, DEFAULT_BINS)
            sums["nll"] -= float((truth * np.log(shown)).sum())
            sums["mean_entropy"] -= float((shown * np.log(shown)).sum())
            sums["brier_multiclass"] += float(((shown - 2 * truth) * shown).sum()) + CHUNK
        values = {name: total / POPULATION for name, total in sums.items()}
        values["classwise_ece"] = float(np.abs(classwise).sum()) / POPULATION / OPTIONS
        return np.concatenate(confidence), np.concatenate(right), values

    def _hold(self, c: Array, p: Array, values: dict[str, float]) -> None:
        order = np.argsort(c)
        self.confidence, p = c[order], p[order]
        self.cumulated = {
            name: np.concatenate([[0.0], np.cumsum(values)])
            for name, values in (("gap", self.confidence - p), ("right", p))
        }
        self.values = values | averages(self.confidence, p) | rankings(self.confidence, p)

    def of(self, predictions: Predictions) -> dict[str, float]:
        """Return the value of every metric, with the bins of these predictions."""
        count, gap, right = self.binned(predictions, "equal_width")
        mean = gap / np.maximum(count, 1)
        accuracy = right / np.maximum(count, 1)
        ece = float(np.abs(gap).sum()) / POPULATION
        square = float(gap @ mean) / POPULATION
        spread = (accuracy - self.values["accuracy"]) ** 2
        held = np.bincount(bin_index(predictions.confidence, DEFAULT_BINS)) > 0
        return self.values | {
            "ece": ece,
            "cross_fitted_ece": ece,
            "equal_mass_ece": float(
                np.abs(self.binned(predictions, "equal_mass")[1]).sum() / POPULATION
            ),
            "mce": float(np.abs(mean[: len(held)][held]).max()),
            "rms_ce": math.sqrt(square),
            "debiased_rms_ce": math.sqrt(square),
            "debiased_squared_ce": square,
            "brier_reliability": square,
            "brier_resolution": float(count @ spread) / POPULATION,
            "overconfidence": float(np.maximum(gap, 0).sum()) / POPULATION,
            "underconfidence": float(np.maximum(-gap, 0).sum()) / POPULATION,
        }

    def binned(self, predictions: Predictions, strategy: Strategy) -> tuple[Array, Array, Array]:
        """Return number, Σ gap and Σ right of each bin of these predictions."""
        edges = bin_edges(predictions.confidence, DEFAULT_BINS, strategy)[1:-1]
        if strategy == "equal_width":
            edges = edges + EDGE_SNAP / DEFAULT_BINS
        cuts = np.searchsorted(self.confidence, edges, side="right")
        cuts = np.concatenate([[0], cuts, [POPULATION]])
        gap, right = (np.diff(self.cumulated[name][cuts]) for name in ("gap", "right"))
        return np.diff(cuts).astype(np.float64), gap, right


def averages(c: Array, p: Array) -> dict[str, float]:
    """Values that are means, from confidences and true probabilities of being right."""
    accuracy = float(p.mean())
    return {
        "accuracy": accuracy,
        "mean_confidence": float(c.mean()),
        "signed_gap": float((c - p).mean()),
        "brier": float((c * c - 2 * c * p + p).mean()),
        "brier_uncertainty": accuracy * (1 - accuracy),
        "share_confident": float((c >= SURE - EDGE_SNAP).mean()),
        "smooth_ece": smooth(c, p),
    }


def smooth(c: Array, p: Array) -> float:
    """Smooth ECE where it equals its bandwidth."""
    gaps = deposit(c, c - p, CELLS) / len(c)
    low, high = 0.0, 1.0
    for _ in range(40):
        sigma = (low + high) / 2
        size = float(np.abs(density(gaps, sigma)) @ TRAPEZIUM)
        low, high = (sigma, high) if size > sigma else (low, sigma)
    return high


def rankings(c: Array, p: Array) -> dict[str, float]:
    """Values that depend on the order of sorted confidences; equal ones are one level."""
    starts = np.flatnonzero(np.concatenate([[True], c[1:] != c[:-1]]))
    count = np.diff(starts, append=len(c)).astype(np.float64)
    right = np.add.reduceat(p, starts)
    wrong = count - right
    below = np.cumsum(wrong) - wrong / 2
    gaps = np.cumsum(np.add.reduceat(c - p, starts))
    # The surest first, as shares of all.
    count, right, wrong = (x[::-1] / len(c) for x in (count, right, wrong))
    end = np.cumsum(count)
    cut = int(np.searchsorted(end, DEFAULT_COVERAGE))
    beyond = (end[cut] - DEFAULT_COVERAGE) / count[cut]
    answered = float(np.cumsum(right)[cut] - beyond * right[cut]) / DEFAULT_COVERAGE
    # Within a level the share that is wrong among all so far is (W + r·u) / (N + u), u from 0 to
    # the level's size; its integral has a logarithm.
    start, before, rate = end - count, np.cumsum(wrong) - wrong, wrong / count
    logs = np.log(end[1:] / start[1:])
    area = wrong.sum() + ((before - start * rate)[1:] * logs).sum()
    return {
        "ks_ce": float(np.abs(gaps).max()) / len(c),
        "auroc": float(right[::-1] @ below) / len(c) / float(right.sum() * wrong.sum()),
        "selective_accuracy": answered,
        "selective_risk": 1 - answered,
        "aurc": float(area),
    }


# --- trials --------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def population(model: Model | Other) -> Population:
    """Return the population of a model; one is kept per process."""
    return Population(model)


def run_cell(
    model: Model | Other, n: int, trials: range, metrics: Sequence[str]
) -> NDArray[np.float64]:
    """Return (trials, metrics, 3): low end missed, high end missed, width; NaN if not to be had."""
    truth = population(model)
    out = np.full((len(trials), len(metrics), 3), np.nan)
    for row, trial in enumerate(trials):
        rng = np.random.default_rng((zlib.crc32(model.name.encode()), n, trial))
        predictions = model.draw(n, rng)
        values = truth.of(predictions)
        for column, name in enumerate(metrics):
            if METRICS[name].applies_to(predictions):
                m = measure(predictions, name)
                # Beyond rounding, and the grid of the population's smooth ECE.
                missed = (m.low > values[name] + 1e-6, m.high < values[name] - 1e-6)
                out[row, column] = (*missed, m.high - m.low)
    return out


def tables(options: argparse.Namespace) -> Iterator[str]:
    """Run everything and yield the Markdown."""
    metrics = options.only.split(",") if options.only else list(METRICS)
    found: dict[tuple[str, int], list[NDArray[np.float64]]] = {}
    step = max(1, options.trials // 4)
    places, jobs = [], []
    for model in (*MODELS, *OTHERS):
        for n in SIZES:
            for start in range(0, options.trials, step):
                trials = range(start, min(start + step, options.trials))
                places.append((model.name, n))
                jobs.append((model, n, trials, metrics))
    with ProcessPoolExecutor(options.workers) as pool:
        for place, rows in zip(places, pool.map(run_cell, *zip(*jobs, strict=True)), strict=True):
            found.setdefault(place, []).append(rows)
    means = {place: np.concatenate(rows).mean(axis=0) for place, rows in found.items()}
    coverage = {place: 100 * (1 - mean[:, 0] - mean[:, 1]) for place, mean in means.items()}
    sizes = " / ".join(f"{n:,}" for n in SIZES)
    yield (
        f"Share of intervals that hold the truth, in per cent, at n = {sizes} items "
        f"({options.trials:,} trials a cell; nominal 95)."
    )
    rates = partial(rate_of, coverage)
    yield from table(metrics, rates)
    yield ""
    yield "The same, where confidences and outcomes alone are known, on models of another make:"
    given = [
        METRICS[name].applies_to(OTHERS[0].draw(10, np.random.default_rng(0))) for name in metrics
    ]
    yield from table(metrics, rates, OTHERS, [i for i, known in enumerate(given) if known])
    yield ""
    yield f"Mean width of the intervals, at n = {sizes} items."
    yield from table(metrics, lambda place, column: f"{means[place][column, 2]:.3f}")
    yield ""
    yield (
        "One side at a time, where one is conservative by design: share of lower ends at or below "
        f"the truth, and of upper ends at or above it, at n = {sizes} items (nominal 97.5)."
    )
    chosen = [name for name in metrics if name in CONSERVATIVE]
    columns = [metrics.index(name) for name in chosen]

    def one_side(side: int, place: tuple[str, int], column: int) -> str:
        return f"{100 * (1 - means[place][columns[column], side]):.1f}"

    for side, label in ((0, "lower end"), (1, "upper end")):
        yield ""
        yield f"{label[0].upper()}{label[1:]}:"
        yield from table(chosen, partial(one_side, side))
    lowest = min((float(np.nanmin(rates)), place) for place, rates in coverage.items())
    name = metrics[int(np.nanargmin(coverage[lowest[1]]))]
    error = 100 * math.sqrt(0.95 * 0.05 / options.trials)
    yield ""
    yield (
        f"Lowest of all cells: {lowest[0]:.1f} % ({name}, {lowest[1][0]}, n = {lowest[1][1]:,}). "
        f"The standard error of a cell at 95 % is {error:.1f} points."
    )


def rate_of(
    coverage: dict[tuple[str, int], NDArray[np.float64]], place: tuple[str, int], column: int
) -> str:
    """Return a cell of the coverage."""
    return f"{coverage[place][column]:.1f}"


def table(
    metrics: Sequence[str],
    cell: Callable[[tuple[str, int], int], str],
    models: Sequence[Model | Other] = MODELS,
    columns: Sequence[int] | None = None,
) -> Iterator[str]:
    """Yield a table of metrics by models, all sizes in one cell."""
    yield ""
    yield "| metric | " + " | ".join(model.name for model in models) + " |"
    yield "|---|" + "--:|" * len(models)
    for column in range(len(metrics)) if columns is None else columns:
        cells = []
        for model in models:
            texts = [cell((model.name, n), column) for n in SIZES]
            cells.append("–" if "nan" in texts else " / ".join(texts))
        yield f"| {metrics[column]} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the tables, or put them between the marks of a page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="a tenth of the trials")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="metrics, with commas between them")
    parser.add_argument("--write", type=Path, help="page to put the tables into")
    options = parser.parse_args()
    if options.quick:
        options.trials //= 10
    publish("\n".join(tables(options)), options.write, "benchmarks/coverage.py")


if __name__ == "__main__":
    main()
