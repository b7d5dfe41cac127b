"""What makes two runs of a task of lm-eval comparable, from its configuration."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_calibration.predictions.harness import TaskSettings, document_ids
from pytest_calibration.predictions.ids import digest, hash_ids

CONFIG: dict[str, Any] = {
    "doc_to_text": "{{question}}",
    "num_fewshot": 2,
    "fewshot_split": "train",
    "fewshot_config": {"sampler": "default"},
}


def settings(shots: int | None = None, seed: object = 1, **changes: Any) -> TaskSettings:
    """The settings of a task with something changed."""
    return TaskSettings.of({**CONFIG, **changes}, shots, 3, seed)


def test_version_and_number_of_examples_are_told() -> None:
    """The number asked for wins over that of the configuration; without either there are none."""
    assert (settings().version, settings().shots) == ("3", 2)
    assert (settings(5).shots, settings(0).shots) == (5, 0)
    assert TaskSettings.of({}, None, 3, 1).shots == 0


@pytest.mark.parametrize(
    "change",
    [
        {"doc_to_text": "Q: {{question}}"},
        {"description": "Answer."},
        {"target_delimiter": ""},
        {"fewshot_split": "validation"},
        {"fewshot_config": {"sampler": "first_n"}},
        {"fewshot_config": {"sampler": "default", "doc_to_text": "{{other}}"}},
        {"seed": 2},
    ],
    ids=str,
)
def test_what_makes_another_prompt_has_another_digest(change: dict[str, Any]) -> None:
    """The prompts themselves, and of which examples they are."""
    assert settings(**change).prompt != settings().prompt


@pytest.mark.parametrize(
    "change",
    [
        {"description": ""},
        {"target_delimiter": " "},
        {"fewshot_config": None},
        {"fewshot_config": {"sampler": "default", "split": "train"}},
        {"fewshot_config": {"sampler": "default", "doc_to_text": print}},
        {"metric_list": []},
    ],
    ids=str,
)
def test_what_is_said_twice_or_by_default_changes_nothing(change: dict[str, Any]) -> None:
    """Newer versions of the harness dump more of the same."""
    assert settings(**change).prompt == settings().prompt


@pytest.mark.parametrize("change", [{"fewshot_split": "validation"}, {"seed": 2}], ids=str)
def test_without_examples_their_source_does_not_count(change: dict[str, Any]) -> None:
    """Nor does the seed of a sampler that draws nothing."""
    assert settings(0, **change).prompt == settings(0).prompt
    first = {"fewshot_config": {"sampler": "first_n"}}
    assert settings(seed=2, **first).prompt == settings(**first).prompt


def test_where_a_function_lay_is_not_what_it_does() -> None:
    """Its address in memory is left out of the digest."""
    texts = ("<function ask at 0x7f00>", "<function ask at 0x7f01>", "<function other at 0x7f00>")
    first, again, other = (settings(doc_to_text=text).prompt for text in texts)
    assert first == again != other


def test_a_document_that_is_asked_again_has_an_id_of_its_own() -> None:
    """Task, filter and hash, and which repeat it is, counted from 1: records hold these ids."""
    one, other = ("arc", "none", "3f"), ("arc", "none", "4a")
    wanted = [digest(*one, 1), digest(*other, 1), digest(*one, 2), digest(*one, 3)]
    assert document_ids([one, other, one, one]).tolist() == hash_ids(wanted, "lm_eval").tolist()
