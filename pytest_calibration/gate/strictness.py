"""How strict the gate is: its numbers, their defaults and ranges. Light: imports no numpy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Final

from pytest_calibration.errors import MetricError
from pytest_calibration.text.visible import quoted

TOLERANCE: Final = 0.02
ALPHA: Final = 0.05
MAX_UNDETECTED: Final = 0.05
MIN_SHARE: Final = 0.95
TAIL: Final = 0.9
THRESHOLD: Final = 0.9
# Coverage moves by more than confidences do, and costs less than a wrong answer that is acted on.
COVERAGE_TOLERANCE: Final = 0.05


MAY_BE_NONE: Final = frozenset({"accuracy_tolerance", "drift_tolerance", "coverage_tolerance"})


def range_error(name: str, value: object) -> str:
    """Return what is wrong with a value: ``must be a number of …, got 5``; empty if nothing is.

    For everything that reads such a value, each of which says itself where the value comes from::

        problem = range_error("tolerance", value)
        if problem:
            raise ConfigError(f"{path}: tolerance {problem}.")

    Args:
        name: a field of :class:`Strictness` or :class:`OperatingPoint`.
        value: what was read. None is right for a name of ``MAY_BE_NONE``.
    """
    if name in MAY_BE_NONE and value is None:
        return ""
    # NaN lies in no range.
    number: Any = math.nan if isinstance(value, bool) or not isinstance(value, Real) else value
    if name == "alpha":
        expected, fits = "above 0 and below 0.5", 0 < number < 0.5
    elif name in ("tail", "threshold"):
        expected, fits = "of at least 0 and at most 1", 0 <= number <= 1
    else:
        expected, fits = "of at least 0 and below 1", 0 <= number < 1
    return "" if fits else f"must be a number {expected}, got {quoted(value)}"


@dataclass(frozen=True)
class Setting:
    """A setting that is not the default.

    Attributes:
        name: a field of :class:`Strictness` or :class:`OperatingPoint`.
        value: what it is here; None where it is switched off.
        default: what it is by default.
    """

    name: str
    value: float | None
    default: float | None

    def __str__(self) -> str:
        """Name both values: ``tolerance 0.99 instead of 0.02``."""
        value = "off" if self.value is None else f"{self.value:g}"
        return f"{self.name.replace('_', ' ')} {value} instead of {self.default:g}"


@dataclass(frozen=True)
class Strictness:
    """How strict a comparison is.

    Attributes:
        tolerance: allowed worsening in ECE units, in [0, 1).
        alpha: one-sided error level of each bound, in (0, 0.5).
        accuracy_tolerance: allowed loss of accuracy, in [0, 1); None switches this guard off.
        max_undetected: how much beyond the tolerance may stay undetected, in [0, 1).
        min_share: share of the baseline's items that must be compared, in [0, 1); less is compared
            only where it is what a limit takes (``Predictions.limited``).
        tail: the answers with more confidence than this are also compared by themselves; in
            [0, 1], where 1 switches that off.
        drift_tolerance: allowed worsening since the anchor, over all accepted steps together, in
            [0, 1); None for twice the tolerance.

    Raises:
        MetricError: a value that is no number, or outside its range.
    """

    tolerance: float = TOLERANCE
    alpha: float = ALPHA
    accuracy_tolerance: float | None = TOLERANCE
    max_undetected: float = MAX_UNDETECTED
    min_share: float = MIN_SHARE
    tail: float = TAIL
    drift_tolerance: float | None = None

    def __post_init__(self) -> None:
        _check_ranges(self)

    def changed(self) -> tuple[Setting, ...]:
        """Return the settings that are not the default, but for ``min_share``, the least first.

        How many items were compared stands beside each verdict. What is allowed since the anchor is
        a setting of that comparison alone, see :meth:`since_anchor`.
        """
        return tuple(
            Setting(name, value, getattr(DEFAULT, name))
            for name, value in vars(self).items()
            if name not in ("min_share", "drift_tolerance") and value != getattr(DEFAULT, name)
        )

    def arguments(self) -> dict[str, Any]:
        """Return all that one comparison takes, by name: ``compare(…, **strictness.arguments())``.

        Two sides that are compared know nothing of an anchor.
        """
        return {name: value for name, value in vars(self).items() if name != "drift_tolerance"}

    def since_anchor(self) -> Strictness:
        """Return how strict the comparison with the anchor is.

        The tolerance is the drift tolerance, and accuracy may fall by twice what it may in a step.
        """
        guard, drift = self.accuracy_tolerance, self.drift_tolerance
        return replace(
            self,
            tolerance=_twice(self.tolerance) if drift is None else drift,
            accuracy_tolerance=None if guard is None else _twice(guard),
        )

    def with_first(self, **values: Iterable[float | None]) -> Strictness:
        """Return this with the first value that is given for a setting, the nearest named first.

        A setting for which all are None stays as it is. What the call says goes before what the
        record says, and that before what the project says::

            Strictness().with_first(tolerance=(call, record.tolerance, project.tolerance))
        """
        chosen = {}
        for name, candidates in values.items():
            first = next((value for value in candidates if value is not None), None)
            if first is not None:
                chosen[name] = first
        return replace(self, **chosen)


def _check_ranges(settings: object) -> None:
    """Turn the numbers of a frozen dataclass into floats.

    Raises:
        MetricError: a value that is no number, or outside its range.
    """
    for name, value in list(vars(settings).items()):
        problem = range_error(name, value)
        if problem:
            raise MetricError(f"{name} {problem}.")
        if value is not None:
            object.__setattr__(settings, name, float(value))


def _twice(tolerance: float) -> float:
    return min(2 * tolerance, math.nextafter(1, 0))


DEFAULT: Final = Strictness()


@dataclass(frozen=True)
class OperatingPoint:
    """A confidence from which on answers are acted on, and what may get worse there.

    An answer is acted on where its confidence is at least the threshold, both in float32.

    Attributes:
        threshold: the confidence, in [0, 1].
        tolerance: allowed fall of precision (the accuracy of these answers), in [0, 1).
        coverage_tolerance: allowed fall of coverage (their share), in [0, 1); None for any.

    Raises:
        MetricError: a value that is no number, or outside its range.
    """

    threshold: float = THRESHOLD
    tolerance: float = TOLERANCE
    coverage_tolerance: float | None = COVERAGE_TOLERANCE

    def __post_init__(self) -> None:
        _check_ranges(self)

    @property
    def name(self) -> str:
        """The threshold with as many digits as float32 tells apart: ``0.9``."""
        return f"{self.threshold:.9g}"

    def changed(self) -> tuple[Setting, ...]:
        """Return the tolerances that are not the default."""
        return tuple(
            Setting(name, value, default)
            for name, value, default in (
                ("tolerance", self.tolerance, TOLERANCE),
                ("coverage_tolerance", self.coverage_tolerance, COVERAGE_TOLERANCE),
            )
            if value != default
        )
