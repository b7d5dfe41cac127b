"""Sequence probe: the probability of the answer that a model writes greedily."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

import numpy as np

from pytest_calibration.errors import ModelError, UsageError
from pytest_calibration.items.sources import DatasetSetting
from pytest_calibration.models.protocols import LanguageModel
from pytest_calibration.predictions import Predictions
from pytest_calibration.probes.answer_matching import Match
from pytest_calibration.probes.free_answer import HEADER, MAX_NEW_TOKENS, STOP, TEMPLATE, FreeAnswer
from pytest_calibration.probes.prompting import ChatSetting, takes

Tokens: TypeAlias = Literal["sum", "mean"]
SCORING: Final = {
    "sum": "product of the token probabilities of the greedy answer",
    "mean": "geometric mean of the token probabilities of the greedy answer",
}


class SequenceLogprob(FreeAnswer):
    """Answer questions; the confidence is the probability of the answer's text.

    Args:
        logprob: ``sum`` of the log-probabilities of the answer's tokens, whose exponential is the
            probability of just this text; or their ``mean``, whose exponential is the geometric
            mean of the token probabilities, which does not fall with length and is no probability
            of the text. The token that ends the answer counts.

    All others are those of :class:`~pytest_calibration.probes.free_answer.FreeAnswer`.
    """

    kind = "sequence"

    def __init__(
        self,
        name: str = "sequence",
        *,
        path: str | Path | None = None,
        dataset: DatasetSetting = None,
        logprob: Tokens = "sum",
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
        if logprob not in get_args(Tokens):
            raise UsageError(
                f"probe {name!r}: logprob must be one of {', '.join(get_args(Tokens))}, got "
                f"{logprob!r}."
            )
        self.logprob: Tokens = logprob
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

    def run(self, model: LanguageModel, *, limit: int | None = None) -> Predictions:
        """Answer every question.

        Raises:
            ModelError: the model cannot generate, or cannot end an answer where it should.
        """
        items, fields = self.sample(limit)
        if self.stop and not takes(model.generate, "stop"):
            raise ModelError(
                f"{model.name}: its generate takes no stop, so the probability of what comes "
                f"before {self.stop[0]!r} is not known; give it one, or set stop: [] in the probe "
                f"{self.name!r}."
            )
        answers = self.answered(model, self.question_prompts(model, items))
        reduce = np.sum if self.logprob == "sum" else np.mean
        logprobs = [float(reduce(a.generation.token_logprobs)) for a in answers]
        correct = [self.is_right(i, a.text) for i, a in zip(items, answers, strict=True)]
        return self.made(
            model,
            items,
            fields,
            [a.text for a in answers],
            # Rounding may leave a sum of certain tokens just above 0.
            np.exp(np.minimum(logprobs, 0.0)),
            np.array(correct),
            {"scoring": SCORING[self.logprob]},
            notes=self.notes(answers),
        )
