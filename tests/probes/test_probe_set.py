"""Names to probes: built-in ones, configured ones, added ones."""

from __future__ import annotations

import json
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_calibration import Facts, LmEvalTask, MultipleChoice, NextToken
from pytest_calibration.errors import ConfigError, ItemError, MissingExtra, UsageError
from pytest_calibration.probes.probe_set import (
    BUILTIN,
    GATE_SETTINGS,
    KINDS,
    from_settings,
    probe_set,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with rows of each kind."""
    for name, row in {
        "facts": {"prompt": "a", "answer": "b"},
        "multiple_choice": {"question": "a?", "options": ["x", "y"], "answer": 0},
        "next_token": {"text": "a b"},
    }.items():
        (tmp_path / f"{name}.jsonl").write_text(f"{json.dumps(row)}\n" * 3, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "made"),
    [("facts", Facts), ("multiple_choice", MultipleChoice), ("next_token", NextToken)],
)
def test_an_entry_becomes_a_probe_of_its_kind(folder: Path, kind: str, made: type) -> None:
    """Kind and path, relative to the file's folder, make a probe; limits are the gate's."""
    settings = {"kind": kind, "path": f"{kind}.jsonl", "limit": 2, "tolerance": 0.1}
    probe = from_settings("mine", settings, folder, "here")
    assert type(probe) is made
    assert (probe.name, probe.kind, probe.size) == ("mine", kind, 3)


def test_every_setting_of_a_kind_can_be_written(folder: Path) -> None:
    """What Python takes, the file takes."""
    settings = {
        "kind": "multiple_choice",
        "path": "multiple_choice.jsonl",
        "shots": 0,
        "shots_path": str(folder / "multiple_choice.jsonl"),
        "scoring": "text",
        "header": "H ",
        "template": "T {question}",
        "delimiter": "",
        "chat": {"enable_thinking": False},
    }
    probe = from_settings("mine", settings, Path("/nowhere").parent / folder, "here")
    assert isinstance(probe, MultipleChoice)
    assert probe.prompt(probe.items[0]) == "H T a?"
    assert probe.prompting.delimiter == ""
    assert probe.prompting.variables == {"enable_thinking": False}
    whole = from_settings("f", {"kind": "facts", "mode": "whole_entity"}, folder, "here")
    assert isinstance(whole, Facts)
    assert whole.mode == "whole_entity"
    spoken = from_settings("f", {"kind": "facts", "chat": True, "delimiter": ""}, folder, "here")
    assert isinstance(spoken, Facts)
    assert (spoken.prompting.is_chat, spoken.prompting.delimiter) == (True, "")
    for positions in (3, "all"):
        tokens = from_settings("next_token", {"positions": positions}, folder, "here")
        assert isinstance(tokens, NextToken)
        assert tokens.positions == positions


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"kind must be one of next_token, facts, .*, and it is missing"),
        ({"kind": "fact"}, r"kind must be one of .*, got 'fact' \(did you mean 'facts'\?\);"),
        ({"kind": ["facts"]}, r"kind must be one of .*, got \['facts'\]"),
        ({"kind": "facts", "pth": "x"}, r"unknown setting 'pth' \(did you mean 'path'\?\); known"),
        (
            {"kind": "facts", "shots": 3},
            r"unknown setting 'shots'.*; known settings: kind, preset, ",
        ),
        ({"kind": "facts", "name": "x"}, r"unknown setting 'name'"),
        ({"kind": "facts", "path": 3}, r"path must be text, got 3"),
        ({"kind": "facts", "path": None}, r"path must be text, got None"),
        ({"kind": "facts", "mode": "half"}, r"mode must be one of first_token, whole_entity"),
        ({"kind": "multiple_choice", "shots": "3"}, r"shots must be a whole number, got '3'"),
        ({"kind": "multiple_choice", "shots": True}, r"shots must be a whole number, got True"),
        ({"kind": "multiple_choice", "shots": 10**6}, r"shots must lie between 0 and "),
        ({"kind": "multiple_choice", "scoring": "x"}, r"scoring must be one of letter, text"),
        ({"kind": "facts", "chat": "yes"}, r"chat must be true, false or .*, got 'yes'"),
        ({"kind": "facts", "chat": None}, r"chat must be true, false or .*, got None"),
        ({"kind": "facts", "delimiter": None}, r'delimiter must be text \("" for none\), got None'),
        ({"kind": "multiple_choice", "delimiter": False}, r"delimiter must be text .*, got False"),
        ({"kind": "next_token", "chat": True}, r"unknown setting 'chat'; known settings: kind, "),
        ({"kind": "multiple_choice", "template": "x"}, r"the template 'x' lacks \{question\}"),
        ({"kind": "next_token", "positions": 0}, r"positions must be at least 1 or 'all', got 0"),
        ({"kind": "next_token", "positions": "many"}, r"positions must be .*, got 'many'"),
        ({"kind": "next_token", "positions": False}, r"positions must be .*, got False"),
    ],
)
def test_a_bad_entry_is_told_by_where_it_stands(
    folder: Path, settings: dict[str, Any], message: str
) -> None:
    """File and key come first, then what is wrong."""
    with pytest.raises(ConfigError, match=rf"calibration\.yaml: probes\.mine: .*{message}"):
        from_settings("mine", settings, folder, "calibration.yaml: probes.mine")


def test_a_bad_row_is_told_by_its_own_file(folder: Path) -> None:
    """What is wrong in a row is a matter of that file, not of the configuration."""
    (folder / "facts.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(ItemError, match=r"facts\.jsonl, line 1: the key 'prompt' is missing"):
        from_settings("mine", {"kind": "facts", "path": "facts.jsonl"}, folder, "here")


def test_without_configuration_the_built_in_probes_run() -> None:
    """Each built-in probe is of the kind that it is named after."""
    probes = probe_set()
    assert probes.default == BUILTIN == tuple(probes)
    assert probes.select([]) == list(BUILTIN)
    assert set(BUILTIN) <= set(KINDS)


def test_configured_probes_are_the_default_and_built_in_ones_remain(folder: Path) -> None:
    """A project's own probes are what runs; the built-in ones can still be named."""
    configured = {"mine": {"kind": "facts", "path": "facts.jsonl"}, "facts": {"limit": 5}}
    probes = probe_set(configured, folder)
    assert probes.default == ("mine", "facts")
    assert list(probes) == [*BUILTIN, "mine"]
    assert probes.get("mine").size == 3
    assert isinstance(probes.get("facts"), Facts)


def test_selected_names_run_once_in_the_order_given() -> None:
    """A name given twice counts once."""
    probes = probe_set()
    assert probes.select(["facts", "next_token", "facts"]) == ["facts", "next_token"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("fact", r" \(did you mean 'facts'\?\)"), ("zzz", ""), ("next-token", ".*'next_token'")],
)
def test_an_unknown_name_is_answered_with_the_nearest_and_all(name: str, hint: str) -> None:
    """The message suggests a name where one is near, and lists every one there is."""
    message = rf"unknown probe '{name}'{hint}.*; known probes: next_token, facts, multiple_choice"
    for ask in (probe_set().get, lambda n: probe_set().select([n])):
        with pytest.raises(UsageError, match=message):
            ask(name)


def test_a_probe_is_built_when_it_is_first_asked_for_and_only_then(folder: Path) -> None:
    """A broken entry is an error only where it is run, and a probe is built once."""
    built: list[str] = []

    def factory() -> Facts:
        built.append("added")
        return Facts("added", path=folder / "facts.jsonl")

    probes = probe_set({"broken": {"kind": "?"}}, folder, added=[{"added": factory}])
    assert built == []
    assert probes.get("added") is probes.get("added")
    assert built == ["added"]
    with pytest.raises(ConfigError, match=r"calibration\.yaml: probes\.broken: kind must be"):
        probes.get("broken")


def test_two_packages_cannot_provide_one_name() -> None:
    """A name that is taken, by a built-in probe or another package, is refused by name."""

    def factory() -> NextToken:
        return NextToken()

    for added in ([{"facts": factory}], [{"new": factory}, {"new": factory}]):
        with pytest.raises(UsageError, match=r"two packages provide a probe named '(facts|new)'"):
            probe_set(added=added)


def test_the_name_of_a_task_of_lm_eval_is_a_probe() -> None:
    """It needs no entry, is built when first asked for, and is not run unless it is named."""
    probes = probe_set()
    assert "lm_eval:hellaswag" in probes
    assert probes.select(["lm_eval:hellaswag", "facts"]) == ["lm_eval:hellaswag", "facts"]
    assert "lm_eval:hellaswag" not in probes.default
    with pytest.raises(UsageError, match=r"did you mean 'lm_eval:hellaswag'\?"):
        probes.select(["lm-eval:hellaswag"])


def test_without_lm_eval_its_tasks_are_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When they are first asked for."""
    monkeypatch.setattr("pytest_calibration.extras.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r'pip install "pytest-calibration\[lm-eval\]"'):
        probe_set().get("lm_eval:hellaswag")


def test_a_setting_that_a_kind_needs_is_told(folder: Path) -> None:
    """A probe of a task of lm-eval is of no task without its name."""
    with pytest.raises(ConfigError, match=r"probes\.mine: the setting task is missing"):
        from_settings("mine", {"kind": "lm_eval"}, folder, "calibration.yaml: probes.mine")


def test_the_documented_entries_of_lm_eval_have_known_settings() -> None:
    """Each key of the block is an argument of the probe, or a setting of the gate."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "lm-eval.md"
    if not page.is_file():
        pytest.skip("the documentation is not beside these tests")
    _, _, rest = page.read_text("utf-8").partition("```yaml\n")
    entries = yaml.safe_load(rest.partition("```")[0])["probes"]
    known = {*signature(LmEvalTask).parameters, "kind", *GATE_SETTINGS}
    assert len(entries) == 3
    assert all(entry["kind"] == "lm_eval" and set(entry) <= known for entry in entries.values())
