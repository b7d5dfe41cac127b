"""The temperature to serve a model at: what it would bring, and whether to do so."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from pytest_calibration.diagnosis.diagnosing import diagnose
from pytest_calibration.diagnosis.findings import Diagnosis, EceReading, TemperatureFit
from pytest_calibration.diagnosis.recalibration import read_ece
from pytest_calibration.diagnosis.temperature import apply_temperature, fit_temperature, scale_of
from pytest_calibration.measurement import measure
from pytest_calibration.predictions import Predictions

# More digits than the interval of 100,000 items supports would only seem exact.
DIGITS: Final = 3
# A signed gap that no gate sees, and the largest step of log T: a factor of 2.
NEAR: Final = 0.003
STRIDE: Final = math.log(2)


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
    def errs(self) -> bool:
        """Whether it is over- or under-confident, and its ECE beyond noise."""
        return self.diagnosis.ece.beyond_noise and self.diagnosis.signed_gap.sign != 0

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


class Balance(NamedTuple):
    """The temperature at which mean confidence is accuracy, found by asking the model.

    Attributes:
        temperature: T of ``model: {temperature: T}``.
        low: lower end of its 95 % interval.
        high: upper end.
        asked: how often the model was asked.
        predictions: what it answered at T.
    """

    temperature: float
    low: float
    high: float
    asked: int
    predictions: Sequence[Predictions]


def balanced_temperature(
    ask: Callable[[float], Sequence[Predictions]],
    found: Sequence[Recalibration],
    *,
    most: int = 6,
) -> Balance | None:
    """Find the temperature at which mean confidence is accuracy, where no table tells it.

    The confidence of one token among thousands is no known function of the temperature, so the
    model is asked anew at each that is tried: first at 2 or 1/2, then by the secant of the signed
    gap in log T. All items of the sets without a table count alike.

    Args:
        ask: returns what the model answers at a temperature, in the order of ``found``.
        found: of the model as it is, at a temperature of 1.
        most: how often it may be asked.

    Returns:
        None where no set without a table errs one way, or none tried brings the gap near 0.
    """
    places = [i for i, one in enumerate(found) if one.errs and not one.of_logits]
    if not places:
        return None

    def gap(sets: Sequence[Predictions]) -> tuple[float, float]:
        """Return the signed gap and half the width of its interval."""
        apart = np.concatenate([sets[i].confidence - sets[i].correct for i in places])
        widths = [measure(sets[i], "signed_gap") for i in places]
        half = max((m.high - m.low) / 2 for m in widths) / math.sqrt(len(places))
        return float(apart.mean()), half

    before, _ = gap([one.predictions for one in found])
    last, here = 0.0, math.copysign(STRIDE, before)
    for asked in range(1, most + 1):
        t = rounded(math.exp(here))
        sets = ask(t)
        after, half = gap(sets)
        slope = (after - before) / (here - last) if here != last else 0.0
        if abs(after) <= min(NEAR, half):
            # Confidence falls as T rises, so the slope is below 0.
            spread = half / max(abs(slope), 1e-6)
            return Balance(t, t * math.exp(-spread), t * math.exp(spread), asked, sets)
        if slope >= 0:
            return None
        step = max(-STRIDE, min(STRIDE, -after / slope))
        last, here, before = here, here + step, after
    return None


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
