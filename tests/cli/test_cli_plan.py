"""``pytest-calibration plan``."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from known_calibration import calibrated, exact

from pytest_calibration.gate.planning import HIGH_OVER_FLOOR, plan, smallest_visible_unpaired
from pytest_calibration.gate.verdict import judge
from pytest_calibration.measurement import measure
from pytest_calibration.predictions import Predictions
from pytest_calibration.uncertainty.standard_errors import cluster_codes, standard_error

Z95, Z80 = 1.6448536, 0.8416212


def rows_of(lines: list[str]) -> list[list[str]]:
    """Return the cells of the table."""
    start = next(i for i, line in enumerate(lines) if line.split()[:1] == ["n"])
    return [re.split(r" {2,}", line.strip()) for line in lines[start:]]


def test_a_plan_says_what_its_numbers_are(command) -> None:
    """2000 items: standard error sqrt(0.15 / 2000), and all that follows from it, in words."""
    error = math.sqrt(0.15 / 2000)
    visible = 0.02 + (Z95 + Z80) * error
    result = command("plan", "--n", 2000)
    assert (result.code, result.err) == (0, "")
    text = result.out
    assert "a comparison on 2,000 items, tolerance 0.02, alpha 0.05\n" in text
    assert "15.0 % of the answers right in one of the two runs only" in text
    assert f"smallest shift or scaling seen with 80 % power: {visible:.3f}\n" in text
    assert "noise floor: a perfectly calibrated model shows an ECE of about 0.025\n" in text
    assert re.search(r"false alarms: at most \d\.\d % of unchanged models fail", text)
    (power,) = (line for line in result.lines if "a true shift or scaling is seen" in line)
    shares = dict(re.findall(r"of ([\d.]+) in ([\d.]+) %", power))
    for worsening in (0.04, 0.055, 0.08, 0.12):
        x = (worsening - 0.02) / error - Z95
        expected = 50 * math.erfc(-x / math.sqrt(2))
        assert float(shares[f"{worsening:g}"]) == pytest.approx(expected, abs=0.06)


def test_the_n_printed_is_where_it_decides(command) -> None:
    """From that number on it decides, whatever n was given."""
    needed = json.loads(command("plan", "--n", 200, "--json").out)["n_needed"]
    must = f"a worsening of 0.07 must be seen with 80 % power; {needed} items do"
    for n, outcome in ((needed - 1, "INCONCLUSIVE unless it fails"), (needed, "it decides")):
        assert f"  {outcome}: {must}\n" in command("plan", "--n", n).out


def test_it_says_what_the_n_depends_on(command) -> None:
    """Other shares of changed answers stand beside it, unless one is given; and a measure."""
    free, given = command("plan", "--n", 500), command("plan", "--n", 500, "--changed", 0.3)
    tree = json.loads(command("plan", "--n", 500, "--changed", 0.3, "--json").out)
    needed = f"{tree['n_needed']:,}"
    assert f"{needed} where 30.0 % do\n" in free.out
    assert f"; {needed} items do\n" in given.out
    assert " where " not in given.out
    assert all("aa FILE measures it" in each.out for each in (free, given))


def test_too_few_units_have_no_power(command) -> None:
    """Below 50 items or groups nothing is decided, so there is neither power nor alarm."""
    for arguments, what in (
        (("--n", 49, "--tolerance", 0.3, "--max-undetected", 0.5), "49 items"),
        (("--n", 400, "--groups", 40), "40 groups"),
    ):
        result = command("plan", *arguments)
        above = result.out.partition("\n\n")[0]
        assert f"INCONCLUSIVE, whatever comes out: {what} are too few to compare; " in above
        assert "false alarms" not in above
        assert "fails:" not in above
    fifty = command("plan", "--n", 50, "--tolerance", 0.3, "--max-undetected", 0.5)
    assert "it decides" in fifty.out


def test_the_table_covers_usual_sizes_and_the_one_asked_for(command) -> None:
    """One row each for 200, 500, 1000, 2000, 5000 and n, in order, aligned to the right."""
    result = command("plan", "--n", 700)
    heads, *rows = rows_of(result.lines)
    assert heads == ["n", "smallest", "decides", "0.04", "0.055", "0.08", "0.12", "alarms", "floor"]
    assert [row[0] for row in rows] == ["200", "500", "700", "1,000", "2,000", "5,000"]
    assert rows[0][2] == "no"
    assert [row[2] for row in rows][-3:] == ["yes", "yes", "yes"]
    table = result.lines[-7:]
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
    """Tolerance, alpha, changed and max_undetected are those of ``planning.plan``."""
    out = command(
        "plan", "--n", 800, "--tolerance", 0.03, "--alpha", 0.01, "--changed", 0.3,
        "--max-undetected", 0.04, "--json",
    ).out  # fmt: skip
    tree = json.loads(out)
    planned = plan(800, tolerance=0.03, alpha=0.01, changed=0.3, max_undetected=0.04)
    assert (tree["tolerance"], tree["alpha"], tree["max_undetected"]) == (0.03, 0.01, 0.04)
    for key in ("changed", "units", "n", "n_needed", "smallest_visible", "false_alarm_rate",
                "noise_floor"):  # fmt: skip
        assert tree[key] == pytest.approx(getattr(planned, key)), key
    assert tree["decides"] == int(planned.decides)
    free = json.loads(command("plan", "--n", 800, "--accuracy-tolerance", "none", "--json").out)
    assert free["false_alarm_rate"] == plan(800, accuracy_tolerance=None).false_alarm_rate
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
    floors = [measure(calibrated(n, seed)) for seed in range(5)]
    ratio = np.mean([m.noise_floor_high / m.noise_floor for m in floors])
    assert ratio == pytest.approx(HIGH_OVER_FLOOR, abs=0.015)


def test_a_limit_can_be_tested_from_the_n_printed_on(command) -> None:
    """The n printed is where the answer turns from no to yes, about as ``items_to_test`` says."""
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
    """At the n printed, about 95 % of calibrated models stay below the limit (normal formula)."""
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
    """Items, groups and noise floor are the record's; so is the error, of two independent runs."""
    record = stored(grouped_model())
    result = command("plan", "--baseline", record.path)
    assert "a comparison on 900 items in 300 groups" in result.out
    assert f"from {record.path} (probe quiz, name default)\n" in result.out
    assert (
        "worst case: a candidate's errors have nothing to do with the recorded ones" in result.out
    )
    tree = json.loads(command("plan", "--baseline", record.path, "--json").out)
    assert (tree["n"], tree["units"]) == (900, 300)
    # What is stored is float32.
    predictions = record.predictions
    assert tree["noise_floor"] == pytest.approx(measure(predictions).noise_floor, rel=1e-6)
    error = math.sqrt(2) * standard_error(predictions.gap, cluster_codes(predictions))
    assert tree["changed"] == pytest.approx(300 * error**2, rel=1e-5)
    planned = plan(900, groups=300, changed=tree["changed"])
    assert tree["smallest_visible"] == pytest.approx(planned.smallest_visible)
    assert tree["smallest_visible"] >= smallest_visible_unpaired(predictions)


def test_a_share_of_changed_answers_replaces_the_worst_case(command, stored) -> None:
    """As a plan without a record says, for items of one group each: 5, 15 and 30 % by default."""
    path = stored(calibrated(900, 7)).path
    free = command("plan", "--baseline", path).out
    needed = [plan(900, changed=share).n_needed for share in (0.05, 0.15, 0.3)]
    pairs = re.findall(r"([\d,]+) where ([\d.]+) % do", free)
    assert [share for _, share in pairs] == ["5.0", "15.0", "30.0"]
    assert [int(n) for n, _ in pairs] == pytest.approx(needed, rel=0.02)
    given = command("plan", "--baseline", path, "--changed", 0.15)
    assert "15.0 % of the answers right in one of the two runs only" in given.out
    assert f"; {pairs[1][0]} items do\n" in given.out


def test_on_many_items_a_record_detects_what_it_states(command, stored) -> None:
    """Where bounds are not widened for few items, it is the number that the record states."""
    record = stored(calibrated(8000, 7))
    tree = json.loads(command("plan", "--baseline", record.path, "--json").out)
    stated = smallest_visible_unpaired(record.predictions)
    assert tree["smallest_visible"] == pytest.approx(stated, rel=1e-5)


def test_a_record_scales_to_another_n(command, stored) -> None:
    """With --n the same items are imagined more numerous: groups grow, the floor shrinks."""
    path = stored(grouped_model()).path
    here = json.loads(command("plan", "--baseline", path, "--json").out)
    four = json.loads(command("plan", "--baseline", path, "--n", 3600, "--json").out)
    assert (four["n"], four["units"]) == (3600, 1200)
    assert four["noise_floor"] == pytest.approx(here["noise_floor"] / 2)
    assert four["changed"] == here["changed"]
    assert four["n_needed"] == here["n_needed"]
    row = here["table"]["2000"]
    assert row["units"] == round(300 * 2000 / 900)


def test_a_limit_against_a_record_is_judged_as_by_the_gate(command, stored) -> None:
    """The n that makes a limit testable is the one that ``judge`` states on the same items."""
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
    """One group with most of the items: they count as n² / Σ n_g² groups of equal size."""
    rng = np.random.default_rng(1)
    groups = [0] * 600 + list(range(1, 201))
    correct = np.concatenate([np.full(600, True), rng.random(200) < 0.7])
    record = stored(Predictions.from_confidence(rng.random(800), correct, groups=groups))
    tree = json.loads(command("plan", "--baseline", record.path, "--json").out)
    assert tree["units"] == 201
    # 800² / (600² + 200) = 1.8: nothing is seen, and no number of such items is enough.
    assert tree["smallest_visible"] == 1.0


def test_a_record_of_a_certain_model_has_no_floor(command, stored) -> None:
    """All confidences 1: the noise floor is 0 and any limit can be tested."""
    path = stored(exact({1.0: 0.1}, each=400)).path
    result = command("plan", "--baseline", path, "--limit", 0.01)
    assert result.code == 0
    assert "an ECE of about 0.000" in result.out
    assert "limit 0.01 can be tested: from 0 items on" in result.out


def test_a_record_without_any_error_is_no_error(command, stored) -> None:
    """Certain and always right: nothing varies; three answers in 10,000 may change all the same."""
    result = command("plan", "--baseline", stored(exact({1.0: 0.0}, each=10_000)).path)
    assert result.code == 0, result.err
    visible = 0.02 + (Z95 + Z80) * math.sqrt(3) / 10_000
    assert f"smallest shift or scaling seen with 80 % power: {visible:.3f}" in result.out


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
        (["--n", "500", "--tolerance", "5"], "argument --tolerance: must be a number of at least"),
        (["--n", "500", "--alpha", "0.5"], "argument --alpha: must be a number above 0 and bel"),
        (["--n", "500", "--alpha", "five"], "argument --alpha: must be a number, got 'five'"),
        (["--n", "500", "--accuracy-tolerance", "2"], "argument --accuracy-tolerance: must be a n"),
        (["--n", "500", "--changed", "0"], "argument --changed: must lie between 1e-06 and 1, got"),
        (["--n", "500", "--limit", "5"], "argument --limit: must lie between 1e-06 and 1, got 5"),
        (["--n", "500", "--max-undetected", "0"], "max_undetected must be above 0; at 0 nothing i"),
        (["--baseline", "gone.yaml"], "gone.yaml: there is no such file"),
        (["--baseline", "gone.yaml", "--groups", "5"], "plan: --groups together with --baseline"),
    ],
)
def test_wrong_values_are_one_sentence(
    command, monkeypatch, tmp_path, arguments: list[str], message: str
) -> None:
    """A wrong value exits 2 with one line that names it; nothing is printed."""
    monkeypatch.chdir(tmp_path)
    result = command("plan", *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"pytest-calibration: error: {message}")
    assert result.err.count("\n") == 1


def test_a_file_that_is_no_record_is_refused(command, tmp_path, stored) -> None:
    """A YAML file of another kind, one without a probe, and one edited by hand are refused."""
    other = tmp_path / "other.yaml"
    other.write_text("colour: red\n", "utf-8")
    assert "unknown field colour" in command("plan", "--baseline", other).err
    other.write_text("", "utf-8")
    assert "the field format is missing" in command("plan", "--baseline", other).err
    path = stored(grouped_model()).path
    path.write_text(path.read_text("utf-8").replace("\nn: 900\n", "\nn: 901\n"), "utf-8")
    result = command("plan", "--baseline", path)
    assert result.code == 2
    assert "the checksum does not fit the values" in result.err


def test_a_record_of_one_unit_is_refused(command, stored) -> None:
    """One group of items leaves no error to plan with."""
    predictions = Predictions.from_confidence([0.5, 0.6], [True, False], groups=["a", "a"])
    result = command("plan", "--baseline", stored(predictions).path)
    assert result.code == 2
    assert "holds one independent unit; a plan needs 2." in result.err
