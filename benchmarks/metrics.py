"""How long do metrics take, beside other programs that give the same numbers?

::

    pip install --group cross-check
    python benchmarks/metrics.py

All programs run in one process, in turn, round after round; the tables give the fastest round,
since whatever else the machine does can only slow a call, and long ones more. In its turn each runs
twice and the second time counts, so that all find their arrays in the cache. Everybody starts from
arrays in memory and ends with the number, and before a row is timed its numbers are compared.
*Ready* is a metric of predictions that exist already; *from arrays* includes building them, which
checks every value and gives every item an id. torchmetrics runs as it is called by default and, in
a column of its own, without the validation of its arguments. Everybody has one thread, unless
``OMP_NUM_THREADS`` says otherwise.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from pytest_calibration import Predictions, compare
from pytest_calibration.metrics import (
    METRICS,
    aurc,
    auroc,
    classwise_ece,
    debiased_rms_ce,
    ece,
    equal_mass_ece,
    ks_ce,
    mce,
    rms_ce,
    smooth_ece,
)

Call = Callable[[], Any]
PROGRAMS = ("netcal", "torchmetrics", "unvalidated", "uncertainty-calibration", "other")
HEADS = ("netcal", "torchmetrics", "torchmetrics, unvalidated", "uncertainty-calibration", "other")
VERSIONS = (
    *("numpy", "scikit-learn", "netcal", "torch", "torchmetrics", "uncertainty-calibration"),
    *("relplot", "MAPIE"),
)


@dataclass
class Row:
    """One number and everybody's way to it.

    Attributes:
        name: what is computed.
        ready: ours, on predictions that exist.
        built: ours, arrays first made into predictions.
        others: program to its call.
        within: how far the numbers may lie apart.
    """

    name: str
    ready: Call
    built: Call
    others: dict[str, Call] = field(default_factory=dict)
    within: float = 1e-9


def four_way(n: int, seed: int, factor: float = 1.0) -> tuple[Any, Any]:
    """Return probabilities (n, 4) and labels (n,) of a model whose logits err by a factor."""
    rng = np.random.default_rng(seed)
    logits = 1.3 * rng.standard_normal((n, 4))
    truth = np.exp(logits)
    truth /= truth.sum(axis=1, keepdims=True)
    labels = (rng.random((n, 1)) > truth.cumsum(axis=1)).sum(axis=1).clip(0, 3)
    table = np.exp(factor * logits)
    return table / table.sum(axis=1, keepdims=True), labels


def rows(n: int) -> Iterator[Row]:
    """Yield every number that another program gives too."""
    import calibration
    import relplot
    import torch
    from calibration import utils
    from mapie.metrics.calibration import kolmogorov_smirnov_statistic
    from netcal.metrics import ECE, MCE
    from sklearn.metrics import roc_auc_score
    from torchmetrics.functional.classification import (
        binary_auroc,
        binary_calibration_error,
        multiclass_calibration_error,
    )

    table, labels = four_way(n, 0, 1.5)
    p = Predictions.from_probabilities(table, labels)
    confidence, correct = np.array(p.confidence), np.array(p.correct)
    hits = correct.astype(np.int64)
    scale = float(np.sqrt((confidence * (1 - confidence)).sum()) / n)
    tensors = torch.from_numpy(confidence), torch.from_numpy(hits)
    table_tensors = torch.from_numpy(table), torch.from_numpy(labels)
    classes = [
        (table_tensors[0][:, j].contiguous(), (table_tensors[1] == j).long()) for j in range(4)
    ]

    def pair() -> Predictions:
        return Predictions.from_confidence(confidence, correct)

    def whole() -> Predictions:
        return Predictions.from_probabilities(table, labels)

    def binary(norm: str, validate: bool) -> Call:
        return lambda: binary_calibration_error(
            *tensors, n_bins=15, norm=norm, validate_args=validate
        )

    def multi(validate: bool) -> Call:
        return lambda: multiclass_calibration_error(
            *table_tensors, 4, n_bins=15, validate_args=validate
        )

    def each_class(validate: bool) -> Call:
        return lambda: (
            sum(
                binary_calibration_error(*one, n_bins=15, validate_args=validate) for one in classes
            )
            / 4
        )

    def kumar(p_norm: int, debias: bool) -> Call:
        return lambda: utils.lower_bound_scaling_ce(
            confidence, hits, p_norm, debias, 15, utils.get_equal_prob_bins
        )

    yield Row(
        "ECE, 15 bins, of (confidence, correct)",
        lambda: ece(p),
        lambda: ece(pair()),
        {
            "netcal": lambda: ECE(15).measure(confidence, hits),
            "torchmetrics": binary("l1", True),
            "unvalidated": binary("l1", False),
            "uncertainty-calibration": lambda: calibration.get_ece(confidence, hits),
        },
    )
    yield Row(
        "ECE, 15 bins, of a table (n, 4)",
        lambda: ece(p),
        lambda: ece(whole()),
        {
            "netcal": lambda: ECE(15).measure(table, labels),
            "torchmetrics": multi(True),
            "unvalidated": multi(False),
            "uncertainty-calibration": lambda: calibration.get_ece(table, labels),
        },
        within=1e-6,  # torchmetrics works in float32
    )
    yield Row(
        "ECE, 10 equal-mass bins",
        lambda: equal_mass_ece(p, 10),
        lambda: equal_mass_ece(pair(), 10),
        {
            "netcal": lambda: ECE(10, equal_intervals=False).measure(confidence, hits),
            "uncertainty-calibration": lambda: calibration.get_ece_em(
                confidence, hits, num_bins=10
            ),
        },
    )
    yield Row(
        "MCE",
        lambda: mce(p),
        lambda: mce(pair()),
        {
            "netcal": lambda: MCE(15).measure(confidence, hits),
            "torchmetrics": binary("max", True),
            "unvalidated": binary("max", False),
        },
    )
    yield Row(
        "RMS calibration error",
        lambda: rms_ce(p),
        lambda: rms_ce(pair()),
        {
            "torchmetrics": binary("l2", True),
            "unvalidated": binary("l2", False),
            "uncertainty-calibration": kumar(2, False),
        },
    )
    yield Row(
        "debiased RMS error",
        lambda: debiased_rms_ce(p),
        lambda: debiased_rms_ce(pair()),
        {"uncertainty-calibration": kumar(2, True)},
        within=1e-5,
    )
    yield Row(
        "class-wise ECE, 4 classes",
        lambda: classwise_ece(p),
        lambda: classwise_ece(whole()),
        {
            "torchmetrics": each_class(True),
            "unvalidated": each_class(False),
            "uncertainty-calibration": lambda: calibration.get_ece(table, labels, mode="marginal"),
        },
    )
    yield Row(
        "smooth ECE",
        lambda: smooth_ece(p),
        lambda: smooth_ece(pair()),
        {"other": lambda: relplot.smECE(confidence, hits)},
        within=1e-3,
    )
    yield Row(
        "KS calibration error",
        lambda: ks_ce(p),
        lambda: ks_ce(pair()),
        {"other": lambda: scale * kolmogorov_smirnov_statistic(hits, confidence)},
        within=1e-7,
    )
    yield Row(
        "AUROC of confidence",
        lambda: auroc(p),
        lambda: auroc(pair()),
        {
            "torchmetrics": lambda: binary_auroc(*tensors),
            "unvalidated": lambda: binary_auroc(*tensors, validate_args=False),
            "other": lambda: roc_auc_score(hits, confidence),
        },
        within=1e-6,  # torchmetrics works in float32
    )
    yield Row(
        "area under the risk-coverage curve",
        lambda: aurc(p),
        lambda: aurc(pair()),
        {"uncertainty-calibration": lambda: 1 - utils.get_selective_stats(confidence, hits)[0]},
    )


def seconds(call: Call) -> float:
    """Time a call, the second of two."""
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def fastest(calls: dict[str, Call], rounds: int, patience: float) -> dict[str, float]:
    """Time all calls in turn, for so many rounds or until patience (seconds) runs out."""
    times = dict.fromkeys(calls, math.inf)
    start = time.perf_counter()
    for turn in range(rounds):
        for name, call in calls.items():
            times[name] = min(times[name], seconds(call))
        if turn >= 2 and time.perf_counter() - start > patience:
            break
    return times


def beside_others(n: int, rounds: int) -> None:
    """Print the table of numbers that other programs give too."""
    print(f"Milliseconds at n = {n:,}; the ratio is to the fastest other program.\n")
    print("| number | ready | from arrays |", *(f"{h} |" for h in HEADS), "ratio, ready | built |")
    print("|---" * (len(HEADS) + 5) + "|")
    for row in rows(n):
        calls = {"ready": row.ready, "built": row.built, **row.others}
        ours = row.ready()
        for name, call in calls.items():
            value = float(call())
            if abs(value - ours) > row.within:
                raise SystemExit(f"{row.name}: {name} gives {value}, ours is {ours}")
        found = fastest(calls, rounds, 20.0)
        best = min(found[name] for name in row.others)
        cells = [f"{1e3 * found[name]:.2f}" if name in found else "" for name in PROGRAMS]
        print(
            f"| {row.name} | {1e3 * found['ready']:.2f} | {1e3 * found['built']:.2f} |",
            *(f"{cell} |" for cell in cells),
            f"{best / found['ready']:.1f} | {best / found['built']:.1f} |",
            flush=True,
        )


def all_of_ours(n: int, rounds: int) -> None:
    """Print time and peak memory of every metric."""
    table, labels = four_way(n, 1)
    building = fastest(
        {"built": lambda: Predictions.from_probabilities(table, labels)}, rounds, 20.0
    )["built"]
    p = Predictions.from_probabilities(table, labels)
    found = fastest({name: partial(metric, p) for name, metric in METRICS.items()}, rounds, 60.0)
    print(f"\nEvery metric at n = {n:,}, k = 4: milliseconds, and bytes an item at the peak.\n")
    print("| metric | ms | bytes an item |\n|---|---|---|")
    for name, metric in METRICS.items():
        tracemalloc.start()
        metric(p)
        peak = tracemalloc.get_traced_memory()[1] / n
        tracemalloc.stop()
        print(f"| `{name}` | {1e3 * found[name]:.1f} | {peak:.0f} |")
    print(f"| all of them | {1e3 * sum(found.values()):.0f} | |")
    print(f"| building `Predictions` from arrays | {1e3 * building:.0f} | |")


def verdicts(sizes: tuple[int, ...], rounds: int) -> None:
    """Print the time of a whole verdict."""
    print("\n`compare` of two runs, everything a verdict holds:\n")
    print("| n | ms | bytes an item | state |\n|---|---|---|---|")
    for n in sizes:
        table, labels = four_way(n, 2)
        before = Predictions.from_probabilities(table, labels)
        after = Predictions.from_probabilities(four_way(n, 2, 1.1)[0], labels)
        call = partial(compare, after, before)
        found = fastest({"compare": call}, rounds, 30.0)["compare"]
        tracemalloc.start()
        state = call().state
        peak = tracemalloc.get_traced_memory()[1] / n
        tracemalloc.stop()
        print(f"| {n:,} | {1e3 * found:.1f} | {peak:.0f} | {state} |")


def main() -> int:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--n", type=int, default=100_000, help="items beside other programs")
    parser.add_argument("--large", type=int, default=1_000_000, help="items for ours alone")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"Python {platform.python_version()},", ", ".join(f"{v} {version(v)}" for v in VERSIONS))
    beside_others(options.n, options.rounds)
    all_of_ours(options.large, min(options.rounds, 7))
    verdicts((2000, options.large), min(options.rounds, 9))
    return 0


if __name__ == "__main__":
    sys.exit(main())
