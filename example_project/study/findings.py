"""The findings of the papers, each compared with what the study measured at its scale.

Each is data: what is claimed, by whom, with which numbers, who contradicts it, what is compared
here, and where the compared number lies if the claim holds. One rule decides, on its 95 % interval:

- *supported*: the whole interval lies where the claim has it;
- *contradicted*: the whole interval lies outside;
- *not seen*: neither, so that the study cannot tell;
- *not measured*: a stage that is needed is missing; it is named.

Nothing is made to hold. ``python example_project/study/findings.py`` prints all results;
``pytest example_project/study/test_findings.py`` reports them as tests.

A number of a paper stands with how it is known: [V] read in a primary source, [N] in the note of a
third party who checked it against the paper, [S] in a summary that nobody checked.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from comparing_stages import (
    Build,
    Estimate,
    Form,
    MissingStageError,
    Term,
    against_parent,
    average,
    cost_over,
    estimate,
    last,
    last_minus_first,
    level,
    minus,
    number_of,
    parent_of,
    place_of,
)
from measured import RUNS, Stage, Study

from pytest_calibration.diagnosis.recalibration import read_ece
from pytest_calibration.errors import CalibrationError
from pytest_calibration.metrics import DEFAULT_BINS

Result: TypeAlias = Literal["supported", "not seen", "contradicted", "not measured"]
# The names of the probes in the history.
TOKENS, FACTS, QUESTIONS, ELSEWHERE = "next-token", "facts", "questions", "out-of-domain"
TASKS: Final = (TOKENS, FACTS, QUESTIONS)
CHOICES: Final = (QUESTIONS, ELSEWHERE)
# In which noise does not add to the error, so that models of different sureness compare.
ECE: Final = "cross_fitted_ece"
# The gate's tolerance: what counts as no change.
UNCHANGED: Final = 0.02
CHANCE: Final = 0.25
# To chance, of a model that knows little.
NEAR: Final = 0.1
# With fewer seeds the interval over them is wide, and the outcome says that they are few.
ENOUGH: Final = 5

ZHU: Final = "Zhu et al. 2023 (arXiv 2311.13240)"
XIAO: Final = "Xiao et al. 2025 (arXiv 2505.01997)"
CATTO: Final = "CATTO (arXiv 2601.23096)"
CALM: Final = "CALM, a follow-up on free answers"
KADAVATH: Final = "Kadavath et al. 2022 (arXiv 2207.05221)"


@dataclass(frozen=True)
class Region:
    """Where a number lies if a claim holds: strictly between two ends."""

    low: float
    high: float
    text: str

    def result(self, low: float, high: float) -> Result:
        """Return what an interval says of the claim."""
        if self.low < low and high < self.high:
            return "supported"
        return "contradicted" if high < self.low or low > self.high else "not seen"


RISES: Final = Region(0.0, math.inf, "rises")
FALLS: Final = Region(-math.inf, 0.0, "falls")
STAYS: Final = Region(-UNCHANGED, UNCHANGED, f"changes by less than {UNCHANGED:g}")
NOT_LOWER: Final = Region(-UNCHANGED, math.inf, f"falls by less than {UNCHANGED:g}")


def below(limit: float) -> Region:
    """Below a limit."""
    return Region(-math.inf, limit, f"is below {limit:g}")


def above(limit: float) -> Region:
    """Above a limit."""
    return Region(limit, math.inf, f"is above {limit:g}")


@dataclass(frozen=True)
class Finding:
    """A claim, and how it is put to the test.

    Attributes:
        key: its name.
        claim: what is claimed.
        paper: by whom.
        reported: what they report, each number with how it is known.
        effect: what is compared here.
        build: the same, as a weighted sum of stages.
        region: where that lies if the claim holds.
        probes: on which it is compared.
        metric: the number that is compared.
        against: what others report against it.
    """

    key: str
    claim: str
    paper: str
    reported: str
    effect: str
    build: Build
    region: Region
    probes: tuple[str, ...]
    metric: str = ECE
    against: str = ""


@dataclass(frozen=True)
class Outcome:
    """What the study says of a finding on one probe.

    Attributes:
        finding: the claim.
        probe: on which it was compared.
        result: what it came to.
        estimate: the compared number; None where it was not measured.
        missing: what is not there; empty where all is.
    """

    finding: Finding
    probe: str
    result: Result
    estimate: Estimate | None = None
    missing: str = ""

    @property
    def seeds(self) -> str:
        """How many seeds there are; with one, the interval is over its items alone."""
        if self.estimate is None:
            return ""
        seeds = list(self.estimate.by_seed)
        if len(seeds) == 1:
            known = math.isfinite(self.estimate.low)
            return f"items of seed {seeds[0]}" if known else f"seed {seeds[0]}, no interval"
        return f"{len(seeds)} seeds{', few' if len(seeds) < ENOUGH else ''}"


def judge(study: Study, finding: Finding, probe: str) -> Outcome:
    """Compare a finding with what was measured on a probe."""
    try:
        found = estimate(study, finding.build, probe, finding.metric)
    except MissingStageError as problem:
        return Outcome(finding, probe, "not measured", missing=str(problem))
    result = finding.region.result(found.low, found.high)
    return Outcome(finding, probe, result, found, "; ".join(found.lacking))


def judge_all(study: Study) -> Iterator[Outcome]:
    """Yield the outcome of every finding on each of its probes."""
    return (judge(study, one, probe) for one in FINDINGS for probe in one.probes)


def told(outcome: Outcome) -> str:
    """Return the compared number with its interval, or what is missing."""
    found = outcome.estimate
    if found is None:
        return outcome.missing
    ends = f" [{found.low:+.4f}, {found.high:+.4f}]" if math.isfinite(found.low) else ""
    return f"{found.value:+.4f}{ends}, {outcome.seeds}"


# --- what only some findings compare -------------------------------------------------------------


def _pretrained(study: Study, seed: int) -> list[Stage]:
    found = study.of(seed, "pretrain")
    if not found:
        raise MissingStageError("no stage pretrain")
    return found


def size_of(stage: Stage) -> float:
    """Return the number of parameters of a pretrained model.

    Raises:
        MissingStageError: it is not known.
    """
    for source in (stage.settings, stage.extra):
        for name in ("parameters", "size"):
            value = source.get(name)
            if isinstance(value, int | float) and value > 0:
                return float(value)
    raise MissingStageError(f"{stage.name} does not tell its parameters")


def sizes_of(study: Study, seed: int) -> list[Stage]:
    """Return the last checkpoint of each size, the smallest first."""
    final: dict[float, Stage] = {}
    for stage in sorted(_pretrained(study, seed), key=place_of):
        final[size_of(stage)] = stage
    return [final[size] for size in sorted(final)]


def steps_of(study: Study, seed: int) -> list[Stage]:
    """Return the checkpoints of the size that has most of them, in order of their steps."""
    by_size: dict[float, list[Stage]] = {}
    for stage in sorted(_pretrained(study, seed), key=place_of):
        by_size.setdefault(size_of(stage), []).append(stage)
    return max(by_size.values(), key=len)


def _along_sizes(study: Study, seed: int, _: str) -> Form:
    """The rise along the line through all sizes over log(parameters), from end to end."""
    stages = sizes_of(study, seed)
    if len(stages) < 3:
        raise MissingStageError(f"only {len(stages)} sizes of pretrain; a line needs 3")
    x = [math.log(size_of(stage)) for stage in stages]
    middle = sum(x) / len(x)
    spread = sum((one - middle) ** 2 for one in x)
    weights = [(one - middle) / spread * (x[-1] - x[0]) for one in x]
    return Form(tuple(map(Term, weights, stages)))


def _along_steps(begin: float, end: float) -> Build:
    """The change between two places of pretraining: shares of the number of checkpoints."""

    def build(study: Study, seed: int, _: str) -> Form:
        stages = steps_of(study, seed)
        if len(stages) < 4:
            raise MissingStageError(f"only {len(stages)} checkpoints of one size of pretrain")
        at = [round(share * (len(stages) - 1)) for share in (begin, end)]
        before, after = stages[at[0]], stages[at[1]]
        told = f"{after.name} minus {before.name}"
        return Form((Term(1.0, after), Term(-1.0, before)), chosen=told)

    return build


def _worst_size(study: Study, seed: int, probe: str) -> Form:
    worst = max(sizes_of(study, seed), key=lambda one: number_of(study, one, probe, ECE))
    return Form((Term(1.0, worst),), chosen=worst.name)


def _near_chance(study: Study, seed: int, probe: str) -> Form:
    """The mean over the checkpoints of pretraining that know little more than chance."""
    accuracy = partial(number_of, study, probe=probe, metric="accuracy")
    found = [one for one in _pretrained(study, seed) if accuracy(one) <= CHANCE + NEAR]
    if not found:
        raise MissingStageError(f"no stage pretrain is within {NEAR:g} of chance")
    return Form(average(found), chosen=", ".join(one.name for one in found))


def _beyond_base(kind: str) -> Build:
    """Accuracy minus the mean confidence of the pretrained model: below 0 is calibratable."""

    def build(study: Study, seed: int, probe: str) -> Form:
        stages = last(study, seed, kind)
        bases = [base for stage in stages if (base := study.base(stage)) is not None]
        if len(bases) < len(stages):
            raise MissingStageError(f"a stage {kind} has no pretrained ancestor")
        for base in bases:
            items = study.items(base, probe)
            if items is None or read_ece(items, DEFAULT_BINS).beyond_noise:
                raise MissingStageError(
                    f"{base.name} is no reference: its own ECE is beyond noise, or it has no items"
                )
        return Form((*average(stages, 1.0, "accuracy"), *average(bases, -1.0, "mean_confidence")))

    return build


FULL: Final[dict[str, Any]] = {"method": "full"}
LORA: Final[dict[str, Any]] = {"method": "lora"}
TO_PARENT: Final = "last epoch minus parent"

FINDINGS: Final = (
    # --- Zhu et al.: what training does to calibration ---
    Finding(
        "size-lowers-ece", "Larger models are better calibrated", ZHU,
        "falls on all three tasks from 70M to 12B, weakly for next tokens [N]",
        "change of ECE along the sizes", _along_sizes, FALLS, TASKS,
    ),
    Finding(
        "size-raises-accuracy", "Larger models know more facts", ZHU,
        "accuracy on facts rises with size [N]",
        "change of accuracy along the sizes", _along_sizes, RISES, (FACTS,), "accuracy",
    ),
    Finding(
        "next-tokens-calibrated", "Next tokens are well calibrated at every size", ZHU,
        "ECE below 0.1 at all 8 sizes [N]",
        "ECE of the worst size", _worst_size, below(0.1), (TOKENS,),
    ),
    Finding(
        "ece-falls-early", "ECE falls early in pretraining", ZHU,
        "improves early (1.4B, from step 256) [N]",
        "checkpoint a third along their list minus the first", _along_steps(0.0, 1 / 3), FALLS,
        (TOKENS,),
    ),
    Finding(
        "accuracy-rises-early", "So does accuracy rise", ZHU,
        "improves early, as ECE does [N]",
        "accuracy, the same checkpoints", _along_steps(0.0, 1 / 3), RISES, (TOKENS,), "accuracy",
    ),
    Finding(
        "ece-then-flat", "Then it stays flat", ZHU,
        "stays flat and low to step 143,000 [N]",
        "last checkpoint minus that a third along", _along_steps(1 / 3, 1.0), STAYS, (TOKENS,),
    ),
    Finding(
        "guessing-may-be-calibrated", "Low accuracy is no sign of a high ECE", ZHU,
        "on MMLU ECE falls with size while accuracy stays near 0.25 [N]",
        f"mean ECE of the checkpoints whose accuracy is within {NEAR:g} of chance", _near_chance,
        below(0.1), (QUESTIONS,),
    ),
    Finding(
        "tuning-raises-ece", "Instruction tuning raises ECE", ZHU,
        "rises on all three tasks [N]",
        f"full fine-tuning, {TO_PARENT}", against_parent("sft", **FULL), RISES, TASKS,
    ),
    Finding(
        "epochs-raise-ece", "More epochs raise it further", ZHU,
        "rises with every further epoch [N]",
        "full fine-tuning, last epoch minus first", last_minus_first("sft", **FULL), RISES, TASKS,
    ),
    Finding(
        "one-epoch-may-help", "One epoch on diverse data may lower ECE", ZHU,
        "on MMLU sometimes below the base after one epoch [N]",
        "full fine-tuning, diverse set, first epoch minus parent",
        against_parent("sft", place=0, dataset="diverse", **FULL), FALLS, (QUESTIONS,),
    ),
    Finding(
        "homogeneous-is-worse", "A homogeneous set harms more than a diverse one", ZHU,
        "Alpaca in full harms most; OpenAssistant less [N]",
        "full fine-tuning, homogeneous minus diverse",
        minus("sft", "sft", FULL | {"dataset": "homogeneous"}, FULL | {"dataset": "diverse"}),
        RISES, TASKS,
    ),
    Finding(
        "lora-harms-less", "LoRA harms less than full fine-tuning", ZHU,
        "on all sets and tasks [N]",
        "LoRA minus full, last epoch", minus("sft", "sft", LORA, FULL), FALLS, TASKS,
    ),
    Finding(
        "lora-hardly-harms", "LoRA hardly changes ECE", ZHU,
        "an epoch adds often about 0.001 [N]",
        f"LoRA, {TO_PARENT}", against_parent("sft", **LORA), STAYS, TASKS,
    ),
    Finding(
        "rlhf-adds-nothing", "RLHF after instruction tuning changes nothing", ZHU,
        "no significant change on any task, nor over 3 epochs (PPO) [N]",
        "RLOO minus its SFT parent", against_parent("rloo"), STAYS, TASKS,
        against="GPT-4, MMLU: ECE 0.007 before post-training, 0.074 after [N]; Kadavath et al.: "
        "RLHF policies naively appear very miscalibrated [N]; Xiao et al. find harm, too",
    ),
    # --- Xiao et al.: what preference alignment does, and what restores calibration ---
    Finding(
        "dpo-raises-ece", "Preference alignment breaks calibration", XIAO,
        "aligned models have an ECE of 0.142 to 0.201 on multiple choice [N]",
        "DPO minus its SFT parent", against_parent("dpo"), RISES, CHOICES,
        against="Zhu et al.: RLHF adds nothing [N]",
    ),
    Finding(
        "parent-is-calibrated", "The model before alignment is well calibrated", XIAO,
        "it is, the aligned one is not [N]; no number is known",
        "ECE of the SFT parent of DPO", parent_of("dpo"), below(0.1), CHOICES,
    ),
    Finding(
        "dpo-over-confident", "Aligned models become over-confident", XIAO,
        "over-confident after alignment [V]",
        "signed gap, DPO minus SFT", against_parent("dpo"), RISES, CHOICES, "signed_gap",
    ),
    Finding(
        "dpo-collapses", "Preference collapse: one option gets nearly all probability", XIAO,
        "the mechanism that is proposed [V]; no number is known",
        "share at confidence 0.9 or above, DPO minus SFT", against_parent("dpo"), RISES, CHOICES,
        "share_confident",
    ),
    Finding(
        "dpo-lowers-entropy", "Preference collapse: the entropy over the options falls", XIAO,
        "the mechanism that is proposed [V]; no number is known",
        "mean entropy, DPO minus SFT", against_parent("dpo"), FALLS, CHOICES, "mean_entropy",
    ),
    Finding(
        "dpo-is-calibratable", "Aligned models are in the calibratable regime", XIAO,
        "typically [N]",
        "accuracy of DPO minus mean confidence of the base", _beyond_base("dpo"), FALLS,
        (QUESTIONS,),
    ),
    Finding(
        "over-tuned-is-not-calibratable", "Over-fine-tuned models are in the non-calibratable one",
        XIAO, "typically [N]",
        "accuracy of answer and question alone minus mean confidence of the base",
        _beyond_base("accuracy_only"), RISES, (QUESTIONS,),
    ),
    Finding(
        "temperature-lowers-ece", "Temperature scaling lowers ECE", XIAO,
        "Vicuna-7B: 0.1422 to 0.0598 [N]",
        "scaled minus its parent", against_parent("temperature"), FALLS, CHOICES,
    ),
    Finding(
        "temperature-keeps-accuracy", "Temperature scaling leaves accuracy unchanged", XIAO,
        "exactly unchanged [N]; so by its formula",
        "accuracy, scaled minus its parent", against_parent("temperature"),
        Region(-0.005, 0.005, "changes by less than 0.005"), CHOICES, "accuracy",
    ),
    Finding(
        "smoothing-lowers-ece", "Label smoothing lowers ECE", XIAO,
        "OLMo-2-7B out of domain: 0.0499 [N]",
        "smoothed minus its parent", against_parent("label_smoothing"), FALLS, CHOICES,
    ),
    Finding(
        "cft-lowers-ece", "CFT lowers ECE", XIAO,
        "in domain: Tulu-3-8B 0.1953 to 0.0239, Vicuna-7B 0.1422 to 0.0379, Mistral-7B 0.2010 to "
        "0.0651, OLMo-2-7B 0.1555 to 0.0544; out of domain: OLMo-2-7B to 0.0225 [N]",
        "CFT minus its parent", against_parent("cft"), FALLS, CHOICES,
    ),
    Finding(
        "cft-keeps-accuracy", "CFT costs no accuracy", XIAO,
        "out of domain: Vicuna-7B 0.5233 to 0.6172, Mistral-7B 0.7567 to 0.7863 [N]",
        "accuracy, CFT minus its parent", against_parent("cft"), NOT_LOWER, CHOICES, "accuracy",
    ),
    Finding(
        "cft-beats-temperature", "CFT lowers ECE further than temperature scaling", XIAO,
        "in domain: Vicuna-7B 0.0379 against 0.0598; out of domain: OLMo-2-7B 0.0225 against "
        "0.1160 [N]",
        "CFT minus temperature scaling", minus("cft", "temperature", {}, {}), FALLS, CHOICES,
    ),
    Finding(
        "cft-beats-smoothing", "CFT lowers ECE further than label smoothing", XIAO,
        "OLMo-2-7B out of domain: 0.0225 against 0.0499 [N]",
        "CFT minus label smoothing", minus("cft", "label_smoothing", {}, {}), FALLS, (ELSEWHERE,),
    ),
    Finding(
        "smoothing-beats-temperature", "Label smoothing lowers ECE further than temperature "
        "scaling", XIAO,
        "OLMo-2-7B out of domain: 0.0499 against 0.1160 [N]",
        "label smoothing minus temperature scaling",
        minus("label_smoothing", "temperature", {}, {}), FALLS, (ELSEWHERE,),
    ),
    Finding(
        "rcft-lowers-ece", "RCFT lowers ECE", XIAO,
        "Tulu-3-8B: 0.1953 to 0.0897 [N]",
        "RCFT minus its parent", against_parent("rcft"), FALLS, (QUESTIONS,),
    ),
    Finding(
        "rcft-ece-above-cft", "RCFT's ECE stays above that of CFT", XIAO,
        "Tulu-3-8B: 0.0897 against 0.0239 [N]",
        "RCFT minus CFT", minus("rcft", "cft", {}, {}), RISES, (QUESTIONS,),
    ),
    Finding(
        "rcft-raises-accuracy", "RCFT raises accuracy", XIAO,
        "Tulu-3-8B 0.6228 to 0.8341, OLMo-2-7B 0.6210 to 0.8510 [N]",
        "accuracy, RCFT minus its parent", against_parent("rcft"), RISES, (QUESTIONS,),
        "accuracy",
        against="CATTO: RCFT loses 3.22 points of accuracy on SNLI, in domain [S]",
    ),
    Finding(
        "accuracy-only-fits", "Accuracy loss alone fits the training set", XIAO,
        "about 0.90 accuracy in training [N]",
        "accuracy in training", level("accuracy_only"), above(0.85), (QUESTIONS,),
        "train_accuracy",
    ),
    Finding(
        "accuracy-only-is-worse", "Accuracy loss alone leaves calibration poor", XIAO,
        "poorly calibrated [N]",
        "ECE, accuracy only minus RCFT", minus("accuracy_only", "rcft", {}, {}), RISES,
        (QUESTIONS,),
    ),
    Finding(
        "ece-only-guesses", "ECE loss alone gives a model that guesses", XIAO,
        "accuracy about 0.25 with four options [N]",
        "accuracy, ECE only", level("ece_only"),
        Region(CHANCE - 0.05, CHANCE + 0.05, f"is within 0.05 of {CHANCE:g}"), (QUESTIONS,),
        "accuracy",
    ),
    Finding(
        "ece-only-is-calibrated", "And one whose ECE is near 0", XIAO,
        "ECE about 0 [N]",
        "ECE, ECE only", level("ece_only"), below(0.05), (QUESTIONS,),
    ),
    # --- what followed ---
    Finding(
        "rcft-is-dear", "RCFT costs many times what DPO costs", CATTO,
        "18 to 39 times the compute of DPO [S]",
        "processor seconds of the whole training, RCFT over DPO", cost_over("rcft", "dpo"),
        above(18.0), (QUESTIONS,), "train_seconds",
    ),
    Finding(
        "rcft-harms-elsewhere", "Out of domain RCFT is worse calibrated than DPO", CATTO,
        "SNLI: 0.1767 with DPO, 0.3061 with RCFT [S]",
        "RCFT minus its parent", against_parent("rcft"), RISES, (ELSEWHERE,),
        against="the same paper, RewardBench2: 0.4060 with DPO, 0.3498 with RCFT [S]",
    ),
    Finding(
        "cft-harms-free-answers", "CFT on multiple choice raises the ECE of free answers", CALM,
        "0.0846 before, 0.1109 after [S]",
        "CFT minus its parent, on what is asked without options", against_parent("cft"), RISES,
        (TOKENS, FACTS),
    ),
    Finding(
        "one-temperature-for-all", "One temperature corrects all evaluations", KADAVATH,
        "T = 2.5 for all evaluations largely corrects RLHF policies [N]",
        "scaled minus its parent; T is fitted on multiple choice", against_parent("temperature"),
        FALLS, (TOKENS, FACTS, QUESTIONS),
    ),
)  # fmt: skip


def main() -> int:
    """Print what each finding comes to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the run")
    given = parser.parse_args()
    try:
        outcomes = list(judge_all(Study.read(given.runs)))
    except CalibrationError as problem:
        print(problem, file=sys.stderr)
        return 2
    for one in outcomes:
        print(f"{one.result:<13} {one.finding.key} on {one.probe}: {told(one)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
