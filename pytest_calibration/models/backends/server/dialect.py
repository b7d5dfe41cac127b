"""What is asked about tokens, in the words of a server, and its replies as numbers.

Servers differ in how log-probabilities are asked for. For the tokens after a prompt:
``logprob_token_ids`` names any of them in one request (vLLM); ``allowed_token_ids`` allows one,
whose log-probability the reply holds (older vLLM). For the tokens of the prompt itself:
``prompt_logprobs`` (vLLM), or ``echo`` (the completions API of OpenAI, SGLang). One of the four is
enough, at the price of more requests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pytest_calibration.models.backends.server.replies import Choice, Completion, Logprobs
from pytest_calibration.text.visible import quoted

MOST_TARGETS: Final = 128
"""Tokens that ``logprob_token_ids`` may name."""
_TOKEN: Final = "token_id:"
# How far a logarithm of float32 or bfloat16 may lie above 0, and a sum of probabilities above 1.
_ABOVE: Final = 0.01
# vLLM gives -9999 for a probability of 0; no model comes near it.
_LEAST: Final = -1e5
UNKNOWN: Final = -1
"""A token that the server names by a text that stands for none, or for several."""


class WrongReplyError(Exception):
    """A reply that cannot be right; the reason says what is wrong with it."""


class LackingError(WrongReplyError):
    """A reply lacks what was asked for, as where a server does not know the word."""


@dataclass(frozen=True)
class Ask:
    """What is to be found out about a prompt.

    Attributes:
        ids: the tokens of the prompt.
        targets: tokens whose log-probability after the prompt is wanted.
        along: whether the log-probabilities of the prompt's own tokens are wanted.
    """

    ids: tuple[int, ...]
    targets: tuple[int, ...] = ()
    along: bool = False


@dataclass(frozen=True)
class Answer:
    """What was found out about a prompt, in nats.

    Attributes:
        targets: log P(target | prompt), by target.
        top: the most likely token after the prompt and its log-probability; the token may be
            ``UNKNOWN``. None where it was not found out.
        along: for each token of the prompt but the first: its log-probability, the most likely
            token there and the log-probability of that one.
    """

    targets: Mapping[int, float]
    top: tuple[int, float] | None = None
    along: tuple[tuple[float, int, float], ...] = ()


@dataclass(frozen=True)
class Written:
    """What a server wrote after a prompt.

    Attributes:
        ids: its tokens; one that ends the text is among them.
        logprobs: of each.
        stopped: whether it ended by itself or at a stop text.
        closed: whether the server says that the last token ended it.
    """

    ids: list[int]
    logprobs: list[float]
    stopped: bool
    closed: bool


@dataclass(frozen=True)
class Dialect:
    """How one server is asked.

    Attributes:
        model: the id of its model.
        after: how tokens after a prompt are asked for: a word of the module's text, or empty.
        along: the same for the tokens of a prompt.
        plain: what is sent with every request: that tokens are named by their ids, and settings of
            sampling, so that none of the server's own count.
        aliases: other ids under which the model may answer.
        token: gives the token that a text of a reply stands for, or ``UNKNOWN``.
    """

    model: str
    after: str = ""
    along: str = ""
    plain: Mapping[str, Any] | None = None
    aliases: tuple[str, ...] = ()
    token: Callable[[str], int] = lambda _: UNKNOWN

    # --- asking --------------------------------------------------------------------------------

    def bodies(self, ask: Ask) -> Iterator[dict[str, Any]]:
        """Yield the requests that find out what is asked."""
        if ask.along:
            yield self._body(ask.ids) | self._words_of_along()
        if self.after == "logprob_token_ids":
            for i in range(0, len(ask.targets), MOST_TARGETS):
                some = list(ask.targets[i : i + MOST_TARGETS])
                yield self._body(ask.ids) | {"logprob_token_ids": some}
        elif self.after == "allowed_token_ids":
            for target in ask.targets:
                yield self._body(ask.ids) | {"allowed_token_ids": [target]}
        else:
            for target in ask.targets:
                yield self._body([*ask.ids, target]) | self._words_of_along()
        if not ask.targets and not ask.along:
            yield self._body(ask.ids)

    def _words_of_along(self) -> dict[str, Any]:
        return {"prompt_logprobs": 1} if self.along == "prompt_logprobs" else {"echo": True}

    def writing(
        self,
        ids: Sequence[int],
        most: int,
        *,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> dict[str, Any]:
        """Return the request to continue a prompt."""
        body = self._body(ids) | {"max_tokens": most, "temperature": temperature}
        if stop:
            body |= {"stop": list(stop), "include_stop_str_in_output": True}
        return body if seed is None else body | {"seed": seed}

    def _body(self, ids: Sequence[int]) -> dict[str, Any]:
        return {
            "model": self.model,
            "prompt": list(ids),
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,
            **(self.plain or {}),
        }

    # --- reading -------------------------------------------------------------------------------

    def read(self, ask: Ask, replies: Sequence[Completion], *, greedy: bool = True) -> Answer:
        """Return what the replies to :meth:`bodies` say.

        Args:
            ask: what was asked.
            replies: one for each request.
            greedy: whether the most likely token was written.

        Raises:
            LackingError: they lack what was asked for.
            WrongReplyError: they cannot be right.
        """
        bodies = list(self.bodies(ask))
        targets: dict[int, float] = {}
        top: tuple[int, float] | None = None
        along: tuple[tuple[float, int, float], ...] = ()
        for body, reply in zip(bodies, replies, strict=True):
            choice = self._choice(reply, len(body["prompt"]))
            if "logprob_token_ids" in body:
                found, top = self._after(choice, body["logprob_token_ids"], greedy=greedy)
                targets |= found
            elif "allowed_token_ids" in body:
                found, top = self._after(choice, body["allowed_token_ids"], greedy=False)
                targets |= found
            elif "prompt_logprobs" in body or "echo" in body:
                prompt = body["prompt"]
                rows = self._along(choice, prompt)
                if len(prompt) > len(ask.ids):
                    targets[prompt[-1]], *best = rows[-1]
                    top = (int(best[0]), best[1])
                else:
                    along = rows
            else:
                _, top = self._after(choice, [])
        _check_sum(targets.values())
        return Answer(targets, top, along)

    def read_writing(self, reply: Completion, prompt: Sequence[int], most: int) -> Written:
        """Return what a reply to :meth:`writing` says; errors as for :meth:`read`."""
        choice = self._choice(reply, len(prompt))
        said = _said(choice)
        ids = [self._token(text) for text in said.tokens]
        if not 0 < len(ids) <= most:
            raise WrongReplyError(f"it wrote {len(ids)} tokens where 1 to {most} were asked for")
        if len(said.token_logprobs) != len(ids):
            raise WrongReplyError(
                f"it gives {len(said.token_logprobs)} log-probabilities for {len(ids)} tokens"
            )
        return Written(
            ids,
            [_checked(value) for value in said.token_logprobs],
            choice.finish_reason == "stop",
            isinstance(choice.stop_reason, int),
        )

    def _choice(self, reply: Completion, n: int) -> Choice:
        """Return the one continuation of a reply to a prompt of n tokens."""
        if len(reply.choices) != 1:
            raise WrongReplyError(f"it gives {len(reply.choices)} answers to one prompt")
        if reply.model not in (None, self.model, *self.aliases):
            raise WrongReplyError(
                f"model {self.model!r} was asked, and {quoted(reply.model)} answered"
            )
        if reply.usage is not None and reply.usage.prompt_tokens != n:
            raise WrongReplyError(f"it read {reply.usage.prompt_tokens} tokens where {n} were sent")
        return reply.choices[0]

    def _after(
        self, choice: Choice, wanted: Sequence[int], *, greedy: bool = True
    ) -> tuple[dict[int, float], tuple[int, float]]:
        """Return the log-probabilities of wanted tokens, and the most likely token with its own."""
        said = _said(choice)
        if not len(said.tokens) == len(said.token_logprobs) == 1:
            raise WrongReplyError(
                f"it gives {len(said.token_logprobs)} log-probabilities for one token"
            )
        written = self._token(said.tokens[0]), _checked(said.token_logprobs[0])
        tops = (said.top_logprobs or [None])[0] or {}
        values = {self._token(text): _checked(value) for text, value in tops.items()}
        values[written[0]] = written[1]
        lacking = [token for token in wanted if token not in values]
        if lacking:
            raise LackingError(
                f"it gives no log-probability of {len(lacking)} of {len(wanted)} tokens asked for"
            )
        best = max(values, key=lambda token: values[token])
        if greedy and values[best] > written[1] + _ABOVE:
            raise WrongReplyError("the token it wrote at temperature 0 is not its most likely")
        top = written if greedy else (best, values[best])
        return {token: values[token] for token in wanted}, top

    def _along(self, choice: Choice, prompt: Sequence[int]) -> tuple[tuple[float, int, float], ...]:
        """Return what a reply says of the tokens of its prompt, from the second on."""
        if self.along == "prompt_logprobs":
            entries = choice.prompt_logprobs
            if entries is None:
                raise LackingError("it gives no log-probabilities of the prompt's tokens")
            _check_count(len(entries), len(prompt))
            return tuple(
                _of_entry(e, token) for e, token in zip(entries[1:], prompt[1:], strict=True)
            )
        said = _said(choice)
        n = len(prompt)
        if len(said.token_logprobs) == 1 < n:
            raise LackingError("it does not echo the prompt")
        # Without what was written after the prompt.
        _check_count(len(said.token_logprobs), n, n + 1)
        if said.top_logprobs is None:
            raise LackingError("it does not give the most likely tokens (top_logprobs)")
        if len({len(said.tokens), len(said.token_logprobs), len(said.top_logprobs)}) != 1:
            raise WrongReplyError("it gives lists of different lengths for the same tokens")
        out = []
        for i in range(1, n):
            token, value = self._token(said.tokens[i]), _checked(said.token_logprobs[i])
            if token not in (UNKNOWN, prompt[i]):
                raise WrongReplyError("it echoes other tokens than were sent")
            # The text of the token itself stands for it, also where it stands for others, too.
            tops = {
                prompt[i] if text == said.tokens[i] else self._token(text): _checked(one)
                for text, one in (said.top_logprobs[i] or {}).items()
            }
            tops[prompt[i]] = value
            best = max(tops, key=lambda one: tops[one])
            out.append((value, best, tops[best]))
        return tuple(out)

    def _token(self, text: str) -> int:
        number = text.removeprefix(_TOKEN)
        if number is not text and number.isascii() and number.isdecimal() and len(number) < 10:
            return int(number)
        return self.token(text)


def _said(choice: Choice) -> Logprobs:
    if choice.logprobs is None:
        raise LackingError("it gives no log-probabilities (logprobs)")
    return choice.logprobs


def _of_entry(entry: Any, token: int) -> tuple[float, int, float]:
    if not entry or token not in entry:
        raise WrongReplyError("its log-probabilities of the prompt are of other tokens")
    values = {one: _checked(found.logprob) for one, found in entry.items()}
    _check_sum(values.values())
    best = max(values, key=lambda one: values[one])
    return values[token], best, values[best]


def _check_sum(logprobs: Iterable[float]) -> None:
    if sum(map(math.exp, logprobs)) > 1 + _ABOVE:
        raise WrongReplyError("its probabilities of different tokens add up to more than 1")


def _check_count(n: int, *right: int) -> None:
    if n not in right:
        raise WrongReplyError(f"it gives {n} log-probabilities for a prompt of {right[0]} tokens")


def _checked(value: float | None) -> float:
    """Return a log-probability; raise for what is none."""
    if value is None or not value > _LEAST:
        raise WrongReplyError(f"it gives {value} as a log-probability")
    if value > _ABOVE:
        raise WrongReplyError(f"it gives {value:g} as a log-probability, which is above 0")
    return min(value, 0.0)
