"""P(True) probe: a model answers, and is then asked whether its own answer is true.

Kadavath et al. 2022 ("Language Models (Mostly) Know What They Know"), in words of our own. The
confidence is the probability of ``(A) True`` against ``(B) False``. It may be below one half: the
model then takes its own answer to be wrong, and is calibrated where that is so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import ModelError, ProbeError, UsageError
from pytest_calibration.items.sources import DatasetSetting
from pytest_calibration.models.protocols import LanguageModel
from pytest_calibration.predictions import LOG_SLACK, Predictions, digest
from pytest_calibration.probes.agreement import TEMPERATURE, seeds_of
from pytest_calibration.probes.answer_matching import Match
from pytest_calibration.probes.free_answer import (
    HEADER,
    MAX_NEW_TOKENS,
    STOP,
    TEMPLATE,
    FreeAnswer,
    FreeQuestion,
    filled,
    temperature_of,
    whole_number,
)
from pytest_calibration.probes.probe import Variant, other_seed, softmax
from pytest_calibration.probes.prompting import ChatSetting

VERDICTS: Final = ("(A)", "(B)")
BRAINSTORMED: Final = "Answers that came to mind:\n{answers}\n"
CHECK: Final = (
    "Question: {question}\n{brainstormed}Proposed answer: {answer}\nIs the proposed answer true?\n"
    "(A) True\n(B) False\nThe proposed answer is:"
)
CHECK_HEADER: Final = "Judge whether each proposed answer is true.\n\n"
SMALL_MASS: Final = 0.01
"""Median probability of the two verdicts together below which the prompt does not lead to them."""


class PTrue(FreeAnswer):
    """Answer questions; the confidence is the probability that the model gives to "it is true".

    The answer is the greedy one. With ``shots``, solved examples come before both questions: before
    the second one, proposed answers that are right, and every second one wrong.

    Args:
        samples: answers that are drawn and shown before the proposed one ("brainstormed").
        temperature: of that draw.
        seed: of that draw.
        check: what asks whether an answer is true; ``{question}``, ``{answer}`` and, where answers
            are brainstormed, ``{brainstormed}``. The verdicts are ``(A)`` for true, ``(B)`` for
            false.
        check_header: text before everything, then.

    All others are those of :class:`~pytest_calibration.probes.free_answer.FreeAnswer`.
    """

    kind = "p_true"

    def __init__(
        self,
        name: str = "p_true",
        *,
        path: str | Path | None = None,
        dataset: DatasetSetting = None,
        samples: int = 0,
        temperature: float = TEMPERATURE,
        seed: int = 0,
        check: str = CHECK,
        check_header: str = CHECK_HEADER,
        shots: int = 0,
        shots_path: str | Path | None = None,
        header: str = HEADER,
        template: str = TEMPLATE,
        delimiter: str | None = None,
        chat: ChatSetting = False,
        stop: str | Sequence[str] = STOP,
        max_new_tokens: int = MAX_NEW_TOKENS,
        match: Match = "normalised",
    ) -> None:
        self.samples = whole_number(name, "samples", samples, 0)
        self.temperature = temperature_of(name, temperature)
        self.seed = whole_number(name, "seed", seed, 0)
        self.check_header = check_header
        self.check_template = check
        for key, text in {"check": check, "check_header": check_header}.items():
            if not isinstance(text, str):
                raise UsageError(f"probe {name!r}: {key} must be text, got {text!r}.")
        for field in ("{question}", "{answer}", *(("{brainstormed}",) if samples else ())):
            if field not in check:
                raise UsageError(f"probe {name!r}: the check {check!r} lacks {field}.")
        super().__init__(
            name,
            path=path,
            dataset=dataset,
            shots=shots,
            shots_path=shots_path,
            header=header,
            template=template,
            delimiter=delimiter,
            chat=chat,
            stop=stop,
            max_new_tokens=max_new_tokens,
            match=match,
        )

    def variants(self) -> dict[str, Variant]:
        """See :meth:`~pytest_calibration.probes.probe.ItemProbe.variants`."""
        found = super().variants()
        if self.samples:
            found["draws"] = lambda seed: self.copied(seed=other_seed(self.seed, seed))
        return found

    def run(self, model: LanguageModel, *, limit: int | None = None) -> Predictions:
        """Answer every question, then judge every answer.

        Raises:
            TokenBoundaryError: the tokenizer merges prompts with verdicts, with a space and without
            ModelError: the model cannot generate, score, or draw the answers asked for.
        """
        items, fields = self.sample(limit)
        prompts = self.question_prompts(model, items)
        answers = self.answered(model, prompts)
        texts = [a.text for a in answers]
        checks = [
            self.check(item, text, others)
            for item, text, others in zip(
                items, texts, self._brainstormed(model, items, prompts), strict=True
            )
        ]
        turns = [self._checked_examples(item) for item in items]
        logprobs, variant = self.prompting.option_logprobs(
            model,
            self.prompts(model, turns, checks, header=self.check_header),
            [list(VERDICTS)] * len(items),
        )
        self.check_scored(len(logprobs), len(items))
        self._check_scores(model, logprobs)
        mass = np.exp([np.logaddexp.reduce(row) for row in logprobs])
        correct = [self.is_right(i, text) for i, text in zip(items, texts, strict=True)]
        hard: dict[str, object] = {
            "scoring": "probability of (A) True against (B) False",
            "check": digest(self.check_header, self.check_template, BRAINSTORMED, size=4),
            "samples": self.samples,
        }
        if self.samples:
            hard |= {"temperature": f"{self.temperature:g}", "seed": self.seed}
        return self.made(
            model,
            items,
            fields,
            texts,
            softmax(logprobs)[:, 0],
            np.array(correct),
            hard,
            {"options": variant},
            option_mass=np.minimum(mass, 1.0),
            notes=(*self.notes(answers), *_mass_note(mass, is_chat=self.prompting.is_chat)),
        )

    def check(self, item: FreeQuestion, answer: str, others: Sequence[str] = ()) -> str:
        """Return what asks whether an answer is true, up to where the verdict begins."""
        listed = "\n".join(dict.fromkeys(others))
        fields = {
            "{question}": item.shown,
            "{answer}": answer,
            "{brainstormed}": BRAINSTORMED.replace("{answers}", listed) if others else "",
        }
        return filled(self.check_template, fields)

    def _brainstormed(
        self, model: LanguageModel, items: Sequence[FreeQuestion], prompts: Sequence[str]
    ) -> list[list[str]]:
        """Return the answers shown beside each proposed one; none where none are asked for."""
        m = self.samples
        if not m:
            return [[] for _ in items]
        drawn = self.answered(
            model,
            [prompt for prompt in prompts for _ in range(m)],
            temperature=self.temperature,
            seeds=[seed for item in items for seed in seeds_of(self.seed, item, m)],
        )
        return [[a.text for a in drawn[m * i : m * (i + 1)]] for i in range(len(items))]

    def _checked_examples(self, item: FreeQuestion) -> list[tuple[str, str]]:
        """Return the examples before a check: right answers, and every second one wrong.

        A wrong answer is another example's; where all of these are right, so is the proposed one.
        """
        out = []
        examples = self.shown_examples(item)
        for i, example in enumerate(examples):
            others = [e.answers[0] for e in [*examples[i + 1 :], *examples[:i]]]
            wrong = [a for a in others if not self.is_right(example, a)] if i % 2 else []
            answer = wrong[0] if wrong else example.answers[0]
            out.append((self.check(example, answer), VERDICTS[bool(wrong)]))
        return out

    def _check_scores(self, model: LanguageModel, logprobs: list[NDArray[np.float64]]) -> None:
        for row in logprobs:
            if len(row) != len(VERDICTS):
                raise ProbeError(
                    f"probe {self.name!r}: {len(row)} of {len(VERDICTS)} verdicts were scored; "
                    "none may be dropped."
                )
            if np.any(np.asarray(row) > LOG_SLACK):
                raise ModelError(
                    f"{model.name}: log P(option) is {np.max(row):.3g}, above 0; a model gives "
                    "log-probabilities, not logits."
                )


def _mass_note(mass: NDArray[np.float64], *, is_chat: bool) -> tuple[str, ...]:
    middle = float(np.median(mass))
    if middle >= SMALL_MASS:
        return ()
    way = "another check or delimiter"
    if not is_chat:
        way = "chat: true for a model that was trained on chats"
    return (
        f"'(A)' and '(B)' hold {middle:.2g} of the probability (median): the prompt does not lead "
        f"to them, and confidence says little; try shots, or {way}.",
    )
