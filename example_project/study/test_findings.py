"""Each finding of the papers as a test of the last run of the study.

    pytest example_project/study/test_findings.py -ra                          # of runs/study
    CALIBRATION_STUDY=runs/study-quick pytest example_project/study/test_findings.py -ra

What is supported passes. What is contradicted or not seen is an expected failure, with the number
in its reason; what was not measured is skipped, with what is missing. So the run is red only where
the study cannot be read: a finding that does not appear at this scale is a result.
"""

import os
import sys
from functools import cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from findings import FINDINGS, judge, told
from measured import RUNS, Study

from pytest_calibration.errors import CalibrationError


@cache
def study() -> Study:
    """The run, read once; where it cannot be, that is said once."""
    try:
        return Study.read(Path(os.environ.get("CALIBRATION_STUDY", RUNS)))
    except CalibrationError as problem:
        pytest.exit(str(problem), returncode=2)


@pytest.mark.parametrize(
    ("finding", "probe"),
    [pytest.param(one, probe, id=f"{one.key}-{probe}") for one in FINDINGS for probe in one.probes],
)
def test_finding(finding, probe):
    """The claim of a paper, on one probe."""
    outcome = judge(study(), finding, probe)
    if outcome.result == "not measured":
        pytest.skip(f"not measured: {outcome.missing}")
    if outcome.result != "supported":
        pytest.xfail(f"{outcome.result}: {told(outcome)}")
