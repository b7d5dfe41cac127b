"""The assertions: when they raise, what their text says, and what they tell a session."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_calibration import calibrated, exact, four_way, two_runs

import pytest_calibration
from pytest_calibration import (
    Baselines,
    Predictions,
    Signature,
    assert_accuracy_above,
    assert_ece_below,
    assert_metric_below,
    assert_no_regression,
    assert_no_regression_at,
    assert_not_overconfident,
)
from pytest_calibration.baselines.store import Policy
from pytest_calibration.errors import MetricError, PredictionsError, UsageError
from pytest_calibration.gate.decision import State
from pytest_calibration.gate.strictness import OperatingPoint, Strictness
from pytest_calibration.gate.verdict import Verdict
from pytest_calibration.metrics import ece
from pytest_calibration.reports.model import Remedy, Result, result_of
from pytest_calibration.reports.terminal import failure_lines
from pytest_calibration.sink import SINK
from pytest_calibration.text.layout import WIDTH

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)
CALIBRATED = exact()
OVER = exact(dict.fromkeys(LEVELS, 0.1))
UNDER = exact(dict.fromkeys(LEVELS, -0.1))
REPLACE = 'to replace the baseline:\n  Baselines(folder).record(predictions, reason="...")'


@pytest.fixture(autouse=True)
def _no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """The assertions are called as outside a test session; their text is read in full."""
    SINK.set(None)

    def full(failing: list[Result], *, width: int, verbose: bool) -> Iterator[str]:
        return failure_lines(failing, width=width, verbose=True)

    monkeypatch.setattr("pytest_calibration.assertions.failure_lines", full)


def failure(call: Any, *args: Any, **settings: Any) -> str:
    """The text of the AssertionError that the call raises."""
    with pytest.raises(AssertionError) as caught:
        call(*args, **settings)
    return str(caught.value)


# --- what moved where ---------------------------------------------------------------------------


def test_a_regression_says_which_slices_moved() -> None:
    """Only half of the items became over-confident: the failure names their slice, and only it."""
    half = np.arange(2000) % 2 == 0
    subjects = np.where(half, "history", "law")
    confidence = np.where(half, np.minimum(CALIBRATED.confidence + 0.09, 1), CALIBRATED.confidence)
    candidate = replace(CALIBRATED, confidence=confidence, slices=subjects)
    text = failure(assert_no_regression, candidate, CALIBRATED)
    rows = [
        line.split() for line in text.splitlines() if line.split()[:1] in (["history"], ["law"])
    ]
    assert [(row[0], row[-1]) for row in rows] == [("history", "worse"), ("law", "1.000")]
    assert "1 moved (false discovery rate 5 %)" in text


# --- a limit ------------------------------------------------------------------------------------


def test_ece_below_fails_exactly_at_the_limit() -> None:
    """A limit equal to the ECE fails; the next larger number passes and returns the verdict."""
    value = ece(OVER)
    text = failure(assert_ece_below, OVER, value)
    assert "ECE (15 equal-width bins): 0.100 = limit 0.100 (must be below the limit)" in text
    verdict = assert_ece_below(OVER, math.nextafter(value, 1))
    assert verdict.state is State.PASSED
    assert verdict.measurement.value == value


@given(st.floats(0, 0.3))
def test_ece_below_is_the_comparison_of_two_numbers(limit: float) -> None:
    """It fails exactly where ECE >= limit, for any limit."""
    try:
        assert_ece_below(OVER, limit)
        failed = False
    except AssertionError:
        failed = True
    assert failed is (ece(OVER) >= limit)


@pytest.mark.parametrize(
    ("predictions", "word", "sign"),
    [(OVER, "over-confident", "+"), (UNDER, "under-confident", "-")],
    ids=["over", "under"],
)
def test_a_failure_says_direction_numbers_and_where(
    predictions: Predictions, word: str, sign: str
) -> None:
    """The text holds probe, value against limit, interval, n, direction and the bins at fault."""
    text = failure(assert_ece_below, predictions, 0.05)
    accuracy = 0.6 if sign == "+" else 0.8
    assert text.startswith("above the limit: probe exact\n")
    assert "0.100 > limit 0.050 (must be below the limit)" in text
    assert re.search(r"ECE \(15 equal-width bins\) 0\.100 \[0\.0\d\d, 0\.1\d\d\], n = 2,000", text)
    assert f"{word} by 0.100 (mean confidence 0.700, accuracy {accuracy:.3f})" in text
    table = text.split("confidence          n   mean    acc     gap")[1].splitlines()[1:6]
    for line, level in zip(table, LEVELS, strict=True):
        mean, acc, gap, *plot = line.split()[3:]
        assert float(mean) == pytest.approx(level, abs=1e-3)
        assert float(acc) == pytest.approx(level - float(f"{sign}0.1"), abs=1e-3)
        assert gap == f"{sign}0.100"
        # Accuracy lies left of confidence where it is the smaller one.
        drawn = "".join(plot)
        assert (drawn.index("#") < drawn.index("|")) is (sign == "+")


def test_bins_are_part_of_the_number_and_of_the_table() -> None:
    """With bins=5 the number is that of five bins, is labelled so, and so is the table."""
    text = failure(assert_ece_below, OVER, 0.0, bins=5)
    assert "ECE (5 equal-width bins)" in text
    assert "(0.40, 0.60]" in text
    assert "(0.53, 0.60]" not in text


def test_arrays_are_accepted() -> None:
    """Probabilities with labels, or confidences with booleans, are judged as they are."""
    table, labels = [[0.75, 0.25]] * 4, [0, 0, 0, 1]
    assert_ece_below((table, labels), 0.01)
    assert_ece_below(([0.75] * 4, np.array([True, True, True, False])), 0.01)
    assert "0.250 > limit" in failure(assert_ece_below, (table, [0, 0, 0, 0]), 0.01)
    with pytest.raises(PredictionsError, match="ambiguous"):
        assert_ece_below(([0.75] * 4, labels), 0.01)


def test_a_limit_under_the_noise_floor_is_explained() -> None:
    """A calibrated model on 200 items fails 0.05, and the text says why, with an n."""
    text = failure(assert_ece_below, calibrated(200, 1), 0.05)
    assert re.search(r"the limit 0\.050 lies under the noise floor 0\.0\d\d: a perfectly", text)
    assert re.search(r"on 200 items; (1,\d{3}|\d{3}) items would make it testable", text)


def test_debiased_holds_the_lower_end_against_the_limit() -> None:
    """The same model passes debiased, and one that is off beyond noise does not."""
    verdict = assert_ece_below(calibrated(200, 1), 0.05, debiased=True)
    assert "debiased=True" in verdict.explain()
    text = failure(assert_ece_below, OVER, 0.05, debiased=True)
    assert "cross-fitted ECE (15 equal-width bins), lower end of its interval: 0.0" in text


@pytest.mark.parametrize("limit", [math.nan, math.inf, 5, -0.1], ids=str)
def test_limits_that_are_no_limits_are_refused(limit: float) -> None:
    """A limit that an ECE can never have is an error, not a verdict: 5 is not 5 %."""
    with pytest.raises(MetricError, match=r"must lie in \[0, 1\], got .*; five per cent is 0.05"):
        assert_ece_below(CALIBRATED, limit)


# --- other metrics ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "value"),
    [("mce", 0.1), ("signed_gap", 0.1), ("mean_confidence", 0.7), ("equal_mass_ece", 0.1)],
)
def test_a_metric_fails_at_its_limit(metric: str, value: float) -> None:
    """Each metric with a known value passes a limit above it and fails one below, by name."""
    assert_metric_below(OVER, metric, value + 1e-6)
    text = failure(assert_metric_below, OVER, metric, value - 1e-6)
    assert "(must be below the limit)" in text


def test_a_metric_where_higher_is_better_is_refused() -> None:
    """An upper limit on accuracy is an error that names the right assertion."""
    with pytest.raises(MetricError, match=r"higher accuracy is better.*use assert_accuracy_above"):
        assert_metric_below(OVER, "accuracy", 0.9)
    with pytest.raises(MetricError, match=r"unknown metric 'ecee' \(did you mean 'ece'\?\)"):
        assert_metric_below(OVER, "ecee", 0.9)
    sentence = "higher auroc is better.*assert that metrics.auroc\\(predictions\\) is above it"
    with pytest.raises(MetricError, match=sentence):
        assert_metric_below(OVER, "auroc", 0.9)
    sentence = r"metrics\.precision\(predictions, 0\.9\) is above it"
    with pytest.raises(MetricError, match=sentence):
        assert_metric_below(CALIBRATED, "precision@0.9", 0.9)


def test_accuracy_above_is_a_floor() -> None:
    """Accuracy at the limit passes, below it fails as accuracy and not as calibration."""
    assert_accuracy_above(CALIBRATED, 0.7)
    text = failure(assert_accuracy_above, CALIBRATED, 0.7001)
    assert text.startswith("below the limit: probe exact")
    assert "accuracy: 0.7000 < limit 0.7001 (must be at least the limit)" in text
    assert "calibration" not in text


def test_not_overconfident_lets_underconfidence_pass() -> None:
    """A gap of +0.1 fails 0.05; one of -0.1 passes any limit."""
    text = failure(assert_not_overconfident, OVER, 0.05)
    assert "signed gap: 0.100 > limit 0.050" in text
    assert_not_overconfident(UNDER, 0.0)
    assert_not_overconfident(OVER, 0.11)


# --- no regression ------------------------------------------------------------------------------


def test_a_regression_names_component_direction_bins_and_remedy(tmp_path: Path) -> None:
    """The text holds the fired component with its digits, both sides, the table and what to do."""
    store = Baselines(tmp_path)
    store.record(CALIBRATED)
    text = failure(assert_no_regression, OVER, store)
    head, _, rest = text.partition("\n  confidence ")
    assert head.startswith("calibration regressed: probe exact\n")
    assert re.search(
        r"signed gap worsened by 0\.100 \(0\.000 -> 0\.100\); at least (0\.0\d\d) with 95 % "
        r"confidence: \1 > tolerance 0\.020",
        head,
    )
    assert re.search(r"ECE \(15 equal-width bins\) 0\.100 \[.*\n  baseline: ECE .* 0\.000 \[", head)
    assert "over-confident by 0.100" in head
    # In plain words first.
    assert head.lower().index("over-confident by") < head.index("signed gap worsened")
    for name in ("signed gap", "slope", "cross-fitted ECE", "accuracy"):
        assert re.search(rf"^  {name}  +-?\d", head, re.MULTILINE)
    assert "+0.100" in rest
    assert rest.endswith(f"\n\n{REPLACE}")


def test_what_does_not_fail_returns_its_verdict() -> None:
    """Passed and inconclusive return the verdict."""
    assert assert_no_regression(CALIBRATED, CALIBRATED).state is State.PASSED
    few = CALIBRATED.limited(40)
    assert assert_no_regression(few, few).state is State.INCONCLUSIVE


def test_not_comparable_fails_with_the_field() -> None:
    """A hard difference fails, and the text names the field; other predictions have no remedy."""
    logits, labels = four_way(100, 1)
    five = Predictions.from_logits(logits, labels, signature=Signature({"shots": "5"}))
    zero = Predictions.from_logits(logits, labels, signature=Signature({"shots": "0"}))
    text = failure(assert_no_regression, five, zero)
    assert text.startswith("not comparable: probe probabilities")
    assert "shots is 5, the baseline has 0" in text
    assert "to replace" not in text


def test_settings_of_the_call_reach_the_verdict() -> None:
    """Tolerance, alpha and the accuracy guard of the call decide."""
    verdict = assert_no_regression(OVER, CALIBRATED, tolerance=0.2, accuracy_tolerance=0.2)
    assert (verdict.tolerance, verdict.alpha) == (0.2, 0.05)
    assert assert_no_regression(CALIBRATED, CALIBRATED, alpha=0.01).alpha == 0.01
    text = failure(assert_no_regression, OVER, CALIBRATED, tolerance=0.2)
    assert text.startswith("accuracy regressed")
    loose = assert_no_regression(OVER, CALIBRATED, tolerance=0.2, accuracy_tolerance=None)
    assert "accuracy" not in [c.name for c in loose.components]


def test_a_guesser_fails_although_its_ece_is_zero() -> None:
    """Confidence 0.25 and accuracy 0.25 meet any ECE limit, and fail the comparison."""
    guesser = Predictions.from_confidence([0.25] * 2000, [i % 4 == 0 for i in range(2000)])
    assert_ece_below(guesser, 0.001)
    text = failure(assert_no_regression, guesser, CALIBRATED)
    assert text.startswith("accuracy regressed")
    assert "calibration regressed" not in text
    assert_no_regression(guesser, CALIBRATED, accuracy_tolerance=None)


@pytest.mark.parametrize("baseline", ["calibration_baselines", 0.1, None, ([0.5], [1])], ids=repr)
def test_what_is_no_baseline_is_refused(baseline: Any) -> None:
    """A folder name, a number or arrays are no baseline; the error says what is."""
    with pytest.raises(UsageError, match=r"must be Baselines, .* got \w+; .* Baselines\(folder\)"):
        assert_no_regression(CALIBRATED, baseline)


# --- against a store ----------------------------------------------------------------------------


def test_nothing_stored_fails_and_writes_nothing(tmp_path: Path) -> None:
    """Without a record both assertions fail, say where they looked and how to record."""
    store = Baselines(tmp_path / "calibration_baselines")
    for call in (assert_no_regression, assert_ece_below):
        text = failure(call, CALIBRATED, store)
        assert text.startswith("no baseline: probe exact")
        assert f"nothing is stored at {store.path_of('exact')}." in text
        assert text.endswith("to record it:\n  Baselines(folder).record(predictions)")
    assert not list(tmp_path.iterdir())


def test_a_stored_baseline_is_compared(tmp_path: Path) -> None:
    """What was recorded passes against itself; what is worse fails, by store or by record."""
    store = Baselines(tmp_path)
    store.record(CALIBRATED)
    assert assert_no_regression(CALIBRATED, store).state is State.PASSED
    for baseline in (store, store.load("exact")):
        text = failure(assert_no_regression, OVER, baseline)
        assert text.startswith("calibration regressed")
        assert text.endswith(REPLACE)
    foreign = replace(CALIBRATED, signature=Signature({"shots": "5"}))
    assert failure(assert_no_regression, foreign, store).endswith(REPLACE)


def test_ece_below_a_baseline_is_its_ece_and_the_tolerance(tmp_path: Path) -> None:
    """The limit is the stored ECE plus 0.02, or plus the tolerance of the call."""
    store = Baselines(tmp_path)
    store.record(CALIBRATED)
    text = failure(assert_ece_below, OVER, store)
    assert "ECE (15 equal-width bins): 0.100 > limit 0.020 (must be below the limit)" in text
    assert "baseline: ECE (15 equal-width bins) 0.000" in text
    assert assert_ece_below(OVER, store, tolerance=0.11).limit == pytest.approx(0.11, abs=1e-6)


# --- with a session -----------------------------------------------------------------------------


class FakeSession:
    """A sink that remembers what it saw."""

    def __init__(self, parents: list[tuple[str, Predictions]] | None = None) -> None:
        self.verdicts: list[Verdict] = []
        self.judged: list[Predictions] = []
        self.before: list[Predictions | None] = []
        self.strict = False
        self.errors: list[tuple[AssertionError, list[Result]]] = []
        self.project = Strictness()
        self.at: tuple[OperatingPoint, ...] = ()
        self._parents = parents or []

    verbose = False

    @property
    def width(self) -> int:
        """As wide as usual."""
        return WIDTH

    def named(self, predictions: Predictions) -> Predictions:
        """As they are."""
        return predictions

    def measured(self, predictions: Predictions, verdicts: Sequence[Verdict]) -> None:
        """Keep nothing."""

    def dump(self, predictions: Predictions, before: Predictions | None) -> None:
        """Remember."""
        self.before.append(before)
        self.judged.append(predictions)

    def add(self, verdict: Verdict) -> Result:
        """Remember; fail on inconclusive too, where strict; name the state as remedy."""
        self.verdicts.append(verdict)
        fails = verdict.state.fails or (self.strict and verdict.state is State.INCONCLUSIVE)
        return result_of(verdict, fails=fails, remedy=Remedy("remedy", f"for {verdict.state}"))

    def raised(self, error: AssertionError, failing: Sequence[Result]) -> None:
        """Remember."""
        self.errors.append((error, list(failing)))

    def strictness(self, _: Predictions) -> Strictness:
        """Return the project's strictness."""
        return self.project

    def points(self, _: Predictions) -> tuple[OperatingPoint, ...]:
        """Return the project's operating points."""
        return self.at

    def store(self, baselines: Baselines) -> Baselines:
        """Return the store as it is."""
        return baselines

    def parents(self, _: Predictions) -> list[tuple[str, Predictions]]:
        """Return the parents."""
        return self._parents


@pytest.fixture
def session() -> Iterator[FakeSession]:
    """A session for the assertions of this test."""
    fake = FakeSession()
    before = SINK.set(fake)
    yield fake
    SINK.set(before)


def test_a_session_sees_every_verdict(session: FakeSession) -> None:
    """Passing and failing verdicts are both counted, and the session's remedy ends the text."""
    assert_ece_below(CALIBRATED, 0.5)
    text = failure(assert_ece_below, OVER, 0.05)
    assert [v.state for v in session.verdicts] == [State.PASSED, State.ABOVE_LIMIT]
    assert text.endswith("\n\nremedy:\n  for above_limit")


def test_a_session_may_fail_on_inconclusive(session: FakeSession) -> None:
    """Where the project refuses inconclusive comparisons the assertion raises."""
    few = CALIBRATED.limited(40)
    assert_no_regression(few, few)
    session.strict = True
    assert failure(assert_no_regression, few, few).startswith("inconclusive: probe exact")


def test_settings_of_the_project_count_where_the_call_says_nothing(session: FakeSession) -> None:
    """The call wins over the project, for tolerance and alpha."""
    session.project = Strictness(tolerance=0.3, alpha=0.01, max_undetected=0.4)
    verdict = assert_no_regression(OVER, CALIBRATED, accuracy_tolerance=None)
    assert (verdict.tolerance, verdict.alpha, verdict.state) == (0.3, 0.01, State.PASSED)
    verdict = assert_no_regression(CALIBRATED, CALIBRATED, tolerance=0.05, alpha=0.1)
    assert (verdict.tolerance, verdict.alpha) == (0.05, 0.1)


def test_parent_and_record_are_both_judged(tmp_path: Path, session: FakeSession) -> None:
    """Either can fail, both are counted, and the text names which one it was."""
    store = Baselines(tmp_path)
    store.record(OVER)
    session._parents = [("base", CALIBRATED)]
    text = failure(assert_no_regression, OVER, store)
    assert [v.state for v in session.verdicts] == [State.REGRESSED, State.PASSED]
    assert "parent base: ECE" in text
    assert "baseline: ECE" not in text
    session._parents = [("base", OVER)]
    session.verdicts.clear()
    other = Baselines(tmp_path / "other")
    other.record(CALIBRATED)
    text = failure(assert_no_regression, OVER, other)
    assert [v.state for v in session.verdicts] == [State.PASSED, State.REGRESSED]
    assert "baseline: ECE" in text


def test_with_a_parent_no_record_is_needed(tmp_path: Path, session: FakeSession) -> None:
    """The parent is the comparison: an empty store beside it is no failure."""
    session._parents = [("base", CALIBRATED)]
    verdict = assert_no_regression(CALIBRATED, Baselines(tmp_path))
    assert verdict.reference == "parent base"
    assert len(session.verdicts) == 1


def test_two_failures_are_one_text(tmp_path: Path, session: FakeSession) -> None:
    """When parent and record both fail, one error explains both, with one table."""
    store = Baselines(tmp_path)
    store.record(CALIBRATED)
    session._parents = [("base", CALIBRATED)]
    text = failure(assert_no_regression, OVER, store)
    assert text.count("calibration regressed: probe exact") == 2
    assert text.count("confidence          n   mean    acc     gap") == 1
    assert text.count("remedy:\n  for regressed") == 1


# --- everything ---------------------------------------------------------------------------------


def test_a_failure_is_the_same_byte_for_byte() -> None:
    """The same runs, built anew, fail with the same text."""
    texts = {failure(assert_no_regression, *reversed(two_runs(800, 2, 1.5))) for _ in range(2)}
    assert len(texts) == 1


def test_a_failure_hides_its_own_frames() -> None:
    """A traceback shows the user's line: every frame of ours that raises asks to be hidden."""
    with pytest.raises(AssertionError) as caught:
        assert_ece_below(OVER, 0.01)
    frames = [e for e in caught.traceback if "pytest_calibration" in str(e.path)]
    assert frames
    assert all(e.frame.f_locals.get("__tracebackhide__") for e in frames)


def test_public_names_are_all_there() -> None:
    """Every name the package promises can be imported from it."""
    for name in pytest_calibration.__all__:
        assert getattr(pytest_calibration, name) is not None


# --- at an operating point ----------------------------------------------------------------------


def sure(answered: int, wrong: int, n: int = 1000) -> Predictions:
    """So many answers at 0.95, some of them wrong; the others at 0.5, half right."""
    i = np.arange(n)
    correct = np.where(i < answered, i >= wrong, i % 2 == 0)
    confidence = np.where(i < answered, 0.95, 0.5)
    return Predictions.from_confidence(confidence, correct, probe="quiz")


def test_a_fall_at_the_threshold_fails_whatever_it_is_compared_with(tmp_path: Path) -> None:
    """Predictions, a record or a store: the text names what fell, and the remedy."""
    before, after = sure(500, 25), sure(500, 100)
    store = Baselines(tmp_path)
    store.record(before)
    lead = "precision regressed at 0.9: probe quiz"
    assert failure(assert_no_regression_at, after, before).startswith(lead)
    for baseline in (store, store.load("quiz")):
        text = failure(assert_no_regression_at, after, baseline)
        assert text.startswith(lead)
        assert REPLACE in text
    passed = assert_no_regression_at(before, store)
    assert (passed.state, passed.against) == (State.PASSED, "baseline")
    assert assert_no_regression_at(after, store, tolerance=0.3).state is State.PASSED
    assert assert_no_regression_at(after, store, 0.99).state is State.INCONCLUSIVE
    fewer = sure(300, 15)
    assert "coverage regressed at 0.9" in failure(assert_no_regression_at, fewer, store)
    assert assert_no_regression_at(fewer, store, coverage_tolerance=None).state is State.PASSED


def test_at_a_threshold_nothing_stored_is_no_baseline(tmp_path: Path) -> None:
    """As without a threshold: it fails, and says what records."""
    text = failure(assert_no_regression_at, sure(500, 25), Baselines(tmp_path))
    assert text.startswith("no baseline: probe quiz")
    with pytest.raises(UsageError, match="the baseline must be Baselines"):
        assert_no_regression_at(sure(500, 25), "folder")  # type: ignore[arg-type]


def test_what_fell_at_a_threshold_is_accepted_like_the_rest(tmp_path: Path) -> None:
    """A store that accepts replaces the record, by either assertion."""
    before, after = sure(500, 25), sure(500, 55)
    for k, call in enumerate((assert_no_regression_at, assert_no_regression)):
        Baselines(tmp_path / str(k)).record(before)
        session = FakeSession()
        session.at = (OperatingPoint(0.9),)
        session.project = Strictness(tolerance=0.5, tail=1)
        SINK.set(session)
        settings = {} if k == 0 else {"accuracy_tolerance": None}
        store = Baselines(tmp_path / str(k), policy=Policy(accept="signed off"))
        verdict = call(after, store, **settings)
        SINK.set(None)
        assert verdict.state is State.RECORDED
        assert k == 0 or verdict.cautions[-1] == "precision regressed at 0.9."
        assert store.load("quiz").predictions.correct.sum() == after.correct.sum()


def test_the_points_of_the_project_are_judged_beside_calibration() -> None:
    """One verdict each, after that on calibration; each may fail, and the text names it."""
    before, after = sure(500, 25), sure(500, 55)
    session = FakeSession(parents=[("base", before)])
    session.project = Strictness(tolerance=0.5, tail=1)
    session.at = (OperatingPoint(0.9), OperatingPoint(0.4, tolerance=0.3))
    SINK.set(session)
    text = failure(assert_no_regression, after, before, accuracy_tolerance=None)
    SINK.set(None)
    assert [v.point and v.point.threshold for v in session.verdicts] == [None, 0.9, 0.4] * 2
    assert [v.against for v in session.verdicts] == ["parent"] * 3 + ["other"] * 3
    states = [str(v.state) for v in session.verdicts]
    assert states == ["passed", "regressed", "passed"] * 2
    assert text.startswith("precision regressed at 0.9: probe quiz")
    assert "one of 2 operating points, which share the error level: 0.025." in text


def test_an_explicit_point_takes_the_tolerance_of_the_project_s() -> None:
    """The call's goes before that of ``operating_points:`` at the same threshold."""
    before, after = sure(500, 25), sure(500, 55)
    session = FakeSession()
    session.at = (OperatingPoint(0.9, tolerance=0.2),)
    SINK.set(session)
    assert assert_no_regression_at(after, before).state is State.PASSED
    assert assert_no_regression_at(after, before).tolerance == 0.2
    assert failure(assert_no_regression_at, after, before, tolerance=0.01)
    assert failure(assert_no_regression_at, after, before, 0.8)
    SINK.set(None)


def test_without_points_nothing_changes() -> None:
    """The verdict on calibration is the same, with and without operating points."""
    first, second = two_runs(800, 3, 1.1)
    alone = assert_no_regression(second, first, tolerance=0.2)
    session = FakeSession()
    session.at = (OperatingPoint(0.7, tolerance=0.5, coverage_tolerance=None),)
    SINK.set(session)
    beside = assert_no_regression(second, first, tolerance=0.2)
    SINK.set(None)
    # Numbers that are NaN equal nothing.
    assert repr(alone) == repr(beside)
    assert alone.at_points == ()
    assert len(beside.at_points) == 1
