"""Files and names of an attacker: nothing is run, nothing grows, nothing leaves its folder.

Beside ``fuzzing.py``, which changes files at random: attacks that chance does not find.
``HELD`` names the tests elsewhere that hold further ones.
"""

from __future__ import annotations

import gzip
import os
import pickle
import threading
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from samples import predictions

from pytest_calibration import Baselines, read_predictions
from pytest_calibration.baselines.record import read_record
from pytest_calibration.config import read_config
from pytest_calibration.errors import CalibrationError, ModelError, PredictionsError
from pytest_calibration.models.backends import ModelSpec
from pytest_calibration.models.backends.transformers.identity import identify_checkpoint
from pytest_calibration.models.backends.transformers.layers import layers
from pytest_calibration.models.backends.transformers.loading_settings import TransformersSettings
from pytest_calibration.reports.dump import write_dump

TESTS: Final = Path(__file__).parents[1]
HELD: Final = (
    # YAML and JSON: size, aliases, depth.
    "test_strict_yaml.py::test_a_small_file_cannot_grow_large",
    "test_strict_yaml.py::test_a_file_that_is_too_large_is_refused_by_its_size",
    "probes/test_probe.py::test_a_line_without_end_is_not_read_whole",
    "probes/test_probe.py::test_what_has_no_end_is_refused_by_its_kind",
    # Items files.
    "baselines/test_record.py::test_pickled_items_are_never_unpickled",
    "baselines/test_record.py::test_a_zip_bomb_is_not_unpacked",
    "baselines/test_record.py::test_items_that_are_too_large_are_not_even_read",
    "baselines/test_record.py::test_an_items_file_elsewhere_is_refused",
    "models/test_cached_answers.py::test_an_array_of_objects_is_refused",
    # Names.
    "baselines/test_store.py::test_a_name_never_leaves_the_folder",
    "baselines/test_store.py::test_two_names_never_share_a_file",
    "baselines/test_store.py::test_probes_that_differ_by_capitals_have_files_of_their_own",
    # Weights that are pickled, and code of a checkpoint.
    "models/backends/transformers/test_transformers_model.py::"
    "test_pickled_weights_are_refused_unless_allowed",
    "models/backends/transformers/test_transformers_model.py::"
    "test_pickled_adapter_is_refused_unless_allowed",
    "models/backends/transformers/test_layers.py::test_pickled_adapters_of_the_hub_are_refused",
    "models/backends/transformers/test_used_weights.py::test_an_index_that_names_pickles",
    "models/backends/transformers/test_used_weights.py::test_no_other_way_leads_to_a_pickle",
    # Keys.
    "models/backends/server/test_address.py::test_what_is_no_address_is_told",
    "models/backends/server/test_hostile_servers.py::test_broken_replies_end_in_one_sentence",
    "models/backends/server/test_hostile_servers.py::test_the_key_goes_to_the_server_alone",
)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


# --- YAML ----------------------------------------------------------------------------------------

OBJECTS: Final = (
    *("!!python/object/apply:pathlib.Path.touch [{}]", "!!python/object/new:pathlib.Path [{}]"),
    *("!!python/object:pathlib.Path {{x: 1}}", "!!python/name:os.system ''", "!!python/tuple [1]"),
    *("!!python/module:os ''", "!!python/bytes YQ==", "!!python/complex 1j", "!!python/dict {{}}"),
    *("!<tag:yaml.org,2002:python/object/apply:pathlib.Path.touch> [{}]", "!Path [{}]", "! x"),
    *("!include {}", "!function utils.run", "!!binary YQ==", "!!set {{a}}", "!!omap [a: 1]"),
    *("!!pairs [a: 1]", "!!timestamp 2020-01-01", "!!value x", "!!merge x"),
)


@pytest.mark.parametrize("reader", ["configuration", "record"])
@pytest.mark.parametrize("value", OBJECTS)
@pytest.mark.parametrize("handle", ["", "%TAG !! tag:yaml.org,2002:python/\n---\n"])
def test_no_tag_makes_an_object(tmp_path: Path, reader: str, value: str, handle: str) -> None:
    """A tag beyond plain data is refused, whoever reads the file and however it is written."""
    sprung, path = tmp_path / "sprung", tmp_path / "x.yaml"
    path.write_text(f"{handle}note: {value.format(sprung)}\n", "utf-8")
    with pytest.raises(CalibrationError, match=r"x\.yaml") as caught:
        read_config(path) if reader == "configuration" else read_record(path, "x", "default")
    assert str(caught.value).isprintable()
    assert not sprung.exists()


# --- predictions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["pkl", "pickle", "pt", "npy", "npz", "csv", "json", "jsonl"])
@pytest.mark.parametrize("kind", ["pickle", "array"])
def test_a_pickle_is_never_unpickled(tmp_path: Path, ending: str, kind: str) -> None:
    """A file of predictions that is pickled, by itself or in an array of objects, is refused."""
    sprung, path = tmp_path / "sprung", tmp_path / f"p.{ending}"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Trap(sprung)))
    else:
        trap = np.empty(1, dtype=object)
        trap[0] = Trap(sprung)
        with path.open("wb") as file:
            np.savez(file, confidence=trap)
    with pytest.raises(PredictionsError, match=rf"p\.{ending}"):
        read_predictions(path)
    assert not sprung.exists()


@pytest.mark.parametrize("ending", ["csv.gz", "jsonl.gz", "csv", "json"])
def test_what_is_compressed_is_not_unpacked(tmp_path: Path, ending: str) -> None:
    """A small file that unpacks to a gibibyte stays small."""
    path = tmp_path / f"p.{ending}"
    path.write_bytes(gzip.compress(bytes(1 << 20)))
    with pytest.raises(PredictionsError):
        read_predictions(path)


def test_a_small_parquet_file_is_no_large_table(tmp_path: Path) -> None:
    """Its rows are counted before they are read."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    part = arrow.table({"confidence": np.full(1 << 20, 0.5), "correct": np.ones(1 << 20, bool)})
    path = tmp_path / "p.parquet"
    with parquet.ParquetWriter(path, part.schema, compression="zstd") as writer:
        for _ in range(11):
            writer.write_table(part)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(PredictionsError, match=r"11,534,336 rows in .* when it is unpacked"):
        read_predictions(path)


# --- names ---------------------------------------------------------------------------------------

NAMES: Final = (
    *("../x", "..", ".", "../../../etc/passwd", "/etc/passwd", "//host/share", "~/x", "a/../../b"),
    *("..\\x", "C:\\x", "C:x", "\\\\?\\C:\\x", "x:stream", "x.", "x ", " x", "-x", ".x"),
    *("x\0y", "x\ny", "x\ry", "CON", "con", "nul.txt", "COM1", "aux.", "$HOME", "%TEMP%"),
    *("．．／x", "․․/x", "‥/x", "／etc", "x\u202egpj", "x\u200b", "x\ufeff", "ﬁle", "file"),
    *("é", "e\u0301", "É", "ß", "ss", "SS", "ẞ", "I", "i", "ı", "İ", "\u212a", "K", "k"),
    *("Facts", "facts", "FACTS", "n" * 300, "n" * 300 + "m", "\ud83d", "🙂", "a b", "a-b"),
)


@pytest.mark.parametrize("made", ["probes", "names", "dumps"])
def test_no_name_leaves_its_folder_or_takes_the_file_of_another(tmp_path: Path, made: str) -> None:
    """On any disk: one that takes capitals for small letters, or two spellings of é for one."""
    home = tmp_path / "in"
    home.mkdir()
    # A probe has a printable name.
    names = [name for name in NAMES if made == "names" or name.isprintable()]
    paths = []
    for name in names:
        if made == "names":
            paths.append(Baselines(home).named(name).path_of("facts"))
            continue
        probe = predictions(probe=name, n=4, hostile=False)
        if made == "probes":
            paths.append(Baselines(home).record(probe))
        else:
            paths.append(write_dump(home, probe, since=0.0))
    assert {*tmp_path.iterdir()} == {home}
    spelt = [str(path.relative_to(home)) for path in paths]
    assert all(name.isascii() and name.isprintable() and len(name) < 200 for name in spelt)
    folded = {unicodedata.normalize("NFKC", name).casefold() for name in spelt}
    assert len(folded) == len(names)


def test_the_names_are_distinct_and_hostile() -> None:
    """The check above can fail: as they are, some leave a folder, and some share a file."""
    assert len({*NAMES}) == len(NAMES)
    assert len({unicodedata.normalize("NFKC", n).casefold() for n in NAMES}) < len(NAMES) - 8
    assert any(not (Path("/in") / name).resolve().is_relative_to("/in") for name in NAMES[:4])


# --- checkpoints ---------------------------------------------------------------------------------


def ended(action: Callable[[], object]) -> bool:
    """Whether an action comes to an end."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(60)
    return not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "model.safetensors.index.json", "adapter_config.json"),
        *("generation_config.json", "tokenizer_config.json", "model.safetensors"),
    ],
)
def test_a_pipe_in_a_checkpoint_is_not_waited_for(tmp_path: Path, name: str) -> None:
    """Nobody writes to it: it counts as a file that cannot be read."""
    (tmp_path / "config.json").write_text('{"architectures": ["A"]}', "utf-8")
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    spec, settings = ModelSpec(str(tmp_path), local=True, name="m"), TransformersSettings()

    def look() -> None:
        layers(spec, settings, hub=False)
        identify_checkpoint(spec, settings)

    assert ended(look)


@pytest.mark.torch
@pytest.mark.parametrize("way", ["trust_remote_code", "tokenizer_arguments"])
def test_code_of_a_served_tokenizer_is_run_where_it_is_allowed_alone(
    tmp_path: Path, way: str
) -> None:
    """By its one setting, and by no argument that is passed on, whatever the tokenizer asks for."""
    pytest.importorskip("transformers")
    from pytest_calibration.models.backends.server.replies import ServedModel
    from pytest_calibration.models.backends.server.served_tokenizer import tokenizer_of
    from pytest_calibration.models.backends.server.server_settings import ServerSettings

    sprung = tmp_path / "sprung"
    (tmp_path / "own.py").write_text(f"open({str(sprung)!r}, 'w')\n", "utf-8")
    (tmp_path / "tokenizer_config.json").write_text(
        '{"auto_map": {"AutoTokenizer": ["own.Own", null]}, "tokenizer_class": "Own"}', "utf-8"
    )
    (tmp_path / "config.json").write_text('{"model_type": "own", "trust_remote_code": true}')
    arguments: dict[str, Any] = {"trust_remote_code": True} if way == "tokenizer_arguments" else {}
    settings = ServerSettings(tokenizer_arguments=arguments)
    with pytest.raises(ModelError, match="the tokenizer of the served model 'm' cannot be loaded"):
        tokenizer_of(ServedModel("m", root=str(tmp_path)), settings)
    assert not sprung.exists()


def test_what_is_held_elsewhere_is_there() -> None:
    """Each test that the table names exists."""
    for test in HELD:
        file, _, name = test.partition("::")
        assert f"\ndef {name}(" in (TESTS / file).read_text("utf-8"), test
