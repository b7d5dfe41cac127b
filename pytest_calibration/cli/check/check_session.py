"""What takes the place of a test session behind the assertions, for ``check``."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_calibration.cli.arguments import is_file, strictness
from pytest_calibration.cli.check.check_inputs import is_table
from pytest_calibration.cli.output import verdict_lines
from pytest_calibration.cli.project import Project
from pytest_calibration.errors import BaselineConflict, UsageError

if TYPE_CHECKING:
    from pytest_calibration.baselines import Baselines, Record
    from pytest_calibration.baselines.store import Draft
    from pytest_calibration.gate.strictness import OperatingPoint, Strictness
    from pytest_calibration.gate.verdict import Verdict
    from pytest_calibration.predictions import Predictions
    from pytest_calibration.reports.model import Remedy, Result

FOLDER: Final = "calibration_baselines"
# Flags with a value that a printed command repeats, by their names in the options.
REPEATED: Final = (
    *(
        "probe",
        "model",
        "task",
        "filter",
        "metric",
        "run_name",
        "column",
        "classes",
        "baseline",
        "baseline_dir",
    ),
    *("max_ece", "min_accuracy", "config", "tolerance", "alpha", "accuracy_tolerance"),
    *("max_undetected", "tail", "drift_tolerance", "threshold"),
)
# Probes that are stored, of which a message tells.
MORE: Final = "-v, or --report=FILE.html"


class Session:
    """What a test session is to the assertions: it keeps verdicts, and what is to be recorded.

    Args:
        options: the arguments.

    Attributes:
        results: what a reader sees of each verdict.
        baselines: the store.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        from pytest_calibration.baselines import Baselines
        from pytest_calibration.baselines.store import DEFAULT_NAME, Policy

        self._options = options
        self._project = Project(options)
        self._verdicts: list[Verdict] = []
        self._drafts: dict[str, Draft] = {}
        self._measured: dict[Predictions, list[str]] = {}
        self.results: list[Result] = []
        self.baselines = Baselines(
            Path(options.baseline_dir or FOLDER),
            options.baseline or DEFAULT_NAME,
            Policy(options.record, options.accept, options.anchor),
            submit=self._keep,
        )

    def judge(
        self, predictions: Predictions, baseline: Baselines | Record | Predictions | None
    ) -> None:
        """Judge predictions by the assertions of the tests, which add their verdicts here."""
        from pytest_calibration import assertions

        options = self._options
        if baseline is not None:
            with suppress(AssertionError):
                assertions.assert_no_regression(
                    predictions,
                    baseline,
                    tolerance=options.tolerance,
                    accuracy_tolerance=self.strictness(predictions).accuracy_tolerance,
                )
        if options.max_ece is not None:
            with suppress(AssertionError):
                assertions.assert_ece_below(predictions, options.max_ece)
        if options.min_accuracy is not None:
            with suppress(AssertionError):
                assertions.assert_accuracy_above(predictions, options.min_accuracy)

    def _keep(self, draft: Draft) -> None:
        """Keep a record until all files are judged."""
        known = self._drafts.setdefault(draft.key, draft)
        if known.checksum != draft.checksum:
            raise BaselineConflict(
                f"{draft.key}: two tasks of {self._options.file} would be stored under one name; "
                "choose one with --task, or name them with --probe."
            )

    def write_records(self) -> None:
        """Write what is to be recorded."""
        for draft in self._drafts.values():
            draft.write()

    def show(self) -> None:
        """Print the verdicts."""
        options = self._options
        if options.json:
            import json

            from pytest_calibration.reports.model import plain

            results = plain([replace(result, detail=None) for result in self.results])
            print(json.dumps({"file": options.file, "verdicts": results}, indent=2))
            return
        width = shutil.get_terminal_size((100, 24)).columns
        for place, (verdict, result) in enumerate(zip(self._verdicts, self.results, strict=True)):
            lines = verdict_lines(verdict, width, options.verbose, result=result, more=MORE)
            print("\n" * bool(place) + "\n".join(lines))

    def write_history(self) -> None:
        """Add what was measured to the history that is named, if there is one."""
        if self._options.history is None:
            return
        from pytest_calibration.gate.decision import State
        from pytest_calibration.history.checkpoints import checkpoint_of
        from pytest_calibration.history.commit import commit_of
        from pytest_calibration.history.file import History
        from pytest_calibration.history.lines import Line

        commit, stage = commit_of(Path.cwd()), self._options.baseline or ""
        lines = [
            Line.of(
                predictions,
                checkpoint=checkpoint_of(predictions.signature.soft["model"]),
                stage="" if is_file(stage) else stage,
                # One that fails says most.
                verdict=min(states, key=lambda state: not State(state).fails),
                commit=commit,
                thresholds=[point.threshold for point in self.points(predictions)],
            )
            for predictions, states in self._measured.items()
        ]
        History(self._options.history).append(lines, list(self._measured))

    def write_reports(self) -> None:
        """Write the reports that were asked for, and the summary of the step on GitHub."""
        from pytest_calibration.reports.writing import STEP_SUMMARY, append_summary, write_report

        summary = os.environ.get(STEP_SUMMARY)
        if not self._options.report and not summary:
            return
        from pytest_calibration.history.commit import commit_of_ci
        from pytest_calibration.reports.model import Results, result_of
        from pytest_calibration.version import __version__

        made = [
            result_of(v, remedy=r.remedy, item_text=self._options.item_text)
            for v, r in zip(self._verdicts, self.results, strict=True)
        ]
        results = Results(
            version=__version__,
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            commit=commit_of_ci(),
            tests=len(made),
            finished=True,
            results=tuple(made),
        )
        for path in (*(self._options.report or ()), *([Path(summary)] if summary else ())):
            try:
                if summary and path == Path(summary):
                    append_summary(path, results)
                else:
                    list(write_report(path, results))
            except OSError as problem:
                raise UsageError(
                    f"{path}: cannot be written ({problem.strerror or problem}); name another file."
                ) from None

    # --- what assertions ask for -----------------------------------------------------------------

    width: Final = 100
    verbose: Final = False

    def named(self, predictions: Predictions) -> Predictions:
        """Return the predictions, which bear the name of their model or file."""
        return predictions

    def dump(self, predictions: Predictions, before: Predictions | None) -> None:
        """Write no items: they are in a file already."""

    def measured(self, predictions: Predictions, verdicts: Sequence[Verdict]) -> None:
        """Keep what is judged for the history."""
        self._measured.setdefault(predictions, []).extend(str(one.state) for one in verdicts)

    def add(self, verdict: Verdict) -> Result:
        """Keep a verdict, and return what a reader sees of it."""
        from pytest_calibration.reports.model import result_of

        named_by_file = self._options.probe is None and is_table(self._options.file)
        if verdict.state == "no_baseline" and named_by_file and (stored := self.baselines.probes()):
            other = shlex.join([f"--probe={stored[0]}"])
            verdict = replace(verdict, reason=f"{verdict.reason} {other} compares with it.")
        result = result_of(
            verdict,
            remedy=self._remedy(verdict),
            detailed=verdict.state.fails,
            metrics=False,
            item_text=True,
        )
        self._verdicts.append(verdict)
        self.results.append(result)
        return result

    def raised(self, error: AssertionError, failing: Sequence[Result]) -> None:
        """Know the failing verdicts already."""

    def points(self, predictions: Predictions) -> tuple[OperatingPoint, ...]:
        """Return the operating points: as the flags, or the project, say."""
        return self._project.points(predictions.probe)

    def strictness(self, predictions: Predictions) -> Strictness:
        """Return how strict the gate is: as the flags say, else the project's ``calibration.yaml``.

        A record's own tolerance wins over that of the project, as in a test.
        """
        config, options = self._project.config, self._options
        tolerance = config.probe_tolerance(predictions.probe)
        return strictness(options, tolerance, config.alpha, config.tail).with_first(
            drift_tolerance=(options.drift_tolerance, config.drift_tolerance)
        )

    def store(self, baselines: Baselines) -> Baselines:
        """Return the store as it is: it is that of this session."""
        return baselines

    def parents(
        self,
        predictions: Predictions,  # noqa: ARG002  as every sink has it
    ) -> list[tuple[str, Predictions]]:
        """Return no parent: no model is run."""
        return []

    def _remedy(self, verdict: Verdict) -> Remedy | None:
        from pytest_calibration.reports.model import Remedy

        if self._options.baseline is not None and is_file(self._options.baseline):
            return None
        if verdict.state == "no_baseline":
            return Remedy("to record it", self._command("--record"))
        if verdict.state not in ("regressed", "not_comparable"):
            return None
        if verdict.against == "anchor":
            return Remedy("to count drift from here", self._command("--anchor=REASON"))
        return Remedy("to accept it", self._command("--accept=REASON"))

    def _command(self, flag: str) -> str:
        """Return this command with another flag."""
        args = ["pytest-calibration", "check", self._options.file]
        for name in REPEATED:
            value = getattr(self._options, name)
            typed = f"--{name.removesuffix('_name').replace('_', '-')}"
            if name == "column":
                args += [f"{typed}={role}={column}" for role, column in value or ()]
            elif name == "threshold":
                args += [f"{typed}={threshold:.9g}" for threshold in value or ()]
            elif value is not None:
                text = ",".join(value) if isinstance(value, list) else str(value)
                args.append(f"{typed}={text}")
        return shlex.join([*args, flag])
