"""The projects of a run: each ``calibration.yaml`` counts for the tests below its folder.

A repository may hold several, one per package. The file nearest to a test, upward from it, is the
one that counts, wherever pytest was started and whatever it took for its rootdir. A file is read
when a test first needs it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from pytest_calibration.errors import UsageError
from pytest_calibration.plugin.resolved_options import Options
from pytest_calibration.text.visible import visible

if TYPE_CHECKING:
    from pytest_calibration.config import Config
    from pytest_calibration.probes.probe_set import ProbeSet

# The packaged tests: their file, and the name under which they are run.
SUITE_FILE: Final = Path(__file__).parent.parent / "suite.py"
SUITE: Final = "pytest_calibration.suite"
NO_CONFIG: Final = "none: built-in probes"


class Project:
    """What one ``calibration.yaml`` says, or that there is none.

    Args:
        path: the file; None where there is none.
        projects: the projects of the run.
    """

    def __init__(self, path: Path | None, projects: Projects) -> None:
        self.path = path
        self._projects = projects

    @cached_property
    def settings(self) -> Config:
        """What the file says.

        Raises:
            ConfigError: it cannot be read, or is not there although it was named.
        """
        from pytest_calibration.config import Config, read_config

        return Config() if self.path is None else read_config(self.path)

    @cached_property
    def probes(self) -> ProbeSet:
        """All probes, those of other packages included."""
        from pytest_calibration.probes.probe_set import probe_set

        config, settings = self._projects.config, self.settings
        added = config.pluginmanager.hook.pytest_calibration_probes(config=config)
        return probe_set(settings.probes, settings.folder, self.shown, added, settings.presets)

    @cached_property
    def selected(self) -> list[str]:
        """Names of the probes that this run selects here; empty where all are of other projects.

        Raises:
            UsageError: a name that no project knows.
        """
        names = self._projects.options["probe"] or []
        if not all(name in self.probes for name in names):
            self._projects.check_probes(names)
            names = [name for name in names if name in self.probes]
            return self.probes.select(names) if names else []
        return self.probes.select(names)

    @cached_property
    def load_settings(self) -> dict[str, Any]:
        """How models are loaded: options over the file."""
        options = self._projects.options
        chosen = {name: options[name] for name in ("device", "dtype", "batch_tokens", "replicas")}
        settings = self.settings.load_settings(**chosen, threads=self._projects.threads())
        if settings.get("replicas") is not None and self._projects.workers > 1:
            raise UsageError(
                f"{settings['replicas']} replicas in each of {self._projects.workers} workers of "
                "pytest-xdist: each would start its own; leave out -n, or --calibration-replicas."
            )
        return settings

    @property
    def shown(self) -> str:
        """Where the file is, as seen from where pytest was started."""
        if self.path is None:
            return self._projects.none_read()
        return os.path.relpath(self.path, self._projects.config.invocation_params.dir)

    @property
    def read(self) -> str:
        """What a reader should know of the file; empty where no test needed it."""
        known = vars(self)
        if self.path is None:
            return self.shown if "probes" in known else ""
        if "settings" not in known:
            return ""
        return self.shown if self.settings.probes else f"{self.shown} (built-in probes)"


class Projects:
    """Finds the project of a test.

    Args:
        config: pytest's configuration.
        options: the options of the run.
    """

    def __init__(self, config: pytest.Config, options: Options) -> None:
        self.config = config
        self.options = options
        self._named = options.path("config")
        self._found: dict[Path, Project] = {}
        # A set in order.
        self._of_tests: dict[Project, None] = {}
        self._projects: dict[Path | None, Project] = {}

    def of(self, test: Path | None) -> Project:
        """Return the project of a test file; None for what belongs to no file."""
        project = self._at(self.home(test))
        if test is not None:
            self._of_tests[project] = None
        return project

    def read_for(self, test: Path) -> Project:
        """Return the project of a test that ran, here or in a worker."""
        return self._at(self.home(test))

    def home(self, test: Path | None) -> Path:
        """Return where the search for a test begins: for the packaged suite, where pytest began."""
        started = Path(self.config.invocation_params.dir)
        return started if test is None or test == SUITE_FILE else test.parent

    def _at(self, folder: Path) -> Project:
        from pytest_calibration.config import nearest_config

        if folder not in self._found:
            # Tests of an installed package may lie elsewhere than what they test.
            path = nearest_config(folder) or nearest_config(self.config.rootpath)
            path = self._named or path
            self._found[folder] = self._projects.setdefault(path, Project(path, self))
        return self._found[folder]

    def none_read(self) -> str:
        """Say that no file was read, and which one would have been by its right name."""
        from pytest_calibration.config import CONFIG, misnamed_config

        for folder in (self.config.rootpath, Path(self.config.invocation_params.dir)):
            if name := misnamed_config(folder):
                return f"{NO_CONFIG} ({visible(name)} is not read; call it {CONFIG})"
        return NO_CONFIG

    def everywhere(self) -> list[Project]:
        """Return the projects of all tests that this command line may run."""
        started = Path(self.config.invocation_params.dir)
        places = [started / arg.partition("::")[0] for arg in self.config.args]
        places = [p if p.is_dir() else p.parent for p in places if p.exists()] or [started]
        found = [self._at(place) for place in places]
        if self._named is None:
            found += [self._at(folder) for place in places for folder in self._below(place)]
        # Without a file at the place itself, those below it are what is asked for.
        return list(dict.fromkeys(p for p in found if p.path is not None)) or found[:1]

    def _below(self, place: Path) -> Iterator[Path]:
        """Yield the folders below a place that have a file, where pytest looks for tests."""
        left_out = self.config.getini("norecursedirs")
        for folder, names, files in os.walk(place):
            names[:] = sorted(n for n in names if not any(fnmatch(n, one) for one in left_out))
            if "calibration.yaml" in files:
                yield Path(folder)

    def check_probes(self, names: Iterable[str]) -> None:
        """Check that each probe is known to a project.

        Raises:
            UsageError: an unknown name; the message suggests the nearest and lists all.
        """
        from pytest_calibration.probes.probe_set import ProbeSet

        # Those at hand first: looking through all folders takes long.
        here = self.of(None).probes
        missing = [name for name in names if name not in here]
        if missing:
            projects = [*self._projects.values(), *self.everywhere()]
            known = {name: make for p in projects for name, make in p.probes.factories.items()}
            presets = {name: make for p in projects for name, make in p.probes.presets.items()}
            ProbeSet(known, (), presets).select(missing)

    @property
    def workers(self) -> int:
        """How many workers of pytest-xdist there are; 1 without it."""
        return int(getattr(self.config, "workerinput", {}).get("workercount", 1))

    def threads(self) -> int | None:
        """Share the cores among workers: more threads than cores are many times slower."""
        if self.workers < 2:
            return None
        has_affinity = hasattr(os, "sched_getaffinity")
        cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
        return max(1, cores // self.workers)

    def read(self) -> list[str]:
        """Return what a reader should know of each file that a test needed."""
        return [text for text in (project.read for project in self._of_tests) if text]
