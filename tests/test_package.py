"""What is published: built from the tracked files, looked into, installed and run elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from pytest_calibration import __version__

pytestmark = pytest.mark.package

ROOT = Path(__file__).parent.parent
URL = "https://github.com/somebody/pytest-calibration"
NAME = f"pytest_calibration-{__version__}"
# Bytes: PyPI shows them, and every CI job of a user downloads the wheel.
MOST_OF_A_WHEEL, MOST_OF_AN_SDIST = 1_500_000, 3_000_000


def run(*command: object, cwd: Path, **variables: str) -> str:
    """Run a program and return what it printed; it must succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def tracked(*under: str) -> set[str]:
    """The files that git knows below these paths."""
    return set(run("git", "ls-files", "-z", *under, cwd=ROOT).split("\0")) - {""}


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source distribution and the wheel made from it, as the release workflow builds them."""
    checkout = tmp_path_factory.mktemp("checkout")
    for name in tracked():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    run(sys.executable, ".github/release.py", "links", URL, f"v{__version__}", cwd=checkout)
    run(sys.executable, "-m", "build", "--no-isolation", cwd=checkout)
    return checkout / "dist"


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    """The wheel."""
    (path,) = dist.glob("*.whl")
    return path


def contents(archive: Path) -> dict[str, bytes]:
    """Every file of a wheel with its content."""
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Every tracked file of the package, byte for byte, and the metadata; not one file more."""
    held = contents(wheel)
    metadata = {
        f"{NAME}.dist-info/{name}"
        for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    }
    package = tracked("pytest_calibration")
    assert set(held) == package | metadata
    assert {name for name in package if held[name] != (ROOT / name).read_bytes()} == set()
    kinds = {Path(name).suffix or Path(name).name for name in package}
    # Templates, items of the built-in probes, presets, the schema, and the mark of typed packages.
    assert {".py", ".jinja", ".jsonl", ".yaml", ".json", ".typed"} <= kinds
    assert wheel.stat().st_size < MOST_OF_A_WHEEL


def test_the_sdist_holds_what_is_tracked(dist: Path) -> None:
    """The package, its tests and what both need; no cache, no editor's file, no secret."""
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as opened:
        held = {one.name.removeprefix(f"{NAME}/") for one in opened if one.isfile()}
    expected = tracked(
        *("pytest_calibration", "tests", "lock", "README.md", "CHANGELOG.md", "LICENSE"),
        *("CITATION.cff", "tox.ini", "pyproject.toml", ".gitignore"),
    )
    assert held == expected | {"PKG-INFO"}
    assert path.stat().st_size < MOST_OF_AN_SDIST


def test_the_tree_and_the_sdist_build_the_same_wheel(
    dist: Path, wheel: Path, tmp_path: Path
) -> None:
    """A wheel built straight from the checkout has the same files with the same bytes."""
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "-o", tmp_path, cwd=dist.parent)
    (straight,) = tmp_path.glob("*.whl")
    assert contents(straight) == contents(wheel)


def test_pypi_takes_it(dist: Path, wheel: Path) -> None:
    """Twine finds nothing to warn of, and the page on PyPI has no dead link and no dead picture."""
    files = sorted(dist.iterdir())
    said = run(sys.executable, "-m", "twine", "check", "--strict", *files, cwd=dist)
    assert said.count("PASSED") == len(files) == 2
    metadata = contents(wheel)[f"{NAME}.dist-info/METADATA"].decode("utf-8")
    head, _, text = metadata.partition("\n\n")
    assert f"Version: {__version__}" in head.splitlines()
    assert "License-Expression: Apache-2.0" in head.splitlines()
    assert f"Project-URL: Homepage, {URL}" in head.splitlines()
    page = rendered(text)
    links = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert len(links) > 20
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    assert f'src="{URL.replace("github.com", "raw.githubusercontent.com")}' in page


def rendered(text: str) -> str:
    """The README as PyPI shows it."""
    from readme_renderer.markdown import render

    page = render(text)
    assert page is not None
    return str(page)


def test_the_wheel_runs_where_nothing_else_is(wheel: Path, tmp_path: Path) -> None:
    """In a new environment, offline, away from the repository: init, record, pass, regress."""
    environment, project, store = tmp_path / "env", tmp_path / "project", tmp_path / "wheels"
    project.mkdir()
    run(sys.executable, "-m", "pip", "wheel", "-q", "-w", store, wheel, cwd=tmp_path)
    run(sys.executable, "-m", "venv", environment, cwd=tmp_path)
    bin_folder = environment / ("Scripts" if os.name == "nt" else "bin")
    # What the machine has set for pip or Python must not help.
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(store), "PYTHONPATH": "", "CI": ""}
    offline |= {"PIP_CONFIG_FILE": os.devnull, "HOME": str(tmp_path), "GITHUB_ACTIONS": ""}
    offline |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "", "PYTEST_ADDOPTS": ""}
    run(bin_folder / "python", "-m", "pip", "install", "-q", wheel, cwd=project, **offline)
    command = bin_folder / "pytest-calibration"
    assert (
        run(command, "--version", cwd=project, **offline) == f"pytest-calibration {__version__}\n"
    )

    def predict(shift: float) -> None:
        # Confidences 0.5 to 0.9, as many right as they say.
        rows = [
            f"{i},{0.5 + 0.1 * (i % 5) + shift:.2f},{int(i // 5 % 10 < 5 + i % 5)}"
            for i in range(2000)
        ]
        (project / "predictions.csv").write_text("\n".join(["id,confidence,correct", *rows]))

    predict(0)
    assert "wrote tests/test_calibration.py" in run(command, "init", cwd=project, **offline)
    test = (bin_folder / "python", "-m", "pytest", "tests/test_calibration.py")
    assert "1 recorded" in run(*test, "--calibration-record", cwd=project, **offline)
    reports = [f"--calibration-report=report.{end}" for end in ("html", "md", "json", "txt")]
    assert "1 passed" in run(*test, *reports, cwd=project, **offline)
    assert all((project / f"report.{end}").stat().st_size for end in ("html", "md", "json", "txt"))
    predict(0.08)
    with pytest.raises(AssertionError, match=r"calibration regressed: (?s:.)*1 regressed"):
        run(*test, cwd=project, **offline)
    # The suite of the package finds its items and its templates.
    listed = run(
        bin_folder / "python", "-m", "pytest", "--calibration-list", cwd=project, **offline
    )
    assert "2,315" in listed
