"""The page of the study, made from what was measured: ``docs/explanation/study*``.

    python example_project/study/report.py            # from example_project/runs/study

Every number on it is one of the run, with its seed and date; nothing is typed by hand. With one
version of matplotlib, an equal run gives an equal page.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
from pathlib import Path
from typing import Any, Final

from findings import judge_all
from measured import RUNS, Study
from study_page import METRICS, page
from study_pictures import drift_chart, reliability_picture

from pytest_calibration.errors import CalibrationError
from pytest_calibration.files import write_atomically
from pytest_calibration.history.lines import Number
from pytest_calibration.reports.drift_plot import drift_picture

DOCS: Final = Path(__file__).resolve().parents[2] / "docs" / "explanation"


def write_all(study: Study, docs: Path) -> list[Path]:
    """Write the page and what it shows; return the files.

    Raises:
        MissingExtra: matplotlib is not installed.
        HistoryError: items are damaged.
    """
    seed = study.shown_seed
    outcomes = list(judge_all(study))
    files: dict[str, bytes | None] = {
        "study/drift.png": drift_picture(drift_chart(study, seed), ".png"),
        "study/checkpoints.csv": checkpoints_csv(study).encode(),
    }
    for probe in study.probes:
        files[f"study/reliability-{probe}.png"] = reliability_picture(study, seed, probe)
    files["study.md"] = page(study, outcomes).encode()
    written = []
    (docs / "study").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if content is not None:
            write_atomically(docs / name, content)
            written.append(docs / name)
    return written


def checkpoints_csv(study: Study) -> str:
    """Return every number of every checkpoint on every probe, a row each."""
    buffer = io.StringIO()
    ends = ("", "_low", "_high")
    names = [f"{metric}{end}" for metric in METRICS for end in ends]
    writer = csv.writer(buffer, lineterminator="\n")
    told = ("stage", "kind", "parent", "seed", "date", "probe", "n", "verdict", "train_accuracy")
    writer.writerow([*told, *names, "ece_noise_floor"])
    nothing = Number(math.nan)
    for (name, probe), line in study.lines.items():
        stage = study.stages[name]
        numbers: list[Any] = []
        for metric in METRICS:
            found = line.metrics.get(metric)
            numbers += ["", "", ""] if found is None else [found.value, found.low, found.high]
        floor = line.metrics.get("ece", nothing).noise_floor
        verdict = study.verdict(stage, probe)
        row = (name, stage.kind, stage.parent, stage.seed, line.time[:10], probe, line.n, verdict)
        writer.writerow([*row, stage.train_accuracy, *numbers, floor])
    return buffer.getvalue()


def main() -> int:
    """Read a run, write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the run")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder that gets the page")
    given = parser.parse_args()
    try:
        for path in write_all(Study.read(given.runs), given.docs):
            print(path)
    except CalibrationError as problem:
        print(problem, file=sys.stderr)
        return 2
    except OSError as problem:
        print(f"{given.docs} cannot be written: {problem}.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
