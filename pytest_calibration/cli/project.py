"""Models that a subcommand asks the probes of the project."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_calibration.cli.arguments import add_arguments, strictness, whole
from pytest_calibration.gate.strictness import OperatingPoint

if TYPE_CHECKING:
    from pytest_calibration.asking import Asker
    from pytest_calibration.config import Config
    from pytest_calibration.gate.strictness import Strictness
    from pytest_calibration.history.file import History
    from pytest_calibration.models.backends import ModelSpec
    from pytest_calibration.models.cache import Cache
    from pytest_calibration.models.loading import LazyModel
    from pytest_calibration.models.protocols import Model
    from pytest_calibration.probes.probe_set import ProbeSet
    from pytest_calibration.progress import Work

CONFIG: Final = "calibration.yaml"
# Seconds between two states of the progress line.
EVERY: Final = 0.25


def add_asking(parser: argparse.ArgumentParser, *, cache: bool = True) -> None:
    """Add the arguments that say what models are asked, and how.

    Args:
        parser: gets the arguments.
        cache: whether what models answered may be kept.
    """
    parser.add_argument(
        "--probe", action="append", metavar="NAME", help="probe to run (repeatable)"
    )
    add_arguments(
        parser,
        ("--config", str, "FILE", f"configuration of probes and model (default: {CONFIG})"),
        ("--limit", whole(1), "N", "ask a model at most so many items per probe"),
    )
    if cache:
        add_arguments(
            parser,
            ("--cache-dir", str, "DIR", "folder that keeps what models answered (default: none)"),
        )


class Project:
    """The project that a subcommand runs in: its probes, and how its models are loaded.

    Args:
        options: with the arguments of :func:`add_asking`, and those of the gate.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options

    @cached_property
    def config(self) -> Config:
        """The configuration that is named, or the nearest one; an empty one without any.

        Raises:
            ConfigError: it cannot be read.
        """
        from pytest_calibration.config import Config, nearest_config, read_config

        named = self._options.config
        path = Path(named) if named else nearest_config(Path.cwd())
        return Config() if path is None else read_config(path)

    @cached_property
    def probes(self) -> ProbeSet:
        """The probes there are."""
        from pytest_calibration.probes.probe_set import probe_set

        path = self.config.path
        source = path.name if path is not None else CONFIG
        config = self.config
        return probe_set(config.probes, config.folder, source, presets=config.presets)

    @cached_property
    def names(self) -> list[str]:
        """Names of the probes that are asked."""
        return list(self.probes.select(self._options.probe or []))

    @cached_property
    def _cache(self) -> Cache | None:
        from pytest_calibration.models.cache import Cache

        folder = getattr(self._options, "cache_dir", None)
        return None if folder is None else Cache(Path(folder))

    def model(self, spec: str | ModelSpec, *, temperature: float | None = None) -> LazyModel:
        """Return the model that a spec names; its weights are read when it is first asked.

        Args:
            spec: a directory, an adapter directory, a hub id.
            temperature: that it is served at; None for what the project says.
        """
        from pytest_calibration.models.loading import load_model

        settings = self.config.load_settings(temperature=temperature)
        return load_model(spec, settings, cache=self._cache)

    def parent(self, spec: str | ModelSpec) -> LazyModel:
        """Return a model that others are compared with: it is asked as it is."""
        return self.model(spec, temperature=1.0)

    def asker(self, parent: Model | None = None) -> Asker:
        """Return what asks models the probes of this project."""
        from pytest_calibration.asking import Asker

        return Asker(
            self.probes,
            limit=self._options.limit,
            limits=self.config.limits,
            parent=parent,
            selected=self.names,
        )

    def strictness(self, probe: str, record: float | None = None) -> Strictness:
        """Return how strict the gate is with a probe: as the flags, a record or the project say."""
        config = self.config
        tolerance = config.probe_tolerance(probe) if record is None else record
        return strictness(self._options, tolerance, config.alpha, config.tail)

    def points(self, probe: str) -> tuple[OperatingPoint, ...]:
        """Return the operating points of a probe: as the flags, or the project, say."""
        given = getattr(self._options, "threshold", None)
        if not given:
            return self.config.operating_points(probe)
        return tuple(OperatingPoint(threshold) for threshold in dict.fromkeys(given))

    def thresholds(self, probe: str) -> list[float]:
        """Return the thresholds of the operating points of a probe."""
        return [point.threshold for point in self.points(probe)]


def measure_checkpoints(
    project: Project,
    specs: Sequence[ModelSpec],
    parent: ModelSpec | None,
    history: History,
    thresholds: Sequence[float] = (),
) -> None:
    """Ask models every probe, and add what they answered to a history, each as it is done.

    Args:
        project: whose probes are asked.
        specs: the models, checkpoints of a run for example.
        parent: what they were trained from; has lines of its own.
        history: gets a line and the items of each model and probe.
        thresholds: at which precision and coverage are measured, beside the operating points of
            the project.
    """
    from pytest_calibration.history.checkpoints import checkpoint_of
    from pytest_calibration.history.commit import commit_of
    from pytest_calibration.history.lines import Line

    commit, start = commit_of(Path.cwd()), None
    if parent is not None:
        start = checkpoint_of(parent.text)
    asker = project.asker()
    for order, spec in enumerate([*([parent] if parent is not None else []), *specs]):
        is_parent = spec is parent
        model = project.parent(spec) if is_parent else project.model(spec)
        answers = [asker.ask(model, name) for name in project.names]
        model.release()
        lines = [
            Line.of(
                one,
                checkpoint=checkpoint_of(spec.text, order),
                stage=spec.baseline or "",
                parent="" if start is None or is_parent else start.text,
                commit=commit,
                thresholds=[*project.thresholds(one.probe), *thresholds],
            )
            for one in answers
        ]
        history.append(lines, answers)


@contextmanager
def progress_shown() -> Iterator[None]:
    """Show on a terminal how far long work is."""
    from pytest_calibration.progress import PROGRESS

    before = PROGRESS.set(_Line() if sys.stderr.isatty() else None)
    try:
        yield
    finally:
        PROGRESS.set(before)


class _Line:
    """A progress line on stderr that is rewritten in place and removed in the end."""

    def __init__(self) -> None:
        self._width = 0

    def show(self, work: Work) -> float:
        """Write how far the work is; return the seconds until it may be written again."""
        from pytest_calibration.text.layout import columns, fitted

        text = fitted(str(work), shutil.get_terminal_size().columns - 1)
        self.clear()
        self._width = columns(text)
        print(text, end="", file=sys.stderr, flush=True)
        return EVERY

    def clear(self) -> None:
        """Remove it."""
        if self._width:
            print(f"\r{' ' * self._width}\r", end="", file=sys.stderr, flush=True)
            self._width = 0
