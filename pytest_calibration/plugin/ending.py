"""The end of a run: baselines are written or pruned, and a run that decided nothing fails."""

from __future__ import annotations

import pytest

from pytest_calibration.plugin.pruning import prune
from pytest_calibration.plugin.reporting import write_reports
from pytest_calibration.plugin.run import Run


def end(run: Run, session: pytest.Session, *, finished: bool) -> None:
    """Write what is to be written, and add to the failures of the session.

    Args:
        run: the run.
        session: pytest's session.
        finished: whether every test was run.
    """
    if run.is_worker or session.config.option.collectonly:
        return
    run.finished = finished
    if finished and run.complete:
        _write_baselines(run)
        _check_decided(run, failed=session.testsfailed > 0)
    else:
        n = len(run.records.drafts)
        if n:
            plural = "s" * (n > 1)
            run.errors.append(f"{n} baseline{plural} not written: the run did not finish.")
        if run.options["prune"]:
            run.remarks.append("nothing pruned: the run did not finish.")
    write_reports(run)
    run.usage.merge(run.usage.as_dict(run.resolved))
    session.testsfailed += len(run.errors)


def _write_baselines(run: Run) -> None:
    written, errors = run.records.write()
    run.errors.extend(errors)
    if written:
        run.remarks.append(f"{written} baseline{'s' * (written > 1)} written.")
    if run.options["prune"]:
        prune(run)


def _check_decided(run: Run, *, failed: bool) -> None:
    """Add an error where calibration tests were collected and nothing was compared or decided.

    Args:
        run: the run.
        failed: whether any test failed: a run that is red needs no further reason.
    """
    if not run.collected:
        return
    may_skip = run.options["no_model"] == "skip"
    if may_skip and not run.options["model"] and not run.verdicts:
        run.remarks.append("nothing was gated: no model is named (calibration_no_model = skip).")
        may_be_empty = True
    else:
        option = run.config.option
        may_be_empty = getattr(option, "setuponly", False) or getattr(option, "setupplan", False)
    if failed:
        return
    if "model" in run.options.flags and not run.resolved.used_models:
        run.errors.append(
            "--calibration-model was used by no test: the fixture calibration_model is "
            "overridden and does not ask for calibration_model_spec."
        )
    verdicts = run.verdicts
    with_parent = any(result.against == "parent" for result in verdicts)
    if run.options["parent"] is not None and verdicts and not with_parent:
        run.errors.append("--calibration-parent was compared with nothing.")
    if not may_be_empty and all(result.state == "inconclusive" for result in verdicts):
        run.errors.append(
            f"{run.collected} calibration test{'s' * (run.collected > 1)} collected and "
            "nothing was decided (every comparison was inconclusive, skipped or never made): "
            "this run is not green."
        )
