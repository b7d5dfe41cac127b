"""How often does the gate raise a false alarm, and how often does it miss a worsening?

Both are counted on simulated pairs of checkpoints.

::

    python benchmarks/gate.py                     # print the tables (20 minutes on two cores)
    python benchmarks/gate.py --quick             # a tenth of the trials
    python benchmarks/gate.py --write docs/explanation/statistics.md

Every row is a way in which a candidate can differ from its baseline, with its *population
worsening*: ECE of the candidate minus ECE of the baseline on infinitely many items, from the true
probability of being right (no sampling noise, bins of a four-hundredth of the items). The gate is
``decision.decide`` itself, accuracy guard included. Beside it stand what people write instead:

- ``+0.02``: the measured ECE (15 bins) grew by more than 0.02;
- ``x1.1``: it is more than 1.1 times the baseline's;
- ``bootstrap``: the 5 % quantile of 400 paired resamples of the growth lies above 0.02;
- ``three``: signed gap, slope and cross-fitted ECE alone, a move through zero being a worsening
  as soon as it ends further out than it began (what the gate was built from).

Sources: a four-way classifier that knows its truth; confidences from a mixture of Beta
distributions with heavy-tailed noise; documents of ten items with shared effects; verbal
confidences on a grid of 0.05; the example project's own checkpoints, resampled (needs torch).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from generators import (
    Draw,
    Real,
    four_way,
    mixture,
    population_worsening,
    sized,
)
from numpy.typing import NDArray
from pages import publish

from pytest_calibration import Predictions, State, ece
from pytest_calibration.gate.components import (
    GATE_BINS,
    Paired,
    gap_component,
    slope_component,
)
from pytest_calibration.gate.decision import decide
from pytest_calibration.gate.strictness import Strictness
from pytest_calibration.metrics.cross_fitted import cross_fitted
from pytest_calibration.uncertainty.quantiles import upper_quantile
from pytest_calibration.uncertainty.standard_errors import standard_error

Array = NDArray[np.float64]
TOLERANCE = 0.02
SIZES = (200, 500, 1000, 2000, 5000)
EXAMPLE = Path(__file__).resolve().parent.parent / "example_project"


def example_pairs() -> dict[str, tuple[Predictions, Predictions]]:
    """Fine-tune the example both ways and score it; empty without torch."""
    if find_spec("torch") is None:
        return {}
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from pytest_calibration import load_model
    from pytest_calibration.config import read_config
    from pytest_calibration.probes.probe_set import probe_set

    config = read_config(EXAMPLE / "calibration.yaml")
    probes = probe_set(config.probes, config.folder)

    def score(checkpoint: Path) -> Predictions:
        model = load_model(str(checkpoint), config.load_settings(device="cpu"))
        return probes.get("almanac-facts").run(model)

    base = score(EXAMPLE / "checkpoints" / "base")
    out = {}
    for method in ("lora", "full"):
        with TemporaryDirectory() as folder:
            target = Path(folder) / method
            script = [sys.executable, str(EXAMPLE / "finetune.py"), "--method", method]
            subprocess.run([*script, "--output", str(target)], check=True, capture_output=True)
            out[method] = (base, score(target))
    return out


# --- the rules -----------------------------------------------------------------------------------


def three_components(pair: Paired) -> bool:
    """Signed gap, slope and cross-fitted ECE at any n, without the learned shape."""
    z = upper_quantile(0.05, pair.units)
    for c in (gap_component(pair, TOLERANCE, z), slope_component(pair, TOLERANCE, z)):
        if not c.unavailable and c.bound > TOLERANCE and abs(c.after) > abs(c.before):
            return True
    edges = np.unique(np.quantile(pair.pooled, np.arange(1, GATE_BINS) / GATE_BINS))
    fits = [
        cross_fitted(gap, np.searchsorted(edges, c), pair.clusters)
        for gap, c in ((pair.gap0, pair.confidence0), (pair.gap1, pair.confidence1))
    ]
    error = standard_error(fits[1].influence - fits[0].influence, pair.clusters)
    return fits[1].value - fits[0].value - z * error > TOLERANCE


def bootstrap(pair: Paired, rng: np.random.Generator, resamples: int = 400) -> bool:
    """Whether the 5 % quantile of the resampled growth of ECE lies above the tolerance."""
    n = len(pair.gap0)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float32)
    growth = np.zeros(resamples)
    for sign, c, gap in ((-1, pair.confidence0, pair.gap0), (1, pair.confidence1, pair.gap1)):
        cells = np.clip(np.ceil(c * 15 - 1e-6).astype(int) - 1, 0, 14)
        design = np.zeros((n, 15), dtype=np.float32)
        design[np.arange(n), cells] = gap
        growth += sign * np.abs(weights @ design).sum(axis=1) / n
    return bool(np.quantile(growth, 0.05) > TOLERANCE)


RULES = ("gate", "three", "+0.02", "x1.1", "bootstrap")


def verdicts(draw: Draw, rng: np.random.Generator, *, guard: bool, slow: bool) -> list[float]:
    """Return what each rule says, whether the gate was inconclusive, and its expected alarms."""
    pair = draw.paired()
    decision = decide(pair, Strictness(accuracy_tolerance=TOLERANCE if guard else None))
    before = ece(Predictions.from_confidence(pair.confidence0, pair.correct0))
    after = ece(Predictions.from_confidence(pair.confidence1, pair.correct1))
    return [
        decision.state is State.REGRESSED,
        three_components(pair),
        after > before + TOLERANCE,
        after > 1.1 * before,
        bootstrap(pair, rng) if slow else np.nan,
        decision.state is State.INCONCLUSIVE,
        decision.false_alarm_rate,
    ]


# --- scenarios -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """A way to draw pairs; ``worsening`` is its population worsening, NaN where none is known."""

    table: str
    name: str
    draw: Callable[[int, np.random.Generator], Draw]
    guard: bool = True
    worsening: float = float("nan")


def scenarios(only: str = "") -> Iterator[Scenario]:
    """Yield every scenario of the tables, or those with a text in their name."""
    none = "no worsening"
    yield Scenario(none, "four-way: nothing changed", four_way)
    yield Scenario(
        none, "four-way: nothing changed, a third of the answers flip",
        partial(four_way, noise=(1.0, 1.0)),
    )  # fmt: skip
    yield Scenario(none, "four-way on a grid of 0.05", partial(four_way, grid=0.05))
    yield Scenario(none, "four-way, documents of 10", partial(four_way, document=10))
    yield Scenario(none, "mixture, calibrated", mixture)
    yield Scenario(none, "mixture, over-confident", partial(mixture, base="over-confident"))
    yield Scenario(none, "mixture, documents of 10", partial(mixture, document=10))
    yield Scenario(none, "mixture on a grid of 0.05", partial(mixture, grid=0.05))
    yield Scenario(
        "better", "accuracy +9 points, both calibrated", partial(four_way, noise=(1.2, 0.3))
    )
    yield Scenario(
        "better", "accuracy -9 points, both calibrated (without the accuracy guard)",
        partial(four_way, noise=(0.3, 1.2)), guard=False,
    )  # fmt: skip
    yield Scenario(
        "better", "logits x1.5 before, calibrated now", partial(four_way, factor=(1.5, 1.0))
    )
    yield Scenario(
        "better", "under- to over-confident by as much", partial(four_way, factor=(0.78, 1.245))
    )
    for f in (1.1, 1.25, 1.5):
        yield Scenario("four-way", f"logits x{f}", partial(four_way, factor=(1.0, f)))
    yield Scenario("four-way", "logits x0.8", partial(four_way, factor=(1.0, 0.8)))
    for f in (1.6, 1.9):
        yield Scenario("four-way", f"log-odds x{f} about their mean", partial(four_way, twist=f))
    yield Scenario(
        "four-way", "logits x1.5, documents of 10",
        partial(four_way, factor=(1.0, 1.5), document=10),
    )  # fmt: skip
    yield Scenario(
        "four-way", "logits x1.25 on a grid of 0.05",
        partial(four_way, factor=(1.0, 1.25), grid=0.05),
    )  # fmt: skip
    for target in (TOLERANCE, TOLERANCE + 0.035, 0.08):
        for base, shape in (
            ("calibrated", "logits scaled"),
            ("calibrated", "logits shifted"),
            ("calibrated", "drawn to the mean"),
            ("calibrated", "only below 0.5"),
            ("calibrated", "a share says 0.95"),
            ("calibrated", "bow"),
            ("calibrated", "one wave"),
            ("calibrated", "two waves"),
            ("over-confident", "logits scaled"),
            ("over-confident", "logits shifted"),
            ("over-confident", "drawn to the mean"),
            ("under-confident", "logits shifted"),
            ("under-confident", "drawn to the mean"),
        ):
            name = f"{base}: {shape}"
            if only in name:
                draw = sized(target, mixture, base=base, shape=shape)
                yield Scenario(f"worsening {target:.3f}", name, draw)


def run_cell(scenario: Scenario, n: int, trials: range, slow: int) -> NDArray[np.float64]:
    """Return the answers of all rules, one row a trial."""
    name = zlib.crc32(scenario.name.encode())
    rows = []
    for trial in trials:
        rng = np.random.default_rng((name, n, trial))
        draw = scenario.draw(n, rng)
        rows.append(verdicts(draw, rng, guard=scenario.guard, slow=trial < slow))
    return np.array(rows, dtype=np.float64)


TITLES = {
    "no worsening": "**Nothing changed**: every failure is a false one.",
    "better": "**Different, but not worse**: a failure is a false one here too.",
    "four-way": "**Worse**, four-way classifier.",
    f"worsening {TOLERANCE:.3f}": "**Worse by exactly the tolerance**: on the line.",
    f"worsening {TOLERANCE + 0.035:.3f}": "**Worse by the tolerance + 0.035**, by shape.",
    "worsening 0.080": "**Worse by 0.08**, by shape.",
    "example": "**The example project's checkpoints**, resampled by group.",
}


def mean_of(rows: NDArray[np.float64]) -> Array:
    """Mean of each column over the trials in which it was asked; NaN where it never was."""
    asked = ~np.isnan(rows)
    with np.errstate(invalid="ignore"):
        return np.where(asked, rows, 0).sum(axis=0) / asked.sum(axis=0)


def per_cent(share: float, digits: int = 1) -> str:
    """A share in per cent; few digits, so that rows can be read."""
    return "–" if np.isnan(share) else f"{100 * share:.{digits}f}"


def tables(options: argparse.Namespace) -> Iterator[str]:
    """Run everything and yield the Markdown."""
    pairs = {} if options.no_example else example_pairs()
    all_of_them = [
        replace(s, worsening=population_worsening(s.draw))
        for s in scenarios(options.only)
        if options.only in s.name
    ]
    for method, (base, tuned) in pairs.items():
        name = f"{method}: sides exchanged at random (nothing changed)"
        all_of_them.append(Scenario("example", name, Real(base, tuned, swap=True)))
        name = f"{method} against base"
        all_of_them.append(Scenario("example", name, Real(base, tuned, swap=False)))
    jobs, places = [], []
    for scenario in all_of_them:
        # Rates near 0.5 % need more trials than those near 90 %.
        trials = options.trials * (4 if scenario.table == "no worsening" else 1)
        for n in SIZES:
            for start in range(0, trials, 250):
                jobs.append((scenario, n, range(start, min(start + 250, trials)),
                             options.slow if n in (500, 1000) else 0))  # fmt: skip
                places.append((scenario.table, scenario.name, n))
    found: dict[tuple[str, str, int], list[NDArray[np.float64]]] = {}
    with ProcessPoolExecutor(options.workers) as pool:
        for place, rows in zip(places, pool.map(run_cell, *zip(*jobs, strict=True)), strict=True):
            found.setdefault(place, []).append(rows)
    rates = {place: mean_of(np.concatenate(rows)) for place, rows in found.items()}
    yield (
        f"Shares of runs that fail, in per cent ({options.trials:,} trials a cell, "
        f"{4 * options.trials:,} where nothing changed; tolerance 0.02, α = 0.05)."
    )
    for table, title in TITLES.items():
        rows = [s for s in all_of_them if s.table == table]
        if not rows:
            continue
        yield ""
        yield title
        yield ""
        heads = " | ".join(f"{n:,}" for n in SIZES)
        others = " | ".join(f"`{rule}` 500 / 1,000" for rule in RULES[1:])
        yield f"| scenario | worse by | gate, n = {heads} | {others} |"
        yield "|---|--:|" + "--:|" * (len(SIZES) + len(RULES) - 1)
        for s in rows:
            cells = [per_cent(rates[table, s.name, n][0]) for n in SIZES]
            for i in range(1, len(RULES)):
                both = (per_cent(rates[table, s.name, n][i], 0) for n in (500, 1000))
                cells.append(" / ".join(both))
            worse = "–" if np.isnan(s.worsening) else f"{s.worsening:z.3f}"
            yield f"| {s.name} | {worse} | " + " | ".join(cells) + " |"
    if ("no worsening", "four-way: nothing changed", SIZES[0]) not in rates:
        return
    yield ""
    yield "What the gate says of itself where nothing changed (four-way):"
    yield ""
    yield "| n | fails | said beforehand: at most | inconclusive |"
    yield "|--:|--:|--:|--:|"
    for n in SIZES:
        row = rates["no worsening", "four-way: nothing changed", n]
        yield f"| {n:,} | {per_cent(row[0])} | {per_cent(row[6])} | {per_cent(row[5])} |"


def main() -> None:
    """Print the tables, or put them between the marks of a page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--quick", action="store_true", help="a tenth of the trials")
    parser.add_argument("--slow", type=int, default=200, help="trials of the bootstrap")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--no-example", action="store_true", help="leave the checkpoints out")
    parser.add_argument("--only", default="", help="scenarios with this text in their name")
    parser.add_argument("--write", type=Path, help="page to put the tables into")
    options = parser.parse_args()
    if options.quick:
        options.trials, options.slow = options.trials // 10, options.slow // 10
    publish("\n".join(tables(options)), options.write, "benchmarks/gate.py")


if __name__ == "__main__":
    main()
