"""What a probe may ask of a model. A class with these methods needs no base class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Choose: TypeAlias = Callable[[int, NDArray[np.int64]], NDArray[np.int64]]
"""(index of the text, (t, 2) start and end characters of its predicted tokens) → which to score."""


Message: TypeAlias = Mapping[str, str]
"""One turn of a chat: its ``role`` (system, user or assistant) and its ``content``."""


@dataclass(frozen=True)
class NextTokenScores:
    """What the model expected at the scored positions of one text.

    Attributes:
        spans: (t, 2) int64, first and one-past-last character of each target token in the text.
        top_probability: (t,) float64, probability of the most likely token, full vocabulary.
        hit: (t,) bool, whether that token is the one in the text.
        target_logprob: (t,) float64, log P(target token) in nats.
        token_ids: (t,) int64, the target tokens; their digest tells two tokenizers apart.
        top_text: (t,) the most likely tokens as text, for a reader; empty where a model does not
            say.
    """

    spans: NDArray[np.int64]
    top_probability: NDArray[np.float64]
    hit: NDArray[np.bool_]
    target_logprob: NDArray[np.float64]
    token_ids: NDArray[np.int64]
    top_text: Sequence[str] = ()


@dataclass(frozen=True)
class Generation:
    """One greedy continuation.

    Attributes:
        text: the decoded continuation.
        token_logprobs: (t,) float64, log-probability of each generated token in nats.
    """

    text: str
    token_logprobs: NDArray[np.float64]


@dataclass(frozen=True)
class Likelihood:
    """How likely a model finds one continuation of a context.

    Attributes:
        logprob: log P(continuation | context) in nats.
        is_greedy: whether each of its tokens is the most likely one.
        own_logprob: log-probability of the model's own continuation of as many tokens, each the
            most likely after those before it; None where it was not asked for.
        own_text: that continuation.
    """

    logprob: float
    is_greedy: bool
    own_logprob: float | None = None
    own_text: str = ""


@runtime_checkable
class LanguageModel(Protocol):
    """A causal language model.

    Attributes:
        name: what reports call it.
        fingerprint: identifies weights and settings; two models with one fingerprint give the
            same scores.
    """

    name: str

    @property
    def fingerprint(self) -> str:
        """Identify weights and settings."""

    def option_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[NDArray[np.float64]]:
        """Return log P(option | prompt) in nats, one (k,) array per prompt.

        Raises:
            TokenBoundaryError: the tokenizer merges the end of a prompt with an option.
            ModelError: a prompt does not fit, or a score is not finite.
        """

    def next_token(
        self, texts: Sequence[str], *, choose: Choose | None = None
    ) -> list[NextTokenScores]:
        """Return what the model expected at each predicted token of each text.

        Args:
            texts: n texts.
            choose: picks the positions to score; all by default.
        """

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: Sequence[int]
    ) -> list[Generation]:
        """Continue each prompt greedily by at most so many tokens."""


@runtime_checkable
class ChatModel(LanguageModel, Protocol):
    """A language model with a chat template, which probes with ``chat`` ask for.

    Its scoring methods take ``add_special_tokens``; False for a text that is whole, as
    ``render_chat`` returns it: nothing is put before it.
    """

    def render_chat(
        self, chats: Sequence[Sequence[Message]], variables: Mapping[str, object]
    ) -> list[str]:
        """Return each conversation as text, up to where the assistant's next turn begins.

        Args:
            chats: conversations, each of which ends with a turn of the user. A first turn of the
                system becomes part of the user's where the template takes no such turn.
            variables: given to the template.

        Raises:
            ModelError: there is no chat template, or it cannot render a conversation.
        """

    def option_logprobs(
        self,
        prompts: Sequence[str],
        options: Sequence[Sequence[str]],
        *,
        add_special_tokens: bool = True,
    ) -> list[NDArray[np.float64]]:
        """See :class:`LanguageModel`."""

    def next_token(
        self,
        texts: Sequence[str],
        *,
        choose: Choose | None = None,
        add_special_tokens: bool = True,
    ) -> list[NextTokenScores]:
        """See :class:`LanguageModel`."""

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: Sequence[int],
        add_special_tokens: bool = True,
    ) -> list[Generation]:
        """See :class:`LanguageModel`."""


@runtime_checkable
class HarnessModel(LanguageModel, Protocol):
    """A language model that answers the log-likelihood requests of lm-eval as the harness does."""

    def loglikelihood(
        self, requests: Sequence[tuple[str, str]], *, own: bool = False
    ) -> list[Likelihood]:
        """Return how likely each continuation is, its tokens cut as lm-eval cuts them.

        Args:
            requests: pairs (context, continuation), as in ``Instance.args`` of lm-eval.
            own: whether the model's own continuations are asked for.

        Raises:
            ModelError: a request does not fit, or a score is not finite.
        """


@runtime_checkable
class Classifier(Protocol):
    """A model that gives each of k classes a probability.

    Attributes:
        name: what reports call it.
        fingerprint: identifies weights and settings, as that of a language model.
    """

    name: str

    @property
    def fingerprint(self) -> str:
        """Identify weights and settings."""

    def class_probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the probability of each class, (n, k); rows sum to 1."""


Model: TypeAlias = LanguageModel | Classifier


class LoadedModel(Protocol):
    """A model in memory: beside the methods of its kind it has these.

    Attributes:
        name: what reports call it.
    """

    name: str

    @property
    def notes(self) -> Sequence[str]:
        """Sentences about how it is scored that a user should know; more may follow later."""

    @property
    def checkpoint_notes(self) -> Sequence[str]:
        """Those of ``notes`` about what was loaded, which hold for answers from a cache, too."""

    @property
    def description(self) -> Mapping[str, str]:
        """Settings and versions that describe how it scores."""

    def close(self) -> None:
        """Free the weights."""
