"""What a model in training is asked, and what its answers come to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from pytest_calibration.asking import Asker
from pytest_calibration.assertions import assert_no_regression, assert_no_regression_at
from pytest_calibration.baselines import Baselines, Record
from pytest_calibration.baselines.check import compare_with_record
from pytest_calibration.config import Config, nearest_config, read_config
from pytest_calibration.errors import UsageError
from pytest_calibration.gate.strictness import DEFAULT
from pytest_calibration.gate.verdict import Verdict, compare, compare_at_points
from pytest_calibration.metrics import METRICS
from pytest_calibration.models.fitness import unfit
from pytest_calibration.predictions import Predictions
from pytest_calibration.probes.probe import Probe, check_limit
from pytest_calibration.probes.probe_set import ProbeSet, checked_probe, probe_set

Asked: TypeAlias = str | Probe
Baseline: TypeAlias = str | os.PathLike[str] | Baselines | Predictions
MEASURED: Final = ("ece", "accuracy", "signed_gap", "brier")
PREFIX: Final = "calibration_"


@dataclass(frozen=True)
class Measuring:
    """The probes of a run of training, and what they are compared with.

    Attributes:
        probes: all probes there are.
        names: those that are asked.
        limit: number of items of each; wins over ``calibration.yaml``.
        config: the ``calibration.yaml`` that was read.
        baseline: a store, or the predictions of another model on one of the probes.
    """

    probes: ProbeSet
    names: tuple[str, ...]
    limit: int | None
    config: Config
    baseline: Baselines | Predictions | None

    @classmethod
    def of(
        cls,
        asked: Asked | Sequence[Asked],
        limit: int | None,
        baseline: Baseline | None,
        config: str | os.PathLike[str] | None,
    ) -> Measuring:
        """Check what a user asks for, before anything is trained.

        Raises:
            UsageError: no probe, an unknown one, one twice, a bad limit or baseline.
            ConfigError: ``calibration.yaml`` cannot be read.
            BaselineError: a probe has no record in the baseline, or one that cannot be trusted.
        """
        check_limit(limit)
        path = nearest_config(Path.cwd()) if config is None else Path(config)
        settings = read_config(path) if path is not None else Config()
        source = str(settings.path)
        probes = probe_set(settings.probes, settings.folder, source, presets=settings.presets)
        many = isinstance(asked, Iterable) and not isinstance(asked, str)
        given: list[Any] = list(asked) if many else [asked]  # type: ignore[arg-type]
        names = []
        for one in given:
            name = one if isinstance(one, str) else checked_probe(one).name
            if not isinstance(one, str):
                probes.factories[name] = partial(checked_probe, one)
            names.append(name)
        if not names:
            raise UsageError(
                "CalibrationCallback needs at least one probe, got none; give probes, such as "
                'Facts("facts"), or names from calibration.yaml.'
            )
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UsageError(f"CalibrationCallback: the probe {twice!r} is given twice.")
        made = cls(probes, tuple(probes.select(names)), limit, settings, _baseline(baseline))
        made._check_baseline()
        return made

    def _check_baseline(self) -> None:
        if isinstance(self.baseline, Baselines):
            for name in self.names:
                self.baseline.load(name)
        elif self.baseline is not None and self.baseline.probe not in self.names:
            raise UsageError(
                f"CalibrationCallback: the baseline is of the probe {self.baseline.probe!r}, which "
                f"is not asked; asked are: {', '.join(self.names)}."
            )

    def check_fit(self, model: Any) -> None:
        """Raise ModelError where a probe asks a model of another kind."""
        for name in self.names:
            method = getattr(self.probes.get(name), "asks", "")
            if method and not hasattr(model, method):
                raise unfit(model, method)

    def ask(self, model: Any) -> list[Predictions]:
        """Return the model's predictions on each probe."""
        # A new one each time: the answers of earlier steps are of no use to the next.
        asker = Asker(self.probes, limit=self.limit, limits=self.config.limits)
        return [asker.ask(model, name) for name in self.names]

    def verdict(self, predictions: Predictions) -> Verdict | None:
        """Compare with the baseline; None where there is none for this probe."""
        strictness = DEFAULT.with_first(alpha=[self.config.alpha])
        project = strictness.with_first(tolerance=[self.config.probe_tolerance(predictions.probe)])
        points = self.config.operating_points(predictions.probe)
        if isinstance(self.baseline, Baselines):
            record = self.baseline.load(predictions.probe)
            return compare_with_record(predictions, record, project, points=points)
        if self.baseline is None or self.baseline.probe != predictions.probe:
            return None
        verdict = compare(predictions, self.baseline, **project.arguments(), against="baseline")
        at_points = compare_at_points(
            predictions, self.baseline, points, project, against="baseline"
        )
        return replace(verdict, at_points=at_points)

    def assert_no_regression(self, predictions: Predictions) -> None:
        """Raise AssertionError with the whole text, where :meth:`verdict` fails."""
        assert self.baseline is not None
        reference: Baselines | Record | Predictions = self.baseline
        tolerance = self.config.probe_tolerance(predictions.probe)
        if isinstance(reference, Baselines):
            record = reference.load(predictions.probe)
            tolerance = tolerance if record.tolerance is None else record.tolerance
            reference = record
        alpha = DEFAULT.with_first(alpha=[self.config.alpha]).alpha
        assert_no_regression(predictions, reference, tolerance=tolerance, alpha=alpha)
        points = self.config.operating_points(predictions.probe)
        for point in points:
            assert_no_regression_at(
                predictions, reference, **asdict(point), alpha=alpha / len(points)
            )


def metrics_of(
    all_predictions: Sequence[Predictions], verdicts: Mapping[str, Verdict | None]
) -> dict[str, float]:
    """Return what a Trainer logs: ``eval_calibration_ece`` and its like.

    Of several probes it is their mean, and the numbers of each stand beside it, as
    ``eval_calibration_<probe>_ece``.
    """
    rows = {p.probe: {name: METRICS[name](p) for name in MEASURED} for p in all_predictions}
    for probe, verdict in verdicts.items():
        if verdict is not None:
            fails = any(one.state.fails for one in (verdict, *verdict.at_points))
            rows[probe]["regressed"] = float(fails)
    out = {}
    for name in (*MEASURED, "regressed"):
        values = [row[name] for row in rows.values() if name in row]
        if values:
            # One that got worse is enough.
            joined = max(values) if name == "regressed" else float(np.mean(values))
            out[f"eval_{PREFIX}{name}"] = joined
    if len(rows) > 1:
        out |= {
            f"eval_{PREFIX}{probe}_{name}": value
            for probe, row in rows.items()
            for name, value in row.items()
        }
    return out


def directions(names: Sequence[str], *, compared: bool) -> dict[str, str]:
    """Map each metric of :func:`metrics_of`, without ``eval_``, to which direction is better.

    Args:
        names: the probes that are asked.
        compared: whether there is a baseline.
    """
    stems = [PREFIX, *(f"{PREFIX}{name}_" for name in names if len(names) > 1)]
    better: dict[str, str] = {name: METRICS[name].better for name in MEASURED}
    if compared:
        better["regressed"] = "lower"
    return {f"{stem}{name}": direction for stem in stems for name, direction in better.items()}


def _baseline(given: Baseline | None) -> Baselines | Predictions | None:
    if given is None or isinstance(given, Baselines | Predictions):
        return given
    if isinstance(given, str | os.PathLike):
        return Baselines(Path(given))
    raise UsageError(
        "CalibrationCallback: the baseline must be a folder, Baselines or Predictions, got "
        f"{type(given).__name__}."
    )
