"""``pytest-calibration check``: predictions in a file, judged as a test judges them.

The assertions of the tests decide; this command takes the place of the test session behind them.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_calibration.cli.arguments import (
    RECORDS,
    add_arguments,
    add_strictness,
    number,
    record_at,
    strictness,
)
from pytest_calibration.cli.output import FAILED, INCONCLUSIVE, verdict_lines
from pytest_calibration.cli.project import CONFIG, Project
from pytest_calibration.errors import BaselineConflict, UsageError, suggestion

if TYPE_CHECKING:
    from pytest_calibration.baselines import Baselines, Record
    from pytest_calibration.baselines.store import Draft
    from pytest_calibration.cli.arguments import Subparsers
    from pytest_calibration.gate.strictness import Strictness
    from pytest_calibration.gate.verdict import Verdict
    from pytest_calibration.predictions import Predictions
    from pytest_calibration.reports.model import Remedy, Result

FOLDER: Final = "calibration_baselines"
FILES: Final = "CSV, Parquet, JSON lines, samples of lm-eval (also their folder), or a dump"
ENDINGS: Final = (
    *RECORDS,
    *(".csv", ".tsv", ".txt", ".parquet", ".pq", ".jsonl", ".ndjson", ".json"),
)
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
    *("max_undetected", "tail", "drift_tolerance"),
)
# Probes that are stored, of which a message tells.
MOST_NAMED: Final = 3
MORE: Final = "-v, or --report=FILE.html"


def add(subparsers: Subparsers) -> None:
    """Add the parser of this command."""
    parser = subparsers.add_parser(
        "check",
        help="judge predictions in a file as a test does; no model is run",
        description="Judge predictions in a file as a test does: against a stored baseline, "
        "another file, or a limit. Exits with 1 where calibration got worse.",
        allow_abbrev=False,
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help=FILES)
    add_arguments(
        parser,
        ("--baseline", str, "NAME|FILE", "name of a stored baseline, or a file: predictions, or a "
         "stored record (.yaml) (default: the stored baseline of the probe)"),
        ("--baseline-dir", str, "DIR", f"folder of stored baselines (default: {FOLDER})"),
        ("--max-ece", number(0, 1), "L", "the first ECE that fails"),
        ("--min-accuracy", number(0, 1), "A", "the smallest accuracy that passes"),
        ("--accept", _reason, "REASON", "replace the stored baseline, with this reason"),
        ("--anchor", _reason, "REASON", "count drift from what is then stored"),
        ("--probe", str, "NAME", "name under which a baseline is stored (default: the task, or the "
         "name of the file)"),
        ("--model", str, "NAME", "name of the model, for reports (default: the file)"),
        ("--task", str, "NAME", "this task of lm-eval alone"),
        ("--filter", str, "NAME", "this filter of lm-eval alone"),
        ("--metric", str, "NAME", "this metric of lm-eval, such as acc_norm"),
        ("--classes", _names, "A,B", "the classes in the order of the probabilities"),
        ("--config", str, "FILE", f"configuration with tolerances (default: {CONFIG})"),
        ("--drift-tolerance", number(0, 1), "T", "allowed worsening since the anchor (default: "
         "twice the tolerance)"),
    )  # fmt: skip
    parser.add_argument(
        "--column",
        action="append",
        type=_column,
        metavar="ROLE=NAME",
        help="what the table calls a column: --column confidence=score (repeatable)",
    )
    parser.add_argument("--run", dest="run_name", metavar="NAME", help="this run of lm-eval")
    parser.add_argument(
        "--record", action="store_true", help="store a baseline where there is none"
    )
    add_strictness(parser)
    parser.add_argument(
        "--report",
        action="append",
        type=_report,
        metavar="FILE",
        help="write a report: .html, .md, .json, .txt (OpenMetrics), .png, .svg (repeatable)",
    )
    parser.add_argument(
        "--item-text", action="store_true", help="with the texts of the items in reports"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 3 where inconclusive")
    parser.add_argument("-v", "--verbose", action="store_true", help="print all numbers")
    parser.add_argument("--json", action="store_true", help="print everything for a program")
    parser.set_defaults(run=run)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _column(text: str) -> tuple[str, str]:
    role, equals, name = text.partition("=")
    if not (role.strip() and equals and name.strip()):
        raise argparse.ArgumentTypeError(
            f"must be ROLE=NAME, such as confidence=score, got {text!r}"
        )
    return role.strip(), name.strip()


def _reason(text: str) -> str:
    from pytest_calibration.baselines.store import is_reason

    # A byte that is no UTF-8 came as half a surrogate pair, which no file takes.
    reason = text.encode("utf-8", "backslashreplace").decode().strip()
    if not is_reason(reason):
        raise argparse.ArgumentTypeError(
            f"needs a reason that a reviewer can read, got {reason!r}; write why the new numbers "
            'are right, such as "DPO v3, accuracy +4, signed off"'
        )
    return reason


def _report(text: str) -> Path:
    from pytest_calibration.reports.writing import ENDINGS as REPORTS

    if Path(text).suffix.lower() not in REPORTS:
        raise argparse.ArgumentTypeError(
            f"{text!r} must end in one of {', '.join(REPORTS)}, which says what is written"
        )
    return Path(text)


def run(options: argparse.Namespace) -> int:
    """Judge each set of predictions; return the exit code of the most serious verdict.

    Raises:
        UsageError: arguments that contradict each other.
        CalibrationError: files or baselines that cannot be used.
    """
    from pytest_calibration.sink import SINK

    _check_usage(options)
    session = Session(options)
    before = SINK.set(session)
    try:
        # All files are read before anything is judged.
        for predictions, baseline in list(_inputs(options, session)):
            session.judge(predictions, baseline)
    finally:
        SINK.set(before)
    session.write_records()
    session.show()
    session.write_reports()
    if any(result.fails for result in session.results):
        return FAILED
    undecided = any(not result.state.decides for result in session.results)
    return INCONCLUSIVE if undecided and options.strict else 0


def _check_usage(options: argparse.Namespace) -> None:
    if options.file is None:
        raise UsageError(f"check needs a file: {FILES}.")
    if options.baseline is None or not _is_file(options.baseline):
        return
    for flag in ("record", "accept", "anchor", "baseline_dir"):
        if getattr(options, flag):
            raise UsageError(
                f"check: --{flag.replace('_', '-')} is about stored baselines, and --baseline "
                f"names the file {options.baseline}; name a stored baseline, or leave it out."
            )


def _is_file(text: str) -> bool:
    """Whether a baseline is a file, and not the name of a stored one."""
    from pytest_calibration.readers import kind_of

    path = Path(text)
    if path.suffix.lower() in ENDINGS or os.path.isfile(path):
        return True
    return os.path.isdir(path) and kind_of(path) is not None


def _is_table(file: str) -> bool:
    """Whether the name of the file stands for that of its probe."""
    from pytest_calibration.readers import TABLE, kind_of

    return kind_of(file) in (None, TABLE)


# --- what is read --------------------------------------------------------------------------------


def _inputs(
    options: argparse.Namespace, session: Session
) -> Iterator[tuple[Predictions, Baselines | Record | Predictions | None]]:
    """Yield each set of predictions in the file, and what it is compared with; None for nothing."""
    if options.baseline is not None and _is_file(options.baseline):
        yield from _with_file(options)
        return
    limited = options.max_ece is not None or options.min_accuracy is not None
    stored = options.record or options.accept or options.anchor or options.baseline
    for predictions in _read(options, options.file, options.probe):
        yield predictions, None if limited and not stored else session.baselines


def _read(options: argparse.Namespace, file: str, probe: str | None) -> list[Predictions]:
    from pytest_calibration.readers import read_all

    columns: dict[str, Any] = {}
    for role, name in options.column or ():
        names = _names(name)
        columns[role] = names if len(names) > 1 else name
    return read_all(
        file,
        probe=probe,
        model=options.model if file == options.file else None,
        task=options.task,
        filter=options.filter,
        metric=options.metric,
        run=options.run_name if file == options.file else None,
        columns=columns or None,
        classes=options.classes,
    )


def _with_file(options: argparse.Namespace) -> Iterator[tuple[Predictions, Record | Predictions]]:
    """Yield each set of predictions with the one of a file that it is compared with."""
    if Path(options.baseline).suffix.lower() in RECORDS:
        record = record_at(options.baseline)
        # The ids in a record are those of its probe.
        probe = options.probe or (record.probe if _is_table(options.file) else None)
        for predictions in _read(options, options.file, probe):
            if predictions.probe != record.probe:
                raise UsageError(
                    f"check: {options.file} holds the probe {predictions.probe!r}, and "
                    f"{options.baseline} is a baseline of {record.probe!r}; name a baseline of the "
                    "same probe."
                )
            yield predictions, record
        return
    found = _read(options, options.file, options.probe)
    if len(found) == 1:
        (before,) = _one(options, found[0])
        yield found[0], before
        return
    others = {one.probe: one for one in _read(options, options.baseline, None)}
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
    found = _read(options, options.baseline, None)
    if len(found) == 1:
        # Under the same name, on which the ids of a table depend.
        return _read(options, options.baseline, predictions.probe)
    same = [one for one in found if one.probe == predictions.probe]
    if not same:
        near = suggestion(predictions.probe, [one.probe for one in found])
        raise UsageError(
            f"check: {options.baseline} holds {len(found)} tasks and not "
            f"{predictions.probe!r}{near}; choose one with --task."
        )
    return same


# --- in place of a test session ------------------------------------------------------------------


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

    def write_reports(self) -> None:
        """Write the reports that were asked for."""
        if not self._options.report:
            return
        from pytest_calibration.history.commit import commit_of_ci
        from pytest_calibration.reports.model import Results, result_of
        from pytest_calibration.reports.writing import write_report
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
        for path in self._options.report:
            try:
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
        """Add nothing to a history."""

    def add(self, verdict: Verdict) -> Result:
        """Keep a verdict, and return what a reader sees of it."""
        from pytest_calibration.reports.model import result_of

        named_by_file = self._options.probe is None and _is_table(self._options.file)
        if verdict.state == "no_baseline" and named_by_file:
            verdict = replace(verdict, reason=f"{verdict.reason}{self._stored_instead()}")
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

    def _stored_instead(self) -> str:
        """Name baselines of other probes: a file need not be called as the one that was stored."""
        from pytest_calibration.baselines.record import read_unchecked
        from pytest_calibration.baselines.store import stored_records

        folder = self.baselines.folder
        found = [path for path in stored_records(folder) if path.parent == folder]
        probes = [str(read_unchecked(path).get("probe")) for path in found[:MOST_NAMED]]
        if not probes:
            return ""
        more = f" and {len(found) - len(probes)} more" if len(found) > len(probes) else ""
        return (
            f" Stored there: {', '.join(probes)}{more}; "
            f"{shlex.join([f'--probe={probes[0]}'])} compares with it."
        )

    def raised(self, error: AssertionError, failing: Sequence[Result]) -> None:
        """Know the failing verdicts already."""

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

        if self._options.baseline is not None and _is_file(self._options.baseline):
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
            elif value is not None:
                text = ",".join(value) if isinstance(value, list) else str(value)
                args.append(f"{typed}={text}")
        return shlex.join([*args, flag])
