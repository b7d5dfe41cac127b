"""One line of a history: what was measured of one model on one probe.

A line is a JSON object in ASCII, complete in itself, so that lines may be filtered, joined and
sorted by any program. ``docs/how-to/drift.md`` describes its fields.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from pytest_calibration.errors import MetricError
from pytest_calibration.history.checkpoints import Checkpoint
from pytest_calibration.history.format import FORMAT, check_format
from pytest_calibration.measurement import Measurement, measure, measure_all
from pytest_calibration.metrics.table import AT_THRESHOLD, metric_at
from pytest_calibration.predictions import Predictions, Signature, Unit, digest
from pytest_calibration.reports.documents import converted, loads
from pytest_calibration.text.visible import visible

# Significant digits of a stored number.
DIGITS: Final = 6

Count: TypeAlias = Annotated[int, Meta(ge=1, le=2**63 - 1, description="a number of at least 1")]
Steps: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1, description="a number of at least 0")]
Epochs: TypeAlias = Annotated[float, Meta(ge=0, description="a number of at least 0")]
Digest: TypeAlias = Annotated[
    str, Meta(pattern="^([0-9a-f]{64})?\\Z", description="64 hexadecimal digits, or empty")
]


# A long history holds hundreds of thousands, which structs make far cheaper than dataclasses.
class Number(msgspec.Struct, frozen=True, gc=False):
    """One metric of a line. None stands for what is not there or not finite.

    Attributes:
        value: the value.
        low: lower end of the 95 % interval.
        high: upper end of the 95 % interval.
        noise_floor: mean value for a calibrated model with these confidences; None for a metric
            that is not a calibration error.
    """

    value: float
    low: float | None = None
    high: float | None = None
    noise_floor: float | None = None


@dataclass(frozen=True, kw_only=True)
class Line:
    """One measurement of one model on one probe.

    Attributes:
        format: version of the fields.
        time: when it was measured, UTC as ISO 8601.
        commit: the commit that was checked out; empty where it is not known.
        model: where the checkpoint lies, or a name on the hub without revision.
        revision: revision on the hub; empty for a directory.
        probe: name of the probe.
        step: optimizer steps of the training run; None where they are not known.
        epoch: epochs of the training run; None where they are not known.
        tokens: tokens that the training run has seen; None where they are not known.
        stage: name of the stage (``base``, ``sft``); empty where none is given.
        parent: ``model_text`` of the model that it was trained from; empty for none.
        n: number of items measured.
        unit: what one item is, ``item`` or ``token``.
        units: number of independent units among them.
        signature: digest of the settings in which two runs must agree to be comparable.
        metrics: every scalar metric that the predictions give, by name; at operating points also
            ``coverage@0.9`` and ``precision@0.9``.
        verdict: state of the most serious verdict; empty where nothing was judged.
        items: SHA-256 of the file of its items; empty where none are kept.
    """

    format: int = FORMAT
    time: str = ""
    commit: str = ""
    model: str
    revision: str = ""
    probe: str
    step: Steps | None = None
    epoch: Epochs | None = None
    tokens: Steps | None = None
    stage: str = ""
    parent: str = ""
    n: Count
    unit: Unit = "item"
    units: Count
    signature: str = ""
    metrics: Mapping[str, Number] = field(default_factory=dict, hash=False)
    verdict: str = ""
    items: Digest = ""

    @classmethod
    def of(
        cls,
        predictions: Predictions,
        *,
        model: str | None = None,
        checkpoint: Checkpoint | None = None,
        stage: str = "",
        parent: str = "",
        verdict: str = "",
        commit: str = "",
        time: datetime | None = None,
        thresholds: Iterable[float] = (),
    ) -> Line:
        """Measure predictions.

        Args:
            predictions: n items.
            model: what the line calls the model; by default the name in the checkpoint, then that
                in the signature of the predictions.
            checkpoint: which state of the training run it is.
            stage: name of the stage.
            parent: ``model_text`` of the model that it was trained from.
            verdict: state of the verdict on these predictions.
            commit: the commit that is checked out.
            time: when it was measured; by default now.
            thresholds: of the operating points that are measured, too.
        """
        predictions.check_whole("a history holds measurements of")
        checkpoint = checkpoint or Checkpoint(model or predictions.signature.soft.get("model", ""))
        when = (time or datetime.now(UTC)).astimezone(UTC)
        return cls(
            time=when.strftime("%Y-%m-%dT%H:%M:%SZ"),
            commit=_valid(commit),
            model=_valid(model or checkpoint.model),
            step=checkpoint.step,
            epoch=checkpoint.epoch,
            tokens=checkpoint.tokens,
            revision=_valid(checkpoint.revision),
            stage=_valid(stage),
            parent=_valid(parent),
            probe=_valid(predictions.probe),
            n=predictions.n,
            unit=predictions.unit,
            units=predictions.n_clusters,
            signature=signature_digest(predictions.signature),
            metrics={**_metrics(predictions), **at_thresholds(predictions, thresholds)},
            verdict=str(verdict),
        )

    @property
    def checkpoint(self) -> Checkpoint:
        """Which state of a training run was measured."""
        return Checkpoint(self.model, self.step, self.epoch, self.tokens, self.revision)

    @property
    def model_text(self) -> str:
        """The model as a user would type it, and as ``parent`` of other lines names it."""
        return self.checkpoint.text

    @property
    def key(self) -> tuple[str, str, str]:
        """What was measured: model, revision and probe."""
        return self.model, self.revision, self.probe

    def repeats(self, other: Line) -> bool:
        """Whether it tells the same measurement, at whatever time, and however it was judged."""
        aside = ("time", "commit", "verdict", "items")
        return replace(self, **{name: getattr(other, name) for name in aside}) == other

    def with_news_of(self, other: Line) -> Line:
        """Return the same with what a repetition of it tells: a newer verdict, and its items."""
        return replace(self, verdict=other.verdict or self.verdict, items=self.items or other.items)

    def to_json(self) -> str:
        """Return the line, without line break; the fields stand in their order."""
        return json.dumps(msgspec.to_builtins(self), allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Line:
        """Read a line; fields that are not known are ignored.

        Raises:
            ValueError: it is none; says what is wrong, without a full stop.
            NewerFormat: it was written by a newer version.
        """
        try:
            line = _DECODER.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            line = _line(text)
        return line if line.format == FORMAT else _line(text)


_DECODER: Final = msgspec.json.Decoder(Line)


def _line(text: str | bytes) -> Line:
    """Read what the fast decoder refuses, and say what is wrong with it."""
    try:
        document = loads(text if isinstance(text, str) else text.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except json.JSONDecodeError as problem:
        raise ValueError(f"is no JSON ({problem.msg}, column {problem.pos + 1})") from None
    except RecursionError as problem:
        raise ValueError(f"is no JSON ({problem})") from None
    check_format(document)
    return converted(document, Line, "the line")


def signature_digest(signature: Signature) -> str:
    """Return the digest of the settings in which two runs must agree to be comparable."""
    return digest(str(Signature(hard=signature.hard)), size=6)


def _metrics(predictions: Predictions) -> dict[str, Number]:
    """Return every scalar metric that these predictions give."""
    return {
        name: _number(one)
        for name, one in measure_all(predictions).items()
        if math.isfinite(one.value)
    }


def at_thresholds(predictions: Predictions, thresholds: Iterable[float]) -> dict[str, Number]:
    """Return coverage, and precision where there are such answers, at each threshold."""
    found = {}
    for threshold in thresholds:
        for kind in AT_THRESHOLD:
            name = metric_at(kind, threshold).name
            with contextlib.suppress(MetricError):
                found[name] = _number(measure(predictions, name))
    return found


def _number(one: Measurement) -> Number:
    return Number(_rounded(one.value), *map(_finite, (one.low, one.high, one.noise_floor)))


def _finite(value: float) -> float | None:
    return _rounded(value) if math.isfinite(value) else None


def _rounded(value: float) -> float:
    # Adding 0 turns -0.0 into 0.0.
    return float(f"{value:.{DIGITS}g}") + 0.0


def _valid(text: str) -> str:
    """Return text that every JSON reader takes: half a surrogate pair becomes an escape."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def shown(line: Line) -> str:
    """Name the model of a line in a sentence."""
    return visible(line.model_text or line.stage or "a model without a name")
