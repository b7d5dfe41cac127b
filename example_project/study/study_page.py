"""The page of the study as Markdown; every number on it is one that was measured."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final

from comparing_stages import Form, MissingStageError, average, estimate
from findings import CHOICES, ELSEWHERE, FACTS, QUESTIONS, TOKENS, Outcome
from measured import Stage, Study

from pytest_calibration.diagnosis.findings import Regime
from pytest_calibration.diagnosis.recalibration import read_ece
from pytest_calibration.diagnosis.regime import regime_against
from pytest_calibration.gate.strictness import DEFAULT
from pytest_calibration.gate.verdict import align
from pytest_calibration.history.comparing import compare_items
from pytest_calibration.history.lines import Line
from pytest_calibration.metrics import DEFAULT_BINS
from pytest_calibration.predictions.stored_items import MAX_TOKENS
from pytest_calibration.reports.markdown_text import text
from pytest_calibration.text.numbers import counted

METRICS: Final = (
    "accuracy", "ece", "signed_gap", "classwise_ece", "brier", "share_confident", "mean_entropy",
)  # fmt: skip
# Whose cost is compared with that of plain fine-tuning; that is of the kind sft.
REMEDIES: Final = ("sft", "label_smoothing", "cft", "rcft", "accuracy_only", "ece_only")
COSTS: Final = ("train_seconds", "forward_passes")
RESULTS: Final = ("supported", "not seen", "contradicted", "not measured")
NONE: Final = "–"
COMMAND: Final = "python example_project/study/report.py"


def page(study: Study, outcomes: Sequence[Outcome]) -> str:
    """Return the page as Markdown."""
    parts = (
        _start(study, outcomes),
        _reading(study),
        _findings(outcomes),
        _pictures(study),
        _verdicts(study),
        _remedies(study),
        _diversity(study),
        _training(study),
        _checkpoints(study),
    )
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


# --- its parts ------------------------------------------------------------------------------------


def _start(study: Study, outcomes: Sequence[Outcome]) -> Iterator[str]:
    first, final = study.dates
    names = {name for name, _ in study.lines}
    yield "# Two papers at a small scale"
    yield ""
    yield f"<!-- Made by `{COMMAND}`; changes by hand are lost. -->"
    yield ""
    yield (
        "The experiments of Zhu et al. 2023 (what each stage of training does to calibration) and "
        "Xiao et al. 2025 (what restores it after preference alignment), run on very small models, "
        "and gated by this plugin. `tox -e study` trains and measures them "
        "([how](../../example_project/README.md#the-study-every-stage-of-alignment-gated)), "
        f"`{COMMAND}` makes this page from what was measured. At this scale a finding may fail to "
        "appear; then the page says so."
    )
    yield ""
    if study.table.scale == "quick":
        yield (
            "> **This is the quick run** (`tox -e study -- --quick`): smaller models, fewer steps, "
            "fewer seeds. It shows that everything works, not what the papers claim."
        )
        yield ""
    seeds = ", ".join(map(str, study.seeds))
    rows = [
        ("date", first if first == final else f"{first} to {final}"),
        ("seeds", seeds),
        ("device", text(study.table.device)),
        ("measured", f"{len(names)} of {len(study.stages)} stages; reward models are not"),
        ("probes", ", ".join(f"`{probe}`" for probe in study.probes)),
        ("largest model", _largest(study)),
    ]
    yield from table(("", ""), rows)
    if study.table.device == "cpu":
        yield (
            "The same with larger models, on a GPU: `python example_project/study/study.py --large "
            "--jobs 6`; it was not run for this page."
        )
        yield ""
    many = Counter(one.result for one in outcomes)
    told = ", ".join(f"{many[result]} {result}" for result in RESULTS if many[result])
    yield f"Of {counted(len(outcomes), 'comparison')}: {told}."
    yield ""


def _largest(study: Study) -> str:
    sizes = [stage.extra.get("parameters") for stage in study.table.stages]
    known = [size for size in sizes if isinstance(size, int)]
    return f"{max(known):,} parameters" if known else NONE


# What a probe asks, and what moves the confidence of a pretrained model on it: both by design.
ASKED: Final = {
    TOKENS: (
        "every next word of texts like those of pretraining",
        "nothing: it is what pretraining trains",
    ),
    FACTS: (
        "the word after *NAME lives in*, of people whom no alignment names",
        "down: one text in ten is about a stranger, hardly met twice; a model that cannot tell who "
        "is one is too sure of strangers and not sure enough of people it knows, and only these "
        "are asked for",
    ),
    QUESTIONS: (
        "which of four options answers *Where does NAME live?*, of the same people",
        "up: both things that are said of a person are among the options, which no text told it; "
        "the probability of values that are no option goes mostly to its favourite, where it "
        "belongs to the other thing that is said",
    ),
    ELSEWHERE: (
        "the same of what people drink, which no alignment speaks of",
        "up, for the same reason",
    ),
}


def _reading(study: Study) -> Iterator[str]:
    """Yield what a reader has to know before the findings."""
    yield "## How to read it"
    yield ""
    yield (
        "Of every person two things are said, one more often than the other, so that the best "
        "possible accuracy on facts and questions is about 0.75. All alignment starts from one "
        "pretrained model. Its signed gap, mean confidence minus accuracy, on each probe:"
    )
    yield ""
    bases = (study.base(stage) for stage in study.table.stages)
    base = next((one for one in bases if one is not None), None)
    rows = []
    for probe in study.probes:
        line = None if base is None else study.line(base, probe)
        gap = None if line is None else line.metrics.get("signed_gap")
        told = NONE if gap is None else interval(gap.value, gap.low, gap.high)
        rows.append((f"`{probe}`", *ASKED.get(probe, (NONE, NONE)), told))
    name = "the pretrained model" if base is None else f"`{base.label}`"
    head = ("probe", "asks", "what moves a pretrained model's confidence", f"gap of {name}")
    yield from table(head, rows)
    yield (
        "- ECE has no sign. Where the pretrained model is under-confident, training that makes it "
        "surer *lowers* ECE at first. Whether a model became surer, the signed gap says."
    )
    yield (
        "- A temperature is fitted on multiple choice, and makes the model less sure of everything "
        "by the same factor. Where it was not over-confident, it becomes under-confident."
    )
    rewards = [
        share
        for stage in study.table.stages
        if isinstance(share := stage.extra.get("reward_accuracy"), float)
    ]
    if rewards:
        yield (
            "- The reward model behind RLOO prefers what is said of people it was not trained on "
            f"to its rival in a share of {number(sum(rewards) / len(rewards))} (a guess: 0.5, the "
            "best possible: about 0.75). RLOO asks it about those it was trained on: the nearer "
            "that share is to 0.5, the more it only knows these by heart."
        )
    yield (
        "- The seeds share the pretrained model, all training data, and the questions on which the "
        "temperature is fitted. No interval is over these."
    )
    yield ""


def _findings(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield "## Findings"
    yield ""
    yield (
        "Each claim says where a number lies. It is *supported* where the whole 95 % interval "
        "lies there, *contradicted* where the whole interval lies outside, else *not seen*. With "
        "several seeds the interval holds for training again (Student's t over the seeds) and for "
        f"asking other items (paired; of tokens, on the {MAX_TOKENS:,} that the history keeps); "
        "with one seed, for other items of that training. ECE is compared as the cross-fitted ECE, "
        "to which noise does not add. Each interval covers 95 % by itself: of "
        f"{len(outcomes)} comparisons, {0.05 * len(outcomes):.1f} would miss the truth on average. "
        "`pytest example_project/study/test_findings.py -ra` gives the same as tests."
    )
    yield ""
    yield (
        "What the papers report has a tag: [V] read in a primary source, [N] from the note of a "
        "third party who checked it against the paper, [S] from a summary that nobody checked. "
        "Numbers that could not be recovered are not given."
    )
    yield ""
    for paper, of_paper in groupby(outcomes, lambda one: one.finding.paper):
        yield f"### {paper}"
        yield ""
        head = ("claim", "reported", "compared here", "probe", "measured", "over", "result")
        yield from table(head, _finding_rows(list(of_paper)))


def _finding_rows(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, ...]]:
    before = None
    for one in outcomes:
        finding = one.finding
        told: tuple[str, ...] = ("", "", "")
        if finding is not before:
            against = f"<br>Against it: {finding.against}." if finding.against else ""
            compared = f"{finding.effect}: {finding.region.text}"
            told = (finding.claim, f"{finding.reported}{against}", compared)
        before = finding
        found, over = text(one.missing), one.seeds
        if one.estimate is not None:
            found = interval(one.estimate.value, one.estimate.low, one.estimate.high, 4)
            if one.estimate.chosen:
                over = f"{over}; {text(one.estimate.chosen)}"
            if one.missing and len(one.estimate.by_seed) > 1:
                over = f"{over}; {text(one.missing)}"
        result = f"**{one.result}**" if one.result in RESULTS[:3:2] else one.result
        yield (*told, f"`{one.probe}`", found, over, result)


def _pictures(study: Study) -> Iterator[str]:
    yield "## Along the pipeline"
    yield ""
    yield (
        f"ECE of every checkpoint of seed {study.shown_seed}, in order of the pipeline. Where the "
        "gate found one worse than its parent, it has a ring."
    )
    yield ""
    yield "![ECE of every checkpoint along the pipeline, by probe](study/drift.png)"
    yield ""
    yield "## Reliability by stage"
    yield ""
    yield (
        "The last checkpoint of each training, in grey its parent. A filled point lies outside the "
        "band in which a calibrated model's accuracy lies 95 % of the time."
    )
    yield ""
    for probe in study.probes:
        yield f"![Reliability diagrams of the stages on {probe}](study/reliability-{probe}.png)"
        yield ""


def _remedies(study: Study) -> Iterator[str]:
    """Yield the remedies side by side: what they do to accuracy and ECE, and what they cost."""
    shown = [one for one in study.measured(study.shown_seed) if _from_aligned(study, one)]
    if not shown:
        return
    yield "## Remedies side by side"
    yield ""
    yield (
        "All start from the DPO model in the first row. `-e1` is the checkpoint of the first "
        "epoch; a name with another number is one of other settings that were tried. Accuracy and "
        "ECE are means over the seeds, with the interval as above; in brackets how many seeds. "
        "Accuracy in training is that on the data of each: of DPO on its preferences, of the "
        "temperature on the questions it is fitted on, of the others on the questions kept for "
        "remedies. The cost is that of an epoch beside plain SFT on the same questions, of one "
        "seed: in seconds of the processor, and in forward passes, counted in sequences. Plain SFT "
        "runs in TRL's SFTTrainer, the remedies in the Trainer of transformers, which does less "
        "around each step. `accuracy-only` is RCFT without its E-step in the same Trainer: what "
        "the E-step costs is RCFT over that."
    )
    yield ""
    plain = next((one for one in shown if one.settings.get("dataset") == "remedy"), None)
    aligned = study.stages[shown[0].parent or ""]
    rows = []
    for stage in [aligned, *shown]:
        cells = [
            _over_seeds(study, stage, probe, metric)
            for probe in (QUESTIONS, ELSEWHERE)
            for metric in ("accuracy", "ece")
        ]
        cells.append(_over_seeds(study, stage, QUESTIONS, "train_accuracy"))
        rows.append((f"`{stage.label}`", *cells, *_cost_ratios(stage, plain)))
    where = [f"{what}, {place}" for place in CHOICES for what in ("accuracy", "ECE")]
    head = ("stage", *where, "accuracy in training", "epochs", "seconds", "passes")
    yield from table(head, rows)


def _from_aligned(study: Study, stage: Stage) -> bool:
    return stage.parent is not None and study.stages[stage.parent].kind == "dpo"


def _over_seeds(study: Study, stage: Stage, probe: str, metric: str) -> str:
    """Return a number of the stages of all seeds that are called as this one."""

    def build(study: Study, seed: int, _: str) -> Form:
        found = [s for s in study.table.stages if (s.seed, s.label) == (seed, stage.label)]
        if not found:
            raise MissingStageError(f"no {stage.label}")
        return Form(average(found))

    try:
        found = estimate(study, build, probe, metric)
    except MissingStageError:
        return NONE
    many = f" ({len(found.by_seed)})" if len(found.by_seed) > 1 else ""
    # All three are shares.
    low, high = max(found.low, 0.0), min(found.high, 1.0)
    ends = (None, None) if math.isinf(found.low) else (low, high)
    return f"{interval(found.value, *ends)}{many}"


def _cost_ratios(stage: Stage, plain: Stage | None) -> tuple[str, str, str]:
    """Return the epochs, and what one costs beside one of plain fine-tuning."""
    epochs = stage.settings.get("epochs")
    if plain is None or stage.kind not in REMEDIES:
        return NONE if epochs is None else f"{epochs}", NONE, NONE
    ratios = (mine / its for mine, its in zip(_by_epoch(stage), _by_epoch(plain), strict=True))
    seconds, passes = (number(ratio, 2) for ratio in ratios)
    return f"{epochs}", seconds, passes


def _by_epoch(stage: Stage) -> tuple[float, float]:
    """Return seconds and forward passes of an epoch; what is stored is of the whole training."""
    epochs = float(stage.settings.get("epochs") or 1)
    names = ("train_seconds", "forward_passes")
    seconds, passes = (float(stage.extra.get(name) or math.nan) / epochs for name in names)
    return seconds, passes


def _training(study: Study) -> Iterator[str]:
    """Yield settings, cost and accuracy of each training, and its own numbers."""
    stages = [stage for stage in study.table.stages if stage.seed == study.shown_seed]
    rows = []
    for stage in stages:
        told = {
            name: value
            for name, value in stage.extra.items()
            if isinstance(value, int | float) and name not in COSTS
        }
        cells = ", ".join(f"{text(name)} {plain(value)}" for name, value in told.items())
        accuracy = NONE if stage.train_accuracy is None else number(stage.train_accuracy)
        seconds = number(float(stage.extra.get("train_seconds") or stage.seconds), 1)
        passes = number(float(stage.extra.get("forward_passes") or math.nan), 0)
        settings = ", ".join(f"{text(name)} {text(str(v))}" for name, v in stage.settings.items())
        rows.append((f"`{stage.label}`", settings, seconds, passes, accuracy, cells or NONE))
    yield "## How each was trained"
    yield ""
    yield f"<details><summary>{counted(len(rows), 'stage')} of seed {study.shown_seed}</summary>"
    yield ""
    head = (
        "stage",
        "settings",
        "seconds",
        "forward passes",
        "accuracy in training",
        "other numbers",
    )
    yield from table(head, rows)
    yield "</details>"
    yield ""


def _verdicts(study: Study) -> Iterator[str]:
    yield "## What the gate says"
    yield ""
    yield (
        "The verdict on each stage against its parent, as the plugin reached it; of several "
        "seeds, how many. Pretraining has no parent and is held to a limit, an ECE of 0.1. In "
        "brackets: the [component](statistics.md) that fails most clearly. A loss of accuracy "
        "fails as well: an ECE near 0 may be that of a model that guesses."
    )
    yield ""
    groups: dict[str, list[Stage]] = {}
    for seed in study.seeds:
        for stage in study.measured(seed):
            groups.setdefault(stage.label, []).append(stage)
    rows = []
    for name, stages in groups.items():
        parents = {study.stages[one.parent].label for one in stages if one.parent}
        cells = [_states(study, stages, probe) for probe in study.probes]
        rows.append((f"`{name}`", ", ".join(f"`{one}`" for one in sorted(parents)) or NONE, *cells))
    yield from table(("stage", "parent", *(f"`{one}`" for one in study.probes)), rows)


def _states(study: Study, stages: Sequence[Stage], probe: str) -> str:
    states = Counter(_state(study, stage, probe) for stage in stages)
    del states[""]
    several = len(stages) > 1
    told = [f"{many} {state}" if several else state for state, many in states.most_common()]
    return ", ".join(told) or NONE


def _state(study: Study, stage: Stage, probe: str) -> str:
    state = study.verdict(stage, probe)
    ours = study.items(stage, probe) if state == "regressed" else None
    theirs = study.items(study.stages[stage.parent], probe) if stage.parent else None
    if ours is not None and theirs is not None:
        found = compare_items(ours, theirs, "the parent", DEFAULT)
        if found.clearest is not None:
            return f"regressed ({found.clearest.name})"
    return state.replace("_", " ")


def _diversity(study: Study) -> Iterator[str]:
    """Yield the diversity of the instruction sets, where the study measured it."""
    rows: dict[str, dict[str, float]] = {}
    for stage in study.table.stages:
        told = stage.extra.get("diversity")
        if stage.kind == "sft" and isinstance(told, dict):
            rows[str(stage.settings.get("dataset"))] = told
    if not rows:
        return
    yield "## Diversity of the instruction sets"
    yield ""
    yield (
        "Both are larger the more diverse a set is: `distinct_2` is the share of different ones "
        "among all pairs of neighbouring words (Li et al. 2016), `distance` the mean cosine "
        "distance of two instructions by their word pairs; names and answers are masked in both. "
        "Zhu et al. give no number: embeddings of Alpaca's responses cluster, those of "
        "OpenAssistant are spread evenly [N]. `remedy` are the questions of plain SFT."
    )
    yield ""
    names = list(dict.fromkeys(name for told in rows.values() for name in told))
    cells = [
        [f"{set_}", *(number(told.get(n, math.nan)) for n in names)] for set_, told in rows.items()
    ]
    yield from table(("set", *names), cells)


def _checkpoints(study: Study) -> Iterator[str]:
    seed = study.shown_seed
    yield "## Every checkpoint"
    yield ""
    yield (
        f"Those of seed {seed}, each number with its 95 % interval over the items; "
        "[checkpoints.csv](study/checkpoints.csv) has all seeds, with dates. ECE and class-wise "
        f"ECE have {DEFAULT_BINS} equal-width bins; the signed gap is confidence minus accuracy. "
        "The regime is that of Xiao et al. as far as it can be estimated, relative to the "
        "pretrained model: accuracy minus the mean confidence of that, below 0 *calibratable*; "
        "there is none where the ECE of the pretrained model is itself beyond noise. "
        "Two measures of collapse end the row: the share of answers at confidence 0.9 or above, "
        "and the mean entropy over the options, in nats."
    )
    yield ""
    head = (
        "stage", "accuracy", "ECE", "floor", "signed gap", "class-wise ECE", "Brier", "regime",
        "at 0.9 or above", "entropy", "date",
    )  # fmt: skip
    for probe in study.probes:
        rows = [
            _checkpoint_row(study, stage, probe, line)
            for stage in study.measured(seed)
            if (line := study.line(stage, probe)) is not None
        ]
        many = counted(len(rows), "checkpoint")
        yield f"<details><summary><code>{probe}</code>: {many}</summary>"
        yield ""
        yield from table(head, rows)
        yield "</details>"
        yield ""


def _checkpoint_row(study: Study, stage: Stage, probe: str, line: Line) -> tuple[str, ...]:
    cells = {}
    for name in METRICS:
        found = line.metrics.get(name)
        cells[name] = NONE if found is None else interval(found.value, found.low, found.high)
    ece, regime = line.metrics.get("ece"), regime_of(study, stage, probe)
    floor = NONE if ece is None or ece.noise_floor is None else number(ece.noise_floor)
    told = NONE if regime is None else regime.name
    if regime is not None and regime.margin is not None:
        margin = regime.margin
        told = f"{told}, {interval(margin.value, margin.low, margin.high)}"
    first, second, *others = (cells[name] for name in METRICS)
    return (
        f"`{stage.label}`", first, second, floor, *others[:3], told, *others[3:], line.time[:10],
    )  # fmt: skip


# --- their cells ----------------------------------------------------------------------------------


def regime_of(study: Study, stage: Stage, probe: str) -> Regime | None:
    """Return the regime of a stage, relative to its pretrained model; None without that."""
    base = study.base(stage)
    ours, theirs = study.items(stage, probe), None if base is None else study.items(base, probe)
    if base is None or ours is None or theirs is None:
        return None
    at, before, _ = align(ours, theirs, base.name)
    if at is None or before is None:
        return None
    reference = theirs.take(before)
    return regime_against(ours.take(at), reference, read_ece(reference, DEFAULT_BINS), base.name)


def number(value: float, digits: int = 3) -> str:
    """Write a number with a real minus sign."""
    return NONE if math.isnan(value) else f"{value:z,.{digits}f}".replace("-", "−")


def plain(value: float) -> str:
    """Write a number as it is: a whole one in full, another to four digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}".replace("-", "−")


def interval(value: float, low: float | None, high: float | None, digits: int = 3) -> str:
    """Write a number with its interval."""
    if low is None or high is None or math.isinf(low):
        return number(value, digits)
    return f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""
