"""A diagnosis in words: sentences, and labelled figures.

No sentence claims what its interval does not support.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from string import ascii_uppercase
from typing import Final

from pytest_calibration.diagnosis.findings import (
    Contrast,
    Diagnosis,
    EceReading,
    Favourite,
    Figure,
    Interval,
    OptionMass,
    TemperatureFit,
)
from pytest_calibration.gate.verdict import known
from pytest_calibration.text.layout import fitted
from pytest_calibration.text.numbers import counted, distinct
from pytest_calibration.text.visible import visible

MOST_DIGITS: Final = 6
# A mean option mass that is lower by this has fallen.
MASS_FELL: Final = 0.05
# An ECE smaller than this is not worth a change of the training.
SMALL: Final = 0.02
GENTLY: Final = "train more gently (a lower learning rate, fewer epochs)"
# AUROC surely below it: confidence hardly separates correct answers from wrong ones.
HARDLY_RANKS: Final = 0.6
# As many options are listed one by one.
LISTED: Final = 8
NAME: Final = 32


# --- numbers -------------------------------------------------------------------------------------


def apart(*values: float, digits: int = 3, sign: bool = False) -> list[str]:
    """Write numbers with the fewest decimals that distinguish those that differ; six at most."""
    return distinct(*values, digits=digits, most=MOST_DIGITS, sign=sign)


def with_ends(interval: Interval, *, sign: bool = False) -> str:
    """Write a number and its interval: ``0.190 [0.170, 0.210]``; never an end at 0 that is not."""
    value, low, high, _ = apart(interval.value, interval.low, interval.high, 0.0, sign=sign)
    return f"{value} [{low}, {high}]"


def size(interval: Interval) -> str:
    """Write a number and its interval without their sign: the size of a fall, or of a rise."""
    if interval.value < 0:
        interval = Interval(-interval.value, -interval.high, -interval.low)
    value, low, high, _ = apart(interval.value, interval.low, interval.high, 0.0)
    return f"{value} [{low}, {high}]"


def factor(value: float, low: float | None, high: float | None) -> str:
    """Write a temperature and its interval; never an end at 1 that is not."""
    if low is None or high is None:
        return f"{value:g}"
    texts = apart(value, low, high, 1.0, digits=2)
    return f"{texts[0]} [{texts[1]}, {texts[2]}]"


def percent(share: float) -> str:
    """Write a share: ``61 %``, and one between 0 and 1 % as such."""
    text = f"{100 * share:.0f}"
    return f"{100 * share:.1g} %" if share > 0 and text == "0" else f"{text} %"


def option_name(option: int, options: int, classes: Sequence[str] = ()) -> str:
    """Name a class; an option by its place, and by its letter where there are at most 26."""
    if classes:
        return fitted(classes[option], NAME)
    letter = f" ({ascii_uppercase[option]})" if options <= len(ascii_uppercase) else ""
    return f"option {option + 1} of {options:,}{letter}"


def _items(d: Diagnosis) -> str:
    items = counted(d.n, d.unit)
    return f"{items} in {counted(d.units, 'group')}" if d.units < d.n else items


# --- sentences -----------------------------------------------------------------------------------


def sentences(d: Diagnosis) -> tuple[str, ...]:
    """Return what happened and what would correct it, the most important first."""
    parts = [_direction(d), *_remedy(d), *_change(d), *_regime(d)]
    if d.collapse.favourite is not None:
        parts.append(favourite(d.collapse.favourite, d.classes))
    mass = d.option_mass
    # A mass that was as small before is no change; the figures have it.
    if mass is not None and mass.small and not was_as_small(mass):
        parts.append(option_mass(mass))
    return tuple(parts)


def _direction(d: Diagnosis) -> str:
    confidence, accuracy = apart(d.mean_confidence, d.accuracy, digits=2)
    means = f"mean confidence {confidence}, accuracy {accuracy}"
    if d.direction in ("over-confident", "under-confident"):
        return f"{d.direction.capitalize()} by {size(d.signed_gap)}: {means}."
    if d.direction == "calibrated":
        return (
            f"No miscalibration that {_items(d)} could show: {means} (signed gap "
            f"{with_ends(d.signed_gap, sign=True)}), and {_as_noise(d.ece)}."
        )
    if d.direction == "undetermined":
        return (
            f"{_items(d)} do{'es' * (d.n == 1)} not show which way it errs, if it does: the signed "
            f"gap is {with_ends(d.signed_gap, sign=True)}, and {_as_noise(d.ece)}."
        )
    how = {
        "too extreme": "confidence is too high where it is high and too low where it is low",
        "too flat": "confidence is too low where it is high and too high where it is low",
        "uneven": "not at every confidence",
    }[d.direction]
    ece, floor = apart(d.ece.value, d.ece.noise_floor_high)
    return (
        f"Mean confidence {confidence} and accuracy {accuracy} agree, but {how}: ECE {ece}, where "
        f"noise alone stays below {floor} 95 % of the time."
    )


def _as_noise(ece: EceReading) -> str:
    value, floor = apart(ece.value, ece.noise_floor_high)
    more = "no more" if ece.value <= ece.noise_floor_high else "hardly more"
    return f"an ECE of {value} is {more} than noise makes (up to {floor})"


def _remedy(d: Diagnosis) -> Iterator[str]:
    """Yield what kind of problem it is, and what recalibration would bring."""
    if d.problem == "scaling":
        yield _scaling(d)
        if d.auroc is not None and d.auroc.high < HARDLY_RANKS:
            yield _ranking(d)
    elif d.problem == "undecided" and d.direction != "undetermined":
        yield _undecided(d)
    by_map = d.after_isotonic
    if by_map is None:
        return
    before, after = apart(d.ece.value, by_map.value)
    if d.problem == "shape":
        yield (
            f"{_no_temperature(d)} A monotone map of the confidence (isotonic regression) would "
            f"bring it from {before} to {after}: {_advice_on_shape(d)}."
        )
    elif d.problem == "ranking":
        yield _ranking(d)
        yield (
            f"A monotone map of the confidence (isotonic regression) would bring ECE from {before} "
            f"to {after} on held-out folds, but only by making all of them much alike."
        )
    elif d.problem == "not corrected":
        yield (
            f"{_no_temperature(d)} Nor does a monotone map of the confidence "
            f"({by_map.value:.3f}): what can be learned from these items does not correct the rest."
        )


def _scale(fit: TemperatureFit) -> str:
    return "logits" if fit.scale == "logits" else "log-odds of the confidence"


def _scaling(d: Diagnosis) -> str:
    """Return what a temperature does; one below 1 as the factor that it multiplies by."""
    fit, by_t = d.temperature, d.after_temperature
    assert fit is not None
    assert fit.low is not None
    assert fit.high is not None
    assert by_t is not None
    how = f"Dividing the {_scale(fit)} by {factor(fit.value, fit.low, fit.high)}"
    if fit.value < 1:
        inverse = factor(1 / fit.value, 1 / fit.high, 1 / fit.low)
        how = f"Multiplying the {_scale(fit)} by {inverse}"
    before, after = apart(d.ece.value, by_t.value)
    floor = ", its noise floor" if by_t.at_floor else f" (noise floor {by_t.noise_floor:.3f})"
    # The part that noise hides may be much of what there was.
    unsure = "" if 2 * by_t.high <= d.ece.value else f", as far as {_items(d)} show"
    gently = f", or {GENTLY}" if fit.value > 1 else ""
    advice = ", and a small one" if d.ece.value < SMALL else f"; recalibrate{gently}"
    return (
        f"{how} would bring ECE from {before} to {after} on held-out folds{floor}: a scaling "
        f"problem{unsure}{advice}."
    )


def _undecided(d: Diagnosis) -> str:
    by_t, by_map = d.after_temperature, d.after_isotonic
    if d.ece.at_floor:
        return f"That is little: {_as_noise(d.ece)}."
    if by_map is None:
        return f"{_items(d)} {'is' if d.n == 1 else 'are'} too few to try what would correct it."
    if by_t is None:
        before, after = apart(d.ece.value, by_map.value)
        ways = f"a monotone map would bring ECE from {before} to {after}"
    else:
        before, scaled, after = apart(d.ece.value, by_t.value, by_map.value)
        ways = (
            f"the best temperature would bring ECE from {before} to {scaled}, a monotone map of "
            f"the confidence to {after}"
        )
    return f"On held-out folds {ways}; {_items(d)} do not show which is needed."


def _no_temperature(d: Diagnosis) -> str:
    fit, by_t = d.temperature, d.after_temperature
    if fit is None or by_t is None:
        return "No temperature changes anything here."
    after, floor = apart(by_t.value, by_t.noise_floor)
    of = "" if fit.scale == "logits" else " of the log-odds"
    return (
        f"No temperature{of} corrects it: at the best one, "
        f"{factor(fit.value, fit.low, fit.high)}, ECE on held-out folds is {after} (noise floor "
        f"{floor})."
    )


def _advice_on_shape(d: Diagnosis) -> str:
    """Return what follows; about the logits only where there were any."""
    gently = f", or {GENTLY}" if d.direction == "over-confident" and d.ece.value >= SMALL else ""
    if d.temperature is None or d.temperature.scale == "logits":
        return f"a problem of shape, not of scale; recalibrate with such a map{gently}"
    if d.direction != "over-confident":
        return "recalibrate with such a map"
    return (
        "recalibrate with such a map (dividing the logits may do as well, which confidences alone "
        f"do not show){gently}"
    )


def _ranking(d: Diagnosis) -> str:
    if d.auroc is None:
        which = "correct" if d.accuracy else "wrong"
        return f"All answers are {which}, so there is nothing for confidence to separate."
    value, low, high = apart(d.auroc.value, d.auroc.low, d.auroc.high, digits=2)
    how = "hardly separates correct answers from wrong ones"
    if d.auroc.high < 0.5:
        how = "is reversed: the higher it is, the more answers are wrong"
    return f"Confidence {how} (AUROC {value} [{low}, {high}])."


def _change(d: Diagnosis) -> Iterator[str]:
    if d.change is None:
        return
    moves = [
        f"{name} {'rose' if move.sign > 0 else 'fell'} by {size(move)}"
        for name, move in (("accuracy", d.change.accuracy), ("confidence", d.change.confidence))
        if move.sign
    ]
    compared = f"Compared with {visible(known(d.reference))}, "
    if not moves:
        yield f"{compared}neither accuracy nor confidence moved beyond noise."
        return
    gap = f", so that the signed gap moved by {with_ends(d.change.signed_gap, sign=True)}"
    yield f"{compared}{' and '.join(moves)}{gap if len(moves) == 2 else ''}."
    if d.change.accuracy.sign < 0:
        yield "Recalibration does not restore lost accuracy."


def _regime(d: Diagnosis) -> Iterator[str]:
    """Yield the regime where a calibrated parent names one and there is something to correct."""
    regime = d.regime
    if regime.name == "undetermined" or regime.margin is None or d.problem == "none":
        return
    accuracy = d.accuracy if d.change is None else d.change.accuracy_after
    ours, theirs = apart(accuracy, accuracy - regime.margin.value, digits=2)
    above = regime.margin.value > 0
    like = ", as after memorising its items or learning something new" if above else ""
    yield (
        f"Its accuracy of {ours} is {size(regime.margin)} {'above' if above else 'below'} {theirs},"
        f" the mean confidence of {visible(known(d.reference))}, which is calibrated: relative to "
        f"it the model counts as {regime.name}{like}. This is no proof."
    )


def favourite(found: Favourite, classes: Sequence[str] = ()) -> str:
    """Return which option, or which of these classes, is answered too often."""
    before = "" if found.baseline is None else f" (before: {percent(found.baseline)})"
    name = option_name(found.option, found.options, classes)
    return (
        f"It answers {name} {percent(found.answered)} of the time{before}, where that is "
        f"correct {percent(found.correct)} of the time."
    )


def option_mass(mass: OptionMass) -> str:
    """Return what the probability of the options means."""
    numbers = (
        f"The options hold {mass.mean.value:.3g} of the probability on average, and less than "
        f"half on {percent(mass.share_below_half)} of the items"
    )
    if not mass.small:
        return f"{numbers}: the model does answer with an option."
    where, there = ("", "") if mass.mean.value < 0.5 else ("on those ", " there")
    return (
        f"{numbers}: {where}the model would rather write something else, and its "
        f"confidence{there}, which counts the options alone, may reflect the format more than the "
        "answer."
    )


def was_as_small(mass: OptionMass) -> bool:
    """Whether the options of the baseline held as little."""
    before = None if mass.contrast is None else mass.contrast.baseline
    return before is not None and mass.mean.value > before - MASS_FELL


# --- figures -------------------------------------------------------------------------------------


def figures(d: Diagnosis) -> tuple[Figure, ...]:
    """Return the numbers behind the sentences, each with its label."""
    regime = d.regime
    margin = ""
    if regime.margin is not None:
        value = with_ends(regime.margin, sign=True)
        margin = f": {value} is accuracy minus {visible(regime.reference)}"
    return (
        *(Figure(label, text, restates=True) for label, text in _restated(d)),
        *_fits(d),
        *_compared(d),
        Figure("regime", f"{regime.name}{margin}. {regime.caveat}"),
        *(Figure("note", visible(note)) for note in d.notes),
    )


def _restated(d: Diagnosis) -> Iterator[tuple[str, str]]:
    """Yield what the verdict, the diagram and the table of slices show, too."""
    confidence, accuracy = apart(d.mean_confidence, d.accuracy)
    gap = with_ends(d.signed_gap, sign=True)
    means = f"conf {confidence}, acc {accuracy}"
    yield "signed gap", f"{gap} ({means}), {_items(d)}"
    yield "ECE", f"{_reading(d.ece)}, {d.bins} equal-width bins"
    for b in d.worst_bins:
        gap = with_ends(Interval(b.gap, b.low, b.high), sign=True)
        means = f"conf {b.confidence:.3f}, acc {b.accuracy:.3f}"
        edges = f"{'[' if b.lower == 0 else '('}{b.lower:.2f}, {b.upper:.2f}]"
        yield "bin", f"{edges}  n {b.n:,}  {means}  {gap}  {percent(b.share)} of ECE"
    for s in d.worst_slices:
        gap = with_ends(Interval(s.signed_gap, s.low, s.high), sign=True)
        means = f"conf {s.mean_confidence:.3f}, acc {s.accuracy:.3f}"
        yield "slice", f"{fitted(s.name or '(none)', NAME)}  n {s.n:,}  {means}  {gap}"


def _reading(ece: EceReading) -> str:
    value, low, high = apart(ece.value, ece.low, ece.high)
    mean, most = apart(ece.noise_floor, ece.noise_floor_high)
    return f"{value} [{low}, {high}], noise floor {mean} (up to {most})"


def _fits(d: Diagnosis) -> Iterator[Figure]:
    """Yield what recalibration would bring."""
    fit = d.temperature
    if fit is not None:
        before, after = apart(fit.nll_before, fit.nll_after)
        at = factor(fit.value, fit.low, fit.high)
        if fit.at_limit:
            at = f"at its limit, {at}: NLL still falls there"
        yield Figure("temperature", f"{at}, on the {_scale(fit)}; NLL {before} -> {after} nats")
    if d.after_temperature is not None:
        yield Figure("held out", f"ECE {_reading(d.after_temperature)}", inner=True)
    if d.after_isotonic is not None:
        yield Figure("isotonic map", f"ECE {_reading(d.after_isotonic)}, on held-out folds")
    if d.auroc is not None:
        value, low, high = apart(d.auroc.value, d.auroc.low, d.auroc.high)
        yield Figure("AUROC", f"{value} [{low}, {high}] of confidence for correctness")
    base = d.base_temperature
    if base is not None:
        before, after = apart(base.kl_before, base.kl_after)
        limit = "at its limit, " if base.at_limit else ""
        yield Figure(
            "without labels",
            f"{limit}{factor(base.value, base.low, base.high)} comes closest to "
            f"{visible(known(d.reference))}; KL {before} -> {after} nats, ECE {_reading(base.ece)}",
        )


def _compared(d: Diagnosis) -> Iterator[Figure]:
    """Yield means of the model beside those of the baseline."""
    if d.change is not None:
        c = d.change
        accuracy = Contrast(c.accuracy_after, c.accuracy_before, c.accuracy)
        confidence = Contrast(c.confidence_after, c.confidence_before, c.confidence)
        yield Figure("accuracy", _contrast(accuracy))
        yield Figure("confidence", _contrast(confidence))
        yield Figure("gap moved", with_ends(c.signed_gap, sign=True))
    collapse = d.collapse
    yield Figure("0.9 and above", _contrast(collapse.share_confident))
    if collapse.mean_entropy is not None:
        yield Figure("entropy", f"{_contrast(collapse.mean_entropy)} nats")
    if collapse.answered is not None and len(collapse.answered) <= LISTED:
        yield Figure("answered", _shares(collapse.answered, d.classes))
        if collapse.correct is not None:
            yield Figure("correct", _shares(collapse.correct, d.classes), inner=True)
        if collapse.answered_before is not None:
            yield Figure("before", _shares(collapse.answered_before, d.classes), inner=True)
    if d.option_mass is not None:
        contrast = d.option_mass.contrast
        moved = f"{_contrast(contrast)}. " if contrast is not None else ""
        yield Figure("option mass", f"{moved}{option_mass(d.option_mass)}")


def _contrast(contrast: Contrast) -> str:
    if contrast.baseline is None:
        return f"{contrast.value:.3f}"
    before, after = apart(contrast.baseline, contrast.value)
    moved = "" if contrast.change is None else f", {with_ends(contrast.change, sign=True)}"
    return f"{before} -> {after}{moved}"


def _shares(shares: Sequence[float], classes: Sequence[str]) -> str:
    names = [fitted(name, NAME) for name in classes] or ascii_uppercase
    return "  ".join(f"{name} {percent(x)}" for name, x in zip(names, shares, strict=False))
