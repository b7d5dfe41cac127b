"""The text that names a model on a server, and the key that opens it.

``http://host:8000/v1#owner/model``: where the API lies, and the id of the model, which may be left
out where the server has one model alone. The key is read from the environment when a request is
made, and kept nowhere.
"""

from __future__ import annotations

import json
import os
import re
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from pytest_calibration.errors import UsageError
from pytest_calibration.models.backends import ModelSpec
from pytest_calibration.models.places import shown

KEY: Final = "PYTEST_CALIBRATION_API_KEY"
"""The environment variable that holds the key of a server."""
_SCHEME: Final = re.compile(r"https?://", re.IGNORECASE)
_SECRET: Final = 8
"""Characters from which on a key is a secret."""
_PLAIN: Final = re.compile(r"[\x21-\x7e]+")


def parse(text: str) -> ModelSpec | None:
    """Take an address of http or https.

    Raises:
        UsageError: it has no host, or something that an address of an API has not.
    """
    if not _SCHEME.match(text):
        return None
    try:
        parts = urlsplit(text)
        host, port, named = parts.hostname, parts.port, "@" in parts.netloc
    except ValueError as problem:
        raise UsageError(f"model {shown(text)} is no address: {problem}.") from None
    if named:
        # Without the text, which holds a password.
        raise UsageError(
            f"model at {host}: an address with a user name or password would show them in every "
            f"report; put the server's key into the environment variable {KEY}."
        )
    if parts.query:
        raise UsageError(
            f"model at {host}: an address with a query ('?') would show it in every report; a key "
            f"belongs into the environment variable {KEY}."
        )
    if not host or not _PLAIN.fullmatch(text):
        raise UsageError(
            f"model {shown(text)} is no address of a server; write http://host:port/v1#model."
        )
    at = f":{port}" if port else ""
    bracketed = f"[{host}]" if ":" in host else host
    base = f"{parts.scheme.lower()}://{bracketed}{at}{parts.path.rstrip('/')}"
    return ModelSpec(f"{base}#{parts.fragment}" if parts.fragment else base)


def split(spec: ModelSpec) -> tuple[str, str]:
    """Return the address of the API, and the id of the model; empty for the only one."""
    base, _, model = spec.location.partition("#")
    return base, model


def proxy_of(base: str) -> str | None:
    """Return the proxy that the environment names for an address; none for this machine itself."""
    parts = urlsplit(base)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or proxy_bypass(parts.netloc):
        return None
    found = getproxies()
    proxy = found.get(parts.scheme) or found.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def authorization(base: str) -> dict[str, str]:
    """Return the header that holds the key for an address; nothing where there is none.

    Raises:
        UsageError: it holds characters that no key has, which are not shown; or a proxy would read
            it.
    """
    if not os.environ.get(KEY):
        return {}
    if base.startswith("http:") and proxy_of(base):
        raise UsageError(
            f"the key of {KEY} would be read by the proxy that the environment names for {base}; "
            "put the server's host into NO_PROXY, or use an address of https."
        )
    if not _PLAIN.fullmatch(os.environ[KEY]):
        raise UsageError(
            f"{KEY} holds a space, a line end or another character that no key has; set it anew."
        )
    return {"Authorization": f"Bearer {os.environ[KEY]}"}


def redacted(content: bytes) -> bytes:
    """Return what a server sent without the key, should it repeat it, also as JSON writes it.

    A shorter one, as ``EMPTY`` or ``token``, is no secret but a word of the API.
    """
    key = os.environ.get(KEY, "")
    if len(key) < _SECRET:
        return content
    for text in (key, json.dumps(key)[1:-1]):
        content = content.replace(text.encode("utf-8", "surrogateescape"), b"***")
    return content
