"""Where prompts and answers may appear: the terminal by default, nowhere, or in reports too."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import pytest

from pytest_calibration.probes.facts import Facts

if TYPE_CHECKING:
    from user_project import Project

NONE = "--calibration-item-text=none"
PROMPTS = [item.prompt for item in Facts().items]
WORKERS = pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])


def prompts_in(text: str) -> int:
    """How many prompts a text holds."""
    return sum(prompt in text for prompt in PROMPTS)


def failing(project: Project, *args: str) -> tuple[str, str]:
    """What the terminal and JUnit's file hold of a failing run."""
    result = project.facts("hot", "--junit-xml=junit.xml", *args)
    assert result.ret == 1
    # JUnit escapes quotes and apostrophes.
    return result.stdout.str(), html.unescape((project.path / "junit.xml").read_text("utf-8"))


@WORKERS
def test_by_default_the_terminal_alone_shows_items(recorded: Project, workers: list[str]) -> None:
    """Three items in a section below the failure; the failure itself and JUnit name them by id."""
    screen, junit = failing(recorded, *workers)
    assert prompts_in(junit) == 0
    assert "most confident wrong answers:" in junit
    below = screen.partition("calibration: worst items")[2]
    assert 1 <= prompts_in(below) <= 3
    assert prompts_in(screen.partition("calibration: worst items")[0]) == 0


@pytest.mark.parametrize("flags", [[], [NONE], [NONE, "-n2"]], ids=["ini", "flag", "workers"])
def test_none_shows_items_nowhere(recorded: Project, flags: list[str]) -> None:
    """Neither the terminal nor a file holds a prompt; ids stay. The flag wins over the ini key."""
    value = "reports" if flags else "none"
    recorded.pytester.makeini(f"[pytest]\ncalibration_item_text = {value}\n")
    screen, junit = failing(recorded, *flags)
    assert prompts_in(screen) == prompts_in(junit) == 0
    assert "calibration: worst items" not in screen
    assert "most confident wrong answers:" in screen


@WORKERS
def test_reports_shows_items_everywhere(recorded: Project, workers: list[str]) -> None:
    """Under -v the failure text holds them, and so does every file that holds the text."""
    screen, junit = failing(recorded, "-v", "--calibration-item-text=reports", *workers)
    assert 1 <= prompts_in(junit) <= 3
    assert prompts_in(screen) == prompts_in(junit)
    assert "calibration: worst items" not in screen


def test_a_test_that_passes_shows_no_item(recorded: Project) -> None:
    """Items are evidence of a failure."""
    result = recorded.facts("base", "-rA", "-vv")
    assert result.ret == 0
    assert prompts_in(result.stdout.str()) == 0


def test_show_capture_no_hides_the_section(recorded: Project) -> None:
    """Who asks pytest for no sections gets none."""
    screen, _ = failing(recorded, "--show-capture=no")
    assert prompts_in(screen) == 0


def test_an_unknown_place_is_a_usage_error(project: Project) -> None:
    """The value is checked at the start."""
    result = project.facts("base", "-o", "calibration_item_text=everywhere")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*calibration_item_text must be one of terminal, none, reports, got 'everywhere'."]
    )
