"""Verbalized-confidence probe: a model states its answer and the probability that it is right.

The forms ``top_1`` and ``top_k`` are the one-stage prompts of Tian et al. 2023, in words of our
own; ``tag`` is what models that were trained to state their confidence write (RLCR, Damani et
al. 2025).

An answer from which no probability can be read counts as wrong with confidence 1, the worst there
is under every score of single items: a model cannot gain by stating nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, get_args

import numpy as np

from pytest_calibration.errors import ProbeError, UsageError
from pytest_calibration.items.sources import DatasetSetting
from pytest_calibration.models.protocols import LanguageModel
from pytest_calibration.predictions import Predictions
from pytest_calibration.probes.answer_matching import Match
from pytest_calibration.probes.free_answer import FreeAnswer, FreeQuestion, whole_number
from pytest_calibration.probes.prompting import ChatSetting
from pytest_calibration.probes.stated_confidence import Asking, Form, Stated
from pytest_calibration.text.visible import quoted

GUESSES: Final = 4
MAX_FAILURES: Final = 0.1
UNREAD: Final = 1.0
"""Confidence of an answer that states none; it counts as wrong."""


class Verbalized(FreeAnswer):
    """Answer questions; the confidence is the number that the model states.

    Args:
        form: ``top_1``: one guess and its probability; ``top_k``: several, the likeliest counts;
            ``tag``: ``<answer>`` and ``<confidence>``.
        guesses: number of guesses of ``top_k``; 4 by default.
        max_failures: largest share of answers from which no probability can be read; with more,
            the probe fails.
        template: what asks; ``{question}``. By default that of the form.
        stop: texts that end what the model writes; by default those of the form.
        max_new_tokens: most tokens that it writes; by default what the form needs.

    All others are those of :class:`~pytest_calibration.probes.free_answer.FreeAnswer`.
    """

    kind = "verbalized"

    def __init__(
        self,
        name: str = "verbalized",
        *,
        path: str | Path | None = None,
        dataset: DatasetSetting = None,
        form: Form = "top_1",
        guesses: int | None = None,
        max_failures: float = MAX_FAILURES,
        header: str = "",
        template: str | None = None,
        delimiter: str | None = None,
        chat: ChatSetting = False,
        stop: str | Sequence[str] | None = None,
        max_new_tokens: int | None = None,
        match: Match = "normalised",
    ) -> None:
        if form not in get_args(Form):
            raise UsageError(
                f"probe {name!r}: form must be one of {', '.join(get_args(Form))}, got {form!r}."
            )
        if guesses is not None and form != "top_k":
            raise UsageError(
                f"probe {name!r}: guesses is a setting of form: top_k, got form {form!r}."
            )
        number = isinstance(max_failures, int | float) and not isinstance(max_failures, bool)
        if not number or not 0 <= max_failures <= 1:
            raise UsageError(
                f"probe {name!r}: max_failures must be a share from 0 to 1, got {max_failures!r}."
            )
        most = GUESSES if guesses is None else guesses
        self.form = Asking(form, whole_number(name, "guesses", most, 2, 10))
        self.max_failures = float(max_failures)
        super().__init__(
            name,
            path=path,
            dataset=dataset,
            shots=0,
            shots_path=None,
            header=header,
            template=self.form.template if template is None else template,
            delimiter=delimiter,
            chat=chat,
            stop=self.form.stop if stop is None else stop,
            max_new_tokens=self.form.max_new_tokens if max_new_tokens is None else max_new_tokens,
            match=match,
        )

    def show(self, item: FreeQuestion) -> str:
        """Return what asks; outside a chat it ends with the begin of the answer."""
        asked = super().show(item)
        return asked if self.prompting.is_chat else asked + self.form.cue

    def run(self, model: LanguageModel, *, limit: int | None = None) -> Predictions:
        """Ask for the answer to every question, and for its probability.

        Raises:
            ModelError: the model cannot generate.
            ProbeError: from too many answers no probability can be read.
        """
        items, fields = self.sample(limit)
        answers = self.answered(model, self.question_prompts(model, items))
        begin = "" if self.prompting.is_chat else self.form.cue
        written = [a.generation.text for a in answers]
        stated = [
            self.form.read(begin + a.generation.text, finished=a.generation.finished)
            for a in answers
        ]
        unread = [i for i, one in enumerate(stated) if one is None]
        if len(unread) / len(items) > self.max_failures:
            way = "choose another form or template"
            if not self.prompting.is_chat:
                way = (
                    "ask a model that was trained on chats with chat: true, or choose another form"
                )
            raise ProbeError(
                f"probe {self.name!r}: no probability can be read from {len(unread):,} of "
                f"{len(items):,} answers ({len(unread) / len(items):.1%}, more than max_failures: "
                f"{self.max_failures:g}), such as {quoted(written[unread[0]])}; {way}."
            )
        shown = [
            text.strip() if one is None else one.text
            for text, one in zip(written, stated, strict=True)
        ]
        return self.made(
            model,
            items,
            fields,
            shown,
            np.array([UNREAD if one is None else one.confidence for one in stated]),
            np.array([self._is_right(i, one) for i, one in zip(items, stated, strict=True)]),
            {
                "scoring": "stated probability; none stated: wrong with confidence 1",
                "form": f"{self.form.guesses} guesses"
                if self.form.form == "top_k"
                else self.form.form,
            },
            {"unread": f"{len(unread):,} of {len(items):,}"},
            notes=self._unread_note(len(unread), len(items)),
        )

    def _is_right(self, item: FreeQuestion, stated: Stated | None) -> bool:
        return stated is not None and self.is_right(item, stated.text)

    @staticmethod
    def _unread_note(unread: int, n: int) -> tuple[str, ...]:
        if not unread:
            return ()
        return (
            f"no probability can be read from {unread:,} of {n:,} answers ({unread / n:.1%}): each "
            "counts as wrong with confidence 1.",
        )
