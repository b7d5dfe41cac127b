"""Runs of pytest against vLLM: requests counted at the server, killed runs, redeployed servers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from switch import switch
from vllm_server import EXAMPLE, Serve, Server

pytestmark = [pytest.mark.vllm, pytest.mark.torch]
pytest.importorskip("torch")

N: Final = 600
IN_FLIGHT: Final = 16
"""Requests that are under way at once, at most."""
ASKED_AGAIN: Final = 16
"""Questions of a call that are asked again, at most, to see that they get the same answer."""
PROJECT: Final = """
def test_numbers(calibration, calibration_baseline):
    from pytest_calibration import assert_no_regression

    assert_no_regression(calibration.run("numbers"), calibration_baseline)
"""
CONFIG: Final = """
probes:
  numbers: {kind: multiple_choice, path: questions.jsonl, shots: 5, shots_path: shots.jsonl}
"""


@pytest.fixture
def project(tmp_path: Path, questions: Path) -> Path:
    """A project with one probe of many questions."""
    folder = tmp_path / "project"
    shutil.copytree(questions, folder)
    (folder / "calibration.yaml").write_text(CONFIG, "utf-8")
    (folder / "test_numbers.py").write_text(PROJECT, "utf-8")
    # Of its own, also where tox names another.
    (folder / "pytest.ini").write_text("[pytest]\ncache_dir = .pytest_cache\n", "utf-8")
    return folder


def start(project: Path, spec: str, *arguments: str) -> subprocess.Popen[str]:
    """Start pytest in a project."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", f"--calibration-model={spec}", *arguments],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Return what a run of pytest printed."""
    return process.communicate(timeout=600)[0]


def prompts(server: Server, since: int = 0) -> Counter[tuple[int, ...]]:
    """Return the prompts that a server answered, as tokens, and how often each."""
    out: Counter[tuple[int, ...]] = Counter()
    for request in server.answered(since):
        prompt = request["prompt"]
        several = prompt if prompt and isinstance(prompt[0], list) else [prompt]
        out.update(tuple(one) for one in several)
    return out


def of_questions(found: Counter[tuple[int, ...]]) -> Counter[tuple[int, ...]]:
    """Return those of the prompts that are long: solved examples and a question."""
    return Counter({prompt: n for prompt, n in found.items() if len(prompt) > 150})


def wait_for(server: Server, since: int, n: int, process: subprocess.Popen[str]) -> None:
    """Wait until a server has answered so many questions of a run."""
    while of_questions(prompts(server, since)).total() < n:
        if process.poll() is not None:
            raise AssertionError(f"it ended before {n} answers:\n{finish(process)}")
        time.sleep(0.05)


def test_one_request_a_question_and_the_shots_from_the_prefix_cache(
    policy: Server, project: Path, key: str
) -> None:
    """Every question is one request, of which the server's cache has 70 % of the tokens and more.

    A few are asked again, to see that they get the same answer.

    A second run asks no question. The key of the server is in nothing that is printed or written.
    """
    policy_before = len(policy.answered())
    done, cache = policy.count("vllm:request_success_total"), policy.prefix_cache()
    said = finish(start(project, policy.spec, "--calibration-record"))
    assert "1 recorded" in said, said
    asked = prompts(policy, policy_before)
    questions = of_questions(asked)
    assert len(questions) == N
    assert N < questions.total() <= N + ASKED_AGAIN
    # What is left is the handshake, before the run and after it.
    assert asked.total() - questions.total() <= 40
    assert policy.count("vllm:request_success_total") - done == asked.total()
    queries, hits = (b - a for a, b in zip(cache, policy.prefix_cache(), strict=True))
    assert hits >= 0.7 * queries

    before = len(policy.answered())
    again = finish(start(project, policy.spec, "--calibration-report=report.json"))
    assert "1 passed" in again
    assert of_questions(prompts(policy, before)).total() == 0
    files = [file.read_bytes() for file in project.rglob("*") if file.is_file()]
    assert not any(key.encode() in content for content in [said.encode(), again.encode(), *files])


def test_a_killed_run_repeats_no_answered_request(policy: Server, project: Path) -> None:
    """Killed (-9) in the middle: the next run asks what was left, and records as a whole run does.

    Answers on their way when the process died are lost with it; they are at most those of the
    requests under way.
    """
    before = len(policy.answered())
    process = start(project, policy.spec, "--calibration-record")
    wait_for(policy, before, N // 3, process)
    os.kill(process.pid, signal.SIGKILL)
    finish(process)
    first = settled(policy, before)
    assert N // 3 <= first.total() < N
    middle = len(policy.answered())
    said = finish(start(project, policy.spec, "--calibration-record"))
    assert "1 recorded" in said, said
    second = of_questions(prompts(policy, middle))
    assert len(first | second) == N
    assert second.total() <= len(second) + ASKED_AGAIN
    assert len(first & second) <= IN_FLIGHT


def settled(server: Server, since: int) -> Counter[tuple[int, ...]]:
    """Return the questions that were answered, when no more answers come."""
    found = of_questions(prompts(server, since))
    while True:
        time.sleep(1.0)
        again = of_questions(prompts(server, since))
        if again == found:
            return found
        found = again


def test_a_server_redeployed_with_another_model_is_not_trusted(
    policy: Server, redeployed: Server, project: Path
) -> None:
    """In the middle of a run another model answers under the same id: no number comes of it.

    Nothing is recorded, and with the first model back the run gives what it gives without a switch.
    """
    ports = [urlsplit(server.url).port or 0 for server in (policy, redeployed)]
    with switch(ports[0]) as balancer:
        spec = f"http://127.0.0.1:{balancer.port}/v1#{policy.model}"
        before = len(policy.answered())
        process = start(project, spec, "--calibration-record")
        wait_for(policy, before, N // 4, process)
        balancer.to(ports[1])
        said = finish(process)
        assert process.returncode == 1
        assert "UntrustedServerError" in said
        assert not list(project.rglob("calibration_baselines/*"))
        balancer.to(ports[0])
        assert "1 recorded" in finish(start(project, spec, "--calibration-record"))
    # Nothing that the other model said has been kept.
    assert "1 passed" in finish(start(project, policy.spec, "--calibration-no-cache"))


@pytest.mark.parametrize("mode", ["processed_logprobs", "raw_logits", "processed_logits"])
def test_anything_but_raw_log_probabilities_is_refused(
    mode: str, serve: Serve, chat_checkpoint: Path, project: Path
) -> None:
    """Logits, and what is left after the temperature, are no log-probabilities of the model."""
    server = serve(chat_checkpoint, "policy", "--logprobs-mode", mode)
    said = finish(start(project, server.spec, "--calibration-record"))
    assert "UntrustedServerError" in said
    assert of_questions(prompts(server)).total() == 0
    assert not list(project.rglob("calibration_baselines/*"))


# --- the example ---------------------------------------------------------------------------------


def tuned(method: str, folder: Path) -> Path:
    """Fine-tune the example's base; an adapter is merged into the weights, for the server."""
    target = folder / method
    script = [sys.executable, str(EXAMPLE / "finetune.py")]
    subprocess.run([*script, "--method", method, "--output", str(target)], check=True)
    if method != "lora":
        return target
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    merged = folder / "merged" / method
    AutoPeftModelForCausalLM.from_pretrained(target).merge_and_unload().save_pretrained(merged)
    AutoTokenizer.from_pretrained(EXAMPLE / "checkpoints" / "base").save_pretrained(merged)
    return merged


def gate(spec: str, folder: Path) -> list[dict[str, Any]]:
    """Run the example's tests on a model; return the results of the report."""
    report = folder / "report.json"
    options = [f"--calibration-model={spec}", f"--calibration-report={report}"]
    subprocess.run(
        [sys.executable, "-m", "pytest", str(EXAMPLE), "-p", "no:cacheprovider", *options],
        check=False,
        capture_output=True,
    )
    found: list[dict[str, Any]] = json.loads(report.read_text("utf-8"))["results"]
    return found


CHECKPOINTS: Final[dict[str, Callable[[Path], Path]]] = {
    "base": lambda _: EXAMPLE / "checkpoints" / "base",
    "lora": lambda folder: tuned("lora", folder),
    "full": lambda folder: tuned("full", folder),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_example_through_vllm_has_the_local_verdicts(
    name: str, serve: Serve, tmp_path: Path
) -> None:
    """Base and LoRA pass, the full fine-tune is caught, with the same numbers to 1e-4."""
    checkpoint = CHECKPOINTS[name](tmp_path)
    server = serve(checkpoint, name)
    local, remote = gate(str(checkpoint), tmp_path), gate(server.spec, tmp_path)
    assert [r["state"] for r in remote] == [r["state"] for r in local]
    assert {r["state"] for r in remote if r["reference"] == "baseline"} == {
        "regressed" if name == "full" else "passed"
    }
    for ours, theirs in zip(local, remote, strict=True):
        assert (theirs["probe"], theirs["n"]) == (ours["probe"], ours["n"])
        assert theirs["number"]["value"] == pytest.approx(ours["number"]["value"], abs=1e-4)
        assert theirs["accuracy"] == ours["accuracy"]
        assert theirs["mean_confidence"] == pytest.approx(ours["mean_confidence"], abs=1e-4)
