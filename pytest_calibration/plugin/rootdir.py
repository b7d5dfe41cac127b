"""What moves pytest's rootdir: the value of a flag must not, nor a command that we print.

pytest finds its rootdir and ini file before it loads any plugin, so it does not know that the
second word of ``--calibration-model /models/sft`` belongs to the first. Where the model lies
outside the project, it then looks for its configuration beside the model, and the project's ini
file would be left unread without a word.
"""

from __future__ import annotations

import os
import shlex
from inspect import signature
from pathlib import Path
from typing import Any, Final

import pytest

from pytest_calibration.plugin.options import OPTIONS

_SETTINGS: Final = (
    *("-c", "--config-file", "--rootdir", "-p", "-o", "--override-ini", "--confcutdir"),
)
_FLAGS: Final = frozenset(o.flag for o in OPTIONS if o.metavar)


def check_rootdir(config: pytest.Config) -> None:
    """Refuse a run whose rootdir was found by the value of one of our flags.

    Raises:
        pytest.UsageError: with the spelling that pytest cannot misread.
    """
    added = shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    args = [*added, *(str(arg) for arg in config.invocation_params.args)]
    detached = {
        i + 1
        for i, arg in enumerate(args[:-1])
        if arg in _FLAGS and os.path.exists(Path(config.invocation_params.dir) / args[i + 1])
    }
    if not detached or hasattr(config, "workerinput"):
        return
    kept = [arg for i, arg in enumerate(args) if not {i, i + 1} & detached]
    rootdir, _ = _found(config, kept)
    if rootdir is not None and rootdir != config.rootpath:
        first = min(detached)
        raise pytest.UsageError(
            f"pytest took {args[first]!r} for a place of tests when it looked for its rootdir, and "
            f"found {str(config.rootpath)!r} instead of {str(rootdir)!r}; write "
            f"{args[first - 1]}={args[first]}"
        )


def settings_typed(config: pytest.Config) -> list[str]:
    """Return what the command line says of rootdir, ini file, ini keys and plugins."""
    args = [str(arg) for arg in config.invocation_params.args]
    out: list[str] = []
    for arg, value in zip(args, [*args, ""][1:], strict=True):
        if arg in _SETTINGS:
            out += [arg, value] * (not value.startswith("no:"))
        elif arg.startswith(tuple(f"{name}=" for name in _SETTINGS)):
            out.append(arg)
    return out


def pinned(config: pytest.Config, args: list[str]) -> list[str]:
    """Return what keeps rootdir and ini file in place in a run with these arguments."""
    rootdir, ini_file = _found(config, args)
    if rootdir is None or (rootdir, ini_file) == (config.rootpath, config.inipath):
        return []
    started = config.invocation_params.dir
    if config.inipath is None:
        root = os.path.relpath(config.rootpath, started)
        # The other ini file, which pytest finds there, would also hide each conftest.py above it.
        return [f"--rootdir={root}", f"--confcutdir={root}"]
    return ["-c", os.path.relpath(config.inipath, started)]


def _found(config: pytest.Config, args: list[str]) -> tuple[Path | None, Path | None]:
    """Return rootdir and ini file that pytest finds for these arguments; None for the unknown."""
    try:
        from _pytest.config.findpaths import determine_setup

        parsed, unknown = config._parser.parse_known_and_unknown_args(args)
        options: dict[str, Any] = {
            "inifile": parsed.inifilename,
            "override_ini": getattr(parsed, "override_ini", None),
            "args": [*parsed.file_or_dir, *unknown],
            "rootdir_cmd_arg": parsed.rootdir,
            "invocation_dir": config.invocation_params.dir,
        }
        # Its parameters differ from one version of pytest to the next.
        accepted = signature(determine_setup).parameters
        found = determine_setup(**{k: v for k, v in options.items() if k in accepted})
        return found[0], found[1]
    except (ImportError, AttributeError, TypeError):
        # Another pytest finds its rootdir another way; then nothing is checked.
        return None, None
