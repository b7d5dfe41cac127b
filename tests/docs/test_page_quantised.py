"""The blocks of the page on quantised models, on a small checkpoint with random weights."""

from __future__ import annotations

import importlib
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from checkpoints import bpe, new_model, quietly, save
from console import Console
from documents import Section, blocks, put_files

pytest.importorskip("torch")
pytest.importorskip("transformers")

PAGE = "docs/how-to/quantised.md"
PROBES = """
model: {dtype: float32}
probes:
  quiz: {kind: multiple_choice, path: quiz.jsonl, scoring: text, template: "{question}"}
"""
# As the page speaks of it: linear layers in 8 bits.
QUANTISATION = """
import torch
from checkpoints import quietly

def quantised(model):
    with quietly():
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
"""
needs_bitsandbytes = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="needs the dependency group `examples`"
)

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-NeoX that knows nothing."""
    if find_spec("bitsandbytes"):
        # Before any inner run, each of which forgets what it loaded; it can be loaded once.
        importlib.import_module("bitsandbytes")
    return save(tmp_path_factory.mktemp("neox"), new_model("gpt_neox"), bpe())


@pytest.fixture
def original(
    folder: Path, gate: Path, checkpoint: Path, section: Section, console: Console
) -> Path:
    """The project of the page: questions, and the record of the original as the page makes it."""
    shutil.copytree(checkpoint, folder / "runs" / "sft")
    rows = (
        {"question": f"The city of {i} is", "options": ["Oslo", "Bern"], "answer": i % 2}
        for i in range(400)
    )
    (folder / "quiz.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    (folder / "calibration.yaml").write_text(PROBES, "utf-8")
    (record,) = section("docs/how-to/quantised.md", "")
    console.type(record)
    return folder


@pytest.mark.usefixtures("original")
def test_another_dtype(section: Section, console: Console) -> None:
    """It is compared with the record, and the summary names the difference in the page's words."""
    (command,) = section("docs/how-to/quantised.md", "Another dtype")
    (said,) = console.type(command)
    assert "differs from the baseline in dtype bfloat16 (float32)" in said


def test_any_other_way(section: Section, original: Path, pytester: pytest.Pytester) -> None:
    """The fixture of the page quantises what ``--calibration-model`` names."""
    assert put_files(original, section("docs/how-to/quantised.md", "In any other way")) == [
        "conftest.py"
    ]
    (original / "my_quantisation.py").write_text(QUANTISATION, "utf-8")
    result = pytester.runpytest_inprocess("--calibration-model=runs/sft")
    result.stdout.fnmatch_lines(
        ["*differs from the baseline in dtype float32 quantised by torch.ao (float32)*"]
    )
    assert result.ret == 0


@pytest.mark.docs
@needs_bitsandbytes
@pytest.mark.filterwarnings("ignore")
def test_quantised_as_it_is_loaded(section: Section, original: Path, console: Console) -> None:
    """The second file has the same probes; the summary says what quantised the model."""
    settings, command = section("docs/how-to/quantised.md", "Quantised as it is loaded")
    assert put_files(original, [settings]) == ["int8.yaml"]
    console.type(command)


@pytest.mark.docs
@needs_bitsandbytes
@pytest.mark.filterwarnings("ignore")
def test_a_quantised_checkpoint(section: Section, original: Path, console: Console) -> None:
    """Saved in 8 bits it is compared with the record, and with its original as the parent."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    (commands,) = section("docs/how-to/quantised.md", "A quantised checkpoint")
    with quietly():
        small = AutoModelForCausalLM.from_pretrained(
            original / "runs/sft", quantization_config=BitsAndBytesConfig(load_in_8bit=True)
        )
    save(original / "runs/sft-int8", small, AutoTokenizer.from_pretrained(original / "runs/sft"))
    for said in console.type(commands):
        assert "in dtype float32 quantised by bitsandbytes to 8 bits (float32)" in said
    assert "differs from the parent sft" in said


def test_the_second_file_has_the_probes_of_the_first() -> None:
    """Else the two would not be compared on the same items."""
    import yaml

    (settings,) = (b for b in blocks(PAGE, "Quantised as it is loaded") if b.file)
    assert yaml.safe_load(settings.text)["probes"] == yaml.safe_load(PROBES)["probes"]
