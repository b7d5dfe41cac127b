"""Several comparisons of one run: what their number, or a shared baseline, means for a failure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_calibration.plugin.run import Run
from pytest_calibration.text.visible import visible

if TYPE_CHECKING:
    from pytest_calibration.reports.model import Result


def conclude(run: Run, session: pytest.Session) -> None:
    """Fail the tests whose comparison remains after the correction, and say which would not.

    With ``calibration_family = holm`` no comparison with a baseline has failed its test yet: the
    number of comparisons is known at the end. Each that remains gets a failed report of its own.
    Otherwise every failure stays, and the correction is told.
    """
    results = run.verdicts
    changed: dict[int, Result] = {}
    for model in dict.fromkeys(r.model for r in results):
        changed |= _corrected([r for r in results if r.model == model])
    run.outcomes.replace(changed)
    _report_waiting(run, session, run.verdicts)
    run.remarks.extend(_shared_baselines(run.verdicts))


def _corrected(results: list[Result]) -> dict[int, Result]:
    """Return what is said of the regressions of one model, by the identity of the result."""
    from pytest_calibration.gate.family import holm

    family = [r for r in results if r.p_value is not None and r.alpha is not None]
    if len(family) < 2:
        return {}
    kept = holm([r.p_value or 0.0 for r in family], [r.alpha or 0.0 for r in family])
    caution = (
        f"fails alone, not after Holm's correction for {len(family)} comparisons of this model."
    )
    return {
        id(r): replace(r, waits=False, cautions=(*r.cautions, caution))
        for r, remains in zip(family, kept, strict=True)
        if r.state == "regressed" and (r.fails or r.waits) and not remains
    }


def _report_waiting(run: Run, session: pytest.Session, results: list[Result]) -> None:
    """Let each comparison that waited for the correction, and remains, fail its test."""
    waiting = [r for r in results if r.waits]
    if not waiting:
        return
    from pytest_calibration.reports.terminal import failure_lines

    verbose = session.config.get_verbosity(pytest.Config.VERBOSITY_ASSERTIONS) > 0
    run.outcomes.replace({id(r): replace(r, waits=False, fails=True) for r in waiting})
    for result in waiting:
        text = "\n".join(failure_lines([result], width=run.width, verbose=verbose))
        file, line = run.outcomes.places.get(result.test, (result.test, 1))
        report = pytest.TestReport(
            nodeid=result.test,
            location=(file, line - 1, result.test.partition("::")[2]),
            keywords={},
            outcome="failed",
            longrepr=text,
            when="call",
        )
        session.config.hook.pytest_runtest_logreport(report=report)


def _shared_baselines(results: list[Result]) -> Iterator[str]:
    """Yield a sentence for each baseline from which several models differ in a component."""
    failing: dict[tuple[object, ...], list[Result]] = {}
    for r in results:
        if r.fails and r.state == "regressed" and r.baseline is not None:
            key = (r.probe, r.against, r.reference, r.baseline.value, r.baseline_n)
            failing.setdefault(key, []).append(r)
    for group in failing.values():
        fired = [component for r in group for component in r.fired]
        shared = [name for name in dict.fromkeys(fired) if fired.count(name) > 1]
        models = sorted({r.source for r in group if {*shared} & {*r.fired}})
        if len(models) > 1:
            yield visible(
                f"{group[0].probe}: {len(models)} models ({', '.join(models)}) differ from one "
                f"{group[0].reference} ({', '.join(shared)}): count that as one finding, since all "
                "fail where that baseline was an unlucky draw."
            )
