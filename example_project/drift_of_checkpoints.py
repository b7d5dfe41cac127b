"""Fine-tune the base two ways, and see how calibration drifts along 13 checkpoints of each.

The full fine-tune is worse than its base from the first checkpoint on, and drifts further; along
the LoRA adapter nothing drifts. What was trained, or asked, before is not done again::

    python example_project/drift_of_checkpoints.py        # a few minutes

It exits 0 when exactly that happened. The history is ``runs/drift/history.jsonl``, the chart
``drift.svg``; ``pytest-calibration drift`` shows both again from the history, without any model.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CODE = "import sys; from pytest_calibration.cli import main; sys.exit(main())"
DRIFT = [sys.executable, "-c", CODE, "drift"]
EXPECTED = {"full": "regressed", "lora": "passed"}
"""What every probe comes to along each run."""


def main() -> int:
    """Train, measure, draw, judge the judgement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=HERE / "runs" / "drift")
    parser.add_argument("--chart", type=Path, default=HERE / "drift.svg")
    given = parser.parse_args()
    runs, chart = given.runs.resolve(), given.chart.resolve()
    for method in EXPECTED:
        if not any((runs / method).glob("checkpoint-*")):
            script = [sys.executable, str(HERE / "finetune.py"), "--method", method]
            flags = ["--output", str(runs / method), "--save-every", "8"]
            subprocess.run([*script, *flags], check=True)
    history = runs / "history.jsonl"
    # As seen from the project, so that the history says the same on every machine.
    where = runs.relative_to(HERE) if runs.is_relative_to(HERE) else runs
    folders = [str(where / method) for method in EXPECTED]
    kept = ["--history", str(history), "--cache-dir", str(runs / "answers")]
    measure = [*DRIFT, *folders, "--parent", "checkpoints/base", *kept]
    subprocess.run([*measure, "--svg", str(chart)], check=True, cwd=HERE)
    judge = [*DRIFT, str(history), "--json"]
    done = subprocess.run(judge, check=True, cwd=HERE, capture_output=True, text=True)
    found = [(Path(one["run"]).name, one["state"]) for one in json.loads(done.stdout)["series"]]
    right = sorted(found) == sorted([*EXPECTED.items()] * 2)
    print(f"\nas expected: {right}; the chart: {chart}")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
