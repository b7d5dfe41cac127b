"""The words of a diagnosis, situation by situation, and the figures below them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from known_calibration import sharpened

from pytest_calibration.diagnosis import Diagnosis, diagnose, sentences
from pytest_calibration.diagnosis.findings import (
    BaseTemperature,
    Change,
    Contrast,
    EceReading,
    Favourite,
    Interval,
    OptionMass,
    Recalibrated,
    Regime,
    TemperatureFit,
)
from pytest_calibration.diagnosis.sentences import apart, factor, option_name, percent, with_ends

ANY = diagnose(sharpened(400, 1))


def reading(value: float, floor: float = 0.02, high: float = 0.03) -> EceReading:
    """An ECE with its floor, as noisy as 2,000 items have it."""
    at_floor = value <= high
    return EceReading(value, max(0.0, value - 0.02), value + 0.02, floor, high, at_floor)


def after(value: float, *, corrected: bool | None = None, high: float = 0.03) -> Recalibrated:
    """An ECE out of fold; corrected at its floor by default."""
    r = reading(value, high=high)
    corrected = r.at_floor if corrected is None else corrected
    return Recalibrated(
        r.value,
        r.low,
        r.high,
        r.noise_floor,
        r.noise_floor_high,
        r.at_floor,
        corrected,
        not corrected,
    )


FIT = TemperatureFit(2.3, 2.1, 2.52, "logits", 1.2, 1.0, False, 0)


def case(**changes: Any) -> Diagnosis:
    """An over-confident model that a temperature corrects, with what is asked for changed."""
    usual: dict[str, Any] = {
        "n": 2000,
        "units": 2000,
        "accuracy": 0.47,
        "mean_confidence": 0.66,
        "direction": "over-confident",
        "signed_gap": Interval(0.19, 0.17, 0.21),
        "ece": reading(0.246),
        "auroc": Interval(0.7, 0.68, 0.72),
        "temperature": FIT,
        "after_temperature": after(0.025),
        "after_isotonic": after(0.028),
        "problem": "scaling",
        "worst_bins": (),
        "notes": (),
    }
    return written(replace(ANY, **{**usual, **changes}))


def written(d: Diagnosis) -> Diagnosis:
    """Return a diagnosis with the text that its values ask for."""
    return replace(d, sentences=sentences.sentences(d), figures=sentences.figures(d))


OVER = "Over-confident by 0.190 [0.170, 0.210]: mean confidence 0.66, accuracy 0.47."
MENDED = (
    "Dividing the logits by 2.30 [2.10, 2.52] would bring ECE from 0.246 to 0.025 on held-out "
    "folds, its noise floor: a scaling problem; recalibrate, or train more gently (a lower "
    "learning rate, fewer epochs)."
)
MOVED = Change(
    2000,
    0.56,
    0.47,
    0.56,
    0.66,
    Interval(-0.09, -0.11, -0.07),
    Interval(0.1, 0.08, 0.12),
    Interval(0.19, 0.17, 0.21),
)


def test_a_scaling_problem() -> None:
    """How far off, by what to divide, what that would bring, and what to do."""
    assert case().paragraph == f"{OVER} {MENDED}"


def test_lost_accuracy_is_no_matter_of_recalibration() -> None:
    """Accuracy fell and confidence rose, each with its interval, and the gap moved by both."""
    assert case(change=MOVED, reference="baseline").paragraph == (
        f"{OVER} {MENDED} Compared with the baseline, accuracy fell by 0.090 [0.070, 0.110] "
        "and confidence rose by 0.100 [0.080, 0.120], so that the signed gap moved by +0.190 "
        "[+0.170, +0.210]. Recalibration does not restore lost accuracy."
    )


@pytest.mark.parametrize(
    ("accuracy", "confidence", "words"),
    [
        (
            Interval(0.01, -0.01, 0.03),
            Interval(0.1, 0.08, 0.12),
            "Compared with the parent base, confidence rose by 0.100 [0.080, 0.120].",
        ),
        (
            Interval(0.05, 0.03, 0.07),
            Interval(0.01, -0.01, 0.03),
            "Compared with the parent base, accuracy rose by 0.050 [0.030, 0.070].",
        ),
        (
            Interval(0.01, -0.01, 0.03),
            Interval(0.01, -0.01, 0.03),
            "Compared with the parent base, neither accuracy nor confidence moved beyond noise.",
        ),
        (
            Interval(-0.0004, -0.0006, -0.0002),
            Interval(0.0, -0.01, 0.01),
            "Compared with the parent base, accuracy fell by 0.0004 [0.0002, 0.0006]. "
            "Recalibration does not restore lost accuracy.",
        ),
    ],
)
def test_only_what_moved_beyond_noise_is_said_to(
    accuracy: Interval, confidence: Interval, words: str
) -> None:
    """A change whose interval holds 0 is not claimed."""
    change = replace(MOVED, accuracy=accuracy, confidence=confidence)
    assert case(change=change, reference="parent base").paragraph == f"{OVER} {MENDED} {words}"


def test_under_confidence_is_multiplied_away() -> None:
    """A temperature below 1 is given as the factor of the logits; nothing about training."""
    d = case(
        direction="under-confident",
        signed_gap=Interval(-0.12, -0.14, -0.1),
        mean_confidence=0.46,
        accuracy=0.58,
        temperature=TemperatureFit(0.625, 0.5, 0.8, "log-odds", 1.2, 1.0, False, 0),
    )
    assert d.paragraph == (
        "Under-confident by 0.120 [0.100, 0.140]: mean confidence 0.46, accuracy 0.58. "
        "Multiplying the log-odds of the confidence by 1.60 [1.25, 2.00] would bring ECE "
        "from 0.246 to 0.025 on held-out folds, its noise floor: a scaling problem; recalibrate."
    )


def test_what_is_mostly_corrected_says_what_remains() -> None:
    """Above its floor, the floor stands beside it; where noise may hide much, it says so."""
    d = case(after_temperature=replace(after(0.05, corrected=True), high=0.15))
    assert "to 0.050 on held-out folds (noise floor 0.020): a scaling problem, as far as" in (
        d.paragraph
    )
    assert "as far as 2,000 items show; recalibrate" in d.paragraph


def test_a_small_problem_is_called_small() -> None:
    """Below 0.02 no change of the training is advised."""
    rest = replace(after(0.003), high=0.006)
    d = case(ece=reading(0.015, 0.002, 0.004), after_temperature=rest)
    assert d.paragraph.endswith(": a scaling problem, and a small one.")


def test_scaling_that_ranks_nothing_says_so() -> None:
    """An AUROC below 0.6 beyond noise stands beside the remedy."""
    d = case(auroc=Interval(0.55, 0.53, 0.57))
    assert d.paragraph.endswith(
        "Confidence hardly separates correct answers from wrong ones (AUROC 0.55 [0.53, 0.57])."
    )


def test_a_problem_of_shape() -> None:
    """What the best temperature leaves, what a monotone map does."""
    d = case(problem="shape", after_temperature=after(0.12), after_isotonic=after(0.026))
    assert d.paragraph == (
        f"{OVER} No temperature corrects it: at the best one, 2.30 [2.10, 2.52], ECE on held-out "
        "folds is 0.120 (noise floor 0.020). A monotone map of the confidence (isotonic "
        "regression) would bring it from 0.246 to 0.026: a problem of shape, not of scale; "
        "recalibrate with such a map, or train more gently (a lower learning rate, fewer epochs)."
    )
    assert written(replace(d, direction="too flat")).paragraph.endswith(
        "recalibrate with such a map."
    )


def test_without_logits_nothing_is_said_of_dividing_them() -> None:
    """No temperature of the log-odds; of the logits, which were not there, it is left open."""
    d = case(
        problem="shape",
        temperature=replace(FIT, scale="log-odds"),
        after_temperature=after(0.12),
        after_isotonic=after(0.026),
    )
    assert "No temperature of the log-odds corrects it: at the best one," in d.paragraph
    assert d.paragraph.endswith(
        "would bring it from 0.246 to 0.026: recalibrate with such a map (dividing the logits may "
        "do as well, which confidences alone do not show), or train more gently (a lower learning "
        "rate, fewer epochs)."
    )


def test_a_problem_of_ranking() -> None:
    """A map that makes all confidences alike is no help; all right or all wrong likewise."""
    tail = (
        " A monotone map of the confidence (isotonic regression) would bring ECE from 0.246 to "
        "0.028 on held-out folds, but only by making all of them much alike."
    )
    blind = case(problem="ranking", auroc=Interval(0.5, 0.47, 0.53))
    assert blind.paragraph == (
        f"{OVER} Confidence hardly separates correct answers from wrong ones (AUROC 0.50 "
        f"[0.47, 0.53]).{tail}"
    )
    wrong = case(problem="ranking", auroc=None, accuracy=0.0)
    nothing = "so there is nothing for confidence to separate."
    assert f"All answers are wrong, {nothing}{tail}" in wrong.paragraph
    right = case(problem="ranking", auroc=None, accuracy=1.0)
    assert f"All answers are correct, {nothing}{tail}" in right.paragraph


def test_what_nothing_corrects() -> None:
    """Both attempts with what they leave, and no advice."""
    d = case(problem="not corrected", after_temperature=after(0.2), after_isotonic=after(0.11))
    assert d.paragraph == (
        f"{OVER} No temperature corrects it: at the best one, 2.30 [2.10, 2.52], ECE on held-out "
        "folds is 0.200 (noise floor 0.020). Nor does a monotone map of the confidence (0.110): "
        "what can be learned from these items does not correct the rest."
    )
    no_fit = case(
        problem="not corrected",
        temperature=None,
        after_temperature=None,
        after_isotonic=after(0.11),
    )
    assert "No temperature changes anything here. Nor does" in no_fit.paragraph


def test_what_the_items_do_not_show() -> None:
    """The numbers stand, the name does not; below 50 units there are none."""
    d = case(problem="undecided", after_temperature=after(0.1), after_isotonic=after(0.05))
    assert d.paragraph == (
        f"{OVER} On held-out folds the best temperature would bring ECE from 0.246 to 0.100, a "
        "monotone map of the confidence to 0.050; 2,000 items do not show which is needed."
    )
    little = case(problem="undecided", ece=reading(0.025))
    assert little.paragraph == (
        f"{OVER} That is little: an ECE of 0.025 is no more than noise makes (up to 0.030)."
    )
    few = case(problem="undecided", after_temperature=None, after_isotonic=None, n=300, units=40)
    assert (
        few.paragraph == f"{OVER} 300 items in 40 groups are too few to try what would correct it."
    )
    flat = case(problem="undecided", after_temperature=None)
    assert "On held-out folds a monotone map would bring ECE from 0.246 to 0.028;" in flat.paragraph


def test_a_calibrated_model() -> None:
    """What the items could show, the gap with its interval, ECE beside what noise makes."""
    d = case(
        direction="calibrated",
        problem="none",
        signed_gap=Interval(0.004, -0.016, 0.024),
        mean_confidence=0.564,
        accuracy=0.56,
        ece=reading(0.021),
    )
    assert d.paragraph == (
        "No miscalibration that 2,000 items could show: mean confidence 0.564, accuracy 0.560 "
        "(signed gap +0.004 [-0.016, +0.024]), and an ECE of 0.021 is no more than noise makes "
        "(up to 0.030)."
    )


def test_items_that_do_not_show_it() -> None:
    """Which way it errs is left open, with the interval that leaves it open."""
    d = case(
        n=1,
        units=1,
        direction="undetermined",
        problem="undecided",
        signed_gap=Interval(0.05, -0.1, 0.2),
        ece=reading(0.2, 0.15, 0.18),
    )
    assert d.paragraph == (
        "1 item does not show which way it errs, if it does: the signed gap is +0.050 "
        "[-0.100, +0.200], and an ECE of 0.200 is hardly more than noise makes (up to 0.180)."
    )
    assert written(replace(d, n=40, units=40, unit="token")).paragraph.startswith(
        "40 tokens do not show"
    )


@pytest.mark.parametrize(
    ("direction", "words"),
    [
        ("too extreme", "confidence is too high where it is high and too low where it is low:"),
        ("too flat", "confidence is too low where it is high and too high where it is low:"),
        ("uneven", "not at every confidence:"),
    ],
)
def test_a_model_whose_means_agree(direction: str, words: str) -> None:
    """The shape is named, and ECE stands beside what noise makes."""
    d = case(direction=direction, mean_confidence=0.62, accuracy=0.61)
    assert d.paragraph.startswith(
        f"Mean confidence 0.62 and accuracy 0.61 agree, but {words} ECE 0.246, where noise alone "
        "stays below 0.030 95 % of the time."
    )


ABOVE = Regime("non-calibratable", "mean confidence of x", Interval(0.15, 0.13, 0.17), "Caveat.")


def test_the_regime_is_said_with_its_reference_and_never_as_a_proof() -> None:
    """Accuracy beside what the parent believed, how far above or below, and what it is worth."""
    change = replace(MOVED, accuracy_after=0.84)
    above = case(regime=ABOVE, change=change, reference="parent base")
    assert above.paragraph.endswith(
        "Its accuracy of 0.84 is 0.150 [0.130, 0.170] above 0.69, the mean confidence of the "
        "parent base, which is calibrated: relative to it the model counts as non-calibratable, "
        "as after memorising its items or learning something new. This is no proof."
    )
    below = replace(ABOVE, name="calibratable", margin=Interval(-0.09, -0.11, -0.07))
    change = replace(MOVED, accuracy_after=0.6)
    assert case(regime=below, change=change, reference="parent base").paragraph.endswith(
        "Its accuracy of 0.60 is 0.090 [0.070, 0.110] below 0.69, the mean confidence of the "
        "parent base, which is calibrated: relative to it the model counts as calibratable. "
        "This is no proof."
    )


def test_a_regime_is_not_said_where_there_is_nothing_to_correct() -> None:
    """Nor where it is undetermined."""
    fine = case(regime=ABOVE, problem="none", direction="calibrated", change=MOVED)
    assert "calibratable" not in fine.paragraph
    unknown = replace(ABOVE, name="undetermined", margin=Interval(0.01, -0.01, 0.03))
    assert "calibratable" not in case(regime=unknown, change=MOVED).paragraph


LETTER = Favourite(1, 4, 0.61, 0.25, 0.27, Interval(0.36, 0.3, 0.42))


def test_a_collapse_onto_a_letter() -> None:
    """Which option, how often, how often before, how often right."""
    found = case(collapse=replace(ANY.collapse, favourite=LETTER), classes=())
    assert found.paragraph.endswith(
        "It answers option 2 of 4 (B) 61 % of the time (before: 27 %), where that is correct 25 % "
        "of the time."
    )
    alone = replace(LETTER, baseline=None, options=30, option=4)
    assert sentences.favourite(alone) == (
        "It answers option 5 of 30 61 % of the time, where that is correct 25 % of the time."
    )


def test_a_collapse_onto_a_class() -> None:
    """A class by its name, or by its number where it has none; a long name is cut."""
    for classes, name in (
        (("ham", "spam", "news", "other"), "spam"),
        (("class 0", "class 1", "class 2", "class 3"), "class 1"),
        (("a", "b\x1b[2J" + "c" * 60, "d", "e"), r"b\x1b[2J" + "c" * 21 + "..."),
    ):
        found = case(collapse=replace(ANY.collapse, favourite=LETTER), classes=classes)
        assert found.paragraph.endswith(
            f"It answers {name} 61 % of the time (before: 27 %), where that is correct 25 % of the "
            "time."
        )


def test_what_a_small_option_mass_means() -> None:
    """In the paragraph where it is small and was not before; of some items it speaks of those."""
    small = OptionMass(Interval(0.31, 0.29, 0.33), 0.84, None, True)
    words = (
        "The options hold 0.31 of the probability on average, and less than half on 84 % of the "
        "items: the model would rather write something else, and its confidence, which counts the "
        "options alone, may reflect the format more than the answer."
    )
    assert sentences.option_mass(small) == words
    assert case(option_mass=small).paragraph.endswith(words)
    # A model that is fine and no worse than before has it in the figures alone.
    fine: dict[str, Any] = {"problem": "none", "direction": "calibrated"}
    assert case(option_mass=small, **fine).paragraph.endswith(words)
    beside = replace(small, contrast=Contrast(0.31, 0.32, Interval(-0.01, -0.03, 0.01)))
    assert "options hold" not in case(option_mass=beside, **fine).paragraph
    assert "options hold" not in case(option_mass=beside).paragraph
    fell = replace(small, contrast=Contrast(0.31, 0.44, None))
    assert case(option_mass=fell).paragraph.endswith(words)
    some = replace(small, mean=Interval(0.7, 0.68, 0.72), share_below_half=0.3)
    assert ": on those the model would rather write something else, and its confidence there," in (
        sentences.option_mass(some)
    )
    large = replace(some, share_below_half=0.004, small=False)
    assert sentences.option_mass(large) == (
        "The options hold 0.7 of the probability on average, and less than half on 0.4 % of the "
        "items: the model does answer with an option."
    )
    assert "options hold" not in case(option_mass=large).paragraph


def test_names_are_shown_as_text() -> None:
    """A reference that holds control characters cannot move the cursor."""
    d = case(change=MOVED, reference="par\x1b[2Jent\u202e", regime=ABOVE)
    for text in (d.paragraph, *d.lines()):
        assert text.isprintable()
    assert "par\\x1b[2Jent\\u202e" in d.paragraph


# --- figures -------------------------------------------------------------------------------------


def figures(d: Diagnosis) -> dict[str, str]:
    """Lines by their label, continuations joined."""
    out: dict[str, str] = {}
    label = ""
    for line in d.lines():
        assert len(line) <= 100
        label = line[:15].strip() or label
        out[label] = f"{out.get(label, '')} {line[15:].strip()}".strip()
    return out


def test_the_figures_stand_below() -> None:
    """Each with its interval, labelled, in its own line."""
    d = case(
        change=MOVED,
        reference="parent base",
        base_temperature=BaseTemperature(2.0, 1.9, 2.1, 0.2, 0.01, False, reading(0.025)),
        notes=("First note.",),
    )
    f = figures(d)
    assert f["signed gap"] == "+0.190 [+0.170, +0.210] (conf 0.660, acc 0.470), 2,000 items"
    assert f["ECE"] == "0.246 [0.226, 0.266], noise floor 0.020 (up to 0.030), 15 equal-width bins"
    assert f["temperature"] == "2.30 [2.10, 2.52], on the logits; NLL 1.200 -> 1.000 nats"
    assert f["held out"] == "ECE 0.025 [0.005, 0.045], noise floor 0.020 (up to 0.030)"
    assert f["isotonic map"].startswith("ECE 0.028 [0.008, 0.048]")
    assert f["AUROC"] == "0.700 [0.680, 0.720] of confidence for correctness"
    assert f["accuracy"] == "0.560 -> 0.470, -0.090 [-0.110, -0.070]"
    assert f["confidence"] == "0.560 -> 0.660, +0.100 [+0.080, +0.120]"
    assert f["gap moved"] == "+0.190 [+0.170, +0.210]"
    assert f["without labels"] == (
        "2.00 [1.90, 2.10] comes closest to the parent base; KL 0.200 -> 0.010 nats, ECE 0.025 "
        "[0.005, 0.045], noise floor 0.020 (up to 0.030)"
    )
    assert f["note"] == "First note."


def test_a_temperature_at_its_limit_is_no_number_to_use() -> None:
    """It says that NLL still falls, and has no interval."""
    at = TemperatureFit(100.0, None, None, "log-odds", 0.9, 0.7, True, 0)
    assert figures(case(temperature=at, problem="undecided"))["temperature"] == (
        "at its limit, 100: NLL still falls there, on the log-odds of the confidence; NLL 0.900 "
        "-> 0.700 nats"
    )


def test_bins_and_slices_have_a_line_each() -> None:
    """Where it is worst, with the gap and its interval; long and wide names are cut."""
    d = diagnose(sharpened(3000, 1, 2.5))
    f = [line for line in d.lines() if line.startswith("bin")]
    assert len(f) == len(d.worst_bins) == 3
    b = d.worst_bins[0]
    assert (
        f[0].split()
        == (
            f"bin ({b.lower:.2f}, {b.upper:.2f}] n {b.n:,} conf {b.confidence:.3f}, "
            f"acc {b.accuracy:.3f} {b.gap:+.3f} [{b.low:+.3f}, {b.high:+.3f}] "
            f"{100 * b.share:.0f} % of ECE"
        ).split()
    )
    names = ["漢" * 40, "x" * 60, "tab\there"]
    p = sharpened(3000, 1, 2.5)
    sliced = replace(p, slices=[names[i % 3] for i in range(3000)])  # type: ignore[arg-type]
    lines = [line for line in diagnose(sliced).lines() if line.startswith("slice")]
    assert len(lines) == 3
    assert {line.split()[1] for line in lines} == {
        "漢" * 14 + "...",
        "x" * 29 + "...",
        "tab\\there",
    }


def test_answers_are_listed_while_they_are_few() -> None:
    """Four beside how often each is right, and was answered; a thousand classes are not.

    The options of a question have letters, classes their names or numbers.
    """
    p = sharpened(400, 1, 2.0)
    named = replace(p, class_names=("ham", "spam", "news", "other"))
    asked = replace(p, option_mass=np.ones(400))
    for one, names in (
        (p, ("class 0", "class 1", "class 2", "class 3")),
        (named, named.class_names),
        (asked, tuple("ABCD")),
    ):
        f = figures(diagnose(one, one))
        for label, shares in (
            ("answered", ANY.collapse.answered),
            ("correct", ANY.collapse.correct),
            ("before", ANY.collapse.answered),
        ):
            assert shares is not None
            assert f[label] == "  ".join(
                f"{name} {100 * share:.0f} %" for name, share in zip(names, shares, strict=True)
            )
    many = replace(ANY.collapse, answered=(0.1,) * 10)
    assert "answered" not in figures(case(collapse=many))


def test_what_stands_beside_the_baseline_is_shown_with_its_change() -> None:
    """Share of 0.9 and above, entropy and option mass; alone without a baseline."""
    beside = Contrast(0.7, 0.2, Interval(0.5, 0.48, 0.52))
    d = case(
        collapse=replace(ANY.collapse, share_confident=beside, mean_entropy=beside),
        option_mass=OptionMass(Interval(0.9, 0.88, 0.92), 0.0, beside, False),
    )
    f = figures(d)
    assert f["0.9 and above"] == "0.200 -> 0.700, +0.500 [+0.480, +0.520]"
    assert f["entropy"] == "0.200 -> 0.700, +0.500 [+0.480, +0.520] nats"
    assert f["option mass"].startswith(
        "0.200 -> 0.700, +0.500 [+0.480, +0.520]. The options hold 0.9 of the probability"
    )
    alone = replace(ANY.collapse, share_confident=Contrast(0.7, None, None), mean_entropy=None)
    assert figures(case(collapse=alone))["0.9 and above"] == "0.700"


def test_the_regime_line_has_margin_reference_and_caveat() -> None:
    """Also where there is no reference."""
    assert figures(case(regime=ABOVE))["regime"] == (
        "non-calibratable: +0.150 [+0.130, +0.170] is accuracy minus mean confidence of x. Caveat."
    )
    none = Regime("undetermined", "", None, "There is none.")
    assert figures(case(regime=none))["regime"] == "undetermined. There is none."


# --- numbers -------------------------------------------------------------------------------------


def test_digits_are_enough_to_tell_numbers_apart() -> None:
    """As few as show the difference, six at most, and no more for equal numbers."""
    assert apart(0.25, 0.5) == ["0.250", "0.500"]
    assert apart(0.0413, 0.0414) == ["0.0413", "0.0414"]
    assert apart(2.0, 2.0 + 1e-9, digits=2) == ["2.00", "2.00"]
    assert apart(1.0, 1.0 + 1e-6) == ["1.000000", "1.000001"]
    assert apart(-0.0001, digits=3) == ["0.000"]
    assert with_ends(Interval(0.1, 0.0002, 0.2)) == "0.1000 [0.0002, 0.2000]"
    assert factor(1.01, 1.002, 1.018) == "1.010 [1.002, 1.018]"
    assert factor(100.0, None, None) == "100"


def test_shares_and_options_are_written_out() -> None:
    """A small share is not nothing; letters end at Z."""
    assert [percent(x) for x in (0.0, 0.004, 0.25, 1.0)] == ["0 %", "0.4 %", "25 %", "100 %"]
    assert option_name(0, 26) == "option 1 of 26 (A)"
    assert option_name(0, 27) == "option 1 of 27"
