"""The blocks of the page on several packages: one repository, gated as a whole and in part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from console import Console
from documents import Section, blocks, put_files

PAGE = "docs/how-to/monorepo.md"


@pytest.fixture
def repository(folder: Path, gate: Path, fakes: None) -> Path:
    """The packages of the page, their tests, and a model that stands for every checkpoint."""
    (folder / "tests" / "conftest.py").rename(folder / "conftest.py")
    (folder / "tox.ini").unlink()
    put_files(folder, blocks(PAGE, "What lies where"))
    for package in ("search", "support"):
        test = folder / "packages" / package / "tests" / "test_calibration.py"
        test.parent.mkdir()
        test.write_text(gate.read_text("utf-8"), "utf-8")
    gate.unlink()
    rows = ({"question": f"{i}?", "options": ["a", "b"], "answer": 0} for i in range(400))
    path = folder / "packages/support/data/quiz.jsonl"
    path.parent.mkdir()
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return folder


def test_all_and_one(section: Section, repository: Path, console: Console) -> None:
    """The files that are listed come of the commands, which judge all packages or one."""
    tree, *files = section("docs/how-to/monorepo.md", "What lies where")
    assert [file.file for file in files] == [
        *(f"packages/{name}/calibration.yaml" for name in ("search", "support")),
        "pytest.ini",
    ]
    (commands,) = section("docs/how-to/monorepo.md", "All, or one")
    assert all(file.text for file in files)
    console.type(commands)
    assert all((repository / name).is_file() for name in tree.text.split())


def test_without_the_import_mode(repository: Path, pytester: pytest.Pytester) -> None:
    """Two test files of one name are refused by pytest itself, in the words of the page."""
    (repository / "pytest.ini").write_text("[pytest]\n", "utf-8")
    result = pytester.runpytest_inprocess("--calibration-model=runs/base")
    result.stdout.fnmatch_lines(["import file mismatch:"])


def test_a_model_for_each_package(
    section: Section, repository: Path, pytester: pytest.Pytester
) -> None:
    """Each package's fixture names its model; here the names of two folders."""
    (own,) = section("docs/how-to/monorepo.md", "A model for each package")
    (repository / "conftest.py").unlink()
    put_files(repository, [own])
    other = own.text.replace("support", "search")
    (repository / "packages/search/conftest.py").write_text(other, "utf-8")
    result = pytester.runpytest_inprocess()
    assert result.ret == 1
    for name in ("search", "support"):
        result.stdout.fnmatch_lines([f"*{repository}/runs/{name}*"])
