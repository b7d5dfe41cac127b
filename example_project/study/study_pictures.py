"""The pictures of the study: ECE along the whole pipeline, and reliability stage by stage."""

from __future__ import annotations

from itertools import groupby
from typing import Any, Final

from comparing_stages import DATASETS, MissingStageError, last
from findings import sizes_of, steps_of
from measured import Stage, Study

from pytest_calibration.metrics import metric_named
from pytest_calibration.reports.drift_plot import Chart, Course, Mark
from pytest_calibration.reports.plots import reliability_diagram, saved

COLUMNS: Final = 4


def pipeline(study: Study, seed: int) -> list[tuple[str, list[Stage]]]:
    """Return the checkpoints of a seed as they are drawn: parts in order, each with its name.

    Sizes and steps of pretraining, each instruction tuning with its epochs, and what was trained
    from these; parts of one name are drawn alike.
    """
    try:
        pretraining = [sizes_of(study, seed), steps_of(study, seed)]
    except MissingStageError:
        # No sizes are known.
        pretraining = [study.of(seed, "pretrain")]
    parts = [("pretraining", stages) for stages in pretraining]
    trained = [stage for stage in study.measured(seed) if stage.kind != "pretrain"]
    for _, run in groupby(trained, lambda one: one.run):
        stages = list(run)
        told = stages[0].settings
        tuning = stages[0].kind == "sft" and told.get("dataset") in DATASETS
        name = f"{told['dataset']}, {told.get('method')}" if tuning else "alignment and remedies"
        parts.append((name, stages))
    return parts


def drift_chart(study: Study, seed: int, metric: str = "ece") -> Chart:
    """Return the chart of a metric along the pipeline, a panel for each probe."""
    courses = []
    for probe in study.probes:
        at = 0
        for part, stages in pipeline(study, seed):
            marks = []
            for place, stage in enumerate(stages, at):
                line = study.line(stage, probe)
                found = None if line is None else line.metrics.get(metric)
                if found is not None:
                    worse = study.verdict(stage, probe) == "regressed"
                    told = found.value, found.low, found.high, found.noise_floor
                    marks.append(Mark(float(place), stage.label, *told, worse))
            at += len(stages)
            if marks:
                courses.append(Course(probe, part, "order", tuple(marks)))
    return Chart(metric_named(metric).label, tuple(courses), "worse than its parent, by the gate")


def shown_stages(study: Study, seed: int) -> list[Stage]:
    """Return one stage for each training: its last, of remedies those of the usual settings."""
    base = study.of(seed, "pretrain")[-1:]
    chosen = []
    for kind in dict.fromkeys(stage.kind for stage in study.measured(seed)):
        if kind != "pretrain":
            chosen += last(study, seed, kind)
    bases = [one for stage in chosen if (one := study.base(stage)) is not None]
    return [*(bases[:1] or base), *chosen]


def reliability_picture(study: Study, seed: int, probe: str, suffix: str = ".png") -> bytes | None:
    """Return a figure with a reliability diagram for each stage; None without items."""
    shown = [(one, study.items(one, probe)) for one in shown_stages(study, seed)]
    known = [(stage, items) for stage, items in shown if items is not None]
    if not known:
        return None
    rows = -(-len(known) // COLUMNS)

    def draw(figure: Any) -> None:
        panels = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True).ravel()
        for (stage, items), axes in zip(known, panels, strict=False):
            parent = study.stages[stage.parent] if stage.parent else None
            before = None if parent is None else study.items(parent, probe)
            # Of many small panels, the counts of right and wrong answers would not be legible.
            reliability_diagram(items, before, ax=axes).histogram_ax_.remove()
            axes.get_legend().remove()
            axes.set(xlabel="", ylabel="")
            ece = study.lines[stage.name, probe].metrics["ece"].value
            axes.set_title(f"{stage.label}\nECE {ece:.3f}", loc="left", fontsize=8)
        for axes in panels[len(known) :]:
            axes.set_axis_off()
        figure.supxlabel("confidence", fontsize=9)
        figure.supylabel("accuracy", fontsize=9)

    size = 2.2 * COLUMNS, 2.3 * rows + 0.4
    return saved(draw, size, suffix, f"reliability of the stages on {probe}")
