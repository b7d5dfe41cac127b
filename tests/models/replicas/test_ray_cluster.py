"""Replicas on real Ray clusters of this machine.

Each test ends what it started: ``ps`` shows no process of Ray after it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any, Final

import numpy as np
import pytest

from pytest_calibration.errors import CalibrationError, ModelError, TokenBoundaryError
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.loading import load_model
from pytest_calibration.models.replicas.replicated import AGAIN

pytestmark = [
    pytest.mark.ray,
    pytest.mark.torch,
    # Of Ray's own processes and sockets, which it closes when it likes.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray.*"),
]
EXAMPLE: Final = Path(__file__).parents[3] / "example_project"
SHOTS: Final = "The capital of France is Paris. The capital of Italy is"
TEXTS: Final = [f"{SHOTS}{end}" for end in (" Rome.", " Oslo.", " Bern.", "", " the moon.")]


def processes_of_ray() -> dict[int, str]:
    """Return the processes of Ray on this machine, by number."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            state = (folder / "stat").read_text("utf-8").rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and ("ray::" in title or "/ray/core/src/ray/" in title):
            found[int(folder.name)] = title
    return found


def until(condition: Callable[[], Any], seconds: float = 300) -> Any:
    """Wait for something to be true, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it never came")


@pytest.fixture(autouse=True)
def _ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin without a cluster, and leave nothing running."""
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = processes_of_ray()
    yield
    ray.shutdown()
    until(lambda: not processes_of_ray().keys() - before.keys())


@pytest.fixture
def two_machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of two nodes with a core each, as ``RAY_ADDRESS`` names it."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    # First this process, or the head would stay.
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return a function that writes a module of functions from texts, and names it."""

    def written(code: str) -> str:
        (tmp_path / "my_service.py").write_text(code, "utf-8")
        return "my_service:predict"

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return written


def test_two_replicas_answer_as_one_process(neox: Path, tmp_path: Path) -> None:
    """The same scores; kept answers serve both, and need no cluster."""
    import ray

    options = [[" a", " the moon", " b"][: 2 + i % 2] for i in range(len(TEXTS))]

    def every_other(i: int, spans: Any) -> Any:
        return np.arange(len(spans))[i % 2 :: 2]

    def answers(model: Any) -> list[Any]:
        found = model.next_token(TEXTS, choose=every_other)
        return [*model.option_logprobs(TEXTS, options), *(one.target_logprob for one in found)]

    one = answers(load_model(str(neox)))
    cache, handler = Cache(tmp_path / "kept"), signal.getsignal(signal.SIGTERM)
    model = load_model(str(neox), cache=cache, replicas=2)
    for found, expected in zip(answers(model), one, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert any("by 2 replicas on 1 machine" in note for note in model.notes)
    # Ray would let a run of tests survive it.
    assert signal.getsignal(signal.SIGTERM) == handler
    with pytest.raises(TokenBoundaryError):
        model.option_logprobs(["The capita"], [["l", "x"]])
    model.release()
    ray.shutdown()
    again = load_model(str(neox), cache=Cache(tmp_path / "kept"), replicas=2)
    for found, expected in zip(answers(again), one, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (again.use.loads, ray.is_initialized()) == (0, False)


def gate(report: Path, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Run the tests of the example project; return exit code, verdicts and what was printed."""
    command = [
        *(sys.executable, "-m", "pytest", str(EXAMPLE), "-p", "no:cacheprovider"),
        *("--calibration-model", str(EXAMPLE / "checkpoints" / "base")),
        *(f"--calibration-report={report}", "--calibration-no-cache", *arguments),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=EXAMPLE)
    assert report.is_file(), run.stdout + run.stderr
    return run.returncode, json.loads(report.read_text("utf-8"))["results"], run.stdout


def test_the_example_gets_the_same_verdicts(tmp_path: Path, two_machines: Any) -> None:
    """On a cluster of two nodes, one replica on each, of which one is killed while it answers."""
    local = gate(tmp_path / "local.json")
    killed: list[int] = []

    def kill_one() -> None:
        def asked() -> list[int]:
            return [pid for pid, title in processes_of_ray().items() if "Replica.ask" in title]

        killed.append(until(asked)[0])
        os.kill(killed[0], signal.SIGKILL)

    thread = Thread(target=kill_one)
    thread.start()
    replicated = gate(tmp_path / "replicated.json", "--calibration-replicas=2")
    thread.join()
    assert len(killed) == 1
    assert local[0] == replicated[0] == 0, replicated[2]
    assert "2 replicas on" in replicated[2]
    assert AGAIN in replicated[2]
    assert len(local[1]) == len(replicated[1]) == 4
    for one, other in zip(local[1], replicated[1], strict=True):
        for exact in ("test", "state", "n", "accuracy"):
            assert one[exact] == other[exact]
        assert one["mean_confidence"] == pytest.approx(other["mean_confidence"], abs=1e-6)
        assert one["number"]["value"] == pytest.approx(other["number"]["value"], abs=1e-5)


SLOW = """
import os, pathlib, time

def predict(texts):
    pathlib.Path(f"{os.getpid()}.asked").touch()
    time.sleep(0.05 * len(texts))
    return [[len(text) / 100, 1 - len(text) / 100] for text in texts]
"""


def test_a_killed_replica_loses_nothing(service: Callable[[str], str], tmp_path: Path) -> None:
    """It is started again, and what it had is asked again; the run says so."""
    model = load_model(service(SLOW), replicas=2)
    model.load()

    def kill_one() -> None:
        asked = until(lambda: sorted(tmp_path.glob("*.asked")))
        os.kill(int(asked[0].stem), signal.SIGKILL)

    thread = Thread(target=kill_one)
    thread.start()
    table = model.class_probabilities(["x" * n for n in range(40)])
    thread.join()
    np.testing.assert_allclose(table[:, 0] * 100, range(40))
    assert AGAIN in model.notes
    model.release()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os\ndef predict(texts): os._exit(1)", "a replica died 4 times"),
        ("def predict(texts): raise KeyError('no such word')", "a replica failed .*no such word"),
        ("import os\nif os.getpid() != HERE: raise OSError('gone')", "my_service cannot be import"),
        ("def predict(texts): return [[0.5, 0.5]] * 3", "returned an array of shape"),
    ],
)
def test_what_fails_is_told_in_a_sentence(
    service: Callable[[str], str], code: str, said: str
) -> None:
    """A replica that always dies, that raises, that cannot load its model, or answers wrongly."""
    model = load_model(service(code.replace("HERE", str(os.getpid()))), replicas=1)
    with pytest.raises(ModelError, match=said):
        model.class_probabilities(["a", "b"])
    model.release()


def test_more_replicas_than_cores(service: Callable[[str], str]) -> None:
    """They would wait for ever, so they are refused."""
    n = (os.cpu_count() or 1) + 1
    with pytest.raises(ModelError, match=rf"{n} replicas and {n - 1} CPUs? in the Ray cluster"):
        load_model(service(SLOW), replicas=n).load()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:9", "no Ray cluster can be used there"),
        ("head", "no Ray cluster can be used there"),
        ("head:port", "no Ray cluster can be used there"),
        ("ray://127.0.0.1:10001", "is of the Ray Client"),
    ],
)
def test_an_address_without_a_cluster(
    address: str, said: str, service: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named, and what to do."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(CalibrationError, match=f"RAY_ADDRESS='{address}'.*{said}"):
        load_model(service(SLOW), replicas=1).load()


def test_a_busy_cluster_is_waited_for(
    service: Callable[[str], str], two_machines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a while, and then said; nothing is reserved any longer."""
    import ray

    from pytest_calibration.models.replicas import cluster

    monkeypatch.setattr(cluster, "PATIENCE", 1.0)
    first = load_model(service(SLOW), replicas=2)
    first.load()
    with pytest.raises(ModelError, match="no room for 2 replicas of 1 CPU within 1 seconds"):
        load_model(service(SLOW), replicas=2).load()
    first.release()
    monkeypatch.setattr(cluster, "PATIENCE", 30.0)
    second = load_model(service(SLOW), replicas=2)
    assert len(second.class_probabilities(["a"] * 3)) == 3
    second.release()
    until(lambda: ray.available_resources().get("CPU") == 2)
    # Answers that are kept serve a run without replicas, too, unless the machines differ.
    assert cluster.environments() == []
    monkeypatch.setattr(cluster, "_environment", lambda: f"machine {os.getpid()}")
    assert len(cluster.environments()) == 2


def test_a_killed_run_leaves_no_replica(service: Callable[[str], str], tmp_path: Path) -> None:
    """Ray notices that the process which started it is gone; two agents of its own may stay."""
    service(SLOW)
    before = processes_of_ray()
    code = "load_model('my_service:predict', replicas=1).class_probabilities(['x'] * 2000)"
    with subprocess.Popen(
        [sys.executable, "-c", f"from pytest_calibration import load_model\n{code}"]
    ) as run:
        until(lambda: [*tmp_path.glob("*.asked")])
        assert processes_of_ray().keys() - before.keys()
        run.kill()

    def left() -> dict[int, str]:
        return {pid: title for pid, title in processes_of_ray().items() if pid not in before}

    until(lambda: all("Agent" in title for title in left().values()))
    for pid in left():
        os.kill(pid, signal.SIGKILL)
