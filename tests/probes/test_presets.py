"""The packaged presets, read by the real library from local copies of their repositories."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import repositories
from fakes import FakeModel

from pytest_calibration import load_model
from pytest_calibration.probes.facts import Facts
from pytest_calibration.probes.multiple_choice import MultipleChoice
from pytest_calibration.probes.presets import packaged
from pytest_calibration.probes.probe_set import probe_set

pytestmark = pytest.mark.data

# Preset, what writes its repository, file of the harness's task (None: it has none), items.
PRESETS: dict[str, tuple[Callable[[Path], Path], str | None, int]] = {
    "mmlu": (repositories.mmlu, "mmlu/default/mmlu_us_foreign_policy.yaml", 6),
    "arc_easy": (repositories.ai2_arc, "arc/arc_easy.yaml", 4),
    "arc_challenge": (repositories.ai2_arc, "arc/arc_challenge.yaml", 4),
    "hellaswag": (repositories.hellaswag, "hellaswag/hellaswag.yaml", 3),
    "openbookqa": (repositories.openbookqa, "openbookqa/openbookqa.yaml", 2),
    "medmcqa": (repositories.medmcqa, "medmcqa/medmcqa.yaml", 2),
    "sciq": (repositories.sciq, "sciq/sciq.yaml", 8),
    "truthfulqa_mc1": (repositories.truthful_qa, "truthfulqa/truthfulqa_mc1.yaml", 12),
    "lambada_openai": (repositories.lambada, "lambada/lambada_openai.yaml", 2),
    "counterfact": (repositories.counterfact, None, 1),
    "t_rex": (repositories.t_rex, None, 2),
    "wikitext": (repositories.wikitext, None, 3),
    "sst2": (repositories.sst2, None, 2),
    "ag_news": (repositories.ag_news, None, 4),
    "sst2_lm": (repositories.sst2, "glue/sst2/default.yaml", 2),
    "ag_news_lm": (repositories.ag_news, None, 4),
}
HARNESS = [name for name, (_, task, _) in PRESETS.items() if task]


class Asked(FakeModel):
    """Notes what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[str] = []
        self.options: list[list[str]] = []

    def option_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[np.ndarray]:
        """Note prompts and options."""
        self.prompts, self.options = list(prompts), [list(row) for row in options]
        return super().option_logprobs(prompts, options)


class Leaning:
    """A classifier that likes a class the more, the later it stands."""

    name = fingerprint = "four"

    def __init__(self, classes: int) -> None:
        self.class_names = [f"LABEL_{i}" for i in range(classes)]

    def class_probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """The same for every text."""
        weights = np.arange(1.0, len(self.class_names) + 1)
        return np.tile(weights / weights.sum(), (len(texts), 1))


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness reads through the library's cache, which takes one folder for its namesake."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def probe_of(name: str, folder: Path, **settings: Any) -> Any:
    """Build the probe of a preset on a local copy."""
    copy = {name: {**settings, "dataset": {"path": str(folder)}}}
    return probe_set(copy, Path("/")).get(name)


@pytest.fixture
def repository(tmp_path: Path) -> Callable[[str], Path]:
    """Writes the repository of a preset."""

    def write(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        return PRESETS[name][0](folder)

    return write


def harness_task(file: str, folder: Path, shots: int = 0) -> Any:
    """Load a task of the harness, as it is, on a local copy of its data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lm_eval.tasks

        own = folder / "task.yaml"
        given = Path(lm_eval.tasks.__file__).parent / file
        own.write_text(
            f"include: {given}\ntask: here\ndataset_path: {folder}\nnum_fewshot: {shots}\n",
            encoding="utf-8",
        )
        manager = lm_eval.tasks.TaskManager(include_defaults=False)
        return manager.load(str(own))["tasks"]["here"]


def harness_requests(task: Any) -> list[list[tuple[str, str]]]:
    """Return (context, continuation) of the options of each document."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        task.build_all_requests()
    out: dict[int, list[tuple[str, str]]] = {}
    for request in task.instances:
        out.setdefault(request.doc_id, []).append(request.args)
    return list(out.values())


@pytest.mark.parametrize("name", HARNESS)
def test_a_preset_asks_what_the_harness_asks(name: str, repository: Any) -> None:
    """Contexts, continuations and right answers are those of the harness's task, byte for byte."""
    folder = repository(name)
    task = harness_task(str(PRESETS[name][1]), folder, packaged()[name].get("shots", 0))
    requests = harness_requests(task)
    probe = probe_of(name, folder)
    model = Asked()
    if isinstance(probe, Facts):
        joined = probe._joined(model, probe.items)
        ours = [(one.prompt, one.continuations[0]) for one in joined]
        assert [(context, answer) for ((context, answer),) in requests] == ours
        return
    probe.run(model)
    first = 3 if name == "mmlu" else 0  # ours has all subjects
    told = [[continuation for _, continuation in row] for row in requests]
    asked = model.options[first:]
    assert model.prompts[first:] == [row[0][0] for row in requests]
    if packaged()[name].get("shuffle"):
        told, asked = [sorted(row) for row in told], [sorted(row) for row in asked]
    assert asked == told
    right = [task.doc_to_choice(doc)[int(task.doc_to_target(doc))] for doc in task.eval_docs]
    assert [probe.answer_text(item) for item in probe.items[first:]] == right


def test_every_subject_is_named_as_the_harness_names_it(tmp_path: Path) -> None:
    """The header of all 57 subjects equals the harness's description."""
    import lm_eval.tasks
    import yaml

    folder = Path(lm_eval.tasks.__file__).parent / "mmlu" / "default"
    files = sorted(folder.glob("mmlu_*.yaml"))
    tasks = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]
    tasks = [task for task in tasks if "dataset_name" in task]
    assert len(tasks) == 57
    rows = [
        {"question": "q", "options": ["a", "b"], "answer": 0, "slice": task["dataset_name"]}
        for task in tasks
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    probe = MultipleChoice("mine", path=file, header=packaged()["mmlu"]["header"])
    assert [probe.header_of(item) for item in probe.items] == [t["description"] for t in tasks]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_reads_its_data(name: str, repository: Any) -> None:
    """Each preset makes items of rows that have its data set's columns and types, and runs."""
    probe = probe_of(name, repository(name))
    assert probe.size == PRESETS[name][2]
    dataset = packaged()[name]["dataset"]
    if probe.kind == "classification":
        predictions = probe.run(Leaning(2 if name == "sst2" else 4))
        assert predictions.labels.tolist() == ([1, 0] if name == "sst2" else [0, 1, 2, 3])
    else:
        predictions = probe.run(FakeModel())
    soft = predictions.signature.soft["dataset"]
    assert soft.startswith(" ".join(filter(None, [dataset["id"], dataset.get("config")])))
    assert f" {dataset['split']} rows " in soft


def test_every_preset_is_tested() -> None:
    """No preset is without a repository here."""
    assert set(PRESETS) == set(packaged())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that is sure of something."""
    from checkpoints import bpe, new_model, quietly, save

    folder = tmp_path_factory.mktemp("tiny")
    with quietly():
        return save(folder, new_model("gpt_neox", max_position_embeddings=1024), bpe())


@pytest.mark.parametrize("name", ["mmlu", "arc_easy", "hellaswag", "sciq", "lambada_openai"])
def test_a_run_of_the_harness_gives_the_same_numbers(
    name: str, repository: Any, checkpoint: Path
) -> None:
    """Scores of every option, and so accuracy, are those of its own run on the same checkpoint."""
    folder = repository(name)
    shots = packaged()[name].get("shots", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lm_eval
        from lm_eval.models.huggingface import HFLM

        harness_task(str(PRESETS[name][1]), folder, shots)
        result = lm_eval.simple_evaluate(
            HFLM(pretrained=str(checkpoint), device="cpu", dtype="float32", batch_size=2),
            tasks=[str(folder / "task.yaml")],
            task_manager=lm_eval.tasks.TaskManager(include_defaults=False),
            bootstrap_iters=0,
        )
    samples = result["samples"]["here"]
    theirs = [np.array([float(score) for score, _ in s["filtered_resps"]]) for s in samples]
    model = load_model(str(checkpoint))
    predictions = probe_of(name, folder).run(model)
    first = 3 if name == "mmlu" else 0
    if name == "lambada_openai":
        scores = np.concatenate([[score for score, _ in s["filtered_resps"]] for s in samples])
        np.testing.assert_allclose(predictions.label_logprobs, scores, atol=1e-4)
    else:
        assert predictions.probabilities is not None
        assert predictions.option_mass is not None
        ours = predictions.probabilities * predictions.option_mass[:, None]
        for row, told in zip(ours[first:], theirs, strict=True):
            # Where there are fewer options than the most, the rest is zeros.
            scored = np.sort(np.log(row[: len(told)]))
            np.testing.assert_allclose(scored, np.sort(told), atol=1e-4)
    results = result["results"]["here"]
    assert predictions.correct[first:].mean() == pytest.approx(results["acc,none"])
    if "acc_norm,none" in results:
        per_character = probe_of(name, folder, normalise="characters").run(model)
        assert per_character.correct.mean() == pytest.approx(results["acc_norm,none"])
