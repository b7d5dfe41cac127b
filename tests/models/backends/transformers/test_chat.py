"""Chats: rendered by real templates, and scored right after them, on a model trained for that."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import CHAT_TEMPLATE, bpe, chat_model, chat_tokenizer, new_model, quietly, save
from numpy.testing import assert_allclose

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers

from pytest_calibration import Facts, MultipleChoice, load_model
from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends.transformers.transformers_model import (
    TransformersModel,
)
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.causal.chat import rendered
from pytest_calibration.models.loading import LazyModel
from pytest_calibration.models.protocols import ChatModel, Message

pytestmark = pytest.mark.torch

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Who?"}
ASSISTANT = {"role": "assistant", "content": "Me."}
TURN = "{% for m in messages %}"
END = "{% endfor %}"
PLAIN = TURN + "<{{ m.role }}>{{ m.content }}" + END + "<assistant>"
REFUSING = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + PLAIN
)
IGNORING = TURN + "{% if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endif %}" + END
LAST_ONLY = "<user>{{ messages[-1].content }}<assistant>"
TRIMMING = TURN + "<{{ m.role }}>{{ m.content | trim }}" + END + "<assistant>"
THINKING = PLAIN + "{% if enable_thinking is defined and not enable_thinking %}<no>{% endif %}"
DATED = "{{ strftime_now('%d %b %Y') }}" + PLAIN


def render(template: Any, chat: Sequence[Message], **variables: object) -> str:
    """Render a conversation by a template."""
    return rendered(chat_tokenizer(template), "sft", chat, variables)


@pytest.mark.parametrize(
    ("template", "chat", "text"),
    [
        pytest.param(PLAIN, [USER], "<user>Who?<assistant>", id="question"),
        pytest.param(
            PLAIN,
            [SYSTEM, USER, ASSISTANT, USER],
            "<system>Be brief.<user>Who?<assistant>Me.<user>Who?<assistant>",
            id="all roles",
        ),
        pytest.param(
            REFUSING, [SYSTEM, USER], "<user>Be brief.\n\nWho?<assistant>", id="refuses the system"
        ),
        pytest.param(REFUSING, [USER], "<user>Who?<assistant>", id="no system to refuse"),
        pytest.param(
            IGNORING + "<assistant>",
            [SYSTEM, USER, ASSISTANT, USER],
            "<user>Be brief.\n\nWho?<assistant>Me.<user>Who?<assistant>",
            id="leaves the system out",
        ),
        pytest.param(
            TRIMMING,
            [{**USER, "content": " Who? \n"}],
            "<user>Who?<assistant>",
            id="trims",
        ),
        pytest.param(
            {"default": PLAIN, "tool_use": "{{ tools }}"},
            [USER],
            "<user>Who?<assistant>",
            id="one of several",
        ),
    ],
)
def test_a_conversation_is_rendered(template: Any, chat: Sequence[Message], text: str) -> None:
    """All turns, up to the assistant's next; what no system may say the user says first."""
    assert render(template, chat) == text


def test_the_opening_of_the_template_is_its_own() -> None:
    """A template writes its first token itself, or not at all."""
    assert render(CHAT_TEMPLATE, [USER]) == "<end><|user|>\nWho?<|end|>\n<|assistant|>\n"


def test_variables_reach_the_template() -> None:
    """A template that thinks by default can be told not to."""
    assert render(THINKING, [USER], enable_thinking=False).endswith("<no>")
    assert not render(THINKING, [USER]).endswith("<no>")


@pytest.mark.parametrize("name", ["messages", "conversation", "tokenize", "return_dict"])
def test_what_every_prompt_sets_is_no_variable(name: str) -> None:
    """The error names it, and not how the library was called."""
    message = f"^sft: chat: '{name}' is no variable of a chat template, it is set for every prompt"
    with pytest.raises(ModelError, match=message):
        render(PLAIN, [USER], **{name: True})


def test_a_date_is_the_same_on_every_day() -> None:
    """A template that writes today's date gives the prompts of a fixed day."""
    assert render(DATED, [USER]) == "26 Jul 2024<user>Who?<assistant>"
    formats = "%Y-%m-%d", "%B %d, %y", "%A"
    for written, given in zip(formats, ("2024-07-26", "July 26, 24", "Friday"), strict=True):
        assert render(DATED.replace("%d %b %Y", written), [USER]).startswith(f"{given}<user>")
    assert render(f"\n{DATED}", [USER]).startswith("\n26 Jul"), "all else of it is as it was"
    given = render("{{ date }}" + PLAIN, [USER], date="1 May 2025")
    assert given == "1 May 2025<user>Who?<assistant>"


@pytest.mark.parametrize(
    ("template", "chat", "variables", "message"),
    [
        (None, [USER], {}, r"has no chat template, which probes with `chat` need; leave chat out"),
        ("", [USER], {}, r"has no chat template"),
        ("{% if %}", [USER], {}, r"cannot render the probe's prompts: Expected an expression"),
        (LAST_ONLY, [USER, ASSISTANT, USER], {}, r"it leaves out a turn of the assistant"),
        ("{{ raise_exception('no\nway.') }}", [USER], {}, r"prompts: no way\.$"),
        (REFUSING.replace("role == 'system'", "role"), [SYSTEM, USER], {}, r"System role not"),
        ({"tool_use": PLAIN}, [USER], {}, r"cannot render the probe's prompts: .*default"),
    ],
)
def test_templates_that_cannot_render_are_named(
    template: Any, chat: Sequence[Message], variables: Mapping[str, object], message: str
) -> None:
    """One sentence: the model, what is wrong, what to do."""
    with pytest.raises(ModelError, match=rf"^sft: its (tokenizer|chat template) .*{message}"):
        render(template, chat, **variables)


# --- a model that was trained on chats -----------------------------------------------------------

ROWS = [
    {"question": f"Question {i}?", "options": [f"a{i}", f"b{i}", f"c{i}", f"d{i}"], "answer": i % 4}
    for i in range(16)
]


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen questions."""
    path = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    return path


def probe(questions: Path, **settings: Any) -> MultipleChoice:
    """Ask the questions without a header."""
    return MultipleChoice("mcq", path=questions, **{"header": ""} | settings)


@pytest.fixture(scope="session")
def chatting(questions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that answers with a letter right after its template's end."""
    tokenizer = chat_tokenizer()
    asked = probe(questions)
    chats = [
        [
            *map(dict, asked.conversation(item)),
            {"role": "assistant", "content": asked.answer_text(item)},
        ]
        for item in asked.items
    ]
    model = chat_model(tokenizer, chats, steps=80)
    return save(tmp_path_factory.mktemp("chatting") / "sft", model, tokenizer)


def load(path: Path, **more: Any) -> LazyModel:
    """Return a model that scores in float32 on the CPU."""
    return load_model(str(path), device="cpu", dtype="float32", **more)


def median_mass(predictions: Any) -> float:
    """Half of the questions have no more probability on their options."""
    return float(np.median(predictions.option_mass))


def test_a_chat_model_answers_after_its_template_and_nowhere_else(
    chatting: Path, questions: Path
) -> None:
    """The letters hold all the probability in a chat, and none of it without."""
    model = load(chatting)
    assert median_mass(probe(questions, chat=True).run(model)) > 0.9
    assert median_mass(probe(questions).run(model)) < 1e-3
    assert median_mass(probe(questions, chat=True, delimiter=" ").run(model)) < 1e-3
    assert median_mass(probe(questions, delimiter="").run(model)) < 1e-3


def test_chats_score_as_the_library_tokenises_them(chatting: Path, questions: Path) -> None:
    """P(letter) is that after the tokens of ``apply_chat_template``, with one first token."""
    with quietly():
        tokenizer = transformers.AutoTokenizer.from_pretrained(chatting)
        plain = transformers.AutoModelForCausalLM.from_pretrained(chatting).eval()
    asked = probe(questions, chat=True, shots=1, header="Answer.\n\n")
    predictions = asked.run(load(chatting))
    letters = [tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in "ABCD"]
    for item, row, mass in zip(
        asked.items, predictions.probabilities, predictions.option_mass, strict=True
    ):
        chat = [dict(turn) for turn in asked.conversation(item)]
        assert [turn["role"] for turn in chat] == ["system", "user", "assistant", "user"]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
        assert ids.count(0) == 1
        with torch.no_grad():
            logits = plain(torch.tensor([ids])).logits[0, -1].double()
        expected = torch.softmax(logits, -1)[letters].numpy()
        assert_allclose(mass, expected.sum(), rtol=0, atol=1e-4)
        assert_allclose(row, expected / expected.sum(), rtol=0, atol=1e-4)


WITHOUT_FIRST = CHAT_TEMPLATE.replace("{{ bos_token }}", "")


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, WITHOUT_FIRST], ids=["first", "no first"])
def test_nothing_is_put_before_a_rendered_chat(tmp_path: Path, template: str) -> None:
    """Every method reads the tokens of the text alone, though the tokenizer adds one to others."""
    model = new_model("llama", vocab_size=len(chat_tokenizer()), max_position_embeddings=256)
    model.eval()
    tokenizer = chat_tokenizer(template)
    engine = TransformersModel.of(model, tokenizer)
    assert isinstance(engine, ChatModel)
    (text,) = engine.render_chat([[USER]], {})
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    answer = tokenizer("Rome", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        table = model(torch.tensor([ids + answer])).logits[0].double().log_softmax(-1)
    expected = [float(table[len(ids) - 1 + i, token]) for i, token in enumerate(answer)]
    (row,) = engine.option_logprobs([text], [["Rome"]], add_special_tokens=False)
    assert_allclose(row, [sum(expected)], rtol=0, atol=1e-4)
    (score,) = engine.next_token([f"{text}Rome"], add_special_tokens=False)
    assert_allclose(score.target_logprob[-len(answer) :], expected, rtol=0, atol=1e-4)
    (written,) = engine.generate([text], max_new_tokens=[1], add_special_tokens=False)
    assert_allclose(written.token_logprobs, [float(table[len(ids) - 1].max())], rtol=0, atol=1e-4)


@pytest.mark.parametrize("mode", ["first_token", "whole_entity"])
def test_facts_in_a_chat(chatting: Path, tmp_path: Path, mode: Any) -> None:
    """The entity is the assistant's next turn; the model that was trained on it knows it."""
    path = tmp_path / "facts.jsonl"
    rows = [
        {"prompt": f"{r['question']}\nA. a{i}\nB. b{i}\nC. c{i}\nD. d{i}\nAnswer:", "answer": "A"}
        for i, r in enumerate(ROWS)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    model = load(chatting)
    spoken = Facts("f", path=path, mode=mode, chat=True).run(model)
    plain = Facts("f", path=path, mode=mode).run(model)
    assert spoken.label_logprobs is not None
    assert plain.label_logprobs is not None
    assert np.median(spoken.label_logprobs) > np.log(0.1)
    assert np.median(plain.label_logprobs) < np.log(1e-3)


def test_another_template_is_not_comparable(chatting: Path, questions: Path) -> None:
    """The signature has what the template says; comments and tools in it do not matter."""
    asked = probe(questions, chat=True)
    model = load(chatting).load()
    before = asked.run(model, limit=2).signature
    model.tokenizer.chat_template = "{# a comment #}" + CHAT_TEMPLATE
    assert asked.run(model, limit=2).signature == before
    model.tokenizer.chat_template = CHAT_TEMPLATE.replace("<|end|>", "<|end|> ")
    (difference,) = asked.run(model, limit=2).signature.hard_differences(before)
    assert difference[0] == "chat"


def test_another_template_is_another_entry_of_the_cache(
    chatting: Path, questions: Path, tmp_path: Path
) -> None:
    """Answers of chats are kept, and those of an edited template are not served for it."""
    copy = Path(shutil.copytree(chatting, tmp_path / "sft"))
    asked = probe(questions, chat=True)
    cache = Cache(tmp_path / "cache")
    first = asked.run(load(copy, cache=cache))
    again = load(copy, cache=cache)
    assert asked.run(again).signature == first.signature
    assert again.use.loads == 0
    template = copy / "chat_template.jinja"
    template.write_text(template.read_text("utf-8").replace("<|end|>", "<|end|> "), "utf-8")
    edited = load(copy, cache=cache)
    assert asked.run(edited).signature != first.signature
    assert edited.use.loads == 1


def test_a_template_in_memory_is_part_of_the_fingerprint() -> None:
    """A model whose template was edited is another one."""
    engine = TransformersModel.of(new_model("llama"), bpe(start=True))
    before = engine.fingerprint
    engine.tokenizer.chat_template = CHAT_TEMPLATE
    assert engine.fingerprint != before


def test_a_checkpoint_without_a_template_is_named(neox: Path, questions: Path) -> None:
    """A base model cannot be asked in a chat."""
    with pytest.raises(ModelError, match=r"^gpt_neox: its tokenizer has no chat template"):
        probe(questions, chat=True).run(load(neox))


# --- a project -----------------------------------------------------------------------------------

GATE = """
from pytest_calibration import assert_no_regression

def test_no_regression(calibration, calibration_baseline, calibration_probe):
    assert_no_regression(calibration.run(calibration_probe), calibration_baseline)
"""


class Project:
    """A folder with a chat model, its questions and a gate."""

    def __init__(self, folder: Path, checkpoint: Path, questions: Path) -> None:
        self.folder = folder
        self.checkpoint = Path(shutil.copytree(checkpoint, folder / "runs" / "sft"))
        shutil.copy(questions, folder / "mcq.jsonl")
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        (folder / "test_gate.py").write_text(GATE, encoding="utf-8")

    def probes(self, entry: str) -> None:
        """Write ``calibration.yaml`` with one probe."""
        entry = f"kind: multiple_choice, path: mcq.jsonl, header: '', {entry}"
        text = f"model: {{device: cpu}}\nprobes:\n  mcq: {{{entry}}}\n"
        (self.folder / "calibration.yaml").write_text(text, encoding="utf-8")

    def run(self, *args: str) -> tuple[int, str]:
        """Run pytest; return exit code and output."""
        command = [sys.executable, "-m", "pytest", "--calibration-model=runs/sft", *args]
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "400"}
        done = subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path, chatting: Path, questions: Path) -> Project:
    """A project of its own."""
    return Project(tmp_path, chatting, questions)


@pytest.mark.parametrize("args", [["-q"], ["-n", "2"]], ids=["quiet", "two workers"])
def test_recording_noise_is_told(project: Project, args: list[str]) -> None:
    """Without its template a chat model's numbers say little: in the summary and every report."""
    project.probes("shots: 0")
    reports = [f"--calibration-report=r.{ending}" for ending in ("json", "md", "html")]
    code, output = project.run("--calibration-record", *args, *reports)
    assert code == 0, output
    assert "1 recorded" in output
    told = "of the probability (median): the prompt does not lead to them"
    assert "mcq on sft: the options hold" in output
    assert output.count(told) == 1
    for ending in ("json", "md", "html"):
        assert told in (project.folder / f"r.{ending}").read_text("utf-8")


def test_a_chat_is_recorded_and_another_template_is_not_comparable(project: Project) -> None:
    """Recorded and gated with its own template; an edited one is told from it, by its digest."""
    project.probes("chat: true")
    code, output = project.run("--calibration-record")
    assert code == 0, output
    assert "does not lead" not in output
    record = (project.folder / "calibration_baselines" / "mcq.yaml").read_text("utf-8")
    before = re.search(r"chat: template (\w{8})", record)
    assert before is not None
    template = project.checkpoint / "chat_template.jinja"
    template.write_text(template.read_text("utf-8").replace("<|end|>", "<|end|> "), "utf-8")
    code, output = project.run()
    assert code == 1
    assert "1 not comparable" in output
    assert f"template {before[1]}" in output
    template.unlink()
    code, output = project.run("-n", "2")
    assert code == 1
    assert "sft: its tokenizer has no chat template" in output
