"""``pytest-calibration plan``."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from datasets import calibrated, exact

from pytest_calibration.cli.plan import HIGH_OVER_FLOOR
from pytest_calibration.measurement import measure
from pytest_calibration.power import plan, unpaired_visible
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.noise_floor import noise_floor
from pytest_calibration.verdict import judge

Z95, Z80 = 1.6448536, 0.8416212


def rows_of(lines: list[str]) -> list[list[str]]:
    """Return the cells of the table."""
    start = next(i for i, line in enumerate(lines) if line.split()[:1] == ["n"])
    return [re.split(r" {2,}", line.strip()) for line in lines[start:]]


def test_a_plan_says_what_its_numbers_are(command) -> None:
    """500 items: standard error sqrt(0.15 / 500), and all that follows from it, in words."""
    error = math.sqrt(0.15 / 500)
    visible = 0.02 + (Z95 + Z80) * error
    needed = math.ceil(((Z95 + Z80) / 0.05) ** 2 * 0.15)
    found = command("plan", "--n", 500)
    assert (found.code, found.err) == (0, "")
    text = found.out
    assert "a comparison on 500 items, tolerance 0.02, alpha 0.05\n" in text
    assert "15.0 % of the answers right in one of the two runs only" in text
    assert f"smallest worsening seen with 80 % power: {visible:.3f}\n" in text
    assert (
        f"it decides: a worsening of 0.07 must be seen with 80 % power; {needed} items do" in text
    )
    assert "noise floor: a perfectly calibrated model shows an ECE of about 0.050\n" in text
    assert re.search(r"false alarms: at most \d\.\d % of unchanged models fail", text)
    (power,) = (line for line in found.lines if "a true worsening fails" in line)
    told = dict(re.findall(r"of ([\d.]+) in ([\d.]+) %", power))
    for worsening in (0.04, 0.055, 0.08, 0.12):
        x = (worsening - 0.02) / error - Z95
        expected = 50 * math.erfc(-x / math.sqrt(2))
        assert float(told[f"{worsening:g}"]) == pytest.approx(expected, abs=0.06)


def test_too_few_items_are_told(command) -> None:
    """Where 80 % power is not reached the plan says inconclusive, and how many would do."""
    found = command("plan", "--n", 200)
    assert "INCONCLUSIVE unless it fails: a worsening of 0.07 must be seen" in found.out
    assert "; 371 items do" in found.out
    fewest = command("plan", "--n", 49, "--tolerance", 0.3, "--max-undetected", 0.5)
    assert "INCONCLUSIVE, whatever comes out: 49 items are too few to compare; 50 items" in (
        fewest.out
    )
    assert "false alarms" not in fewest.out.partition("\n\n")[0]
    grouped = command("plan", "--n", 400, "--groups", 40)
    assert "whatever comes out: 40 groups are too few to compare; 3,710 items" in grouped.out


def test_the_table_covers_usual_sizes_and_the_one_asked_for(command) -> None:
    """One row each for 200, 500, 1000, 2000, 5000 and n, in order, aligned to the right."""
    found = command("plan", "--n", 700)
    heads, *rows = rows_of(found.lines)
    assert heads == ["n", "smallest", "decides", "0.04", "0.055", "0.08", "0.12", "alarms", "floor"]
    assert [row[0] for row in rows] == ["200", "500", "700", "1,000", "2,000", "5,000"]
    assert [row[2] for row in rows] == ["no", "yes", "yes", "yes", "yes", "yes"]
    table = found.lines[-7:]
    assert len({len(line) for line in table}) == 1
    for column in (1, -1):
        values = [float(row[column]) for row in rows]
        assert values == sorted(values, reverse=True)
    assert command("plan", "--n", 500).lines[-6:][0].split()[0] == "n"


def test_groups_are_the_units(command) -> None:
    """Items of a group count as one: 1000 items in 200 groups are like 200 items."""
    grouped = json.loads(command("plan", "--n", 1000, "--groups", 200, "--json").out)
    plain = json.loads(command("plan", "--n", 200, "--json").out)
    for key in ("smallest_visible", "false_alarm_rate", "noise_floor", "power", "units"):
        assert grouped[key] == plain[key]
    assert grouped["n_needed"] == 5 * plain["n_needed"]
    heads, *rows = rows_of(command("plan", "--n", 1000, "--groups", 200).lines)
    assert heads[1] == "groups"
    assert {row[0]: row[1] for row in rows} == {
        "200": "40", "500": "100", "1,000": "200", "2,000": "400", "5,000": "1,000",
    }  # fmt: skip
    assert rows[0][-6:-1] == ["-"] * 5


def test_settings_reach_the_plan(command) -> None:
    """Tolerance, alpha, changed and max_undetected are those of ``power.plan``."""
    out = command(
        "plan", "--n", 800, "--tolerance", 0.03, "--alpha", 0.01, "--changed", 0.3,
        "--max-undetected", 0.04, "--json",
    ).out  # fmt: skip
    tree = json.loads(out)
    known = plan(800, tolerance=0.03, alpha=0.01, changed=0.3, max_undetected=0.04)
    for key in ("tolerance", "alpha", "changed", "max_undetected", "units", "n", "n_needed",
                "smallest_visible", "false_alarm_rate", "noise_floor"):  # fmt: skip
        assert tree[key] == pytest.approx(getattr(known, key)), key
    assert tree["decides"] == int(known.decides)
    assert list(tree["power"]) == ["0.05", "0.065", "0.09", "0.13"]
    assert list(tree["table"]) == ["200", "500", "800", "1000", "2000", "5000"]
    assert tree["table"]["800"] == {key: tree[key] for key in tree["table"]["800"]}


def leaves(tree: object) -> list[object]:
    """Return what is at the ends of a tree."""
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in leaves(value)]
    return [tree]


@pytest.mark.parametrize("more", [[], ["--limit", "0.05"], ["--groups", "20"]])
def test_json_holds_numbers_only(command, more: list[str]) -> None:
    """Every leaf is a number, yes and no among them; what does not apply is left out."""
    tree = json.loads(command("plan", "--n", 300, "--json", *more).out)
    assert all(type(leaf) in (int, float) for leaf in leaves(tree))
    assert ("limit" in tree) == ("--limit" in more)
    assert ("power" in tree) == ("--groups" not in more)
    assert ("false_alarm_rate" in tree) == ("--groups" not in more)


# --- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [300, 1000, 3000])
def test_high_over_floor_is_that_of_four_way_questions(n: int) -> None:
    """The typical ratio is what the noise floor of a calibrated four-way model has."""
    floors = [noise_floor(calibrated(n, seed)) for seed in range(5)]
    ratio = np.mean([floor.high / floor.mean for floor in floors])
    assert ratio == pytest.approx(HIGH_OVER_FLOOR, abs=0.015)


def test_a_limit_can_be_tested_from_the_n_told_on(command) -> None:
    """The n told is where the answer turns from no to yes, and about what a judge asks for."""
    tree = json.loads(command("plan", "--n", 300, "--limit", 0.05, "--json").out)
    needed = tree["limit"]["n_needed"]
    assert tree["limit"] == {"value": 0.05, "testable": 0, "n_needed": needed}
    measured = measure(calibrated(300, 1))
    assert needed == pytest.approx(measured.items_to_test(0.05), rel=0.05)
    words = {n: command("plan", "--n", n, "--limit", 0.05).out for n in (needed - 1, needed)}
    assert f"limit 0.05 CANNOT be tested: from {needed} items on" in words[needed - 1]
    assert f"limit 0.05 can be tested: from {needed} items on" in words[needed]
    rows = tree["table"]
    assert [rows[n]["limit"]["testable"] for n in ("200", "500", "1000", "2000")] == [0, 0, 1, 1]


def test_a_calibrated_model_passes_a_testable_limit(command) -> None:
    """At the n told, about 95 % of calibrated models stay below the limit (normal formula)."""
    tree = json.loads(command("plan", "--n", 300, "--limit", 0.06, "--json").out)
    needed = tree["limit"]["n_needed"]
    passed = [measure(calibrated(needed, seed)).value < 0.06 for seed in range(200)]
    assert 0.88 < np.mean(passed) < 0.99


# --- with a record -------------------------------------------------------------------------------


def grouped_model(n: int = 900) -> Predictions:
    """Return a calibrated model whose items come in groups of three."""
    p = calibrated(n, 5)
    return Predictions.from_confidence(
        p.confidence, p.correct, groups=[i // 3 for i in range(n)], probe="quiz"
    )


def test_a_record_brings_its_own_numbers(command, stored) -> None:
    """Items, groups, noise floor and standard error are the record's, the last unpaired."""
    record = stored(grouped_model())
    found = command("plan", "--baseline", record.path)
    assert "a comparison on 900 items in 300 groups" in found.out
    assert f"from {record.path} (probe quiz, name default)\n" in found.out
    assert "worst case: a candidate's errors have nothing to do with the recorded ones" in found.out
    tree = json.loads(command("plan", "--baseline", record.path, "--json").out)
    assert (tree["n"], tree["units"]) == (900, 300)
    # What is stored is float32.
    predictions = record.predictions
    assert tree["smallest_visible"] == pytest.approx(unpaired_visible(predictions), rel=1e-6)
    assert tree["noise_floor"] == pytest.approx(measure(predictions).noise_floor, rel=1e-6)
    # Two independent runs differ in more answers than two runs of one model.
    assert tree["changed"] > 0.3


def test_a_record_scales_to_another_n(command, stored) -> None:
    """With --n the same items are imagined more numerous: errors and floor shrink by the root."""
    path = stored(grouped_model()).path
    here = json.loads(command("plan", "--baseline", path, "--json").out)
    four = json.loads(command("plan", "--baseline", path, "--n", 3600, "--json").out)
    assert four["units"] == 4 * here["units"]
    assert four["noise_floor"] == pytest.approx(here["noise_floor"] / 2)
    assert four["smallest_visible"] - 0.02 == pytest.approx((here["smallest_visible"] - 0.02) / 2)
    assert four["n_needed"] == here["n_needed"]


def test_a_limit_against_a_record_is_judged_as_by_the_gate(command, stored) -> None:
    """The n that makes a limit testable is the one that ``judge`` tells on the same items."""
    record = stored(calibrated(400, 6))
    tree = json.loads(command("plan", "--baseline", record.path, "--limit", 0.03, "--json").out)
    measured = measure(record.predictions)
    assert tree["limit"]["n_needed"] == pytest.approx(measured.items_to_test(0.03), abs=1)
    (note,) = judge(measured, 0.03).notes
    assert f"{measured.items_to_test(0.03):,} items would make it testable" in note


def test_the_tolerance_of_a_record_counts_unless_one_is_given(command, stored) -> None:
    """What was written into the record by hand is the tolerance; a flag wins over it."""
    path = stored(grouped_model(), tolerance=0.04).path
    assert json.loads(command("plan", "--baseline", path, "--json").out)["tolerance"] == 0.04
    given = command("plan", "--baseline", path, "--tolerance", 0.01, "--json").out
    assert json.loads(given)["tolerance"] == 0.01


def test_groups_of_very_unequal_size_count_for_fewer(command, stored) -> None:
    """One group with most of the items: the smallest worsening seen is still the record's."""
    rng = np.random.default_rng(1)
    groups = [0] * 600 + list(range(1, 201))
    correct = np.concatenate([np.full(600, True), rng.random(200) < 0.7])
    record = stored(Predictions.from_confidence(rng.random(800), correct, groups=groups))
    tree = json.loads(command("plan", "--baseline", record.path, "--json").out)
    visible = unpaired_visible(record.predictions)
    assert tree["changed"] > 1
    assert tree["units"] == 201
    assert tree["smallest_visible"] == pytest.approx(visible, rel=0.15)


def test_a_record_of_a_certain_model_has_no_floor(command, stored) -> None:
    """All confidences 1: the noise floor is 0 and any limit can be tested."""
    path = stored(exact({1.0: 0.1}, each=400)).path
    found = command("plan", "--baseline", path, "--limit", 0.01)
    assert found.code == 0
    assert "an ECE of about 0.000" in found.out
    assert "limit 0.01 can be tested: from 0 items on" in found.out


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "plan needs --n, the number of items, or --baseline, a stored record."),
        (["--n", "x"], "argument --n: must be a whole number, got 'x'"),
        (["--n", "1"], "argument --n: must lie between 2 and 1,000,000,000, got 1"),
        (["--n", "-5"], "argument --n: must lie between 2 and 1,000,000,000, got -5"),
        (["--n", "9" * 400], "argument --n: must lie between 2 and 1,000,000,000, got 9,999,99"),
        (["--n", "500", "--groups", "501"], "groups must be between 2 and n = 500, got 501."),
        (["--n", "500", "--tolerance", "5"], "argument --tolerance: must lie between 0 and 0.99,"),
        (["--n", "500", "--tolerance", "nan"], "argument --tolerance: must lie between 0 and 0.99"),
        (["--n", "500", "--alpha", "0.5"], "argument --alpha: must lie between 1e-09 and 0.49, go"),
        (["--n", "500", "--alpha", "five"], "argument --alpha: must be a number, got 'five'"),
        (["--n", "500", "--changed", "0"], "argument --changed: must lie between 1e-06 and 1, got"),
        (["--n", "500", "--limit", "5"], "argument --limit: must lie between 1e-06 and 1, got 5"),
        (["--n", "500", "--max-undetected", "0"], "argument --max-undetected: must lie between 0."),
        (["--baseline", "gone.yaml"], "gone.yaml: cannot be read"),
        (["--baseline", "gone.yaml", "--groups", "5"], "plan: --groups together with --baseline"),
        (["--baseline", "gone.yaml", "--changed", ".2"], "plan: --changed together with --baselin"),
    ],
)
def test_wrong_values_are_one_sentence(
    command, monkeypatch, tmp_path, arguments: list[str], message: str
) -> None:
    """A wrong value exits 2 with one line that names it; nothing is printed."""
    monkeypatch.chdir(tmp_path)
    found = command("plan", *arguments)
    assert (found.code, found.out) == (2, "")
    assert found.err.startswith(f"pytest-calibration: error: {message}")
    assert found.err.count("\n") == 1


def test_a_file_that_is_no_record_is_told(command, tmp_path, stored) -> None:
    """A YAML file of another kind, one without a probe, and one edited by hand are refused."""
    other = tmp_path / "other.yaml"
    other.write_text("colour: red\n", "utf-8")
    assert "unknown field colour" in command("plan", "--baseline", other).err
    other.write_text("", "utf-8")
    assert "the field format is missing" in command("plan", "--baseline", other).err
    path = stored(grouped_model()).path
    path.write_text(path.read_text("utf-8").replace("\nn: 900\n", "\nn: 901\n"), "utf-8")
    found = command("plan", "--baseline", path)
    assert found.code == 2
    assert "the checksum does not fit the values" in found.err


def test_a_record_of_one_unit_is_told(command, stored) -> None:
    """One group of items leaves no error to plan with."""
    predictions = Predictions.from_confidence([0.5, 0.6], [True, False], groups=["a", "a"])
    found = command("plan", "--baseline", stored(predictions).path)
    assert found.code == 2
    assert "holds one independent unit; a plan needs 2." in found.err
