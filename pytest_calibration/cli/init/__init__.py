"""``pytest-calibration init``: the files of a first gate, for what a project has already.

``surroundings``
    what lies in the folder.
``planned``
    the files that are written, and the commands to type next.
"""

from __future__ import annotations

import argparse
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_calibration.errors import UsageError
from pytest_calibration.files import replacing
from pytest_calibration.text.visible import visible

if TYPE_CHECKING:
    from pytest_calibration.cli.arguments import Subparsers


def add(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    from pytest_calibration.cli.arguments import add_columns

    parser = subparsers.add_parser(
        "init",
        help="write a test, calibration.yaml and a CI workflow for what lies here",
        description="Look at a project (checkpoints, predictions, items, tests, CI) and write a "
        "test, calibration.yaml and a CI workflow. No file that is there is changed.",
    )
    parser.add_argument(
        "folder", nargs="?", default=".", metavar="FOLDER", help="the project (default: this one)"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--model", metavar="MODEL", help="a checkpoint or hub id, in place of what lies there"
    )
    which.add_argument(
        "--predictions", metavar="FILE", help="a file of predictions, in place of what lies there"
    )
    add_columns(parser)
    parser.add_argument("--no-ci", action="store_true", help="write no CI workflow")
    parser.add_argument("--dry-run", action="store_true", help="show the files, write none")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write what is not there yet, and say what to do next."""
    from pytest_calibration.cli.arguments import columns_of
    from pytest_calibration.cli.init.planned import plan
    from pytest_calibration.cli.init.surroundings import look

    folder = Path(options.folder)
    columns = columns_of(options)
    if columns and options.predictions is None:
        raise UsageError(
            "init: --column and --classes are about a table of predictions; name it with "
            "--predictions."
        )
    found = look(folder, options.model, options.predictions, columns)
    planned = plan(found, ci=not options.no_ci)
    print(visible(f"found in {options.folder}: {found.sentence()}"))
    for sentence in found.left_out:
        print(visible(f"  left out: {sentence}"))
    for name, content in planned.files.items():
        path = folder / name
        if options.dry_run and not os.path.lexists(path):
            print(f"would write {name}:\n{_indented(content)}")
        elif not options.dry_run and _written(path, content):
            print(f"wrote {name}")
        elif _content(path) == content:
            print(f"left  {name}: it is there already, as it would be written")
        else:
            print(
                f"left  {name}: it is there already; this would be written:\n{_indented(content)}"
            )
    for sentence in planned.notes:
        print(visible(f"note: {sentence}"))
    where = f", in {options.folder}" if options.folder != "." else ""
    print(f"next{where}:")
    width = max(len(step.command) for step in planned.steps)
    for step in planned.steps:
        print(f"  {step.command:<{width}}  # {step.purpose}")
    return 0


def _written(path: Path, content: str) -> bool:
    """Write a file; False where it is there already.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, new=True) as file:
            file.write(content.encode("utf-8"))
    except FileExistsError:
        if path.parent.is_dir():
            return False
        raise UsageError(f"{path}: cannot be written ({path.parent} is no folder).") from None
    except OSError as problem:
        raise UsageError(f"{path}: cannot be written ({problem.strerror}).") from None
    return True


def _content(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError):
        return ""


def _indented(content: str) -> str:
    return textwrap.indent(content, "    ").rstrip()
