"""The callback that measures calibration while a Trainer trains."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from transformers import TrainerCallback

from pytest_calibration.errors import UsageError
from pytest_calibration.history.checkpoints import Checkpoint
from pytest_calibration.history.commit import commit_of
from pytest_calibration.history.file import History
from pytest_calibration.history.format import content_to_extend
from pytest_calibration.history.lines import Line
from pytest_calibration.models.backends.transformers.choosing import in_memory
from pytest_calibration.models.backends.transformers.in_memory import ModelInMemory, evaluating
from pytest_calibration.predictions import Predictions
from pytest_calibration.training.measuring import (
    Asked,
    Baseline,
    Measuring,
    directions,
    metrics_of,
)
from pytest_calibration.training.processes import check_whole, in_main_process
from pytest_calibration.training.saved_weights import differing_weights
from pytest_calibration.training.undisturbed import random_state_kept

if TYPE_CHECKING:
    from pytest_calibration.gate.verdict import Verdict

LOGGER: Final = logging.getLogger(__name__)
EVENTS: Final = ("evaluate", "save")


class Moment(NamedTuple):
    """A state of the weights: a step of training, or by content outside of it."""

    step: int
    weights: str = ""


class CalibrationCallback(TrainerCallback):  # type: ignore[misc]
    """Measures calibration while a Hugging Face ``Trainer`` trains.

    At every evaluation it asks the model its probes and puts ``eval_calibration_ece``,
    ``eval_calibration_accuracy``, ``eval_calibration_signed_gap`` and ``eval_calibration_brier``
    into the metrics, so that ``metric_for_best_model="calibration_ece"`` chooses the checkpoint and
    early stopping stops by it::

        trainer = Trainer(model, args, processing_class=tokenizer, ...)
        CalibrationCallback([Facts("facts", path="facts.jsonl")]).attach(trainer)
        trainer.train()

    Training itself goes on as without it: the same random numbers, gradients and modes.

    Args:
        probes: probes, or names of built-in ones or of those in ``calibration.yaml``.
        limit: number of items of each probe; by default the ``limit:`` in ``calibration.yaml``.
        baseline: a folder of baselines, ``Baselines``, or predictions of another model, which each
            measurement is compared with.
        history: a file, to which each measurement in training adds a line per probe.
        raise_on_regression: stop training with the text of the failure, once the checkpoint of
            that step is saved, instead of a warning in the log.
        at: when it measures: at ``evaluate``, at ``save``, or both. Once per step in any case.
        config: the ``calibration.yaml``; by default the nearest one upward from the current folder.

    Raises:
        UsageError: an argument that makes no sense.
        CalibrationError: ``calibration.yaml`` or the baseline cannot be used.
    """

    def __init__(
        self,
        probes: Asked | Sequence[Asked],
        *,
        limit: int | None = None,
        baseline: Baseline | None = None,
        history: str | os.PathLike[str] | None = None,
        raise_on_regression: bool = False,
        at: Sequence[str] = EVENTS,
        config: str | os.PathLike[str] | None = None,
    ) -> None:
        self._at = (at,) if isinstance(at, str) else tuple(at)
        if not self._at or not set(self._at) <= set(EVENTS):
            raise UsageError(
                f"CalibrationCallback: at must be 'evaluate', 'save' or both, got {at!r}."
            )
        if raise_on_regression and baseline is None:
            raise UsageError(
                "CalibrationCallback: raise_on_regression needs a baseline to compare with; give "
                "one, such as baseline='calibration_baselines'."
            )
        self._measuring = Measuring.of(probes, limit, baseline, config)
        self._history = None if history is None else History(history)
        if self._history is not None:
            content_to_extend(self._history.path)
        # What is trained is what was checked out when training began.
        self._commit = "" if self._history is None else commit_of(Path.cwd())
        self._raises = raise_on_regression
        self._trainer: Any = None
        self._tokenizer: Any = None
        self._scored: ModelInMemory | None = None
        # Device and type that it was made for.
        self._form: tuple[Any, ...] = ()
        self._last: tuple[Moment, dict[str, float]] | None = None
        # Which dataset of an evaluation got the metrics.
        self._dataset: tuple[Moment, str] | None = None
        # What is to stop training.
        self._regressed: list[Predictions] = []

    def attach(self, trainer: Any, *, tokenizer: Any = None) -> CalibrationCallback:
        """Let a Trainer call this first of all callbacks, and know the Trainer.

        First, since early stopping switches itself off where it does not find its metric. A
        ``metric_for_best_model`` of this callback gets the right ``greater_is_better``: by default
        the Trainer takes the largest of whatever is not called a loss.

        Args:
            trainer: a ``Trainer`` of transformers, or of a library built on it.
            tokenizer: by default the Trainer's ``processing_class``.

        Returns:
            This callback.

        Raises:
            UsageError: there is no tokenizer, no process holds the whole model, the Trainer has
                such a callback already, or it chooses its best model by a number that this callback
                does not give.
            ModelError: the model is of a kind that a probe does not ask.
        """
        processing = getattr(trainer, "processing_class", None)
        tokenizer = getattr(processing, "tokenizer", processing) if tokenizer is None else tokenizer
        if tokenizer is None:
            raise UsageError(
                "CalibrationCallback needs the tokenizer, and this Trainer has none; pass "
                "processing_class=tokenizer to the Trainer, or attach(trainer, tokenizer=...)."
            )
        check_whole(trainer)
        self._choose_direction(trainer.args)
        callbacks = trainer.callback_handler.callbacks
        if any(isinstance(one, CalibrationCallback) and one is not self for one in callbacks):
            raise UsageError(
                "this Trainer has a CalibrationCallback already, and both would give "
                "eval_calibration_ece; give all probes to one."
            )
        self._trainer, self._tokenizer, self._scored = trainer, tokenizer, None
        self._start_anew()
        if trainer.model is not None:
            with random_state_kept():
                self._measuring.check_fit(self._model())
        callbacks[:] = [self, *(one for one in callbacks if one is not self)]
        return self

    # --- events of the Trainer ---------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start anew; say whether resumed weights are those of the checkpoint."""
        self._attached()
        self._start_anew()
        checkpoint = self._checkpoint()
        if state.global_step and checkpoint.is_dir():
            self._compare_weights(
                checkpoint,
                "training resumes with weights that are not those of {checkpoint}: {differing}; "
                "build the Trainer around from_pretrained({checkpoint!r}), then resume",
            )

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any
    ) -> None:
        """Put the metrics of calibration into those of an evaluation."""
        trainer = self._attached()
        dataset = _dataset_of(metrics)
        if "evaluate" not in self._at or dataset is None:
            return
        moment = self._moment(trainer, state)
        # Into those of one dataset only: each time early stopping sees its metric, it counts.
        before = self._dataset
        if trainer.is_in_train and before and before[0] == moment and before[1] != dataset:
            return
        self._dataset = moment, dataset
        metrics.update(self._measured(trainer, moment))
        if not trainer.is_in_train:
            self._raise_regression()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure a checkpoint that was not evaluated."""
        trainer = self._attached()
        if "save" in self._at:
            self._measured(trainer, self._moment(trainer, state))

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop where calibration got worse: what was to be saved is saved."""
        self._raise_regression()

    on_epoch_begin = on_epoch_end = on_step_begin

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say whether the weights in memory are those of the best checkpoint."""
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            self._compare_weights(
                Path(state.best_model_checkpoint),
                "the model in memory is not the best checkpoint, {checkpoint}: {differing}; load "
                "that with from_pretrained({checkpoint!r}), and do not save this one",
            )
        self._raise_regression()

    # --- how ---------------------------------------------------------------------------------

    def _start_anew(self) -> None:
        self._last, self._dataset, self._regressed = None, None, []

    def _attached(self) -> Any:
        if self._trainer is None:
            raise UsageError(
                "CalibrationCallback has no Trainer to log to; call callback.attach(trainer) "
                "after the Trainer is made, in place of callbacks=[callback]."
            )
        return self._trainer

    def _choose_direction(self, args: Any) -> None:
        metric = str(args.metric_for_best_model or "").removeprefix("eval_")
        if not metric.startswith("calibration_"):
            return
        compared = self._measuring.baseline is not None
        known = directions(self._measuring.names, compared=compared)
        usable = [name for name, way in known.items() if way != "neither"]
        if metric not in usable:
            why = "is not measured"
            if metric in known:
                why = "is best at 0, so neither less nor more of it is better"
            raise UsageError(
                f"metric_for_best_model={metric!r} {why}; use one of: {', '.join(usable)}."
            )
        if "evaluate" not in self._at:
            raise UsageError(
                f"metric_for_best_model={metric!r} is needed at every evaluation, and this "
                "callback measures at save alone; leave out at='save'."
            )
        args.greater_is_better = known[metric] == "higher"

    def _checkpoint(self) -> Path:
        """Return where the Trainer saves the weights of now, if it does."""
        folder, step = self._trainer.args.output_dir, self._trainer.state.global_step
        return Path(folder) / f"checkpoint-{step}"

    def _model(self) -> ModelInMemory:
        model, checkpoint = self._trainer.model, self._checkpoint()
        first = next(model.parameters())
        # A Trainer may move or cast its model in place.
        form = first.device, first.dtype
        if self._scored is None or self._scored.model is not model or self._form != form:
            self._scored = in_memory(model, self._tokenizer, name=checkpoint.parent.name)
            self._form = form
        self._scored.name = checkpoint.name
        return self._scored

    def _moment(self, trainer: Any, state: Any) -> Moment:
        # Outside of training the weights may have become those of the best checkpoint.
        return Moment(state.global_step, "" if trainer.is_in_train else self._model().fingerprint)

    def _measured(self, trainer: Any, moment: Moment) -> dict[str, float]:
        """Return the metrics of this moment, measured and logged once."""
        if self._last is None or self._last[0] != moment:
            with random_state_kept():
                metrics = in_main_process(self._measure)
            self._last = moment, metrics
            # A Trainer of TRL adds to a log what it gathered in training, or in evaluation.
            with evaluating(trainer.model):
                trainer.log(dict(metrics))
        return self._last[1]

    def _measure(self) -> dict[str, float]:
        self._regressed = []
        answers = self._measuring.ask(self._model())
        verdicts = {one.probe: self._measuring.verdict(one) for one in answers}
        for one in answers:
            failing = [v for v in _all(verdicts[one.probe]) if v.state.fails]
            if failing and self._raises:
                self._regressed.append(one)
            for verdict in failing * (not self._raises):
                why = " ".join(verdict.findings) or verdict.reason
                LOGGER.warning("%s: %s", verdict.headline, why)
        self._remember(answers, verdicts)
        return metrics_of(answers, verdicts)

    def _remember(
        self, answers: Sequence[Predictions], verdicts: Mapping[str, Verdict | None]
    ) -> None:
        """Add a line per probe to the history, under the name that the checkpoint gets."""
        state = self._trainer.state
        # Outside of training nothing tells which step the weights are of.
        if self._history is None or not self._trainer.is_in_train:
            return
        checkpoint = Checkpoint(
            str(self._checkpoint()),
            step=state.global_step,
            epoch=state.epoch,
            tokens=state.num_input_tokens_seen or None,
        )
        lines = []
        for one in answers:
            # What fails at an operating point fails the whole.
            judged = sorted(_all(verdicts[one.probe]), key=lambda v: not v.state.fails)
            points = self._measuring.config.operating_points(one.probe)
            lines.append(
                Line.of(
                    one,
                    checkpoint=checkpoint,
                    verdict=str(judged[0].state) if judged else "",
                    commit=self._commit,
                    thresholds=[point.threshold for point in points],
                )
            )
        self._history.append(lines, answers)

    def _raise_regression(self) -> None:
        if self._raises and self._last is not None and self._last[1]["eval_calibration_regressed"]:
            in_main_process(self._assert_no_regression)

    def _assert_no_regression(self) -> None:
        problems: list[AssertionError] = []
        for one in self._regressed:
            try:
                self._measuring.assert_no_regression(one)
            except AssertionError as problem:
                problems.append(problem)
        for other in problems[1:]:
            problems[0].add_note(str(other))
        if self._checkpoint().is_dir():
            problems[0].add_note(f"to see more: pytest --calibration-model={self._checkpoint()} -v")
        raise problems[0]

    def _compare_weights(self, checkpoint: Path, sentence: str) -> None:
        """Warn where the weights in memory are not those of a checkpoint."""
        if not self._attached().is_world_process_zero():
            return
        try:
            differing = differing_weights(self._trainer.model, checkpoint)
        except Exception as problem:  # whatever a format raises; training must not end in it
            text = f"{checkpoint} could not be compared with the model in memory ({problem})"
        else:
            if not differing.by:
                return
            text = sentence.format(checkpoint=str(checkpoint), differing=differing)
        warnings.warn(f"{text}.", UserWarning, stacklevel=2)


def _dataset_of(metrics: dict[str, float]) -> str | None:
    """Return which dataset an evaluation was of; None where its metrics are not ``eval_...``."""
    prefix = next((k.removesuffix("_runtime") for k in metrics if k.endswith("_runtime")), "eval")
    return prefix if prefix == "eval" or prefix.startswith("eval_") else None


def _all(verdict: Verdict | None) -> tuple[Verdict, ...]:
    """Return a verdict and those at operating points; nothing where nothing was compared."""
    return () if verdict is None else (verdict, *verdict.at_points)
