"""The state of one test session: what is probed, what was seen, what is to be written.

The controller (the only process without xdist) resolves models and probes once, gathers what the
workers saw, and alone writes files, after a run that finished.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

import pytest

from pytest_calibration.errors import (
    BaselineConflict,
    BaselineError,
    CalibrationError,
    UsageError,
)
from pytest_calibration.plugin.distribution import plain_id
from pytest_calibration.plugin.options import OPTIONS, Options, path_of, read_options
from pytest_calibration.plugin.reporting import write_reports
from pytest_calibration.plugin.usage import Usage

if TYPE_CHECKING:
    from pytest_calibration.asking import Answer, Asker
    from pytest_calibration.baselines import Baselines, Draft
    from pytest_calibration.config import Config
    from pytest_calibration.models.backends import ModelSpec
    from pytest_calibration.models.cache import Cache
    from pytest_calibration.models.loading import LazyModel
    from pytest_calibration.predictions import Predictions
    from pytest_calibration.probes.probe_set import ProbeSet
    from pytest_calibration.reports.model import Result

BASELINES: Final = "calibration_baselines"
CONFIG: Final = "calibration.yaml"
PACKAGE: Final = Path(__file__).parent.parent


class Run:
    """One session.

    Attributes:
        config: pytest's configuration.
        options: resolved flags and ini keys.
        current: the model that the running tests are parametrised with.
        collected: number of calibration tests collected.
        deselected: whether any test was deselected.
        results: what came of each test, by node id; the last attempt of a test counts.
        drafts: records to write, by YAML file.
        conflicts: node ids that want different content, by YAML file.
        asked: YAML files that tests looked for.
        used_models: names of the models that tests were parametrised with.
        folders: baseline folders of the calibration tests.
        unfinished: calibration tests that did not pass.
        complete: whether every process of the run finished.
        finished: whether every test was run.
        lines: file and line of each test that was run, by node id.
        order: place of each test in the collection, by node id.
        marked: calibration tests that were run.
        broken: tests that failed, or whose setup or teardown did.
        uncollected: files that could not be collected.
        width: columns of the terminal.
        remarks: lines for the end of the summary.
        errors: lines that make the session fail.
        usage: how the models were used.
        asides: lines for the screen alone, which differ from run to run of the same code.
        cautions: such lines that are shown to who wants it quiet, too.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.options: Options = read_options(config)
        self.given: Mapping[str, Any] = getattr(config, "workerinput", {}).get("calibration", {})
        self.current: ModelSpec | None = None
        self.collected = 0
        self.deselected = False
        self.used_models: set[str] = set()
        self.folders: set[str] = set()
        self.results: dict[str, list[Result]] = {}
        self.unfinished: set[str] = set()
        self.drafts: dict[str, Draft] = {}
        self.conflicts: dict[str, list[str]] = {}
        self.asked: set[str] = set()
        self.complete = True
        self.finished = False
        self.lines: dict[str, tuple[str, int]] = {}
        self.order: dict[str, int] = {}
        self.marked: set[str] = set()
        self.broken: set[str] = set()
        self.uncollected: set[str] = set()
        self.width = int(self.given.get("width", 0)) or _terminal_width()
        self.remarks: list[str] = []
        self.errors: list[str] = []
        self.usage = Usage()
        self.asides: list[str] = []
        self.cautions: list[str] = []
        # Weak: a model that its fixture lets go must not be held in memory by its answers.
        self._dumped: WeakSet[Predictions] = WeakSet()
        self._check()
        self._clear_cache()

    def _check(self) -> None:
        """Raise for combinations of options that make no sense."""
        writes = [n for n in ("record", "accept") if self.options[n] is not None]
        if writes and self.options["parent"] is not None:
            raise pytest.UsageError(
                f"--calibration-{writes[0]} together with --calibration-parent: a record holds one "
                "model's numbers; record without the parent."
            )
        config = path_of(self.config, self.options, "config")
        if config is not None and "config" in self.options.flags and not config.is_file():
            raise pytest.UsageError(f"--calibration-config: there is no file {str(config)!r}.")
        if "model" in self.options.flags and not self.is_worker:
            self._told(lambda: self.models)
        if writes and self.options["model"]:
            models = self._told(lambda: self.models)
            if len(models) > 1 and not all(m.baseline for m in models):
                raise pytest.UsageError(
                    f"--calibration-{writes[0]} with {len(models)} models: they would overwrite "
                    "each other's baselines; name one, or give each its own (base=DIR, sft=DIR)."
                )
        if "probe" in self.options.flags and not self.is_worker:
            self._told(lambda: self.selected)
        if {"cache_dir", "no_cache"} <= self.options.flags:
            raise pytest.UsageError(
                "--calibration-cache-dir together with --calibration-no-cache: nothing would be "
                "kept there; leave one of them out."
            )

    def _told(self, find: Any) -> Any:
        try:
            return find()
        except CalibrationError as problem:
            raise pytest.UsageError(str(problem)) from None

    @property
    def is_worker(self) -> bool:
        """Whether this is an xdist worker."""
        return hasattr(self.config, "workerinput")

    @property
    def verdicts(self) -> list[Result]:
        """Every verdict of the run, one model after the other.

        Workers finish in any order; a reader wants models and tests in theirs.
        """
        found = [result for results in self.results.values() for result in results]
        order = {name: i for i, name in enumerate(dict.fromkeys(r.model for r in found))}
        order |= {name: i for i, name in enumerate(self.model_names() if found else ())}
        last = len(self.order)
        # Stable: several verdicts of one test stay as it made them.
        return sorted(found, key=lambda r: (order[r.model], self.order.get(r.test, last)))

    def untold(self) -> list[str]:
        """Say which tests of calibration failed by something else than a verdict."""
        told = {node for node, results in self.results.items() if any(r.fails for r in results)}
        ours = self.marked | {*self.results}
        broken = sorted((self.broken & ours) - told, key=lambda node: self.order.get(node, 0))
        lines = [f"{node} failed without a verdict." for node in broken]
        return [*lines, *(f"{name} could not be collected." for name in sorted(self.uncollected))]

    # --- what is probed ----------------------------------------------------------------------

    @cached_property
    def models(self) -> list[ModelSpec]:
        """The models named, resolved; the controller's answer in a worker."""
        from pytest_calibration.models.backends import ModelSpec
        from pytest_calibration.models.spec import anchored, resolve

        if "models" in self.given:
            return [ModelSpec(**spec) for spec in self.given["models"]]
        texts = self.options["model"] or []
        if "model" not in self.options.flags:
            texts = [anchored(text, self.config.rootpath) for text in texts]
        return resolve(texts)

    def model_names(self) -> list[str]:
        """Return the names of the models; of a spec that names nothing, the text itself."""
        try:
            return [spec.name for spec in self.models]
        except CalibrationError:
            return [str(text) for text in self.options["model"]]

    def find_model(self, name: str | None) -> ModelSpec | None:
        """Return the model of this name; None for a spec that a test names itself."""
        return next((spec for spec in self.models if spec.name == name), None)

    @cached_property
    def project(self) -> Config:
        """The project's ``calibration.yaml``.

        Raises:
            ConfigError: it cannot be read, or the one named is not there.
        """
        from pytest_calibration.config import Config, read_config

        named = path_of(self.config, self.options, "config")
        path = named or self.config.rootpath / CONFIG
        return read_config(path) if named is not None or path.is_file() else Config()

    @cached_property
    def probes(self) -> ProbeSet:
        """All probes there are."""
        from pytest_calibration.probes.probe_set import probe_set

        added = self.config.pluginmanager.hook.pytest_calibration_probes(config=self.config)
        source = self.project.path.name if self.project.path is not None else CONFIG
        return probe_set(self.project.probes, self.project.folder, source, added)

    @cached_property
    def selected(self) -> list[str]:
        """Names of the probes this run selects."""
        if "probes" in self.given:
            return list(self.given["probes"])
        return self.probes.select(self.options["probe"] or [])

    @cached_property
    def load_settings(self) -> dict[str, Any]:
        """How models are loaded: flags over ``calibration.yaml``."""
        return self.project.load_settings(
            device=self.options["device"],
            dtype=self.options["dtype"],
            batch_tokens=self.options["batch_tokens"],
            threads=self._threads(),
        )

    def _threads(self) -> int | None:
        """Share the cores among workers: oversubscribed threads are many times slower."""
        workers = int(getattr(self.config, "workerinput", {}).get("workercount", 1))
        if workers < 2:
            return None
        has_affinity = hasattr(os, "sched_getaffinity")
        cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
        return max(1, cores // workers)

    @cached_property
    def parent(self) -> LazyModel | None:
        """The model of ``--calibration-parent``."""
        from pytest_calibration.models.loading import load_model
        from pytest_calibration.models.spec import anchored, resolve

        text = self.options["parent"]
        if text is None:
            return None
        if "parent" not in self.options.flags:
            text = anchored(text, self.config.rootpath)
        specs = resolve([text])
        if len(specs) != 1:
            raise UsageError(f"--calibration-parent {text!r} names {len(specs)} models; name one.")
        return load_model(specs[0], self.load_settings, cache=self.cache)

    # --- the cache ---------------------------------------------------------------------------

    @property
    def cache_folder(self) -> Path | None:
        """Where answers are kept; None where they are not."""
        folder = path_of(self.config, self.options, "cache_dir")
        # A folder that is typed out wins over an ini key that wants none.
        if self.options["no_cache"] and "cache_dir" not in self.options.flags:
            return None
        if folder is not None:
            return folder
        cache: pytest.Cache | None = getattr(self.config, "cache", None)
        return None if cache is None else cache.mkdir("calibration")

    @cached_property
    def cache(self) -> Cache | None:
        """What keeps the answers of checkpoints; pytest's own folder is made when first asked."""
        from pytest_calibration.models.cache import Cache

        try:
            folder = self.cache_folder
        except OSError as problem:
            self.usage.refused = problem.strerror or str(problem)
            return None
        return None if folder is None else Cache(folder)

    def _clear_cache(self) -> None:
        """Do what ``--cache-clear`` asks for in a folder of our own; pytest clears its own."""
        asked = getattr(self.config.option, "cacheclear", False)
        # Workers would wipe what others have written by then.
        own = self.options["cache_dir"] is not None
        if asked and own and not self.is_worker and self.cache is not None:
            self.cache.clear()

    # --- scoring -----------------------------------------------------------------------------

    @cached_property
    def asker(self) -> Asker:
        """Asks the models of this run; each question once."""
        from pytest_calibration.asking import Asker

        parent = self.parent
        return Asker(
            self.probes,
            limit=self.options["limit"],
            limits=self.project.limits,
            parent=parent,
            selected=self.selected if parent is not None else (),
            on_use=self.usage.watch,
            on_answer=self._on_answer,
        )

    def _on_answer(self, answer: Answer) -> None:
        if answer.from_cache is not None:
            self.usage.answered(answer.model, answer.probe.name, cached=answer.from_cache)
        self.dump(answer.predictions)

    def parent_predictions(self, predictions: Predictions) -> list[tuple[str, Predictions]]:
        """Return the parent's name and its predictions on the same probe, if it was asked."""
        parent = self.parent if self.options["parent"] is not None else None
        known = self.asker.parent_predictions(predictions.probe) if parent is not None else None
        return [(parent.name, known)] if parent is not None and known is not None else []

    def dump(self, predictions: Predictions) -> None:
        """Write all items, where the run asks for it.

        Raises:
            UsageError: the folder cannot be written.
        """
        folder = path_of(self.config, self.options, "dump")
        if folder is None or predictions in self._dumped:
            return
        self._dumped.add(predictions)
        from pytest_calibration.reports.dump import write_dump

        write_dump(folder, predictions, item_text=self.options["item_text"] != "none")

    # --- baselines ---------------------------------------------------------------------------

    def store_of(self, item: pytest.Item) -> Baselines:
        """Return the store beside a test file, under the name of the test's model if it has one."""
        from pytest_calibration.baselines import Baselines, Policy

        folder = path_of(self.config, self.options, "baseline_dir")
        if folder is None:
            beside = item.path.parent
            packaged = beside == PACKAGE
            folder = (self.config.rootpath if packaged else beside) / BASELINES
        self.folders.add(str(folder))
        store = Baselines(
            folder,
            policy=Policy(bool(self.options["record"]), self.options["accept"]),
            submit=lambda draft: self.submit(replace(draft, origin=plain_id(item))),
            asked=lambda path: self.asked.add(str(path)),
        )
        spec = self.find_model(model_name(item)) or self.current
        return store.named(spec.baseline) if spec is not None and spec.baseline else store

    def submit(self, draft: Draft) -> None:
        """Hold a record until the run has finished.

        Raises:
            BaselineConflict: another test of this process wants other content under the same key.
            UsageError: ``--calibration-limit`` is below the n of the record that it would replace.
        """
        self.refuse_smaller([Path(draft.key)])
        known = self.drafts.get(draft.key)
        if known is not None and known.checksum != draft.checksum:
            self._conflict(draft.key, known.origin, draft.origin)
            raise BaselineConflict(conflict_text(draft.key, [known.origin, draft.origin]))
        self.drafts[draft.key] = draft

    def forget(self, origin: str) -> None:
        """Drop the drafts of a test that is run again."""
        self.drafts = {k: d for k, d in self.drafts.items() if d.origin != origin}

    def refuse_smaller(self, paths: Iterable[Path]) -> None:
        """Raise UsageError where a record holds more items than ``--calibration-limit`` allows."""
        limit = self.options["limit"]
        if limit is None:
            return
        from pytest_calibration.baselines.record import stored_n

        for path in paths:
            n = stored_n(path) if path.is_file() else 0
            if n > limit:
                raise UsageError(
                    f"recording with --calibration-limit {limit}, below the {n:,} items "
                    f"that {path} holds: leave the limit out."
                )

    def _conflict(self, key: str, *origins: str) -> None:
        known = self.conflicts.setdefault(key, [])
        known.extend(o for o in origins if o not in known)

    # --- between processes -------------------------------------------------------------------

    def for_worker(self) -> dict[str, Any]:
        """Return what the controller resolved, as plain values."""
        out: dict[str, Any] = {"width": self.width}
        # What cannot be resolved is told where it belongs: by the test that needs it.
        with suppress(CalibrationError):
            if self.options["model"]:
                out["models"] = [spec.as_dict() for spec in self.models]
        with suppress(CalibrationError):
            project = self.options["config"] or (self.config.rootpath / CONFIG).is_file()
            if project or self.options["probe"]:
                out["probes"] = self.selected
        return out

    def from_worker(self) -> dict[str, Any]:
        """Return what this worker saw, as plain values."""
        return {
            "collected": self.collected,
            "deselected": self.deselected,
            "uncollected": sorted(self.uncollected),
            "folders": sorted(self.folders),
            "asked": sorted(self.asked),
            "used_models": sorted(self.used_models),
            "drafts": [asdict(draft) for draft in self.drafts.values()],
            "conflicts": self.conflicts,
            "usage": self.used(),
        }

    def used(self) -> dict[str, Any]:
        """Return how this process used its models, as plain values."""
        # Made by the first model; asking for it here would make a folder.
        return self.usage.plain(self.__dict__.get("cache"))

    def merge(self, seen: Mapping[str, Any] | None) -> None:
        """Take in what a worker saw; None if it died."""
        if seen is None:
            self.complete = False
            return
        self.usage.merge(seen["usage"])
        self.used_models.update(seen["used_models"])
        self.collected = max(self.collected, seen["collected"])
        self.deselected |= seen["deselected"]
        self.uncollected.update(seen["uncollected"])
        self.folders.update(seen["folders"])
        self.asked.update(seen["asked"])
        for key, origins in seen["conflicts"].items():
            self._conflict(key, *origins)
        for plain in seen["drafts"]:
            from pytest_calibration.baselines import Draft

            draft = Draft(**plain)
            known = self.drafts.get(draft.key)
            if known is not None and known.checksum != draft.checksum:
                self._conflict(draft.key, known.origin, draft.origin)
            self.drafts[draft.key] = draft

    # --- the end of a run --------------------------------------------------------------------

    def finish(self, *, finished: bool, failed: bool = False) -> int:
        """Write what is to be written and return how many failures the session adds.

        Args:
            finished: whether every test was run.
            failed: whether any test failed; a run that is red needs no further reason.
        """
        self.finished = finished
        if finished and self.complete:
            self._conclude(failed=failed)
        else:
            if self.drafts:
                n = len(self.drafts)
                self.errors.append(
                    f"{n} baseline{'s' * (n > 1)} not written: the run did not finish."
                )
            if self.options["prune"]:
                self.remarks.append("nothing pruned: the run did not finish.")
        write_reports(self)
        self._tell_usage()
        return len(self.errors)

    def _tell_usage(self) -> None:
        """Say how the models were used; the same run may do so otherwise next time."""
        self.usage.merge(self.used())
        parent = self.__dict__.get("parent")
        dist = getattr(self.config.option, "dist", "no")
        self.asides.extend(self.usage.lines(dist=dist, parent=parent and parent.name))
        shown = self.options["cache_dir"] or "pytest's cache directory"
        self.cautions.extend(self.usage.warnings(str(shown)))

    def _conclude(self, *, failed: bool) -> None:
        """After a run that finished: write baselines, and fail one that decided nothing."""
        self._write()
        if self.options["prune"]:
            self._prune()
        if self.collected and self._may_skip():
            self.remarks.append(
                "nothing was gated: no model is named (calibration_no_model = skip)."
            )
        if not failed:
            self._unused()
        if not failed and self._unchecked():
            self.errors.append(
                f"{self.collected} calibration test{'s' * (self.collected > 1)} collected and "
                "nothing was decided (every comparison was inconclusive, skipped or never made): "
                "this run is not green."
            )

    def _write(self) -> None:
        written = 0
        for key, draft in sorted(self.drafts.items()):
            if key in self.conflicts:
                continue
            try:
                draft.write()
            except BaselineError as problem:
                self.errors.append(str(problem))
            else:
                written += 1
        for key, origins in sorted(self.conflicts.items()):
            self.errors.append(conflict_text(key, origins))
        if written:
            self.remarks.append(f"{written} baseline{'s' * (written > 1)} written.")

    def _unchecked(self) -> bool:
        """Whether calibration tests ran without deciding anything."""
        option = self.config.option
        planned = getattr(option, "setuponly", False) or getattr(option, "setupplan", False)
        if not self.collected or option.collectonly or planned:
            return False
        if self._may_skip():
            return False
        return not any(result.state != "inconclusive" for result in self.verdicts)

    def _unused(self) -> None:
        """Tell a model or parent that was named and that no test looked at."""
        if not self.collected or self.config.option.collectonly:
            return
        if "model" in self.options.flags and not self.used_models:
            self.errors.append(
                "--calibration-model was used by no test: the fixture calibration_model is "
                "overridden and does not ask for calibration_model_spec."
            )
        against = (result.against == "parent" for result in self.verdicts)
        if self.options["parent"] is not None and self.verdicts and not any(against):
            self.errors.append("--calibration-parent was compared with nothing.")

    def _may_skip(self) -> bool:
        """Whether the project asked for a green run where no model is named."""
        return self.options["no_model"] == "skip" and not (self.options["model"] or self.verdicts)

    def _prune(self) -> None:
        reason = self._not_full()
        if reason:
            self.remarks.append(f"nothing pruned: {reason}.")
            return
        from pytest_calibration.baselines.store import remove_record, stored_records

        # A named baseline belongs to a model or stage; a run that did not probe it says nothing.
        used = {str(Path(path).parent) for path in self.asked}
        removed, left = [], []
        for folder in map(Path, sorted(self.folders)):
            for path in stored_records(folder):
                if str(path) in self.asked or str(path) in self.drafts:
                    continue
                shown = path.relative_to(folder.parent).as_posix()
                if str(path.parent) in used:
                    try:
                        remove_record(path)
                    except OSError as problem:
                        self.errors.append(f"{shown} cannot be removed ({problem.strerror}).")
                    else:
                        removed.append(shown)
                else:
                    left.append(shown)
        self.remarks.append(f"pruned: {', '.join(removed) or 'nothing'}.")
        if left:
            self.remarks.append(f"left alone, of a name this run did not use: {', '.join(left)}.")

    def _not_full(self) -> str:
        """Say why this run is not one that may prune; empty if it may."""
        if self.deselected:
            return "some tests were deselected or could not be collected"
        option = self.config.option
        if "probe" in self.options.flags:
            return "--calibration-probe runs only a part of the probes"
        if any(getattr(option, name, None) for name in ("lf", "failedfirst", "stepwise")):
            return "tests that failed before were chosen"
        if getattr(option, "override_ini", None):
            return "an ini key was overridden"
        if self.unfinished:
            return f"{sorted(self.unfinished)[0]} did not pass"
        if getattr(option, "ignore", None) or getattr(option, "ignore_glob", None):
            return "some files were ignored"
        places = [Path(self.config.invocation_params.dir) / arg.partition("::")[0]
                  for arg in self.config.args]  # fmt: skip
        for arg, place in zip(self.config.args, places, strict=True):
            if "::" in arg or not place.is_dir():
                return f"{arg} is only a part of the tests"
        for folder in map(Path, self.folders):
            shared = self.options["baseline_dir"] is not None
            held = [self.config.rootpath] if shared else [folder]
            if not any(one.is_relative_to(place) for one in held for place in places):
                return f"{folder.name} lies outside the folders that were run"
        return ""


def _terminal_width() -> int:
    """Columns of the terminal; a line of prose fits the most there are."""
    return max(40, min(shutil.get_terminal_size((96, 24)).columns, 120))


def model_name(item: pytest.Item) -> str | None:
    """Return the name of the model that a test is parametrised with."""
    params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    name: str | None = params.get("calibration_model_spec")
    return name


def conflict_text(key: str, origins: Iterable[str]) -> str:
    """Say which tests want different content under one key."""
    return (
        f"{key}: {' and '.join(origins)} record different predictions under one baseline; give "
        "each its own, calibration_baseline.named(...). Neither was written."
    )


def flag_arguments(options: Options, skip: Iterable[str]) -> list[str]:
    """Return the calibration flags of this run as typed, but for those skipped.

    Where answers are kept matters to no verdict, and is left out too.
    """
    out: list[str] = []
    left_out = {*skip, "cache_dir", "no_cache"}
    for option in OPTIONS:
        if option.name not in options.flags or option.name in left_out:
            continue
        value = options[option.name]
        if not option.metavar:
            out.append(option.flag_name)
            continue
        out += [f"{option.flag_name}={one}" for one in (value if option.many else [value])]
    return out
