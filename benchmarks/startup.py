"""What does the plugin cost a project that does not use it?

::

    python benchmarks/startup.py                  # print the tables (5 minutes on two cores)
    python benchmarks/startup.py --rounds 30      # fewer rounds, wider intervals
    python benchmarks/startup.py --write docs/performance.md

A project of one empty test is collected with ``pytest --collect-only -q``, again and again, in
processes of their own that see pytest and what it needs and nothing else, but for

- the plugin, installed from its wheel: its **cost** is the difference to a run without it;
- the plugin, switched off by ``-p no:calibration``: what is left is the price of being installed
  (pytest reads the entry points and the list of files of every plugin there is);
- pytest-rerunfailures, and pytest-xdist without ``-n``, as a yardstick.

Processor time of a process is user and system time as the kernel counts them (``os.wait4``). Each
round runs all of them in a shuffled order, and differences are taken within a round, so that a
machine that slows down slows down both sides. A median stands with its 95 % interval from order
statistics, which supposes nothing about the noise. Measure on a machine that does nothing else:
processor time grows with the work beside it, which shares the caches.

Two states of the disk are measured. Warm: bytecode that Python or pytest wants to keep is there.
Read-only: pytest may not keep the bytecode of plugins that it rewrites, because
``PYTHONDONTWRITEBYTECODE`` is set, as in many container images, or because site-packages belong to
another user; so it compiles what it imports at every start.

Beside them: what a test costs that has nothing to do with the plugin, from runs of many empty
tests; and, from within one process, how long imports and hooks of the plugin take, which of its
modules are imported, and every file it writes and every process it starts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import distribution, version
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
    "pytest-xdist, no -n": ("pytest-xdist", "execnet"),
}
COLLECT = ("--collect-only", "-q")
# Tests of the project that counts what one test costs.
MANY = 2000
# What a process could leave behind or start, as Python's audit events name it.
EVENTS = (
    "open",
    "os.mkdir",
    "os.rename",
    "os.link",
    "os.symlink",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.exec",
    "os.system",
    "subprocess.Popen",
    "socket.connect",
    "tempfile.mkdtemp",
    "tempfile.mkstemp",
)
# Runs pytest in a process and says what the plugin did in it.
WATCHER = f"""
import json, os, sys
from time import perf_counter

told, spent, registered = [], {{}}, []

def audit(event, args):
    if event in {EVENTS!r}:
        if event == "open":
            mode, flags = args[1], args[2] or 0
            if not (flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                return
        told.append([event, os.fsdecode(args[0]) if isinstance(args[0], (str, bytes)) else ""])

sys.addaudithook(audit)

def add(what, began):
    spent[what] = spent.get(what, 0.0) + perf_counter() - began

def timed(name, function, wraps):
    def plain(*args):
        began = perf_counter()
        try:
            return function(*args)
        finally:
            add(name, began)

    def wrapper(*args):
        inner = function(*args)
        began = perf_counter()
        next(inner)
        add(name, began)
        try:
            result = yield
        except BaseException as error:
            inner.throw(error)
        else:
            began = perf_counter()
            try:
                inner.send(result)
            except StopIteration as stop:
                add(name, began)
                return stop.value

    return wrapper if wraps else plain

import importlib.metadata
import pluggy, pytest

impl_init = pluggy.HookImpl.__init__

def init(self, plugin, plugin_name, function, options):
    impl_init(self, plugin, plugin_name, function, options)
    if plugin_name.startswith({NAME!r}):
        wraps = options["wrapper"] or options["hookwrapper"]
        self.function = timed(f"hook {{function.__name__}}", self.function, wraps)

pluggy.HookImpl.__init__ = init
load = importlib.metadata.EntryPoint.load

def loaded(self):
    began = perf_counter()
    try:
        return load(self)
    finally:
        if self.name == {NAME!r}:
            add("import", began)

importlib.metadata.EntryPoint.load = loaded
register = pytest.PytestPluginManager.register

def registering(self, plugin, name=None):
    began = perf_counter()
    try:
        return register(self, plugin, name)
    finally:
        if (name or "").startswith({NAME!r}):
            registered.append(name)
            add("register", began)

pytest.PytestPluginManager.register = registering
status = pytest.main(sys.argv[1:])
seen = list(told)
modules = [name for name in sys.modules if name.partition(".")[0] == "pytest_calibration"]
with open(os.environ["WATCHED"], "w") as file:
    json.dump({{"told": seen, "spent": spent, "modules": modules, "all": sorted(sys.modules),
               "registered": registered, "status": int(status)}}, file)
"""


@dataclass(frozen=True)
class Variant:
    """One way to start pytest.

    Attributes:
        folders: what Python finds beside its standard library.
        args: arguments of pytest.
        project: where it runs.
        writes_bytecode: whether bytecode may be kept.
    """

    folders: tuple[Path, ...]
    args: tuple[str, ...]
    project: Path
    writes_bytecode: bool = True

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the process: nothing of this one's that changes what is measured."""
        out = {name: value for name, value in os.environ.items() if not changes(name)}
        out["PYTHONPATH"] = os.pathsep.join(map(str, self.folders))
        if not self.writes_bytecode:
            out["PYTHONDONTWRITEBYTECODE"] = "1"
        return out

    def cpu(self) -> float:
        """Run once and return the processor time, in seconds.

        Raises:
            RuntimeError: pytest failed.
        """
        # Without site (-S) no editable install comes along.
        command = [sys.executable, "-S", "-m", "pytest", *self.args]
        with open(os.devnull, "wb") as null:
            child = subprocess.Popen(
                command, cwd=self.project, env=self.environment, stdout=null, stderr=null
            )
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise RuntimeError(f"{' '.join(command)} in {self.project} gave {child.returncode}")
        return usage.ru_utime + usage.ru_stime

    def watched(self) -> dict[str, Any]:
        """Run once and return what the plugin did in the process."""
        with TemporaryDirectory() as folder:
            answer = Path(folder, "answer.json")
            subprocess.run(
                [sys.executable, "-S", "-c", WATCHER, *self.args],
                cwd=self.project,
                env={**self.environment, "WATCHED": str(answer)},
                stdout=subprocess.DEVNULL,
                check=True,
            )
            found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        if found["status"]:
            raise RuntimeError(f"pytest gave {found['status']} under watch")
        found["told"] = sorted(map(beside_the_point, found["told"]))
        return found


def beside_the_point(event: tuple[str, str]) -> str:
    """Return an event as a line; what has another name in each process gets one for all."""
    name, path = event
    if "__pycache__" in path:
        return f"{name} (bytecode that pytest keeps)"
    if Path(path).parent == Path(gettempdir()):
        return f"{name} (a temporary file)"
    return f"{name} {path}".rstrip()


def changes(name: str) -> bool:
    """Whether a variable of the environment changes what Python or pytest does."""
    return name.startswith(("PYTHON", "PYTEST", "COV_")) or name in ("CI", "GITHUB_ACTIONS")


def copy_of(names: Iterable[str], folder: Path) -> Path:
    """Copy installed distributions, with nothing else of their environment."""
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


def wheel_in(folder: Path, source: Path) -> Path:
    """Install the wheel of the working tree, alone."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--compile"]
    subprocess.run([*command, "--target", str(folder), str(source)], check=True)
    return folder


def wheel_of(folder: Path) -> Path:
    """Build the wheel of the working tree."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True)
    return next(folder.glob("*.whl"))


def interval(values: list[float], level: float = 0.95) -> tuple[float, float, float]:
    """Return the median and its interval from order statistics."""
    ordered, n = sorted(values), len(values)
    outside, low = 0.0, 0
    # Widest pair of ranks that still holds the level: P(fewer than `low` lie below the median).
    while low < n // 2 and 2 * (outside + comb(n, low) / 2**n) <= 1 - level:
        outside += comb(n, low) / 2**n
        low += 1
    low = max(low - 1, 0)
    return median(ordered), ordered[low], ordered[n - 1 - low]


def rounds(variants: dict[str, Variant], n: int, seed: int) -> dict[str, list[float]]:
    """Run every variant n times, each round in an order of its own."""
    shuffler = random.Random(seed)
    out: dict[str, list[float]] = {name: [] for name in variants}
    for variant in variants.values():
        variant.cpu()
    for _ in range(n):
        order = list(variants)
        shuffler.shuffle(order)
        for name in order:
            out[name].append(variants[name].cpu())
    return out


def row(name: str, values: list[float], against: list[float] | None) -> str:
    """Return one line of a table: a median, and a difference with its interval."""
    start = f"| {name} | {1e3 * median(values):.1f} |"
    if against is None:
        return f"{start} – |"
    differences = [a - b for a, b in zip(values, against, strict=True)]
    middle, low, high = (1e3 * number for number in interval(differences))
    return f"{start} {middle:+.1f} ({low:+.1f} to {high:+.1f}) |"


def tree(folder: Path) -> dict[str, int]:
    """Return every file and folder below a folder, with its size."""
    return {
        str(path.relative_to(folder)): path.stat().st_size if path.is_file() else 0
        for path in sorted(folder.rglob("*"))
    }


class Bench:
    """The folders that are measured.

    Args:
        work: an empty folder.
    """

    def __init__(self, work: Path) -> None:
        self.base = copy_of(PYTEST, work / "pytest")
        self.yardsticks = {
            name: copy_of(parts, work / name.replace(", ", "-").replace(" ", "-"))
            for name, parts in YARDSTICKS.items()
        }
        wheel = wheel_of(work / "wheel")
        self.ours = wheel_in(work / "ours", wheel)
        # Never started with leave to write: only what pip compiled is there.
        self.fresh = wheel_in(work / "ours-read-only", wheel)
        self.empty = self._project(work / "empty", "def test_nothing(): pass\n")
        tests = "".join(f"def test_{i}(): pass\n" for i in range(MANY))
        self.many = self._project(work / "many", tests)

    @staticmethod
    def _project(folder: Path, tests: str) -> Path:
        folder.mkdir()
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        (folder / "test_nothing.py").write_text(tests, encoding="utf-8")
        return folder

    def start(self, *extra: Path, args: tuple[str, ...] = COLLECT, writes: bool = True) -> Variant:
        """Return a start of pytest in the empty project with what these folders hold."""
        return Variant((self.base, *extra), args, self.empty, writes)

    def off(self) -> Variant:
        """Return a start with the plugin installed and switched off."""
        return self.start(self.ours, args=("-p", f"no:{NAME}", *COLLECT))

    def starts(self, n: int) -> str:
        """Return the table of what a start costs."""
        bare, on, compiled = "pytest alone", "with the plugin", "with the plugin, read-only"
        off = f"with the plugin, `-p no:{NAME}`"
        variants = {
            bare: self.start(),
            on: self.start(self.ours),
            off: self.off(),
            compiled: self.start(self.fresh, writes=False),
            **{f"with {name}": self.start(at) for name, at in self.yardsticks.items()},
        }
        found = rounds(variants, n, seed=5)
        return "\n".join(
            [
                f"`pytest --collect-only -q`, one empty test, {n} rounds:",
                "",
                "| start | processor time, ms (median) | more than pytest alone, ms (95 %) |",
                "|---|---:|---:|",
                row(bare, found[bare], None),
                *(row(name, found[name], found[bare]) for name in variants if name != bare),
            ]
        )

    def per_test(self, n: int) -> str:
        """Return what a test of others' costs, in microseconds."""
        args = ("-q", "-p", "no:cacheprovider")
        off = ("-p", f"no:{NAME}", *args)
        found = rounds(
            {
                "on": Variant((self.base, self.ours), args, self.many),
                "off": Variant((self.base, self.ours), off, self.many),
            },
            n,
            seed=6,
        )
        differences = [a - b for a, b in zip(found["on"], found["off"], strict=True)]
        middle, low, high = (1e6 * number / MANY for number in interval(differences))
        whole = 1e6 * median(found["off"]) / MANY
        return (
            f"A run of {MANY:,} empty tests with the plugin against one with it switched off, {n} "
            f"rounds: {middle:+.1f} µs a test ({low:+.1f} to {high:+.1f}; of {whole:.0f} µs)."
        )

    def inside(self, n: int) -> str:
        """Return where the time goes, and what the plugin does beside taking time."""
        seen = [self.start(self.ours).watched() for _ in range(n)]
        bare, off = self.start().watched(), self.off().watched()
        names = sorted({name for one in seen for name in one["spent"]})
        spent = {name: median(one["spent"].get(name, 0.0) for one in seen) for name in names}
        hooks = {name: s for name, s in spent.items() if name.startswith("hook ")}
        top = sorted(hooks, key=hooks.__getitem__, reverse=True)[:4]
        more = sorted({*seen[0]["all"]} - {*bare["all"]} - {*seen[0]["modules"]})
        before = tree(self.ours), tree(self.empty)
        self.start(self.ours).cpu()
        changed = [a != b for a, b in zip(before, (tree(self.ours), tree(self.empty)), strict=True)]
        # As often, too: a folder of bytecode is asked for once per module.
        beyond = Counter(seen[0]["told"]) - Counter(bare["told"])
        events = "; ".join(f"{n} × {what}" for what, n in beyond.items()) or "none"
        named = ", ".join(f"{name.removeprefix('hook ')} {1e3 * hooks[name]:.2f}" for name in top)
        return "\n".join(
            [
                f"Within one process, wall time in ms (medians of {n}):",
                "",
                f"- importing the plugin: {1e3 * spent['import']:.2f}",
                f"- registering it, its fixtures and its hooks: {1e3 * spent['register']:.2f}",
                f"- its hooks: {1e3 * sum(hooks.values()):.2f} ({named})",
                f"- modules of ours imported: {len(seen[0]['modules'])} "
                f"({', '.join(seen[0]['modules'])}); with it switched off: {len(off['modules'])}",
                f"- other modules imported for it: {len(more)} ({', '.join(more) or 'none'})",
                f"- files opened for writing, folders made, processes started, connections made "
                f"that pytest alone does not: {events}",
                f"- changed on disk by a start, in the project or where the plugin lies: "
                f"{'something' if any(changed) else 'nothing'}",
            ]
        )


def machine() -> str:
    """Return what the numbers depend on."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count()
    return (
        f"Python {platform.python_version()}, pytest {version('pytest')}, {platform.system()}, "
        f"{cores} cores."
    )


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
            machine(),
            bench.starts(options.rounds),
            bench.per_test(max(6, options.rounds // 5)),
            bench.inside(max(5, options.rounds // 5)),
        ]
    publish("\n\n".join(parts), options.write, "startup")


if __name__ == "__main__":
    main()
