"""The numbers of a session by model and probe."""

from __future__ import annotations

from dataclasses import replace

import pytest
from samples import predictions, results

from pytest_calibration.gate.verdict import compare, judge
from pytest_calibration.measurement import measure
from pytest_calibration.metrics import METRICS, accuracy, mean_confidence, signed_gap
from pytest_calibration.reports.flat import UNNAMED, flat_metrics
from pytest_calibration.reports.model import Result, Results, result_of

P = predictions()


def session(*made: Result) -> Results:
    """Return a session of these verdicts."""
    return Results("1", "now", len(made), True, made)


def test_every_leaf_is_a_number() -> None:
    """Model, probe, name; what does not apply is not there, and nothing is null."""
    for detailed in (True, False):
        for probes in flat_metrics(results(detailed=detailed)).values():
            for numbers in probes.values():
                assert {type(value) for value in numbers.values()} <= {int, float}


def test_every_pair_of_model_and_probe_is_there_once() -> None:
    """In the order in which they come."""
    given = results()
    pairs = [(m, p) for m, probes in flat_metrics(given).items() for p in probes]
    assert sorted(pairs) == sorted({(r.model, r.probe) for r in given.results})


def test_a_verdict_with_details_gives_every_metric() -> None:
    """Each is the measurement of that name, beside the number of items and bins."""
    numbers = flat_metrics(session(result_of(compare(P, P))))["base"]["support-mcq"]
    assert set(numbers) == {*METRICS, "items", "bins", "failures"}
    for name in METRICS:
        assert numbers[name] == measure(P, name).value
    assert (numbers["items"], numbers["bins"], numbers["failures"]) == (P.n, 15, 0)


def test_verdicts_without_details_are_put_together() -> None:
    """Each gives what it measured; accuracy, confidence and gap are always known."""
    made = [result_of(judge(measure(P, name), 0.9), detailed=False) for name in ("brier", "ece")]
    numbers = flat_metrics(session(*made))["base"]["support-mcq"]
    assert numbers == {
        "items": P.n,
        "failures": 0,
        "brier": measure(P, "brier").value,
        "ece": measure(P, "ece").value,
        "accuracy": accuracy(P),
        "mean_confidence": mean_confidence(P),
        "signed_gap": pytest.approx(signed_gap(P)),
    }


def test_the_numbers_are_of_the_most_items() -> None:
    """A probe judged on a part and on all of its items stands with the numbers of all of them."""
    few = P.take(slice(0, 100))  # type: ignore[arg-type]
    made = [result_of(compare(p, p)) for p in (few, P, few)]
    assert flat_metrics(session(*made))["base"]["support-mcq"]["items"] == P.n
    assert flat_metrics(session(*made))["base"]["support-mcq"]["ece"] == measure(P).value


def test_numbers_of_one_binning_stand_together() -> None:
    """A limit on other bins, without details, does not stand beside the bins of the others."""
    other = result_of(judge(measure(P, bins=10), 0.9), detailed=False)
    numbers = flat_metrics(session(other, result_of(compare(P, P))))["base"]["support-mcq"]
    assert numbers["bins"] == 15
    assert numbers["ece"] == measure(P, bins=15).value != measure(P, bins=10).value


def test_failures_are_counted() -> None:
    """Of all verdicts on a model and probe, those that fail."""
    made = result_of(compare(P, P), detailed=False)
    three = session(made, replace(made, fails=True), replace(made, fails=True))
    assert flat_metrics(three)["base"]["support-mcq"]["failures"] == 2


def test_a_model_without_a_name_has_one() -> None:
    """An empty key would be lost where keys are joined by dots."""
    made = replace(result_of(compare(P, P), detailed=False), model="")
    assert list(flat_metrics(session(made))) == [UNNAMED]
    assert flat_metrics(session()) == {}
