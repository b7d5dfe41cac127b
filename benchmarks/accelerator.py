"""Does a GPU answer as the CPU does, how fast is it, and does the example's gate hold on it?

::

    python benchmarks/accelerator.py                              # on CUDA, at most ten minutes
    python benchmarks/accelerator.py --write docs/explanation/performance.md
    python benchmarks/accelerator.py --device cpu --parts scores example   # a trial without one

Three parts, each printed with the device and the date:

``scores``
    small random checkpoints of real families in float32, asked the same questions and texts on
    the CPU and on the device: the largest difference of a log-probability, and whether all
    answers are the same.
``speed``
    ``benchmarks/scorer.py`` on a checkpoint of the 1 B class in bfloat16.
``example``
    ``example_project/fine_tune_and_gate.py``, every checkpoint asked on the device.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from pages import publish

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))

from checkpoints import FAMILIES, MORE_FAMILIES, bpe, new_model, save  # noqa: E402

from pytest_calibration import load_model  # noqa: E402

PARTS: Final = ("scores", "speed", "example")
PROMPTS: Final = [f"The capital of {name} is" for name in ("France", "Italy", "Norway", "Bern")]
OPTIONS: Final = [[" Paris", " Rome", " Oslo", " a city"]] * len(PROMPTS)
TEXTS: Final = [
    "Water boils at 100 degrees, and the ice melts at zero degrees.",
    "In the year 1969 the first people walked on the moon.",
]


def scores(device: str, folder: Path) -> Iterator[str]:
    """Yield a table: for each family, how far the device's scores lie from the CPU's."""
    yield "| family | log P of options, nats apart | of tokens, nats apart | same answers |"
    yield "|---|--:|--:|---|"
    for family in (*FAMILIES, *MORE_FAMILIES):
        path = save(folder / family, new_model(family), bpe(family))
        found = []
        for place in ("cpu", device):
            model = load_model(str(path), device=place, dtype="float32")
            options = np.array(model.option_logprobs(PROMPTS, OPTIONS))
            tokens = model.next_token(TEXTS)
            found.append(
                (
                    options,
                    np.concatenate([one.target_logprob for one in tokens]),
                    np.concatenate([one.hit for one in tokens]),
                )
            )
            model.release()
        ours, theirs = found
        apart = [float(np.abs(a - b).max()) for a, b in zip(ours[:2], theirs[:2], strict=True)]
        same = np.array_equal(ours[0].argmax(1), theirs[0].argmax(1))
        same = same and np.array_equal(ours[2], theirs[2])
        yield f"| {family} | {apart[0]:.1e} | {apart[1]:.1e} | {'yes' if same else 'NO'} |"


def run(*command: str, **environment: str) -> tuple[int, str]:
    """Run a script of this repository; return its exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout if done.returncode < 2 else done.stdout + done.stderr


def speed(device: str) -> Iterator[str]:
    """Yield what the benchmark of the scorer prints for a checkpoint of the 1 B class."""
    flags = ("--only", "ours", "--models", "1b", "--dtype", "bfloat16", "--no-process", "--quick")
    code, told = run("benchmarks/scorer.py", *flags, "--device", device)
    yield told.strip() if code == 0 else f"It ended with exit code {code}:\n\n```\n{told}\n```"


def example(device: str, folder: Path) -> Iterator[str]:
    """Yield the summary of the example: which checkpoints passed, and whether they should."""
    code, told = run(
        "example_project/fine_tune_and_gate.py",
        f"--runs={folder}",
        PYTEST_ADDOPTS=f"--calibration-device={device}",
    )
    _, _, summary = told.partition("--- summary\n")
    yield f"Exit code {code}:"
    yield ""
    yield "```"
    # Not where it was run.
    yield summary.partition("the whole story")[0].strip() or told
    yield "```"


def machine(device: str) -> str:
    """Name the device, the versions and the date."""
    import torch

    name = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor()
    today = datetime.datetime.now(datetime.UTC)
    return f"{name or device}, torch {torch.__version__}, {today:%Y-%m-%d}."


def report(device: str, parts: list[str]) -> Iterator[str]:
    """Yield the parts as Markdown."""
    yield machine(device)
    with TemporaryDirectory() as folder:
        for part in parts:
            yield ""
            yield f"### {part.capitalize()}"
            yield ""
            if part == "speed":
                yield from speed(device)
            else:
                within = Path(folder, part)
                within.mkdir()
                yield from (scores if part == "scores" else example)(device, within)


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--write", type=Path, help="page to write the tables into")
    options = parser.parse_args()
    if options.device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            parser.error("torch finds no CUDA here; run it on a machine with a GPU.")
    text = "\n".join(report(options.device, options.parts))
    publish(text, options.write, "benchmarks/accelerator.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
