"""A causal language model on a server.

Texts become rows of tokens as for a model in memory, with the same tokenizer, and the server scores
them: so each probe asks for the same, wherever the model is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

from pytest_calibration.errors import UntrustedServerError
from pytest_calibration.models.backends.server.asks import Plan
from pytest_calibration.models.backends.server.dialect import WrongReplyError
from pytest_calibration.models.backends.server.handshake import Proof, confirm
from pytest_calibration.models.backends.server.service import Service
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.causal.causal_model import CausalModel
from pytest_calibration.models.causal.chat import rendered
from pytest_calibration.models.causal.continuation import Continuation
from pytest_calibration.models.causal.rows import Row, RowScores
from pytest_calibration.models.protocols import Message
from pytest_calibration.models.stops import before_stop
from pytest_calibration.progress import PROGRESS
from pytest_calibration.text.visible import visible


class ServerModel(CausalModel):
    """A causal language model on a server that has proved itself.

    Args:
        name: what reports call it.
        service: asks the server.
        proof: what the server has shown.
        tokenizer: of the model, of transformers.
        notes: sentences about how it is asked.

    Attributes:
        checkpoint_notes: sentences that hold for kept answers, too.
    """

    checkpoint_notes: tuple[str, ...] = ()

    def __init__(
        self, name: str, service: Service, proof: Proof, tokenizer: Any, notes: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.tokenizer = tokenizer
        self.service = service
        self.proof = proof
        self.notes: Sequence[str] = [*proof.notes, *notes]
        # A token may be added to what is asked, and one is always written.
        self.max_tokens = (proof.model.max_model_len or float("inf")) - 2
        self._prepare_answers()

    @property
    def description(self) -> Mapping[str, str]:
        """What the server says of itself and the model, for signatures."""
        served, dialect = self.proof.model, self.service.dialect
        out = {"served as": served.id}
        if served.root and served.root != served.id:
            # The last part alone: the rest is the server's own business.
            out["served from"] = visible(PurePath(served.root).name, 80)
        if self.proof.version:
            out["server version"] = self.proof.version
        out["asked by"] = " and ".join(filter(None, (dialect.after, dialect.along)))
        return out

    def keep_in(self, cache: Cache, key: bytes) -> None:
        """Keep each answer of the server as it comes; see :class:`Service`."""
        self.service.keep_in(cache, key)

    def close(self) -> None:
        """Close the connections."""
        self.service.client.close()

    def render_chat(
        self, chats: Sequence[Sequence[Message]], variables: Mapping[str, object]
    ) -> list[str]:
        """See :class:`~pytest_calibration.models.protocols.ChatModel`."""
        return [rendered(self.tokenizer, self.name, chat, variables) for chat in chats]

    # --- how -----------------------------------------------------------------------------------

    @contextmanager
    def _proven(self) -> Iterator[None]:
        """Have the server show after the block that it is still the same, where it was asked.

        Raises:
            UntrustedServerError: it is another now, and nothing of what it answered is kept.
        """
        before = self.service.asked
        try:
            with self.service.trusted():
                yield
            if self.service.asked > before:
                confirm(self.service, self.proof)
                self.service.confirmed()
        except UntrustedServerError:
            self.service.forget()
            raise

    def _score(self, rows: list[Row], count: tuple[int, int, str] | None = None) -> list[RowScores]:
        done, total, unit = count or (0, len(rows), "prompts")
        plan = Plan(rows, self.service.dialect)

        def report(n: int, of: int) -> None:
            share = n / max(of, 1)
            PROGRESS.report(done + int(len(rows) * share), total, unit, None if count else share)

        with self._proven():
            _check_known(token for row in rows for token in row.ids)
            return plan.scores(self.service.answers(plan.asks, report))

    def _grow(
        self,
        rows: list[Continuation],
        temperature: float | None,
        check: Callable[[Sequence[Continuation]], None],
        stop: Sequence[str],
    ) -> None:
        ends = self._end_tokens()
        check([row for row in rows if row.active])

        def write(i: int) -> None:
            row = rows[i]
            while row.active:
                check([row])
                left = int(min(row.most - len(row.logprobs), self.max_tokens + 1 - len(row.ids)))
                written = self.service.written(
                    row.ids,
                    max(left, 1),
                    stop=stop,
                    temperature=temperature or 0.0,
                    seed=None if row.seed is None else _seed(row.seed, len(row.logprobs)),
                )
                _check_known(written.ids)
                last = written.ids[-1]
                stopped = before_stop(self._decoded(written.ids), stop) is not None
                closed = written.closed or last in ends or not stop
                if written.stopped and not stopped and closed:
                    row.closes = row.closes | {last}
                for token, logprob in zip(written.ids, written.logprobs, strict=True):
                    if row.active:
                        row.take(token, logprob)

        def report(n: int, of: int) -> None:
            PROGRESS.report(n, of, "answers")

        with self._proven():
            self.service.all_written([row.ids for row in rows], write, report)

    def _end_tokens(self) -> frozenset[int]:
        token = self.tokenizer.eos_token_id
        return frozenset() if token is None else frozenset([token])

    def _token_text(self, token: int) -> str:
        return super()._token_text(token) if token >= 0 else ""


def _check_known(tokens: Iterable[int]) -> None:
    if min(tokens, default=0) < 0:
        raise WrongReplyError(
            "it does not say which tokens it wrote (return_tokens_as_token_ids), and their texts "
            "do not tell; choose a probe of options, or another server"
        )


def _seed(seed: int, place: int) -> int:
    """Return a seed that every server takes; it depends on these two alone."""
    state = hashlib.blake2b(f"{seed} {place}".encode(), digest_size=4)
    return int.from_bytes(state.digest(), "little") >> 1
