"""Public data sets as a source of items: what is read, from where, and what is told."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import repositories
from fake_hub import COMMIT, serving
from fakes import FakeModel

from pytest_calibration import extras
from pytest_calibration.config import read_config
from pytest_calibration.errors import ConfigError, ItemError, MissingExtra, UsageError
from pytest_calibration.items.dataset import Dataset
from pytest_calibration.probes.facts import Facts
from pytest_calibration.probes.multiple_choice import MultipleChoice
from pytest_calibration.probes.next_token import NextToken
from pytest_calibration.probes.presets import all_presets, full_settings, packaged
from pytest_calibration.probes.probe_set import from_settings, probe_set

# --- without the library ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("cais/mmlu", r"dataset must be a mapping such as \{id: cais/mmlu, .*, got 'cais/mmlu'"),
        ({"split": "test"}, r"dataset: name an id on the hub, or the path of a copy"),
        ({"id": "a/b"}, r"dataset: name a split, such as split: test"),
        (
            {"id": "a/b", "splt": "x"},
            r"dataset: unknown key 'splt' \(did you mean 'split'\?\); known keys: ",
        ),
        ({"id": 3, "split": "x"}, r"dataset\.id must be text, got 3"),
        (
            {"id": "https://huggingface.co/datasets/a/b", "split": "x"},
            r"dataset\.id must be as on the hub, such as cais/mmlu, got 'https:",
        ),
        ({"id": "../b", "split": "x"}, r"dataset\.id must be as on the hub, .*got '\.\./b'"),
        ({"id": "a/b", "split": True}, r"dataset\.split must be text, got True"),
        ({"id": "a/b", "split": "x", "columns": ["q"]}, r"dataset\.columns must be a mapping of "),
        ({"id": "a/b", "split": "x", "columns": {"q": None}}, r"dataset\.columns must be a mapp"),
        ({"id": "a/b", "split": "x", "columns": {"q": []}}, r"dataset\.columns must be a mapping"),
        ({"id": "a/b", "split": "x", "where": 3}, r"dataset\.where must be text, got 3"),
    ],
)
@pytest.mark.parametrize("kind", [Facts, MultipleChoice, NextToken])
def test_bad_settings_are_told(kind: Any, settings: Any, message: str) -> None:
    """Every kind names the probe, the key, and what was given."""
    with pytest.raises(UsageError, match=rf"probe 'mine': {message}"):
        kind("mine", dataset=settings)


def test_one_source_is_named() -> None:
    """A file and a data set together are an error."""
    with pytest.raises(UsageError, match="probe 'mine': has both path and dataset; leave one"):
        Facts("mine", path="x.jsonl", dataset={"id": "a/b", "split": "test"})


def test_the_extra_is_named_where_the_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message holds the command that installs it."""
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r'datasets is not .*: pip install "pytest-cali.*\[data'):
        probe_set().get("mmlu")
    with pytest.raises(MissingExtra, match="datasets is not installed"):
        Dataset("a/b", split="test").commit_on_hub(None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "mlu"}, r"unknown preset 'mlu' \(did you mean 'mmlu'\?\); known"),
        ({"preset": 3}, r"unknown preset 3; known presets: mmlu, arc_easy"),
        ({"preset": "mmlu", "mode": "x"}, r"unknown setting 'mode'.*: kind, preset, path, dataset"),
        ({"preset": "a"}, r"the preset 'a' builds on itself"),
        ({"preset": "mmlu", "dataset": 3}, r"dataset must be a mapping .*, got 3"),
        ({"preset": "mmlu", "shuffle": 1}, r"shuffle must be true or false, got 1"),
        ({"preset": "mmlu", "normalise": "bytes"}, r"normalise is for scoring: text; letters are"),
        ({"preset": "arc_easy", "normalise": "len"}, r"normalise must be one of none, bytes, char"),
        ({"preset": "arc_easy", "shots_order": "x"}, r"shots_order must be one of hash, file, got"),
    ],
)
def test_a_bad_preset_is_told_by_where_it_stands(settings: dict[str, Any], message: str) -> None:
    """File and key come first, before anything is fetched."""
    own = {"a": {"preset": "b"}, "b": {"preset": "a"}}
    with pytest.raises(ConfigError, match=rf"calibration\.yaml: probes\.mine: .*{message}"):
        probe_set({"mine": settings}, presets=own).get("mine")


def test_settings_are_those_of_the_probe_over_its_preset() -> None:
    """Key by key, and within the data set, too; another kind takes the data set alone."""
    presets = all_presets(
        {
            "mmlu": {"dataset": {"revision": "x"}},
            "own": {"preset": "mmlu", "shots": 1, "dataset": {"config": "law"}},
        }
    )
    settings = full_settings("a", {"preset": "own", "dataset": {"split": "dev"}}, presets, "here")
    whole = packaged()["mmlu"]
    dataset = {**whole["dataset"], "revision": "x", "config": "law", "split": "dev"}
    assert settings == {**whole, "shots": 1, "dataset": dataset}
    other = full_settings("b", {"preset": "own", "kind": "facts"}, presets, "here")
    assert other == {"kind": "facts", "dataset": {**dataset, "split": "test"}}
    by_name = full_settings("mmlu", {"limit": 5}, presets, "here")
    assert by_name == {**whole, "dataset": {**whole["dataset"], "revision": "x"}, "limit": 5}
    assert full_settings("mmlu", {"kind": "facts"}, presets, "here") == {"kind": "facts"}


@pytest.mark.parametrize("kind", ["p_true", "multiple_choice", "facts"])
def test_the_name_of_a_preset_never_names_built_in_items(kind: str) -> None:
    """A kind beside it says that the probe is another one; its items must be said, too."""
    message = r"has a kind of its own, and not the items of the preset 'mmlu'; add preset: mmlu,"
    with pytest.raises(ConfigError, match=message):
        probe_set({"mmlu": {"kind": kind}}).get("mmlu")


def test_presets_that_build_on_each_other_have_an_end() -> None:
    """A chain of a thousand is an error like any other."""
    presets = {f"p{i}": {"preset": f"p{i + 1}"} for i in range(1000)}
    with pytest.raises(ConfigError, match="here: the preset 'p51' builds on more than 50 others"):
        full_settings("mine", {"preset": "p0"}, presets, "here")


def test_an_unknown_name_is_answered_with_the_presets_too() -> None:
    """A preset is suggested, and all are listed."""
    with pytest.raises(UsageError, match=r"'mmlo' \(did you mean 'mmlu'\?\).*; presets: mmlu, arc"):
        probe_set().get("mmlo")


def test_the_command_that_fetches_it_is_python() -> None:
    """Each way of naming a data set gives a command with its id, configuration and revision."""
    whole = Dataset("a/b", "c", "test", revision="d")
    call = "import datasets; datasets.load_dataset('a/b', 'c', revision='d')"
    assert whole.fetching == f'python -c "{call}"'
    part = Dataset("a/b", split="test", files="x/y.jsonl")
    call = "huggingface_hub.hf_hub_download('a/b', 'x/y.jsonl', repo_type='dataset')"
    assert part.fetching == f'python -c "import huggingface_hub; {call}"'


DOCS = Path(__file__).parents[2] / "docs" / "how-to" / "data-sets.md"


@pytest.mark.skipif(not DOCS.exists(), reason="the documentation is not part of the package")
def test_the_documented_entries_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each YAML example is a configuration whose settings are known."""
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    blocks = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for text in blocks:
        path = tmp_path / "calibration.yaml"
        path.write_text(text, encoding="utf-8")
        config = read_config(path)
        for name, entry in (config.probes | config.presets).items():
            settings = full_settings(name, entry, all_presets(config.presets), name)
            assert isinstance(Dataset.of(settings["dataset"], name), Dataset)
            # It is the library that is missing, and no setting that is wrong.
            with pytest.raises(MissingExtra):
                from_settings(name, entry, tmp_path, name, all_presets(config.presets))


@pytest.mark.skipif(not DOCS.exists(), reason="the documentation is not part of the package")
def test_the_table_of_presets_is_what_they_are() -> None:
    """Id, configuration, split and licence of each that is no other way to ask another."""
    rows = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line[:3] == "| `"]
    for name, settings in packaged().items():
        (row,) = (line for line in rows if f"`{name}`" in line.split("|")[1])
        if name.endswith("_lm"):
            continue
        dataset = settings["dataset"]
        told = [dataset["id"], dataset["split"], dataset["licence"]]
        if not name.startswith("arc_"):
            told.append(dataset.get("config", ""))
        assert all(one in row for one in told), row


# --- with the library ---------------------------------------------------------------------------

data = pytest.mark.data


@pytest.fixture
def facts(tmp_path: Path) -> Callable[..., Facts]:
    """Makes a facts probe of a repository with two columns and a class."""
    rows = [{"q": f"Fact {i} is", "a": f"a{i}", "kind": i % 2} for i in range(10)]
    types = {"q": "string", "a": "string", "kind": ("odd", "even")}
    folder = repositories.write_repository(
        tmp_path / "facts", {"one": {"test": rows}, "two": {"train": rows[:4]}}, types
    )

    def make(columns: Any = None, **settings: Any) -> Facts:
        columns = columns or {"prompt": "q", "answer": "a"}
        given = {"id": "me/facts", "path": folder, "config": "one", "split": "test", **settings}
        return Facts("mine", dataset={**given, "columns": columns})

    return make


@data
def test_columns_are_expressions(facts: Any) -> None:
    """A name of a column, a Jinja expression, the names of classes; a row that is left out."""
    columns = {"prompt": "q ~ ' not'", "answer": "a | upper", "slice": "names.kind[kind]"}
    probe = facts(columns, where="kind == 1 and a != 'a1'")
    expected = [(f"Fact {i} is not", f"A{i}", "even") for i in (3, 5, 7, 9)]
    assert [(i.prompt, i.answer, i.slice) for i in probe.items] == expected
    told = probe.run(FakeModel()).signature.soft["dataset"]
    assert re.fullmatch(r"me/facts one test rows [0-9a-f]{8}, 4 of 10 rows", told)


@data
def test_columns_that_are_named_as_the_keys_need_no_mapping(tmp_path: Path) -> None:
    """A text set is one line."""
    folder = repositories.write_repository(
        tmp_path / "set", {"default": {"test": [{"text": "Some text.", "n": 1}]}},
        {"text": "string", "n": "int32"},
    )  # fmt: skip
    probe = NextToken("mine", dataset={"path": folder, "split": "test"})
    assert [i.text for i in probe.items] == ["Some text."]


@data
@pytest.mark.parametrize("file", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_a_file_of_data_is_read_by_its_ending(tmp_path: Path, file: str) -> None:
    """``path`` may name a file, and ``split`` a part of it."""
    import pandas

    frame = pandas.DataFrame({"text": ["one text", "another"]})
    path = tmp_path / file
    if file.endswith("l"):
        frame.to_json(path, orient="records", lines=True)
    elif file.endswith("csv"):
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    probe = NextToken("mine", dataset={"path": str(path), "split": "test[:1]"})
    assert [i.text for i in probe.items] == ["one text"]


@data
def test_a_saved_data_set_is_read(tmp_path: Path) -> None:
    """What ``save_to_disk`` wrote is a copy, too: of one split, or of several."""
    import datasets

    rows = datasets.Dataset.from_dict({"text": ["one text", "another"]})
    rows.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"test": rows}).save_to_disk(tmp_path / "splits")
    for name in ("one", "splits"):
        probe = NextToken("mine", dataset={"path": tmp_path / name, "split": "test"})
        assert [i.text for i in probe.items] == ["one text", "another"]
        more = {"path": tmp_path / name, "split": "test[-1:]+test[:50%]"}
        assert [i.text for i in NextToken("mine", dataset=more).items] == ["another", "one text"]
    with pytest.raises(ItemError, match=r"Unknown split \"dev\"\. Should be one of \['test'\]"):
        NextToken("mine", dataset={"path": tmp_path / "splits", "split": "dev"})


@data
@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("empty.jsonl", b"", "empty.jsonl is empty"),
        ("bad.jsonl", b'{"text": "x"}\n{oops\n', "JSON parse error: Missing a name .* in row 1"),
        ("bad.csv", b"text,id\nx,1\ny,2,3\n", "Expected 2 fields in line 3, saw 3"),
        ("latin.jsonl", '{"text": "é"}'.encode("latin-1"), r"rows from 0 on cannot .* as UTF-8"),
        ("x.xlsx", b"x", "x.xlsx ends in none of .jsonl"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(
    tmp_path: Path, capfd: Any, file: str, content: bytes, message: str
) -> None:
    """In one sentence, with what the library found, and nothing else is written."""
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ItemError, match=message):
        NextToken("mine", dataset={"path": str(tmp_path / file), "split": "test"})
    assert "".join(capfd.readouterr()) == ""


@data
def test_words_for_nothing_are_words_in_a_table(tmp_path: Path) -> None:
    """NA is a country, None an answer; an empty cell alone is none."""
    (tmp_path / "t.csv").write_text("prompt,answer,slice\nCode of Namibia,NA,None\nZero,null,\n")
    probe = Facts("mine", dataset={"path": str(tmp_path / "t.csv"), "split": "test"})
    assert [(i.answer, i.slice) for i in probe.items] == [("NA", "None"), ("null", None)]


@data
def test_configurations_that_there_are_are_named(facts: Any) -> None:
    """Where a repository has several and none is chosen."""
    with pytest.raises(ItemError, match=r"Config name is missing.*\['one', 'two'\]"):
        facts(config=None)


@data
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"config": "three"}, r"me/facts \(three, test\): cannot be read.*'three' not found"),
        ({"split": "dev"}, r"me/facts \(one, dev\): cannot be read.*[Uu]nknown split \"dev\""),
        ({"path": "gone"}, r"\(one, test\): cannot be read from gone \(there is no gone\)"),
        ({"files": "data/x.jsonl"}, r"\(there is no .*x\.jsonl\)"),
        ({"columns": {"prompt": "p", "answer": "a"}}, r"columns\.prompt: 'p': there is no"
         " column 'p'; columns: q, a, kind"),
        ({"columns": {"prompt": "q ~", "answer": "a"}}, r"columns\.prompt: 'q ~' is no expression"),
        ({"columns": {"promt": "q"}}, r"columns: unknown key 'promt' \(did you mean 'prompt'\?\)"),
        ({"columns": {"prompt": "q", "answer": "a.b.c"}}, r"row 0: columns\.answer: 'str "
         "object' has no attribute 'b'"),
        ({"columns": {"prompt": "q", "answer": "a | int"}}, r"row 0: columns\.answer: invalid lit"),
        ({"columns": {"prompt": "q", "answer": "kind"}}, r"row 0: 'answer' must be text, got 0"),
        ({"columns": {"prompt": "q.__class__", "answer": "a"}}, r"columns\.prompt: .* unsafe"),
        ({"where": "kind == 5"}, r"me/facts \(one, test\): holds no rows where 'kind == 5'"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told(facts: Any, settings: dict[str, Any], message: str) -> None:
    """The data set comes first, then the row and the column, then what is wrong."""
    columns = settings.pop("columns", None)
    with pytest.raises(ItemError, match=message):
        facts(columns, **settings)


@data
def test_labels_that_are_not_published_are_an_error(facts: Any, tmp_path: Path) -> None:
    """An empty label, or -1, never becomes an answer."""
    for write, name in ((repositories.hellaswag, "hellaswag"), (repositories.medmcqa, "medmcqa")):
        copy = {"path": str(write(tmp_path / name)), "split": "test"}
        with pytest.raises(ItemError, match=r"\(test\), row 0: .*(invalid literal|got -1)"):
            probe_set({name: {"dataset": copy}}).get(name)


@data
def test_bars_and_logs_of_the_libraries_are_off_while_they_read(
    facts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of both, also on a terminal; and on again as they were."""
    import datasets
    import huggingface_hub.utils as hub

    def state() -> list[Any]:
        both = (datasets, hub)
        bars = [library.are_progress_bars_disabled() for library in both]
        return [*bars, *(library.logging.get_verbosity() for library in both)]

    seen = []
    load = datasets.load_dataset

    def noted(*arguments: Any, **options: Any) -> Any:
        seen.append(state())
        return load(*arguments, **options)

    monkeypatch.setattr(datasets, "load_dataset", noted)
    datasets.enable_progress_bars()
    before = state()
    facts()
    assert seen == [[True, True, 50, 50]]
    assert state() == before
    assert before[0] is False


@data
def test_a_copy_is_read_as_it_is_now(facts: Any, tmp_path: Path) -> None:
    """Not what the library has in its cache of a folder before it changed, or of its namesake."""

    def write(folder: Path, rows: int) -> Dataset:
        content = [{"text": f"Text {i}."} for i in range(rows)]
        repositories.write_repository(folder, {"default": {"test": content}}, {"text": "string"})
        return Dataset(path=folder, split="test")

    for folder, rows in (("a/set", 3), ("b/set", 5), ("a/set", 7)):
        assert NextToken("mine", dataset=write(tmp_path / folder, rows)).size == rows


@data
def test_no_code_of_a_repository_is_run(facts: Any, tmp_path: Path) -> None:
    """A loading script beside no data, or beside data, is left alone."""
    folder = tmp_path / "scripted"
    folder.mkdir()
    (folder / "scripted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ItemError, match="cannot be read from"):
        Facts("mine", dataset={"path": folder, "split": "test"})
    assert not (tmp_path / "ran").exists()


@data
def test_one_file_has_no_split_for_examples(tmp_path: Path) -> None:
    """Its questions would be their own examples."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "q?", "options": ["a", "b"], "answer": 0}\n')
    settings = {"path": path, "split": "test"}
    with pytest.raises(UsageError, match=r"rows\.jsonl holds one split, and not 'dev' besides"):
        MultipleChoice("mine", dataset=settings, shots=1, shots_split="dev")


@data
def test_a_folder_is_never_taken_for_the_hub(
    facts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library would read a folder that is called as the id, wherever pytest was started."""
    monkeypatch.chdir(tmp_path)
    repositories.lambada(tmp_path / "EleutherAI" / "lambada_openai")
    with pytest.raises(ItemError, match="there is a folder EleutherAI/lambada_openai here; name"):
        probe_set().get("lambada_openai")


@data
def test_the_digest_of_rows_is_the_same_everywhere_and_changes_with_them(
    facts: Any, tmp_path: Path
) -> None:
    """It depends on what was read, not on where it lies."""

    def told(probe: Facts) -> str:
        return str(probe.run(FakeModel()).signature.soft["dataset"])

    first = told(facts())
    assert re.fullmatch(r"me/facts one test rows [0-9a-f]{8}", first)
    (tmp_path / "facts").rename(tmp_path / "moved")
    moved = facts(path=tmp_path / "moved")
    assert told(moved) == first
    assert told(facts({"prompt": "q", "answer": "a ~ '!'"}, path=tmp_path / "moved")) != first


@data
def test_a_limit_takes_a_subset_of_a_larger_one(facts: Any) -> None:
    """As for all other items, by their ids."""
    probe = facts()
    few, more = (set(probe.run(FakeModel(), limit=n).item_ids.tolist()) for n in (3, 6))
    assert few < more


SCRIPT = """
import sys
from pytest_calibration.cli import main
from pytest_calibration.errors import CalibrationError
from pytest_calibration.probes.presets import all_presets, full_settings, packaged
from pytest_calibration.probes.probe_set import from_settings, probe_set
for name, more in (
    ("mmlu", {}), ("t_rex", {}), ("mmlu", {"revision": "f" * 40}), ("sciq", {}),
    ("t_rex", {"files": None}),
):
    try:
        probe = probe_set({name: {"dataset": more}}).get(name)
        print(probe.size, probe._source.described()["dataset"])
    except CalibrationError as problem:
        print(problem)
print(main(["pin", "mmlu", "t_rex"]), flush=True)
"""


@data
def test_the_hub_and_then_its_cache_are_read(tmp_path: Path) -> None:
    """By id from a hub; later the same offline; in both, what is not there is told with the id."""
    hub = tmp_path / "hub"
    repositories.mmlu(hub / "cais" / "mmlu")
    repositories.t_rex(hub / "relbert" / "t_rex")
    home = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}

    def outcome(**more: str) -> tuple[list[str], str]:
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, **home, **more},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        return run.stdout.splitlines(), run.stderr

    with serving(hub) as address:
        lines, err = outcome(HF_ENDPOINT=address)
    read = [f"6 cais/mmlu all test revision {COMMIT}",
            f"2 relbert/t_rex test revision {COMMIT}, 2 of 4 rows"]  # fmt: skip
    assert lines[:2] == read
    for line in lines[2:4]:
        assert "is not here and cannot be fetched" in line
        assert "fetch it: python -c" in line
    assert "relbert/t_rex (test): cannot be read (" in lines[4]
    assert lines[4].endswith("; name one of its files of data: dataset: {files: FILE}.")
    assert lines[5:] == [
        f"mmlu: cais/mmlu pinned at {COMMIT}", f"t_rex: relbert/t_rex pinned at {COMMIT}", "0"
    ]  # fmt: skip
    pinned = (tmp_path / "calibration.yaml").read_text()
    assert pinned.count(COMMIT) == 2
    # No bars, no log lines, no warnings: one line of the library would be told to the user.
    assert err == ""

    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        (tmp_path / "calibration.yaml").unlink(missing_ok=True)
        # The address is one at which nothing answers.
        lines, err = outcome(**{name: "1"}, HF_ENDPOINT=address)
        assert lines[:2] == read
        assert f"there is the revision {COMMIT}, not {'f' * 40}" in lines[2]
        assert "allenai/sciq (test): is not here and cannot be fetched" in lines[3]
        assert "load_dataset('allenai/sciq')" in lines[3]
        assert lines[5:] == ["2"]
        assert err.count("\n") == 1
        assert "cais/mmlu: the hub cannot be asked for its commit" in err
