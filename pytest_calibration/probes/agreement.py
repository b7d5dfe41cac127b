"""Agreement probe: how many of several sampled answers are the same.

A simplification of Kuhn et al. 2023 (semantic uncertainty), as in self-consistency (Wang et al.
2023): answers are clustered, and the share of the largest cluster is the confidence in its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from pytest_calibration.items.sources import DatasetSetting
from pytest_calibration.models.protocols import LanguageModel
from pytest_calibration.predictions import Predictions, digest
from pytest_calibration.probes.answer_matching import Match
from pytest_calibration.probes.free_answer import (
    HEADER,
    MAX_NEW_TOKENS,
    STOP,
    TEMPLATE,
    FreeAnswer,
    FreeQuestion,
    temperature_of,
    whole_number,
)
from pytest_calibration.probes.probe import Variant, other_seed
from pytest_calibration.probes.prompting import ChatSetting

SAMPLES: Final = 10
TEMPERATURE: Final = 1.0


class Agreement(FreeAnswer):
    """Answer questions several times; the confidence is the share of the commonest answer.

    Of two answers that are equally common, the one that came first is taken. The confidence is a
    whole number of ``samples``-ths, at least one of them.

    Args:
        samples: number of answers drawn for each question.
        temperature: of the draw. At 1 a model answers as often as it believes.
        seed: another one draws other answers. What is drawn for a question depends on this number
            and on its text, not on the other questions.
        match: which answers are right, and which are the same; for ``contains`` those that are the
            same ``normalised``.

    All others are those of :class:`~pytest_calibration.probes.free_answer.FreeAnswer`.
    """

    kind = "agreement"

    def __init__(
        self,
        name: str = "agreement",
        *,
        path: str | Path | None = None,
        dataset: DatasetSetting = None,
        samples: int = SAMPLES,
        temperature: float = TEMPERATURE,
        seed: int = 0,
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
        self.samples = whole_number(name, "samples", samples, 2)
        self.temperature = temperature_of(name, temperature)
        self.seed = whole_number(name, "seed", seed, 0)
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
        return super().variants() | {
            "draws": lambda seed: self.copied(seed=other_seed(self.seed, seed))
        }

    def run(self, model: LanguageModel, *, limit: int | None = None) -> Predictions:
        """Answer every question so many times.

        Raises:
            ModelError: the model cannot draw answers.
            ProbeError: the function that says which answers are the same fails.
        """
        items, fields = self.sample(limit)
        m = self.samples
        prompts = self.question_prompts(model, items)
        answers = self.answered(
            model,
            [prompt for prompt in prompts for _ in range(m)],
            temperature=self.temperature,
            seeds=[seed for item in items for seed in seeds_of(self.seed, item, m)],
        )
        texts = [answer.text for answer in answers]
        best = [self.largest(item, texts[m * i : m * (i + 1)]) for i, item in enumerate(items)]
        correct = [self.is_right(i, text) for i, (text, _) in zip(items, best, strict=True)]
        return self.made(
            model,
            items,
            fields,
            [text for text, _ in best],
            np.array([count for _, count in best]) / m,
            np.array(correct),
            {
                "scoring": f"largest share of {m} sampled answers",
                "temperature": f"{self.temperature:g}",
                "seed": self.seed,
            },
            notes=self.notes(answers),
        )

    def largest(self, item: FreeQuestion, answers: Sequence[str]) -> tuple[str, int]:
        """Return the first answer of the largest cluster, and the size of the cluster.

        An answer joins the first cluster whose first answer is the same.
        """
        clusters: list[list[str]] = []
        for answer in answers:
            for cluster in clusters:
                if self._same(item, cluster[0], answer):
                    cluster.append(answer)
                    break
            else:
                clusters.append([answer])
        # `max` takes the first of those that are equally large.
        largest = max(clusters, key=len)
        return largest[0], len(largest)

    def _same(self, item: FreeQuestion, answer: str, other: str) -> bool:
        """Whether two answers are the same; answers that name an option are, if they name one."""
        if item.options:
            choices = [
                self.matching.choice(item.question, one, item.options) for one in (answer, other)
            ]
            if choices != [None, None]:
                return choices[0] == choices[1]
        return self.matching.is_same(item.question, answer, other)


def seeds_of(seed: int, item: FreeQuestion, m: int) -> list[int]:
    """Return m seeds that depend on these alone: neither on other questions nor on their order."""
    return [int(digest(seed, item.shown, i), 16) >> 1 for i in range(m)]
