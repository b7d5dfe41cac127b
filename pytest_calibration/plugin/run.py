"""The state of a run, which is one pytest session in which calibration is tested.

Every process of the session has one. The controller (the only process without pytest-xdist) gathers
the states of the workers, and alone writes baselines and reports.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import pytest

from pytest_calibration.plugin.forked import Forked
from pytest_calibration.plugin.made_in_tests import MadeInTests
from pytest_calibration.plugin.measured import Measurements
from pytest_calibration.plugin.options import BASELINES, OPTIONS
from pytest_calibration.plugin.outcomes import Outcomes
from pytest_calibration.plugin.pending_records import PendingRecords
from pytest_calibration.plugin.projects import SUITE_FILE, Project
from pytest_calibration.plugin.resolution import ModelParameter, Resolution
from pytest_calibration.plugin.resolved_options import Options, usage_errors
from pytest_calibration.plugin.rootdir import check_rootdir, settings_typed
from pytest_calibration.plugin.usage import Usage
from pytest_calibration.plugin.xdist_groups import plain_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_calibration.asking import Answer, Asker
    from pytest_calibration.baselines import Baselines
    from pytest_calibration.models.protocols import LanguageModel
    from pytest_calibration.predictions import Predictions
    from pytest_calibration.probes.probe import Probe
    from pytest_calibration.reports.model import Result

# What keeps measurements, which are of all items.
KEEPING: Final = ("record", "accept", "anchor", "history", "dump")


class Run:
    """One run.

    Args:
        config: pytest's configuration.
        left_out: what is not run in this process, with the reason (``session.LEFT_OUT``).
        folders: folders of baselines, wherever tests were looked for (``session.FOLDERS``).

    Attributes:
        options: flags and ini keys.
        resolved: models, probes and settings.
        outcomes: what came of the tests.
        records: baselines to be written.
        usage: how the models were used.
        made: the predictions that tests made.
        measured: what is to be added to the history.
        collected: number of calibration tests collected.
        deselected: calibration tests that were deselected.
        complete: whether no process of the run died.
        finished: whether every test was run.
        width: columns of the terminal.
        pytest_settings: what the command line says of rootdir, ini file, ini keys and plugins.
        configs: what workers say of the ``calibration.yaml`` that they read; a set in order.
        started: when the controller created it, in seconds since 1970.
        remarks: lines for the end of the summary.
        errors: lines that make the session fail.
        expected: names of the failing verdicts that tests expect.
        forked: brings what is concluded in the child processes of a test.
        late: each takes the verdicts reached after the last report of a test.

    Raises:
        pytest.UsageError: an option that has a wrong value, or that contradicts another.
    """

    def __init__(self, config: pytest.Config, left_out: dict[str, str], folders: set[str]) -> None:
        self.config = config
        self.left_out = left_out
        self.options = Options(config)
        if self.options.flags:
            check_rootdir(config)
        from_controller = json.loads(getattr(config, "workerinput", {}).get("calibration", "{}"))
        self.resolved = Resolution(config, self.options, from_controller)
        self.outcomes = Outcomes()
        self.records = PendingRecords(self.options["limit"], folders)
        self.usage = Usage()
        self.made = MadeInTests()
        self.measured = Measurements()
        self.collected = 0
        self.deselected: set[str] = set()
        self.complete = True
        self.finished = False
        self.width = int(from_controller.get("width", 0)) or _terminal_width()
        self.pytest_settings: list[str] = from_controller.get("settings") or settings_typed(config)
        self.started = float(from_controller.get("started", time.time()))
        self.configs: dict[str, None] = {}
        self.remarks: list[str] = []
        self.errors: list[str] = []
        # Whether with a baseline. Weak: a model that its fixture drops must not stay in memory for
        # its answers.
        self._dumped: WeakKeyDictionary[Predictions, bool] = WeakKeyDictionary()
        self._askers: dict[Project, Asker] = {}
        self.expected: set[str] = set()
        self.forked = Forked()
        config.add_cleanup(self.forked.close)
        self.late: list[Callable[[], list[Result]]] = []
        self.resolved.check()
        # What an ini key names is looked at by the first verdict: it says nothing of other tests.
        if "history" in self.options.flags and not self.is_worker:
            with usage_errors("--calibration-history: "):
                _ = self.history
        self.resolved.clear_cache()

    @cached_property
    def history(self) -> Path | None:
        """The history that measurements are added to; None where none is named.

        Raises:
            HistoryError: nothing can be added to what is there.
        """
        path = self.options.path("history")
        if path is not None:
            from pytest_calibration.history.format import content_to_extend

            content_to_extend(path)
        return path

    @property
    def is_worker(self) -> bool:
        """Whether this is a worker of pytest-xdist."""
        return hasattr(self.config, "workerinput")

    @property
    def verdicts(self) -> list[Result]:
        """Every verdict of the run, one model after the other."""
        return self.outcomes.verdicts(self.resolved.model_names() if self.outcomes.results else ())

    def project_of(self, item: pytest.Item) -> Project:
        """Return the project of a test: what the nearest ``calibration.yaml`` says."""
        return self.resolved.projects.of(item.path)

    def model_of(self, item: pytest.Item) -> str | None:
        """Return the name of the model that a test runs for; None without one.

        A test that cannot be parametrised, of a TestCase say, uses the only model.
        """
        name = model_name(item)
        if name is None and "calibration_model_spec" in getattr(item, "fixturenames", ()):
            names = self.resolved.model_names() if self.options["model"] else []
            return names[0] if len(names) == 1 else None
        return name

    def expect(self, verdict: str) -> None:
        """Know that a test expects this failing verdict, by its name."""
        self.expected.add(verdict)
        if self.forked.in_child:
            self.forked.send({"expected": verdict})

    def late_verdicts(self) -> list[Result]:
        """Return, each once, the verdicts reached after the last report of their test."""
        return [result for take in self.late for result in take()]

    def asker(self, project: Project) -> Asker:
        """Return what asks the models about the probes of a project, each question once."""
        if project not in self._askers:
            from pytest_calibration.asking import Asker
            from pytest_calibration.gate.looks import SHARES

            parent = self.resolved.parent(project)
            self._askers[project] = Asker(
                project.probes,
                limit=self.options["limit"],
                limits=project.settings.limits,
                parent=parent,
                selected=project.selected if parent is not None else (),
                on_use=self.usage.watch,
                on_answer=self._on_answer,
                shares=SHARES if self.options["early_stop"] and not self.keeps_all else (),
            )
        return self._askers[project]

    @property
    def keeps_all(self) -> str:
        """The flag of what keeps measurements, for which all items are asked; empty without."""
        kept = (o.flag for o in OPTIONS if o.name in KEEPING and self.options[o.name] is not None)
        return next(kept, "")

    def _on_answer(self, answer: Answer) -> None:
        if answer.from_cache is not None:
            self.usage.answered(answer.model, answer.probe.name, cached=answer.from_cache)
        if answer.part is not None:
            self.usage.asked(answer.model, answer.probe.name, *answer.part)
        self.dump(answer.predictions)

    def dump(self, predictions: Predictions, before: Predictions | None = None) -> None:
        """Write all items into the folder of ``--calibration-dump``, if there is one.

        What was dumped with a baseline in this run, by any process, is not replaced by the same
        without one.

        Args:
            predictions: n items.
            before: those of a baseline on some of the same items.

        Raises:
            UsageError: the folder cannot be written.
        """
        folder = self.options.path("dump")
        if folder is None or self._dumped.get(predictions) in (True, before is not None):
            return
        self._dumped[predictions] = before is not None
        from pytest_calibration.reports.dump import write_dump

        whole = self.options["item_text"] != "none"
        write_dump(folder, predictions, before, item_text=whole, since=self.started)

    def _home(self, item: pytest.Item) -> Path:
        """Return the folder beside whose baselines a test stands."""
        if item.path != SUITE_FILE:
            return item.path.parent
        # Never in site-packages: with the configuration that counts, else at rootdir.
        found = None if self.options.path("config") else self.project_of(item).path
        return self.config.rootpath if found is None else found.parent

    def store_of(self, item: pytest.Item) -> Baselines:
        """Return the store beside a test file, under the name of the test's model if it has one."""
        from pytest_calibration.baselines import Baselines

        folder = self.options.path("baseline_dir")
        if folder is None:
            folder = self._home(item) / BASELINES
        self.records.folders.add(str(folder))
        store = self.adopted(Baselines(folder), item)
        spec = self.resolved.find_model(model_name(item)) or self.resolved.current
        return store.named(spec.baseline) if spec is not None and spec.baseline else store

    def adopted(self, store: Baselines, item: pytest.Item) -> Baselines:
        """Return a store that writes what this run was asked to, when it has finished.

        A store with a policy of its own stays as it is. A path is made absolute, since the test
        may work in another folder than the session.
        """
        from pytest_calibration.baselines import Baselines, Policy

        if store != Baselines(store.path, store.name):
            return store
        test = plain_id(item)
        return replace(
            store,
            path=Path(os.path.abspath(store.path)),
            policy=Policy(
                bool(self.options["record"]), self.options["accept"], self.options["anchor"]
            ),
            submit=lambda draft: self.records.add(replace(draft, origin=test)),
            asked=lambda path: self.records.looked_up.add(str(path)),
        )


class Calibration:
    """Runs probes on the model of a test.

    Args:
        run: the run.
        model: the model.
        project: whose probes these are.

    Attributes:
        model: the model.
    """

    def __init__(self, run: Run, model: LanguageModel, project: Project) -> None:
        self._run = run
        self._project = project
        self.model = model

    def __repr__(self) -> str:
        # Printed beside a failing test, also where the model is none.
        return f"<calibration of {getattr(self.model, 'name', type(self.model).__name__)}>"

    @property
    def probes(self) -> list[str]:
        """Names of the probes that this run selects."""
        return list(self._project.selected)

    def run(self, probe: str | Probe, *, limit: int | None = None) -> Predictions:
        """Run a probe, once per session and model.

        Args:
            probe: a probe or its name.
            limit: at most so many items; wins over the option and ``calibration.yaml``.

        Raises:
            UsageError: an unknown name, or what the probe cannot ask.
            ProbeError: a probe that cannot score all its items.
            ModelError: a model that cannot be loaded or scored.
        """
        from pytest_calibration.models.adopted import OFFERS, check_offers, lacking
        from pytest_calibration.models.backends import ModelSpec
        from pytest_calibration.probes.probe import ItemProbe

        one = self._project.probes.get(probe) if isinstance(probe, str) else probe
        if isinstance(one, ItemProbe):
            check_offers(self.model, one.name)
        try:
            predictions = self._run.asker(self._project).ask(self.model, one, limit)
        except AttributeError as problem:
            # What the model itself lacks, and not what its own code looks for elsewhere.
            if problem.obj is self.model and problem.name in OFFERS:
                raise lacking(self.model, one.name, problem.name) from None
            raise
        spec = getattr(self.model, "spec", None)
        known = isinstance(spec, ModelSpec)
        self._run.measured.know(predictions, spec if known else self._run.resolved.current)
        return predictions


def model_name(item: pytest.Item) -> str | None:
    """Return the name of the model that a test is parametrised with."""
    params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    parameter: ModelParameter | str | None = params.get("calibration_model_spec")
    return parameter.name if isinstance(parameter, ModelParameter) else parameter


def _terminal_width() -> int:
    """Columns of the terminal; no more than a line of prose should have."""
    return max(40, min(shutil.get_terminal_size((96, 24)).columns, 120))
