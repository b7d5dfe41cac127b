"""What the assertions of a running test tell the session, as flat test properties."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import pytest

from pytest_calibration.plugin.run import Run, flag_arguments, model_name

if TYPE_CHECKING:
    from pytest_calibration.gate import Settings
    from pytest_calibration.predictions import Predictions
    from pytest_calibration.verdict import Verdict

PREFIX: Final = "calibration."


class SessionSink:
    """The sink of one test.

    Args:
        run: the session.
        item: the test.
    """

    def __init__(self, run: Run, item: pytest.Item) -> None:
        self.run = run
        self.item = item
        self.count = 0
        run.forget(item.nodeid)
        # A rerun starts anew: only its last attempt is reported.
        item.user_properties[:] = [
            (key, value) for key, value in item.user_properties if not key.startswith(PREFIX)
        ]

    def seen(self, verdict: Verdict) -> None:
        """Attach the verdict to the test as ``calibration.<k>.<field>`` properties."""
        self.count += 1
        for key, value in flat(verdict).items():
            self.item.user_properties.append((f"{PREFIX}{self.count}.{key}", value))

    def fails(self, verdict: Verdict) -> bool:
        """Fail on what fails everywhere, and on inconclusive where the project says so."""
        if verdict.state == "inconclusive":
            return bool(self.run.options["inconclusive"] == "fail")
        return verdict.state.fails

    def remedy(self, verdict: Verdict) -> str:
        """Return the command that records or accepts what was just measured."""
        if verdict.reference != "baseline":
            return ""
        where = os.path.relpath(self.item.path, self.run.config.invocation_params.dir)
        test = self.item.nodeid.partition("::")[2]
        if verdict.state == "no_baseline":
            return f"to record it:\n  {self._command([where], ['--calibration-record'])}"
        above = verdict.state == "above_limit" and verdict.baseline is not None
        # A limit written by hand is changed by hand; the text names its file.
        above = above and not verdict.reason
        if verdict.state in ("regressed", "not_comparable") or above:
            flags = ["--calibration-accept=REASON"]
            return f"to accept it:\n  {self._command([f'{where}::{test}'], flags)}"
        return ""

    def _command(self, places: list[str], flags: list[str]) -> str:
        # A record is of all items, whatever this run was limited to.
        skip = ("model", "parent", "record", "accept", "prune", "list", "limit")
        kept = flag_arguments(self.run.options, skip)
        return shlex.join(["pytest", *places, *self._model(), *kept, *flags])

    def _model(self) -> list[str]:
        name = model_name(self.item)
        if "model" not in self.run.options.flags or name is None:
            return []
        spec = self.run.find_model(name)
        if spec is None:
            return []
        label = f"{spec.baseline}=" if spec.baseline else ""
        return [f"--calibration-model={label}{spec.text}"]

    def settings(self, predictions: Predictions) -> Settings:
        """Return ini keys over ``calibration.yaml`` over defaults."""
        from pytest_calibration.gate import Settings

        options, project = self.run.options, self.run.project
        default = Settings()
        # A probe's own tolerance is nearer to it than the ini's for the whole project.
        own = project.probes.get(predictions.probe, {}).get("tolerance")
        tolerance = first(own, options["tolerance"], project.tolerance, default.project_tolerance)
        return Settings(
            project_tolerance=tolerance,
            alpha=first(options["alpha"], project.alpha, default.alpha),
            max_undetected=first(options["max_undetected"], default.max_undetected),
        )

    def parents(self, predictions: Predictions) -> Iterable[tuple[str, Predictions]]:
        """Return the parent's predictions on the same probe."""
        return list(self.run.parent_predictions(predictions))


def first(*values: float | None) -> float:
    """Return the first value that says something."""
    return next(float(v) for v in values if v is not None)


def flat(verdict: Verdict) -> dict[str, str | float | int]:
    """Return a verdict as flat scalars; what does not apply is left out."""
    m = verdict.measurement
    out: dict[str, str | float | int] = {
        "state": str(verdict.state),
        "model": m.model,
        "probe": m.probe,
        "metric": m.label,
        "n": verdict.n or m.n,
        "value": m.value,
        "low": m.low,
        "high": m.high,
        "noise_floor": m.noise_floor,
        "accuracy": m.accuracy,
        "mean_confidence": m.mean_confidence,
        "limit": verdict.limit,
        "difference": verdict.difference,
        "bound": verdict.bound,
        "smallest_visible": verdict.smallest_visible,
        "false_alarm_rate": verdict.false_alarm_rate,
        "reference": verdict.reference if verdict.baseline is not None else "",
    }
    if verdict.baseline is not None:
        out["baseline"] = verdict.baseline.value
        out["tolerance"] = verdict.tolerance
    if verdict.above:
        out["limit_is"] = "floor"
    if verdict.n_needed:
        out["n_needed"] = verdict.n_needed
    if verdict.improved and verdict.reference == "baseline":
        out["improved"] = 1
    fired = [c.name for c in verdict.components if c.fired]
    if fired:
        out["component"] = ", ".join(fired)
    plain = {key: scalar(value) for key, value in out.items() if value != ""}
    return {
        key: value
        for key, value in plain.items()
        if not (isinstance(value, float) and math.isnan(value))
    }


def scalar(value: object) -> str | float | int:
    """Return a builtin scalar: what travels between processes must be exactly that."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    return float(value)  # type: ignore[arg-type]


def rows_of(properties: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    """Gather the verdicts back from a report's properties, in order."""
    rows: dict[int, dict[str, Any]] = {}
    for key, value in properties:
        if key.startswith(PREFIX):
            number, _, field = key.removeprefix(PREFIX).partition(".")
            if number.isdigit() and field:
                rows.setdefault(int(number), {})[field] = value
    return [rows[number] for number in sorted(rows)]
