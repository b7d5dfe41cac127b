"""From the address of a server to a model that has proved itself, with its identity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, TypeAlias

import msgspec

from pytest_calibration.errors import ModelError
from pytest_calibration.models.backends import Identity, ModelSpec
from pytest_calibration.models.backends.server.address import split
from pytest_calibration.models.backends.server.client import Client
from pytest_calibration.models.backends.server.decisions import ROUTE, DecisionModel
from pytest_calibration.models.backends.server.dialect import UNKNOWN, Dialect
from pytest_calibration.models.backends.server.handshake import (
    OPENING,
    check_tokens,
    prove,
    served_model,
)
from pytest_calibration.models.backends.server.served_tokenizer import (
    tokenizer_digest,
    tokenizer_of,
)
from pytest_calibration.models.backends.server.server_model import ServerModel
from pytest_calibration.models.backends.server.server_settings import ServerSettings
from pytest_calibration.models.backends.server.service import Service
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.digests import Digest

# Nats: answers are used again only of a server that gives these log-probabilities again. The same
# weights may differ by more where other requests run beside; then its answers are asked for anew.
_SAME_DEPLOYMENT: Final = 1e-3
_MOST_DEPLOYMENTS: Final = 16

OTHER: Final = (
    "it gives other log-probabilities than those under which answers are kept, so everything was "
    "asked anew: it has other weights now, or numbers that depend on what else it computes"
)

Served: TypeAlias = ServerModel | DecisionModel

# Connected and proved for its identity, and not loaded yet; with the digest of what it is.
_waiting: dict[tuple[str, str], tuple[Served, Digest, Sequence[float]]] = {}


def connect(spec: ModelSpec, settings: ServerSettings) -> Served:
    """Return a served model; one that was identified just now is taken over.

    Raises:
        UntrustedServerError: the server does not prove itself.
        ModelError: it cannot be reached, has no such model, or is to serve at a temperature.
    """
    known = _waiting.pop((spec.location, repr(settings)), None) or _connected(spec, settings)
    return known[0]


def identity(spec: ModelSpec, settings: ServerSettings, cache: Cache | None) -> Identity:
    """Identify a served model: by all that the server says, and by what it answers to one text.

    Raises:
        UntrustedServerError: the server does not prove itself.
        ModelError: it cannot be reached, has no such model, or is to serve at a temperature.
    """
    place = spec.location, repr(settings)
    known = _waiting.get(place) or _connected(spec, settings)
    _waiting.clear()
    _waiting[place] = known
    model, digest, values = known
    if cache is None:
        return Identity(digest.text())
    deployment, is_other = _deployment(cache, digest.bytes(), values)
    if is_other:
        model.notes = [*model.notes, OTHER]
    return Identity(digest.text(), Digest(digest.bytes(), deployment).bytes())


def _connected(spec: ModelSpec, settings: ServerSettings) -> tuple[Served, Digest, Sequence[float]]:
    """Return a served model, a digest of what it is, and its answers to what is asked first."""
    if settings.temperature != 1:
        raise ModelError(
            f"model {spec.location}: temperature: {settings.temperature:g} divides all logits of a "
            "checkpoint, which a server does not give; leave the key out of calibration.yaml, or "
            "divide the weights of the output layer of the served checkpoint by it."
        )
    base, wanted = split(spec)
    client = Client(base, settings.patience, settings.concurrency)
    try:
        if base.endswith(ROUTE):
            return _decision_model(spec, wanted, client, settings)
        return _server_model(spec, wanted, client, settings)
    except BaseException:
        client.close()
        raise


def _decision_model(
    spec: ModelSpec, wanted: str, client: Client, settings: ServerSettings
) -> tuple[Served, Digest, Sequence[float]]:
    # The list of models lies beside the route, and also has those that could be loaded.
    beside = Client(client.base.removesuffix(ROUTE), settings.patience, 1)
    try:
        served = served_model(beside, wanted)
    finally:
        beside.close()
    service = Service(client, Dialect(served.id), settings.concurrency)
    model = DecisionModel(spec.name, service, served.id)
    return model, Digest(spec.location, served.id, ROUTE), model.proof


def _server_model(
    spec: ModelSpec, wanted: str, client: Client, settings: ServerSettings
) -> tuple[Served, Digest, Sequence[float]]:
    served = served_model(client, wanted)
    tokenizer = tokenizer_of(served, settings)

    @lru_cache
    def by_text() -> dict[str, int]:
        texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
        often = Counter(texts)
        return {text: token for token, text in enumerate(texts) if often[text] == 1}

    def token(text: str) -> int:
        return by_text().get(text, UNKNOWN)

    bare = list(tokenizer(OPENING, add_special_tokens=False, verbose=False)["input_ids"])
    note = check_tokens(client, served, OPENING, bare)
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    service = Service(
        client, Dialect(served.id, aliases=served.aliases, token=token), settings.concurrency
    )
    proof = prove(service, served, [*begin, *bare])
    dialect = service.dialect
    digest = Digest(
        spec.location,
        [served.id, served.root, served.parent, served.parent_root, served.max_model_len],
        proof.version,
        tokenizer_digest(tokenizer),
        [dialect.after, dialect.along, repr(dialect.plain)],
    )
    model = ServerModel(spec.name, service, proof, tokenizer, [note] if note else [])
    return model, digest, proof.logprobs


def _deployment(cache: Cache, server: bytes, logprobs: Sequence[float]) -> tuple[bytes, bool]:
    """Return what stands for the weights behind a server, and whether others were known before.

    It is the same where the server gives the same.
    """
    key = Digest("deployments of a server", server).bytes()
    known = _known_deployments(cache, key)
    is_other = bool(known) and _same(known, logprobs) is None
    if _same(known, logprobs) is None:
        cache.put(key, msgspec.json.encode([list(logprobs), *known][:_MOST_DEPLOYMENTS]))
        # Another process may have written the same at this moment: one of the two counts.
        known = _known_deployments(cache, key)
    return msgspec.json.encode(_same(known, logprobs) or list(logprobs)), is_other


def _known_deployments(cache: Cache, key: bytes) -> list[list[float]]:
    try:
        return msgspec.json.decode(cache.get(key) or b"[]", type=list[list[float]])
    except msgspec.MsgspecError:
        cache.mark_damaged(key)
        return []


def _same(known: Sequence[list[float]], logprobs: Sequence[float]) -> list[float] | None:
    """Return what was known of a server that gives these; None where it is new."""
    for one in known:
        apart = [abs(a - b) for a, b in zip(one, logprobs, strict=False)]
        if len(one) == len(logprobs) and max(apart, default=0.0) <= _SAME_DEPLOYMENT:
            return one
    return None
