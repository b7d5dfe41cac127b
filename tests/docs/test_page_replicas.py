"""The blocks of the page on replicas: two of a tiny checkpoint, on Ray clusters of this machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints import bpe, new_model, save
from console import Console
from documents import Block, Section, put_files

pytest.importorskip("torch")

pytestmark = pytest.mark.torch
PROBES = "probes: {facts: {limit: 150}}\n"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, made before pytester notes which modules there are."""
    return save(tmp_path_factory.mktemp("saved"), new_model("llama"), bpe())


@pytest.fixture(autouse=True)
def project(checkpoint: Path, folder: Path, gate: Path) -> None:
    """The checkpoint as ``runs/sft``, and a probe of a few facts."""
    (folder / "calibration.yaml").write_text(PROBES, "utf-8")
    shutil.copytree(checkpoint, folder / "runs" / "sft")


def two(block: Block) -> Block:
    """Return a block that asks for two replicas, as this machine may have no more cores."""
    text = re.sub("--calibration-replicas=[48]", "--calibration-replicas=2", block.text)
    assert text != block.text
    return Block(block.language, text)


@pytest.fixture
def ray_command() -> Iterator[list[str]]:
    """The command of Ray; whatever it has started ends."""
    pytest.importorskip("ray")
    command = [str(Path(sys.executable).with_name("ray"))]
    yield command
    subprocess.run([*command, "stop"], check=False, capture_output=True)


@pytest.mark.ray
def test_on_this_machine(section: Section, console: Console) -> None:
    """Both replicas answer, and what they say is recorded."""
    (commands,) = section("docs/how-to/replicas.md", "On this machine")
    *_, said = console.type(two(commands), process=True, add=["--calibration-record"])
    assert "1 recorded" in said
    assert "by 2 replicas on 1 machine" in said


@pytest.mark.ray
def test_on_a_cluster(
    section: Section,
    folder: Path,
    console: Console,
    monkeypatch: pytest.MonkeyPatch,
    ray_command: list[str],
) -> None:
    """One that was started by the page's command, at its own port."""
    (commands,) = section("docs/how-to/replicas.md", "On several machines")
    shared = folder / "shared"
    shutil.copytree(folder / "runs", shared / "runs")
    text = two(commands).text.replace("/shared/", f"{shared}/")
    started = []

    def ray(arguments: list[str]) -> None:
        started.append(arguments)
        # The second would be another machine.
        if arguments == ["start", "--head"]:
            more = ["--num-cpus=2", "--include-dashboard=false"]
            subprocess.run([*ray_command, *arguments, *more], check=True, capture_output=True)

    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    *_, said = console.type(
        Block("console", text), process=True, add=["--calibration-record"], instead={"ray": ray}
    )
    assert started == [["start", "--head"], ["start", "--address=head:6379"]]
    assert "1 recorded" in said


@pytest.mark.docs
def test_wide_models(section: Section, folder: Path, console: Console) -> None:
    """The map of accelerate is read, of places that are here: no GPUs, a folder of this test."""
    pytest.importorskip("accelerate")
    (config,) = section("docs/how-to/replicas.md", "Models wider than one GPU")
    text = config.text.replace("0: 70GiB, 1: 70GiB, ", "").replace("/scratch/", f"{folder}/")
    put_files(folder, [Block("yaml", f"{text}{PROBES}")])
    command = Block("console", "$ pytest --calibration-model=runs/sft --calibration-record")
    (said,) = console.type(command, process=True)
    assert "1 recorded" in said
