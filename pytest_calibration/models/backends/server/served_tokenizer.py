"""The tokenizer of a served model, loaded here without its weights and without torch."""

from __future__ import annotations

import os
from typing import Any

from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends.server.replies import ServedModel
from pytest_calibration.models.backends.server.server_settings import ServerSettings
from pytest_calibration.models.digests import Digest


def tokenizer_of(served: ServedModel, settings: ServerSettings) -> Any:
    """Load the tokenizer: the one that is named, else from where the server says the model lies.

    Raises:
        ModelError: there is none.
    """
    from transformers import AutoTokenizer

    places = [settings.tokenizer] if settings.tokenizer else [served.root, served.parent, served.id]
    reason = ""
    for place in dict.fromkeys(filter(None, places)):
        if os.path.isabs(place) and not os.path.isdir(place):
            reason = reason or f"{place} is no directory here"
            continue
        try:
            return AutoTokenizer.from_pretrained(
                place,
                trust_remote_code=settings.trust_remote_code,
                **settings.tokenizer_arguments,
            )
        except Exception as problem:
            # The library may raise anything.
            first = " ".join(str(problem).split())[:200].rstrip(".")
            reason = reason or f"{place}: {first}"
    raise ModelError(
        f"the tokenizer of the served model {served.id!r} cannot be loaded ({reason}); name a "
        "directory or hub id that has it (model: {tokenizer: ...} in calibration.yaml)."
    )


def tokenizer_digest(tokenizer: Any) -> str:
    """Digest all that a tokenizer makes of a text."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = tokenizer.get_vocab() if fast is None else fast.to_str()
    template = str(getattr(tokenizer, "chat_template", None))
    return Digest(vocabulary, template, size=16).text()
