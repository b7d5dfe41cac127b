"""The blocks of the page on public data sets, and of its reference."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import repositories
from console import Console
from documents import Block, Section, blocks, put_files
from fake_hub import COMMIT, serving

from pytest_calibration import extras
from pytest_calibration.config import read_config
from pytest_calibration.errors import ItemError, MissingExtra
from pytest_calibration.items.dataset import Dataset
from pytest_calibration.probes.presets import all_presets, full_settings, packaged
from pytest_calibration.probes.probe_set import from_settings

REFERENCE = "docs/reference/calibration-yaml.md"


def entries_are_known(folder: Path, config: Block) -> None:
    """Check that nothing but the library is missing for the probes of a file."""
    put_files(folder, [config])
    read = read_config(folder / "calibration.yaml")
    presets = all_presets(read.presets)
    for name, entry in (read.probes | read.presets).items():
        settings = full_settings(name, entry, presets, name)
        assert isinstance(Dataset.of(settings["dataset"], name), Dataset)
        with pytest.raises(MissingExtra):
            from_settings(name, entry, folder, name, presets)


def test_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of presets are known."""
    _, config = blocks("docs/how-to/data-sets.md", "By name")
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    entries_are_known(folder, config)


def test_ones_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of one's own data sets are known."""
    (config,) = blocks("docs/how-to/data-sets.md", "Your own data sets")
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    entries_are_known(folder, config)


def test_pinned(
    section: Section, folder: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's commit is written for what has none, for another preset, and anew."""
    (commands,) = section("docs/how-to/data-sets.md", "Pin the commits")
    config = folder / "calibration.yaml"
    config.write_text("probes: {mmlu: {limit: 2000}}\n", "utf-8")
    monkeypatch.setattr(Dataset, "commit_on_hub", lambda *_: "COMMIT")
    console.type(commands)
    read = read_config(config)
    assert read.probes["mmlu"]["dataset"] == {"revision": "COMMIT"}
    assert read.presets["sciq"]["dataset"] == {"revision": "COMMIT"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A hub that has what the page names; gives its address."""
    root = tmp_path_factory.mktemp("hub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repositories, "SUBJECTS", ("abstract_algebra", "anatomy"))
        repositories.mmlu(root / "cais" / "mmlu", 60)
    labelled = [
        repositories._labelled(f"Q{i}", f"Which {i}?", ["ice", "tea", f"{i}"], "ABC", "B")
        for i in range(60)
    ]
    arc = {
        **dict.fromkeys(("id", "question", "answerKey"), "string"),
        "choices": {"text": ["string"], "label": ["string"]},
    }
    repositories.write_repository(
        root / "allenai" / "ai2_arc",
        {"ARC-Challenge": {"train": labelled[:30], "test": labelled}},
        arc,
    )
    texts = [{"text": f"A review of no {i}, which is long enough."} for i in range(60)]
    repositories.write_repository(
        root / "me" / "reviews", {"default": {"test": texts}}, {"text": "string"}
    )
    columns = ("question", "right", "wrong_1", "wrong_2", "language")
    trivia = [
        {
            **{key: f" {key} {i} " for key in columns},
            "language": ("en", "de")[i % 2],
            "topic": i % 2,
        }
        for i in range(1200)
    ]
    repositories.write_repository(
        root / "me" / "trivia",
        {"default": {"validation": trivia}},
        {**dict.fromkeys(columns, "string"), "topic": ("history", "art")},
    )
    with serving(root) as address:
        yield address


@pytest.fixture
def online(hub: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is asked, and nothing is in the cache."""
    monkeypatch.setenv("HF_ENDPOINT", hub)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HOME", str(folder / "home"))


@pytest.mark.data
@pytest.mark.usefixtures("gate", "fakes", "online")
def test_by_name_from_the_hub(
    section: Section, folder: Path, console: Console, pytester: pytest.Pytester
) -> None:
    """The command records a preset, and the entries of the file are recorded."""
    command, config = section("docs/how-to/data-sets.md", "By name")
    console.type(command, process=True)
    put_files(folder, [config])
    all_recorded(folder, pytester, 3)


@pytest.mark.data
@pytest.mark.usefixtures("gate", "fakes", "online", "console")
def test_ones_own_from_the_hub(section: Section, folder: Path, pytester: pytest.Pytester) -> None:
    """The entries of the file are recorded, a tag among their revisions."""
    (config,) = section("docs/how-to/data-sets.md", "Your own data sets")
    put_files(folder, [config])
    all_recorded(folder, pytester, 2)


def all_recorded(folder: Path, pytester: pytest.Pytester, n: int) -> None:
    """Record so many probes, and find the commit of the hub in each record."""
    result = pytester.runpytest_subprocess("--calibration-model=a", "--calibration-record")
    result.assert_outcomes(passed=n)
    records = [*(folder / "tests" / "calibration_baselines").glob("*.yaml")]
    assert all(COMMIT in file.read_text("utf-8") for file in records)


@pytest.mark.data
def test_not_there(section: Section, tmp_path: Path) -> None:
    """The sentence of the real library's failure, whose own words are left out."""
    (shown,) = section("docs/how-to/data-sets.md", "When the data are not there")
    with pytest.raises(ItemError) as caught:
        from_settings("sciq", {}, tmp_path, "here", all_presets({}))
    said = str(caught.value)
    assert re.fullmatch(re.escape(shown.text.strip()).replace(r"\.\.\.", ".*", 1), said), said


def test_the_table_of_presets_is_what_they_are() -> None:
    """Id, configuration, split and licence of each that is no other way to ask another."""
    page = (Path(__file__).parents[2] / REFERENCE).read_text("utf-8")
    rows = [line for line in page.splitlines() if line[:3] == "| `"]
    for name, settings in packaged().items():
        (row,) = (line for line in rows if f"`{name}`" in line.split("|")[1])
        if name.endswith("_lm"):
            continue
        dataset = settings["dataset"]
        told = [dataset["id"], dataset["split"], dataset["licence"]]
        if not name.startswith("arc_"):
            told.append(dataset.get("config", ""))
        assert all(one in row for one in told), row
