"""What a run probes: models, probes and settings, from options and ``calibration.yaml``.

All are resolved once, by the controller of pytest-xdist where there is one: its workers take the
models and the names of the probes from it.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from pytest_calibration.errors import CalibrationError, UsageError
from pytest_calibration.plugin.resolved_options import Options, usage_errors

if TYPE_CHECKING:
    from pytest_calibration.config import Config
    from pytest_calibration.models.backends import ModelSpec
    from pytest_calibration.models.cache import Cache
    from pytest_calibration.models.loading import LazyModel
    from pytest_calibration.probes.probe_set import ProbeSet

CONFIG: Final = "calibration.yaml"
NO_MODEL: Final = (
    "no model: pass --calibration-model, set calibration_model in the ini file, or override the "
    "fixture calibration_model."
)


class Resolution:
    """Models, probes and settings of a run.

    Args:
        config: pytest's configuration.
        options: the options of the run.
        from_controller: what the controller sent to this worker; empty in any other process.

    Attributes:
        current: the model that the running tests are parametrised with.
        used_models: names of the models that tests were parametrised with.
        cache_problem: why no answers are kept, where the folder cannot be made.
    """

    def __init__(
        self, config: pytest.Config, options: Options, from_controller: dict[str, Any]
    ) -> None:
        self.config = config
        self.options = options
        self.current: ModelSpec | None = None
        self.used_models: set[str] = set()
        self.cache_problem = ""
        self._from_controller = from_controller

    def check(self) -> None:
        """Resolve what the command line names, and check that the options fit together.

        Raises:
            pytest.UsageError: a model, probe or file that is not there, or a contradiction.
        """
        options = self.options
        config = options.path("config")
        if config is not None and "config" in options.flags and not os.path.isfile(config):
            raise pytest.UsageError(f"--calibration-config: there is no file {str(config)!r}.")
        if {"cache_dir", "no_cache"} <= options.flags:
            raise pytest.UsageError(
                "--calibration-cache-dir together with --calibration-no-cache: nothing would be "
                "kept there; leave one of them out."
            )
        with usage_errors():
            writes = next((n for n in ("record", "accept") if options[n] is not None), "")
            if writes:
                self._check_writes(writes)
            if "model" in options.flags and not self._from_controller:
                _ = self.models
            if "probe" in options.flags and not self._from_controller:
                _ = self.selected

    def _check_writes(self, option: str) -> None:
        if self.options["parent"] is not None:
            raise UsageError(
                f"--calibration-{option} together with --calibration-parent: a record holds one "
                "model's numbers; record without the parent."
            )
        models = self.models if self.options["model"] else []
        if len(models) > 1 and not all(model.baseline for model in models):
            raise UsageError(
                f"--calibration-{option} with {len(models)} models: they would overwrite each "
                "other's baselines; name one, or give each its own (base=DIR, sft=DIR)."
            )

    # --- models ------------------------------------------------------------------------------

    @cached_property
    def models(self) -> list[ModelSpec]:
        """The models of ``--calibration-model``.

        Raises:
            UsageError: a text that names no model.
        """
        from pytest_calibration.models.backends import ModelSpec

        if "models" in self._from_controller:
            return [ModelSpec(**spec) for spec in self._from_controller["models"]]
        return self._specs("model", self.options["model"] or [])

    def _specs(self, option: str, texts: list[str]) -> list[ModelSpec]:
        from pytest_calibration.models.spec import anchored, resolve

        if option not in self.options.flags:
            texts = [anchored(text, self.config.rootpath) for text in texts]
        return resolve(texts)

    def model_names(self) -> list[str]:
        """Return the names of the models; of a spec that cannot be resolved, the text itself."""
        try:
            return [spec.name for spec in self.models]
        except CalibrationError:
            return [str(text) for text in self.options["model"]]

    def find_model(self, name: str | None) -> ModelSpec | None:
        """Return the model of this name; None for a spec that a test names itself."""
        return next((spec for spec in self.models if spec.name == name), None)

    def select_model(self, name: str | None) -> str:
        """Make a model the current one and return the text of its spec.

        Args:
            name: the parameter of the test; None for a test that cannot be parametrised, such as
                one of a TestCase.
        """
        if name is None and self.options["model"]:
            if len(self.models) > 1:
                pytest.fail(
                    f"this test cannot be run once per model, and {len(self.models)} are named; "
                    "name one, or ask for the fixture as an argument of a test function.",
                    pytrace=False,
                )
            name = self.models[0].name
        if name is None:
            if self.options["no_model"] == "skip":
                pytest.skip(NO_MODEL)
            pytest.fail(NO_MODEL, pytrace=False)
        self.used_models.add(name)
        self.current = self.find_model(name)
        return name if self.current is None else self.current.text

    def load(self, text: str) -> LazyModel:
        """Return the model of a spec.

        Args:
            text: the text that the fixture ``calibration_model_spec`` gave, which a project may
                override.

        Raises:
            UsageError: that text is not of the model that the command line names.
        """
        from pytest_calibration.models.loading import load_model

        current = self.current
        if current is not None and current.text != text:
            if "model" in self.options.flags:
                raise UsageError(
                    f"calibration_model_spec is overridden and gives {text!r}, so "
                    f"--calibration-model {current.text!r} would be ignored; leave one of them out."
                )
            current = None
        return load_model(current or text, self.load_settings, cache=self.cache)

    @cached_property
    def parent(self) -> LazyModel | None:
        """The model of ``--calibration-parent``.

        Raises:
            UsageError: it names no model, or several.
        """
        text = self.options["parent"]
        if text is None:
            return None
        from pytest_calibration.models.loading import load_model

        specs = self._specs("parent", [text])
        if len(specs) != 1:
            raise UsageError(f"--calibration-parent {text!r} names {len(specs)} models; name one.")
        return load_model(specs[0], self.load_settings, cache=self.cache)

    def load_parent(self) -> LazyModel:
        """Return the parent; fail the test that asks for one where none is named."""
        if self.parent is None:
            pytest.fail("no parent: pass --calibration-parent.", pytrace=False)
        return self.parent

    # --- probes and settings -----------------------------------------------------------------

    @property
    def config_file(self) -> Path | None:
        """The project's ``calibration.yaml``; None where there is none."""
        named = self.options.path("config")
        path = named or self.config.rootpath / CONFIG
        return path if named is not None or path.is_file() else None

    @cached_property
    def project(self) -> Config:
        """What ``calibration.yaml`` says.

        Raises:
            ConfigError: it cannot be read, or the one that was named is not there.
        """
        from pytest_calibration.config import Config, read_config

        path = self.config_file
        return Config() if path is None else read_config(path)

    @cached_property
    def probes(self) -> ProbeSet:
        """All probes, those of other packages included."""
        from pytest_calibration.probes.probe_set import probe_set

        added = self.config.pluginmanager.hook.pytest_calibration_probes(config=self.config)
        project = self.project
        source = project.path.name if project.path is not None else CONFIG
        return probe_set(project.probes, project.folder, source, added)

    @cached_property
    def selected(self) -> list[str]:
        """Names of the probes that this run selects.

        Raises:
            UsageError: an unknown name.
        """
        if "probes" in self._from_controller:
            return list(self._from_controller["probes"])
        return self.probes.select(self.options["probe"] or [])

    def probe_name(self, name: str | None) -> str:
        """Return the probe of a test: its parameter, without which the test fails."""
        if name is None:
            pytest.fail(
                "calibration_probe is run once per probe, which needs an argument of a test "
                "function; here, name the probe: calibration.run('facts').",
                pytrace=False,
            )
        return name

    @cached_property
    def load_settings(self) -> dict[str, Any]:
        """How models are loaded: options over ``calibration.yaml``."""
        chosen = {name: self.options[name] for name in ("device", "dtype", "batch_tokens")}
        return self.project.load_settings(**chosen, threads=self._threads())

    def _threads(self) -> int | None:
        """Share the cores among workers: more threads than cores are many times slower."""
        workers = int(getattr(self.config, "workerinput", {}).get("workercount", 1))
        if workers < 2:
            return None
        has_affinity = hasattr(os, "sched_getaffinity")
        cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
        return max(1, cores // workers)

    # --- the cache ---------------------------------------------------------------------------

    @cached_property
    def cache(self) -> Cache | None:
        """The cache of answers; None where none are kept. Creates pytest's own folder."""
        from pytest_calibration.models.cache import Cache

        # A folder on the command line wins over an ini key that switches the cache off.
        if self.options["no_cache"] and "cache_dir" not in self.options.flags:
            return None
        folder = self.options.path("cache_dir")
        cache: pytest.Cache | None = getattr(self.config, "cache", None)
        if folder is None and cache is not None:
            try:
                folder = cache.mkdir("calibration")
            except OSError as problem:
                self.cache_problem = problem.strerror or str(problem)
        return None if folder is None else Cache(folder)

    def clear_cache(self) -> None:
        """Empty the folder of ``--calibration-cache-dir``, for ``--cache-clear``.

        pytest clears its own. Workers clear nothing: others may have written by then.
        """
        asked = getattr(self.config.option, "cacheclear", False)
        own = self.options["cache_dir"] is not None
        if asked and own and not hasattr(self.config, "workerinput") and self.cache is not None:
            self.cache.clear()
