"""``--calibration-prune``: removes baselines that no test of a full, finished run looked up."""

from __future__ import annotations

from pathlib import Path

from pytest_calibration.plugin.run import Run


def prune(run: Run) -> None:
    """Remove what was not looked up, and add to the remarks of the run what was done."""
    reason = _why_not(run)
    if reason:
        run.remarks.append(f"nothing pruned: {reason}.")
        return
    from pytest_calibration.baselines.store import remove_record, stored_records

    records = run.records
    # A named baseline belongs to a model or stage; a run that did not probe it says nothing of it.
    used_folders = {str(Path(path).parent) for path in records.looked_up}
    removed, left = [], []
    for folder in map(Path, sorted(records.folders)):
        for path in stored_records(folder):
            if str(path) in records.looked_up or str(path) in records.drafts:
                continue
            shown = path.relative_to(folder.parent).as_posix()
            if str(path.parent) not in used_folders:
                left.append(shown)
                continue
            try:
                remove_record(path)
            except OSError as problem:
                run.errors.append(f"{shown} cannot be removed ({problem.strerror}).")
            else:
                removed.append(shown)
    run.remarks.append(f"pruned: {', '.join(removed) or 'nothing'}.")
    if left:
        run.remarks.append(f"left alone, of a name this run did not use: {', '.join(left)}.")


def _why_not(run: Run) -> str:
    """Return why this run may have looked up too little; empty if it may prune."""
    option = run.config.option
    if run.left_out:
        return "some tests were deselected or could not be collected"
    if "probe" in run.options.flags:
        return "--calibration-probe runs only a part of the probes"
    if any(getattr(option, name, None) for name in ("lf", "failedfirst", "stepwise")):
        return "tests that failed before were chosen"
    if getattr(option, "override_ini", None):
        return "an ini key was overridden"
    not_passed = run.outcomes.not_passed()
    if not_passed:
        return f"{not_passed[0]} did not pass"
    if getattr(option, "ignore", None) or getattr(option, "ignore_glob", None):
        return "some files were ignored"
    started = Path(run.config.invocation_params.dir)
    places = {arg: started / arg.partition("::")[0] for arg in run.config.args}
    for arg, place in places.items():
        if "::" in arg or not place.is_dir():
            return f"{arg} is only a part of the tests"
    for folder in map(Path, run.records.folders):
        # Tests anywhere below rootdir may use a folder that is shared.
        shared = run.options["baseline_dir"] is not None
        home = run.config.rootpath if shared else folder
        if not any(home.is_relative_to(place) for place in places.values()):
            return f"{folder.name} lies outside the folders that were run"
    return ""
