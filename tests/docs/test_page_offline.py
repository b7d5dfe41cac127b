"""The blocks of the page on runs without a network, on a small checkpoint with random weights."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from checkpoints import bpe, new_model, save
from console import Console
from documents import Section, blocks, put_files, typed

from pytest_calibration.cli import main

pytest.importorskip("torch")
pytest.importorskip("transformers")

PAGE = "docs/how-to/offline.md"
pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-NeoX that knows nothing."""
    return save(tmp_path_factory.mktemp("neox"), new_model("gpt_neox"), bpe())


@pytest.fixture
def project(folder: Path, gate: Path, checkpoint: Path, pytester: pytest.Pytester) -> Path:
    """What the page fetches, and a record of it."""
    put_files(folder, blocks(PAGE, "Before"))
    shutil.copytree(checkpoint, folder / "runs" / "model-7b")
    rows = (
        {"question": f"The city of {i} is", "options": ["Oslo", "Bern"], "answer": i % 2}
        for i in range(200)
    )
    (folder / "data").mkdir()
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    (folder / "data" / "trivia.jsonl").write_text(lines, "utf-8")
    args = ("--calibration-model=runs/model-7b", "--calibration-record")
    assert pytester.runpytest_inprocess(*args).ret == 0
    return folder


def test_what_is_fetched_and_used(section: Section, project: Path, console: Console) -> None:
    """What is fetched before is what is named then; the gate passes without a network."""
    before, items = section("docs/how-to/offline.md", "Before")
    assert put_files(project, [items]) == ["calibration.yaml"]
    fetched = {words[0]: words[1:] for words, _ in typed(before)}
    assert set(fetched) == {"pip", "hf", "python"}
    compile(fetched["python"][1], "-c", "exec")
    assert re.fullmatch(r"[0-9a-f]{7,40}", fetched["hf"][fetched["hf"].index("--revision") + 1])
    assert (project / fetched["hf"][-1]).is_dir()
    (then,) = section("docs/how-to/offline.md", "Then")

    def pip(args: list[str]) -> None:
        assert args == ["install", "--no-index", "--find-links", *fetched["pip"][2:]]

    console.type(then, instead={"pip": pip})


@pytest.mark.usefixtures("project")
def test_without_the_model(section: Section, console: Console) -> None:
    """A second run needs no weights, and a dump no model."""
    cached, dumped = section("docs/how-to/offline.md", "Without the model")
    console.type(cached)

    def check(args: list[str]) -> None:
        found = [str(path) for path in Path().glob(args[1])]
        assert len(found) == 1
        assert main([args[0], *found, *args[2:]]) == 0

    console.type(dumped, instead={"pytest-calibration": check})
