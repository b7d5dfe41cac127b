"""What CFT and RCFT add to a Trainer: the loss on the answer, and the EM loop.

Each training step is one forward pass, from whose logits all parts of the loss come. The E-step is
one pass more over the training set before each epoch, without gradients.
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from pytest_calibration.errors import UsageError
from pytest_calibration.models.backends.transformers.in_memory import (
    evaluating,
    max_tokens,
    without_adapter,
)
from pytest_calibration.remedies.losses import (
    IGNORED,
    bin_accuracy,
    bin_of,
    calibration_loss,
    option_probabilities,
    option_targets,
    token_loss,
)
from pytest_calibration.remedies.question_set import COLUMNS, QuestionCollator, QuestionSet

BINS: Final = 15


class Calibrating:
    """Mixed into a Trainer: it trains on the answers to questions, and calibrates the options.

    It takes all that the Trainer takes. ``label_smoothing_factor`` smooths the loss on the answer.

    Args:
        accuracy_weight: of −log P(answer | question).
        context_weight: of −log P(question), the mean over its tokens.
        calibration_weight: λ, of the distance between the options' probabilities and the accuracy
            of their bin; 0 is training without an E-step.
        bins: of equal width, as those of the ECE that the gate measures.

    Attributes:
        accuracy_of_bins: (bins,) of the last E-step; None before the first.
        expectations: how many E-steps there were.

    Raises:
        UsageError: data that is no :class:`QuestionSet`, options of several tokens, or weights
            that make no sense.
    """

    ACCURACY_WEIGHT: float = 1.0
    CONTEXT_WEIGHT: float = 0.0
    CALIBRATION_WEIGHT: float = 0.0

    # Of the Trainer that this is mixed into.
    args: Any
    accelerator: Any
    model: Any
    model_wrapped: Any
    label_smoother: Any
    train_dataset: Any
    data_collator: Any

    def __init__(
        self,
        model: Any = None,
        args: Any = None,
        *,
        accuracy_weight: float | None = None,
        context_weight: float | None = None,
        calibration_weight: float | None = None,
        bins: int = BINS,
        **kwargs: Any,
    ) -> None:
        self.weights = {
            name: float(default if given is None else given)
            for name, given, default in (
                ("accuracy_weight", accuracy_weight, self.ACCURACY_WEIGHT),
                ("context_weight", context_weight, self.CONTEXT_WEIGHT),
                ("calibration_weight", calibration_weight, self.CALIBRATION_WEIGHT),
            )
        }
        for name, weight in self.weights.items():
            if not 0 <= weight < math.inf:
                raise UsageError(f"{name} must be a finite number of at least 0, got {weight:g}.")
        if not any(self.weights.values()):
            raise UsageError("all weights of the loss are 0, so there is nothing to train.")
        if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
            raise UsageError(f"bins must be a whole number of at least 1, got {bins!r}.")
        self.bins = bins
        self.accuracy_of_bins: torch.Tensor | None = None
        self.expectations = 0
        self._target: torch.Tensor | None = None
        self._questions = kwargs.get("train_dataset")
        for name in ("train_dataset", "eval_dataset"):
            self._check_questions(name, kwargs.get(name))
            if isinstance(kwargs.get(name), QuestionSet):
                kwargs[name] = self._taken(kwargs[name])
        if kwargs.get("data_collator") is None:
            tokenizer = kwargs.get("processing_class")
            kwargs["data_collator"] = QuestionCollator(getattr(tokenizer, "pad_token_id", None))
        super().__init__(model, args, **kwargs)  # type: ignore[call-arg]
        # The loss is a mean over the batch: the Trainer divides it by the steps of accumulation.
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = False
        self._check_lengths()
        if self.weights["calibration_weight"]:
            self.add_callback(_ExpectationBeforeEpoch(self))  # type: ignore[attr-defined]

    # --- data ----------------------------------------------------------------------------------

    def _taken(self, questions: QuestionSet) -> Any:
        """Return questions as the Trainer takes them."""
        return questions

    def _check_questions(self, name: str, given: Any) -> None:
        sets = given.values() if isinstance(given, dict) else [given]
        for one in sets:
            if one is not None and not isinstance(one, QuestionSet):
                raise UsageError(
                    f"{name} must be a QuestionSet(MultipleChoice(path=...), tokenizer), got "
                    f"{type(one).__name__}: the tokens of the options must be known."
                )
            if one is not None and self.weights["calibration_weight"]:
                one.check_single()

    def _check_lengths(self) -> None:
        most = max_tokens(without_adapter(self.model))
        longest = max((len(row["input_ids"]) for row in self._questions or ()), default=0)
        if longest > most:
            raise UsageError(
                f"a question takes {longest:,} tokens, more than the {most:,.0f} that the model "
                "reads; leave it out, since a cut question has another answer."
            )

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        self._signature_columns: list[str] = [*dict.fromkeys([*self._signature_columns, *COLUMNS])]

    # --- E-step --------------------------------------------------------------------------------

    def expect(self) -> torch.Tensor:
        """Ask the model all its training questions, and return the accuracy of each bin.

        Every process reads its share, and gets the results of all. No random number is drawn.
        """
        questions = self._questions
        assert questions is not None
        loader = self.accelerator.prepare_data_loader(
            DataLoader(
                questions,
                batch_size=self.args.eval_batch_size,
                collate_fn=self.data_collator,
                generator=torch.Generator(),
            )
        )
        device = self.accelerator.device
        index = torch.zeros(len(questions), dtype=torch.long, device=device)
        correct = torch.zeros(len(questions), dtype=torch.bool, device=device)
        model = self.model_wrapped
        with torch.no_grad(), evaluating(model):
            for batch in loader:
                here = {name: values.to(device) for name, values in batch.items()}
                inputs, labels, options = _split(here)
                probabilities = _probabilities(model(**inputs).logits, labels, options)
                confidence, answer = probabilities.max(-1)
                found = (
                    options["item"],
                    bin_of(confidence, self.bins),
                    answer == options["answer"],
                )
                item, bin_of_item, right = self.accelerator.gather(found)
                # A last batch may hold items twice, with the same results.
                index[item], correct[item] = bin_of_item, right
        self.accuracy_of_bins = bin_accuracy(index, correct, self.bins)
        self._target = self.accuracy_of_bins[index]
        self.expectations += 1
        return self.accuracy_of_bins

    # --- M-step --------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the weighted sum of the parts of the loss, of one forward pass."""
        del num_items_in_batch
        given, labels, options = _split(inputs)
        outputs = model(**given)
        logits = outputs.logits.float()
        weights = self.weights
        parts = []
        if weights["accuracy_weight"]:
            smoothed = self.label_smoother is not None
            answer = (
                self.label_smoother({"logits": logits}, labels, shift_labels=True)
                if smoothed
                else token_loss(logits, labels)
            )
            parts.append(weights["accuracy_weight"] * answer)
        if weights["context_weight"]:
            context = given["input_ids"].masked_fill(
                (given["attention_mask"] == 0) | (labels != IGNORED), IGNORED
            )
            parts.append(weights["context_weight"] * token_loss(logits, context))
        # Outside training there is no E-step: the loss of an evaluation is that of the answers.
        if weights["calibration_weight"] and self._target is not None and self.model.training:
            probabilities = _probabilities(logits, labels, options)
            target = self._target.to(logits.device)[options["item"]]
            targets = option_targets(probabilities, options["option_ids"] >= 0, target)
            parts.append(weights["calibration_weight"] * calibration_loss(probabilities, targets))
        loss = torch.stack(parts).sum() if parts else logits.sum() * 0.0
        return (loss, outputs) if return_outputs else loss


class _ExpectationBeforeEpoch(TrainerCallback):  # type: ignore[misc]
    """Runs an E-step before each epoch."""

    def __init__(self, trainer: Calibrating) -> None:
        self._trainer = trainer

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self._trainer.expect()


def _split(
    batch: dict[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], torch.Tensor, dict[str, torch.Tensor]]:
    """Return what the model is given, the labels, and what the options are."""
    apart = {"labels", *COLUMNS}
    inputs = {name: values for name, values in batch.items() if name not in apart}
    return inputs, batch["labels"], {name: batch[name] for name in COLUMNS}


def _probabilities(
    logits: torch.Tensor, labels: torch.Tensor, options: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Return the probabilities of the options at the last token of the answer, (b, k)."""
    width = labels.shape[1]
    at = width - 2 - (labels != IGNORED).long().flip(-1).argmax(-1)
    rows = torch.arange(len(at), device=at.device)
    ids = options["option_ids"]
    chosen = logits[rows, at].float().gather(1, ids.clamp(min=0))
    return option_probabilities(chosen, ids >= 0)
