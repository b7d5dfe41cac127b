"""A diagnosis in words: one paragraph, and the figures below it.

No sentence claims what its interval does not support.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from string import ascii_uppercase
from typing import Final
from unicodedata import east_asian_width

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
from pytest_calibration.text.numbers import distinct
from pytest_calibration.text.visible import visible

MOST_DIGITS: Final = 6
# A mean option mass that is lower by this is another one.
MASS_FELL: Final = 0.05
# An ECE smaller than this is not worth a change of the training.
SMALL: Final = 0.02
GENTLY: Final = "train more gently (a lower learning rate, fewer epochs)"
# AUROC surely below it: confidence hardly tells right answers from wrong ones.
HARDLY_RANKS: Final = 0.6
# As many options are listed one by one.
LISTED: Final = 8
NAME: Final = 32


# --- numbers -------------------------------------------------------------------------------------


def apart(*values: float, digits: int = 3, sign: bool = False) -> list[str]:
    """Write numbers with as few digits as still tell apart those that differ; six at most."""
    return distinct(*values, digits=digits, most=MOST_DIGITS, sign=sign)


def with_ends(interval: Interval, *, digits: int = 3, sign: bool = False) -> str:
    """Write a number and its interval: ``0.190 [0.170, 0.210]``; never an end at 0 that is not."""
    value, low, high, _ = apart(
        interval.value, interval.low, interval.high, 0.0, digits=digits, sign=sign
    )
    return f"{value} [{low}, {high}]"


def size(interval: Interval) -> str:
    """Write a number and its interval without their sign: the size of a fall, or of a rise."""
    value, low, high = abs(interval.value), interval.low, interval.high
    if interval.value < 0:
        low, high = -high, -low
    texts = apart(value, low, high, 0.0)
    return f"{texts[0]} [{texts[1]}, {texts[2]}]"


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


def option_name(option: int, options: int) -> str:
    """Name an option by its place, and by its letter where it may have one."""
    letter = f" ({ascii_uppercase[option]})" if options <= len(ascii_uppercase) else ""
    return f"option {option + 1} of {options:,}{letter}"


def shortened(name: str) -> str:
    """Escape what a terminal would obey, and cut what is long."""
    text = visible(name) or "(none)"
    if columns(text) <= NAME:
        return text
    while columns(text) > NAME - 3:
        text = text[:-1]
    return f"{text}..."


def columns(text: str) -> int:
    """Columns a text takes on a terminal: two for wide characters."""
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


# --- sentences -----------------------------------------------------------------------------------


def favourite(found: Favourite) -> str:
    """Say which option is answered too often."""
    before = "" if found.baseline is None else f" (before: {percent(found.baseline)})"
    return (
        f"It answers {option_name(found.option, found.options)} {percent(found.answered)} of the "
        f"time{before}, where that is right {percent(found.right)} of the time."
    )


def option_mass(found: OptionMass) -> str:
    """Say what the probability of the options means."""
    numbers = (
        f"The options hold {found.mean.value:.3g} of the probability on average, and less than "
        f"half on {percent(found.share_below_half)} of the items"
    )
    if not found.small:
        return f"{numbers}: the model does answer with an option."
    where, there = ("", "") if found.mean.value < 0.5 else ("on those ", " there")
    return (
        f"{numbers}: {where}the model would rather write something else, and its "
        f"confidence{there}, which counts the options alone, may be about the format more than "
        "the answer."
    )


def paragraph(d: Diagnosis) -> str:
    """Say what happened and what would mend it."""
    parts = [_direction(d), *_remedy(d), *_change(d), *_regime(d)]
    if d.collapse.favourite is not None:
        parts.append(favourite(d.collapse.favourite))
    mass = d.option_mass
    # What was so before is left to the figures: it is not what happened.
    if mass is not None and mass.small and not _was_as_small(mass):
        parts.append(option_mass(mass))
    return " ".join(part for part in parts if part)


def _was_as_small(mass: OptionMass) -> bool:
    beside = mass.contrast
    return (
        beside is not None
        and beside.baseline is not None
        and beside.value > beside.baseline - MASS_FELL
    )


def _many(d: Diagnosis) -> str:
    grouped = d.units < d.n
    items = f"{d.n:,} {d.unit}{'s' * (d.n != 1)}"
    return f"{items} in {d.units:,} group{'s' * (d.units != 1)}" if grouped else items


def _direction(d: Diagnosis) -> str:
    sure, right = apart(d.mean_confidence, d.accuracy, digits=2)
    if d.direction in ("over-confident", "under-confident"):
        return (
            f"{d.direction.capitalize()} by {size(d.signed_gap)}: "
            f"{sure} sure on average, {right} right."
        )
    ece, floor = apart(d.ece.value, d.ece.noise_floor_high)
    if d.direction == "calibrated":
        return (
            f"No miscalibration that {_many(d)} could show: {sure} sure on average, {right} right "
            f"(signed gap {with_ends(d.signed_gap, sign=True)}), and {_as_noise(d.ece)}."
        )
    if d.direction == "undetermined":
        return (
            f"{_many(d)} do{'es' * (d.n == 1)} not tell which way it errs, if it does: the signed "
            f"gap is {with_ends(d.signed_gap, sign=True)}, and {_as_noise(d.ece)}."
        )
    how = {
        "too extreme": "too sure where it is sure and not sure enough where it is not",
        "too flat": "not sure enough where it is sure and too sure where it is not",
        "uneven": "not at every confidence",
    }[d.direction]
    but = "but " if d.direction == "uneven" else "but it is "
    return (
        f"About as sure as right on average ({sure} and {right}), {but}{how}: ECE {ece}, where "
        f"noise alone stays below {floor} 95 % of the time."
    )


def _as_noise(ece: EceReading) -> str:
    value, floor = apart(ece.value, ece.noise_floor_high)
    if ece.value <= ece.noise_floor_high:
        return f"an ECE of {value} is no more than noise makes (up to {floor})"
    return f"an ECE of {value} is hardly more than noise makes (up to {floor})"


def _what(fit: TemperatureFit) -> str:
    return "logits" if fit.scale == "logits" else "log-odds of the confidence"


def _dividing(fit: TemperatureFit) -> str:
    """Say what a temperature does; one below 1 as the factor that it multiplies by."""
    assert fit.low is not None
    assert fit.high is not None
    if fit.value < 1:
        turned = factor(1 / fit.value, 1 / fit.high, 1 / fit.low)
        return f"Multiplying the {_what(fit)} by {turned}"
    return f"Dividing the {_what(fit)} by {factor(fit.value, fit.low, fit.high)}"


def _remedy(d: Diagnosis) -> Iterator[str]:
    """Say what kind of problem it is, and what recalibration would bring."""
    fit, by_t, by_map = d.temperature, d.after_temperature, d.after_isotonic
    if d.verdict_word == "scaling":
        assert fit is not None
        assert by_t is not None
        before, after = apart(d.ece.value, by_t.value)
        left = ", its noise floor" if by_t.at_floor else f" (noise floor {by_t.noise_floor:.3f})"
        # What noise hides of the rest may still be much of what there was.
        unsure = "" if 2 * by_t.high <= d.ece.value else f", as far as {_many(d)} tell"
        yield (
            f"{_dividing(fit)} would bring ECE from {before} to {after} on held-out folds{left}: "
            f"a scaling problem{unsure}{_advice(d)}."
        )
        if d.auroc is not None and d.auroc.high < HARDLY_RANKS:
            yield _hardly(d)
    elif d.verdict_word == "shape":
        assert by_map is not None
        before, after = apart(d.ece.value, by_map.value)
        yield (
            f"{_no_temperature(d)} A monotone map of the confidence (isotonic regression) would "
            f"bring it from {before} to {after}: {_of_shape(d)}."
        )
    elif d.verdict_word == "ranking":
        assert by_map is not None
        before, after = apart(d.ece.value, by_map.value)
        yield _hardly(d)
        yield (
            f"A monotone map of the confidence (isotonic regression) would bring ECE from {before} "
            f"to {after} on held-out folds, but only by making all of them much alike."
        )
    elif d.verdict_word == "not mended":
        assert by_map is not None
        yield (
            f"{_no_temperature(d)} Nor does a monotone map of the confidence "
            f"({by_map.value:.3f}): what can be learned from these items does not mend the rest."
        )
    elif d.verdict_word == "undecided" and d.direction != "undetermined":
        yield _undecided(d)


def _undecided(d: Diagnosis) -> str:
    by_t, by_map = d.after_temperature, d.after_isotonic
    if d.ece.at_floor:
        return f"That is little: {_as_noise(d.ece)}."
    if by_map is None:
        return f"{_many(d)} {'is' if d.n == 1 else 'are'} too few to try what would mend it."
    if by_t is None:
        before, after = apart(d.ece.value, by_map.value)
        ways = f"a monotone map would bring ECE from {before} to {after}"
    else:
        before, warm, after = apart(d.ece.value, by_t.value, by_map.value)
        ways = (
            f"the best temperature would bring ECE from {before} to {warm}, a monotone map of the "
            f"confidence to {after}"
        )
    return f"On held-out folds {ways}; what it takes, {_many(d)} do not tell."


def _no_temperature(d: Diagnosis) -> str:
    fit, by_t = d.temperature, d.after_temperature
    if fit is None or by_t is None:
        return "No temperature changes anything here."
    at = factor(fit.value, fit.low, fit.high)
    after, floor = apart(by_t.value, by_t.noise_floor)
    of = "" if fit.scale == "logits" else " of the log-odds"
    return (
        f"No temperature{of} mends it: at the best one, {at}, ECE on held-out folds is {after} "
        f"(noise floor {floor})."
    )


def _of_shape(d: Diagnosis) -> str:
    """Say what follows; of the logits only where they were there to be tried."""
    gently = f", or {GENTLY}" if d.direction == "over-confident" and d.ece.value >= SMALL else ""
    if d.temperature is None or d.temperature.scale == "logits":
        return f"a problem of shape, not of scale; recalibrate with such a map{gently}"
    if d.direction != "over-confident":
        return "recalibrate with such a map"
    return (
        "recalibrate with such a map (dividing the logits may do as well, which confidences alone "
        f"do not tell){gently}"
    )


def _advice(d: Diagnosis) -> str:
    if d.ece.value < SMALL:
        return ", and a small one"
    if d.temperature is not None and d.temperature.value > 1:
        return f"; recalibrate, or {GENTLY}"
    return "; recalibrate"


def _hardly(d: Diagnosis) -> str:
    if d.auroc is None:
        which = "right" if d.accuracy else "wrong"
        return f"All answers are {which}, so there is nothing for confidence to tell apart."
    value, low, high = apart(d.auroc.value, d.auroc.low, d.auroc.high, digits=2)
    told = "hardly tells right answers from wrong ones"
    if d.auroc.high < 0.5:
        told = "points the wrong way: the surer an answer, the more often it is wrong"
    return f"Confidence {told} (AUROC {value} [{low}, {high}])."


def _change(d: Diagnosis) -> Iterator[str]:
    if d.change is None:
        return
    accuracy, confidence = d.change.accuracy, d.change.confidence
    moves = []
    if accuracy.sign:
        moves.append(f"accuracy {'rose' if accuracy.sign > 0 else 'fell'} by {size(accuracy)}")
    if confidence.sign:
        moves.append(
            f"confidence {'rose' if confidence.sign > 0 else 'fell'} by {size(confidence)}"
        )
    against = f"Against the {visible(d.reference)}"
    if not moves:
        yield f"{against} neither accuracy nor confidence moved beyond noise."
        return
    together = ""
    if len(moves) == 2:
        together = f", so that the signed gap moved by {with_ends(d.change.signed_gap, sign=True)}"
    yield f"{against} {' and '.join(moves)}{together}."
    if accuracy.sign < 0:
        yield "No recalibration gives lost accuracy back."


def _regime(d: Diagnosis) -> Iterator[str]:
    """Say the regime where a calibrated parent names one and there is something to mend."""
    regime = d.regime
    if regime.name == "undetermined" or regime.margin is None or d.verdict_word == "none":
        return
    accuracy = d.accuracy if d.change is None else d.change.accuracy_after
    right, believed = apart(accuracy, accuracy - regime.margin.value, digits=2)
    side = "above" if regime.margin.value > 0 else "below"
    like = ", as a model does that learned its items by heart, or something new"
    yield (
        f"Its accuracy of {right} is {size(regime.margin)} {side} the {believed} that the "
        f"{visible(d.reference)}, itself calibrated, believed attainable: relative to that it "
        f"counts as {regime.name}{like if side == 'above' else ''}. This is no proof."
    )


# --- figures -------------------------------------------------------------------------------------


def figures(d: Diagnosis) -> tuple[Figure, ...]:
    """Return the numbers behind the paragraph, each with its label."""
    return (*_restated(d), *_fits(d), *_beside(d), *_regime_figure(d), *_notes(d))


def _restated(d: Diagnosis) -> Iterator[Figure]:
    """What the verdict, the diagram and the table of slices show, too."""
    sure, right = apart(d.mean_confidence, d.accuracy)
    gap = with_ends(d.signed_gap, sign=True)
    texts = [
        ("signed gap", f"{gap} ({sure} sure, {right} right), {_many(d)}"),
        ("ECE", f"{_reading(d.ece)}, {d.bins} equal-width bins"),
        *_places(d),
    ]
    yield from (Figure(label, text, restates=True) for label, text in texts)


def _regime_figure(d: Diagnosis) -> Iterator[Figure]:
    if d.regime.margin is None:
        yield Figure("regime", f"{d.regime.name}. {d.regime.caveat}")
        return
    margin = with_ends(d.regime.margin, sign=True)
    where = visible(d.regime.reference)
    yield Figure(
        "regime", f"{d.regime.name}: {margin} is accuracy minus {where}. {d.regime.caveat}"
    )


def _notes(d: Diagnosis) -> Iterator[Figure]:
    yield from (Figure("note", visible(note)) for note in d.notes)


def _reading(ece: EceReading) -> str:
    value, low, high = apart(ece.value, ece.low, ece.high)
    mean, most = apart(ece.noise_floor, ece.noise_floor_high)
    return f"{value} [{low}, {high}], noise floor {mean} (up to {most})"


def _places(d: Diagnosis) -> Iterator[tuple[str, str]]:
    """Where it is worst."""
    for b in d.worst_bins:
        opening = "[" if b.lower == 0 else "("
        gap, low, high, _ = apart(b.gap, b.low, b.high, 0.0, sign=True)
        yield (
            "bin",
            f"{opening}{b.lower:.2f}, {b.upper:.2f}]  n {b.n:,}  {b.confidence:.3f} sure, "
            f"{b.accuracy:.3f} right  {gap} [{low}, {high}]  {percent(b.share)} of ECE",
        )
    for s in d.worst_slices:
        gap, low, high, _ = apart(s.signed_gap, s.low, s.high, 0.0, sign=True)
        yield (
            "slice",
            f"{shortened(s.name)}  n {s.n:,}  {s.mean_confidence:.3f} sure, "
            f"{s.accuracy:.3f} right  {gap} [{low}, {high}]",
        )


def _fits(d: Diagnosis) -> Iterator[Figure]:
    """What would mend it."""
    fit = d.temperature
    if fit is not None:
        before, after = apart(fit.nll_before, fit.nll_after)
        at = factor(fit.value, fit.low, fit.high)
        if fit.at_limit:
            at = f"at its limit, {at}: NLL still falls there"
        yield Figure("temperature", f"{at}, on the {_what(fit)}; NLL {before} -> {after} nats")
    if d.after_temperature is not None:
        yield Figure("held out", f"ECE {_reading(d.after_temperature)}", inner=True)
    if d.after_isotonic is not None:
        yield Figure("isotonic map", f"ECE {_reading(d.after_isotonic)}, on held-out folds")
    if d.auroc is not None:
        value, low, high = apart(d.auroc.value, d.auroc.low, d.auroc.high)
        yield Figure("AUROC", f"{value} [{low}, {high}] of confidence for being right")
    base = d.base_temperature
    if base is not None:
        before, after = apart(base.kl_before, base.kl_after)
        limit = "at its limit, " if base.at_limit else ""
        yield Figure(
            "without labels",
            f"{limit}{factor(base.value, base.low, base.high)} comes closest to the "
            f"{visible(d.reference)}; KL {before} -> {after} nats, ECE {_reading(base.ece)}",
        )


def _beside(d: Diagnosis) -> Iterator[Figure]:
    """What it looks like beside the baseline."""
    if d.change is not None:
        c = d.change
        for label, before, after, move in (
            ("accuracy", c.accuracy_before, c.accuracy_after, c.accuracy),
            ("confidence", c.confidence_before, c.confidence_after, c.confidence),
        ):
            then, now = apart(before, after)
            yield Figure(label, f"{then} -> {now}, {with_ends(move, sign=True)}")
        yield Figure("gap moved", with_ends(c.signed_gap, sign=True))
    collapse = d.collapse
    yield Figure("0.9 or surer", _contrast(collapse.share_confident))
    if collapse.mean_entropy is not None:
        yield Figure("entropy", f"{_contrast(collapse.mean_entropy)} nats")
    if collapse.answered is not None and len(collapse.answered) <= LISTED:
        yield Figure("answers", _answers(collapse.answered))
        if collapse.right is not None:
            yield Figure("right", _answers(collapse.right), inner=True)
        if collapse.answered_before is not None:
            yield Figure("before", _answers(collapse.answered_before), inner=True)
    if d.option_mass is not None:
        beside = d.option_mass.contrast
        moved = f"{_contrast(beside)}. " if beside is not None else ""
        yield Figure("option mass", f"{moved}{option_mass(d.option_mass)}")


def _contrast(found: Contrast) -> str:
    if found.baseline is None:
        return f"{found.value:.3f}"
    then, now = apart(found.baseline, found.value)
    moved = "" if found.change is None else f", {with_ends(found.change, sign=True)}"
    return f"{then} -> {now}{moved}"


def _answers(shares: Sequence[float]) -> str:
    return "  ".join(
        f"{letter} {percent(share)}" for letter, share in zip(ascii_uppercase, shares, strict=False)
    )
