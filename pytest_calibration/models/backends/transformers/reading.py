"""From a checkpoint on disk to weights in memory, with an error for all that can go wrong."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from pytest_calibration.errors import ModelError
from pytest_calibration.extras import require
from pytest_calibration.models.backends import ModelSpec
from pytest_calibration.models.backends.transformers.checkpoint_files import (
    FileState,
    checkpoint_files,
    read_json,
)
from pytest_calibration.models.backends.transformers.foreign_code import (
    check_kernels,
    kernel_arguments,
    pickles_refused,
)
from pytest_calibration.models.backends.transformers.hub import is_kept, is_offline, is_silent
from pytest_calibration.models.backends.transformers.kinds import CAUSAL_LM, kind_of, loader
from pytest_calibration.models.backends.transformers.layers import (
    ADAPTER,
    SETTING,
    Layer,
    file_in,
    layers,
    refuse_pointers,
)
from pytest_calibration.models.backends.transformers.loading_settings import TransformersSettings
from pytest_calibration.models.backends.transformers.used_weights import (
    check_adapter_used,
    check_shapes,
    check_used,
    loading_explained,
    mismatched_shapes,
)
from pytest_calibration.models.backends.transformers.weight_files import (
    check_adapter_files,
    check_weight_files,
    stored_tensors,
)
from pytest_calibration.models.places import similar_folder

TOKENIZER_FILES: Final = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt"),
    *("merges.txt", "spiece.model", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template.jinja", "sentencepiece.bpe.model"),
)
# One of them is in every directory with a tokenizer.
_MAIN_FILES: Final = TOKENIZER_FILES[:4]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars, logs and warnings of libraries out of a test report, but no errors."""
    logs = transformers.utils.logging
    level, bars = logs.get_verbosity(), logs.is_progress_bar_enabled()
    # It tells where the weights of a spread model went, as was asked for.
    spread = logging.getLogger("accelerate")
    spread_level = spread.level
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    spread.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logs.set_verbosity(level)
        spread.setLevel(spread_level)
        if bars:
            logs.enable_progress_bar()


def device_of(name: str) -> torch.device:
    """Return the device that a setting names.

    Raises:
        ModelError: it is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    count = {
        "cuda": torch.cuda.device_count,
        "mps": lambda: int(torch.backends.mps.is_available()),
        "cpu": lambda: 1,
    }[kind]()
    if int(index or 0) >= count:
        raise ModelError(f"device {name!r} is not available here; use cpu or auto.")
    return torch.device(name)


def entrance(model: Any) -> torch.device:
    """Return where a model takes its tokens, which may be spread over devices and the disk."""
    layer = model.get_input_embeddings()
    place = getattr(getattr(layer, "_hf_hook", None), "execution_device", None)
    return torch.device(next(layer.parameters()).device if place is None else place)


@dataclass(frozen=True)
class Checkpoint:
    """What was read of a checkpoint.

    Attributes:
        task: which kind of model it is, a key of ``kinds.LOADERS``.
        model: its weights, in evaluation mode on ``device``.
        tokenizer: its tokenizer.
        device: where the weights are; of a spread model, where it takes its tokens.
        notes: sentences on how it was loaded, and on what is not used.
        files: those that it was read from, as they were before.
    """

    task: str
    model: Any
    tokenizer: Any
    device: torch.device
    notes: list[str]
    files: tuple[FileState, ...] = ()


def read(spec: ModelSpec, settings: TransformersSettings) -> Checkpoint:
    """Read weights and tokenizer of a checkpoint, or of an adapter with what lies under it.

    Raises:
        ModelError: it cannot be loaded whole, or is of no kind that can be asked.
        MissingExtra: it is an adapter, and peft is not installed.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    device = device_of(settings.device)
    notes: list[str] = []
    with quiet():
        stack = layers(spec, settings)
        files = tuple(_files(stack, settings))
        task, model = _load_weights(stack, settings, device, notes)
        tokenizer = load_tokenizer(stack, settings)
        model.eval()
    if "device_map" in settings.arguments:
        device = entrance(model)
    return Checkpoint(task, model, tokenizer, device, notes, files)


def _files(stack: Sequence[Layer], settings: TransformersSettings) -> Iterator[FileState]:
    """Yield the state of each file that is read; what lies on the hub is not changed."""
    subfolders = [name for name in (settings.subfolder, settings.tokenizer_subfolder) if name]
    folders = [layer.root or layer.location for layer in stack if layer.local]
    if settings.tokenizer is not None and os.path.isdir(settings.tokenizer):
        folders.append(settings.tokenizer)
    for folder in dict.fromkeys(folders):
        for _, file in checkpoint_files(Path(folder), subfolders):
            # Loading reports one that is gone.
            with contextlib.suppress(OSError):
                yield FileState.of(file)


def _load_weights(
    stack: Sequence[Layer],
    settings: TransformersSettings,
    device: torch.device,
    notes: list[str],
) -> tuple[str, Any]:
    """Return kind and model of a checkpoint, or of adapters with the checkpoint under them.

    Args:
        stack: the layers, the checkpoint last.
        settings: how it is loaded.
        device: where to.
        notes: sentences on how it was loaded, and on what is not used, are added to it.
    """
    *adapters, whole = stack
    if not adapters:
        task, model = _load_whole(whole, settings, notes)
        return task, _placed(whole, model, settings, device)
    require("peft", "peft")
    from pytest_calibration.models.backends.transformers.adapters import enlarged, merged

    top = adapters[0]
    files = [_adapter_weights(adapter, settings) for adapter in adapters]
    for file in files:
        notes += check_adapter_files(replace(top, location=str(file.parent)))
    try:
        task, model = _load_whole(whole, settings, notes, files)
    except ModelError as problem:
        raise ModelError(
            f"adapter {top.text!r}: the model it was trained on, {whole.text!r}, cannot be used: "
            f"{str(problem).rstrip('.')}; to load another: {SETTING}."
        ) from problem
    # The last of the adapters was trained on the base, the first on all that lies below it.
    for adapter, file in zip(reversed(adapters), reversed(files), strict=True):
        tokens = partial(_tokens_of, adapter, whole, settings)
        model = _explained(adapter, partial(enlarged, model, file, tokens, notes))
        # One of the hub has been fetched.
        here = replace(adapter, location=str(file.parent), local=True)
        model = _with_adapter(model, here, settings)
        if adapter is not top:
            model = merged(model, adapter, top, notes)
    return task, _placed(top, model, settings, device)


def _adapter_weights(adapter: Layer, settings: TransformersSettings) -> Path:
    """Return the file with an adapter's weights; its configuration lies beside it.

    Raises:
        ModelError: there is none, or one that may not be read.
    """
    names = ["adapter_model.safetensors", "adapter_model.bin"]
    for name in names[:1] if settings.safetensors_only else names:
        file = file_in(adapter, name, settings)
        if file is not None:
            return file
    if adapter.local and settings.safetensors_only:
        _refuse_pickles(adapter)
    raise ModelError(
        f"{adapter.location!r} holds adapter_config.json and no adapter_model.safetensors; "
        "save the adapter again with save_pretrained."
    )


def _with_adapter(model: Any, adapter: Layer, settings: TransformersSettings) -> Any:
    import peft

    with warnings.catch_warnings(record=True) as caught, pickles_refused(adapter, settings):
        warnings.simplefilter("always")
        model = _explained(
            adapter,
            lambda: peft.PeftModel.from_pretrained(model, adapter.location, is_trainable=False),
        )
    for warning in caught:
        if "missing adapter keys" in str(warning.message):
            raise ModelError(
                f"{adapter.name}: the adapter in {adapter.location!r} does not hold all the "
                "weights its configuration names; save it again with save_pretrained."
            )
    with pickles_refused(adapter, settings):
        check_adapter_used(adapter, model)
    return model


def _placed(
    spec: ModelSpec, model: Any, settings: TransformersSettings, device: torch.device
) -> Any:
    """Move a model to its device, unless its arguments have placed it already."""
    if {"device_map", "quantization_config"} & set(settings.arguments):
        return model
    return _explained(spec, lambda: model.to(device))


def _load_whole(
    spec: Layer,
    settings: TransformersSettings,
    notes: list[str],
    adapters: Sequence[Path] = (),
) -> tuple[str, Any]:
    """Return kind and model of a whole checkpoint.

    Args:
        spec: where it is.
        settings: how it is loaded.
        notes: sentences are added to it.
        adapters: files of the adapters that lie on it, the topmost first; one may bring the head.
    """
    if spec.local and not (Path(spec.location) / "config.json").is_file():
        raise ModelError(
            f"{spec.location!r} holds no config.json and no adapter_config.json, so it is no "
            "checkpoint; pass the directory that save_pretrained wrote."
        )
    place = spec.arguments(settings)
    common = {"trust_remote_code": settings.trust_remote_code}
    arguments: dict[str, Any] = {
        "dtype": settings.dtype if settings.dtype == "auto" else getattr(torch, settings.dtype),
        **({"use_safetensors": True} if settings.safetensors_only else {}),
        **{key: value for key, value in settings.arguments.items() if key != "subfolder"},
        # Told by name below: the library points to a log that is switched off.
        "ignore_mismatched_sizes": True,
    }
    if "device_map" in arguments:
        require("accelerate", "peft")
    notes += check_weight_files(spec, settings)
    config = _explained(
        spec,
        lambda: transformers.AutoConfig.from_pretrained(
            spec.location, **common, **{**place, **kernel_arguments(settings)}
        ),
    )
    configs = [read_json(file.with_name(ADAPTER)) for file in adapters]
    tasks = [str(one["task_type"]) for one in configs if one.get("task_type")]
    task, more = _explained(spec, lambda: kind_of(spec, config, next(iter(tasks), None)))
    notes += more
    check_kernels(spec, config, settings)
    stored = stored_tensors(spec, settings)
    brought: Collection[str] = ()
    if adapters and task != CAUSAL_LM:
        from pytest_calibration.models.backends.transformers.adapters import head_of

        brought, classes = head_of(adapters)
        if classes and not {"num_labels", "id2label"} & set(arguments):
            arguments["num_labels"] = classes
    with pickles_refused(spec, settings), loading_explained(spec, config, stored, task):
        model, report = _explained(
            spec,
            lambda: loader(task).from_pretrained(
                spec.location, output_loading_info=True, **common, **{**place, **arguments}
            ),
        )
    notes += check_used(spec, model, report, stored, brought)
    return task, model


def _tokens_of(adapter: Layer, whole: Layer, settings: TransformersSettings) -> int:
    """Return the number of tokens of an adapter's own tokenizer; 0 where it has none."""
    if settings.tokenizer is None and not _tokenizer_folders(adapter, settings):
        return 0
    return len(load_tokenizer((adapter, whole), settings))


def _tokenizer_folders(layer: Layer, settings: TransformersSettings) -> list[str]:
    """Return the places in a layer that hold a tokenizer, as subfolders of its root."""
    own = settings.tokenizer_subfolder
    inner = os.path.relpath(layer.location, layer.root) if layer.local else layer.subfolder
    places = [own] if own else [*({inner} - {"", "."}), ""]
    at = {place: replace(layer, location=layer.root, subfolder=place) for place in places}
    return [
        place for place in places if any(file_in(at[place], file, settings) for file in _MAIN_FILES)
    ]


def load_tokenizer(stack: Sequence[Layer], settings: TransformersSettings) -> Any:
    """Return the tokenizer of the topmost layer that has one, or the one that the settings name.

    Raises:
        ModelError: there is none.
    """
    top, whole = stack[0], stack[-1]
    if settings.tokenizer is not None:
        local = os.path.isdir(settings.tokenizer)
        source = Layer(settings.tokenizer, local=local, name=top.name, root=settings.tokenizer)
        folder = settings.tokenizer_subfolder
    else:
        places = [(one, place) for one in stack for place in _tokenizer_folders(one, settings)]
        if not places and whole.local:
            raise ModelError(
                f"{top.location!r} holds no tokenizer; save one beside the model, or name one: "
                "model: {tokenizer: ...} in calibration.yaml."
            )
        source, folder = places[0] if places else (whole, whole.subfolder)
    place = replace(source, subfolder="" if source.local else folder).arguments(settings)
    location = str(Path(source.root, folder)) if source.local else source.location
    # A vocabulary of lines would be read as the words of the pointer.
    refuse_pointers(replace(source, location=location), TOKENIZER_FILES)
    own = {k: v for k, v in settings.tokenizer_arguments.items() if k != "subfolder"}
    common = {"trust_remote_code": settings.trust_remote_code}
    if source in stack[:-1] and not source.local:
        # The library would look for the configuration of the model beside the tokenizer.
        at = whole.arguments(settings)
        own["config"] = _explained(
            whole, lambda: transformers.AutoConfig.from_pretrained(whole.location, **common, **at)
        )
    return _explained(
        source,
        lambda: transformers.AutoTokenizer.from_pretrained(location, **common, **{**place, **own}),
    )


def _explained(spec: ModelSpec, load: Callable[[], Any]) -> Any:
    """Run a loading step; raise what goes wrong as ModelError, in one sentence."""
    try:
        return load()
    except ModelError:
        raise
    except Exception as problem:
        # The libraries may raise anything: for a truncated file, a configuration of a wrong type, …
        first = " ".join(str(problem).split())
        check_shapes(spec, mismatched_shapes(first))
        if isinstance(problem, KeyError):
            first = f"the key {first} is missing"
        if isinstance(problem, ModuleNotFoundError) and problem.name:
            first = f"the package {problem.name!r} that it needs is not installed"
        refuse_pointers(spec)
        if "safetensors" in first and "use_safetensors" not in first and spec.local:
            _refuse_pickles(spec, problem)
        if "trust_remote_code" in first and isinstance(problem, ValueError):
            raise ModelError(
                f"{spec.name}: needs Python code that comes with the checkpoint, which is run only "
                "where calibration.yaml says model: {trust_remote_code: true}."
            ) from problem
        where, aside = "directory", ""
        if not spec.local:
            near = similar_folder(spec.location)
            where = "hub id"
            aside = f" (no such directory here{f', but {near!r}' if near else ''})"
            if is_silent(spec.location):
                first = "the hub does not answer, and there is no local copy"
            elif is_offline() and (not is_kept(spec.location) or "couldn't connect" in first):
                first = (
                    "HF_HUB_OFFLINE is set, and the local copy is missing or not whole; where "
                    f"there is a network, fetch it: hf download {spec.location}"
                    + (f" --revision {spec.revision}" if spec.revision else "")
                )
        raise ModelError(
            f"cannot load {where} {spec.text!r}{aside}: {first[:300].rstrip('.')}."
        ) from problem


def _refuse_pickles(spec: ModelSpec, problem: Exception | None = None) -> None:
    """Raise ModelError if the weights are pickled."""
    folder = Path(spec.location)
    pickled = sorted(
        p.name for stem in ("pytorch_model", "adapter_model") for p in folder.glob(f"{stem}*.bin")
    )
    if pickled:
        raise ModelError(
            f"{spec.name}: holds {pickled[0]} and no safetensors; pickled weights can run code, so "
            "they are read only where calibration.yaml says model: {safetensors_only: false}."
        ) from problem
