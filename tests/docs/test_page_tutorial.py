"""The tutorial, from an empty folder to the accepted change, as a reader types it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
from documents import ROOT, Block, Section, agrees, put_files, typed

pytestmark = [pytest.mark.docs, pytest.mark.torch]


class Reader:
    """Who types what the page shows, and looks whether the same comes out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if "PYTEST" not in name},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            "XDG_CACHE_HOME": str(folder / "cache"),
            "COLUMNS": "100",
            "HF_HUB_OFFLINE": "1",
        }

    def read(self, some: Iterable[Block]) -> None:
        """Write files and type commands, in order; numbers depend on the processor."""
        for block in some:
            if put_files(self.folder, [block]):
                continue
            for words, shown in typed(block):
                printed = self.type(words)
                assert agrees(shown, printed, numbers=False), f"{words}\n{shown}\n---\n{printed}"

    def type(self, words: list[str]) -> str:
        """Run a command and return what it prints."""
        if words[:2] == ["pip", "install"]:
            assert words[2:] == ["pytest-calibration[hf]"]
            assert "hf" in (metadata.metadata("pytest-calibration").get_all("Provides-Extra") or ())
            return ""
        words = [sys.executable, *words[1:]] if words[0] == "python" else words
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout


def test_a_reader_sees_what_the_page_shows(section: Section, tmp_path: Path) -> None:
    """From the first command to the last, in one folder; where a run fails, the page says so."""
    reader = Reader(tmp_path)
    reader.read(section("docs/tutorial.md", ""))
    reader.read(section("docs/tutorial.md", "A model to test"))
    reader.read(section("docs/tutorial.md", "The first verdict"))
    reader.read(section("docs/tutorial.md", "A baseline"))
    reader.read(section("docs/tutorial.md", "A change that looks harmless"))
    reader.read(section("docs/tutorial.md", "Mend it"))
    text = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
    assert "Take the line `model:` out again" in text
    settings = tmp_path / "calibration.yaml"
    kept = [line for line in settings.read_text("utf-8").splitlines() if "model:" not in line]
    settings.write_text("\n".join(kept), "utf-8")
    reader.read(section("docs/tutorial.md", "Or accept it"))
