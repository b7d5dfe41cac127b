"""A vLLM server as a process of its own: started, asked what it counted, stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families
from request_log import VARIABLE, RequestLog

PYTHON: Final = "CALIBRATION_VLLM_PYTHON"
"""Environment variable: the Python that has vLLM; by default the one that runs the tests."""
BLOCK: Final = 32
"""Tokens of a block of the prefix cache, the fewest on a CPU: whole blocks are served from it."""
DEADLINE: Final = 900.0
"""Seconds after which a server that does not come up is given up."""
SETTINGS: Final = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
}
EXAMPLE: Final = Path(__file__).parent.parent.parent / "example_project"


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes:
        url: of its completions, up to ``/v1``.
        model: the id under which it serves its model.
        folder: of its logs.
        session: number of the session that all its processes belong to.
    """

    url: str
    model: str
    folder: Path
    session: int

    @property
    def spec(self) -> str:
        """What ``--calibration-model`` takes."""
        return f"{self.url}#{self.model}"

    @property
    def root(self) -> str:
        """Its address without ``/v1``."""
        return self.url.removesuffix("/v1")

    def count(self, name: str, **labels: str) -> float:
        """Return one of the counters of ``/metrics``, summed over its other labels."""
        with urllib.request.urlopen(f"{self.root}/metrics", timeout=60) as reply:
            text = reply.read().decode("utf-8")
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def prefix_cache(self) -> tuple[float, float]:
        """Return how many tokens of prompts its prefix cache was asked for, and had."""
        return (
            self.count("vllm:prefix_cache_queries_total"),
            self.count("vllm:prefix_cache_hits_total"),
        )

    def cpu_seconds(self) -> float:
        """Return the processor seconds of all its processes (Linux)."""
        ticks = 0
        for file in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it may end meanwhile
                # After the name in brackets: state, parent, group, session; 14 and 15 are ticks.
                fields = file.read_text("utf-8").rpartition(")")[2].split()
                if int(fields[3]) == self.session:
                    ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def answered(self, since: int = 0) -> list[dict[str, Any]]:
        """Return the completions that it answered, in order, but for so many first ones."""
        file = self.folder / "requests.jsonl"
        lines = file.read_text("utf-8").splitlines()[since:] if file.is_file() else []
        return [json.loads(line) for line in lines]


Serve = Callable[..., Server]
"""(checkpoint, id, *arguments of vLLM) → its server."""


@contextmanager
def serving(model: Path, folder: Path, name: str, *arguments: str) -> Iterator[Server]:
    """Serve a checkpoint in float32 while the context lasts.

    Args:
        model: the checkpoint.
        folder: an empty one, for logs.
        name: the id of the model.
        arguments: more of vLLM.

    Raises:
        RuntimeError: it did not come up; with the end of its log.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [os.environ.get(PYTHON, sys.executable), "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(model), "--served-model-name", name, "--dtype", "float32"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    command += ["--block-size", str(BLOCK), "--disable-uvicorn-access-log"]
    command += ["--middleware", f"{RequestLog.__module__}.{RequestLog.__qualname__}", *arguments]
    # Of what the tests are run with, only this folder concerns the server: the middleware.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    environment |= {
        **SETTINGS,
        "PYTHONPATH": str(Path(__file__).parent),
        VARIABLE: str(folder / "requests.jsonl"),
    }
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # It leads a session of its own.
    server = Server(f"http://127.0.0.1:{port}/v1", name, folder, process.pid)
    try:
        _wait(process, server, log)
        yield server
    finally:
        _stop(process)


def _wait(process: subprocess.Popen[bytes], server: Server, log: Path) -> None:
    until = time.monotonic() + DEADLINE
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{server.root}/health", timeout=10):
                return
        except OSError:
            time.sleep(0.5)
    end = "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-40:])
    raise RuntimeError(f"no server at {server.url} (exit status {process.returncode}):\n{end}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a server and the processes that it started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            continue
