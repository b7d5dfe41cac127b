"""What a spec stands for: a checkpoint, or adapters and the checkpoint under them."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends import ModelSpec
from pytest_calibration.models.backends.transformers.checkpoint_files import pointers, read_json
from pytest_calibration.models.backends.transformers.hub import file_of, is_silent, snapshot
from pytest_calibration.models.backends.transformers.loading_settings import TransformersSettings
from pytest_calibration.models.backends.transformers.spec_text import parse
from pytest_calibration.models.places import begins_in, can_only_be_path, what_is_there

ADAPTER: Final = "adapter_config.json"
SETTING: Final = "model: {base: ...} in calibration.yaml"
# Arguments of loading that say how files of the hub are had.
_ACCESS: Final = ("cache_dir", "force_download", "local_files_only", "proxies", "token")


@dataclass(frozen=True)
class Layer(ModelSpec):
    """A checkpoint or an adapter, at the place where its files are.

    Attributes:
        location: the directory that holds the files, or a hub id.
        root: the directory that was named; ``location`` may be a folder in it.
        subfolder: where in a hub model its files are.
        copy: the local folder of a hub model's commit; empty where that is not known.
    """

    root: str = ""
    subfolder: str = ""
    copy: str = ""

    @property
    def text(self) -> str:
        """The place as a user would type it."""
        return f"{super().text}, {self.subfolder}" if self.subfolder else super().text

    def arguments(self, settings: TransformersSettings) -> dict[str, Any]:
        """Return what ``from_pretrained`` of any part is told of the place."""
        out = hub_access(settings)
        if not self.local and is_silent(self.location):
            out["local_files_only"] = True
        if self.subfolder:
            out["subfolder"] = self.subfolder
        return {**out, "revision": self.revision}


def hub_access(settings: TransformersSettings) -> dict[str, Any]:
    """Return the arguments that say how files of the hub are had."""
    return {key: value for key, value in settings.arguments.items() if key in _ACCESS}


def layers(
    spec: ModelSpec, settings: TransformersSettings, *, hub: bool = True
) -> tuple[Layer, ...]:
    """Return the layers of a model, from what the spec names down to a whole checkpoint.

    ``base`` of the settings takes the place of the lowest base that an adapter names.

    Args:
        spec: the model.
        settings: how it is loaded.
        hub: whether to ask the hub for commits, and whether a hub id is an adapter.

    Raises:
        ModelError: an adapter names no base, one that is not there, or itself; there is no such
            subfolder.
    """
    top, subfolder = _within(spec, settings.subfolder)
    found = [_known(top, settings, hub)]
    base = settings.base
    while (config := adapter_config(found[-1], settings, hub)) is not None:
        named = _named_base(found[-1], config)
        if base is not None and not (isinstance(named, ModelSpec) and _is_adapter(named)):
            named, base = _chosen_base(base), None
        if isinstance(named, str):
            wanted = "" if len(found) == 1 else f" ({spec.text!r} is an adapter on it)"
            raise ModelError(f"{found[-1].text}/{ADAPTER}: {named}{wanted}; or name it: {SETTING}.")
        layer, subfolder = _within(replace(named, name=spec.name), subfolder)
        if any(_same(layer, other) for other in found):
            raise ModelError(
                f"adapter {spec.text!r}: its base leads back to {layer.text!r}; write the model it "
                f"was trained on into its {ADAPTER}, or name it: {SETTING}."
            )
        found.append(_known(layer, settings, hub))
    return tuple(found)


def adapter_config(
    layer: Layer, settings: TransformersSettings, hub: bool = True
) -> Mapping[str, Any] | None:
    """Return the adapter configuration of a layer; None where it is no adapter."""
    file = file_in(layer, ADAPTER, settings) if layer.local or hub else None
    return None if file is None else read_json(file)


def file_in(layer: Layer, name: str, settings: TransformersSettings) -> Path | None:
    """Return a file of a layer, fetched from the hub if need be; None where there is none."""
    within = os.path.join(layer.subfolder, name)
    if layer.local:
        file: Path | None = Path(layer.location, within)
    elif layer.copy:
        file = file_of(layer.location, Path(layer.copy), within, **hub_access(settings))
    else:
        file = None
    return file if file is not None and file.is_file() else None


def refuse_pointers(spec: ModelSpec, names: Collection[str] | None = None) -> None:
    """Raise ModelError where files of a checkpoint are pointers of Git LFS.

    Args:
        spec: the checkpoint.
        names: the files that matter; all by default.
    """
    if not spec.local:
        return
    found = [n for n in pointers(Path(spec.location)) if names is None or n in names]
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise ModelError(
            f"{spec.location!r}: {found[0]}{more}: a pointer of Git LFS, not the file itself; "
            "fetch the files: git lfs pull."
        )


def _within(spec: ModelSpec, subfolder: str) -> tuple[Layer, str]:
    """Return the layer in a subfolder, and the subfolder that is left for the layer below."""
    layer = Layer(spec.location, spec.revision, spec.local, spec.name, root=spec.location)
    if not subfolder:
        return layer, ""
    if not spec.local:
        return replace(layer, subfolder=subfolder), ""
    inner = os.path.join(spec.location, subfolder)
    if os.path.isdir(inner):
        return replace(layer, location=inner), ""
    if _is_adapter(spec):
        return layer, subfolder
    raise ModelError(
        f"{spec.name}: arguments: {{subfolder: {subfolder}}}: {what_is_there(inner)}; name the "
        "directory that holds config.json, or leave subfolder out."
    )


def _known(layer: Layer, settings: TransformersSettings, hub: bool) -> Layer:
    """Return a layer with the commit that it stands for."""
    if layer.local or not hub:
        return layer
    access = hub_access(settings)
    folder = snapshot(layer.location, layer.revision, layer.subfolder, **access)
    return replace(layer, copy=str(folder or ""))


def _is_adapter(spec: ModelSpec) -> bool:
    return spec.local and (Path(spec.location) / ADAPTER).is_file()


def _same(one: Layer, other: Layer) -> bool:
    if one.local and other.local:
        return os.path.realpath(one.location) == os.path.realpath(other.location)
    places = [(layer.location, layer.revision, layer.subfolder) for layer in (one, other)]
    return one.local == other.local and places[0] == places[1]


def _named_base(layer: Layer, config: Mapping[str, Any]) -> ModelSpec | str:
    """Return the base that an adapter names; a path is relative to here, or to the adapter.

    Returns:
        Half a sentence where it names none, or one that is not there.
    """
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(base, str) or not base.strip():
        refuse_pointers(layer, (ADAPTER,))
        return (
            "names no base_model_name_or_path; write the hub id or the directory of the model it "
            "was trained on"
        )
    base = base.strip()
    folders = [Path(), Path(layer.location)] if layer.local else [Path()]
    for folder in folders:
        if os.path.isdir(folder / base):
            return ModelSpec(str(folder / base), local=True)
    if can_only_be_path(base) or any(begins_in(base, folder) for folder in folders):
        return f"its base model {base!r} is not there; write where it is now"
    return ModelSpec(base, revision if isinstance(revision, str) else None)


def _chosen_base(text: str) -> ModelSpec:
    """Return the base that the settings name.

    Raises:
        ModelError: there is none.
    """
    try:
        spec = parse(text)
    except ValueError as problem:
        raise ModelError(f"base: {problem}") from problem
    if spec is None:
        raise ModelError(f"base: {text!r} is neither a directory nor a hub id.")
    return spec
