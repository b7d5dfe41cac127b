"""The temperature to serve a model at: what it would bring, and whether to do so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pytest_calibration.diagnosis.diagnosing import diagnose
from pytest_calibration.diagnosis.findings import Diagnosis, EceReading, TemperatureFit
from pytest_calibration.diagnosis.recalibration import read_ece
from pytest_calibration.diagnosis.temperature import apply_temperature, fit_temperature, scale_of
from pytest_calibration.predictions import Predictions

# More digits than the interval of 100,000 items supports would only seem exact.
DIGITS = 3


def rounded(temperature: float) -> float:
    """Return a temperature as it is written into a file."""
    return float(f"{temperature:.{DIGITS}g}")


@dataclass(frozen=True)
class Recalibration:
    """What a temperature would bring for some predictions.

    Attributes:
        predictions: as the model is.
        diagnosis: of these.
        served_at: the temperature that these were already served at.
    """

    predictions: Predictions
    diagnosis: Diagnosis
    served_at: float = 1.0

    @classmethod
    def of(cls, predictions: Predictions) -> Recalibration:
        """Fit the temperature of some predictions, with its ECE on held-out folds."""
        served_at = float(predictions.signature.soft.get("temperature", 1))
        return cls(predictions, diagnose(predictions), served_at)

    @property
    def fit(self) -> TemperatureFit | None:
        """The best temperature, beside that they were served at; None where none matters."""
        return self.diagnosis.temperature

    @property
    def helps(self) -> bool:
        """Whether the best temperature is surely not 1, and lowers ECE on held-out folds."""
        after = self.diagnosis.after_temperature
        certain = self.fit is not None and self.fit.differs_from_one
        worse = self.diagnosis.problem != "none"
        return certain and worse and after is not None and after.value < self.diagnosis.ece.value

    @property
    def of_logits(self) -> bool:
        """Whether the temperature is one that logits can be divided by."""
        return self.fit is not None and self.fit.scale == "logits"

    @cached_property
    def temperature(self) -> float | None:
        """T of ``model: {temperature: T}``; None where it does not help, or is not of logits."""
        if not self.helps or not self.of_logits or self.fit is None:
            return None
        return rounded(self.served_at * self.fit.value)

    def at(self, temperature: float) -> tuple[float, EceReading]:
        """Return mean confidence and ECE of the same answers served at a temperature."""
        served = apply_temperature(self.predictions, temperature / self.served_at)
        return float(served.confidence.mean()), read_ece(served, self.diagnosis.bins)


def common_temperature(found: Sequence[Recalibration]) -> float | None:
    """Return the one temperature that minimises NLL over several sets of predictions.

    Every item counts alike. Only tables of options count, since a model has one temperature of its
    logits; where no more than one set has such a table, it is that of this set.

    Returns:
        T of ``model: {temperature: T}``; None where no set is helped by a temperature.
    """
    with_table = [one for one in found if scale_of(one.predictions) == "logits"]
    if len(with_table) < 2:
        return with_table[0].temperature if with_table else None
    if not any(one.helps for one in with_table):
        return None
    tables, labels = [], []
    for one in with_table:
        # As the model is by itself, whatever the set was served at.
        p = apply_temperature(one.predictions, 1 / one.served_at)
        assert p.probabilities is not None
        assert p.labels is not None
        tables.append(p.probabilities)
        labels.append(p.labels)
    width = max(table.shape[1] for table in tables)
    padded = [np.pad(table, ((0, 0), (0, width - table.shape[1]))) for table in tables]
    fit = fit_temperature(
        Predictions.from_probabilities(np.concatenate(padded), np.concatenate(labels))
    )
    return None if fit is None or fit.at_limit else rounded(fit.value)
