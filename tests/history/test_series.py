"""The lines of one probe along one run, in order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_calibration import Predictions
from pytest_calibration.errors import HistoryError
from pytest_calibration.history.file import History
from pytest_calibration.history.lines import Line, Number
from pytest_calibration.history.series import Series, all_series


def line(model: str, step: int | None = None, **changes: Any) -> Line:
    """A line of one model on the probe of facts."""
    made = Line(model=model, step=step, probe="facts", n=100, units=100, signature="s")
    return replace(made, **changes)


def models(series: Series) -> list[str]:
    """The models of a series, in its order."""
    return [one.model for one in series.lines]


def only(lines: list[Line], **options: Any) -> Series:
    """The one series of these lines."""
    (series,) = all_series(lines, **options)
    return series


def test_checkpoints_are_in_order_of_steps() -> None:
    """Whenever they were measured."""
    series = only([line(f"runs/sft/checkpoint-{step}", step) for step in (300, 1000, 100)])
    assert (series.run, series.axis, series.at) == ("runs/sft", "step", (100.0, 300.0, 1000.0))
    assert [one.step for one in series.lines] == [100, 300, 1000]
    assert series.name == "facts along runs/sft"


def test_epochs_where_there_are_no_steps() -> None:
    """And the order of the file where some have neither."""
    lines = [line(f"runs/epoch-{epoch}", epoch=epoch) for epoch in (2.0, 0.5, 1.0)]
    assert (only(lines).axis, only(lines).at) == ("epoch", (0.5, 1.0, 2.0))
    mixed = [*lines[:2], line("runs/checkpoint-3", 3)]
    assert (only(mixed).axis, only(mixed).at) == ("order", (0.0, 1.0, 2.0))


def test_revisions_on_the_hub_are_a_run() -> None:
    """One name, several steps."""
    lines = [line("org/m", step, revision=f"step{step}") for step in (2000, 1000)]
    assert (only(lines).run, only(lines).at) == ("org/m", (1000.0, 2000.0))


def test_the_parent_stands_at_zero() -> None:
    """Wherever its line is, and whatever its own step is; alone it is no series."""
    base = line("org/base", 143000, revision="step143000")
    lines = [
        line("runs/sft/checkpoint-10", 10, parent="org/base@step143000"),
        base,
        line("runs/sft/checkpoint-20", 20, parent="org/base@step143000"),
    ]
    series = only(lines)
    assert series.lines[0] == base
    assert (series.at, series.has_parent, series.left_out) == ((0.0, 10.0, 20.0), True, ())
    assert models(only(lines, run="org/base")) == ["org/base"]


def test_models_trained_from_one_are_judged_against_it() -> None:
    """Each with what was trained from it; a row of stages before them is a series of its own."""
    lines = [
        line("base"),
        line("sft", parent="base"),
        *(line(f"dpo-{seed}", parent="sft") for seed in (0, 1)),
        line("cooled", parent="dpo-0"),
        *(line(f"cft-{seed}", parent="dpo-1") for seed in (0, 1)),
    ]
    row, siblings, remedies = all_series(lines)
    assert (row.name, models(row), row.siblings) == ("facts", ["base", "sft"], False)
    assert (siblings.name, siblings.run) == ("facts along models from sft", "models from sft")
    assert models(siblings) == ["sft", "dpo-0", "dpo-1", "cooled"]
    assert models(remedies) == ["dpo-1", "cft-0", "cft-1"]
    for series in (siblings, remedies):
        assert (series.has_parent, series.siblings, series.axis) == (True, True, "order")
    assert models(only(lines, run="models from sft")) == models(siblings)


def test_siblings_need_no_line_of_their_parent() -> None:
    """It is said that it was not measured; who has no parent stands apart."""
    lines = [line("a", parent="base"), line("b", parent="base"), line("c"), line("d")]
    siblings, others = all_series(lines)
    assert (models(siblings), siblings.has_parent) == (["a", "b"], False)
    assert siblings.left_out == ("the parent base was not measured on facts.",)
    assert models(others) == ["c", "d"]


def test_a_parent_that_was_not_measured_is_told() -> None:
    """The drift then starts at the first checkpoint."""
    series = only([line("runs/step-1", 1, parent="runs/base"), line("runs/step-2", 2)])
    assert series.left_out == ("the parent runs/base was not measured on facts.",)
    assert (series.has_parent, series.at) == (False, (1.0, 2.0))


def test_stages_are_in_the_order_of_the_file_behind_the_first() -> None:
    """The parent of the parent is where it started."""
    lines = [
        line("runs/dpo", stage="dpo", parent="runs/sft"),
        line("runs/sft", stage="sft", parent="runs/base"),
        line("runs/base", stage="base"),
    ]
    series = only([lines[1], lines[2], lines[0]])
    assert models(series) == ["runs/base", "runs/sft", "runs/dpo"]
    assert (series.axis, series.at, series.run) == ("order", (0.0, 1.0, 2.0), "")
    # A circle ends.
    circle = [line("a", parent="b"), line("b", parent="a")]
    assert len(all_series(circle)) <= 1


def test_the_last_line_of_a_checkpoint_counts() -> None:
    """It was trained again, or measured otherwise; of stages too."""
    for name, step in (("runs/checkpoint-1", 1), ("runs/sft", None)):
        again = line(name, step, verdict="regressed")
        series = only([line(name, step), line("runs/checkpoint-2", step and 2), again])
        assert again in series.lines
        assert len(series) == 2


def test_one_model_that_is_measured_again_and_again_has_a_point_for_each() -> None:
    """At every commit, say."""
    lines = [line("out/model", commit=c) for c in "abc"]
    assert [one.commit for one in only(lines).lines] == ["a", "b", "c"]


def test_what_was_asked_otherwise_is_left_out_and_told() -> None:
    """Than the last line of the series; its numbers are of other questions."""
    lines = [line(f"r/step-{i}", i, signature="old" if i < 3 else "new") for i in range(1, 5)]
    series = only(lines)
    assert series.at == (3.0, 4.0)
    assert series.left_out == (
        "2 lines of facts left out: asked otherwise than r/step-4 (another signature).",
    )
    base = line("base", signature="old")
    series = only([base, line("r/step-4", 4, parent="base", signature="new")])
    assert (series.has_parent, series.left_out) == (
        False,
        ("the parent base left out: asked otherwise than r/step-4 (another signature).",),
    )


def test_the_last_model_beside_its_checkpoints_belongs_to_their_run() -> None:
    """A Trainer saves it without its step in the name."""
    lines = [line("runs/sft/checkpoint-1", 1), line("runs/sft/final", 2)]
    assert models(only(lines)) == ["runs/sft/checkpoint-1", "runs/sft/final"]
    # Stages that lie side by side, each with the step of its own run, are none.
    assert only([line("runs/sft", 500), line("runs/dpo", 100)]).axis == "order"


def test_a_series_for_each_probe_and_run() -> None:
    """In the order of the file."""
    lines = [
        line("runs/sft/step-1", 1),
        line("runs/sft/step-1", 1, probe="tokens"),
        line("runs/dpo/step-1", 1),
    ]
    found = [(series.run, series.probe) for series in all_series(lines)]
    assert found == [("runs/sft", "facts"), ("runs/sft", "tokens"), ("runs/dpo", "facts")]
    assert [one.run for one in all_series(lines, probe="facts")] == ["runs/sft", "runs/dpo"]
    assert [one.probe for one in all_series(lines, run="runs/sft")] == ["facts", "tokens"]
    assert all_series([]) == []


def test_an_unknown_probe_or_run_is_named() -> None:
    """With what there is."""
    lines = [line("runs/sft/step-1", 1)]
    with pytest.raises(HistoryError) as caught:
        all_series(lines, probe="fact")
    assert str(caught.value) == (
        "the history has no probe 'fact' (did you mean 'facts'?); it has facts."
    )
    with pytest.raises(HistoryError, match=r"no run 'runs/dpo'.*; it has runs/sft\."):
        all_series(lines, run="runs/dpo")
    with pytest.raises(HistoryError, match="it has none"):
        all_series([], probe="facts")


def test_numbers_and_items_stand_beside_the_lines(tmp_path: Path) -> None:
    """None where a line has none."""
    history = History(tmp_path / "history.jsonl")
    rng = np.random.default_rng(0)
    confidence = rng.random(60)
    made = Predictions.from_confidence(confidence, rng.random(60) < confidence, probe="facts")
    history.append(Line.of(made, model="r/step-2", checkpoint=None), made)
    history.append(replace(Line.of(made, model="r/step-1"), metrics={}))
    series = only([replace(one, step=int(one.model[-1])) for one in history.read()])
    first, second = series.numbers("ece")
    assert first is None
    assert isinstance(second, Number)
    kept = series.predictions(history)
    assert kept[0] is None
    assert kept[1] is not None
    assert len(kept[1]) == 60
