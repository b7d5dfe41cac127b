"""Drift along a history: which checkpoints are judged, and what is said of the others."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_calibration import exact

from pytest_calibration.assertions import assert_no_drift
from pytest_calibration.errors import HistoryError, UsageError
from pytest_calibration.gate.decision import State
from pytest_calibration.gate.trend import TrendVerdict, trend
from pytest_calibration.history.checkpoints import Checkpoint
from pytest_calibration.history.drift import judge_all, judge_drift, series_of
from pytest_calibration.history.file import History
from pytest_calibration.history.lines import Line
from pytest_calibration.predictions import Predictions, Signature

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)


def checkpoint(gap: float, probe: str = "facts", shots: str = "0") -> Predictions:
    """A checkpoint with exactly this gap at every confidence, on always the same items."""
    made = exact(dict.fromkeys(LEVELS, gap), each=200, probe=probe)
    return replace(made, signature=Signature({"shots": shots}))


def history(
    folder: Path, gaps: dict[int, float], *, run: str = "runs/sft", parent: str = "", **of: Any
) -> History:
    """A history with these gaps by step, their items beside it."""
    file = History(folder / "history.jsonl")
    for step, gap in gaps.items():
        place = Checkpoint(f"{run}/checkpoint-{step}", step=step)
        p = checkpoint(gap, **of)
        file.append(Line.of(p, checkpoint=place, parent=parent), p)
    return file


def test_the_trend_is_that_of_the_items(tmp_path: Path) -> None:
    """The verdict has the components of the trend of the same predictions, at their steps."""
    gaps = {300: 0.1, 100: 0.0, 200: 0.05}
    file = history(tmp_path, gaps)
    series, remarks = series_of(file, "facts")
    verdict = judge_drift(file, series)
    expected = trend(list(gaps), [checkpoint(gap) for gap in gaps.values()])
    assert repr(verdict.components) == repr(expected.components)
    assert (verdict.state, verdict.steps, remarks) == (State.REGRESSED, (100, 200, 300), [])


def test_the_parent_stands_at_the_start(tmp_path: Path) -> None:
    """A parent that was measured is the first of the line, at step 0."""
    file = History(tmp_path / "history.jsonl")
    base = checkpoint(0.0)
    file.append(Line.of(base, model="base"), base)
    history(tmp_path, {100: 0.05, 200: 0.1}, parent="base")
    verdict = judge_drift(file, series_of(file, "facts")[0])
    assert verdict.steps == (0, 100, 200)
    assert verdict.measurement.model.endswith("checkpoint-200")


def test_the_assertion_takes_a_path_or_a_history(tmp_path: Path) -> None:
    """A drift raises with the whole text; none returns the verdict."""
    file = history(tmp_path, {0: 0.0, 100: 0.05, 200: 0.1, 300: 0.15})
    for given in (file, file.path, str(file.path)):
        with pytest.raises(AssertionError) as caught:
            assert_no_drift(given, "facts")
        text = " ".join(str(caught.value).split())
        assert text.startswith("calibration drifted: probe facts on runs/sft/checkpoint-300")
        assert (
            "from step 0 to 300, along the line through 4 checkpoints; before and after are its "
            "start and its end."
        ) in text
    verdict = assert_no_drift(file, "facts", tolerance=0.3, accuracy_tolerance=None)
    assert isinstance(verdict, TrendVerdict)
    assert verdict.state is State.PASSED
    assert "tolerance 0.3 instead of 0.02." in verdict.cautions


def test_a_run_that_is_not_named_is_asked_for(tmp_path: Path) -> None:
    """Of two runs, one must be named; each is judged by itself."""
    history(tmp_path, {0: 0.0, 100: 0.0, 200: 0.0}, run="runs/a")
    file = history(tmp_path, {0: 0.0, 100: 0.1, 200: 0.2}, run="runs/b")
    with pytest.raises(HistoryError) as caught:
        assert_no_drift(file, "facts")
    assert str(caught.value) == (
        f"{file.path}: has 2 runs of probe 'facts' ('runs/a', 'runs/b'); name one of them with "
        "run=."
    )
    assert assert_no_drift(file, "facts", run="runs/a").state is State.PASSED
    with pytest.raises(AssertionError, match="runs/b/checkpoint-200"):
        assert_no_drift(file, "facts", run="runs/b")


@pytest.mark.parametrize(
    ("probe", "message"),
    [("fact", r"no probe 'fact' \(did you mean 'facts'\?\)"), ("quiz", "it has facts")],
)
def test_an_unknown_probe_is_named(tmp_path: Path, probe: str, message: str) -> None:
    """With those that the history has."""
    with pytest.raises(HistoryError, match=message):
        assert_no_drift(history(tmp_path, {0: 0.0}), probe)


def test_a_history_that_is_not_there_is_no_pass(tmp_path: Path) -> None:
    """A wrong path is an error; so is what is no path."""
    with pytest.raises(HistoryError, match=r"nothing\.jsonl"):
        assert_no_drift(tmp_path / "nothing.jsonl", "facts")
    wrong: Any = 3
    with pytest.raises(UsageError, match="must be a History or the path of its file, got int"):
        assert_no_drift(wrong, "facts")


def test_checkpoints_without_items_are_left_out_and_said(tmp_path: Path) -> None:
    """The line is fitted to the others; without any items there is nothing to judge."""
    file = history(tmp_path, {0: 0.0, 100: 0.05, 200: 0.1, 300: 0.15})
    lines = file.read().lines
    for line in lines[1:3]:
        (file.items_folder / f"{line.items}.npz").unlink()
    verdict = judge_drift(file, series_of(file, "facts")[0])
    assert verdict.steps == (0, 300)
    assert verdict.cautions[-1] == (
        "2 checkpoints left out, whose items are not kept: runs/sft/checkpoint-100, "
        "runs/sft/checkpoint-200."
    )


def test_without_items_the_numbers_are_judged_as_if_independent(tmp_path: Path) -> None:
    """SE² = Σ a_k²·SE_k² with the SE of each interval: wider than paired, and said."""
    file = history(tmp_path, {0: 0.0, 100: 0.05, 200: 0.1, 300: 0.15})
    series, _ = series_of(file, "facts")
    paired = judge_drift(file, series)
    shutil.rmtree(file.items_folder)
    verdict = judge_drift(file, series)
    assert verdict.cautions[0] == (
        "judged by the signed gap and accuracy of each checkpoint, as if all were independent: the "
        "items of runs/sft/checkpoint-0, runs/sft/checkpoint-100, runs/sft/checkpoint-200 and 1 "
        "more are not kept in history.jsonl.items."
    )
    assert [c.name for c in verdict.components] == ["signed gap", "accuracy"]
    weights = np.array([-1.5, -0.5, 0.5, 1.5]) / 5 * 3
    for c, name in zip(verdict.components, ("signed_gap", "accuracy"), strict=True):
        lines = [line.metrics[name] for line in series.lines]
        half = np.array([number.high - number.low for number in lines if number.high]) / 2
        error = np.sqrt(np.square(weights * half / 1.959964).sum())
        assert c.standard_error == pytest.approx(error, rel=1e-4)
        (same,) = (one for one in paired.components if one.name == c.name)
        assert (c.before, c.after) == pytest.approx((same.before, same.after), abs=1e-5)
        assert c.standard_error > same.standard_error
    assert verdict.state is State.REGRESSED
    assert verdict.measurement.value == pytest.approx(0.15, abs=1e-5)
    assert verdict.measurement.signed_gap == pytest.approx(0.15, abs=1e-5)
    with pytest.raises(AssertionError, match="calibration drifted"):
        assert_no_drift(file, "facts")
    assert assert_no_drift(file, "facts", tolerance=0.2, accuracy_tolerance=None).state.decides


def test_numbers_that_stay_pass(tmp_path: Path) -> None:
    """Without items, four unchanged checkpoints of 4,000 items pass; with accuracy off, too."""
    file = History(tmp_path / "history.jsonl")
    for step in range(4):
        p = exact(dict.fromkeys(LEVELS, 0.0), each=800, probe="facts")
        place = Checkpoint(f"runs/sft/checkpoint-{step}", step=step)
        file.append(Line.of(p, checkpoint=place))
    assert assert_no_drift(file, "facts").state is State.PASSED
    assert assert_no_drift(file, "facts", accuracy_tolerance=None).state is State.PASSED


def test_a_line_without_a_number_is_named(tmp_path: Path) -> None:
    """Without its items and without its gap, nothing is known of a checkpoint."""
    file = History(tmp_path / "history.jsonl")
    for step in range(3):
        place = Checkpoint(f"runs/sft/checkpoint-{step}", step=step)
        line = Line.of(checkpoint(0.0), checkpoint=place)
        metrics = {k: v for k, v in line.metrics.items() if k != "signed_gap" or step != 1}
        file.append(replace(line, metrics=metrics))
    with pytest.raises(HistoryError) as caught:
        assert_no_drift(file, "facts")
    assert str(caught.value) == (
        f"{file.path}: the line of runs/sft/checkpoint-1 has no signed_gap, and its items are not "
        "kept; measure it again with --calibration-history."
    )


def test_damaged_items_are_an_error(tmp_path: Path) -> None:
    """What is not what the line names is never judged."""
    file = history(tmp_path, {0: 0.0, 100: 0.05, 200: 0.1})
    (file.items_folder / f"{file.read().lines[1].items}.npz").write_bytes(b"PK")
    with pytest.raises(HistoryError, match="is damaged"):
        assert_no_drift(file, "facts")


def test_lines_that_do_not_count_are_told(tmp_path: Path) -> None:
    """A torn line, and a checkpoint asked otherwise, stand among the cautions."""
    file = history(tmp_path, {0: 0.0}, shots="5")
    history(tmp_path, {100: 0.0, 200: 0.0, 300: 0.0})
    with file.path.open("ab") as end:
        end.write(b'{"format":1,"time":')
    cautions = assert_no_drift(file, "facts").cautions
    assert any(caution.startswith("line 5") and "skipped" in caution for caution in cautions)
    assert any("1 line of facts left out: asked otherwise" in caution for caution in cautions)


def test_one_checkpoint_is_inconclusive(tmp_path: Path) -> None:
    """The first line of a history neither passes nor fails."""
    verdict = assert_no_drift(history(tmp_path, {100: 0.4}), "facts")
    assert verdict.state is State.INCONCLUSIVE


def test_stages_are_counted_by_their_place(tmp_path: Path) -> None:
    """Models that belong to no run stand in the order of the file, and the text says place."""
    file = History(tmp_path / "history.jsonl")
    for name, gap in (("base", 0.0), ("sft", 0.05), ("dpo", 0.1)):
        p = checkpoint(gap)
        file.append(Line.of(p, model=name), p)
    with pytest.raises(AssertionError) as caught:
        assert_no_drift(file, "facts")
    assert "from place 0 to 2" in " ".join(str(caught.value).split())


def test_tokens_are_judged_on_the_sample_that_is_kept(tmp_path: Path) -> None:
    """Of a token-level probe the history keeps 4,000; the trend is that of these."""
    file = History(tmp_path / "history.jsonl")
    for step, gap in ((0, 0.0), (1, 0.1), (2, 0.2)):
        p = replace(checkpoint(gap), unit="token")
        p = replace(p, item_ids=np.arange(p.n, dtype=np.uint64))
        file.append(Line.of(p, checkpoint=Checkpoint(f"run/checkpoint-{step}", step=step)), p)
    with pytest.raises(AssertionError, match="calibration drifted"):
        assert_no_drift(file, "facts")


@pytest.mark.parametrize(
    ("gaps", "state"),
    [((0.0, 0.1, 0.0), State.REGRESSED), ((0.0, 0.0, 0.0), State.PASSED)],
)
def test_models_trained_side_by_side_have_no_trend(
    tmp_path: Path, gaps: tuple[float, ...], state: State
) -> None:
    """Their order is that of the file: each is compared with the parent, and any one counts."""
    file = History(tmp_path / "history.jsonl")
    for name, gap in (("base", 0.0), *((f"sft-{k}", gap) for k, gap in enumerate(gaps))):
        p = checkpoint(gap)
        file.append(Line.of(p, model=name, parent="" if name == "base" else "base"), p)
    series, _ = series_of(file, "facts", "models from base")
    (drift,), _ = judge_all(file, [series])
    assert (drift.trend, drift.state) == (None, state)
    assert drift.untold == "models that were trained side by side have no order"
    with pytest.raises(HistoryError, match=r"models from base has no trend: models that were"):
        assert_no_drift(file, "facts", run="models from base")
