"""What a release checks and prepares: ``python .github/release.py check v1.2.0``.

``check TAG``: the tag, the version, the changelog and CITATION.cff agree.
``notes TAG``: print the section of the changelog.
``links URL TAG``: make the links of README.md absolute, for PyPI, and name the project's pages.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

# A link or an image of Markdown or HTML that leads to a file of the repository.
_RELATIVE = r"(?![a-z][a-z0-9+.-]*:|#|/)"
_LINK = re.compile(rf"(?<=\]\(){_RELATIVE}([^)\s]+)")
_IMAGE = re.compile(rf'(?<=src="){_RELATIVE}([^"]+)|(?<=!\[)([^]]*\]\(){_RELATIVE}([^)\s]+)')


def section(changelog: str, version: str) -> tuple[str, str] | None:
    """Return date and text of a version's section; None where there is none."""
    heads = list(re.finditer(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", changelog, re.MULTILINE))
    for head, after in zip(heads, [*heads[1:], None], strict=True):
        if head[1] == version:
            text = changelog[head.end() : after.start() if after else len(changelog)]
            return head[2] or "", text.strip()
    return None


def problems(root: Path, tag: str) -> Iterator[str]:
    """Yield what keeps a tag from being a release, one sentence each."""

    def read(name: str) -> str:
        return (root / name).read_text("utf-8")

    found = re.search(r'^__version__ = "(.+)"$', read("pytest_calibration/version.py"), re.M)
    version = found[1] if found else ""
    if tag != f"v{version}":
        yield f"the tag is {tag}, and pytest_calibration/version.py says {version}."
    here = section(read("CHANGELOG.md"), version)
    if here is None:
        yield f"CHANGELOG.md has no section `## [{version}] - YYYY-MM-DD`."
    elif not here[0] or not here[1]:
        yield f"the section of {version} in CHANGELOG.md has no {'text' if here[0] else 'date'}."
    cited = dict(re.findall(r"^(version|date-released): (\S+)$", read("CITATION.cff"), re.M))
    if cited.get("version") != version:
        yield f"CITATION.cff has version {cited.get('version')}, expected {version}."
    if here is not None and cited.get("date-released") != here[0]:
        got = cited.get("date-released", "no date-released")
        yield f"CITATION.cff has {got}, and CHANGELOG.md {here[0] or 'no date'}."


def absolute(readme: str, url: str, tag: str) -> str:
    """Return a README whose links and images lead to the files of a tag of a GitHub repository."""
    raw = url.replace("https://github.com/", "https://raw.githubusercontent.com/")

    def image(found: re.Match[str]) -> str:
        return f"{raw}/{tag}/{found[1]}" if found[1] else f"{found[2]}{raw}/{tag}/{found[3]}"

    return _LINK.sub(rf"{url}/blob/{tag}/\1", _IMAGE.sub(image, readme))


def with_urls(pyproject: str, url: str) -> str:
    """Return pyproject.toml with the pages of a GitHub repository."""
    owner, name = url.removeprefix("https://github.com/").split("/")
    pages = {
        "Homepage": url,
        "Documentation": f"https://{owner.lower()}.github.io/{name}/",
        "Changelog": f"{url}/blob/main/CHANGELOG.md",
        "Issues": f"{url}/issues",
    }
    table = "".join(f'{label} = "{page}"\n' for label, page in pages.items())
    return pyproject.replace(
        "[project.scripts]\n", f"[project.urls]\n{table}\n[project.scripts]\n", 1
    )


def prepare(root: Path, url: str, tag: str) -> None:
    """Rewrite README.md and pyproject.toml of a checkout that is built for PyPI."""
    readme, pyproject = root / "README.md", root / "pyproject.toml"
    readme.write_text(absolute(readme.read_text("utf-8"), url, tag), "utf-8")
    pyproject.write_text(with_urls(pyproject.read_text("utf-8"), url), "utf-8")


def main(arguments: list[str], root: Path = Path()) -> int:
    """Do what the first argument says; 1 where a check fails, 2 for wrong usage."""
    match arguments:
        case ["check", tag]:
            found = list(problems(root, tag))
            print("\n".join(found) or f"{tag} can be released.")
            return 1 if found else 0
        case ["notes", tag]:
            here = section((root / "CHANGELOG.md").read_text("utf-8"), tag.removeprefix("v"))
            print(here[1] if here else "")
            return 0
        case ["links", url, tag] if re.fullmatch(r"https://github\.com/[^/]+/[^/]+", url):
            prepare(root, url, tag)
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
