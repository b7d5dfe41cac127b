"""What does a run cost whose answers are all kept? The example project against empty tests.

::

    python benchmarks/cached_run.py               # 15 pairs, about two minutes on two cores
    python benchmarks/cached_run.py --pairs 5

The example's tests run once to fill a cache; then they run again over it, in turn with as many
empty tests in a pytest that does not load this plugin, each in a process of its own. Printed are
the medians of wall and CPU time and the goal: at most 1.5 times the bare run plus 0.5 seconds.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

EXAMPLE = Path(__file__).resolve().parent.parent / "example_project"
BASE = EXAMPLE / "checkpoints" / "base"
FACTOR, EXTRA = 1.5, 0.5
# What other packages bring into this environment is measured by neither; nor is compiling, which an
# installed package has behind it.
LEFT_OUT = "PYTHONDONTWRITEBYTECODE"
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "HF_HUB_OFFLINE": "1", "PYTHONHASHSEED": "0"}


def timed(args: Sequence[str], folder: Path, compiled: Path) -> tuple[float, float, str]:
    """Run pytest in a folder; return wall and CPU seconds, and what it printed.

    Args:
        args: of pytest.
        folder: where it is started.
        compiled: where bytecode is kept.
    """
    env = {name: value for name, value in os.environ.items() if name != LEFT_OUT}
    before, begun = os.times(), time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args],
        cwd=folder,
        env={**env, **ALONE, "PYTHONPYCACHEPREFIX": str(compiled)},
        capture_output=True,
        text=True,
        check=False,
    )
    wall, after = time.perf_counter() - begun, os.times()
    if result.returncode:
        raise SystemExit(result.stdout + result.stderr)
    cpu = (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )
    return wall, cpu, result.stdout


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=15)
    pairs = parser.parse_args().pairs
    if pairs < 1:
        parser.error(f"--pairs must be at least 1, got {pairs}")
    with TemporaryDirectory() as name:
        folder = Path(name) / "tests"
        folder.mkdir()
        code = Path(name) / "code"
        full = [str(EXAMPLE / "tests"), "-p", "pytest_calibration.plugin"]
        full += [f"--calibration-model={BASE}", f"--calibration-cache-dir={folder / 'kept'}"]
        _, _, said = timed(full, EXAMPLE, code)
        (tests,) = re.findall(r"(\d+) passed in", said)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_empty.py").write_text(
            "".join(f"def test_{i}():\n    pass\n\n\n" for i in range(int(tests)))
        )
        # Both once more, unmeasured: what is compiled is compiled then.
        timed(full, EXAMPLE, code)
        timed([str(folder)], folder, code)
        cached, bare = [], []
        for _ in range(pairs):
            wall, cpu, said = timed(full, EXAMPLE, code)
            if "answers from cache: all (no model was loaded)." not in said:
                raise SystemExit(f"not all came from the cache:\n{said}")
            cached.append((wall, cpu))
            wall, cpu, _ = timed([str(folder)], folder, code)
            bare.append((wall, cpu))
    for what, rows in (("cached example", cached), (f"{tests} empty tests", bare)):
        wall, cpu = (median(column) for column in zip(*rows, strict=True))
        print(f"{what:<16} wall {wall:6.3f} s   CPU {cpu:6.3f} s")
    for i, kind in enumerate(("wall", "CPU")):
        ours, theirs = median(row[i] for row in cached), median(row[i] for row in bare)
        goal = FACTOR * theirs + EXTRA
        verdict = "met" if ours <= goal else "MISSED"
        print(
            f"{kind}: {ours:.3f} s, goal {FACTOR} x {theirs:.3f} + {EXTRA} = {goal:.3f}: {verdict}"
        )


if __name__ == "__main__":
    main()
