"""Many questions to one server at a time: in a good order, a few at once, each answered once.

Answers are kept as they come, so that a run that is killed has to ask only the rest again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from threading import Event, Lock
from typing import Any, Final, TypeVar

import msgspec

from pytest_calibration.errors import UntrustedServerError
from pytest_calibration.models.backends.server.client import Client
from pytest_calibration.models.backends.server.dialect import (
    Answer,
    Ask,
    Dialect,
    Written,
    WrongReplyError,
)
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.digests import Digest, code_digest

T = TypeVar("T")

# Tokens that two prompts begin with, from which on the second waits for the first.
_SHARED: Final = 32


class Service:
    """A server with its way of being asked.

    Args:
        client: speaks to it.
        dialect: how it is asked.
        concurrency: most requests at one time.

    Attributes:
        client: as given.
        dialect: as given; may be replaced.
        asked: how many requests were answered by the server and not from the cache.
        unconfirmed: what it was asked and answered since it was last seen to be the same.
    """

    def __init__(self, client: Client, dialect: Dialect, concurrency: int) -> None:
        self.client = client
        self.dialect = dialect
        self.asked = 0
        self.unconfirmed: list[tuple[Ask, Answer]] = []
        self._concurrency = concurrency
        self._cache: Cache | None = None
        self._cache_key = b""
        self._lock = Lock()
        # Keys of what was kept meanwhile.
        self._kept: list[bytes] = []

    def keep_in(self, cache: Cache, key: bytes) -> None:
        """Keep the answer to each request, under what all answers depend on."""
        self._cache, self._cache_key = cache, key

    def confirmed(self) -> None:
        """Believe what was kept: the server is the one that it was."""
        self._kept.clear()
        self.unconfirmed.clear()

    def forget(self) -> None:
        """Forget what was kept since the server was last seen to be the same."""
        for key in self._kept:
            if self._cache is not None:
                self._cache.put(key, b"")
        self.confirmed()

    def answer(self, ask: Ask) -> Answer:
        """Ask one thing, whatever was kept.

        Raises:
            WrongReplyError: the reply cannot be right.
            ModelError: there is none.
        """
        bodies = self.dialect.bodies(ask)
        replies = [self.client.complete(body) for body in bodies]
        return self.dialect.read(ask, replies)

    def answers(self, asks: Sequence[Ask], report: Callable[[int, int], None]) -> list[Answer]:
        """Ask many things.

        Args:
            asks: what to ask; what is asked twice is asked once.
            report: is given how many are answered, of how many.

        Raises:
            WrongReplyError: a reply cannot be right.
            ModelError: there is none.
        """
        distinct = list(dict.fromkeys(asks))
        keys = [self.key(list(self.dialect.bodies(ask))) for ask in distinct]

        def asked_now(i: int) -> Answer:
            answer = self.answer(distinct[i])
            self.unconfirmed.append((distinct[i], answer))
            return answer

        def find(i: int) -> Answer:
            return self.kept_or(keys[i], Answer, lambda: asked_now(i))

        found = self.find_all([ask.ids for ask in distinct], find, report)
        by_ask = dict(zip(distinct, found, strict=True))
        return [by_ask[ask] for ask in asks]

    def all_written(
        self,
        prompts: Sequence[Sequence[int]],
        write: Callable[[int], None],
        report: Callable[[int, int], None],
    ) -> None:
        """Run ``write`` for each prompt; it calls :meth:`written` as often as it must."""
        self.find_all([tuple(ids) for ids in prompts], write, report)

    def written(
        self,
        ids: Sequence[int],
        most: int,
        *,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> Written:
        """Continue one prompt; errors as for :meth:`answer`."""
        body = self.dialect.writing(ids, most, stop=stop, temperature=temperature, seed=seed)

        def ask() -> Written:
            return self.dialect.read_writing(self.client.complete(body), ids, most)

        return self.kept_or(self.key([body]), Written, ask)

    @contextmanager
    def trusted(self) -> Iterator[None]:
        """Raise for a reply that cannot be right, as long as the block runs.

        Raises:
            UntrustedServerError: with what is wrong.
        """
        try:
            yield
        except WrongReplyError as problem:
            raise UntrustedServerError(
                f"the server {self.client.base}, model {self.dialect.model!r}, cannot be trusted: "
                f"{problem}; none of its numbers is used."
            ) from None

    def key(self, bodies: Sequence[object]) -> bytes:
        """Return what the answer to some requests is kept under."""
        if self._cache is None:
            return b""
        return Digest(code_digest(), self._cache_key, msgspec.json.encode(bodies)).bytes()

    def kept_or(self, key: bytes, form: type[T], ask: Callable[[], T]) -> T:
        """Return what is kept; else ask, and keep it at once."""
        content = None if self._cache is None else self._cache.get(key)
        if content:
            # One that cannot be read is asked for again, and written anew.
            with suppress(msgspec.MsgspecError):
                return msgspec.json.decode(content, type=form)
        answer = ask()
        with self._lock:
            self.asked += 1
            if self._cache is not None:
                self._cache.put(key, msgspec.json.encode(answer))
                self._kept.append(key)
        return answer

    def find_all(
        self,
        prompts: Sequence[Sequence[Any]],
        find: Callable[[int], T],
        report: Callable[[int, int], None],
    ) -> list[T]:
        """Find the answer to each prompt, a few at one time; the first error ends it.

        Args:
            prompts: what is asked about, for its order.
            find: returns the answer to one of them, by its index.
            report: is given how many are answered, of how many.
        """
        total = len(prompts)
        report(0, total)
        done = [Event() for _ in prompts]
        failed = Event()

        def run(i: int, leader: int) -> T:
            try:
                if leader != i:
                    # It has put what both begin with into the server's cache.
                    done[leader].wait()
                with self.client.until(failed):
                    if failed.is_set():
                        raise CancelledError
                    return find(i)
            finally:
                done[i].set()

        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="calibration-server")
        futures: dict[Future[T], int] = {}
        out: dict[int, T] = {}
        try:
            for i, leader in in_order(prompts):
                futures[pool.submit(run, i, leader)] = i
            for n, future in enumerate(as_completed(futures), 1):
                out[futures[future]] = future.result()
                report(n, total)
        except BaseException:
            failed.set()
            # What waits for the server must not hold up the end of the process.
            self.client.abandon()
            raise
        finally:
            pool.shutdown(wait=not failed.is_set(), cancel_futures=True)
        return [out[i] for i in range(total)]


def in_order(prompts: Sequence[Sequence[Any]]) -> list[tuple[int, int]]:
    """Return (prompt, the one that it waits for or itself), in an order that a prefix cache serves.

    Prompts that begin alike follow each other. The first of them goes ahead, one group early, so
    that the others wait as little as can be.
    """
    ranked = sorted(range(len(prompts)), key=lambda i: tuple(prompts[i]))
    groups: list[list[int]] = []
    for before, i in zip([-1, *ranked], ranked, strict=False):
        size = max(_SHARED, len(prompts[i]) // 2)
        if before < 0 or prompts[before][:size] != prompts[i][:size]:
            groups.append([])
        groups[-1].append(i)
    out: list[tuple[int, int]] = []
    followers: list[tuple[int, int]] = []
    for first, *rest in groups:
        out.append((first, first))
        out += followers
        followers = [(i, first) for i in rest]
    return out + followers
