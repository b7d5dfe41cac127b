"""Mutants of the statistics and the gate: ``python tests/mutation/mutation.py --mutants 320``.

Of all places where `mutants.py` finds that something else may stand, a sample is drawn, from each
room in proportion. Each mutant is written into a copy of the repository. The tests that run its
lines are run there until one fails: those of its own room first, then the others, the fast before
the slow. Which tests run a line is measured first, and again when they or what they run changed.

A mutant is *killed* when a test fails, *timed out* when the tests take many times what they take
without it (which counts as killed), *equivalent* when `equivalent_mutants.yaml` says why nothing
comes of it, and *survived* otherwise. What is known is kept in ``.mutation/``, so that a run that
was stopped goes on; what survived is tried again by each run, unless it is equivalent.

Exit code 1 where fewer than 90 % of those that are not equivalent are killed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import queue
import resource
import shutil
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from mutants import PACKAGE, ROOMS, Mutant, mutants, sample

ROOT: Final = Path(__file__).parents[2]
KEPT: Final = ROOT / ".mutation"
EQUIVALENT: Final = Path(__file__).with_name("equivalent_mutants.yaml")
ENOUGH: Final = 0.9
LEFT_OUT: Final = shutil.ignore_patterns(
    *(".git", ".tox", ".venv", "venv", KEPT.name, ".*_cache", "__pycache__", "dist", "build")
)
TESTS: Final = (
    *("metrics", "uncertainty", "test_measurement.py", "predictions", "gate", "baselines"),
    *("history", "diagnosis", "readers", "reports", "test_assertions.py", "test_early_stopping.py"),
    *("test_asking_in_parts.py", "test_public_names.py", "cli", "plugin"),
)
"""The tests that may kill; each room of the package has its own among them."""
SECONDS: Final = 30.0
"""Tests of more than this together are not run for one mutant, the slowest left out."""
TIMES: Final = 4.0
"""A mutant has timed out when its tests take this many times as long, and ``SLACK`` seconds."""
SLACK: Final = 20.0
WAIT: Final = 900.0
"""The clock's limit for one run, for tests that wait rather than work."""
FAILED: Final = "failed-test"
PRELOADED: Final = ("numpy", "hypothesis", "yaml", "msgspec", "jinja2", "_pytest.pytester")
OPTIONS: Final = (
    *("-q", "--hypothesis-profile=few", "-p", "no:cacheprovider"),
    # hypothesis is loaded before pytest starts.
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)


class Chosen:
    """A plugin of pytest: of what is collected, only these tests are run, in this order.

    The name of one that fails is written into a file.
    """

    def __init__(self, tests: Sequence[str], failed: Path) -> None:
        self.place = {test: place for place, test in enumerate(tests)}
        self.failed = failed

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep what was chosen."""
        items[:] = [item for item in items if item.nodeid in self.place]
        items.sort(key=lambda item: self.place[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Say which test has failed."""
        if report.failed:
            self.failed.write_text(report.nodeid)


class Measured:
    """A plugin of pytest: what each test runs of the package, and the processor time it takes."""

    def __init__(self, coverage: Any) -> None:
        self.coverage = coverage
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Give the lines that run the name of the test."""
        self.coverage.switch_context(item.nodeid)
        before = sum(os.times()[:4])
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = sum(os.times()[:4]) - before
            self.coverage.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Leave out what is skipped; note what fails."""
        if report.failed:
            self.failed.append(report.nodeid)
        elif report.skipped:
            self.seconds.pop(report.nodeid, None)


def _enter(tree: Path, seconds: float) -> None:
    """Make this process one that knows the copy of the repository alone, with a limit of time."""
    os.setpgrp()
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    os.chdir(tree)
    own = {str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent), ""}
    sys.path[:] = [str(tree), *(entry for entry in sys.path if entry not in own)]
    os.environ["PYTHONPATH"] = str(tree)


def _loaded_from(tree: Path) -> bool:
    return Path(sys.modules[PACKAGE].__file__ or "").is_relative_to(tree)


def measure(tree: Path, file: str, result: Path) -> None:
    """Run a file of tests without a mutant; write which test runs which lines."""
    _enter(tree, 3600)
    # So that mutants need not compile it again.
    sys.dont_write_bytecode = False
    from coverage import Coverage

    coverage = Coverage(data_file=None, source=[str(tree / PACKAGE)], config_file=False)
    measured = Measured(coverage)
    coverage.start()
    pytest.main([*OPTIONS, file], plugins=[measured])
    coverage.stop()
    assert _loaded_from(tree), sys.modules[PACKAGE].__file__
    data = coverage.get_data()
    lines = {
        Path(path).relative_to(tree).as_posix(): {
            line: [test for test in tests if test in measured.seconds or not test]
            for line, tests in data.contexts_by_lineno(path).items()
        }
        for path in data.measured_files()
    }
    known = {"seconds": measured.seconds, "failed": measured.failed, "lines": lines}
    result.write_text(json.dumps(known))


def attempt(tree: Path, tests: Sequence[str], seconds: float) -> None:
    """Run tests, with a mutant in the tree; end as pytest does."""
    _enter(tree, seconds)
    # What is compiled of a mutant must not be taken for its original.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    named = dict.fromkeys(test.partition("::")[0] for test in tests)
    code = pytest.main([*OPTIONS, "-x", *named], plugins=[Chosen(tests, tree / FAILED)])
    if code == pytest.ExitCode.OK:
        assert _loaded_from(tree), sys.modules[PACKAGE].__file__
    os._exit(code)


class Processes:
    """Processes with everything imported, each in its own copy of the repository."""

    def __init__(self, many: int) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["__main__", *PRELOADED])
        self.trees: queue.Queue[Path] = queue.Queue()
        for number in range(many):
            tree = KEPT / f"copy-{number}"
            shutil.rmtree(tree, ignore_errors=True)
            shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
            self.trees.put(tree)

    @contextlib.contextmanager
    def tree(self) -> Iterator[Path]:
        """Lend a copy."""
        tree = self.trees.get()
        try:
            yield tree
        finally:
            self.trees.put(tree)

    def run(self, target: Any, *arguments: object) -> int | None:
        """Run a function in a process; return its exit code, nothing where it took too long."""
        process = self.context.Process(target=target, args=arguments)
        process.start()
        process.join(WAIT)
        late = process.is_alive()
        # Also what it started itself.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
        late = late or process.exitcode in {-signal.SIGXCPU, -signal.SIGKILL}
        return None if late else process.exitcode


def digest(path: Path) -> str:
    """Return what tells one content of a file from another."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""


def test_files() -> list[str]:
    """Return the files of the tests that may kill."""
    places = [ROOT / "tests" / name for name in TESTS]
    found = [
        path
        for place in places
        for path in ([place] if place.is_file() else place.rglob("test_*.py"))
    ]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


class Coverage:
    """Which tests run which lines of the package."""

    def __init__(self) -> None:
        self.folder = KEPT / "lines"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []
        self.lines: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))

    def _kept(self, file: str) -> Path:
        return self.folder / (file.replace("/", "-") + ".json")

    def _known(self, file: str) -> bool:
        """Say whether neither the file nor what it runs has changed since it was measured."""
        if not self._kept(file).is_file():
            return False
        kept = json.loads(self._kept(file).read_text())
        # Of a file that is merely imported, no line is run by a test.
        run = {path for path, lines in kept["lines"].items() if any(any(t) for t in lines.values())}
        return all(digest(ROOT / path) == kept["digests"][path] for path in (file, *run))

    def measure(self, processes: Processes, file: str) -> None:
        """Run a file of tests, unless what it runs is known."""
        if self._known(file):
            return
        with processes.tree() as tree:
            result = tree / "measured.json"
            result.unlink(missing_ok=True)
            processes.run(measure, tree, file, result)
            if not result.is_file():
                raise SystemExit(f"{file}: its tests did not end without a mutant")
            known = json.loads(result.read_text())
            known["digests"] = {path: digest(tree / path) for path in (file, *known["lines"])}
        self._kept(file).write_text(json.dumps(known))
        print(
            f"{file}: {len(known['seconds'])} tests, {sum(known['seconds'].values()):.1f} s",
            flush=True,
        )

    def read(self, file: str) -> None:
        """Add what is known of a file of tests."""
        known = json.loads(self._kept(file).read_text())
        failed = set(known["failed"])
        self.seconds |= {test: s for test, s in known["seconds"].items() if test not in failed}
        self.failed += known["failed"]
        for path, lines in known["lines"].items():
            for line, tests in lines.items():
                self.lines[path][int(line)].update(set(tests) - failed)

    def tests(self, mutant: Mutant) -> list[list[str]]:
        """Return the tests that run the lines of a mutant: of its room, then folder by folder.

        Each folder is run by itself: what is called ``conftest`` is another in each.
        What is run as the file is imported is run by all tests that run anything of the file.
        """
        lines = self.lines[mutant.path]
        found = set().union(*(lines[line] for line in range(mutant.first, mutant.last + 1)))
        if not found or "" in found:
            found = set().union(*lines.values())
        found.discard("")
        own = (f"tests/{mutant.room}/", f"tests/test_{mutant.room}.py")
        near = {test for test in found if test.startswith(own)}
        files = {test.partition("::")[0] for test in near}
        # What a fixture of the file made is looked at by tests that do not make it.
        rest = {test for test in self.seconds if test.partition("::")[0] in files}
        first = self._fast(near, SECONDS)
        left = SECONDS - sum(self.seconds[test] for test in first)
        folders: dict[str, list[str]] = {}
        for test in self._fast((found | rest) - set(first), left):
            folders.setdefault(test.partition("::")[0].rpartition("/")[0], []).append(test)
        return [first, *folders.values()]

    def _fast(self, tests: set[str], most: float) -> list[str]:
        """Return tests of so many seconds, the slowest left out; file by file, the fast first."""
        taken: list[str] = []
        files: Counter[str] = Counter()
        total = 0.0
        for test in sorted(tests, key=lambda test: (self.seconds[test], test)):
            total += self.seconds[test]
            if total > most:
                break
            taken.append(test)
            files[test.partition("::")[0]] += self.seconds[test]
        return sorted(
            taken, key=lambda test: (files[test.partition("::")[0]], test.partition("::")[0])
        )


@dataclass
class Result:
    """What became of a mutant.

    Attributes:
        outcome: `killed`, `timed out` or `survived`.
        tests: how many tests were chosen for it.
        seconds: how long they took, by the clock.
        file: the digest of the file it changes.
        by: the test that failed; empty where none did, or where none could be run.
    """

    outcome: str
    tests: int
    seconds: float
    file: str
    by: str = ""


def tried(mutant: Mutant, coverage: Coverage, processes: Processes) -> Result:
    """Write a mutant into a copy and run its tests."""
    started = time.monotonic()
    chosen = coverage.tests(mutant)
    outcome = "survived"
    with processes.tree() as tree:
        path = tree / mutant.path
        content, times, known = path.read_bytes(), path.stat(), digest(path)
        path.write_text(mutant.code or "")
        (tree / FAILED).write_text("")
        try:
            for tests in chosen:
                limit = SLACK + TIMES * sum(coverage.seconds[test] for test in tests)
                code = processes.run(attempt, tree, tests, limit) if tests else 0
                # None of the tests is there: their names come from what was changed.
                if code not in {0, int(pytest.ExitCode.NO_TESTS_COLLECTED)}:
                    outcome = "timed out" if code is None else "killed"
                    break
        finally:
            path.write_bytes(content)
            # With its old time, which fits what is compiled of it.
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        by = (tree / FAILED).read_text()
    return Result(outcome, sum(map(len, chosen)), time.monotonic() - started, known, by)


class Results:
    """What became of mutants, also in earlier runs."""

    def __init__(self) -> None:
        self.path = KEPT / "results.jsonl"
        self.known: dict[str, Result] = {}
        if self.path.is_file():
            for line in self.path.read_text().splitlines():
                key, result = json.loads(line)
                self.known[key] = Result(**result)

    def add(self, mutant: Mutant, result: Result) -> None:
        """Keep a result, at once."""
        self.known[mutant.key] = result
        with self.path.open("a") as file:
            file.write(json.dumps([mutant.key, vars(result)]) + "\n")

    def settled(self, mutant: Mutant, equivalent: Container[str]) -> bool:
        """Say whether a mutant was killed, or survived as it must, in the file as it is."""
        known = self.known.get(mutant.key)
        if known is None or known.file != digest(ROOT / mutant.path):
            return False
        return known.outcome != "survived" or mutant.key in equivalent


def equivalents(found: Sequence[Mutant]) -> set[str]:
    """Return the keys of the mutants of which nothing comes; refuse an entry that fits none."""
    entries = yaml.safe_load(EQUIVALENT.read_text()) or []
    first = {(m.path, m.definition, m.before, m.after): m.key for m in found if m.occurrence == 0}
    keys: set[str] = set()
    for entry in entries:
        assert set(entry) == {"file", "in", "before", "after", "why"}, entry
        key = first.get(tuple(entry[name] for name in ("file", "in", "before", "after")))
        if key is None:
            raise SystemExit(f"{EQUIVALENT.name}: no mutant fits {entry}")
        keys.add(key)
    return keys


def table(drawn: Sequence[Mutant], found: Counter[str], outcomes: dict[str, str]) -> str:
    """Return what became of the mutants of each room."""
    columns = ("killed", "timed out", "equivalent", "survived")
    lines = [f"{'room':<14}{'places':>8}{'mutants':>9}" + "".join(f"{c:>12}" for c in columns)]
    counts = {room: Counter(outcomes[m.key] for m in drawn if m.room == room) for room in found}
    rows = {**counts, "all": sum(counts.values(), Counter())}
    for room, count in rows.items():
        places = found[room] if room in found else found.total()
        cells = "".join(f"{count[column]:>12,}" for column in columns)
        lines.append(f"{room:<14}{places:>8,}{count.total():>9,}{cells}")
    return "\n".join(lines)


def _try_all(drawn: Sequence[Mutant], results: Results, many: int) -> None:
    """Measure the tests, and try the mutants of which it is not known whether they are killed."""
    started = time.monotonic()
    processes, coverage = Processes(many), Coverage()
    with ThreadPoolExecutor(many) as pool:
        try:
            list(pool.map(lambda file: coverage.measure(processes, file), test_files()))
            for file in test_files():
                coverage.read(file)
            for test in coverage.failed:
                print(f"left out, since it fails without a mutant: {test}")
            took = time.monotonic() - started
            print(f"{len(coverage.seconds):,} tests measured, {took:.0f} s", flush=True)
            left = {pool.submit(tried, m, coverage, processes): m for m in drawn}
            for done in as_completed(left):
                results.add(left[done], done.result())
                print(_told(left[done], done.result()), flush=True)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def run(argv: list[str] | None = None) -> int:
    """Test mutants; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mutants", type=int, default=320, help="how many (default 320)")
    parser.add_argument("--seed", default="0", help="another seed draws another sample")
    parser.add_argument("--room", choices=ROOMS, action="append", help="of this one alone")
    parser.add_argument("--again", action="store_true", help="forget what became of mutants")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(argv)
    started = time.monotonic()
    KEPT.mkdir(exist_ok=True)
    found = {room: list(mutants(ROOT, room)) for room in ROOMS}
    equivalent = equivalents([mutant for room in found.values() for mutant in room])
    found = {room: found[room] for room in options.room or ROOMS}
    drawn = sample(found, options.mutants, options.seed)
    if options.again:
        (KEPT / "results.jsonl").unlink(missing_ok=True)
    results = Results()
    left = [mutant for mutant in drawn if not results.settled(mutant, equivalent)]
    print(f"{len(drawn)} mutants, {len(drawn) - len(left)} known from earlier runs", flush=True)
    if left:
        _try_all(left, results, options.processes)
    outcomes = {m.key: results.known[m.key].outcome for m in drawn}
    for key in outcomes.keys() & equivalent:
        outcomes[key] = "equivalent" if outcomes[key] == "survived" else outcomes[key]
    for mutant in drawn:
        if outcomes[mutant.key] == "survived":
            print(f"\n{_told(mutant, results.known[mutant.key])}\n{mutant.diff()}")
    counts = Counter(outcomes.values())
    print("\n" + table(drawn, Counter({room: len(all_) for room, all_ in found.items()}), outcomes))
    rate = 1 - counts["survived"] / max(len(drawn) - counts["equivalent"], 1)
    print(f"seed {options.seed}: {rate:.1%} killed, in {time.monotonic() - started:.0f} s")
    return int(rate < ENOUGH)


def _told(mutant: Mutant, result: Result) -> str:
    place = f"{mutant.path}:{mutant.first} {mutant.definition}"
    by = f"  by {result.by}" if result.by else ""
    return f"{result.outcome:<10}{result.seconds:>6.1f} s {result.tests:>5} tests  {place}{by}"


if __name__ == "__main__":
    raise SystemExit(run())
