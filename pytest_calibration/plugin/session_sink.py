"""Where the assertions of a running test send their verdicts, and what a failure shows of them."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from itertools import count
from typing import TYPE_CHECKING, Final

import pytest

from pytest_calibration.errors import CalibrationError
from pytest_calibration.plugin.expected import NAMES
from pytest_calibration.plugin.outcomes import RESULTS
from pytest_calibration.plugin.projects import SUITE, SUITE_FILE
from pytest_calibration.plugin.reporting import inert, wants_details
from pytest_calibration.plugin.rootdir import pinned
from pytest_calibration.plugin.run import Run, model_name
from pytest_calibration.plugin.xdist_groups import plain_id

if TYPE_CHECKING:
    from pytest_calibration.baselines import Baselines
    from pytest_calibration.gate.strictness import OperatingPoint, Strictness
    from pytest_calibration.gate.verdict import Verdict
    from pytest_calibration.history.checkpoints import Checkpoint
    from pytest_calibration.predictions import Predictions
    from pytest_calibration.reports.model import Remedy, Result

# Prefix of the properties of a test, which reach JUnit's file and others.
PREFIX: Final = "calibration."
SECTION: Final = "calibration: worst items"
_NUMBERS: Final = count()
# Columns that pytest puts before each line of an error.
MARGIN: Final = 8
# Flags that a printed command does not repeat: it names the model itself, is about all items, and
# where answers are kept matters to no verdict.
NOT_REPEATED: Final = frozenset(
    {"model", "parent", "record", "accept", "anchor", "prune", "list", "limit", "report", "dump"}
    | {"history", "cache_dir", "no_cache", "early_stop"}
)

# Properties of a test that bear the name of what they show.
SAME_NAME: Final = (
    *(
        "state",
        "model",
        "probe",
        "n",
        "accuracy",
        "mean_confidence",
        "limit",
        "difference",
        "bound",
    ),
    *("smallest_visible", "false_alarm_rate", "reference", "tolerance"),
)


class SessionSink:
    """The sink of one attempt of a test.

    Args:
        run: the run.
        item: the test.
        late: the last report of the test is made. What a thread that outlives the test concludes,
            or something between two tests, is reported at the end of the run.
    """

    def __init__(self, run: Run, item: pytest.Item, *, late: bool = False) -> None:
        self.run = run
        self.item = item
        self.test = plain_id(item)
        # By a name that is unique among the processes of the run.
        self.results: dict[str, Result] = {}
        # Candidate and baseline of the last comparison that failed.
        self._failed: tuple[Predictions, Predictions | None] | None = None
        # A doctest passes only where its text shows the error.
        self._expects_failure = hasattr(item, "dtest")
        if late:
            run.late.append(self.take)
            return
        run.records.drop(self.test)
        run.made.drop(self.test)
        run.measured.drop(self.test)
        # Nothing is left of an earlier attempt.
        item.user_properties[:] = [
            (key, value) for key, value in item.user_properties if not key.startswith(PREFIX)
        ]

    @property
    def width(self) -> int:
        """Columns that the text of a failure may have."""
        return self.run.width - MARGIN

    @property
    def verbose(self) -> bool:
        """Whether the text of a failure has all numbers: under ``-v``."""
        return self.item.config.get_verbosity(pytest.Config.VERBOSITY_ASSERTIONS) > 0

    def named(self, predictions: Predictions) -> Predictions:
        """Return predictions that reports and dumps can tell from those of other tests."""
        named = self.run.made.named(predictions, self.test, model_name(self.item) or "")
        self.run.measured.know(named, self.run.measured.spec_of(predictions))
        return named

    def dump(self, predictions: Predictions, before: Predictions | None) -> None:
        """Write the items, with those of their baseline, if the run dumps them."""
        self.run.dump(predictions, before)

    def measured(self, predictions: Predictions, verdicts: Sequence[Verdict]) -> None:
        """Keep what is judged, and the parent's answers to the same, for the history."""
        run, resolved = self.run, self.run.resolved
        if run.history is None:
            return
        checkpoint, stage = self._checkpoint(predictions)
        states = [str(verdict.state) for verdict in verdicts]
        points = [*self.points(predictions), *(v.point for v in verdicts)]
        thresholds = list(dict.fromkeys(p.threshold for p in points if p is not None))
        parent, before = resolved.parent_spec, ""
        kept = []
        if parent is not None:
            start = resolved.checkpoint(parent)
            before = start.text if start.text != checkpoint.text else ""
            for _, answers in self.parents(predictions):
                name = parent.baseline or ""
                kept.append(
                    run.measured.add(
                        answers, self.test, [], start, stage=name, thresholds=thresholds
                    )
                )
        kept.append(
            run.measured.add(
                predictions,
                self.test,
                states,
                checkpoint,
                stage=stage,
                parent=before,
                thresholds=thresholds,
            )
        )
        if run.forked.in_child:
            run.forked.send({"measured": [one.as_dict() for one in kept]})

    def _checkpoint(self, predictions: Predictions) -> tuple[Checkpoint, str]:
        """Return of which checkpoint predictions are, and the name of its stage if it has one."""
        from pytest_calibration.history.checkpoints import Checkpoint, checkpoint_of

        resolved, name = self.run.resolved, predictions.signature.soft.get("model", "")
        spec = self.run.measured.spec_of(predictions)
        if spec is None and name:
            # What an ini key names wrongly says nothing of predictions that a test made itself.
            with suppress(CalibrationError):
                spec = resolved.find_model(name)
        if spec is not None:
            return resolved.checkpoint(spec), spec.baseline or ""
        return (checkpoint_of(name) if name else Checkpoint(predictions.source)), ""

    def add(self, verdict: Verdict) -> Result:
        """Keep a verdict and attach its numbers to the test; return what a reader sees of it."""
        from pytest_calibration.reports.model import plain, result_of

        fails = verdict.state.fails
        if verdict.state == "inconclusive":
            fails = self.run.options["inconclusive"] == "fail"
        # The end of the run knows how many comparisons there are.
        waits = verdict.state == "regressed" and self.run.options["family"] == "holm"
        item_text = self.run.options["item_text"]
        result = result_of(
            verdict,
            test=self.test,
            fails=fails and not waits,
            waits=waits,
            remedy=self._remedy(verdict),
            detailed=fails or wants_details(self.run),
            metrics=wants_details(self.run),
            item_text=item_text == "reports",
        )
        name = f"{os.getpid()}-{next(_NUMBERS)}"
        self.results[name] = result
        if self.run.forked.in_child:
            self.run.forked.send({"name": name, "result": plain(replace(result, detail=None))})
        for key, value in properties(result).items():
            self.item.user_properties.append((f"{PREFIX}{len(self.results)}.{key}", value))
        # Reports and JUnit's file hold the text of a failure, so item text goes below it, unless it
        # is in there already.
        below = item_text != "none" and not (item_text == "reports" and self.verbose)
        compared = verdict.state != "no_baseline"
        if fails and not waits and below and compared and verdict.candidate is not None:
            self._failed = verdict.candidate, verdict.baseline_items
        return result

    def raised(self, error: AssertionError, failing: Sequence[Result]) -> None:
        """Write the names of these verdicts on the error, by which a test expects them."""
        told = {id(result) for result in failing}
        setattr(error, NAMES, tuple(n for n, r in self.results.items() if id(r) in told))

    def take(self) -> list[Result]:
        """Return the verdicts since the last call; those that the test expects fail nothing."""
        messages = self.run.forked.received()
        if not (messages or self.results):
            return []
        from pytest_calibration.reports.model import Result, expected, from_plain

        for message in messages:
            if "expected" in message:
                self.run.expected.add(message["expected"])
            elif "measured" in message:
                self.run.measured.merge(message["measured"])
            else:
                self.results[message["name"]] = from_plain(Result, message["result"])
        taken, self.results = self.results, {}
        return [
            expected(result) if result.fails and self._is_expected(name) else result
            for name, result in taken.items()
        ]

    def _is_expected(self, name: str) -> bool:
        return self._expects_failure or name in self.run.expected

    def strictness(self, predictions: Predictions) -> Strictness:
        """Return how strict the project is on a probe: options over ``calibration.yaml``.

        A probe's own tolerance in that file wins over the ini key, which is for all probes.
        """
        from pytest_calibration.gate.strictness import DEFAULT

        options, probes = self.run.options, self.run.project_of(self.item).probes
        project = self.run.project_of(self.item).settings
        own = project.probes.get(predictions.probe, {}).get("tolerance")
        tolerances = [own, options["tolerance"], project.tolerance]
        if "tolerance" in options.flags:
            tolerances.insert(0, options["tolerance"])
        limits = (options["limit"], project.limits.get(predictions.probe))
        limit = next((limit for limit in limits if limit is not None), None)
        # Where a limit was reached, a part of the baseline is what was asked for. Which part a
        # limit takes is known of the probes of this package: there the ids tell.
        reached = limit is not None and len(predictions) >= limit
        reached = reached and not probes.takes_smallest_ids(predictions.probe)
        return DEFAULT.with_first(
            min_share=[0.0] if reached else [],
            tolerance=tolerances,
            drift_tolerance=(options["drift_tolerance"], project.drift_tolerance),
            alpha=(options["alpha"], project.alpha),
            max_undetected=(options["max_undetected"],),
            tail=(options["tail"], project.tail),
        )

    def points(self, predictions: Predictions) -> tuple[OperatingPoint, ...]:
        """Return the operating points of a probe: options over ``calibration.yaml``.

        As for tolerances, a probe's own in that file win over the ini key.
        """
        options, project = self.run.options, self.run.project_of(self.item).settings
        given, own = options.points(), project.own_points(predictions.probe)
        if given is not None and (own is None or "operating_point" in options.flags):
            return given
        return project.operating_points(predictions.probe)

    def store(self, baselines: Baselines) -> Baselines:
        """Return a store that a test made itself as one of this run."""
        return self.run.adopted(baselines, self.item)

    def parents(self, predictions: Predictions) -> list[tuple[str, Predictions]]:
        """Return the parent's name and its predictions on the same probe, if it was asked."""
        parent = self.run.resolved.parent_spec
        if parent is None:
            return []
        asker = self.run.asker(self.run.project_of(self.item))
        answers = asker.parent_predictions(predictions.probe)
        return [] if answers is None else [(parent.name, answers)]

    # --- the command that records or accepts -------------------------------------------------

    def _remedy(self, verdict: Verdict) -> Remedy | None:
        from pytest_calibration.reports.model import Remedy

        if verdict.against in ("parent", "run"):
            return None
        if verdict.state == "no_baseline":
            return Remedy("to record it", self._command("", "--calibration-record"))
        above = verdict.state == "above_limit" and verdict.baseline is not None
        # A limit written by hand is changed by hand; the text names its file.
        above = above and not verdict.reason
        if verdict.state in ("regressed", "not_comparable") or above:
            test = f"::{self.test.partition('::')[2]}"
            if verdict.against == "anchor":
                move = self._command(test, "--calibration-anchor=REASON")
                return Remedy("to count drift from here", move)
            return Remedy("to accept it", self._command(test, "--calibration-accept=REASON"))
        return None

    def _place(self, test: str) -> list[str]:
        """Return what names a test of this file, or with an empty text the file, to pytest."""
        config = self.run.config
        name = getattr(getattr(self.item, "module", None), "__name__", "")
        if self.item.path == SUITE_FILE:
            return ["--pyargs", f"{SUITE}{test}"]
        if getattr(config.option, "pyargs", False) and name:
            # An installed module is found by the name under which pytest imported it.
            with suppress(ImportError, ValueError):
                spec = find_spec(name)
                if spec is not None and spec.origin == str(self.item.path):
                    return ["--pyargs", f"{name}{test}"]
        return [f"{os.path.relpath(self.item.path, config.invocation_params.dir)}{test}"]

    def _command(self, test: str, flag: str) -> str:
        options, name = self.run.options, self.run.model_of(self.item)
        spec = self.run.resolved.find_model(name) if "model" in options.flags and name else None
        label = f"{spec.baseline}=" if spec is not None and spec.baseline else ""
        model = [] if spec is None else [f"--calibration-model={label}{spec.text}"]
        args = [*self._place(test), *self.run.pytest_settings]
        args += pinned(self.run.config, args)
        return shlex.join(["pytest", *args, *model, *options.typed(without=NOT_REPEATED), flag])

    # --- the report of the test --------------------------------------------------------------

    def complete(self, report: pytest.TestReport) -> None:
        """Add the verdicts of the test to the report of one of its phases."""
        if report.when == "call" and report.failed:
            report.sections.extend(self._sections())
            self._shorten(report)
        # An xfail, with or without a reason.
        self._expects_failure = self._expects_failure or hasattr(report, "wasxfail")
        if report.when == "teardown":
            results = self.take()
            if results:
                from pytest_calibration.reports.model import plain

                setattr(report, RESULTS, json.dumps(plain(results)))
            self.run.late.append(self.take)

    def _sections(self) -> Iterator[tuple[str, str]]:
        """Yield what is printed below a failure and nowhere else: (title, text)."""
        if self._failed is None:
            return
        from pytest_calibration.reports.model import named_items
        from pytest_calibration.reports.terminal.failure import WORST, named_lines

        title, items = named_items(*self._failed, most=WORST, item_text=True)
        if any(item.text for item in items):
            yield SECTION, "\n".join(inert(named_lines(title, items, width=self.run.width)))

    def _shorten(self, report: pytest.TestReport) -> None:
        """Make the line that pytest repeats at its end our headline.

        In continuous integration pytest repeats the whole message there.
        """
        from pytest_calibration.text.visible import visible

        crash = getattr(report.longrepr, "reprcrash", None)
        headlines = [visible(r.headline) for r in self.results.values() if r.fails]
        kind, _, message = getattr(crash, "message", "").partition(": ")
        # The packaged suite fails its tests without a traceback.
        if crash is not None and kind in ("AssertionError", "Failed"):
            line = message.partition("\n")[0]
            if line.startswith(tuple(headlines)):
                crash.message = f"{kind}: {line}"


def properties(result: Result) -> dict[str, str | float | int]:
    """Return a result as properties of its test, as far as they apply: builtin scalars."""
    from pytest_calibration.reports.model import plain
    from pytest_calibration.text.visible import visible

    number, baseline = result.number, result.baseline
    values = {name: getattr(result, name) for name in SAME_NAME}
    values |= {name: getattr(number, name) for name in ("value", "low", "high", "noise_floor")}
    values |= {
        "metric": number.label,
        "baseline": None if baseline is None else baseline.value,
        "limit_is": "floor" if result.above else None,
        "n_needed": result.n_needed or None,
        "improved": 1 if result.improved and result.against == "baseline" else None,
        "component": ", ".join(result.fired),
        "threshold": None if result.point is None else result.point.threshold,
        "coverage": None if result.point is None else result.point.coverage.value,
        "baseline_n": result.baseline_n or None,
        "cautions": " ".join(result.cautions),
    }
    # Builtin types, which alone can travel between processes.
    there = {name: plain(value) for name, value in values.items() if value not in (None, "")}
    return {k: visible(v) if isinstance(v, str) else v for k, v in there.items()}
