"""Ray: the cluster, what each replica gets of it, and the pool of replicas.

The cluster is the one of ``RAY_ADDRESS``, or the one this process is connected to already, or else
Ray is started on this machine for as long as the process lives.
"""

from __future__ import annotations

import os
import platform
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from pytest_calibration.errors import CalibrationError, ModelError
from pytest_calibration.models.backends import ModelSpec
from pytest_calibration.models.backends.transformers.environment import current_environment
from pytest_calibration.models.digests import Digest, code_digest
from pytest_calibration.models.replicas.replica import Facts, Home, Replica
from pytest_calibration.models.settings import BackendSettings
from pytest_calibration.text.visible import quoted, visible

ADDRESS: Final = "RAY_ADDRESS"
RESTARTS: Final = 3
"""How often a replica that dies is started again, and a question that it had is asked again."""
PATIENCE: Final = 300.0
"""Seconds that a busy cluster is waited for."""
_CONNECT_SECONDS: Final = 10.0
# Answers are small: Ray would reserve a third of the memory for them.
_STORE_BYTES: Final = 256 << 20


@contextmanager
def explained() -> Iterator[None]:
    """Raise what Ray raises as ModelError, in one sentence; what a replica raised as it was."""
    import ray

    try:
        yield
    except ray.exceptions.RayTaskError as problem:
        if isinstance(problem.cause, CalibrationError):
            raise problem.cause from None
        raise ModelError(f"a replica failed ({_first_line(problem.cause)}).") from problem
    except ray.exceptions.ActorDiedError as problem:
        if problem.actor_init_failed:
            raise ModelError(
                f"a replica cannot be started ({_first_line(problem)}); install the same packages "
                "on every machine of the Ray cluster."
            ) from problem
        raise ModelError(
            f"a replica died {RESTARTS + 1} times ({_first_line(problem)}); if its machine has too "
            "little memory for the model, use fewer replicas or a smaller dtype."
        ) from problem
    except ray.exceptions.RayError as problem:
        raise ModelError(f"the Ray cluster failed ({_first_line(problem)}).") from problem


def connect() -> None:
    """Connect to the cluster.

    Raises:
        ModelError: there is none at ``RAY_ADDRESS``.
    """
    import ray

    if ray.is_initialized():
        return
    address = os.environ.get(ADDRESS) or "local"
    if "://" in address:
        raise ModelError(
            f"{ADDRESS}={quoted(address)} is of the Ray Client, which replicas cannot be reached "
            "through; run pytest on a machine of the cluster, with the address of its head "
            "(host:6379)."
        )
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
    options = own if address == "local" else {}
    try:
        host, separator, port = address.rpartition(":")
        if separator:
            # Ray itself would try for minutes.
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
        with warnings.catch_warnings(), _same_handler():
            warnings.simplefilter("ignore")
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except Exception as problem:  # Ray raises many kinds: of connections, versions, ports
        what = "Ray cannot be started here"
        if address != "local":
            what = f"{ADDRESS}={quoted(address)}: no Ray cluster can be used there"
        raise ModelError(
            f"{what} ({_first_line(problem)}); start one with `ray start --head`, or unset "
            f"{ADDRESS} for one on this machine."
        ) from problem


@contextmanager
def _same_handler() -> Iterator[None]:
    """Keep what SIGTERM does: Ray turns it into SystemExit, which a run of tests survives."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def environments() -> list[str]:
    """Return digests of what answers depend on, of the machines of the cluster.

    Empty where that is what they depend on in this process, so that kept answers serve both.

    Raises:
        ModelError: there is no cluster at ``RAY_ADDRESS``.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if not ray.is_initialized() and not os.environ.get(ADDRESS):
        return []
    connect()
    with explained():
        here = ray.get_runtime_context().get_node_id()
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        if nodes == [here]:
            return []
        asked = ray.remote(_environment)
        places = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
        found = ray.get(
            [asked.options(num_cpus=0, scheduling_strategy=place).remote() for place in places]
        )
    return [] if {*found} == {_environment()} else sorted({*found})


def _environment() -> str:
    return Digest(current_environment()).text()


@dataclass(frozen=True)
class Share:
    """What each replica gets.

    Attributes:
        cpus: cores.
        gpus: GPUs.
    """

    cpus: int
    gpus: int = 0

    def __str__(self) -> str:
        parts = [(self.gpus, "GPU"), (self.cpus, "CPU")]
        return " and ".join(f"{n} {name}{'s' * (n > 1)}" for n, name in parts if n)


def share(
    nodes: Sequence[tuple[int, int]], replicas: int, device: str = "auto", *, wide: bool = False
) -> Share:
    """Return the largest equal share of a cluster, each on one machine.

    A replica on a GPU gets one GPU, or its share of them where a model is spread over several, and
    one core. Any other gets its share of the cores.

    Args:
        nodes: cores and GPUs of each machine.
        replicas: how many replicas there are.
        device: what they run on, as the settings of a model name it.
        wide: whether a model is spread over several GPUs.

    Raises:
        ModelError: there are fewer cores or GPUs than replicas, or none.
    """
    cpus, gpus = ([node[i] for node in nodes] for i in (0, 1))
    kind = device.partition(":")[0]
    if kind == "cuda" or (kind == "auto" and any(gpus)):
        each = _largest(gpus, replicas)
        if not each:
            raise ModelError(
                f"{_count(replicas, 'replica')} and {_count(sum(gpus), 'GPU')} in the Ray cluster: "
                "each replica takes a GPU; use fewer replicas, more machines, or device cpu."
            )
        return Share(1, each if wide else 1)
    each = _largest(cpus, replicas)
    if not each:
        raise ModelError(
            f"{_count(replicas, 'replica')} and {_count(sum(cpus), 'CPU')} in the Ray cluster: "
            "each replica takes a CPU; use fewer replicas or more machines."
        )
    return Share(each)


def _largest(sizes: Sequence[int], replicas: int) -> int:
    """Return the largest number of which every replica can have as many on one machine."""
    most = max(sizes, default=0)
    fits = (n for n in range(most, 0, -1) if sum(size // n for size in sizes) >= replicas)
    return next(fits, 0)


class Pool:
    """Replicas of one model.

    Args:
        spec: the model; a directory by its whole path.
        settings: how each replica loads it.
        replicas: how many.
        fingerprint: returns that of the model as this machine sees it; called where there are
            several machines.

    Attributes:
        size: how many there are.
        share: what each has of the cluster.

    Raises:
        ModelError: there is no cluster, or no room in it.
    """

    def __init__(
        self,
        spec: ModelSpec,
        settings: BackendSettings,
        replicas: int,
        fingerprint: Callable[[], str],
    ) -> None:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        connect()
        self.size = replicas
        with explained():
            resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            nodes = [(int(one.get("CPU", 0)), int(one.get("GPU", 0))) for one in resources]
            wide = "device_map" in getattr(settings, "arguments", {})
            self.share = share(nodes, replicas, getattr(settings, "device", "auto"), wide=wide)
            # Files may differ between machines.
            own = fingerprint() if len(nodes) > 1 else ""
            home = Home(platform.node(), code_digest(), tuple(sys.path), own)
            self._place = self._placed()
            self._actors = [
                ray.remote(Replica)
                .options(
                    num_cpus=self.share.cpus,
                    num_gpus=self.share.gpus,
                    max_restarts=RESTARTS,
                    max_task_retries=RESTARTS,
                    scheduling_strategy=PlacementGroupSchedulingStrategy(self._place, i),
                )
                .remote(spec, settings, home)
                for i in range(replicas)
            ]

    def _placed(self) -> Any:
        """Reserve the shares of all replicas, on as many machines as there are."""
        import ray

        each = {"CPU": self.share.cpus, **({"GPU": self.share.gpus} if self.share.gpus else {})}
        place = ray.util.placement_group([each] * self.size, strategy="SPREAD")
        try:
            ready = place.wait(PATIENCE)
        except BaseException:
            ray.util.remove_placement_group(place)
            raise
        if not ready:
            ray.util.remove_placement_group(place)
            raise ModelError(
                f"the Ray cluster had no room for {_count(self.size, 'replica')} of {self.share} "
                f"within {PATIENCE:g} seconds, since others use it; use fewer replicas, or wait."
            )
        return place

    def facts(self) -> list[Facts]:
        """Let each replica load its model, and return what is known of each.

        Raises:
            ModelError: it cannot be loaded.
        """
        import ray

        with explained():
            return list(ray.get([one.facts.remote() for one in self._actors]))

    def run(
        self, method: str, parts: Sequence[tuple[list[Any], dict[str, Any]]]
    ) -> Iterator[tuple[int, bytes]]:
        """Ask the replicas, each as soon as it is idle; yield the number of a part and its answer.

        Args:
            method: of the model.
            parts: things to ask for, with further arguments.

        Raises:
            CalibrationError: what a replica raises, or that one died too often.
        """
        from ray.util import ActorPool

        with explained():
            yield from ActorPool(self._actors).map_unordered(
                lambda actor, i: actor.ask.remote(i, method, *parts[i]), list(range(len(parts)))
            )

    def close(self) -> None:
        """End the replicas and free what they had."""
        import ray

        if ray.is_initialized():
            for actor in self._actors:
                ray.kill(actor)
            ray.util.remove_placement_group(self._place)
        self._actors = []


def _count(n: int, name: str) -> str:
    return f"{n} {name}{'' if n == 1 else 's'}"


def _first_line(problem: object) -> str:
    text = " ".join(str(problem).split())[:200].rstrip(".")
    return visible(text) or type(problem).__name__
