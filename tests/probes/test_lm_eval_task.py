"""Tasks of lm-eval as probes, against real runs of lm-eval."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from harness_runs import CHOICES, TOKENIZERS, harness_run

from pytest_calibration import ece
from pytest_calibration.models.loading import LazyModel, load_model
from pytest_calibration.probes.lm_eval_task import LmEvalTask
from pytest_calibration.readers.lm_eval import read

pytestmark = [pytest.mark.data, pytest.mark.torch]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where runs of lm-eval lie."""
    return tmp_path_factory.getbasetemp()


@pytest.fixture(params=TOKENIZERS)
def run(request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[LazyModel, Path, Path]]:
    """A model with a tokenizer of each sort, the tasks, and what lm-eval wrote."""
    model, tasks, out = harness_run(folder, request.param)
    loaded = load_model(str(model))
    yield loaded, tasks, out
    loaded.release()


def logged_requests(out: Path) -> list[tuple[tuple[str, str], float, bool]]:
    """Return what lm-eval asked and got: arguments, log-probability, whether it is greedy."""
    found = []
    for file in sorted(out.glob("*/samples_*.jsonl")):
        for row in map(json.loads, file.read_text("utf-8").splitlines()):
            for i, ((logprob, greedy),) in enumerate(row["resps"]):
                arguments = row["arguments"][f"gen_args_{i}"]
                pair = arguments["arg_0"], arguments["arg_1"]
                found.append((pair, float(logprob), greedy == "True"))
    return found


def test_log_probabilities_are_those_of_the_harness(run: tuple[LazyModel, Path, Path]) -> None:
    """Every request, those without a prompt too, gets the harness's score and greedy flag.

    The harness adds the tokens of an option in float32, whose relative precision is 6e-8.
    """
    model, _, out = run
    pairs, logprobs, greedy = zip(*logged_requests(out), strict=True)
    answers = model.loglikelihood(pairs)
    assert any(not context for context, _ in pairs)
    assert np.allclose([a.logprob for a in answers], logprobs, rtol=1e-6, atol=2e-6)
    assert [a.is_greedy for a in answers] == list(greedy)


@pytest.mark.parametrize("task", CHOICES)
def test_predictions_are_those_of_the_harness(run: tuple[LazyModel, Path, Path], task: str) -> None:
    """A probe and a run of lm-eval give the same items, probabilities, outcomes and ECE."""
    model, tasks, out = run
    asked = LmEvalTask(task=task, include_path=tasks).run(model)
    (logged,) = read(out, task=task)
    assert asked.probe == logged.probe == f"lm_eval:{task}"
    assert np.array_equal(asked.item_ids, logged.item_ids)
    assert np.abs(asked.probabilities - logged.probabilities).max() < 1e-6
    assert np.array_equal(asked.correct, logged.correct)
    assert abs(ece(asked) - ece(logged)) < 1e-6
    assert asked.signature.hard == logged.signature.hard
