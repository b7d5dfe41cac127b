"""The blocks of the page on servers, asked of a stub that answers with a tiny checkpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints import bpe, new_model, save
from console import Console
from documents import Block, Section, put_files

pytest.importorskip("torch")
pytest.importorskip("httpx")
pytest.importorskip("tenacity")

from stub_server import MODEL, Stub, serving

pytestmark = [pytest.mark.docs, pytest.mark.torch]


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stub]:
    """A running server."""
    folder = tmp_path_factory.mktemp("served")
    model = new_model("llama", max_position_embeddings=512)
    with serving(save(folder, model, bpe())) as one:
        yield one


@pytest.fixture(autouse=True)
def items(folder: Path, gate: Path) -> Path:
    """A probe of 120 questions."""
    rows = [
        {"question": f"Which comes after {i}?", "options": [f"{i + 1}", "Rome"], "answer": 0}
        for i in range(120)
    ]
    (folder / "mcq.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    config = folder / "calibration.yaml"
    config.write_text("probes: {mcq: {kind: multiple_choice, path: mcq.jsonl}}\n", "utf-8")
    return config


def at(stub: Stub, block: Block) -> Block:
    """Return a block whose server is this one."""
    text = re.sub(r"http://host:8000/v1(#[\w/-]+)?", f"{stub.address}#{MODEL}", block.text)
    assert stub.address in text
    return Block(block.language, text)


def test_asked(section: Section, folder: Path, console: Console, stub: Stub, items: Path) -> None:
    """What is installed, how the server starts, what is recorded and compared, and how fast."""
    (commands,) = section("docs/how-to/servers.md", "Ask a server")
    (faster,) = section("docs/how-to/servers.md", "Faster")
    probes = items.read_text("utf-8")
    assert put_files(folder, [faster]) == [items.name]
    items.write_text(items.read_text("utf-8") + probes, "utf-8")
    started: list[list[str]] = []
    block = at(stub, commands)
    said = console.type(block, process=True, instead={"vllm": started.append})
    assert started == [["serve", "org/model-70b", "--port", "8000"]]
    assert "1 recorded" in said[-2]
    assert "1 passed" in said[-1]
    assert stub.completions


def test_a_key(
    section: Section, console: Console, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sent from the variable that the page names, and printed nowhere."""
    (command,) = section("docs/how-to/servers.md", "A key, a proxy")
    name, _, key = command.text.split()[1].partition("=")
    monkeypatch.setenv(name, key)
    stub.headers.clear()
    (said,) = console.type(at(stub, command), [1], process=True)
    assert "no baseline" in said
    assert {one["authorization"] for one in stub.headers} == {f"Bearer {key}"}
    assert key not in said
