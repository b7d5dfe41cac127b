"""What travels between the processes of pytest-xdist, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pytest_calibration.errors import CalibrationError
from pytest_calibration.plugin.run import Run


def for_worker(run: Run) -> dict[str, Any]:
    """Return width, settings of pytest, and the models as far as they can be resolved."""
    out: dict[str, Any] = {"width": run.width, "settings": run.pytest_settings}
    # What cannot be resolved is reported by the test that needs it.
    with suppress(CalibrationError):
        if run.options["model"]:
            out["models"] = [spec.as_dict() for spec in run.resolved.models]
    return out


def from_worker(run: Run) -> dict[str, Any]:
    """Return the state of this worker at its end, for the controller."""
    return {
        "collected": run.collected,
        "left_out": run.left_out,
        "used_models": sorted(run.resolved.used_models),
        "unlike": run.resolved.unlike,
        "configs": run.resolved.projects.read(),
        "records": run.records.as_dict(),
        "usage": run.usage.as_dict(run.resolved),
    }


def merge(run: Run, output: Mapping[str, Any]) -> None:
    """Add the state of a worker at its end, as :func:`from_worker` returns it."""
    # Every worker collects all tests.
    run.collected = max(run.collected, output["collected"])
    run.left_out |= output["left_out"]
    run.resolved.used_models.update(output["used_models"])
    run.resolved.unlike |= output["unlike"]
    run.configs |= dict.fromkeys(output["configs"])
    run.records.merge(output["records"])
    run.usage.merge(output["usage"])
