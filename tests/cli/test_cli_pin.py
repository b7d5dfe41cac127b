"""``pytest-calibration pin``: commits of public data sets, written into the user's own file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_calibration.errors import ConfigError, ItemError
from pytest_calibration.items.dataset import Dataset
from pytest_calibration.strict_yaml import read_mapping

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """A hub that knows one commit of everything, and what it was asked."""
    asked: list[tuple[str, str | None]] = []

    def commit(dataset: Dataset, revision: str | None) -> str:
        asked.append((dataset.id, revision))
        return COMMIT

    monkeypatch.setattr(Dataset, "commit_on_hub", commit)
    return asked


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the configuration is looked for."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "calibration.yaml"


# What stands in the file, and after it was pinned; X is the commit.
EDITS = [
    # A preset by its name.
    ("probes:\n  mmlu: {limit: 500}  # few\n",
     "probes:\n  mmlu: {limit: 500, dataset: {revision: X}}  # few\n"),
    ("probes: {mmlu: {}}\n", "probes: {mmlu: {dataset: {revision: X}}}\n"),
    ("probes:\n  mmlu:\n", "probes:\n  mmlu: {dataset: {revision: X}}\n"),
    ("probes:\n  mmlu:   # all of it\n  facts: {}\n",
     "probes:\n  mmlu: {dataset: {revision: X}}   # all of it\n  facts: {}\n"),
    ("probes:\n  mmlu: null\n", "probes:\n  mmlu: {dataset: {revision: X}}\n"),
    ("probes:\n  mmlu:\n    limit: 500   # few\n    # and calm\n\ntolerance: 0.05\n",
     "probes:\n  mmlu:\n    limit: 500   # few\n    dataset: {revision: X}\n    # and calm\n\n"
     "tolerance: 0.05\n"),
    ("probes:\n  mmlu:\n    limit: 500", "probes:\n  mmlu:\n    limit: 500\n"
     "    dataset: {revision: X}\n"),
    # One of the user's own.
    ("probes:\n  mine:\n    kind: facts\n    dataset:\n      id: a/b\n      split: test\n"
     "      columns:\n        prompt: q\n        answer: a\n",
     "probes:\n  mine:\n    kind: facts\n    dataset:\n      id: a/b\n      split: test\n"
     "      revision: X\n      columns:\n        prompt: q\n        answer: a\n"),
    ("probes:\n  mine: {kind: facts, dataset: {id: a/b, split: test}}\n",
     "probes:\n  mine: {kind: facts, dataset: {id: a/b, split: test, revision: X}}\n"),
    ("probes:\n  mine: {kind: facts, dataset: {id: a/b, split: test, revision: main}} # ok\n",
     "probes:\n  mine: {kind: facts, dataset: {id: a/b, split: test, revision: X}} # ok\n"),
    ('{"probes": {"mine": {"kind": "facts", "dataset": {"id": "a/b", "split": "test"}}}}',
     '{"probes": {"mine": {"kind": "facts", "dataset": {"id": "a/b", "split": "test", '
     'revision: X}}}}'),
    ("probes:\r\n  mine:\r\n    kind: facts\r\n    dataset:\r\n      id: a/b\r\n"
     "      split: test\r\n",
     "probes:\r\n  mine:\r\n    kind: facts\r\n    dataset:\r\n      id: a/b\r\n"
     "      split: test\r\n      revision: X\r\n"),
    # Other keys are no single lines.
    ("probes:\n  mmlu:\n    header: |\n      Questions.\n\n  facts: {}\n",
     "probes:\n  mmlu:\n    dataset: {revision: X}\n    header: |\n      Questions.\n\n"
     "  facts: {}\n"),
    ("probes:\n  mmlu:\n    header: |\n      Questions.\n\n    chat: {a: 1}  # so\n",
     "probes:\n  mmlu:\n    header: |\n      Questions.\n\n    chat: {a: 1}  # so\n"
     "    dataset: {revision: X}\n"),
    ("presets:\n  hard: {preset: mmlu, dataset: {config: anatomy}}\n",
     "presets:\n  hard: {preset: mmlu, dataset: {config: anatomy, revision: X}}\n"),
    ("\ufeff# é\nprobes: {é: {preset: mmlu}}\n",
     "\ufeff# é\nprobes: {é: {preset: mmlu, dataset: {revision: X}}}\n"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), EDITS)
def test_only_the_revision_changes(command, hub, file: Path, before: str, after: str) -> None:
    """Comments, order, layout, line ends and byte order mark of the user's file stay."""
    file.write_bytes(before.encode())
    result = command("pin")
    assert (result.code, result.err) == (0, "")
    assert file.read_bytes().decode() == after.replace("X", COMMIT)
    assert f" pinned at {COMMIT}" in result.out
    # What is pinned is left alone, until it is asked for.
    asked = len(hub)
    again = command("pin")
    assert f" is pinned at {COMMIT}" in again.out
    assert len(hub) == asked


def test_a_preset_that_is_not_in_the_file_is_added(command, hub, file: Path) -> None:
    """It goes under ``presets:``, so that what runs by default stays; without a file, into one."""
    assert command("pin", "mmlu").code == 0
    assert file.read_text() == f"presets:\n  mmlu: {{dataset: {{revision: {COMMIT}}}}}\n"
    file.write_text("tolerance: 0.1")
    assert command("pin", "sciq").code == 0
    expected = f"tolerance: 0.1\npresets:\n  sciq: {{dataset: {{revision: {COMMIT}}}}}\n"
    assert file.read_text() == expected
    assert hub == [("cais/mmlu", None), ("allenai/sciq", None)]


def test_a_branch_is_resolved_and_a_commit_moved_only_if_asked(command, hub, file: Path) -> None:
    """What is written is asked for, and with --update what is newest."""
    file.write_text("probes: {a: {preset: sciq, dataset: {revision: v1}}}\n")
    assert command("pin").code == 0
    assert hub == [("allenai/sciq", "v1")]
    file.write_text(file.read_text().replace(COMMIT, OTHER))
    assert "is pinned at" in command("pin", "a").out
    assert command("pin", "--update").code == 0
    assert COMMIT in file.read_text()
    assert hub == [("allenai/sciq", "v1"), ("allenai/sciq", None)]


def test_a_data_set_is_asked_for_once(command, hub, file: Path) -> None:
    """Two probes on one data set get the same commit."""
    file.write_text(
        "probes:\n  arc_easy: {}\n  arc_challenge: {}\n  mine: {kind: facts}\n"
        "presets:\n  arc_easy: {shots: 3}\n"
    )
    assert len(command("pin").lines) == 2
    assert hub == [("allenai/ai2_arc", None)]
    assert file.read_text().count(COMMIT) == 2


@pytest.mark.parametrize(
    "text",
    [
        "probes:\n  a: &a {preset: mmlu}\n  b: *a\n",
        "presets:\n  a: &a {preset: mmlu, dataset: &d {config: x}}\nprobes:\n  b:\n"
        "    preset: sciq\n    dataset: *d\n",
    ],
)
def test_what_others_share_is_not_changed(command, hub, file: Path, text: str) -> None:
    """Where an alias stands for the mapping, the file stays and the message says what to write."""
    file.write_text(text)
    result = command("pin")
    assert result.code == 2
    assert "cannot be set without changing more of the file; write revision: " in result.err
    assert file.read_text() == text


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("probes: {facts: {limit: 5}}\n", (), "no probe here reads a data set of the hub; name a"),
        ("", (), "no probe here reads a data set of the hub"),
        ("", ("mmlo",), "no probe or preset is called 'mmlo' (did you mean 'mmlu'?); known: mmlu"),
        ("probes: {f: {kind: facts}}\n", ("f",), "probes.f reads no data set; there is no commit"),
        (
            "probes: {mmlu: {dataset: {path: x}}}\n",
            ("mmlu",),
            "probes.mmlu reads a copy of a data set, at its path; there is no commit to pin",
        ),
        ("probes: {m: {preset: mlu}}\n", (), "unknown preset 'mlu' (did you mean 'mmlu'?)"),
    ],
)
def test_what_cannot_be_pinned_is_told(
    command, hub, file: Path, text: str, arguments: tuple[str, ...], message: str
) -> None:
    """One sentence, and the file stays as it is."""
    file.write_text(text)
    result = command("pin", *arguments)
    assert result.code == 2
    assert message in result.err
    assert file.read_text() == text
    assert hub == []


def test_nothing_is_written_where_one_cannot_be_resolved(
    command, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All commits are known before the file is touched."""

    def commit(dataset: Dataset, revision: str | None) -> str:
        if dataset.id == "allenai/sciq":
            raise ItemError("allenai/sciq: the hub cannot be asked.")
        return COMMIT

    monkeypatch.setattr(Dataset, "commit_on_hub", commit)
    text = "probes: {mmlu: {}, sciq: {}}\n"
    file.write_text(text)
    assert command("pin").code == 2
    assert file.read_text() == text


def test_a_file_that_cannot_be_written_is_told(
    command, hub, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names it."""
    from pytest_calibration import files

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "write_atomically", refuse)
    file.write_text("probes: {mmlu: {}}\n")
    result = command("pin")
    assert result.code == 2
    assert "calibration.yaml: cannot be written (Permission denied)" in result.err


def test_a_commit_that_looks_like_a_number_stays_text(
    command, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty digits, or digits around an e, are quoted."""
    for commit in ("1" * 40, "1e" + "2" * 38):
        monkeypatch.setattr(Dataset, "commit_on_hub", lambda *_, commit=commit: commit)
        file.write_text("probes: {mmlu: {}}\n")
        assert command("pin").code == 0
        read = read_mapping(file, ConfigError)
        assert read["probes"]["mmlu"]["dataset"]["revision"] == commit


def test_a_branch_stays_the_branch_that_is_asked_for(command, hub, file: Path) -> None:
    """``--update`` leaves it to the newest commit of that branch, not of another one."""
    file.write_text("probes: {a: {preset: sciq, dataset: {revision: refs/convert/parquet}}}\n")
    assert command("pin", "--update").code == 0
    assert hub == [("allenai/sciq", "refs/convert/parquet")]
