"""``--calibration-tolerance``: how much worse calibration may get."""

from __future__ import annotations

import pytest

GATE = """
from pytest_calibration import assert_no_regression

def test_gate(calibration, calibration_baseline):
    facts = calibration.run("facts")
    print("TOLERANCE", assert_no_regression(facts, calibration_baseline, {call}).tolerance)
"""
# From the strongest to the weakest: what names a tolerance, and which.
PLACES = {"call": 0.91, "record": 0.92, "flag": 0.93, "probe": 0.94, "ini": 0.95, "yaml": 0.96}


def test_the_nearest_place_counts(recorded) -> None:
    """Call, record, flag, the probe in calibration.yaml, ini key, calibration.yaml; else 0.02."""
    record = recorded.baselines / "facts.yaml"
    text = record.read_text("utf-8")
    places = dict(PLACES)
    while True:
        call = f"tolerance={places['call']}" if "call" in places else ""
        recorded.write("tests/test_project.py", GATE.format(call=call))
        own = str(places.get("record", "null"))
        record.write_text(text.replace("tolerance: null", f"tolerance: {own}"), "utf-8")
        flags = [f"--calibration-tolerance={places['flag']}"] if "flag" in places else []
        probe = f"facts: {{tolerance: {places['probe']}}}" if "probe" in places else ""
        project = f"tolerance: {places['yaml']}" if "yaml" in places else ""
        recorded.write("calibration.yaml", f"probes: {{{probe}}}\n{project}\n")
        ini = f"calibration_tolerance = {places['ini']}" if "ini" in places else ""
        recorded.pytester.makeini(f"[pytest]\n{ini}\n")
        result = recorded.facts("base", "-rP", *flags)
        expected = next(iter(places.values()), 0.02)
        result.stdout.fnmatch_lines([f"TOLERANCE {expected}"])
        if not places:
            return
        del places[next(iter(places))]


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["one-process", "two-workers"])
def test_a_worsening_within_it_passes(recorded, workers: list[str]) -> None:
    """What fails by default passes under a tolerance that is large enough."""
    assert recorded.facts("hot").ret == 1
    assert recorded.facts("hot", "--calibration-tolerance=0.5", *workers).ret == 0


def test_the_printed_command_repeats_it(recorded) -> None:
    """The command that accepts judges as the run did that printed it."""
    result = recorded.facts("hot", "--calibration-tolerance=0.01")
    result.stdout.fnmatch_lines(["*--calibration-tolerance=0.01 --calibration-accept=REASON"])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("--calibration-tolerance", "-1", "must be a number of at least 0 and below 1, got -1.0."),
        ("--calibration-tolerance", "much", "*invalid float value: 'much'"),
        ("calibration_tolerance", "1", "must be a number of at least 0 and below 1, got 1.0."),
        ("calibration_tolerance", "much", "*'much'*"),
    ],
)
def test_a_wrong_value_is_a_usage_error(project, name: str, value: str, message: str) -> None:
    """It is a number in [0, 1), checked at the start."""
    flags = [f"{name}={value}"] if name.startswith("-") else ["-o", f"{name}={value}"]
    result = project.run(*flags)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{name}*{message}*"])
