"""What a run probes: models and where they are kept, from options and ``calibration.yaml``.

Models are resolved once, by the controller of pytest-xdist where there is one.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import pytest

from pytest_calibration.errors import CalibrationError, UsageError
from pytest_calibration.extras import require
from pytest_calibration.plugin.projects import Project, Projects
from pytest_calibration.plugin.resolved_options import Options, usage_errors

if TYPE_CHECKING:
    from pytest_calibration.history.checkpoints import Checkpoint
    from pytest_calibration.models.backends import ModelSpec
    from pytest_calibration.models.cache import Cache
    from pytest_calibration.models.loading import LazyModel

NO_MODEL: Final = (
    "no model: pass --calibration-model, set calibration_model in the ini file, or override the "
    "fixture calibration_model."
)


class ModelParameter(NamedTuple):
    """What a test of one model is parametrised with: a session may load a model once per project.

    Attributes:
        name: of the model.
        project: whose settings load it.
    """

    name: str
    project: Project


class Resolution:
    """Models, probes and settings of a run.

    Args:
        config: pytest's configuration.
        options: the options of the run.
        from_controller: what the controller sent to this worker; empty in any other process.

    Attributes:
        projects: the ``calibration.yaml`` of each test.
        current: the model that the running tests are parametrised with.
        project: the project of the running tests.
        used_models: names of the models that tests were parametrised with.
        unlike: text of a spec to the name of the model that an overridden fixture gave for it,
            where these have nothing in common.
        cache_problem: what is wrong with the cache's folder, where it cannot be made.
    """

    def __init__(
        self, config: pytest.Config, options: Options, from_controller: dict[str, Any]
    ) -> None:
        self.config = config
        self.options = options
        self.projects = Projects(config, options)
        self.current: ModelSpec | None = None
        self.project: Project | None = None
        self.used_models: set[str] = set()
        self.unlike: dict[str, str] = {}
        self.cache_problem = ""
        self._from_controller = from_controller
        self._parents: dict[Project, LazyModel] = {}
        self._checkpoints: dict[ModelSpec, Checkpoint] = {}
        self._adopted: tuple[object, Project, object] | None = None
        self._loaded_for: WeakKeyDictionary[object, Project] = WeakKeyDictionary()

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
            if "replicas" in options.flags:
                self._check_replicas()
            writes = next((n for n in ("record", "accept", "anchor") if options[n] is not None), "")
            if writes:
                self._check_writes(writes)
            if "model" in options.flags and not self._from_controller:
                _ = self.models
            if "probe" in options.flags and not self._from_controller:
                self.projects.check_probes(options["probe"])

    def _check_replicas(self) -> None:
        from pytest_calibration.models.loading import check_replicated

        # First what no installation mends.
        if self.options["model"] and not self._from_controller:
            for model in self.models:
                check_replicated(model)
        require("ray", "ray")
        processes = getattr(self.config.option, "numprocesses", None)
        if isinstance(processes, int) and processes > 1:
            raise UsageError(
                f"--calibration-replicas together with -n {processes}: each worker of pytest-xdist "
                "would start replicas of its own; leave one of them out."
            )

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

    def checkpoint(self, spec: ModelSpec) -> Checkpoint:
        """Return which state of a training run a model is; a path is as seen from rootdir."""
        from pytest_calibration.history.checkpoints import checkpoint_of

        if spec not in self._checkpoints:
            found = checkpoint_of(spec.text)
            self._checkpoints[spec] = found.seen_from(self.config.rootpath) if spec.local else found
        return self._checkpoints[spec]

    def select_model(self, parameter: ModelParameter | str | None) -> str:
        """Make a model the current one and return the text of its spec.

        Args:
            parameter: of the test; text where the test parametrises itself, None for a test that
                cannot be parametrised, such as one of a TestCase.
        """
        name = parameter.name if isinstance(parameter, ModelParameter) else parameter
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
        project = self._current_project
        model = load_model(current or text, project.load_settings, cache=self.cache)
        self._loaded_for[model] = project
        return model

    def check_loaded_for(self, model: object, project: Project) -> None:
        """Fail a test whose model was loaded as another project says.

        A test that cannot be parametrised gets the model that is there.
        """
        # What a project brings itself is not in here.
        if model not in self._loaded_for:
            return
        other = self._loaded_for[model]
        if other is not project and other.load_settings != project.load_settings:
            pytest.fail(
                f"this test cannot be run once per model, and {other.shown} and {project.shown} "
                "load the model differently; ask for the fixture as an argument of a test "
                "function, or run their tests apart.",
                pytrace=False,
            )

    def adopt(self, value: Any, project: Project) -> Any:
        """Return the model that the fixture stands for, the same as long as the fixture lives.

        Raises:
            CalibrationError: it can be made into none.
        """
        from pytest_calibration.models.adopted import adopted

        before = self._adopted
        if before is not None and before[0] is value and before[1] is project:
            return before[2]
        model = adopted(value, lambda: project.load_settings, self.cache)
        if model is not value:
            self._adopted = value, project, model
        return model

    def drop_adopted(self) -> None:
        """Let go of the model that was made of a fixture's value."""
        if self._adopted is not None:
            release = getattr(self._adopted[2], "release", None)
            self._adopted = None
            if callable(release):
                release()

    def check_named(self, model: object) -> None:
        """Remember a model whose name has nothing in common with the spec that asks for it."""
        spec = self.current
        if spec is None or model in self._loaded_for:
            return
        name = str(getattr(model, "name", ""))
        tail = Path(spec.location).name
        if not (tail in name or spec.name in name or (name and name in spec.text)):
            self.unlike[spec.text] = name

    @property
    def _current_project(self) -> Project:
        return self.project or self.projects.of(None)

    @cached_property
    def parent_spec(self) -> ModelSpec | None:
        """The model of ``--calibration-parent``.

        Raises:
            UsageError: it names no model, or several.
        """
        text = self.options["parent"]
        if text is None:
            return None
        specs = self._specs("parent", [text])
        if len(specs) != 1:
            raise UsageError(f"--calibration-parent {text!r} names {len(specs)} models; name one.")
        return specs[0]

    def parent(self, project: Project | None = None) -> LazyModel | None:
        """Return the parent, loaded as a project says (by default, that of the running test).

        A temperature belongs to the models that are tested; the parent is asked as it is.
        """
        from pytest_calibration.models.loading import load_model

        spec, project = self.parent_spec, project or self._current_project
        if spec is not None and project not in self._parents:
            settings = {**project.load_settings, "temperature": 1.0}
            self._parents[project] = load_model(spec, settings, cache=self.cache)
        return self._parents.get(project)

    def load_parent(self) -> LazyModel:
        """Return the parent; fail the test that asks for one where none is named."""
        parent = self.parent()
        if parent is None:
            pytest.fail("no parent: pass --calibration-parent.", pytrace=False)
        return parent

    # --- probes ------------------------------------------------------------------------------

    def probe_name(self, name: str | None) -> str:
        """Return the probe of a test: its parameter, without which the test fails."""
        if name is None:
            pytest.fail(
                "calibration_probe is run once per probe, which needs an argument of a test "
                "function; here, name the probe: calibration.run('facts').",
                pytrace=False,
            )
        return name

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
                self.cache_problem = f"cannot be written ({problem.strerror or problem})"
        return None if folder is None else Cache(folder)

    def clear_cache(self) -> None:
        """Empty the folder of ``--calibration-cache-dir``, for ``--cache-clear``.

        pytest clears its own. Workers clear nothing: others may have written by then.
        """
        asked = getattr(self.config.option, "cacheclear", False)
        own = self.options["cache_dir"] is not None
        if asked and own and not hasattr(self.config, "workerinput") and self.cache is not None:
            self.cache.clear()
