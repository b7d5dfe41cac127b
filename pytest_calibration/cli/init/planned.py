"""The files that a project needs, made from templates."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from pytest_calibration.cli.init.surroundings import (
    CLASSIFIER,
    CONFIG,
    REWARD_MODEL,
    Items,
    Stored,
    Surroundings,
)
from pytest_calibration.files import readable_stem

# Texts with labels that a classifier is asked, where the project has none yet.
TEXTS: Final = "calibration_texts.jsonl"
# Pairs of answers that a reward model is asked, likewise.
PAIRS: Final = "calibration_pairs.jsonl"
# Items that are asked of a longer file.
ENOUGH: Final = 2000
# A language model without items of the project's own is asked the built-in ones.
BUILT_IN: Final = {"facts": {"limit": 1000}, "multiple_choice": {"limit": 1000}}
# Kinds of probe that models other than language models are asked.
_ASKED: Final = {CLASSIFIER: "classification", REWARD_MODEL: "preference"}
# Stands for a checkpoint that is not there yet.
UNKNOWN: Final = "CHECKPOINT"
_MADE_UP: Final = {TEXTS: ("text per class", "labelled texts"), PAIRS: ("pair", "pairs")}


@dataclass(frozen=True)
class Step:
    """A command to type next.

    Attributes:
        command: the command.
        purpose: what it does.
    """

    command: str
    purpose: str


@dataclass(frozen=True)
class Plan:
    """What is to be written, and what to do then.

    Attributes:
        files: path from the folder to content.
        steps: commands, in order.
        notes: sentences on what a user has to add.
    """

    files: Mapping[str, str]
    steps: tuple[Step, ...]
    notes: tuple[str, ...]


def plan(found: Surroundings, *, ci: bool = True) -> Plan:
    """Return the files for what was found.

    Args:
        found: what is there.
        ci: whether a workflow is among the files.
    """
    probes, made = _probes(found)
    test = f"{found.tests}/test_calibration.py"
    values = {
        "found": found,
        "probes": probes,
        "test": test,
        "up": len(Path(found.tests).parts),
        "several": any(one.which for one in found.predictions),
        "command": " ".join(filter(None, ["pytest", test, _candidate(found)])),
        "checkpoint": _is_checkpoint(found),
        "extra": "[hf]" if _is_checkpoint(found) else "",
        "requirements": (found.folder / "requirements.txt").is_file(),
        "package": bool(found.own_model or any(one.is_code for one in found.checkpoints))
        and (found.folder / "pyproject.toml").is_file(),
    }
    files = {test: _rendered("test_calibration.py", values)}
    files[CONFIG] = _rendered("calibration.yaml", values)
    if not (found.folder / CONFIG).exists():
        files |= made
    notes = [*_hub_names(found), *_same_items(found)]
    if found.repository is None:
        notes.append("this folder is in no git repository; what is recorded is to be committed.")
    notes += [
        f"{name} has one made-up {_MADE_UP[name][0]}, to show how rows look; a comparison is "
        f"inconclusive until some hundred {_MADE_UP[name][1]} of your own stand there."
        for name in files.keys() & made.keys()
    ]
    if ci and found.below:
        notes.append(
            "CI reads workflows at the top of a repository alone, so none is written; let a job "
            f"run, in {found.below}: {values['command']}"
        )
    elif ci and found.gitlab:
        name = "calibration.gitlab-ci.yml"
        files[name] = _rendered("gitlab.yml", values)
        notes.append(f".gitlab-ci.yml reads it where it has the line: include: /{name}")
    elif ci:
        files[".github/workflows/calibration.yml"] = _rendered("github.yml", values)
    return Plan(files, tuple(_steps(found, test)), tuple(notes))


def _probes(found: Surroundings) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return the probes of ``calibration.yaml``, and files of items that have to be made."""
    if not found.asks:
        return {}, {}
    fitting = [one for one in found.items if _fits(found, one)]
    if not fitting and any(one.is_code for one in found.checkpoints):
        # What is imported may be a language model as well.
        fitting = list(found.items)
    probes: dict[str, dict[str, Any]] = {}
    for one in fitting:
        name = readable_stem(Path(one.path).stem)
        # Two files of one name, in two folders.
        if name in probes:
            name = readable_stem(Path(one.path).with_suffix("").as_posix().replace("/", "-"))
        probes[name] = {"kind": one.kind, "path": one.path}
        if one.size > ENOUGH:
            probes[name]["limit"] = ENOUGH
    if probes:
        return probes, {}
    if found.kind == REWARD_MODEL:
        row = {"prompt": "Put a question here.", "chosen": "What people chose.", "rejected": "No."}
        pairs = {"kind": _ASKED[REWARD_MODEL], "path": PAIRS}
        return {"pairs": pairs}, {PAIRS: f"{json.dumps(row)}\n"}
    if found.kind != CLASSIFIER:
        # A model of the project's own may be anything; its probes are named there.
        return ({} if found.own_model else dict(BUILT_IN)), {}
    # A class may be named by its column, too.
    labels = next((one.labels for one in found.checkpoints if one.labels), (0, 1))
    rows = [{"text": f"Put a text of class {label} here.", "label": label} for label in labels]
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return {"texts": {"kind": _ASKED[CLASSIFIER], "path": TEXTS}}, {TEXTS: content}


def _fits(found: Surroundings, items: Items) -> bool:
    """Whether the models can be asked these items; a model of the project's own any."""
    if not found.checkpoints and found.own_model:
        return True
    asked = _ASKED.get(found.kind)
    return items.kind == asked if asked else items.kind not in _ASKED.values()


def _is_checkpoint(found: Surroundings) -> bool:
    """Whether the model under test is one that torch runs."""
    return bool(_candidate(found)) and not any(one.is_code for one in found.checkpoints)


def _candidate(found: Surroundings) -> str:
    """Return the argument that names the model under test; empty where none is named."""
    if not found.asks or found.own_model:
        return ""
    last = found.checkpoints[-1].path if found.checkpoints else UNKNOWN
    return shlex.quote(f"--calibration-model={last}")


def _same_items(found: Surroundings) -> Iterator[str]:
    """Say how to compare two files that may be of one model, as it was and as it is."""
    first: dict[str, Stored] = {}
    for one in found.predictions:
        other = first.setdefault(one.items, one) if one.items else one
        if other is not one:
            yield (
                f"{other.path} and {one.path} hold the same items, and each has a baseline of its "
                f"own; to compare one with the other: {one.compared_with(other)}"
            )


def _hub_names(found: Surroundings) -> list[str]:
    return [
        f"{one.path} is taken for a name on the model hub: there is no such folder."
        for one in found.checkpoints
        if not one.is_code and not (found.folder / one.path).is_dir()
    ]


def _steps(found: Surroundings, test: str) -> Iterator[Step]:
    candidate = _candidate(found)
    if _is_checkpoint(found) and not (find_spec("torch") and find_spec("transformers")):
        yield Step('pip install "pytest-calibration[hf]"', "what runs checkpoints")
    first = found.checkpoints[0].path if found.checkpoints else UNKNOWN
    flags = [shlex.quote(f"--calibration-model={first}")] if candidate else []
    record = shlex.join(["pytest", test])
    yield Step(
        " ".join([record, *flags, "--calibration-record"]),
        "store what is there now; commit the files",
    )
    # What is imported keeps its name when it changes.
    if _is_checkpoint(found) and len(found.checkpoints) < 2:
        candidate = f"--calibration-model={UNKNOWN}"
    yield Step(
        " ".join(filter(None, [record, candidate])),
        "from then on: fails when calibration got worse",
    )


def _rendered(name: str, values: Mapping[str, Any]) -> str:
    """Return a template with its values filled in."""
    import yaml
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pytest_calibration.cli.init"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # GitHub's own expressions have two braces.
        variable_start_string="<<",
        variable_end_string=">>",
    )
    environment.filters["python"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.filters["yaml"] = lambda value: (
        yaml.safe_dump(
            value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1000
        )
        .strip()
        .removesuffix("\n...")
    )
    return environment.get_template(f"{name}.jinja").render(values)
