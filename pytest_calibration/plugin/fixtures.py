"""The fixtures a test asks for. Heavy packages are imported inside them only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from pytest_calibration.plugin.session import run_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_calibration.baselines import Baselines
    from pytest_calibration.models.loading import LazyModel
    from pytest_calibration.models.protocols import LanguageModel
    from pytest_calibration.plugin.run import Run
    from pytest_calibration.predictions import Predictions
    from pytest_calibration.probes.probe import Probe

NAMES: Final = frozenset(
    {
        "calibration",
        "calibration_baseline",
        "calibration_model",
        "calibration_model_spec",
        "calibration_parent",
        "calibration_probe",
    }
)
NO_MODEL: Final = (
    "no model: pass --calibration-model, set calibration_model in the ini file, or override the "
    "fixture calibration_model."
)


class Calibration:
    """Runs probes on the model of a test.

    Attributes:
        model: the model.
        probes: names of the probes this run selects.
    """

    def __init__(self, run: Run, model: LanguageModel) -> None:
        self._run = run
        self.model = model

    def __repr__(self) -> str:
        return f"<calibration of {self.model.name}>"

    @property
    def probes(self) -> list[str]:
        """Names of the probes this run selects."""
        return list(self._run.selected)

    def run(self, probe: str | Probe, *, limit: int | None = None) -> Predictions:
        """Run a probe, once per session and model.

        Args:
            probe: a probe or its name.
            limit: at most so many items; wins over the option and ``calibration.yaml``.

        Raises:
            UsageError: an unknown name.
            ProbeError: a probe that cannot score all its items.
            ModelError: a model that cannot be loaded or scored.
        """
        return self._run.asker.ask(self.model, probe, limit)


@pytest.fixture(scope="session")
def calibration_model_spec(request: pytest.FixtureRequest) -> str:
    """The text of the model spec; one parameter per ``--calibration-model``."""
    run = run_of(request.config)
    name = getattr(request, "param", None)
    if name is None and run.options["model"]:
        # Neither a TestCase nor getfixturevalue can be parametrised: one model needs no parameter.
        if len(run.models) > 1:
            pytest.fail(
                f"this test cannot be run once per model, and {len(run.models)} are named; name "
                "one, or ask for the fixture as an argument of a test function.",
                pytrace=False,
            )
        name = run.models[0].name
    if name is None:
        if run.options["no_model"] == "skip":
            pytest.skip(NO_MODEL)
        pytest.fail(NO_MODEL, pytrace=False)
    run.used_models.add(name)
    run.current = run.find_model(name)
    return run.current.text if run.current is not None else str(name)


@pytest.fixture(scope="session")
def calibration_model(
    request: pytest.FixtureRequest, calibration_model_spec: str
) -> Iterator[LazyModel]:
    """The model under test; override it in ``conftest.py`` to bring your own."""
    from pytest_calibration.models.loading import LazyModel, load_model

    run = run_of(request.config)
    current = run.current
    # A project may override the spec fixture alone: then its text is what counts.
    known = current is not None and current.text == calibration_model_spec
    if current is not None and not known and "model" in run.options.flags:
        from pytest_calibration.errors import UsageError

        raise UsageError(
            f"calibration_model_spec is overridden and gives {calibration_model_spec!r}, so "
            f"--calibration-model {current.text!r} would be ignored; leave one of them out."
        )
    spec = current if current is not None and known else calibration_model_spec
    model = load_model(spec, run.load_settings, cache=run.cache)
    if isinstance(model, LazyModel):  # a project may replace the loader
        run.usage.watch(model.use)
    yield model
    model.release()


@pytest.fixture
def calibration(request: pytest.FixtureRequest, calibration_model: LanguageModel) -> Calibration:
    """The runner: ``.run(probe)`` gives predictions of the model under test."""
    return Calibration(run_of(request.config), calibration_model)


@pytest.fixture
def calibration_probe(request: pytest.FixtureRequest) -> str:
    """The name of a selected probe; a test that asks for it runs once per probe."""
    if not hasattr(request, "param"):
        pytest.fail(
            "calibration_probe is run once per probe, which needs an argument of a test function; "
            "here, name the probe: calibration.run('facts').",
            pytrace=False,
        )
    name: str = request.param
    return name


@pytest.fixture
def calibration_baseline(request: pytest.FixtureRequest) -> Baselines:
    """The baselines stored beside the test file; ``.named("sft")`` for one of several."""
    return run_of(request.config).store_of(request.node)


@pytest.fixture(scope="session")
def calibration_parent(request: pytest.FixtureRequest) -> LazyModel:
    """The model of ``--calibration-parent``."""
    parent = run_of(request.config).parent
    if parent is None:
        pytest.fail("no parent: pass --calibration-parent.", pytrace=False)
    return parent
