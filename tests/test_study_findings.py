"""The study's findings: one rule decides, on intervals over seeds or items, and forces nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from histories import at_gap
from studies import STUDY, module, stage, write_study

from pytest_calibration.errors import UsageError

comparing = module("comparing_stages")
findings = module("findings")
measured = module("measured")
BY_KEY = {one.key: one for one in findings.FINDINGS}
QUESTIONS = "questions"
# 97.5 % quantiles of Student's t with 1, 2 and 4 degrees of freedom, from a printed table.
T_1, T_2, T_4 = 12.7062, 4.3027, 2.7764


def standard_error(values: Sequence[float]) -> float:
    """Return that of a mean."""
    return stdev(values) / math.sqrt(len(values))


def aligned(seeds: int, gaps: Mapping[int, float], folder: Path, **more: Any) -> Any:
    """Return a study whose DPO models have these gaps, by seed; what they are from has none."""
    stages = []
    for seed in range(seeds):
        stages += [
            stage(f"sft-s{seed}", "sft", seed=seed, dataset="diverse", method="full"),
            stage(f"dpo-s{seed}", "dpo", f"sft-s{seed}", seed),
        ]

    def gap(one: Mapping[str, Any], _: str) -> float:
        return gaps[one["seed"]] if one["kind"] == "dpo" else 0.0

    return measured.Study.read(write_study(folder, stages, gap, probes=[QUESTIONS], **more))


def outcome(study: Any, key: str, probe: str = QUESTIONS) -> Any:
    """Return what a finding comes to."""
    return findings.judge(study, BY_KEY[key], probe)


@pytest.mark.parametrize(
    ("gaps", "result"),
    [
        ((0.1, 0.12, 0.11, 0.09, 0.1), "supported"),
        ((0.1, -0.1, 0.1, -0.09, 0.02), "not seen"),
        ((-0.1, -0.08, -0.1, -0.09, -0.07), "contradicted"),
    ],
)
def test_a_direction_is_judged_by_the_interval_over_seeds(
    tmp_path: Path, gaps: tuple[float, ...], result: str
) -> None:
    """Mean ± Student's t times the standard error, from a table; nothing is forced."""
    study = aligned(5, dict(enumerate(gaps)), tmp_path)
    found = outcome(study, "dpo-over-confident")
    assert found.result == result
    assert found.seeds == "5 seeds"
    values = list(found.estimate.by_seed.values())
    assert values == pytest.approx(list(gaps), abs=1e-6)
    over_seeds = T_4 * standard_error(values)
    half = math.hypot(over_seeds, 1.96 * error_over_items(gaps))
    ends = fmean(values) - half, fmean(values) + half
    assert (found.estimate.low, found.estimate.high) == pytest.approx(ends, rel=1e-4)


def error_over_items(gaps: Sequence[float]) -> float:
    """Return the standard error over the items of the mean over the seeds."""
    before = at_gap(0.0).gap
    mean = np.mean([at_gap(gap).gap - before for gap in gaps], axis=0)
    return standard_error(mean)


def test_few_seeds_are_said_and_their_interval_is_wide(tmp_path: Path) -> None:
    """Two seeds have one degree of freedom: 12.7 standard errors either way."""
    found = outcome(aligned(2, {0: 0.05, 1: 0.1}, tmp_path), "dpo-over-confident")
    assert found.seeds == "2 seeds, few"
    assert found.result == "not seen"
    half = math.hypot(T_1 * standard_error([0.05, 0.1]), 1.96 * error_over_items([0.05, 0.1]))
    assert found.estimate.high - found.estimate.value == pytest.approx(half, rel=1e-4)


def test_seeds_that_agree_leave_the_items_uncertain(tmp_path: Path) -> None:
    """Five equal seeds do not make an interval without width: other items may answer otherwise."""
    found = outcome(aligned(5, dict.fromkeys(range(5), 0.05), tmp_path), "dpo-over-confident")
    half = 1.96 * error_over_items([0.05])
    assert found.estimate.high - found.estimate.low == pytest.approx(2 * half, rel=1e-4)


@pytest.mark.parametrize("items", [True, False], ids=["paired", "numbers-alone"])
def test_one_seed_is_judged_over_its_items(tmp_path: Path, items: bool) -> None:
    """It is said which interval it is; pairs see more than two independent numbers."""
    found = outcome(aligned(1, {0: 0.1}, tmp_path, items=items), "dpo-over-confident")
    assert found.seeds == "items of seed 0"
    assert found.result == "supported"
    width = found.estimate.high - found.estimate.low
    # The gap of one in ten answers differs: 0.1 for each item, and the outcome of 100 in 1000.
    error = math.sqrt(0.1 * 0.9 / 1000)
    assert width == pytest.approx(2 * 1.96 * error, rel=0.01) if items else width > 4 * error


def test_what_never_varies_has_an_interval_all_the_same(tmp_path: Path) -> None:
    """Equal answers of one seed: up to three of n may change (rule of three)."""
    found = outcome(aligned(1, {0: 0.1}, tmp_path), "dpo-collapses")
    assert found.result == "not seen"
    assert found.estimate.value == 0
    assert found.estimate.high == pytest.approx(1.96 * math.sqrt(3) / 1000, rel=1e-3)


def test_a_training_that_did_nothing_supports_nothing(tmp_path: Path) -> None:
    """That RLHF changes nothing is not shown by a policy that was never trained."""
    stages = [
        stage("sft-s0", "sft", dataset="diverse"),
        stage("rloo-s0", "rloo", "sft-s0"),
    ]
    study = measured.Study.read(write_study(tmp_path, stages, lambda *_: 0.05, probes=[QUESTIONS]))
    found = outcome(study, "rlhf-adds-nothing")
    assert found.result == "not measured"
    assert found.missing == "rloo-s0 answers exactly as sft-s0: it was not trained"


def test_a_missing_stage_is_named(tmp_path: Path) -> None:
    """No finding is left out, and none is decided without what it needs."""
    study = aligned(2, {0: 0.1, 1: 0.1}, tmp_path)
    found = outcome(study, "cft-lowers-ece")
    assert (found.result, found.missing) == ("not measured", "no stage cft")
    found = outcome(study, "dpo-raises-ece", "out-of-domain")
    assert found.missing == "dpo-s0 was not measured on out-of-domain"
    every = list(findings.judge_all(study))
    assert len(every) == sum(len(one.probes) for one in findings.FINDINGS)


def test_a_seed_that_lacks_a_stage_is_named(tmp_path: Path) -> None:
    """The others decide, and it is said which one is not among them."""
    stages = [
        stage("base", "pretrain"),
        *(stage(f"dpo-s{seed}", "dpo", "base", seed) for seed in range(4)),
        stage("cft-s1", "cft", "dpo-s1", 1),
        stage("cft-s2", "cft", "dpo-s2", 2),
        stage("cft-s3", "cft", "dpo-s3", 3),
    ]
    study = measured.Study.read(
        write_study(tmp_path, stages, lambda one, _: 0.2 * (one["kind"] == "dpo"), items=False)
    )
    found = outcome(study, "cft-lowers-ece")
    assert found.result == "supported"
    assert found.seeds == "3 seeds, few"
    assert found.missing == "seed 0: no stage cft"


# --- regions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "interval", "result"),
    [
        ("RISES", (0.01, 0.2), "supported"),
        ("RISES", (0.0, 0.0), "not seen"),
        ("RISES", (-math.inf, math.inf), "not seen"),
        ("FALLS", (-0.2, -0.01), "supported"),
        ("FALLS", (0.01, 0.2), "contradicted"),
        ("STAYS", (-0.01, 0.019), "supported"),
        ("STAYS", (-0.01, 0.021), "not seen"),
        ("STAYS", (0.021, 0.05), "contradicted"),
        ("STAYS", (-0.05, -0.021), "contradicted"),
        ("STAYS", (-0.05, 0.05), "not seen"),
        ("NOT_LOWER", (-0.019, 0.3), "supported"),
        ("NOT_LOWER", (-0.3, -0.021), "contradicted"),
        ("NOT_LOWER", (-0.03, 0.3), "not seen"),
    ],
)
def test_a_claim_is_a_region_and_the_interval_decides(
    region: str, interval: tuple[float, float], result: str
) -> None:
    """All of the interval inside: supported; all outside: contradicted; else it is not seen."""
    assert getattr(findings, region).result(*interval) == result


def test_not_a_number_decides_nothing() -> None:
    """An interval that could not be computed neither supports nor contradicts."""
    assert findings.STAYS.result(math.nan, math.nan) == "not seen"


# --- what is compared ---------------------------------------------------------------------------


def tuned(folder: Path, harm: Mapping[tuple[str, str], float]) -> Any:
    """Return a study of instruction tuning with these gaps after two epochs, half after one."""
    stages = [stage("base", "pretrain", parameters=1000, step=100)]
    for dataset, method in harm:
        for seed in range(3):
            run = f"sft-{dataset}-{method}-s{seed}"
            stages += [
                stage(
                    f"{run}-e{epoch}", "sft", "base", seed,
                    run=run, dataset=dataset, method=method, epoch=epoch,
                )
                for epoch in (2, 1)
            ]  # fmt: skip
    # Another training of the same kind, which is no instruction tuning.
    stages.append(stage("plain-sft-s0", "sft", "base", dataset="remedy", method="full"))

    def gap(one: Mapping[str, Any], _: str) -> float:
        told = one["settings"]
        if one["kind"] == "pretrain":
            return 0.0
        if told["dataset"] == "remedy":
            return 0.3
        whole = harm[told["dataset"], told["method"]] * told["epoch"] / 2
        return whole + 0.005 * (one["seed"] - 1)

    return measured.Study.read(write_study(folder, stages, gap, probes=[QUESTIONS], items=False))


HARM = {
    ("diverse", "full"): 0.1,
    ("diverse", "lora"): 0.02,
    ("homogeneous", "full"): 0.2,
    ("homogeneous", "lora"): 0.04,
}


@pytest.mark.parametrize(
    ("key", "value", "result"),
    [
        ("tuning-raises-ece", 0.15, "supported"),
        ("epochs-raise-ece", 0.075, "supported"),
        ("homogeneous-is-worse", 0.1, "supported"),
        ("lora-harms-less", -0.12, "supported"),
        ("lora-hardly-harms", 0.03, "not seen"),
        ("one-epoch-may-help", 0.05, "contradicted"),
    ],
)
def test_instruction_tuning_is_compared_by_set_method_and_epoch(
    tmp_path: Path, key: str, value: float, result: str
) -> None:
    """The last epochs, averaged over what a finding does not tell apart."""
    study = tuned(tmp_path, HARM)
    found = outcome(study, key)
    # The cross-fitted ECE of a gap of 0 or 0.02 differs from it by what noise would add.
    assert found.estimate.value == pytest.approx(value, abs=0.025)
    assert found.result == result


def test_of_a_remedy_the_usual_settings_count(tmp_path: Path) -> None:
    """What was tried beside them in one seed does not enter."""
    stages = [stage("dpo-s0", "dpo")]
    stages += [
        stage(f"cft-s0-e{epoch}", "cft", "dpo-s0", run="cft-s0", epoch=epoch) for epoch in (1, 2)
    ]
    stages += [stage("cft-rate-9-s0", "cft", "dpo-s0", rate=9.0)]
    gaps = {"dpo-s0": 0.2, "cft-s0-e1": 0.1, "cft-s0-e2": 0.05, "cft-rate-9-s0": 0.3}
    study = measured.Study.read(
        write_study(tmp_path, stages, lambda one, _: gaps[one["name"]], probes=[QUESTIONS])
    )
    found = outcome(study, "cft-lowers-ece")
    assert found.estimate.value == pytest.approx(-0.15, abs=0.025)
    assert outcome(study, "cft-keeps-accuracy").estimate.value == pytest.approx(0.15)


def test_sizes_are_compared_along_a_line(tmp_path: Path) -> None:
    """The slope over the logarithm of the parameters, from the smallest to the largest."""
    sizes = {"s": 10**3, "m": 10**4, "l": 10**5}
    gaps = {"s": 0.2, "m": 0.1, "l": 0.1, "early": 0.4}
    stages = [stage("early", "pretrain", size="l", step=10, extra={"parameters": 10**5})]
    stages += [
        stage(name, "pretrain", size=name, step=100, extra={"parameters": many})
        for name, many in sizes.items()
    ]
    study = measured.Study.read(
        write_study(tmp_path, stages, lambda one, _: gaps[one["name"]], probes=["facts"])
    )
    found = outcome(study, "size-lowers-ece", "facts")
    # Least squares through 0.2, 0.1, 0.1 at -1, 0, 1: a slope of -0.05, over a length of 2.
    assert found.estimate.value == pytest.approx(-0.1, abs=0.005)
    assert found.result == "supported"
    assert outcome(study, "size-raises-accuracy", "facts").estimate.value == pytest.approx(0.1)
    assert [one.name for one in findings.sizes_of(study, 0)] == ["s", "m", "l"]
    assert [one.name for one in findings.steps_of(study, 0)] == ["early", "l"]


@pytest.mark.parametrize(("early", "result"), [(0.4, "contradicted"), (0.05, "not measured")])
def test_models_near_chance_are_those_of_all_pretraining(
    tmp_path: Path, early: float, result: str
) -> None:
    """Sizes and steps alike, named; their mean ECE is compared, none is chosen by it."""
    gaps = {"first": early, "early": early, "last": 0.0}
    stages = [
        stage(name, "pretrain", size="l", step=step, extra={"parameters": 1000})
        for step, name in enumerate(gaps)
    ]
    study = measured.Study.read(
        write_study(tmp_path, stages, lambda one, _: gaps[one["name"]], probes=[QUESTIONS])
    )
    found = outcome(study, "guessing-may-be-calibrated")
    assert found.result == result
    if result == "not measured":
        assert found.missing == "no stage pretrain is within 0.1 of chance"
    else:
        # Accuracy 0.3 at a confidence of 0.7.
        assert found.estimate.value == pytest.approx(0.4, abs=0.01)
        assert found.estimate.chosen == "first, early"


def test_what_a_kind_was_trained_from_has_a_number(tmp_path: Path) -> None:
    """The SFT parents of DPO are calibrated, whatever DPO is."""
    found = outcome(aligned(3, dict.fromkeys(range(3), 0.3), tmp_path), "parent-is-calibrated")
    assert found.result == "supported"
    assert abs(found.estimate.value) < 0.03
    alone = measured.Study.read(
        write_study(tmp_path / "alone", [stage("dpo-s0", "dpo")], lambda *_: 0.0)
    )
    assert outcome(alone, "parent-is-calibrated").missing == "a stage dpo has no parent"


@pytest.mark.parametrize(("of_base", "result"), [(0.0, "supported"), (0.1, "not measured")])
def test_the_regime_needs_a_calibrated_base(tmp_path: Path, of_base: float, result: str) -> None:
    """Accuracy 0.6 against a mean confidence of 0.7 is calibratable, if that can be trusted."""
    stages = [stage("base", "pretrain"), stage("dpo-s0", "dpo", "base")]
    study = measured.Study.read(
        write_study(
            tmp_path,
            stages,
            lambda one, _: of_base if one["kind"] == "pretrain" else 0.1,
            probes=[QUESTIONS],
        )
    )
    found = outcome(study, "dpo-is-calibratable")
    assert found.result == result
    if result == "supported":
        assert found.estimate.value == pytest.approx(-0.1)
    else:
        assert found.missing.startswith("base is no reference: its own ECE is beyond noise")


def test_costs_are_a_ratio(tmp_path: Path) -> None:
    """Without several seeds a ratio of costs has no interval, so nothing is decided."""
    stages = []
    for seed, seconds in enumerate((40.0, 42.0, 44.0)):
        stages += [
            stage(f"dpo-s{seed}", "dpo", seed=seed, extra={"train_seconds": 2.0}),
            stage(f"rcft-s{seed}", "rcft", f"dpo-s{seed}", seed, extra={"train_seconds": seconds}),
        ]
    few = measured.Study.read(write_study(tmp_path / "1", stages[:2], lambda *_: 0.0))
    assert outcome(few, "rcft-is-dear").result == "not seen"
    assert outcome(few, "rcft-is-dear").estimate.value == 20
    study = measured.Study.read(write_study(tmp_path / "3", stages, lambda *_: 0.0))
    found = outcome(study, "rcft-is-dear")
    assert found.estimate.value == 21
    assert found.estimate.low == pytest.approx(21 - T_2 / math.sqrt(3), rel=1e-3)
    assert found.result == "supported"


# --- the data -----------------------------------------------------------------------------------


def test_every_finding_is_told_in_full() -> None:
    """Each has a name of its own, a claim, a source, and how each reported number is known."""
    assert len(BY_KEY) == len(findings.FINDINGS)
    for one in findings.FINDINGS:
        told = f"{one.reported} {one.against}"
        assert "[M]" not in told
        assert "[?]" not in told
        assert any(f"[{tag}]" in one.reported for tag in "VNS"), one.key
        assert one.probes
        assert set(one.probes) <= {*findings.TASKS, *findings.CHOICES}


# --- what is read -------------------------------------------------------------------------------


A = {"name": "a", "kind": "sft", "parent": None}


def write(folder: Path, document: Any) -> Path:
    """Write a table of stages."""
    (folder / "stages.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([], "the table must be"),
        ({"stages": 3}, "stages must be a list"),
        ({"stages": [{"name": "a", "parent": None}]}, r"stages\[0\] lacks kind"),
        ({"stages": [A | {"seed": "x"}]}, r"stages\[0\].seed must be a whole number"),
        ({"stages": [A, A]}, "two stages are named 'a'; each needs its own"),
        ({"stages": [A | {"kind": "ppo"}]}, "'a' is of the unknown kind 'ppo'; known kinds: pre"),
        ({"stages": [A | {"parent": "b"}]}, "the parent 'b' of 'a' is no stage; the stages are a"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, document: Any, problem: str) -> None:
    """In one sentence, with the place."""
    with pytest.raises(UsageError, match=problem):
        measured.Study.read(write(tmp_path, document))


def test_what_was_never_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command says what is not there, and exits with 2."""
    monkeypatch.setattr("sys.argv", ["findings.py", "--runs", str(tmp_path)])
    assert findings.main() == 2
    assert capsys.readouterr().err.startswith(
        f"{tmp_path / 'stages.json'} is not there: {tmp_path} holds no study. Run one with tox"
    )


def test_the_command_prints_every_outcome(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Result, finding, probe, and the number with its interval or what is missing."""
    aligned(3, {0: 0.1, 1: 0.11, 2: 0.1}, tmp_path, items=False)
    monkeypatch.setattr("sys.argv", ["findings.py", "--runs", str(tmp_path)])
    assert findings.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == sum(len(one.probes) for one in findings.FINDINGS)
    (told,) = [line for line in lines if "dpo-over-confident on questions" in line]
    assert told.startswith("supported     dpo-over-confident on questions: +0.1033 [")
    assert told.endswith("], 3 seeds, few")


def test_findings_as_tests_are_reported_and_none_is_forced(
    tmp_path: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Supported passes; contradicted and not seen are expected failures; the rest is skipped."""
    study = aligned(3, {0: 0.1, 1: 0.095, 2: 0.1}, tmp_path, items=False)
    results = [one.result for one in findings.judge_all(study)]
    monkeypatch.setenv("CALIBRATION_STUDY", str(tmp_path))
    ran = pytester.runpytest_inprocess(
        str(STUDY / "test_findings.py"), "-ra", "-p", "no:cacheprovider"
    )
    ran.assert_outcomes(
        passed=results.count("supported"),
        xfailed=results.count("not seen") + results.count("contradicted"),
        skipped=results.count("not measured"),
    )
    assert results.count("supported") == 3
    ran.stdout.fnmatch_lines(["SKIPPED*not measured: no stage cft*"])
    ran.stdout.fnmatch_lines(["XFAIL*dpo-collapses-questions* - not seen: +0.0000 [*"])
    assert ran.ret == 0
