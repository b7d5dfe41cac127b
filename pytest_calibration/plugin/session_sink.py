"""What the assertions of a running test tell the session, and what a failure shows of it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

import pytest

from pytest_calibration.plugin.distribution import plain_id
from pytest_calibration.plugin.reporting import inert, wants_details
from pytest_calibration.plugin.run import Run, flag_arguments, model_name

if TYPE_CHECKING:
    from pytest_calibration.baselines.check import Settings
    from pytest_calibration.gate.verdict import Verdict
    from pytest_calibration.predictions import Predictions
    from pytest_calibration.reports.model import Remedy, Result

PREFIX: Final = "calibration."
EVIDENCE: Final = "calibration: worst items"
# What pytest puts before each line of an error.
MARGIN: Final = 8


class SessionSink:
    """The sink of one test.

    Args:
        run: the session.
        item: the test.
    """

    def __init__(self, run: Run, item: pytest.Item) -> None:
        self.run = run
        self.item = item
        self.test = plain_id(item)
        self.results: list[Result] = []
        self.evidence: tuple[Predictions, Predictions | None] | None = None
        run.forget(self.test)
        # A rerun starts anew: only its last attempt is reported.
        item.user_properties[:] = [
            (key, value) for key, value in item.user_properties if not key.startswith(PREFIX)
        ]

    @property
    def width(self) -> int:
        """Columns that the text of a failure has: the terminal's, less what pytest puts before."""
        return self.run.width - MARGIN

    @property
    def verbose(self) -> bool:
        """Whether the text of a failure has all numbers: under ``-v``."""
        return self.item.config.get_verbosity(pytest.Config.VERBOSITY_ASSERTIONS) > 0

    def scored(self, predictions: Predictions) -> None:
        """Write the items where the run dumps them."""
        self.run.dump(predictions)

    def seen(self, verdict: Verdict) -> Result:
        """Keep what a reader sees of the verdict; attach its numbers to the test as properties."""
        from pytest_calibration.reports.model import result_of

        fails = self.fails(verdict)
        shows = self.run.options["item_text"]
        result = result_of(
            verdict,
            test=self.test,
            fails=fails,
            remedy=self.remedy(verdict),
            detailed=fails or wants_details(self.run),
            item_text=shows == "reports",
        )
        self.results.append(result)
        for key, value in flat(result).items():
            self.item.user_properties.append((f"{PREFIX}{len(self.results)}.{key}", value))
        # Reports and JUnit's file hold the text of a failure, so item text goes below it, unless it
        # is in there already.
        below = shows != "none" and not (shows == "reports" and self.verbose)
        if fails and below and verdict.candidate is not None:
            self.evidence = verdict.candidate, verdict.stored
        return result

    def sections(self) -> Iterator[tuple[str, str]]:
        """Yield what is printed below a failure and nowhere else: (title, text)."""
        if self.evidence is None:
            return
        from pytest_calibration.reports.model import worst_items
        from pytest_calibration.reports.terminal.failure import WORST, worst_lines

        worst = worst_items(*self.evidence, most=WORST, item_text=True)
        if any(item.text for item in worst):
            yield EVIDENCE, "\n".join(inert(worst_lines(worst, width=self.run.width)))

    def fails(self, verdict: Verdict) -> bool:
        """Fail on what fails everywhere, and on inconclusive where the project says so."""
        if verdict.state == "inconclusive":
            return bool(self.run.options["inconclusive"] == "fail")
        return verdict.state.fails

    def remedy(self, verdict: Verdict) -> Remedy | None:
        """Return the command that records or accepts what was just measured."""
        from pytest_calibration.reports.model import Remedy

        if verdict.against == "parent":
            return None
        where = os.path.relpath(self.item.path, self.run.config.invocation_params.dir)
        test = self.test.partition("::")[2]
        if verdict.state == "no_baseline":
            return Remedy("to record it", self._command([where], ["--calibration-record"]))
        above = verdict.state == "above_limit" and verdict.baseline is not None
        # A limit written by hand is changed by hand; the text names its file.
        above = above and not verdict.reason
        if verdict.state in ("regressed", "not_comparable") or above:
            flags = ["--calibration-accept=REASON"]
            return Remedy("to accept it", self._command([f"{where}::{test}"], flags))
        return None

    def _command(self, places: list[str], flags: list[str]) -> str:
        # A record is of all items, whatever this run was limited to.
        skip = (
            *("model", "parent", "record", "accept", "prune", "list", "limit"),
            *("report", "dump"),
        )
        kept = flag_arguments(self.run.options, skip)
        return shlex.join(["pytest", *places, *self._model(), *kept, *flags])

    def _model(self) -> list[str]:
        name = model_name(self.item)
        if "model" not in self.run.options.flags or name is None:
            return []
        spec = self.run.find_model(name)
        if spec is None:
            return []
        label = f"{spec.baseline}=" if spec.baseline else ""
        return [f"--calibration-model={label}{spec.text}"]

    def settings(self, predictions: Predictions) -> Settings:
        """Return ini keys over ``calibration.yaml`` over defaults."""
        from pytest_calibration.baselines.check import Settings

        options, project = self.run.options, self.run.project
        default = Settings()
        # A probe's own tolerance is nearer to it than the ini's for the whole project.
        own = project.probes.get(predictions.probe, {}).get("tolerance")
        tolerance = first(own, options["tolerance"], project.tolerance, default.project_tolerance)
        return Settings(
            project_tolerance=tolerance,
            alpha=first(options["alpha"], project.alpha, default.alpha),
            max_undetected=first(options["max_undetected"], default.max_undetected),
        )

    def parents(self, predictions: Predictions) -> Iterable[tuple[str, Predictions]]:
        """Return the parent's predictions on the same probe."""
        return list(self.run.parent_predictions(predictions))


def first(*values: float | None) -> float:
    """Return the first value that says something."""
    return next(float(v) for v in values if v is not None)


def in_short(report: pytest.TestReport, results: Iterable[Result]) -> None:
    """Let the one line of a failure, which pytest repeats at its end, be our headline.

    In continuous integration pytest repeats the whole message there.
    """
    from pytest_calibration.text.visible import visible

    crash = getattr(report.longrepr, "reprcrash", None)
    headlines = [result.headline for result in results if result.fails]
    if headlines and crash is not None and crash.message.startswith("AssertionError: "):
        line = crash.message.removeprefix("AssertionError: ").partition("\n")[0]
        if line in map(visible, headlines):
            crash.message = f"AssertionError: {line}"


def flat(result: Result) -> dict[str, str | float | int]:
    """Return a result as flat builtin scalars; what does not apply is left out."""
    from pytest_calibration.reports.model import plain

    number, base = result.number, result.baseline
    out: dict[str, str | float | int | None] = {
        "state": result.state,
        "model": result.model,
        "probe": result.probe,
        "metric": number.label,
        "n": result.n,
        "value": number.value,
        "low": number.low,
        "high": number.high,
        "noise_floor": number.noise_floor,
        "accuracy": result.accuracy,
        "mean_confidence": result.mean_confidence,
        "limit": result.limit,
        "difference": result.difference,
        "bound": result.bound,
        "smallest_visible": result.smallest_visible,
        "false_alarm_rate": result.false_alarm_rate,
        "reference": result.reference,
        "baseline": None if base is None else base.value,
        "tolerance": result.tolerance,
        "limit_is": "floor" if result.above else "",
        "n_needed": result.n_needed or None,
        "improved": 1 if result.improved and result.against == "baseline" else None,
        "component": ", ".join(result.fired),
    }
    # What travels between processes must be exactly that, and no number of numpy's.
    return {key: plain(value) for key, value in out.items() if value is not None and value != ""}
