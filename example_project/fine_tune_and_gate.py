"""Fine-tune the base two ways, gate all three checkpoints, and check that the gate was right.

The base and the LoRA adapter keep their calibration and must pass; the full fine-tune loses it and
must be caught. This script exits 0 when exactly that happened, and 1 when the gate let the damaged
checkpoint through or stopped a sound one::

    python example_project/fine_tune_and_gate.py
    python example_project/fine_tune_and_gate.py --lora runs/full --full runs/lora   # exits 1
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BASE = HERE / "checkpoints" / "base"

EXPECTED = {"base": "passed", "lora": "passed", "full": "regressed"}
"""Verdict of every ``assert_no_regression`` on each checkpoint."""


def fine_tune(method: str, folder: Path) -> Path:
    """Train a checkpoint with ``finetune.py`` and return its folder."""
    target = folder / method
    print(f"--- fine-tuning: {method}", flush=True)
    script = str(HERE / "finetune.py")
    subprocess.run(
        [sys.executable, script, "--method", method, "--output", str(target)], check=True
    )
    return target


def gate(checkpoints: dict[str, Path], runs: Path) -> tuple[int, dict[str, list[str]]]:
    """Run the test suite on all checkpoints at once.

    Returns:
        pytest's exit code, and the verdicts of the baseline comparisons by checkpoint.
    """
    print("--- the gate: pytest example_project", flush=True)
    models = [f"--calibration-model={path}" for path in checkpoints.values()]
    reports = [f"--calibration-report={runs / name}" for name in ("report.html", "report.json")]
    command = [sys.executable, "-m", "pytest", str(HERE), *models, *reports]
    # A failure is long on purpose; here the summary tells enough.
    code = subprocess.run([*command, "--tb=no", "--no-header"], check=False).returncode
    found: dict[str, list[str]] = {name: [] for name in checkpoints}
    for verdict in json.loads((runs / "report.json").read_text(encoding="utf-8"))["results"]:
        for name, path in checkpoints.items():
            # Only a comparison with a stored baseline has one to name.
            if verdict["model"] == path.name and verdict["reference"] == "baseline":
                found[name].append(verdict["state"])
    return code, found


def main() -> int:
    """Train, gate, judge the gate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=HERE / "runs", help="where checkpoints go")
    parser.add_argument("--lora", type=Path, help="use this checkpoint instead of training one")
    parser.add_argument("--full", type=Path, help="use this checkpoint instead of training one")
    options = parser.parse_args()
    checkpoints = {
        "base": BASE,
        "lora": options.lora or fine_tune("lora", options.runs),
        "full": options.full or fine_tune("full", options.runs),
    }
    # What an earlier run reported says nothing of this one.
    (options.runs / "report.json").unlink(missing_ok=True)
    code, found = gate(checkpoints, options.runs)
    print("--- summary")
    right = code == 1
    for name, expected in EXPECTED.items():
        states = found[name]
        good = bool(states) and all(state == expected for state in states)
        right &= good
        verdicts = ", ".join(states) or "nothing compared"
        print(f"{name:<5} {checkpoints[name].name:<5} {verdicts:<24} "
              f"{'as expected' if good else f'EXPECTED {expected}'}")  # fmt: skip
    print(
        "the gate passed the sound checkpoints and caught the damaged one"
        if right
        else f"the gate was WRONG (pytest exited {code})"
    )
    print(f"the whole story: {options.runs / 'report.html'}")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
