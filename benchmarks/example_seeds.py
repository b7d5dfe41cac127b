"""Does the example's verdict hold on other seeds? Fine-tune both ways on each, gate, print bounds.

::

    python benchmarks/example_seeds.py --seeds 10

A row is one checkpoint on one probe: the bound of each component, which must stay below the
tolerance of 0.02 for LoRA and exceed it for the full fine-tune, and the distance from that line.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pytest_calibration import Predictions, State, compare, load_model
from pytest_calibration.config import Config, read_config
from pytest_calibration.probes.probe_set import probe_set

EXAMPLE = Path(__file__).resolve().parent.parent / "example_project"


def predictions(checkpoint: Path, config: Config) -> dict[str, Predictions]:
    """Run the example's probes on a checkpoint."""
    probes = probe_set(config.probes, config.folder)
    model = load_model(str(checkpoint), config.load_settings(device="cpu"))
    out = {name: probes.get(name).run(model) for name in config.probes}
    model.release()
    return out


def main() -> int:
    """Print the table; exit 1 if any verdict is not the expected one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    config = read_config(EXAMPLE / "calibration.yaml")
    base = predictions(EXAMPLE / "checkpoints" / "base", config)
    wrong = 0
    margins: dict[str, list[float]] = {"lora": [], "full": []}
    heads = ("signed gap", "slope", "cross-fitted ECE", "accuracy")
    print(f"{'method':<7}{'seed':>4}  {'probe':<18}", *(f"{h:>17}" for h in heads), "  state")
    for seed in range(options.seeds):
        for method in ("lora", "full"):
            with TemporaryDirectory() as folder:
                target = Path(folder) / method
                script = [sys.executable, str(EXAMPLE / "finetune.py"), "--method", method]
                subprocess.run(
                    [*script, "--output", str(target), "--seed", str(seed)],
                    check=True,
                    capture_output=True,
                )
                tuned = predictions(target, config)
            for name, candidate in tuned.items():
                verdict = compare(candidate, base[name])
                expected = State.PASSED if method == "lora" else State.REGRESSED
                wrong += verdict.state is not expected
                bounds = [c.bound for c in verdict.components]
                excess = max(bounds) - verdict.tolerance
                margins[method].append(-excess if method == "lora" else excess)
                cells = " ".join(f"{b:>17.4f}" for b in bounds)
                print(f"{method:<7}{seed:>4}  {name:<18} {cells}   {verdict.state}", flush=True)
    for method, found in margins.items():
        print(f"{method}: smallest distance from the tolerance {min(found):.4f}")
    print(f"{wrong} verdicts were not the expected ones")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
