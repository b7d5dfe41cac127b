"""The command as a whole: exit codes, errors in one line, a light start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from pytest_calibration import __version__, cli
from pytest_calibration.errors import CalibrationError, UsageError

HEAVY = ("torch", "transformers", "pytest", "_pytest", "yaml", "numpy")


def in_python(code: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run Python code in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, **settings
    )


def script() -> Path:
    """Return the installed console script."""
    path = Path(sysconfig.get_path("scripts")) / cli.PROGRAM
    return path.with_suffix(".exe") if os.name == "nt" else path


def test_the_package_runs_as_the_command() -> None:
    """``python -m pytest_calibration`` is the command."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest_calibration", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{cli.PROGRAM} {__version__}\n")


def test_the_console_script_is_installed_and_runs() -> None:
    """What a user types after installing runs, prints, and exits with the code."""
    (entry,) = (e for e in entry_points(group="console_scripts") if e.name == cli.PROGRAM)
    assert entry.load() is cli.main
    good = subprocess.run(
        [script(), "plan", "--n", "500"], capture_output=True, text=True, check=False
    )
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith("a comparison on 500 items")
    bad = subprocess.run(
        [script(), "plan", "--n", "1"], capture_output=True, text=True, check=False
    )
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("pytest-calibration: error: argument --n: must lie between 2 and")


def test_version_and_help(command) -> None:
    """Both print to stdout and succeed; help names every subcommand with a line on it."""
    result = command("--version")
    assert (result.code, result.out, result.err) == (0, f"pytest-calibration {__version__}\n", "")
    result = command("--help")
    assert (result.code, result.err) == (0, "")
    for name in cli.COMMANDS:
        # argparse puts the line on a long name below it.
        assert re.search(rf"\n    {name}\s+\S+ \S+ \S+", result.out)
        own = command(name, "--help")
        assert own.code == 0
        assert own.out.startswith(f"usage: pytest-calibration {name} ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("guess",), "argument COMMAND: invalid choice: 'guess'"),
        (("--vers", "plan"), "unrecognized arguments: --vers"),
        (("plan", "--guess"), "unrecognized arguments: --guess"),
        (("plan", "--gro", "3"), "unrecognized arguments: --gro 3"),
        (("plan", "--n"), "argument --n: expected one argument"),
    ],
)
def test_wrong_usage_is_one_line(command, arguments: tuple[str, ...], message: str) -> None:
    """Usage errors exit 2 with one line on stderr that says where help is; no usage block."""
    result = command(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"pytest-calibration: error: {message}")
    assert "--help)" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("kind", [CalibrationError, UsageError])
def test_errors_are_one_line(command, monkeypatch, kind: type[CalibrationError]) -> None:
    """Whatever a user got wrong is one line on stderr and exit code 2, even from two lines."""

    def fail(options: Any) -> int:
        raise kind("first\n  second")

    monkeypatch.setattr("pytest_calibration.cli.plan.run", fail)
    assert command("plan").err == "pytest-calibration: error: first\\n  second\n"
    assert command("plan").code == 2


@pytest.mark.parametrize("code", [0, 1, 3])
def test_exit_codes_are_those_of_the_subcommand(command, monkeypatch, code: int) -> None:
    """What a subcommand returns is the exit code."""
    monkeypatch.setattr("pytest_calibration.cli.plan.run", lambda _: code)
    assert command("plan").code == code


def test_an_interrupt_is_130(command, monkeypatch) -> None:
    """Ctrl-C ends without a traceback, with the code that a shell expects."""

    def interrupted(options: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("pytest_calibration.cli.plan.run", interrupted)
    result = command("plan")
    assert (result.code, result.out, result.err) == (130, "", "")


@pytest.mark.parametrize("arguments", [["plan", "--n", "500", "--json"], ["--help"]])
def test_a_reader_that_leaves_is_no_error(arguments: list[str]) -> None:
    """Piped into ``head`` the command ends quietly, whether its output is long or in a buffer."""
    code = (
        "import os, sys\n"
        "read, write = os.pipe()\n"
        "os.close(read)\n"
        "os.dup2(write, 1)\n"
        f"from pytest_calibration.cli import main\nsys.exit(main({arguments!r}))"
    )
    # Unbuffered, argparse swallows the error itself.
    result = in_python(code, env={**os.environ, "PYTHONUNBUFFERED": ""})
    assert result.stderr == ""
    assert result.returncode == 141


def test_a_terminal_that_knows_only_ascii_is_no_error() -> None:
    """A name that the terminal cannot show is escaped."""
    code = (
        "from pytest_calibration import cli\n"
        "import pytest_calibration.cli.plan as plan\n"
        "plan.run = lambda options: print('prüfung') or 0\n"
        "raise SystemExit(cli.main(['plan']))"
    )
    result = in_python(code, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (result.returncode, result.stdout) == (0, "pr\\xfcfung\n")


@pytest.mark.parametrize(
    ("arguments", "loaded"), [(["--help"], []), (["plan", "--n", "500"], ["numpy"])]
)
def test_start_is_light(arguments: list[str], loaded: list[str]) -> None:
    """Help loads nothing heavy; a plan loads numpy, and neither torch nor pytest nor YAML."""
    code = (
        "import sys\nfrom pytest_calibration.cli import main\n"
        f"code = main({arguments!r})\n"
        f"print('loaded', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    result = in_python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == f"loaded {loaded}"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_subcommand_is_a_module_with_add_and_run(name: str) -> None:
    """What the package says of a subcommand holds: its module adds a parser that runs ``run``."""
    module = import_module(f"pytest_calibration.cli.{name}")
    options = cli.parser().parse_args([name])
    assert options.run is module.run
    assert module.__doc__.startswith(f"``pytest-calibration {name}``: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_an_output_that_cannot_be_written_is_an_error() -> None:
    """A full disk is one line on stderr and exit code 2, which is no regression."""
    code = (
        "import sys; from pytest_calibration.cli import main; sys.exit(main(['plan', '--n', '9']))"
    )
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-c", code],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == 2
    assert result.stderr.startswith("pytest-calibration: error: cannot write the output (")
    assert "Traceback" not in result.stderr
