"""What lies in the folder of a project: checkpoints, predictions, items, tests, git, CI."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from pytest_calibration.errors import CalibrationError, ItemError, PredictionsError, UsageError
from pytest_calibration.history.checkpoints import checkpoint_of, run_of
from pytest_calibration.input_files import text_lines
from pytest_calibration.predictions.ids import digest
from pytest_calibration.readers.lm_eval import NEWEST, NONE, SAMPLES
from pytest_calibration.readers.tables import PARQUET
from pytest_calibration.text.numbers import counted

LANGUAGE_MODEL: Final = "language model"
CLASSIFIER: Final = "classifier"
REWARD_MODEL: Final = "reward model"
CONFIG: Final = "calibration.yaml"
# Folders that hold nothing of a project's own.
_PASSED_OVER: Final = frozenset(
    {"__pycache__", "build", "calibration_baselines", "dist", "env", "node_modules"}
    | {"site-packages", "venv"}
)
_DEEPEST: Final = 5
_MOST_FOLDERS: Final = 2000
_MOST_FILES: Final = 20
# Files that are neither predictions nor items and are told, of these kinds.
_TABLES: Final = frozenset({".csv", ".tsv", *PARQUET})
_MOST_TOLD: Final = 3
_ITEM_FILES: Final = frozenset({".jsonl", ".csv", ".tsv"})
# Bytes of a file that is read to see whether it can be.
_MOST_READ: Final = 1 << 26
_CAUSAL: Final = re.compile(r"(ForCausalLM|LMHeadModel|ForConditionalGeneration)$")
_CLASSIFIES: Final = re.compile(r"For(Sequence|Token)Classification$")
_BASE: Final = re.compile(r"(^|[-_.])(base|pretrained|reference)([-_.]|$)", re.IGNORECASE)
_TRAINED_ON: Final = re.compile(r"(^|[-_.])train(ing)?([-_.]|$)", re.IGNORECASE)
_OWN_MODEL: Final = re.compile(r"^\s*(async\s+)?def calibration_model\b", re.MULTILINE)
# Kinds of probe whose items a file may hold, the more particular first, and the keys by which a
# file that holds bad ones is told from any other.
_ITEM_KINDS: Final[Mapping[str, frozenset[str]]] = {
    "multiple_choice": frozenset({"question", "options"}),
    "facts": frozenset({"prompt", "answer"}),
    "preference": frozenset({"chosen", "rejected"}),
    "classification": frozenset({"text", "label"}),
    "p_true": frozenset({"question", "answer"}),
    "next_token": frozenset(),
}


@dataclass(frozen=True)
class Checkpoint:
    """A model that was found or named.

    Attributes:
        path: as it is typed, from the folder; a hub id or ``module:name`` where no such folder is
            there.
        kind: ``LANGUAGE_MODEL``, ``CLASSIFIER`` or ``REWARD_MODEL``.
        labels: names of the classes of a classifier; empty where they are not known.
        is_code: whether it is a function or object that is imported.
    """

    path: str
    kind: str
    labels: tuple[str, ...] = ()
    is_code: bool = False


@dataclass(frozen=True)
class Stored:
    """Predictions in a file.

    Attributes:
        path: of the file or folder, from the folder of the project.
        probe: the name under which they would be recorded.
        which: further arguments of ``read_predictions``.
        items: a digest of their ids.
    """

    path: str
    probe: str
    which: Mapping[str, Any] = field(default_factory=dict)
    items: str = ""

    def compared_with(self, other: Stored) -> str:
        """Return the command that compares them with others."""
        task = [f"--task={self.which['task']}"] if "task" in self.which else []
        return shlex.join(
            ["pytest-calibration", "check", self.path, f"--baseline={other.path}", *task]
        )


@dataclass(frozen=True)
class Items:
    """Items of a probe in a file.

    Attributes:
        path: of the file, from the folder of the project.
        kind: the kind of probe that reads it.
        size: how many there are.
    """

    path: str
    kind: str
    size: int


@dataclass(frozen=True)
class Surroundings:
    """What is there.

    Attributes:
        folder: the project.
        checkpoints: models of one kind, in order of their steps, what others come from first.
        predictions: of models that were run elsewhere.
        items: what could be asked.
        own_model: the ``conftest.py`` with a fixture ``calibration_model``; empty without one, and
            where a model is named.
        tests: the folder of the tests.
        repository: the top of the git repository that it is in; None where it is in none.
        gitlab: whether its CI is GitLab's.
        left_out: what was seen and is not used, with the reason.
    """

    folder: Path
    checkpoints: tuple[Checkpoint, ...]
    predictions: tuple[Stored, ...]
    items: tuple[Items, ...]
    own_model: str
    tests: str
    repository: Path | None
    gitlab: bool
    left_out: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Kind of the checkpoints; a language model where there are none."""
        return self.checkpoints[0].kind if self.checkpoints else LANGUAGE_MODEL

    @property
    def below(self) -> str:
        """Where it lies in its repository; empty at the top, or without one."""
        here = self.folder.resolve()
        if self.repository in (None, here):
            return ""
        return here.relative_to(self.repository or here).as_posix()

    @property
    def asks(self) -> bool:
        """Whether a model is asked: not where there are only predictions."""
        return bool(self.checkpoints or self.own_model or not self.predictions)

    def sentence(self) -> str:
        """Say what was found, in one line."""
        names = [one.path for one in self.checkpoints]
        parts = [f"{counted(len(names), self.kind)} ({_some(names)})"] if names else []
        stored = list(dict.fromkeys(one.path for one in self.predictions))
        parts += [f"predictions ({_some(stored)})"] if stored else []
        parts += [f"items ({_some([one.path for one in self.items])})"] if self.items else []
        parts += [f"a model of your own ({self.own_model})"] if self.own_model else []
        return ", ".join(parts) or "neither checkpoints nor predictions"


def look(
    folder: Path,
    model: str | None = None,
    predictions: str | None = None,
    columns: Mapping[str, Any] | None = None,
) -> Surroundings:
    """Look at a folder.

    Args:
        folder: the project.
        model: a checkpoint or hub id, in place of those that lie there.
        predictions: a file, in place of those that lie there.
        columns: what its columns are, as arguments of ``read_predictions``.

    Raises:
        UsageError: the folder is none, or the model is there and is none.
        PredictionsError: the file that is named holds none.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder; make it first, or name another.")
    left_out: list[str] = []
    places = list(_folders(folder, left_out))
    checkpoints: tuple[Checkpoint, ...] = ()
    if model is not None:
        checkpoints = (_named_model(folder, model),)
    elif predictions is None:
        checkpoints = tuple(_of_one_kind(_in_order(folder, places, left_out), left_out))
    stored: list[Stored]
    items: list[Items] = []
    if predictions is not None:
        stored = _predictions(folder, folder / predictions, columns)
    else:
        stored, items = _files(folder, places, left_out, whether=model is None)
    return Surroundings(
        folder,
        checkpoints,
        tuple(stored),
        tuple(items),
        own_model=_own_model(folder, places) if model is None else "",
        tests=next((name for name in ("tests", "test") if (folder / name).is_dir()), "tests"),
        repository=next(
            (
                place
                for place in (folder.resolve(), *folder.resolve().parents)
                if (place / ".git").exists()
            ),
            None,
        ),
        gitlab=(folder / ".gitlab-ci.yml").exists() and not (folder / ".github").is_dir(),
        left_out=tuple(left_out),
    )


def _some(names: Sequence[str]) -> str:
    most = 3
    more = f", {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _folders(folder: Path, left_out: list[str]) -> Iterator[Path]:
    """Yield the folder and those below it, without what holds nothing of the project's own."""
    left = [(folder, 0)]
    seen = 0
    while left:
        place, depth = left.pop(0)
        seen += 1
        if seen > _MOST_FOLDERS:
            left_out.append(f"folders beyond the first {_MOST_FOLDERS:,}")
            return
        yield place
        if depth < _DEEPEST:
            left += [(one, depth + 1) for one in _entries(place) if _is_folder_of_project(one)]


def _entries(folder: Path) -> list[Path]:
    try:
        # A name with a line break, or that is no text, cannot be typed.
        return sorted(one for one in folder.iterdir() if one.name.isprintable())
    except OSError:
        return []


def _is_folder_of_project(path: Path) -> bool:
    hidden = path.name.startswith(".") or path.name in _PASSED_OVER
    # A link may lead back up. A virtual environment may have any name.
    return not hidden and path.is_dir() and not path.is_symlink() and not _is_venv(path)


def _is_venv(path: Path) -> bool:
    return (path / "pyvenv.cfg").exists()


def _own_model(folder: Path, places: Sequence[Path]) -> str:
    for place in places:
        file = place / "conftest.py"
        try:
            if file.is_file() and _OWN_MODEL.search(file.read_text("utf-8")):
                return _from(folder, file)
        except (OSError, ValueError):
            continue
    return ""


def _from(folder: Path, path: Path) -> str:
    """Return a path as it is typed in the folder; as it is where it lies elsewhere."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


# --- checkpoints --------------------------------------------------------------------------------


def _named_model(folder: Path, text: str) -> Checkpoint:
    place = folder / text
    if not place.is_dir():
        if place.exists() or text.startswith((".", "/", "~")):
            raise UsageError(f"model {text!r}: there is no such folder in {folder}.")
        # A function is a classifier, as a rule; no name on the hub has a colon.
        is_code = ":" in text
        return Checkpoint(text, CLASSIFIER if is_code else LANGUAGE_MODEL, is_code=is_code)
    left_out: list[str] = []
    found = _checkpoint(text, place, left_out)
    if found is None:
        why = "".join(left_out) or "it holds neither config.json nor adapter_config.json"
        raise UsageError(f"model {text!r} is no checkpoint that can be asked ({why}).")
    return found


def _in_order(folder: Path, places: Sequence[Path], left_out: list[str]) -> list[Checkpoint]:
    paths = [(_from(folder, place), place) for place in places]
    found = [_checkpoint(path, place, left_out) for path, place in paths]
    known = [one for one in found if one is not None]
    # What is named as a base comes first, then what is of no run, then checkpoints by their steps.
    return sorted(
        known,
        key=lambda one: (
            not _BASE.search(Path(one.path).name),
            bool(run_of(one.path)),
            checkpoint_of(str(folder / one.path)).place,
            one.path,
        ),
    )


def _checkpoint(path: str, place: Path, left_out: list[str]) -> Checkpoint | None:
    """Return the model in a folder; None where there is none, or none that can be asked."""
    adapter, config = _json(place / "adapter_config.json"), _json(place / "config.json")
    if adapter.get("peft_type"):
        task = str(adapter.get("task_type") or "")
        return Checkpoint(path, CLASSIFIER if task in ("SEQ_CLS", "TOKEN_CLS") else LANGUAGE_MODEL)
    if not (config.get("model_type") or config.get("architectures")):
        return None
    named = config.get("architectures") or ["LMHeadModel"]
    saved = str(named[0] if isinstance(named, list) else named)
    if _CLASSIFIES.search(saved):
        labels = config.get("id2label")
        names = labels.values() if isinstance(labels, dict) else ()
        if len(names) == 1 and config.get("problem_type") != "multi_label_classification":
            return Checkpoint(path, REWARD_MODEL)
        return Checkpoint(path, CLASSIFIER, tuple(map(str, names)))
    if _CAUSAL.search(saved):
        return Checkpoint(path, LANGUAGE_MODEL)
    left_out.append(f"{path}: a {saved}, neither a language model nor a classifier")
    return None


def _of_one_kind(found: Sequence[Checkpoint], left_out: list[str]) -> list[Checkpoint]:
    """Return the checkpoints of the first kind: one set of probes does not fit both."""
    chosen = [one for one in found if one.kind == found[0].kind]
    others = [one.path for one in found if one not in chosen]
    if others:
        other = next(one.kind for one in found if one not in chosen)
        left_out.append(
            f"{_some(others)}: a {other}, which other probes ask; give it a folder of its own with "
            "--model"
        )
    return chosen


def _json(path: Path) -> dict[str, Any]:
    """Return the object in a file; an empty one where there is none."""
    try:
        found = json.loads(path.read_text("utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


# --- files --------------------------------------------------------------------------------------


def _files(
    folder: Path,
    places: Sequence[Path],
    left_out: list[str],
    *,
    whether: bool,
) -> tuple[list[Stored], list[Items]]:
    """Return the predictions and the items in the files of a project.

    Args:
        folder: the project.
        places: it, and the folders below it.
        left_out: what is not used is added here.
        whether: whether predictions are looked for.
    """
    stored: list[Stored] = []
    items: list[Items] = []
    taken: list[Path] = []
    neither: list[Path] = []
    refused: list[str] = []
    for path in _data_files(places):
        if any(path.is_relative_to(one) for one in taken):
            continue
        if len(stored) + len(items) >= _MOST_FILES:
            left_out.append(f"{_from(folder, path)} and later files: {_MOST_FILES} are enough")
            break
        told = len(left_out)
        found = _sorted_out(folder, path, left_out)
        if isinstance(found, Items) and _TRAINED_ON.search(path.stem):
            left_out.append(f"{found.path}: by its name what a model is trained on")
        elif isinstance(found, Items):
            items.append(found)
        elif found and whether:
            taken.append(path)
            named = {one.probe: one for one in stored}
            stored += [one for one in found if one.probe not in named]
            left_out += [
                f"{one.path}: another file is named {one.probe}; to compare them: "
                f"{one.compared_with(named[one.probe])}"
                for one in found
                if one.probe in named
            ]
        elif len(left_out) == told:
            why = _why_no_items(folder, path)
            if why:
                refused.append(why)
            elif whether and path.suffix.lower() in _TABLES:
                neither.append(path)
    left_out += refused[:_MOST_TOLD]
    if not (stored or items):
        left_out += filter(None, map(_why_neither, neither[:_MOST_TOLD]))
    return stored, items


def _why_neither(path: Path) -> str:
    """Say why a file is no file of predictions."""
    from pytest_calibration.readers import read_all

    try:
        read_all(path)
    except CalibrationError as problem:
        return f"{problem} The command init --predictions=FILE takes --column, too"
    return ""


def _data_files(places: Sequence[Path]) -> Iterator[Path]:
    """Yield the folders of runs of lm-eval, and the files that may hold data."""
    endings = {".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".pq", ".json"}
    for place in places:
        files = [one for one in _entries(place) if one.suffix.lower() in endings and one.is_file()]
        if any(SAMPLES.fullmatch(one.name) for one in files):
            yield place
        else:
            yield from files


def _sorted_out(folder: Path, path: Path, left_out: list[str]) -> list[Stored] | Items | None:
    """Return what a file holds; None where it is nothing of ours."""
    from pytest_calibration.readers import kind_of

    if path.is_dir():
        return _newest_run(folder, path, left_out)
    if path.stat().st_size > _MOST_READ:
        return None
    if kind_of(path) is None:
        if path.suffix.lower() in PARQUET and not find_spec("pyarrow"):
            left_out.append(
                f"{_from(folder, path)}: cannot be looked at without pyarrow; "
                'pip install "pytest-calibration[parquet]"'
            )
        return _items(folder, path)
    try:
        return _predictions(folder, path)
    except CalibrationError as problem:
        found = _items(folder, path)
        if found is None:
            left_out.append(str(problem).rstrip("."))
        return found


def _predictions(
    folder: Path, path: Path, columns: Mapping[str, Any] | None = None
) -> list[Stored]:
    """Return the predictions in a file, or in the newest run of lm-eval in a folder.

    Raises:
        CalibrationError: there are none, or they cannot be read.
    """
    from pytest_calibration.readers import read_all

    if path.is_dir():
        left_out: list[str] = []
        found = _newest_run(folder, path, left_out)
        if not found:
            raise PredictionsError("; ".join(left_out) or f"{path}: holds no samples of lm-eval.")
        return found
    which = columns or {}
    sets = read_all(path, **which)
    items = ""
    if len(sets) == 1:
        # Ids depend on the name of the probe, so that those of two files need one name.
        same = read_all(path, probe="same", **which)[0]
        items = digest(*sorted(map(str, same.item_ids)))
    return [Stored(_from(folder, path), one.probe, which, items) for one in sets]


def _newest_run(folder: Path, path: Path, left_out: list[str]) -> list[Stored]:
    """Return the tasks of the newest run of lm-eval in a folder that can be read."""
    from pytest_calibration.readers import read_all

    samples = [SAMPLES.fullmatch(one.name) for one in _entries(path)]
    runs = sorted({(one["date"], one["task"]) for one in samples if one is not None})
    stored = []
    for task in [task for date, task in runs if date == runs[-1][0]]:
        which = {"task": task, "run": NEWEST}
        try:
            found = read_all(path, task=task, run=NEWEST)
        except CalibrationError as problem:
            left_out.append(str(problem).rstrip("."))
            continue
        for one in found:
            # Of several filters each is named behind the task.
            name = one.probe.rpartition(":")[2] if len(found) > 1 else ""
            of_filter = {"filter": NONE if name == task else name} if name else {}
            stored.append(Stored(_from(folder, path), one.probe, which | of_filter))
    return stored


def _why_no_items(folder: Path, path: Path) -> str:
    """Say what is wrong with a file whose first row has the keys of items; else nothing."""
    from pytest_calibration.probes.probe_set import from_settings

    if path.suffix.lower() not in _ITEM_FILES or _TRAINED_ON.search(path.stem):
        return ""
    if path.stat().st_size > _MOST_READ:
        return ""
    try:
        _, head = next(text_lines(path, _MOST_READ, ItemError), (1, ""))
    except CalibrationError:
        return ""
    keys = {*re.findall(r'"(\w+)"\s*:' if path.suffix.lower() == ".jsonl" else r"\w+", head)}
    for kind, own in _ITEM_KINDS.items():
        if own and own <= keys:
            shown = _from(folder, path)
            try:
                from_settings(shown, {"kind": kind, "path": shown}, folder, "")
            except CalibrationError as problem:
                return f"{str(problem).rstrip('.')}; no probe of kind {kind} is made of it"
    return ""


def _items(folder: Path, path: Path) -> Items | None:
    """Return which kind of probe reads a file; None where none does."""
    from pytest_calibration.probes.probe_set import from_settings

    if path.suffix.lower() not in _ITEM_FILES:
        return None
    shown = _from(folder, path)
    for kind in _ITEM_KINDS:
        try:
            probe = from_settings(shown, {"kind": kind, "path": shown}, folder, "")
        except CalibrationError:
            continue
        return Items(shown, kind, probe.size)
    return None
