"""What does the plugin cost a project that does not use it?

::

    python benchmarks/startup.py                  # print the tables (10 minutes on two cores)
    python benchmarks/startup.py --rounds 30      # fewer rounds, wider intervals
    python benchmarks/startup.py --write docs/explanation/performance.md

A project of one empty test is collected with ``pytest --collect-only -q`` in processes of their own
that see pytest and what it needs and nothing else, but for

- the plugin, installed from its wheel: its cost is the difference to a run without it;
- the plugin, switched off by ``-p no:calibration``: what is left is the price of being installed
  (pytest reads the entry points and the list of files of every plugin);
- other plugins, as a yardstick, as far as they are installed here.

Instructions are counted by ``valgrind --tool=callgrind``, where that program is there: the same
count, but for some thousands, at every run. Processor time is user and system time as the kernel
counts them. Each round runs all variants in a shuffled order, and differences are taken within a
round, so that a machine that slows down slows down both sides. A median stands with its 95 %
interval from order statistics. Measure time on a machine that does nothing else.

Two states of the disk are measured. Warm: the bytecode that Python and pytest keep is there.
Read-only: pytest cannot keep the bytecode of plugins, whose assert statements it rewrites, because
``PYTHONDONTWRITEBYTECODE`` is set, as in many container images, or because site-packages belong to
another user; so it compiles what it imports at every start.

Beside them: what a test costs that has nothing to do with the plugin, from runs of many empty
tests; which modules a start imports; and every file that it writes and every process it starts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from math import comb
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from pages import publish

ROOT = Path(__file__).resolve().parent.parent
NAME = "calibration"
PYTEST = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
YARDSTICKS = {
    "pytest-rerunfailures": ("pytest-rerunfailures",),
    "pytest-timeout": ("pytest-timeout",),
    "pytest-cov": ("pytest-cov", "coverage"),
    "pytest-xdist, no -n": ("pytest-xdist", "execnet"),
}
COLLECT = ("--collect-only", "-q")
# Tests of the project that counts what one test costs.
MANY = 2000
# What a process could leave behind or start, as Python's audit events name it.
EVENTS = (
    *("open", "os.mkdir", "os.rename", "os.link", "os.symlink", "os.fork", "os.forkpty"),
    *("os.posix_spawn", "os.exec", "os.system", "subprocess.Popen", "socket.connect"),
    *("tempfile.mkdtemp", "tempfile.mkstemp"),
)
# Runs pytest, and writes which modules were imported and which of these events happened.
WATCHER = f"""
import json, os, sys
events = []

def audit(event, args):
    if event not in {EVENTS!r}:
        return
    if event == "open" and not (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return
    events.append([event, os.fsdecode(args[0]) if isinstance(args[0], (str, bytes)) else ""])

sys.addaudithook(audit)
import pytest
status = pytest.main(sys.argv[2:])
found = {{"events": list(events), "modules": sorted(sys.modules), "status": int(status)}}
with open(sys.argv[1], "w") as file:
    json.dump(found, file)
"""


@dataclass(frozen=True)
class Start:
    """One way to start pytest.

    Attributes:
        folders: what Python finds beside its standard library.
        args: arguments of pytest.
        project: where it runs.
        read_only: whether no bytecode is kept.
    """

    folders: tuple[Path, ...]
    args: tuple[str, ...]
    project: Path
    read_only: bool = False

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the process, without what changes Python or pytest here."""
        out = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "PYTEST", "COV_"))
            and name not in ("CI", "GITHUB_ACTIONS")
        }
        out["PYTHONPATH"] = os.pathsep.join(map(str, self.folders))
        # The order of sets, and so the count of instructions, is the same at every run.
        out["PYTHONHASHSEED"] = "0"
        if self.read_only:
            out["PYTHONDONTWRITEBYTECODE"] = "1"
        return out

    @property
    def command(self) -> list[str]:
        """The command; without site (-S), no editable install comes along."""
        return [sys.executable, "-S", "-m", "pytest", *self.args]

    def seconds(self) -> float:
        """Run once and return the processor time.

        Raises:
            RuntimeError: pytest failed.
        """
        null = subprocess.DEVNULL
        child = subprocess.Popen(
            self.command, cwd=self.project, env=self.environment, stdout=null, stderr=null
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise RuntimeError(f"{' '.join(self.command)} gave {child.returncode}")
        return usage.ru_utime + usage.ru_stime

    def instructions(self) -> float:
        """Run once under valgrind and return the instructions, in millions; NaN without it."""
        if shutil.which("valgrind") is None:
            return float("nan")
        self.seconds()
        result = subprocess.run(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *self.command],
            cwd=self.project,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        (count,) = re.findall(r"Collected : (\d+)", result.stderr)
        return int(count) / 1e6

    def watched(self) -> dict[str, Any]:
        """Run once and return what happened in the process: modules and events."""
        with TemporaryDirectory() as folder:
            file = Path(folder, "found.json")
            subprocess.run(
                [sys.executable, "-S", "-c", WATCHER, str(file), *self.args],
                cwd=self.project,
                env=self.environment,
                stdout=subprocess.DEVNULL,
                check=True,
            )
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if found["status"]:
            raise RuntimeError(f"pytest gave {found['status']} under watch")
        return found


def event_name(event: tuple[str, str]) -> str:
    """Return an event as text; what has another path in each process gets one for all."""
    name, path = event
    if "__pycache__" in path:
        return f"{name} (bytecode that pytest keeps)"
    if Path(path).parent == Path(gettempdir()):
        return f"{name} (a temporary file)"
    return f"{name} {path}".rstrip()


def copy_of(names: Iterable[str], folder: Path) -> Path:
    """Copy installed distributions, with nothing else of their environment.

    Raises:
        PackageNotFoundError: one is not installed.
    """
    for name in names:
        found = distribution(name)
        for file in found.files or ():
            if ".." in file.parts or "__pycache__" in file.parts:
                continue
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found.locate_file(file), target)
    # As pip does at the end of an installation.
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(folder)], check=True)
    return folder


def pip(*args: str) -> None:
    """Run pip."""
    subprocess.run([sys.executable, "-m", "pip", *args, "--quiet", "--no-deps"], check=True)


def tree(folder: Path) -> dict[str, int]:
    """Return every file and folder below a folder, with its size."""
    return {
        str(path.relative_to(folder)): path.stat().st_size if path.is_file() else 0
        for path in folder.rglob("*")
    }


class Bench:
    """The folders that are measured, below an empty one."""

    def __init__(self, work: Path) -> None:
        self.base = copy_of(PYTEST, work / "pytest")
        self.yardsticks: dict[str, Path] = {}
        for name, parts in YARDSTICKS.items():
            try:
                self.yardsticks[name] = copy_of(parts, work / parts[0])
            except PackageNotFoundError:
                print(f"{parts[0]} is not installed, and left out.", file=sys.stderr)
        pip("wheel", "--wheel-dir", str(work / "wheel"), str(ROOT))
        (wheel,) = (work / "wheel").glob("*.whl")
        self.ours, self.read_only = work / "ours", work / "ours-read-only"
        for folder in (self.ours, self.read_only):
            # Only what pip compiles is there: the second is never started with leave to write.
            pip("install", "--compile", "--target", str(folder), str(wheel))
        self.empty = self._project(work / "empty", 1)
        self.many = self._project(work / "many", MANY)

    @staticmethod
    def _project(folder: Path, tests: int) -> Path:
        folder.mkdir()
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        text = "".join(f"def test_{i}(): pass\n" for i in range(tests))
        (folder / "test_nothing.py").write_text(text, encoding="utf-8")
        return folder

    def start(
        self, *folders: Path, args: tuple[str, ...] = COLLECT, read_only: bool = False
    ) -> Start:
        """Return a start in the empty project that sees pytest and these folders."""
        return Start((self.base, *folders), args, self.empty, read_only)

    def starts(self, n: int) -> str:
        """Return the table of what a start costs."""
        alone, off = self.start(), ("-p", f"no:{NAME}", *COLLECT)
        starts = {
            "pytest alone": alone,
            "with the plugin": self.start(self.ours),
            f"with the plugin, `-p no:{NAME}`": self.start(self.ours, args=off),
            "with the plugin, read-only": self.start(self.read_only, read_only=True),
            **{f"with {name}": self.start(folder) for name, folder in self.yardsticks.items()},
        }
        times = rounds(starts, n, seed=5)
        bare, bare_count = times.pop("pytest alone"), alone.instructions()
        rows = [f"| pytest alone | {1e3 * median(bare):.1f} | – | {bare_count:.0f} | – |"]
        for name, found in times.items():
            more = differences(found, bare, 1e3)
            count = starts[name].instructions()
            rows.append(
                f"| {name} | {1e3 * median(found):.1f} | {more} | {count:.0f} "
                f"| {count - bare_count:+.1f} |"
            )
        return "\n".join(
            [
                f"`pytest --collect-only -q`, one empty test, {n} rounds:",
                "",
                "| start | processor time, ms (median) | more than pytest alone, ms (95 %) "
                "| instructions, millions | more than pytest alone |",
                "|---|---:|---:|---:|---:|",
                *rows,
            ]
        )

    def per_test(self, n: int) -> str:
        """Return what a test costs that has nothing to do with the plugin."""
        args, folders = ("-q", "-p", "no:cacheprovider"), (self.base, self.ours)
        off = ("-p", f"no:{NAME}", *args)
        starts = {"on": Start(folders, args, self.many), "off": Start(folders, off, self.many)}
        times = rounds(starts, n, seed=6)
        return (
            f"A run of {MANY:,} empty tests with the plugin, compared with one in which it is "
            f"switched off, {n} rounds: {differences(times['on'], times['off'], 1e6 / MANY)} µs a "
            f"test (of {1e6 * median(times['off']) / MANY:.0f} µs)."
        )

    def side_effects(self) -> str:
        """Return what a start with the plugin imports and leaves behind."""
        before = tree(self.ours), tree(self.empty)
        with_it, alone = self.start(self.ours).watched(), self.start().watched()
        changed = (tree(self.ours), tree(self.empty)) != before
        more = {*with_it["modules"]} - {*alone["modules"]}
        ours = sorted(name for name in more if name.partition(".")[0] == "pytest_calibration")
        others = sorted(more - {*ours})
        # As often, too: a folder of bytecode is asked for once per module.
        events = Counter(map(event_name, with_it["events"])) - Counter(
            map(event_name, alone["events"])
        )
        listed = "; ".join(f"{n} × {name}" for name, n in events.items()) or "none"
        return "\n".join(
            [
                "Within one process:",
                "",
                f"- modules of ours imported: {len(ours)} ({', '.join(ours)})",
                f"- other modules imported for it: {len(others)} ({', '.join(others) or 'none'})",
                "- files opened for writing, folders made, processes started, connections made "
                f"that pytest alone does not: {listed}",
                "- changed on disk by a start, in the project or where the plugin lies: "
                f"{'something' if changed else 'nothing'}",
            ]
        )


def rounds(starts: dict[str, Start], n: int, seed: int) -> dict[str, list[float]]:
    """Return the seconds of each start in n rounds, each in an order of its own."""
    shuffler = random.Random(seed)
    out: dict[str, list[float]] = {name: [] for name in starts}
    for start in starts.values():
        start.seconds()
    for _ in range(n):
        for name in shuffler.sample(list(starts), len(starts)):
            out[name].append(starts[name].seconds())
    return out


def differences(values: list[float], others: list[float], factor: float) -> str:
    """Return the median of the differences, with its 95 % interval from order statistics."""
    ordered = sorted(factor * (a - b) for a, b in zip(values, others, strict=True))
    n, outside, rank = len(ordered), 0.0, 0
    # Widest pair of ranks that still holds the level: P(fewer than `rank` lie below the median).
    while rank < n // 2 and outside + comb(n, rank) / 2**n <= 0.025:
        outside += comb(n, rank) / 2**n
        rank += 1
    low, high = ordered[max(rank - 1, 0)], ordered[n - max(rank, 1)]
    return f"{median(ordered):+.1f} ({low:+.1f} to {high:+.1f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=100, metavar="N")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables into this page")
    options = parser.parse_args()
    if options.rounds < 6:
        parser.error("--rounds must be at least 6: fewer have no 95 % interval")
    with TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        parts = [
            f"Python {platform.python_version()}, pytest {version('pytest')}, {platform.system()}, "
            f"{os.cpu_count()} cores.",
            bench.starts(options.rounds),
            bench.per_test(max(6, options.rounds // 5)),
            bench.side_effects(),
        ]
    publish("\n\n".join(parts), options.write, "startup")


if __name__ == "__main__":
    main()
