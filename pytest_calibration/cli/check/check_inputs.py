"""What ``check`` reads: predictions in a file, and what each set of them is compared with."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_calibration.cli.arguments import (
    RECORDS,
    add_arguments,
    add_file_choices,
    file_choices,
    is_file,
    record_at,
)
from pytest_calibration.errors import UsageError, suggestion

if TYPE_CHECKING:
    from pytest_calibration.baselines import Baselines, Record
    from pytest_calibration.predictions import Predictions


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say how a file of predictions is read."""
    add_arguments(
        parser,
        ("--probe", str, "NAME", "name under which a baseline is stored (default: the task, or the "
         "name of the file)"),
        ("--model", str, "NAME", "name of the model, for reports (default: the file)"),
    )  # fmt: skip
    add_file_choices(parser)


def inputs(
    options: argparse.Namespace, store: Baselines
) -> Iterator[tuple[Predictions, Baselines | Record | Predictions | None]]:
    """Yield each set of predictions in the file, and what it is compared with; None for nothing."""
    if options.baseline is not None and is_file(options.baseline):
        yield from _with_file(options)
        return
    limited = options.max_ece is not None or options.min_accuracy is not None
    names = ("record", "accept", "anchor", "baseline", "threshold")
    compared = any(getattr(options, name) for name in names)
    for predictions in read(options, options.file, options.probe):
        yield predictions, None if limited and not compared else store


def read(options: argparse.Namespace, file: str, probe: str | None) -> list[Predictions]:
    """Return each set of predictions in a file, read as the arguments say."""
    from pytest_calibration.readers import read_all

    choices = file_choices(options)
    if file != options.file:
        choices.pop("run", None)
    model = options.model if file == options.file else None
    return read_all(file, probe=probe, model=model, **choices)


def _with_file(options: argparse.Namespace) -> Iterator[tuple[Predictions, Record | Predictions]]:
    """Yield each set of predictions with the one of a file that it is compared with."""
    if Path(options.baseline).suffix.lower() in RECORDS:
        record = record_at(options.baseline)
        # The ids in a record are those of its probe.
        probe = options.probe or (record.probe if is_table(options.file) else None)
        for predictions in read(options, options.file, probe):
            if predictions.probe != record.probe:
                raise UsageError(
                    f"check: {options.file} holds the probe {predictions.probe!r}, and "
                    f"{options.baseline} is a baseline of {record.probe!r}; name a baseline of the "
                    "same probe."
                )
            yield predictions, record
        return
    found = read(options, options.file, options.probe)
    if len(found) == 1:
        (before,) = _one(options, found[0])
        yield found[0], before
        return
    others = {one.probe: one for one in read(options, options.baseline, None)}
    for predictions in found:
        if predictions.probe not in others:
            near = suggestion(predictions.probe, others)
            raise UsageError(
                f"check: {options.baseline} does not hold {predictions.probe!r}{near}; choose "
                "tasks that both have with --task."
            )
        yield predictions, others[predictions.probe]


def _one(options: argparse.Namespace, predictions: Predictions) -> list[Predictions]:
    """Return the predictions of the baseline's file that are of the same probe."""
    found = read(options, options.baseline, None)
    if len(found) == 1:
        # Under the same name, on which the ids of a table depend.
        return read(options, options.baseline, predictions.probe)
    same = [one for one in found if one.probe == predictions.probe]
    if not same:
        near = suggestion(predictions.probe, [one.probe for one in found])
        raise UsageError(
            f"check: {options.baseline} holds {len(found)} tasks and not "
            f"{predictions.probe!r}{near}; choose one with --task."
        )
    return same


def is_table(file: str) -> bool:
    """Whether the name of the file stands for that of its probe."""
    from pytest_calibration.readers import TABLE, kind_of

    return kind_of(file) in (None, TABLE)
