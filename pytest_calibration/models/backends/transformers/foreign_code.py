"""Code that a checkpoint would bring along and that is not run unless a user allows it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
import transformers

from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends import ModelSpec
from pytest_calibration.models.backends.transformers.loading_settings import TransformersSettings

_KERNELS: Final = {
    "attn_implementation": "_attn_implementation",
    "experts_implementation": "_experts_implementation",
}


def kernel_arguments(settings: TransformersSettings) -> dict[str, Any]:
    """Return the user's own arguments that choose a kernel; a configuration is read with them."""
    return {name: settings.arguments[name] for name in _KERNELS if name in settings.arguments}


def check_kernels(spec: ModelSpec, config: Any, settings: TransformersSettings) -> None:
    """Check that a configuration asks for no code from the hub.

    Args:
        spec: the checkpoint.
        config: its configuration, read with the user's own arguments.
        settings: how it is loaded.

    Raises:
        ModelError: it does, and the user's own arguments do not name it.
    """
    for part in _parts(config):
        for argument, attribute in _KERNELS.items():
            kernel = getattr(part, attribute, None)
            chosen = settings.arguments.get(argument)
            allowed = chosen.values() if isinstance(chosen, Mapping) else (chosen,)
            if isinstance(kernel, str) and "/" in kernel and kernel not in allowed:
                raise ModelError(
                    f"{spec.name}: its config.json asks for the kernel {kernel[:80]!r}, which is "
                    "code from the hub; it is run only where calibration.yaml names it under "
                    f"model: {{arguments: {{{argument}: ...}}}}; remove it from config.json to do "
                    "without it."
                )


def _parts(config: Any) -> Iterator[Any]:
    """Yield a configuration and those within it."""
    yield config
    for value in vars(config).values():
        if isinstance(value, transformers.PreTrainedConfig):
            yield from _parts(value)


@contextlib.contextmanager
def pickles_refused(spec: ModelSpec, settings: TransformersSettings) -> Iterator[None]:
    """Refuse every pickled file within the block, whichever library reads it, unless allowed.

    Raises:
        ModelError: one would be read.
    """
    if not settings.safetensors_only:
        yield
        return
    original = torch.load

    def refuse(file: object, *_: object, **__: object) -> None:
        raise ModelError(
            f"{spec.name}: {str(file)[-120:]!r} is no safetensors file; pickled weights can run "
            "code, so they are read only where calibration.yaml says "
            "model: {safetensors_only: false}."
        )

    torch.load = refuse
    try:
        yield
    finally:
        torch.load = original
