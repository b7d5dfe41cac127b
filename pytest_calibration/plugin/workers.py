"""What travels between the processes of pytest-xdist.

pytest-xdist sends text as strict UTF-8, and its worker dies of half a surrogate pair: a cut emoji,
or a file name that is no UTF-8. So what is ours travels as JSON in ASCII, from which any text comes
back as it was. Of all else in a report such halves are escaped.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from pytest_calibration.errors import CalibrationError
from pytest_calibration.plugin.run import Run


def for_worker(run: Run) -> str:
    """Return width and start of the run, settings of pytest, and models as far as resolved."""
    out: dict[str, Any] = {
        "width": run.width,
        "started": run.started,
        "settings": run.pytest_settings,
    }
    # What cannot be resolved is reported by the test that needs it.
    with suppress(CalibrationError):
        if run.options["model"]:
            out["models"] = [spec.as_dict() for spec in run.resolved.models]
    return json.dumps(out)


def from_worker(run: Run) -> str:
    """Return the state of this worker at its end, for the controller."""
    from pytest_calibration.reports.model import plain

    return json.dumps(
        {
            "collected": run.collected,
            "left_out": run.left_out,
            "deselected": sorted(run.deselected),
            "used_models": sorted(run.resolved.used_models),
            "unlike": run.resolved.unlike,
            "configs": run.resolved.projects.read(),
            "records": run.records.as_dict(),
            "measured": run.measured.as_list(),
            "late": plain(run.late_verdicts()),
            "usage": run.usage.as_dict(run.resolved),
        }
    )


def merge(run: Run, sent: str) -> None:
    """Add the state of a worker at its end, as :func:`from_worker` returns it."""
    from pytest_calibration.reports.model import Result, from_plain

    output = json.loads(sent)
    # Every worker collects all tests.
    run.collected = max(run.collected, output["collected"])
    run.left_out |= output["left_out"]
    run.deselected.update(output["deselected"])
    run.resolved.used_models.update(output["used_models"])
    run.resolved.unlike |= output["unlike"]
    run.configs |= dict.fromkeys(output["configs"])
    run.records.merge(output["records"])
    run.measured.merge(output["measured"])
    run.outcomes.add_late(from_plain(Result, values) for values in output["late"])
    run.usage.merge(output["usage"])


def encodable(tree: Any) -> Any:
    """Return builtin values whose texts can be sent: half a surrogate pair is escaped."""
    if isinstance(tree, str):
        return tree.encode("utf-8", "backslashreplace").decode()
    if isinstance(tree, dict):
        return {encodable(key): encodable(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [*map(encodable, tree)] if isinstance(tree, list) else (*map(encodable, tree),)
    return tree
