"""The values of a diagnosis: every number with its interval, never NaN."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from textwrap import wrap
from typing import Final, Literal, TypeAlias

from pytest_calibration.diagnosis.slices import SliceMeasurement

Direction: TypeAlias = Literal[
    "over-confident",
    "under-confident",
    "too extreme",
    "too flat",
    "uneven",
    "calibrated",
    "undetermined",
]
Problem: TypeAlias = Literal["none", "scaling", "shape", "ranking", "not corrected", "undecided"]
RegimeName: TypeAlias = Literal["calibratable", "non-calibratable", "undetermined"]
Scale: TypeAlias = Literal["logits", "log-odds"]
# Columns of the figures as lines of text, and of their labels.
WIDTH: Final = 100
LABEL: Final = 15


@dataclass(frozen=True)
class Interval:
    """A number and its 95 % interval.

    Attributes:
        value: the number itself.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the interval lies on one side of 0, else 0."""
        return (self.low > 0) - (self.high < 0)


@dataclass(frozen=True)
class EceReading:
    """An ECE, its 95 % interval and its noise floor.

    Attributes:
        value: ECE over all items.
        low: lower end of its interval.
        high: upper end.
        noise_floor: mean ECE of a calibrated model with these confidences.
        noise_floor_high: 95 % point of the ECE of that model.
        at_floor: whether the value is not above ``noise_floor_high``.
    """

    value: float
    low: float
    high: float
    noise_floor: float
    noise_floor_high: float
    at_floor: bool

    @property
    def beyond_noise(self) -> bool:
        """Whether noise does not explain it: above the floor, and its interval above 0."""
        return not self.at_floor and self.low > 0


@dataclass(frozen=True)
class Recalibrated(EceReading):
    """The ECE of confidences that were recalibrated on other items.

    Attributes:
        value: ECE over all items.
        low: lower end of its interval.
        high: upper end.
        noise_floor: mean ECE of a calibrated model with these confidences.
        noise_floor_high: 95 % point of the ECE of that model.
        at_floor: whether the value is not above ``noise_floor_high``.
        corrected: whether ECE is at its noise floor, or at most a fifth of the excess over its
            floor remains.
        remains: whether more remains, beyond noise. With few items neither may hold.
    """

    corrected: bool
    remains: bool


@dataclass(frozen=True)
class BinFinding:
    """A bin of confidence that is off by more than noise.

    Attributes:
        lower: left edge, open (closed where it is 0).
        upper: right edge, closed.
        n: number of items.
        confidence: their mean confidence.
        accuracy: share of correct answers.
        gap: mean confidence minus accuracy; positive is over-confident.
        low: lower end of the interval of the gap; 95 % for all bins at once (Wilson, Bonferroni).
        high: upper end.
        share: part of the ECE that comes from this bin, in (0, 1].
    """

    lower: float
    upper: float
    n: int
    confidence: float
    accuracy: float
    gap: float
    low: float
    high: float
    share: float


@dataclass(frozen=True)
class TemperatureFit:
    """The temperature T that minimises the negative log-likelihood.

    Attributes:
        value: T, by which the logits (or log-odds) are divided; above 1 lowers confidences.
            One of the limits 0.01 and 100 where ``at_limit``.
        low: lower end of its 95 % interval; None where ``at_limit``.
        high: upper end; None where ``at_limit``.
        scale: ``logits`` with a table of options; ``log-odds`` of the confidence without.
        nll_before: mean −log P in nats as the model is, without the items that are
            ``impossible``: P of the correct option, or on log-odds of the outcome (the answer
            being correct, or not).
        nll_after: the same at T.
        at_limit: NLL still falls at the limit, as when all answers are correct (T → 0), or none is
            likelier than chance (T → ∞).
        impossible: number of items whose correct option (or outcome) has probability 0. No
            temperature changes that, so the fit leaves them out.
    """

    value: float
    low: float | None
    high: float | None
    scale: Scale
    nll_before: float
    nll_after: float
    at_limit: bool
    impossible: int

    @property
    def differs_from_one(self) -> bool:
        """Whether the interval excludes 1, at which nothing changes."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high


@dataclass(frozen=True)
class BaseTemperature:
    """The temperature that brings a model closest to its parent, found without labels.

    Attributes:
        value: T that minimises the mean KL(base ‖ softmax(z / T)) (He et al. 2023).
        low: lower end of its 95 % interval; None where ``at_limit``.
        high: upper end; None where ``at_limit``.
        kl_before: mean KL in nats at T = 1.
        kl_after: the same at T.
        at_limit: KL still falls at the limit, 0.01 or 100.
        ece: ECE of the model at T, measured on the labels, which the fit does not use.
    """

    value: float
    low: float | None
    high: float | None
    kl_before: float
    kl_after: float
    at_limit: bool
    ece: EceReading


@dataclass(frozen=True)
class Regime:
    """The regime of Xiao et al. 2025, as far as it can be estimated; a description, no proof.

    Attributes:
        name: ``calibratable`` where accuracy is below the mean confidence of the reference,
            ``non-calibratable`` where it is above; else ``undetermined``.
        reference: what the reference is, in words; empty where there is none.
        margin: accuracy minus the mean confidence of the reference; None without a reference.
        caveat: the limits of the estimate.
    """

    name: RegimeName
    reference: str
    margin: Interval | None
    caveat: str


@dataclass(frozen=True)
class Contrast:
    """A mean over the items, and that of the baseline.

    Attributes:
        value: of the model.
        baseline: of the baseline; None where there is none.
        change: value minus baseline, item by item; None where there is no baseline, or where only
            a summary of it is stored.
    """

    value: float
    baseline: float | None
    change: Interval | None


@dataclass(frozen=True)
class Favourite:
    """An option that is answered much more often than it is correct.

    Attributes:
        option: its index.
        options: number of options.
        answered: share of the items for which it is the answer.
        correct: share of the items for which it is correct.
        baseline: share of the items for which it was the answer of the baseline, or None.
        excess: answered minus correct; 95 % for all options at once (Bonferroni).
    """

    option: int
    options: int
    answered: float
    correct: float
    baseline: float | None
    excess: Interval


@dataclass(frozen=True)
class Collapse:
    """How strongly a model prefers one answer, correct or wrong.

    All on the items shared with the baseline, where there is one.

    Attributes:
        share_confident: share of the items with a confidence of at least 0.9.
        mean_entropy: of the options' probabilities, in nats; None without a table.
        answered: share of the items for which each option is the answer; None without a table.
        correct: share of the items for which each option is correct; None without a table.
        answered_before: ``answered`` of the baseline; None where it has no table of as many.
        favourite: an option that takes more than 0.05 too much, beyond noise; else None.
    """

    share_confident: Contrast
    mean_entropy: Contrast | None = None
    answered: tuple[float, ...] | None = None
    correct: tuple[float, ...] | None = None
    answered_before: tuple[float, ...] | None = None
    favourite: Favourite | None = None


@dataclass(frozen=True)
class OptionMass:
    """The probability of all options together, before renormalisation.

    Attributes:
        mean: its mean.
        share_below_half: share of the items on which it is below 0.5.
        contrast: mean of the shared items, and that of the baseline; None where it has none.
        small: whether it is below 0.5 on average, or on a quarter of the items.
    """

    mean: Interval
    share_below_half: float
    contrast: Contrast | None
    small: bool


@dataclass(frozen=True)
class Change:
    """The change from the baseline, on the items both sides have.

    ``signed_gap.value == confidence.value - accuracy.value``, exactly.

    Attributes:
        n: number of shared items.
        accuracy_before: of the baseline.
        accuracy_after: of the model.
        confidence_before: mean confidence of the baseline.
        confidence_after: mean confidence of the model.
        accuracy: change of the accuracy; negative where it fell.
        confidence: change of the mean confidence.
        signed_gap: change of the signed gap; positive is towards over-confidence.
    """

    n: int
    accuracy_before: float
    accuracy_after: float
    confidence_before: float
    confidence_after: float
    accuracy: Interval
    confidence: Interval
    signed_gap: Interval


@dataclass(frozen=True)
class Figure:
    """A labelled number of a diagnosis, as text.

    Attributes:
        label: what it is a number of.
        text: the number with its interval, and what belongs to it.
        inner: whether it is a part of the figure before it.
        restates: whether the verdict, the reliability diagram or the slices show it too.
    """

    label: str
    text: str
    inner: bool = False
    restates: bool = False


def figure_lines(figures: Iterable[Figure]) -> Iterator[str]:
    """Yield figures as lines of text, each at most 100 columns wide."""
    for figure in figures:
        label = f"{'  ' * figure.inner}{figure.label}"
        first, *rest = wrap(figure.text, WIDTH - LABEL, break_on_hyphens=False) or [""]
        yield f"{label:<{LABEL}}{first}"
        yield from (f"{'':<{LABEL}}{more}" for more in rest)


@dataclass(frozen=True)
class Diagnosis:
    """The calibration of one model on one probe, and what would correct it.

    Attributes:
        n: number of items.
        units: number of independent units: groups, or items where there are none.
        unit: what an item is (``item``, ``token``).
        bins: number of equal-width bins of every ECE here.
        reference: what the baseline is called; empty where there is none.
        accuracy: share of correct answers.
        mean_confidence: mean confidence.
        direction: where it errs. ``over-confident`` or ``under-confident`` where the interval of
            the signed gap excludes 0. Otherwise, where ECE is beyond noise, ``too extreme`` (too
            confident where confidence is high, not confident enough where it is low), ``too flat``
            (the reverse) or ``uneven`` (neither). Otherwise ``calibrated`` where ECE is at its
            noise floor and the items could have shown a gap of 0.05, else ``undetermined``.
        signed_gap: mean confidence minus accuracy.
        slope: how the gap rises with the confidence, in units of ECE; None where all confidences
            are equal. Positive is too extreme.
        ece: ECE of the model as it is.
        auroc: chance that a correct answer has more confidence than a wrong one; None where all
            answers are correct, or all wrong.
        worst_bins: up to 3 bins that are off by more than noise, the largest part of ECE first.
        worst_slices: up to 3 slices that are off by more than noise, the clearest first; among all
            that pass, 5 % are expected to be there by chance (Benjamini-Hochberg).
        temperature: the T of least NLL over all items; None where T changes nothing.
        after_temperature: ECE after temperature scaling, out of fold; None below 50 units.
        after_isotonic: ECE after isotonic regression, out of fold; None below 50 units.
        problem: what kind of problem it is. ``none``: ECE is at its noise floor, and no gap.
            ``scaling``: a temperature corrects it. ``shape``: no temperature does (on the scale of
            ``temperature``), a monotone map does. ``ranking``: such a map does, but confidence
            hardly separates correct answers from wrong ones (AUROC below 0.6 beyond noise, or all
            answers correct, or all wrong), so that it makes all confidences alike.
            ``not corrected``: neither does, on held-out folds (on endless items a monotone map
            always would). ``undecided``: the items do not show it.
        regime: accuracy against the mean confidence of a reference.
        collapse: how strongly it prefers one answer.
        option_mass: probability of all options together; None where it is not known.
        change: change from the baseline; None without one.
        base_temperature: temperature found without labels; None without a parent's table.
        notes: what could not be computed, and why, a sentence each.
        sentences: what happened and what would correct it, the most important first.
        figures: the numbers behind the sentences, each with a label.
        classes: names of the classes; empty for the options of questions.
    """

    n: int
    units: int
    unit: str
    bins: int
    reference: str
    accuracy: float
    mean_confidence: float
    direction: Direction
    signed_gap: Interval
    slope: Interval | None
    ece: EceReading
    auroc: Interval | None
    worst_bins: tuple[BinFinding, ...]
    worst_slices: tuple[SliceMeasurement, ...]
    temperature: TemperatureFit | None
    after_temperature: Recalibrated | None
    after_isotonic: Recalibrated | None
    problem: Problem
    regime: Regime
    collapse: Collapse
    option_mass: OptionMass | None
    change: Change | None
    base_temperature: BaseTemperature | None
    notes: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def paragraph(self) -> str:
        """The sentences as one paragraph."""
        return " ".join(self.sentences)

    def lines(self) -> Iterator[str]:
        """Yield the figures below the paragraph, each line at most 100 columns wide."""
        return figure_lines(self.figures)
