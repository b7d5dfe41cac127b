"""The text that names a model: paths, hub ids, revisions, globs, names."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.errors import UsageError
from pytest_calibration.history.checkpoints import natural_key
from pytest_calibration.models.backends import BACKENDS, ModelSpec
from pytest_calibration.models.spec import anchored, parse_spec, resolve


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with checkpoints in it."""
    monkeypatch.chdir(tmp_path)
    for folder in (
        "gpt2",
        "org/model@v1",
        "runs/base",
        "runs/sft/checkpoint-1000",
        "runs/sft/checkpoint-900",
        "runs/sft/checkpoint-50",
        "runs/dpo/checkpoint-900",
    ):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "runs" / "sft" / "checkpoint.txt").write_text("a file", encoding="utf-8")
    return tmp_path


def test_a_glob_is_in_order_of_the_steps_that_trainers_saved(here: Path) -> None:
    """The state of a Trainer tells more than a name; other folders come behind."""
    for name, step in (("last", 2000), ("first", 10)):
        folder = here / "runs" / "sft" / name
        folder.mkdir()
        (folder / "trainer_state.json").write_text(f'{{"global_step": {step}}}', "utf-8")
    (here / "runs" / "sft" / "logs").mkdir()
    names = ["first", "checkpoint-50", "checkpoint-900", "checkpoint-1000", "last", "logs"]
    assert [Path(spec.location).name for spec in resolve(["runs/sft/*"])] == names


@pytest.mark.parametrize(
    ("text", "location", "revision", "local", "baseline"),
    [
        pytest.param("gpt2", "gpt2", None, True, None, id="path-wins-over-hub-id"),
        pytest.param("org/model@v1", "org/model@v1", None, True, None, id="path-wins-over-@"),
        pytest.param(" runs/base ", "runs/base", None, True, None, id="blanks"),
        pytest.param("pythia", "pythia", None, False, None, id="hub-id"),
        pytest.param("owner/pythia", "owner/pythia", None, False, None, id="hub-id-with-owner"),
        pytest.param("org/pythia@step10", "org/pythia", "step10", False, None, id="revision"),
        pytest.param("org/a@b@c", "org/a@b", "c", False, None, id="last-@-splits"),
        pytest.param(
            "org/a@refs/pr/1", "org/a", "refs/pr/1", False, None, id="revision-with-slash"
        ),
        pytest.param("sft=runs/base", "runs/base", None, True, "sft", id="named-path"),
        pytest.param("sft=org/a@v2", "org/a", "v2", False, "sft", id="named-hub-id"),
    ],
)
def test_a_spec_is_read_as_a_person_means_it(
    here: Path, text: str, location: str, revision: str | None, local: bool, baseline: str | None
) -> None:
    """An existing path wins; otherwise the last @ splits off a revision; ``name=`` leads."""
    expected = ModelSpec(location, revision, local, baseline=baseline, backend="transformers")
    assert parse_spec(text) == expected


@pytest.mark.parametrize(
    "text",
    ["lr=1e-5", "lr=1e-5/checkpoint-3", "a=b/c", "model=x,lr=2/ck", "lr=1/lr=2/ck", "./lr=1e-5/ck"],
)
def test_a_directory_whose_name_holds_an_equals_sign_is_a_path(here: Path, text: str) -> None:
    """What exists wins over ``name=SPEC``, in run folders that bear their settings, too."""
    (here / text).mkdir(parents=True)
    assert parse_spec(text) == ModelSpec(text, local=True, backend="transformers")
    assert anchored(text, here) == str(here / text)
    assert parse_spec(f"sft={text}").baseline == "sft"
    assert parse_spec(f"sft={text}").location == text


@pytest.mark.parametrize(
    "run", ["lr=1e-5", "a=b", "model=x,lr=2", "lr=1/lr=2", "lr=1,tags=[a,b]"], ids=str
)
def test_a_glob_whose_first_folder_holds_an_equals_sign_is_a_path(here: Path, run: str) -> None:
    """A glob that matches wins over ``name=SPEC``, here and from a file in another folder."""
    for step in (3, 20):
        (here / run / f"checkpoint-{step}").mkdir(parents=True)
    # Square brackets are a class of characters in a glob, so a star stands for the folder.
    text = f"{run.partition('[')[0]}*/checkpoint-*" if "[" in run else f"{run}/checkpoint-*"
    expected = [f"{run}/checkpoint-3", f"{run}/checkpoint-20"]
    assert [spec.location for spec in resolve([text])] == expected
    from_file = resolve([anchored(text, here)])
    assert [spec.location for spec in from_file] == [str(here / one) for one in expected]


def test_a_name_is_a_name_where_no_such_path_exists(here: Path) -> None:
    """``name=SPEC`` needs the model; a folder that bears the same name does not take it."""
    (here / "sft=runs").mkdir()
    assert parse_spec("sft=runs/base").baseline == "sft"
    assert parse_spec("sft=owner/name").baseline == "sft"


def test_a_typo_in_a_folder_with_an_equals_sign_is_a_path(here: Path) -> None:
    """Where neither model nor path exists, the folder that a text begins with decides."""
    (here / "lr=1e-5" / "checkpoint-3").mkdir(parents=True)
    message = "model 'lr=1e-5/checkpont-3': there is no such directory; 'lr=1e-5' holds 'check"
    with pytest.raises(UsageError, match=message):
        resolve(["lr=1e-5/checkpont-3"])
    with pytest.raises(UsageError, match=r"model 'lr=1e-5/ck-\*' matches no directory"):
        resolve(["lr=1e-5/ck-*"])


def test_a_glob_in_a_file_counts_from_its_folder_however_that_is_called(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Brackets in the way to the project are no part of the glob."""
    (here / "a[1]" / "runs" / "ck-1").mkdir(parents=True)
    monkeypatch.chdir(here / "gpt2")
    (spec,) = resolve([anchored("runs/ck-*", here / "a[1]")])
    assert spec.location == str(here / "a[1]" / "runs" / "ck-1")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("runs/chekpoint", "'runs' holds 'dpo', 'sft', 'base'"),
        ("runs/sft/checkpoint-99", "'runs/sft' holds 'checkpoint-900', 'checkpoint-50', "),
        ("runs/sft/typo/a/b", "'runs/sft' holds 'checkpoint-"),
        ("runs/sft/checkpoint-99@v1", "'runs/sft' holds 'checkpoint-900'"),
        ("runs/", "holds 'base', 'dpo', 'sft'"),
        ("bse=runs/typo", "'runs' holds "),
        ("runs/base/x", "'runs/base' holds no folder"),
        ("./run", r"'\.' holds 'runs', "),
        ("../typo/x", r"'\.\.' holds "),
        ("~/typo", "holds no folder"),
        ("{here}/runs/bas", "runs' holds 'base', "),
    ],
)
def test_a_path_that_is_not_there_names_what_is(
    here: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    """Where a path goes wrong, the folders there are named, the most similar first."""
    monkeypatch.setenv("HOME", str(here / "gpt2"))
    if text == "runs/":
        (here / "runs").rename(here / "run")
        says = r"'\.' holds 'run', "
    with pytest.raises(UsageError, match=f"there is no such directory; .*{says}"):
        resolve([text.format(here=here)])


def test_of_many_folders_a_few_are_named(here: Path) -> None:
    """A message holds the most similar names and the number of the others, and no long name."""
    for step in range(50):
        (here / "many" / f"checkpoint-{step}").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"'many' holds 'checkpoint-7', .* and 44 more"):
        resolve(["many/checkpont-7"])
    (here / "long" / ("x" * 200)).mkdir(parents=True)
    with pytest.raises(UsageError) as caught:
        resolve(["long/y"])
    assert len(str(caught.value)) < 700


def test_a_path_like_a_hub_id_is_not_asked_of_the_hub(
    here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """``folder/typo`` is a path where the folder exists, unless the hub is meant or known."""
    message = (
        r"model 'org/pythia': .*where the hub's model of .*write its revision, too \(@main\)\.$"
    )
    with pytest.raises(UsageError, match=message):
        parse_spec("org/pythia")
    assert parse_spec("org/pythia@main").revision == "main"
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "hub" / "models--org--pythia").mkdir(parents=True)
    assert not parse_spec("org/pythia").local


@pytest.mark.parametrize("text", ["a" * 5000, "runs/" + "a" * 5000, "a\0b", "\ud800", "x=\ud800"])
def test_a_text_that_no_file_system_takes_is_no_path(here: Path, text: str) -> None:
    """It is too long, or holds what no name may hold: no error of the system reaches the user."""
    with contextlib.suppress(UsageError):
        resolve([text])


def test_a_long_text_is_cut_in_a_message(here: Path) -> None:
    """The end is left, where paths differ."""
    with pytest.raises(UsageError, match=r"^model '…a{195}/end': there is no such dir") as caught:
        resolve(["runs/" + "a" * 5000 + "/end"])
    assert len(str(caught.value)) < 700


def test_a_tilde_stands_for_the_home_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell leaves it as it is after ``--calibration-model=``."""
    monkeypatch.setenv("HOME", str(here / "runs"))
    assert parse_spec("~/base").location == str(here / "runs" / "base")
    assert parse_spec("b=~/base").location == str(here / "runs" / "base")
    assert [s.name for s in resolve(["~/d*/checkpoint-*"])] == ["checkpoint-900"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"an empty model name: pass a directory or a hub id"),
        ("  ", r"an empty model name"),
        ("sft=", r"an empty model name"),
        ("sft= ", r"an empty model name"),
        ("./none", r"model './none': there is no such directory"),
        ("../none", r"there is no such directory"),
        ("/none/at/all", r"there is no such directory"),
        ("~/none", r"there is no such directory"),
        ("runs/sft/none", r"model 'runs/sft/none': there is no such directory"),
        ("runs\\none", r"there is no such directory"),
        ("runs/sft/none@main", r"there is no such directory"),
        ("runs/sft/checkpoint.txt", r"'runs/sft/checkpoint\.txt' is a file; pass the directory"),
        ("@main", r"model '@main': nothing stands before the '@'; write id@revision"),
        ("gpt3@", r"model 'gpt3@': nothing stands after the '@'; write id@revision"),
        ("runs/none-*", r"model 'runs/none-\*' matches no directory \(looked from '"),
        ("runs/sft/checkpoint.*", r"matches no directory"),
        ("s3://h:80/v1#m", r"model 's3://h:80/v1#m' is of no kind that can be loaded here"),
        ("sft=ftp://h/v1?a=*", r"model 'ftp://h/v1\?a=\*' is of no kind that can be loaded"),
        ("runs/none-1", r"no such directory; 'runs' holds .*\(@main\)\.$"),
        ("C:/models/x", r"there is no such directory"),
        ("gpt3/", r"there is no such directory"),
        (
            "localhost:80/v1",
            r"\(tried: transformers, server, own\); pass a directory that holds a checkpoint or",
        ),
        (
            "toy:",
            r"pass a directory .* or a hub id \(name, owner/name, owner/name@revision\); or a ",
        ),
        ("gone_away:predict", r"is of no kind .*that can be imported \(module:name\)\.$"),
        ("sft=runs/*", r"a glob names several models; leave out sft="),
    ],
)
def test_what_names_no_model_is_refused(here: Path, text: str, message: str) -> None:
    """A path that is not there, a file, and what an unset variable leaves behind."""
    with pytest.raises(UsageError, match=message):
        resolve([text])


def test_a_glob_gives_directories_in_step_order(here: Path) -> None:
    """``checkpoint-900`` comes before ``checkpoint-1000``; files do not count."""
    found = resolve(["runs/sft/checkpoint*"])
    assert [s.name for s in found] == ["checkpoint-50", "checkpoint-900", "checkpoint-1000"]
    assert all(s.local for s in found)


def test_a_directory_whose_name_looks_like_a_glob_is_a_path(here: Path) -> None:
    """What exists wins over what would match."""
    (here / "runs" / "a[1]").mkdir()
    assert [s.location for s in resolve(["runs/a[1]"])] == ["runs/a[1]"]


@given(st.lists(st.integers(0, 10**9), min_size=1))
def test_natural_order_is_the_order_of_the_numbers(steps: list[int]) -> None:
    """Names that differ in one number sort by it, however many digits it has."""
    names = [f"checkpoint-{step}" for step in steps]
    assert sorted(names, key=natural_key) == [f"checkpoint-{step}" for step in sorted(steps)]


@given(st.lists(st.text()))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    """Digits of other scripts, superscripts and none at all: an order, never an error."""
    ordered = sorted(names, key=natural_key)
    assert sorted(ordered) == sorted(names)
    backwards = ordered[::-1]
    assert sorted(backwards, key=natural_key) == ordered


@pytest.mark.parametrize(
    "again",
    ["runs/base", "./runs/base", "runs/base/", "runs/../runs/base", "runs/ba*", "ABSOLUTE"],
)
def test_the_same_model_named_twice_counts_once(here: Path, again: str) -> None:
    """However a directory is written, it is one model."""
    again = str(here / "runs" / "base") if again == "ABSOLUTE" else again
    found = resolve(["runs/base", again])
    assert [(s.name, s.location) for s in found] == [("base", "runs/base")]


def test_the_same_hub_id_counts_once_and_its_revisions_apart() -> None:
    """Two revisions are two models."""
    found = resolve(["org/a", "org/a@v1", "org/a", "org/a@v2", "org/a@v1"])
    assert [s.text for s in found] == ["org/a", "org/a@v1", "org/a@v2"]
    assert [s.name for s in found] == ["a", "a@v1", "a@v2"]


def test_equal_names_are_told_apart_by_what_stands_before_them(here: Path) -> None:
    """Only names that clash grow; each grows by no more than it takes."""
    found = resolve(["runs/sft/checkpoint-900", "runs/dpo/checkpoint-900", "runs/base"])
    assert [s.name for s in found] == ["sft-checkpoint-900", "dpo-checkpoint-900", "base"]


def test_one_model_under_two_names_of_its_own(here: Path) -> None:
    """A model may be compared with two baselines; names given by hand are kept."""
    found = resolve(["a=runs/base", "b=runs/base", "runs/base"])
    assert [(s.name, s.baseline) for s in found] == [("a", "a"), ("b", "b"), ("base", None)]


def test_names_that_cannot_be_told_apart_are_counted(here: Path) -> None:
    """Two names of one spelling stay two names."""
    for folder in ("m n", "m+n"):
        (here / folder).mkdir()
    found = resolve(["m n", "m+n"])
    assert [s.name for s in found] == ["m-n", "m-n-again"]


def test_one_name_for_two_models_is_refused(here: Path) -> None:
    """Two models cannot share the baseline of a name."""
    with pytest.raises(UsageError, match="the name x= is given to two models; give each its own"):
        resolve(["x=gpt2", "x=runs/base"])


def test_a_directory_has_no_revisions(here: Path) -> None:
    """A revision of a directory would be ignored without a word."""
    with pytest.raises(UsageError, match="'runs/base' is a directory, and only the hub has rev"):
        parse_spec("runs/base@v1")


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), max_size=6))
def test_names_are_short_plain_and_unique(texts: list[str]) -> None:
    """Whatever is typed: ASCII, no path, distinct, so that test ids are the same everywhere."""
    specs = []
    for text in texts:
        try:
            specs += resolve([text])
        except UsageError:
            continue
    named = resolve([s.text if s.baseline is None else f"{s.baseline}={s.text}" for s in specs])
    names = [s.name for s in named]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9._@-]+", name) for name in names)


def test_a_name_never_holds_the_way_to_the_directory(here: Path) -> None:
    """Absolute paths give the same names as relative ones, so that ids fit on every machine."""
    relative = resolve(["runs/base", "runs/sft/checkpoint-900", "runs/dpo/checkpoint-900"])
    absolute = resolve([str(here / s.location) for s in relative])
    assert [s.name for s in absolute] == [s.name for s in relative]
    for spec in absolute:
        assert here.name not in spec.name


def test_a_directory_that_is_no_ascii_has_a_name_that_is(here: Path) -> None:
    """Letters of other scripts become dashes; where none is left, it is a model."""
    for folder in ("größe-7", "百科"):
        (here / folder).mkdir()
    assert [s.name for s in resolve(["größe-7", "百科"])] == ["gr-e-7", "model"]
    assert [s.name for s in resolve(["/"])] == ["model"]


def test_a_spec_travels_as_plain_values(here: Path) -> None:
    """A worker process makes the same spec of what it is sent."""
    (spec,) = resolve(["x=org/a@v1"])
    assert ModelSpec(**spec.as_dict()) == spec  # type: ignore[arg-type]
    assert spec.text == "org/a@v1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runs/base", "{folder}/runs/base"),
        ("sft=runs/base", "sft={folder}/runs/base"),
        ("runs/sft/checkpoint-*", "{folder}/runs/sft/checkpoint-*"),
        ("org/other", "org/other"),
        ("sft=org/other@v1", "sft=org/other@v1"),
        ("sft=", "sft="),
    ],
)
def test_a_path_in_a_file_is_relative_to_the_file(
    here: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    """Paths and globs of an ini file mean the same from every directory; hub ids stay."""
    monkeypatch.chdir(here / "gpt2")
    found = anchored(text, here)
    assert found.replace("\\", "/") == expected.format(folder=here.as_posix())


def test_the_first_backend_that_takes_a_spec_has_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backends are asked in the order of the table; an error lists the specs of all of them."""
    monkeypatch.setitem(BACKENDS, "toy", "toy_backend")
    found = resolve(["toy:a/b", "gpt2", "mine=toy:a"])
    assert [(s.backend, s.text, s.name, s.baseline) for s in found] == [
        ("toy", "toy:a/b", "b", None),
        ("transformers", "gpt2", "gpt2", None),
        ("toy", "toy:a", "mine", "mine"),
    ]
    with pytest.raises(
        UsageError, match=r"tried: transformers, server, own, toy\).*; or a file of beliefs"
    ):
        resolve(["ftp://h/v1"])
    with pytest.raises(UsageError, match="'toy:': names no file"):
        resolve(["toy:"])
