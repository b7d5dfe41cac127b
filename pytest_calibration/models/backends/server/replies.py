"""The form of what servers answer, as far as it is read."""

from __future__ import annotations

from msgspec import Struct


class ServedModel(Struct):
    """An entry of ``/v1/models``.

    Attributes:
        id: what requests call it.
        root: what vLLM loaded it from.
        parent: the model that an adapter is loaded on.
        parent_root: what the parent was loaded from.
        aliases: ids of the same model, under which vLLM may answer; the first of its names.
        max_model_len: tokens that a prompt and its continuation may have.
    """

    id: str
    root: str | None = None
    parent: str | None = None
    parent_root: str | None = None
    aliases: tuple[str, ...] = ()
    max_model_len: int | None = None


class ModelList(Struct):
    """The reply of ``/v1/models``."""

    data: list[ServedModel]


class Version(Struct):
    """The reply of ``/version``."""

    version: str


class Tokens(Struct):
    """The reply of ``/tokenize``."""

    tokens: list[int]


class TokenLogprob(Struct):
    """What the server says of one token after the tokens before it."""

    logprob: float
    rank: int | None = None


class Logprobs(Struct):
    """Log-probabilities of the tokens of a choice, one entry each."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None = None


class Choice(Struct):
    """One continuation."""

    text: str = ""
    logprobs: Logprobs | None = None
    prompt_logprobs: list[dict[int, TokenLogprob] | None] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


class Usage(Struct):
    """How many tokens were read."""

    prompt_tokens: int


class Completion(Struct):
    """The reply of ``/v1/completions``."""

    choices: list[Choice]
    model: str | None = None
    usage: Usage | None = None


class DecisionAnswer(Struct):
    """The answer to a typed question. Its ``confidence`` is no probability, and is not read."""

    choice: str
    probabilities: dict[str, float]


class Decision(Struct):
    """The reply of ``/v1/systemone``."""

    answers: dict[str, DecisionAnswer]
    model: str | None = None
