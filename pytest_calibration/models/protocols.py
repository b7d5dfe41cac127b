"""What a probe may ask of a model. A class with these methods needs no base class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

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
    """One continuation.

    Attributes:
        text: the decoded continuation, without the end token that closes it.
        token_logprobs: (t,) float64, log-probability of each generated token in nats, the end token
            included; as the model is served, at whichever temperature it was drawn.
        finished: whether it came to an end, and not to the most tokens allowed.
    """

    text: str
    token_logprobs: NDArray[np.float64]
    finished: bool = True


@dataclass(frozen=True)
class Likelihood:
    """How likely a model finds one continuation of a context.

    Attributes:
        logprob: log P(continuation | context) in nats.
        is_greedy: whether each of its tokens is the most likely one.
        own_logprob: log-probability of the model's own continuation of as many tokens, each the
            most likely after those before it; None where it was not asked for.
        own_text: that continuation.
        n_cut: tokens of the context that did not fit and were cut off at its begin.
    """

    logprob: float
    is_greedy: bool
    own_logprob: float | None = None
    own_text: str = ""
    n_cut: int = 0


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
            chats: conversations. One that ends with a turn of the assistant is whole, and returned
                to its end; any other ends with a turn of the user. A first turn of the system
                becomes part of the user's where the template takes no such turn.
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


Text: TypeAlias = str | tuple[str, str]
"""A text, or the two texts of a pair, such as premise and hypothesis."""

Truncation: TypeAlias = Literal["", "longest_first", "only_first"]
"""Which text is cut where a model cannot read all: none, the longer of a pair, or the first."""


@runtime_checkable
class SamplingModel(LanguageModel, Protocol):
    """A language model that ends a continuation where it is told to, and can draw one.

    Probes with free answers ask for it. Where ``generate`` takes no ``stop``, they cut what comes
    after; ``sample`` is asked for only where answers are drawn.
    """

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: Sequence[int], stop: Sequence[str] = ()
    ) -> list[Generation]:
        """Continue each prompt greedily by at most so many tokens.

        Args:
            prompts: n texts.
            max_new_tokens: (n,) the most tokens of each.
            stop: texts, each of which ends a continuation with the token that completes it; white
                space at the begin does not count.
        """

    def sample(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: Sequence[int],
        temperature: float,
        seeds: Sequence[int],
        stop: Sequence[str] = (),
    ) -> list[Generation]:
        """Continue each prompt by tokens that are drawn.

        Args:
            prompts: n texts; for several continuations of one, it is given several times.
            max_new_tokens: (n,) the most tokens of each.
            temperature: that the logits are divided by, above 0.
            seeds: (n,) whole numbers. The same prompt and seed give the same continuation, whatever
                else is asked for and in whichever order.
            stop: as for ``generate``.
        """


@runtime_checkable
class HarnessModel(LanguageModel, Protocol):
    """A language model that answers the log-likelihood requests of lm-eval as the harness does."""

    def loglikelihood(
        self, requests: Sequence[tuple[str, str]], *, own: bool = False, cut: bool = False
    ) -> list[Likelihood]:
        """Return how likely each continuation is, in the tokens that lm-eval makes of the two.

        Args:
            requests: pairs (context, continuation), as in ``Instance.args`` of lm-eval.
            own: whether the model's own continuations are asked for.
            cut: whether a context that does not fit loses its begin, as in lm-eval.

        Raises:
            ModelError: a request does not fit, or a score is not finite.
        """


@runtime_checkable
class Classifier(Protocol):
    """A model that gives each of k classes a probability.

    It may say more of its classes: ``class_names``, their k names in the order of the columns, and
    ``multi_label``, True where a text may have any number of them. Where a probe has ``truncate``,
    ``class_probabilities`` is given it by name, and ``truncated(texts)`` says which of the texts
    are cut, as (n,) booleans.

    Attributes:
        name: what reports call it.
        fingerprint: identifies weights and settings, as that of a language model.
    """

    name: str

    @property
    def fingerprint(self) -> str:
        """Identify weights and settings."""

    def class_probabilities(self, texts: Sequence[Text]) -> NDArray[np.float64]:
        """Return the probability of each class, (n, k); rows sum to 1 unless ``multi_label``.

        Raises:
            ModelError: a text does not fit, or a score is not finite.
        """


@runtime_checkable
class InferenceModel(Protocol):
    """A model of natural language inference: does a text entail a hypothesis?

    Attributes:
        name: what reports call it.
        class_names: the k names of its classes, such as entailment, neutral and contradiction.
    """

    name: str

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes, in the order of the columns."""

    def class_logits(self, texts: Sequence[Text]) -> NDArray[np.float64]:
        """Return the logit of each class for pairs of a text and a hypothesis, (n, k)."""


@runtime_checkable
class TokenClassifier(Protocol):
    """A model that gives each word of a text a probability for each of k classes.

    Like a :class:`Classifier` it may have ``class_names``.

    Attributes:
        name: what reports call it.
    """

    name: str

    def token_class_probabilities(
        self, texts: Sequence[Sequence[str]]
    ) -> list[NDArray[np.float64]]:
        """Return, for each text in words, the probability of each class of each word, (t, k)."""


@runtime_checkable
class RewardModel(Protocol):
    """A model that gives an answer a reward; the difference of two is the logit of a preference.

    Attributes:
        name: what reports call it.
    """

    name: str

    def rewards(self, texts: Sequence[Text]) -> NDArray[np.float64]:
        """Return the reward of each prompt with its answer, (n,).

        ``add_special_tokens=False``, given by name, is for texts that ``render_chat`` has made.
        """


Model: TypeAlias = LanguageModel | Classifier | TokenClassifier | RewardModel


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
