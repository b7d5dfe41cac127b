"""How fast are models scored, beside lm-evaluation-harness, and how far is that from the floor?

::

    pip install --group data
    python benchmarks/scorer.py                                   # every table (40 minutes)
    python benchmarks/scorer.py --quick                           # a tenth of the items, one round
    python benchmarks/scorer.py --write docs/explanation/performance.md
    python benchmarks/scorer.py --models 14m --tasks 5-shot --batch 1 --busy 4   # others at work
    python benchmarks/scorer.py --only ours --models 1b --device cuda --dtype bfloat16

Both engines answer the same questions with the same checkpoints (random weights; speed does not
depend on them) and are called as their users call them: ``HFLM(...).loglikelihood(requests)`` and
``.loglikelihood_rolling``; ``load_model(...).option_logprobs(prompts, options)`` and
``.next_token(texts)``. Each measurement is a process of its own with the same number of threads;
the engines take turns, round after round, and the tables give medians with every value beside them.
Timed is the call, tokenising included; imports and loading are told apart from it. lm_eval runs
with the best of four fixed batch sizes, found for each task on the first model; its ``auto`` is no
help on a CPU, where it tries sizes until memory runs out. Answers are compared item by item, and
the benchmark fails where they are not the same (on a CPU, in float32).

The floor is what the task costs if every distinct prefix of its texts is read once: 2 FLOP per
token and weight of the layers, 4 per layer, channel and attended token, 2 per predicted position
and weight of the output layer; over the rate of a float32 matrix product of the model's size,
measured between the rounds.

The last table is a whole ``pytest`` process, from the command to the exit, on 300 questions with
five shots.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import numpy as np
from pages import publish
from scorer_child import Floats, Job, chosen

from pytest_calibration import Predictions, ece

HERE = Path(__file__).resolve().parent
VERSIONS = ("torch", "transformers", "tokenizers", "numpy", "lm_eval", "pytest")
BATCHES = (1, 4, 8, 16)
TRIAL_ITEMS = {"next-token": 16}
"""Items on which batch sizes are tried; 48 of the other tasks."""

ALL, SAMPLED = "next-token", "next-token, 10 %"
KINDS = {"5-shot": "options", "0-shot": "options", "last-word": "options", ALL: "tokens"}
SHARES = {SAMPLED: 0.1}
ITEMS = {
    "14m": {"5-shot": 300, "0-shot": 300, "last-word": 1000, ALL: 120, SAMPLED: 120},
    "70m": {"5-shot": 120, "0-shot": 120},
    "135m": {"5-shot": 60, "0-shot": 60},
    "1b": {"5-shot": 1200, "0-shot": 1200, "last-word": 1000, ALL: 120, SAMPLED: 120},
}
GOALS = {
    ("14m", "5-shot"): 25.0,
    ("70m", "5-shot"): 12.0,
    ("135m", "5-shot"): 8.0,
    ("14m", "0-shot"): 5.0,
    ("70m", "0-shot"): 2.0,
    ("135m", "0-shot"): 1.3,
    ("14m", "last-word"): 8.0,
    ("14m", ALL): 2.0,
    ("14m", SAMPLED): 8.0,
}
"""How many times faster than lm_eval on two cores in float32."""

FLOOR_GOAL = 1.5
"""How many times the floor, five shots, from the 70M model on."""

PROCESS_GOAL = (8.0, 1.0)
"""Seconds and GB of a whole pytest process, 300 questions and the 14M model."""

SAME_LOGPROB = 1e-4
SAME_ECE = 1e-6


# --- running -------------------------------------------------------------------------------------


@dataclass
class Bench:
    """Where and how measurements run.

    Attributes:
        work: folder of the material.
        options: the command line.
        environment: of every process.
    """

    work: Path
    options: argparse.Namespace
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        threads = str(self.options.threads)
        self.environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": threads,
            "RAYON_NUM_THREADS": threads,
            "TOKENIZERS_PARALLELISM": "true",
        }

    def make(self, models: Sequence[str]) -> None:
        """Make checkpoints and tasks that are not there yet."""
        maker = HERE / "scorer_material.py"
        self.call([sys.executable, str(maker), str(self.work), ",".join(models)])

    def call(self, command: list[str]) -> None:
        """Run a process.

        Raises:
            SystemExit: it failed; its output is printed.
        """
        done = subprocess.run(
            command, env=self.environment, check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")

    def run(self, engine: str, model: str, task: str, n: int, batch: tuple[int, ...]) -> Found:
        """Run one measurement in a process of its own."""
        file = "next-token" if task == SAMPLED else task
        out = self.work / "found.json"
        job = Job(
            engine=engine,
            checkpoint=str(self.work / model),
            task=str(self.work / "tasks" / f"{file}.json"),
            kind=KINDS[file],
            n=n,
            share=SHARES.get(task, 1.0),
            batch=batch,
            threads=self.options.threads,
            device=self.options.device,
            dtype=self.options.dtype,
            out=str(out),
        )
        order = self.work / "job.json"
        order.write_text(json.dumps(asdict(job)), encoding="utf-8")
        self.call([sys.executable, str(HERE / "scorer_child.py"), str(order)])
        values = json.loads(out.read_text(encoding="utf-8"))
        answers: dict[str, Floats] = {}
        if engine in ("ours", "theirs"):
            with np.load(out.with_suffix(".npz")) as arrays:
                answers = dict(arrays)
            say(f"{model}, {task}, {engine}: {values['wall']:.1f} s")
        return Found(values, answers)


@dataclass(frozen=True)
class Found:
    """What one process measured, and its answers."""

    values: dict[str, Any]
    answers: dict[str, Floats]


@dataclass
class Cell:
    """One model on one task.

    Attributes:
        model: its name.
        task: its name.
        n: items.
        batch: lm_eval's batch size.
        ours: a measurement per round.
        theirs: likewise.
        floors: likewise.
    """

    model: str
    task: str
    n: int
    batch: int
    ours: list[Found] = field(default_factory=list)
    theirs: list[Found] = field(default_factory=list)
    floors: list[Found] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times faster than lm_eval, of medians."""
        return median(self.theirs, "wall") / median(self.ours, "wall")

    @property
    def floor(self) -> float:
        """Seconds that the task takes at least."""
        return float(self.floors[0].values["flops"]) / median(self.floors, "rate")


def say(text: str) -> None:
    """Tell how far the benchmark is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def median(found: Sequence[Found], name: str) -> float:
    """Return the median of a value over the rounds."""
    return float(np.median([one.values[name] for one in found]))


@contextmanager
def busy(n: int) -> Iterator[None]:
    """Keep n processes at work meanwhile, as on a machine that others use."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def best_batches(bench: Bench, model: str, tasks: Sequence[str]) -> dict[str, dict[int, float]]:
    """Return lm_eval's seconds for each task and batch size."""
    out = {}
    for task in tasks:
        n = TRIAL_ITEMS.get(task, 48)
        found = bench.run("batches", model, task, n, BATCHES)
        out[task] = {size: float(found.values[str(size)]) for size in BATCHES}
        say(f"{model}, {task}, lm_eval by batch size: {out[task]}")
    return out


def cells(bench: Bench, batches: dict[str, dict[int, float]]) -> list[Cell]:
    """Measure everything, the engines in turn."""
    options = bench.options
    out: list[Cell] = []
    for model in options.models:
        for task, whole in ITEMS[model].items():
            if task.split(",")[0] not in options.tasks:
                continue
            n = max(1, whole // 10) if options.quick else whole
            trial = batches.get(task.split(",")[0], {})
            size = min(trial, key=lambda b: trial[b]) if trial else 8
            out.append(Cell(model, task, n, size))
    for turn in range(options.rounds):
        say(f"round {turn + 1} of {options.rounds}; load {os.getloadavg()[0]:.1f}")
        for cell in out:
            job = (cell.model, cell.task, cell.n, (cell.batch,))
            if options.only != "theirs":
                cell.ours.append(bench.run("ours", *job))
            # A sample of the tokens saves lm_eval nothing: it has scored them all already.
            if cell.task == SAMPLED:
                whole_task = [c for c in out if (c.model, c.task) == (cell.model, ALL)]
                cell.theirs = whole_task[0].theirs
            elif options.only != "ours":
                cell.theirs.append(bench.run("theirs", *job))
            cell.floors.append(bench.run("floor", *job))
    return out


# --- tables --------------------------------------------------------------------------------------


def exact(options: argparse.Namespace) -> bool:
    """Whether answers must be the same: float32 on a CPU."""
    return bool((options.device, options.dtype) == ("cpu", "float32"))


def judged(options: argparse.Namespace) -> bool:
    """Whether goals count: two threads of a CPU in float32, all items."""
    return exact(options) and options.threads == 2 and not options.quick


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table whose first two columns are text."""
    yield "| " + " | ".join(heads) + " |"
    yield "|---|---|" + "--:|" * (len(heads) - 2)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def values(found: Sequence[Found], name: str) -> str:
    """Return the median, and all values where there are several."""
    if not found:
        return "–"
    every = " ".join(f"{one.values[name]:.2f}" for one in found)
    return f"{median(found, name):.2f}" + (f" ({every})" if len(found) > 1 else "")


def gigabytes(found: Sequence[Found], name: str = "memory") -> str:
    """Return the largest of the peaks, in GB."""
    return f"{max(one.values[name] for one in found) / 1e9:.2f}" if found else "–"


def speed(measured: list[Cell], options: argparse.Namespace) -> Iterator[str]:
    """Yield the table of seconds."""
    yield (
        "Seconds of the call, tokenising included: the median, and every round. CPU seconds are of "
        "all threads."
    )
    yield ""
    rows = []
    for cell in measured:
        both = cell.ours and cell.theirs
        goal = GOALS.get((cell.model, cell.task)) if judged(options) and both else None
        rows.append(
            [
                cell.model,
                cell.task,
                f"{cell.n:,}",
                f"{cell.batch}" if cell.theirs else "–",
                values(cell.theirs, "wall"),
                values(cell.ours, "wall"),
                f"**{cell.ratio:.1f}**" if both else "–",
                f"{goal:g}{'' if cell.ratio >= goal else ', missed'}" if goal else "–",
                f"{median(cell.theirs, 'cpu'):.1f}" if cell.theirs else "–",
                f"{median(cell.ours, 'cpu'):.1f}" if cell.ours else "–",
            ]
        )
    heads = ["model", "task", "items", "lm_eval's batch", "lm_eval, s", "this package, s"]
    heads += ["times faster", "goal", "CPU s, lm_eval", "CPU s, this package"]
    yield from table(heads, rows)


def processes(measured: list[Cell], options: argparse.Namespace) -> Iterator[str]:
    """Yield the table of what surrounds the call."""
    yield "What surrounds the call (medians, seconds), and the peak memory of the process."
    yield ""
    rows = []
    on_device = options.device != "cpu"
    for cell in measured:
        if cell.task == SAMPLED:
            sides = [("this package", cell.ours)]
        else:
            sides = [("lm_eval", cell.theirs), ("this package", cell.ours)]
        for engine, found in sides:
            if not found:
                continue
            parts = [median(found, name) for name in ("import", "load", "wall")]
            rows.append(
                [
                    f"{cell.model}, {cell.task}",
                    engine,
                    *(f"{part:.1f}" for part in parts),
                    f"{sum(parts):.1f}",
                    gigabytes(found),
                    *([gigabytes(found, "device_memory")] if on_device else []),
                ]
            )
    heads = ["model, task", "engine", "import", "load", "call", "together", "peak memory, GB"]
    yield from table([*heads, *(["on the device, GB"] if on_device else [])], rows)


def floors(measured: list[Cell], options: argparse.Namespace) -> Iterator[str]:
    """Yield the table of distances to the floor."""
    yield (
        "The floor: FLOP of the distinct tokens over the measured rate of a matrix product "
        "[1024, h] × [h, 4h] (h is the model's width)."
    )
    yield ""
    rows = []
    for cell in measured:
        fact = cell.floors[0].values
        row = [
            cell.model,
            cell.task,
            f"{fact['tokens']:,}",
            f"{fact['distinct']:,}",
            f"{fact['predicted']:,}",
            f"{fact['flops'] / 1e9:,.0f}",
            f"{median(cell.floors, 'rate') / 1e9:,.0f}",
            f"{cell.floor:.2f}",
        ]
        for found in (cell.ours, cell.theirs):
            row.append(f"{median(found, 'wall') / cell.floor:.1f}" if found else "–")
        if judged(options) and cell.task == "5-shot" and cell.model != "14m" and cell.ours:
            far = median(cell.ours, "wall") / cell.floor > FLOOR_GOAL
            row[8] = f"**{row[8]}** (goal {FLOOR_GOAL:g}{', missed' if far else ''})"
        if options.device != "cpu" and cell.ours:
            wall, peak = median(cell.ours, "wall"), median(cell.floors, "peak")
            row += [
                f"{fact['tokens'] / wall:,.0f}",
                f"{fact['distinct'] / wall:,.0f}",
                f"{peak / 1e12:,.0f}",
                f"{100 * fact['flops'] / wall / peak:.0f}",
            ]
            if options.peak:
                row.append(f"{100 * fact['flops'] / wall / (options.peak * 1e12):.0f}")
        rows.append(row)
    heads = ["model", "task", "tokens", "distinct", "predicted", "GFLOP", "GFLOP/s", "floor, s"]
    heads += ["this package / floor", "lm_eval / floor"]
    if options.device != "cpu":
        heads += ["tokens/s", "distinct tokens/s", "TFLOP/s at 8192³", "% of that"]
        heads += [f"% of {options.peak:g} TFLOP/s"] if options.peak else []
    yield from table(heads, rows)


def softmax(logprobs: Floats) -> Floats:
    """Return probabilities over the options."""
    table = np.exp(logprobs - logprobs.max(axis=1, keepdims=True))
    return np.asarray(table / table.sum(axis=1, keepdims=True), dtype=np.float64)


def agreement(measured: list[Cell], bench: Bench, wrong: list[str]) -> Iterator[str]:
    """Yield the table of differences between the answers; note those that are too large."""
    yield (
        "The same answers: the largest difference of any log-probability in any round (of a "
        "passage: of the sum over its tokens, per token), and how many answers differ."
    )
    yield ""
    rows = []
    for cell in measured:
        if not (cell.ours and cell.theirs):
            continue
        answers = [one.answers for one in cell.ours]
        if cell.task == SAMPLED:
            row = sampled(cell, measured)
        elif "sums" in answers[0]:
            counts = answers[0]["counts"]
            theirs = cell.theirs[0].answers["sums"]
            worst = max(float((np.abs(a["sums"] - theirs) / counts).max()) for a in answers)
            row = [f"{worst:.1e}", "–", "–", "–"]
        else:
            row = questions(cell, bench)
        rows.append([cell.model, cell.task, *row])
        within = [SAME_LOGPROB, 0, None, SAME_ECE]
        for value, most in zip(row, within, strict=True):
            if most is not None and value != "–" and not float(value) <= most:
                wrong.append(f"{cell.model}, {cell.task}: {value}, at most {most:g} expected")
    heads = ("model", "task", "max \\|Δ log P\\|", "other answers", "ECE, lm_eval", "\\|Δ ECE\\|")
    yield from table(heads, rows)


def sampled(cell: Cell, measured: list[Cell]) -> list[str]:
    """Compare sampled tokens with the same tokens of our own full run."""
    full = next(c for c in measured if (c.model, c.task) == (cell.model, ALL)).ours[0].answers
    starts = np.concatenate([[0], np.cumsum(full["counts"])]).astype(np.int64)
    which = np.concatenate(
        [a + chosen(i, int(b - a), SHARES[SAMPLED]) for i, (a, b) in enumerate(pairs(starts))]
    )
    worst = max(
        float(np.abs(one.answers["target"] - full["target"][which]).max()) for one in cell.ours
    )
    return [f"{worst:.1e}", "–", "–", "–"]


def pairs(starts: Any) -> Iterator[tuple[int, int]]:
    """Yield first and one-past-last of each stretch."""
    yield from zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)


def questions(cell: Cell, bench: Bench) -> list[str]:
    """Compare the log-probabilities of options, and what becomes of them."""
    theirs = cell.theirs[0].answers["logprobs"]
    ours = [one.answers["logprobs"] for one in cell.ours]
    worst = max(float(np.abs(one - theirs).max()) for one in ours)
    if theirs.shape[1] == 1:
        return [f"{worst:.1e}", "–", "–", "–"]
    task = json.loads((bench.work / "tasks" / f"{cell.task}.json").read_text(encoding="utf-8"))
    labels = np.array(task["labels"][: cell.n])
    other = max(int((one.argmax(axis=1) != theirs.argmax(axis=1)).sum()) for one in ours)
    measured = [ece(Predictions.from_probabilities(softmax(t), labels)) for t in (theirs, *ours)]
    worst_ece = max(abs(value - measured[0]) for value in measured[1:])
    return [f"{worst:.1e}", f"{other}", f"{measured[0]:.4f}", f"{worst_ece:.1e}"]


# --- a whole process -----------------------------------------------------------------------------


def tree_memory(root: int) -> int:
    """Return the resident bytes of a process and all processes below it (Linux; else 0)."""
    total = 0
    try:
        total += int(Path(f"/proc/{root}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        for task in Path(f"/proc/{root}/task").iterdir():
            for child in (task / "children").read_text().split():
                total += tree_memory(int(child))
    except OSError:  # It has just ended.
        pass
    return total


def pytest_run(bench: Bench, project: Path, model: str) -> tuple[float, float, int]:
    """Run pytest in a project; return wall and CPU seconds and the peak memory of its processes."""
    command = [sys.executable, "-m", "pytest", "-q", f"--calibration-model={bench.work / model}"]
    # Bytecode is kept, as in the environment of a user.
    kept = {n: v for n, v in bench.environment.items() if n != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    with (project / "output.txt").open("w") as output:
        process = subprocess.Popen(command, cwd=project, env=kept, stdout=output, stderr=output)
        peak = 0
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            peak = max(peak, tree_memory(process.pid))
            # Looking costs time of the two cores.
            time.sleep(0.1)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit((project / "output.txt").read_text(encoding="utf-8"))
    return wall, usage.ru_utime + usage.ru_stime, max(peak, usage.ru_maxrss * 1024)


def whole_process(bench: Bench) -> Iterator[str]:
    """Yield the table of whole pytest processes: new folders, and the same run again."""
    options = bench.options
    model = options.models[0]
    n = 30 if options.quick else 300
    rows = (bench.work / "tasks" / "questions.jsonl").read_text(encoding="utf-8").splitlines()[:n]
    found: dict[str, list[tuple[float, float, int]]] = {"first": [], "again": []}
    for _ in range(options.rounds):
        with TemporaryDirectory() as folder:
            project = Path(folder)
            (project / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
            (project / "questions.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
            (project / "calibration.yaml").write_text(
                f"model: {{dtype: {options.dtype}, device: {options.device}}}\n"
                "probes:\n"
                "  questions: {kind: multiple_choice, path: questions.jsonl, shots: 5}\n",
                encoding="utf-8",
            )
            (project / "test_calibration.py").write_text(
                "from pytest_calibration import assert_ece_below\n\n\n"
                "def test_questions(calibration):\n"
                '    assert_ece_below(calibration.run("questions"), 0.99)\n',
                encoding="utf-8",
            )
            for name, runs in found.items():
                runs.append(pytest_run(bench, project, model))
                say(f"pytest, {model}, {name}: {runs[-1][0]:.1f} s")
    yield (
        f"A whole `pytest` process: one test, {n} questions with 5 shots, the {model} model; then "
        "the same command again in the same folder. Memory is the peak of all its processes."
    )
    yield ""
    out = []
    for name, runs in found.items():
        walls = [wall for wall, _, _ in runs]
        every = " ".join(f"{wall:.2f}" for wall in walls)
        wall, memory = float(np.median(walls)), max(memory for _, _, memory in runs) / 1e9
        goal = "–"
        if judged(options) and (model, name) == ("14m", "first"):
            missed = wall > PROCESS_GOAL[0] or memory > PROCESS_GOAL[1]
            goal = f"{PROCESS_GOAL[0]:g} s, {PROCESS_GOAL[1]:g} GB{', missed' if missed else ''}"
        cpu = f"{np.median([cpu for _, cpu, _ in runs]):.1f}"
        out.append([model, name, f"{wall:.2f} ({every})", cpu, f"{memory:.2f}", goal])
    yield from table(("model", "run", "s", "CPU s", "peak memory, GB", "goal"), out)


# --- all of it -----------------------------------------------------------------------------------


def conditions(bench: Bench, load: float, batches: dict[str, dict[int, float]]) -> Iterator[str]:
    """Yield what the numbers depend on."""
    options = bench.options
    found = []
    for name in VERSIONS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    tokenizer = (bench.work / "tokenizer" / "tokenizer.json").read_bytes()
    yield (
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}. Python {platform.python_version()}, "
        f"{', '.join(found)}. {machine(options.device)}; {options.dtype}, "
        f"threads: {options.threads}, rounds: {options.rounds}, other processes kept busy: "
        f"{options.busy}; load average {load:.1f} when it "
        f"began and {os.getloadavg()[0]:.1f} when it ended. Digest of the tokenizer "
        f"{hashlib.sha256(tokenizer).hexdigest()[:8]}."
    )
    yield ""
    for task, trial in batches.items():
        times = ", ".join(f"{size}: {seconds:.1f} s" for size, seconds in trial.items())
        yield f"- lm_eval by batch size, {options.models[0]}, {task}: {times}."
    if batches:
        yield ""


def machine(device: str) -> str:
    """Name the processor, and the device where it is another."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
    name = f"{name}, {len(os.sched_getaffinity(0))} cores"
    if device.startswith("cuda"):
        code = "import torch; print(torch.cuda.get_device_name(), torch.version.cuda)"
        told = subprocess.check_output([sys.executable, "-c", code], text=True)
        gpu, _, cuda = told.strip().rpartition(" ")
        name += f"; {gpu}, CUDA {cuda}"
    return name


def report(bench: Bench, wrong: list[str]) -> Iterator[str]:
    """Measure, and yield the lines of all tables."""
    options = bench.options
    load = os.getloadavg()[0]
    say(f"making what is missing in {bench.work}")
    bench.make(options.models)
    batches = {}
    if options.only is None and not options.batch:
        tasks = [task for task in options.tasks if task in ITEMS[options.models[0]]]
        batches = best_batches(bench, options.models[0], tasks)
    elif options.batch:
        batches = {task: {options.batch: float("nan")} for task in KINDS}
    with busy(options.busy):
        measured = cells(bench, batches)
        process = list(whole_process(bench)) if options.only != "theirs" and options.process else []
    tried = {} if options.batch else batches
    yield from conditions(bench, load, tried)
    if measured:
        yield from speed(measured, options)
        if options.only is None:
            yield from agreement(measured, bench, wrong)
        yield from floors(measured, options)
        yield from processes(measured, options)
    yield from process


def main() -> int:
    """Print the tables, or put them between the marks of a page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])

    def names(known: Sequence[str]) -> Any:
        def split(text: str) -> list[str]:
            found = [name for name in text.split(",") if name]
            for name in found:
                if name not in known:
                    raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
            return found

        return split

    parser.add_argument("--models", type=names(list(ITEMS)), default=["14m", "70m", "135m"])
    parser.add_argument("--tasks", type=names(list(KINDS)), default=list(KINDS))
    parser.add_argument("--rounds", type=int, help="3 by default, 1 with --quick")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--busy", type=int, default=0, help="processes kept busy beside it")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch", type=int, help="lm_eval's batch size, instead of trying some")
    parser.add_argument("--quick", action="store_true", help="a tenth of the items")
    parser.add_argument("--only", choices=("ours", "theirs"), help="one engine alone")
    parser.add_argument(
        "--process", action=argparse.BooleanOptionalAction, default=True, help="time pytest, too"
    )
    parser.add_argument("--peak", type=float, help="TFLOP/s that the device is said to reach")
    parser.add_argument("--work", type=Path, help="folder to keep checkpoints and tasks in")
    parser.add_argument("--write", type=Path, help="page to put the tables into")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    if options.write and "benchmarks/scorer.py -->" not in options.write.read_text():
        parser.error(f"{options.write} has no marks for these tables")
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    work = options.work or Path(mkdtemp(prefix="scorer-"))
    wrong: list[str] = []
    try:
        text = "\n".join(report(Bench(work.resolve(), options), wrong)).rstrip()
        publish(text, options.write, "benchmarks/scorer.py")
    finally:
        if options.work is None:
            shutil.rmtree(work)
    for line in wrong:
        say(f"answers differ: {line}")
    return 1 if wrong and exact(options) else 0


if __name__ == "__main__":
    sys.exit(main())
