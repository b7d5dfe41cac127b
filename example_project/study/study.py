"""Run the study: train every stage, gate it against its parent, and keep what was measured.

Whatever was done before with the same settings, code and parents is not done again, so that a run
that was stopped goes on where it stood::

    python example_project/study/study.py --quick      # fewer sizes, one seed
    python example_project/study/study.py              # all sizes, five seeds
    python example_project/study/study.py --large      # larger models, on a GPU

Checkpoints, ``history.jsonl`` and ``stages.json`` lie in ``example_project/runs/study``, those of
``--quick`` and ``--large`` in ``study-quick`` and ``study-large`` beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from gating import GateError, gate  # noqa: E402
from stages import SCALES, Stage, digests, needs, runs, study  # noqa: E402
from world import write_probes  # noqa: E402

from pytest_calibration.files import locked  # noqa: E402

NOTE = "study.json"
"""In the folder of a run: the digest of what it was trained from, and its numbers."""


class TrainingError(RuntimeError):
    """A training ended in an error; the rest can go on once it is mended."""


class FolderError(RuntimeError):
    """Another study has the folder."""


class Desk:
    """Knows what is there already, and where everything is.

    Args:
        stages: all of them, parents before children.
        folder: where the study keeps what it makes.
    """

    def __init__(self, stages: list[Stage], folder: Path) -> None:
        """Look for nothing yet."""
        self.stages = stages
        self.folder = folder
        self.runs = runs(stages)
        self.run_of = {stage.name: stage.run for stage in stages}
        self.digests = digests(stages)

    def numbers(self, run: str) -> dict[str, Any] | None:
        """Return what the training of a run noted; None where it has to be done."""
        note = _read(self.folder / run / NOTE)
        numbers = note.get("numbers")
        whole = isinstance(numbers, dict) and set(numbers) == {one.name for one in self.runs[run]}
        return numbers if whole and note.get("digest") == self.digests[run] else None

    def note(self, run: str, numbers: dict[str, Any]) -> None:
        """Note that a run is trained."""
        _write(self.folder / run / NOTE, {"digest": self.digests[run], "numbers": numbers})

    def folders(self) -> dict[str, Path]:
        """Return the folder of every checkpoint that is there, and of the probes."""
        found = {"probes": self.folder / "probes"}
        for checkpoints in self.runs.values():
            found |= places(checkpoints, self.folder)
        return found

    def verdicts(self, name: str) -> dict[str, str] | None:
        """Return the states of a stage's verdicts; None where it has to be gated."""
        note = _read(self.folder / "verdicts" / f"{name}.json")
        same = note.get("digest") == self.digests[self.run_of[name]]
        verdicts = note.get("verdicts")
        return verdicts if same and isinstance(verdicts, dict) else None

    def forget_others(self) -> None:
        """Start the history anew where it holds what a stage was before its settings changed.

        The plugin's answers are kept by the weights that gave them: gating again is fast.
        """
        notes = (self.folder / "verdicts").glob("*.json")
        known = [note.stem for note in notes if note.stem in self.run_of]
        if any(self.verdicts(name) is None for name in known):
            shutil.rmtree(self.folder / "verdicts")
            shutil.rmtree(self.folder / "history.jsonl.items", ignore_errors=True)
            (self.folder / "history.jsonl").unlink(missing_ok=True)

    def judged(self, name: str, verdicts: dict[str, str]) -> None:
        """Note the verdicts on a stage."""
        digest = self.digests[self.run_of[name]]
        _write(self.folder / "verdicts" / f"{name}.json", {"digest": digest, "verdicts": verdicts})


def places(checkpoints: list[Stage], folder: Path) -> dict[str, Path]:
    """Return where the checkpoints of one run are, or will be.

    One alone is the folder of the run. Several are ``checkpoint-STEP`` within it, as a Trainer
    leaves them.
    """
    top = folder / checkpoints[0].run
    if len(checkpoints) == 1:
        return {checkpoints[0].name: top}
    if "step" in checkpoints[0].settings:
        return {one.name: top / f"checkpoint-{one.settings['step']}" for one in checkpoints}
    kept = sorted(top.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    if len(kept) != len(checkpoints):
        # Not trained yet: the Trainer will say at which step an epoch ends.
        return {one.name: top / f"checkpoint-epoch-{one.settings['epoch']}" for one in checkpoints}
    return {one.name: path for one, path in zip(checkpoints, kept, strict=True)}


def train(checkpoints: list[Stage], folders: dict[str, Path]) -> dict[str, Any]:
    """Train a run, in a process of the pool, and measure what it has learnt by heart.

    What the libraries print is in ``logs``.
    """
    began = time.perf_counter()
    top = folders["top"]
    shutil.rmtree(top, ignore_errors=True)
    log = top.parent / "logs" / f"{top.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as text, redirect_stdout(text), redirect_stderr(text):
        try:
            numbers = method_of(checkpoints[0].kind)(checkpoints, folders)
        except Exception:
            traceback.print_exc()
            raise
        kept = places(checkpoints, top.parent)
        for one in checkpoints:
            accuracy = learnt(one, kept[one.name], folders["probes"])
            seconds = round(time.perf_counter() - began, 2)
            told = {**numbers[one.name], "seconds": seconds}
            # A reward model answers no questions; it tells its accuracy on preferences itself.
            told.setdefault("train_accuracy", accuracy)
            numbers[one.name] = {name: _known(value) for name, value in told.items()}
    return numbers


def _known(value: Any) -> Any:
    """Return a number; None for one that a training could not tell, which JSON has not."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def method_of(kind: str) -> Callable[..., dict[str, dict[str, Any]]]:
    """Return what trains a run of a kind; only this loads torch."""
    import torch

    # The models are too small for a second thread to pay.
    torch.set_num_threads(1)
    if kind == "pretrain":
        from pretraining import pretrain

        return pretrain
    import alignment
    import remedies

    methods = {
        "sft": alignment.tune,
        "dpo": alignment.prefer,
        "reward": alignment.reward,
        "rloo": alignment.reinforce,
        "temperature": remedies.cool,
    }
    return methods.get(kind, remedies.remedy)


def learnt(stage: Stage, checkpoint: Path, probes: Path) -> float | None:
    """Return the accuracy on the questions about the people of the training; None for none."""
    from pytest_calibration import MultipleChoice, load_model

    told = {"sft": "instruct", "dpo": "prefer", "rloo": "prefer"}
    if stage.kind in ("pretrain", "reward"):
        return None
    name = told.get(stage.kind, "fit" if stage.kind == "temperature" else "remedy")
    if stage.settings.get("dataset") == "remedy":
        name = "remedy"
    path = probes / f"{name}.jsonl"
    probe = MultipleChoice(name, path=path, scoring="text", template="{question}")
    return round(float(probe.run(load_model(str(checkpoint))).correct.mean()), 5)


def end_with_parent() -> None:
    """Let this process of the pool end when the study is killed: nothing trains on unseen.

    Ctrl-C reaches all processes of a terminal; the study alone answers it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def train_all(desk: Desk, pool: ProcessPoolExecutor) -> Iterator[str]:
    """Train every run whose parents are there; yield the name of each that is."""
    waiting = dict(desk.runs)
    done: set[str] = set()
    running: dict[Future[dict[str, Any]], str] = {}
    while waiting or running:
        for run, checkpoints in list(waiting.items()):
            if all(desk.run_of[name] in done for name in needs(checkpoints[0])):
                del waiting[run]
                if desk.numbers(run) is not None:
                    done.add(run)
                    yield run
                else:
                    folders = {**desk.folders(), "top": desk.folder / run}
                    running[pool.submit(train, checkpoints, folders)] = run
        if running and not any(
            all(desk.run_of[name] in done for name in needs(one[0])) for one in waiting.values()
        ):
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                run = running.pop(future)
                problem = future.exception()
                if problem is not None:
                    log = desk.folder / "logs" / f"{run}.log"
                    raise TrainingError(f"{run} was not trained: {problem} (see {log})")
                desk.note(run, future.result())
                done.add(run)
                yield run


def by_parent(stages: list[Stage]) -> list[list[Stage]]:
    """Return the language models in groups that are gated together, in order."""
    groups: dict[str | None, list[Stage]] = {}
    for stage in stages:
        if stage.kind != "reward":
            groups.setdefault(stage.parent, []).append(stage)
    return list(groups.values())


def judge(desk: Desk, group: list[Stage]) -> None:
    """Gate the stages of a group that were not gated yet."""
    new = [stage for stage in group if desk.verdicts(stage.name) is None]
    if not new:
        return
    folders = desk.folders()
    parent = folders[new[0].parent] if new[0].parent else None
    for name, verdicts in gate(new, parent, folders, desk.folder).items():
        desk.judged(name, verdicts)


def results(desk: Desk, scale: str) -> dict[str, Any]:
    """Return ``stages.json``: of each stage what it is, its numbers and its verdicts."""
    rows = []
    folders = desk.folders()
    for stage in desk.stages:
        extra = dict((desk.numbers(stage.run) or {}).get(stage.name, {}))
        seconds, accuracy = extra.pop("seconds", 0.0), extra.pop("train_accuracy", None)
        extra["path"] = folders[stage.name].relative_to(desk.folder).as_posix()
        rows.append(
            {
                **asdict(stage),
                "seconds": seconds,
                "verdicts": desk.verdicts(stage.name) or {},
                "train_accuracy": accuracy,
                "extra": extra,
            }
        )
    return {"stages": rows, "scale": scale, "device": SCALES[scale].device}


def _read(path: Path) -> dict[str, Any]:
    """Return what a note says; nothing where it is not there, or was cut off."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, value: dict[str, Any]) -> None:
    """Write a note whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(path)


def run_all(desk: Desk, scale: str, *, jobs: int) -> None:
    """Train all stages and, beside it, gate those that are; print a line for each."""
    began = time.perf_counter()
    write_probes(desk.folder / "probes")
    desk.forget_others()
    groups = by_parent(desk.stages)
    trained: set[str] = set()
    gates: list[Future[None]] = []

    def gate_one(group: list[Stage]) -> None:
        start = time.perf_counter()
        judge(desk, group)
        _write(desk.folder / "stages.json", results(desk, scale))
        took = time.perf_counter() - start
        lines = [f"gate, {group[0].parent or 'no parent'}: {took:.0f} s"]
        for stage in group:
            states = (desk.verdicts(stage.name) or {}).items()
            told = ", ".join(f"{probe} {state}" for probe, state in states)
            lines.append(f"        {stage.name}: {told}")
        _say(began, "\n".join(lines))

    with ExitStack() as stack:
        spawn = multiprocessing.get_context("spawn")
        pool = stack.enter_context(ProcessPoolExecutor(jobs, spawn, end_with_parent))
        gating = stack.enter_context(ThreadPoolExecutor(1))
        stack.push(_stop(gating))
        for run in train_all(desk, pool):
            trained.add(run)
            numbers = desk.numbers(run) or {}
            seconds = max(one["seconds"] for one in numbers.values())
            _say(began, f"[{len(trained)}/{len(desk.runs)}] {run}: {seconds:.0f} s")
            while groups and {one.run for one in groups[0]} <= trained:
                gates.append(gating.submit(gate_one, groups.pop(0)))
            for ended in filter(Future.done, gates):
                # What a gate ran into ends the study at once, not after all trainings.
                ended.result()
        for waiting in gates:
            waiting.result()
    _say(began, f"done: {desk.folder / 'stages.json'}")


def _stop(gating: ThreadPoolExecutor) -> Callable[..., None]:
    """Return what ends a study that cannot go on: trainings at once, a gate after its verdicts."""

    def stop(kind: type[BaseException] | None, *_: Any) -> None:
        if kind is not None:
            gating.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()

    return stop


def whole_number(text: str) -> int:
    """Read a number of seeds or jobs."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


@contextmanager
def kept_for(scale: str, folder: Path) -> Iterator[None]:
    """Keep a folder for one study: no second one at the same time, and none of another scale.

    Raises:
        FolderError: another study has it.
        OSError: it cannot be written.
    """
    there = _read(folder / "stages.json").get("scale", scale)
    if there != scale:
        raise FolderError(
            f"{folder} holds the {there} study, which the {scale} one would overwrite; give it "
            "another folder with --runs."
        )
    # The plugin locks the folder of the history for itself.
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(logs, wait=0))
        except TimeoutError:
            raise FolderError(
                f"{folder}: another study is running there; wait until it ends, or give this one "
                "another folder with --runs."
            ) from None
        yield


def interrupted(*_: Any) -> None:
    """End as Ctrl-C does."""
    raise KeyboardInterrupt


def _say(began: float, text: str) -> None:
    print(f"{time.perf_counter() - began:6.0f} s {text}", flush=True)


def main() -> int:
    """Run the study as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    scales = parser.add_mutually_exclusive_group()
    for name, told in (("quick", "fewer sizes, one seed"), ("large", "larger models, on a GPU")):
        scales.add_argument(
            f"--{name}", dest="scale", action="store_const", const=name, default="full", help=told
        )
    parser.add_argument(
        "--seeds", type=whole_number, help="how many seeds of what follows pretraining"
    )
    parser.add_argument("--runs", type=Path, help="where checkpoints and results go")
    parser.add_argument(
        "--jobs", type=whole_number, default=2, help="trainings at a time, beside the gate"
    )
    given = parser.parse_args()
    usual = HERE.parent / "runs" / ("study" if given.scale == "full" else f"study-{given.scale}")
    # Nothing is fetched, and TRL's telemetry stays off.
    os.environ.update(HF_HUB_OFFLINE="1", CI="1", OMP_NUM_THREADS="1")
    # Trainings that are stopped leave locks, which Python removes and warns of.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    here = os.pathsep.join(sys.path[:2])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    folder = (given.runs or usual).resolve()
    desk = Desk(study(SCALES[given.scale], given.seeds), folder)
    signal.signal(signal.SIGTERM, interrupted)
    try:
        with kept_for(given.scale, folder):
            run_all(desk, given.scale, jobs=given.jobs)
    except (FolderError, GateError, TrainingError) as problem:
        print(problem, file=sys.stderr)
        return 2
    except OSError as problem:
        print(f"{folder} cannot be written: {problem}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
