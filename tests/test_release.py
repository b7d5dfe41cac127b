"""What a release checks before it is built, and how its README is made for PyPI."""

from __future__ import annotations

import re
import shutil
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from pytest_calibration import __version__

ROOT = Path(__file__).parent.parent
URL = "https://github.com/somebody/pytest-calibration"
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n## [{0}] - 2026-12-01\n\n- First.\n\n## [0.0.1]\n"


@pytest.fixture(scope="module")
def release() -> ModuleType:
    """The program of the workflow."""
    spec = spec_from_file_location("release", ROOT / ".github/release.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files of a release that is complete."""
    (tmp_path / "pytest_calibration").mkdir()
    for name in ("pytest_calibration/version.py", "CITATION.cff", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG.format(__version__), "utf-8")
    edit(tmp_path / "CITATION.cff", r"^(version: .*)$", r"\1\ndate-released: 2026-12-01")
    return tmp_path


def edit(path: Path, pattern: str, new: str) -> None:
    """Replace the one place where a pattern is found."""
    text, count = re.subn(pattern, new, path.read_text("utf-8"), flags=re.MULTILINE)
    assert count == 1
    path.write_text(text, "utf-8")


def test_a_complete_release_is_let_through(
    release: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tag, version, changelog and citation agree; the notes are the section alone."""
    assert release.main(["check", f"v{__version__}"], checkout) == 0
    assert release.main(["notes", f"v{__version__}"], checkout) == 0
    assert capsys.readouterr().out == f"v{__version__} can be released.\n- First.\n"


@pytest.mark.parametrize(
    ("tag", "file", "pattern", "new", "message"),
    [
        ("v9.9.9", "README.md", r"\A", "", "the tag is v9.9.9, and .* says"),
        (__version__, "README.md", r"\A", "", "the tag is"),
        ("", "CHANGELOG.md", r" - 2026.*$", "", "has no date"),
        ("", "CHANGELOG.md", r"^- First\.$", "", "has no text"),
        ("", "CHANGELOG.md", rf"\[{__version__}\]", "[0.0.2]", "has no section"),
        ("", "CITATION.cff", r"^version: .*$", "version: 0.0.2", "CITATION.cff has version 0.0.2"),
        (
            "",
            "CITATION.cff",
            r"^date-released: .*$",
            "date-released: 2020-01-01",
            "2020-01-01, and",
        ),
        ("", "CITATION.cff", r"^date-released: .*\n", "", "has no date-released, and"),
    ],
)
def test_what_does_not_agree_stops_a_release(
    release: ModuleType,
    checkout: Path,
    capsys: pytest.CaptureFixture[str],
    tag: str,
    file: str,
    pattern: str,
    new: str,
    message: str,
) -> None:
    """Each disagreement is one sentence, and exit code 1."""
    edit(checkout / file, pattern, new)
    assert release.main(["check", tag or f"v{__version__}"], checkout) == 1
    assert re.search(message, capsys.readouterr().out)


def test_wrong_usage_says_what_there_is(
    release: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and the usage."""
    assert release.main(["links", "https://example.org", "v1"]) == 2
    assert "check TAG" in capsys.readouterr().err


def test_the_readme_of_a_release_has_no_relative_link(release: ModuleType, checkout: Path) -> None:
    """Every link and picture is absolute, and leads to a file that the repository holds."""
    relative = set(
        re.findall(r'(?:\]\(|src=")(?![a-z]+:|#)([^)"#]+)', (ROOT / "README.md").read_text("utf-8"))
    )
    assert relative
    assert [name for name in relative if not (ROOT / name).exists()] == []
    assert release.main(["links", URL, "v1.0.0"], checkout) == 0
    text = (checkout / "README.md").read_text("utf-8")
    assert not re.findall(r'(?:\]\(|src=")(?!https://|#)[^)"]*', text)
    for name in relative:
        assert re.search(
            rf"https://(github\.com|raw\.githubusercontent\.com)/somebody/pytest-calibration/"
            rf"(blob/)?v1\.0\.0/{re.escape(name)}",
            text,
        )
    assert (
        "https://raw.githubusercontent.com/somebody/pytest-calibration/v1.0.0/docs/failure.svg"
        in text
    )


def test_the_pages_of_a_release_are_named(release: ModuleType, checkout: Path) -> None:
    """pyproject.toml names them, and says nothing else than before."""
    import tomllib

    before = tomllib.loads((checkout / "pyproject.toml").read_text("utf-8"))
    release.main(["links", URL, "v1.0.0"], checkout)
    after = tomllib.loads((checkout / "pyproject.toml").read_text("utf-8"))
    urls = after["project"].pop("urls")
    assert after == before
    assert urls["Documentation"] == "https://somebody.github.io/pytest-calibration/"
    assert {*urls} == {"Homepage", "Documentation", "Changelog", "Issues"}
