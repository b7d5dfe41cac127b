"""Models on servers with a completions API: vLLM, and others that prove themselves.

Light:

``address``
    the text that names a model on a server, and the key.
``server_settings``
    how it is asked.

Needing httpx:

``connecting``
    from an address to a model, with its identity.
``handshake``
    what a server must show before its numbers are used.
``server_model``
    the model: rows of tokens are scored by the server.
``decisions``
    the typed decisions of ``transformers serve``.
``asks``
    rows of tokens to questions, and answers to scores.
``service``
    many questions at a time, each answered once.
``dialect``, ``replies``
    questions in the words of a server; the form of its replies.
``client``
    requests, bounded in size and time.
``served_tokenizer``
    the tokenizer, without the weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytest_calibration.extras import require
from pytest_calibration.models.backends import Identity, ModelSpec
from pytest_calibration.models.backends.server.address import parse
from pytest_calibration.models.backends.server.server_settings import ServerSettings

if TYPE_CHECKING:
    from pytest_calibration.models.backends.server.connecting import Served
    from pytest_calibration.models.cache import Cache

__all__ = ["KINDS", "Settings", "check_installed", "identify", "load", "parse"]

KINDS: Final = "a model on a server (http://host:port/v1#model)"
Settings = ServerSettings


def check_installed() -> None:
    """Raise MissingExtra where a package that it needs is not installed."""
    for package in ("httpx", "tenacity", "transformers"):
        require(package, "server")


def identify(spec: ModelSpec, settings: ServerSettings, cache: Cache | None) -> Identity:
    """Identify a served model; see :class:`~pytest_calibration.models.backends.Backend`."""
    from pytest_calibration.models.backends.server.connecting import identity

    return identity(spec, settings, cache)


def load(spec: ModelSpec, settings: ServerSettings) -> Served:
    """Connect to a served model; see :class:`~pytest_calibration.models.backends.Backend`."""
    from pytest_calibration.models.backends.server.connecting import connect

    return connect(spec, settings)
