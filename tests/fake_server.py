"""A server in this process: what a client asks it goes through no socket, and needs no torch.

Its language model is drawn at random, token by token, from the tokens before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, Final
from unittest import mock

import httpx
import numpy as np
from checkpoints import CONTEXT, VOCABULARY, bpe
from stub_server import Stub

from pytest_calibration.models.backends.server import client

ADDRESS: Final = "http://served.invalid/v1"

# Status, content and headers.
Answered = tuple[int, bytes, dict[str, str]]


class DrawnStub(Stub):
    """The same server, around a model that is drawn."""

    def __post_init__(self) -> None:
        """Save the tokenizer, which a client loads from where the server says."""
        self.tokenizer = bpe()
        self.tokenizer.save_pretrained(self.folder)
        self.longest = CONTEXT
        self._row = lru_cache(4096)(drawn)

    def scores(self, ids: Sequence[int]) -> Any:
        """Return log P(next token) at each token, (n, vocabulary)."""
        return np.array([self._row(tuple(ids[: i + 1])) for i in range(len(ids))])


def drawn(ids: tuple[int, ...]) -> Any:
    """Return log-probabilities of what follows these tokens."""
    row = 2 * np.random.default_rng(list(ids)).normal(size=VOCABULARY)
    return row - np.log(np.exp(row).sum())


@contextmanager
def answering(stub: Stub, answer: Callable[[bytes], Answered]) -> Iterator[None]:
    """Let the clients that are made in the block speak to this server.

    Args:
        stub: the server.
        answer: makes of each good reply its status, its content and more headers.
    """

    def handle(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else {}
        status, reply = stub.reply(request.url.path, body)
        code, content, headers = answer(json.dumps(reply).encode())
        return httpx.Response(
            status if status != 200 else code, stream=httpx.ByteStream(content), headers=headers
        )

    made = partial(httpx.Client, transport=httpx.MockTransport(handle))
    with (
        mock.patch.object(client.httpx, "Client", made),
        mock.patch.multiple(client, FIRST_WAIT=0.0, _MOST_WAIT=0.0, START_SECONDS=0.05),
    ):
        yield
