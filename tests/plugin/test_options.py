"""Rules that hold for every option."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_calibration.plugin.options import OPTIONS

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "options.md"


def test_every_option_has_a_row_in_the_documentation() -> None:
    """The page of options has the flags and ini keys that there are, in their order."""
    rows = re.findall(
        r"^\| `(--\S+?)[`=].*?\| (?:`(\w+)`|–)", DOCS.read_text("utf-8"), re.MULTILINE
    )
    assert rows == [(option.flag, option.key if option.ini else "") for option in OPTIONS]


def test_every_option_has_a_test_file() -> None:
    """Named test_option_<name>.py."""
    files = {file.stem.removeprefix("test_option_") for file in Path(__file__).parent.glob("*.py")}
    assert {option.name for option in OPTIONS} <= files


@pytest.mark.parametrize("name", ["accept", "baseline-dir", "config", "device", "parent", "probe"])
def test_empty_value_is_a_usage_error(project, name: str) -> None:
    """A flag without its value is no default and no current folder."""
    result = project.run(f"--calibration-{name}=")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--calibration-{name} needs a value.*"])


def test_an_empty_ini_key_leaves_the_default(project) -> None:
    """Of text and lists; an empty number is one that cannot be read."""
    keys = [option.key for option in OPTIONS if option.ini and option.kind in ("text", "list")]
    project.pytester.makeini("\n".join(["[pytest]", *(f"{key} =" for key in keys)]))
    project.write("tests/test_project.py", "def test_other(): pass\n")
    assert project.run().ret == 0


def test_a_bad_ini_value_stops_every_run(project) -> None:
    """It is a usage error, whatever the run collects."""
    project.write("tests/test_project.py", "def test_other(): pass\n")
    project.pytester.makeini("[pytest]\ncalibration_limit = many\n")
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*calibration_limit*many*"])
