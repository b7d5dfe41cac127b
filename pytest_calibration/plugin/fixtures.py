"""The fixtures. What they do is in ``run`` and ``resolution``, which load heavy packages.

PYTEST_DONT_REWRITE: this module is loaded at every start of pytest and has no assert statement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from pytest_calibration.plugin.session import run_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_calibration.baselines import Baselines
    from pytest_calibration.models.loading import LazyModel
    from pytest_calibration.models.protocols import LanguageModel
    from pytest_calibration.plugin.run import Calibration

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


@pytest.fixture(scope="session")
def calibration_model_spec(request: pytest.FixtureRequest) -> str:
    """The text of the model spec; one parameter per ``--calibration-model``."""
    return run_of(request.config).resolved.select_model(getattr(request, "param", None))


@pytest.fixture(scope="session")
def calibration_model(
    request: pytest.FixtureRequest, calibration_model_spec: str
) -> Iterator[LazyModel]:
    """The model under test; override it in ``conftest.py`` to bring your own."""
    from pytest_calibration.models.loading import LazyModel

    run = run_of(request.config)
    model = run.resolved.load(calibration_model_spec)
    if isinstance(model, LazyModel):  # a project may replace the loader
        run.usage.watch(model.use)
    yield model
    model.release()


@pytest.fixture
def calibration(request: pytest.FixtureRequest, calibration_model: LanguageModel) -> Calibration:
    """The runner: ``.run(probe)`` gives predictions of the model under test."""
    from pytest_calibration.plugin.run import Calibration

    run = run_of(request.config)
    project = run.project_of(request.node)
    run.resolved.check_loaded_for(calibration_model, project)
    model = run.resolved.adopt(calibration_model, project)
    run.resolved.check_named(model)
    return Calibration(run, model, project)


@pytest.fixture
def calibration_probe(request: pytest.FixtureRequest) -> str:
    """The name of a selected probe; a test that asks for it runs once per probe."""
    return run_of(request.config).resolved.probe_name(getattr(request, "param", None))


@pytest.fixture
def calibration_baseline(request: pytest.FixtureRequest) -> Baselines:
    """The baselines stored beside the test file; ``.named("sft")`` for one of several."""
    return run_of(request.config).store_of(request.node)


@pytest.fixture(scope="session")
def calibration_parent(request: pytest.FixtureRequest) -> LazyModel:
    """The model of ``--calibration-parent``."""
    return run_of(request.config).resolved.load_parent()
