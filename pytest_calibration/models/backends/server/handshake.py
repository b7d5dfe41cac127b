"""A server proves that its numbers are those of the model, before any of them is used.

Servers answer with made-up log-probabilities and HTTP 200: zeros, those of the token beside, those
after the temperature. What is asked for here shows it. The text that is looked at is one that the
server writes itself, since no text of ours is likely to every model; whatever the model is, its own
text, in the order in which it wrote it, is likelier than the same tokens shuffled.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile
from typing import Any, Final

import msgspec

from pytest_calibration.errors import ModelError, UntrustedServerError
from pytest_calibration.models.backends.server.asks import Plan
from pytest_calibration.models.backends.server.client import Client, RefusedError
from pytest_calibration.models.backends.server.dialect import (
    Answer,
    Ask,
    Dialect,
    LackingError,
    Written,
    WrongReplyError,
)
from pytest_calibration.models.backends.server.replies import (
    ModelList,
    ServedModel,
    Tokens,
    Version,
)
from pytest_calibration.models.backends.server.service import Service
from pytest_calibration.models.causal.rows import Row
from pytest_calibration.text.visible import quoted, visible

OPENING: Final = "In the morning, the 2 old men went to the river and"
"""What the server continues."""
_OPENING_TOKENS: Final = 8
_WRITTEN_TOKENS: Final = 24
# Nats. Half precision moves a log-probability by 0.3 where other requests run beside it, and one of
# an unlikely token by more; that of another token, or at another temperature, lies further off.
_SAME: Final = 0.35
_SAME_MEAN: Final = 0.05
_UNLIKELY: Final = 0.05
# Fewest tokens of a text that tell a model from made-up numbers.
_LEAST: Final = 4
# Most questions of a call that are asked again: one in 8 of few.
_AGAIN: Final = 16
_LONGEST_ID: Final = 256
# Tokens: one that is asked, one that answers, and one that may be added to what is asked.
_SHORTEST: Final = 3
NAMED: Final = {"return_tokens_as_token_ids": True}
# Settings of sampling that vLLM takes from the model's generation_config.json where a request has
# none. Servers that know none of them are asked without.
PLAIN: Final = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
_AFTER: Final = ("logprob_token_ids", "allowed_token_ids")
_ALONG: Final = ("prompt_logprobs", "echo")


@dataclass(frozen=True)
class Proof:
    """What a server has shown.

    Attributes:
        model: what it says of the model.
        version: of the server; empty where it does not say.
        ids: the tokens of the text that was looked at.
        logprobs: of each but the first, in nats.
        notes: sentences about what could not be shown, or is slow.
    """

    model: ServedModel
    version: str
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    notes: tuple[str, ...]


def served_model(client: Client, wanted: str) -> ServedModel:
    """Return what a server says of a model: the one wanted, or (empty) its only one.

    Raises:
        UntrustedServerError: it serves others.
        ModelError: it cannot be reached.
    """
    try:
        models = client.get("/models", ModelList).data
    except RefusedError as problem:
        raise ModelError(
            f"{str(problem).rstrip('.')}: no completions API lies at {client.base}; write the "
            "address up to and with /v1 (http://host:port/v1#model)."
        ) from None
    found = {one.id: _completed(one, models) for one in models if wanted in ("", one.id)}
    if len(found) == 1:
        (model,) = found.values()
        if not model.id.isprintable() or len(model.id) > _LONGEST_ID:
            raise UntrustedServerError(
                f"the server {client.base} calls its model {quoted(model.id)}, which is no name."
            )
        longest = model.max_model_len
        if longest is not None and longest < _SHORTEST:
            raise UntrustedServerError(
                f"the server {client.base} says that {model.id!r} reads at most {longest:,} tokens "
                f"(max_model_len), where a question and its answer take {_SHORTEST} or more; start "
                "it with the length that the model has."
            )
        return model
    ids = ", ".join(visible(one, 60) for one in sorted({one.id for one in models})[:10]) or "none"
    if not wanted:
        raise ModelError(
            f"the server {client.base} has {len(models):,} models ({ids}); name one: "
            f"{client.base}#model."
        )
    raise UntrustedServerError(
        f"the server {client.base} has no model {wanted!r}, but {ids}; name one of these after "
        "the '#'."
    )


def _completed(served: ServedModel, models: Sequence[ServedModel]) -> ServedModel:
    """Return a model with its other names, and an adapter with what is said of its parent."""
    aliases = [
        one.id
        for one in models
        if one.root and (one.root, one.parent) == (served.root, served.parent)
    ]
    parent = next((one for one in models if one.id == served.parent), served)
    length = parent.max_model_len if served.max_model_len is None else served.max_model_len
    root = None if parent is served else parent.root
    return msgspec.structs.replace(
        served, max_model_len=length, parent_root=root, aliases=(served.id, *aliases)
    )


def prove(service: Service, served: ServedModel, opening: Sequence[int]) -> Proof:
    """Have a server prove itself; its dialect is found out on the way.

    Args:
        service: the server.
        served: the model.
        opening: tokens of a text to continue.

    Raises:
        UntrustedServerError: with what was wrong.
        ModelError: it does not answer.
    """
    version = _version(service.client)
    with service.trusted():
        return _Trial(service, served, list(opening)).proof(version)


def confirm(service: Service, proof: Proof) -> None:
    """See that a server is still the one that proved itself, and answered each its own question.

    Some of what it answered since it was last confirmed is asked again, each alone.

    Raises:
        UntrustedServerError: it is another, or gives other answers.
    """
    begin = f"the server {service.client.base} changed while it was asked"
    end = "nothing that it answered since is used; start again when it is no longer being changed."
    now = served_model(service.client, proof.model.id)
    if (now.root, now.parent, now.parent_root) != (
        proof.model.root,
        proof.model.parent,
        proof.model.parent_root,
    ):
        raise UntrustedServerError(f"{begin}: {now.id!r} is another model than before; {end}")
    with service.trusted():
        found = _along(service, proof.ids)
    pairs = [(value, before) for (value, _, _), before in zip(found, proof.logprobs, strict=True)]
    if sum(_apart(*pair) for pair in pairs) > _SAME_MEAN * len(pairs):
        apart = sum(abs(a - b) for a, b in pairs) / len(pairs)
        raise UntrustedServerError(
            f"{begin}: the log-probabilities of one text differ by {apart:.2g} nats a token from "
            f"those at the begin; {end}"
        )
    with service.trusted():
        # Of its own: the draws of the tests that run here stay as they are.
        answered = service.unconfirmed
        for ask, answer in random.Random().sample(answered, min(_AGAIN, -(-len(answered) // 8))):
            _check_again(answer, service.answer(ask))


def _check_again(first: Answer, second: Answer) -> None:
    """Raise where two answers to one question differ by more than rounding."""
    pairs = [(first.targets[token], second.targets[token]) for token in first.targets]
    pairs += [(a, b) for (a, *_), (b, *_) in zip(first.along, second.along, strict=True)]
    # In the mean: that of another question lies far off, one of many numbers by rounding may, too.
    if sum(_apart(*pair) for pair in pairs) > _SAME * len(pairs):
        apart = sum(abs(a - b) for a, b in pairs) / len(pairs)
        raise WrongReplyError(
            f"a question that is asked again alone has log-probabilities {apart:.2g} nats apart "
            "from those among others, as where answers are mixed up"
        )


class _Trial:
    """The steps of the proof."""

    def __init__(self, service: Service, served: ServedModel, opening: list[int]) -> None:
        self._service = service
        self._served = served
        longest = served.max_model_len or 1 << 30
        self._opening = opening[: max(2, min(_OPENING_TOKENS, longest // 4))]
        self._most = max(2, min(_WRITTEN_TOKENS, longest // 2))
        self._notes: list[str] = []

    def proof(self, version: str) -> Proof:
        """Run all steps."""
        written = self._write()
        ids = (*self._opening, *self._known(written))
        self._find_after(ids)
        self._find_along(ids)
        if not (self._dialect.after or self._dialect.along):
            raise WrongReplyError(
                "it gives log-probabilities neither of chosen tokens (logprob_token_ids, "
                "allowed_token_ids) nor of a prompt's tokens (prompt_logprobs, echo), so it cannot "
                "say how likely an answer is"
            )
        along = _along(self._service, ids)
        self._check_alignment(written, along)
        self._check_raw(ids, along)
        self._check_order(ids, along)
        values = tuple(value for value, _, _ in along)
        return Proof(self._served, version, ids, values, tuple(self._notes))

    @property
    def _dialect(self) -> Dialect:
        return self._service.dialect

    def _write(self) -> Written:
        """Have a text written, in the words that the server takes."""
        # Beyond its end, so that there is enough of it, where the server can.
        own = {"ignore_eos": True}
        refused = ""
        for plain in ({**NAMED, **PLAIN, **own}, NAMED, {}):
            self._service.dialect = replace(self._dialect, plain=plain)
            try:
                written = self._service.written(self._opening, self._most)
            except RefusedError as problem:
                refused = str(problem)
                continue
            kept = {name: value for name, value in plain.items() if name not in own}
            self._service.dialect = replace(self._dialect, plain=kept)
            return written
        raise WrongReplyError(self._why_refused(refused))

    def _why_refused(self, refused: str) -> str:
        """Say what a server lacks that takes no prompt of tokens: it is asked in plain words."""
        body = {"model": self._served.id, "prompt": OPENING, "max_tokens": 1, "temperature": 0}
        lacking = ""
        for words in ({"logprobs": 1, "echo": True}, {"logprobs": 1}):
            try:
                reply = self._service.client.complete({**body, **words})
            except ModelError:
                continue
            if not reply.choices or reply.choices[0].logprobs is None:
                lacking = (
                    ", and answers a text without log-probabilities (it drops "
                    f"{' and '.join(words)})"
                )
            break
        return f"it takes no prompt of token ids{lacking} ({refused.rstrip('.')})"

    def _known(self, written: Written) -> list[int]:
        """Return the tokens written, up to the first that the server does not name."""
        known = list(takewhile(lambda token: token >= 0, written.ids))
        if len(known) < min(_LEAST, len(written.ids)):
            raise WrongReplyError(
                "it does not say which tokens it wrote (return_tokens_as_token_ids), and their "
                "texts do not tell"
            )
        return known

    def _find_after(self, ids: tuple[int, ...]) -> None:
        targets = tuple(dict.fromkeys(ids))[:4]
        for word in _AFTER:
            self._service.dialect = replace(self._dialect, after=word)
            try:
                self._service.answer(Ask(ids, targets))
            except (RefusedError, LackingError):
                continue
            if word != _AFTER[0]:
                self._notes.append(
                    f"the server takes no {_AFTER[0]}, so that each option is a request of its own"
                )
            return
        self._service.dialect = replace(self._dialect, after="")
        self._notes.append(
            f"the server takes neither {' nor '.join(_AFTER)}, so that each option is a request "
            "of its own, whose prompt it reads anew"
        )

    def _find_along(self, ids: tuple[int, ...]) -> None:
        for word in _ALONG:
            self._service.dialect = replace(self._dialect, along=word)
            try:
                self._service.answer(Ask(ids, along=True))
            except (RefusedError, LackingError):
                continue
            return
        self._service.dialect = replace(self._dialect, along="")
        self._notes.append(
            f"the server takes neither {' nor '.join(_ALONG)}, so that each token of a text is a "
            "request of its own"
        )

    def _check_alignment(self, written: Written, along: _Rows) -> None:
        """Each token has the log-probability with which it was written."""
        values = [value for value, _, _ in along]
        if max(values) - min(values) < 1e-6:
            raise WrongReplyError(
                f"it gives all tokens of a text the same log-probability ({values[0]:g})"
            )
        again = values[len(self._opening) - 1 :]
        differ, apart = _furthest(zip(again, written.logprobs, strict=False))
        if differ:
            raise WrongReplyError(
                "the tokens that it wrote have other log-probabilities when it reads them: up to "
                f"{apart:.3g} nats apart, as where they are given to the token beside"
            )

    def _check_raw(self, ids: tuple[int, ...], along: _Rows) -> None:
        """What follows a text does not depend on the way it is asked, nor on the temperature."""
        # Where the tokens beside differ most.
        values = [value for value, _, _ in along]
        steps = [abs(a - b) for a, b in pairwise(values)]
        k = max(range(1, len(ids)), key=lambda i: max(steps[max(0, i - 2) : i] or [0.0]))
        others = [token for token in dict.fromkeys(ids) if token != ids[k]][:3]
        ask = Ask(tuple(ids[:k]), (ids[k], *others))
        cold = self._service.answer(ask).targets
        differ, apart = _furthest([(cold[ids[k]], values[k - 1])])
        if differ:
            raise WrongReplyError(
                f"one token has log-probabilities {apart:.3g} nats apart when it follows the "
                "prompt and when it is a part of it"
            )
        bodies = [{**body, "temperature": 2.0, "seed": 1} for body in self._dialect.bodies(ask)]
        replies = [self._service.client.complete(body) for body in bodies]
        hot = self._dialect.read(ask, replies, greedy=False).targets
        differ, apart = _furthest((cold[token], hot[token]) for token in cold)
        if differ:
            raise WrongReplyError(
                f"its log-probabilities change with the temperature (by {apart:.3g} nats from 0 "
                "to 2), so they are not the model's own; vLLM gives those with "
                "--logprobs-mode raw_logprobs"
            )

    def _check_order(self, ids: tuple[int, ...], along: _Rows) -> None:
        """The text is likelier in its order than in another."""
        rest = list(ids[1:])
        random.Random(0).shuffle(rest)
        shuffled = _along(self._service, (ids[0], *rest))
        ordered, mixed = (sum(value for value, _, _ in rows) for rows in (along, shuffled))
        if len(set(rest)) > 1 and ordered <= mixed + 1e-3:
            raise WrongReplyError(
                f"it finds the text that it wrote no likelier ({ordered:.4g} nats) than the same "
                f"tokens shuffled ({mixed:.4g}), as no model does"
            )


_Rows = list[tuple[float, int, float]]


def _along(service: Service, ids: Sequence[int]) -> _Rows:
    """Return what a server says of the tokens of a text but the first, however it is asked."""
    row = Row(list(ids[:-1]), list(range(len(ids) - 1)), list(ids[1:]))
    plan = Plan([row], service.dialect)
    (scores,) = plan.scores([service.answer(ask) for ask in plan.asks])
    columns: Sequence[Any] = (scores.target_logprob, scores.top_id, scores.top_logprob)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _apart(one: float, other: float) -> float:
    """Return how far two log-probabilities lie apart; less for those of unlikely tokens."""
    return abs(one - other) / (1 + _UNLIKELY * abs(min(one, other)))


def _furthest(pairs: Iterable[tuple[float, float]]) -> tuple[bool, float]:
    """Return whether two that should be the same lie too far apart, and by how many nats."""
    one, other = max(pairs, key=lambda pair: _apart(*pair))
    return _apart(one, other) > _SAME, abs(one - other)


def _version(client: Client) -> str:
    """Return the version of a server that says one, as vLLM does."""
    try:
        return visible(client.get("/version", Version, root=True).version, 40)
    except ModelError:
        return ""


def check_tokens(client: Client, served: ServedModel, text: str, ids: Sequence[int]) -> str:
    """See that the server makes the same tokens of a text; return a note where it does not say.

    Raises:
        UntrustedServerError: it makes others.
    """
    body = {"model": served.id, "prompt": text, "add_special_tokens": False}
    try:
        found = client.post("/tokenize", body, Tokens, root=True).tokens
    except ModelError:
        return "the server has no /tokenize, so that its tokenizer could not be compared"
    if found != list(ids):
        raise UntrustedServerError(
            f"the server {client.base}, model {served.id!r}, makes {len(found)} tokens of a text "
            f"of which the tokenizer that was loaded here makes {len(ids)}, or others; name the "
            "one that it uses (model: {tokenizer: DIRECTORY} in calibration.yaml)."
        )
    return ""
