"""Language models without torch that answer as they are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from fakes import FakeModel
from numpy.typing import NDArray

from pytest_calibration.models.protocols import Generation, Message


class Answering(FakeModel):
    """Says what a function makes of a prompt; each word is a token of the same log-probability.

    Args:
        says: prompt to answer, or a prompt and a seed where answers are drawn.
        logprob: of each word.
        true: probability of the first of two options, by prompt.
    """

    def __init__(
        self,
        says: Callable[..., str] = lambda _prompt, _seed=0: "",
        *,
        logprob: float = -0.5,
        true: Callable[[str], float] = lambda _: 0.5,
    ) -> None:
        super().__init__("answering")
        self.says = says
        self.logprob = logprob
        self.true = true
        self.prompts: list[str] = []
        self.drawn: list[tuple[str, int]] = []
        self.judged: list[tuple[str, list[str]]] = []
        self.how: dict[str, object] = {}

    def _made(self, text: str) -> Generation:
        return Generation(text, np.full(max(1, len(text.split())), self.logprob))

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: Sequence[int], stop: Sequence[str] = ()
    ) -> list[Generation]:
        """Note what is asked, and answer."""
        self.prompts = list(prompts)
        self.how = {"max_new_tokens": set(max_new_tokens), "stop": tuple(stop)}
        return [self._made(self.says(prompt)) for prompt in prompts]

    def sample(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: Sequence[int],
        temperature: float,
        seeds: Sequence[int],
        stop: Sequence[str] = (),
    ) -> list[Generation]:
        """Note what is asked, and answer."""
        self.drawn = list(zip(prompts, seeds, strict=True))
        most = set(max_new_tokens)
        self.how = {"temperature": temperature, "max_new_tokens": most, "stop": tuple(stop)}
        return [self._made(self.says(prompt, seed)) for prompt, seed in self.drawn]

    def option_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[NDArray[np.float64]]:
        """Note what is asked; half of the probability lies on the two options."""
        self.judged = [(p, list(row)) for p, row in zip(prompts, options, strict=True)]
        shares = [self.true(prompt) for prompt in prompts]
        return [np.log([0.5 * share, 0.5 * (1 - share)]) for share in shares]


class ChatAnswering(Answering):
    """The same with a chat template."""

    def render_chat(
        self, chats: Sequence[Sequence[Message]], variables: Mapping[str, object]
    ) -> list[str]:
        """Write each turn in a line of its own."""
        end = "".join(f"<{name}>" for name in ("ai", *variables))
        return ["".join(f"<{m['role']}>{m['content']}</>" for m in chat) + end for chat in chats]

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: Sequence[int],
        stop: Sequence[str] = (),
        add_special_tokens: bool = True,
    ) -> list[Generation]:
        """A rendered chat is whole."""
        assert not add_special_tokens
        return super().generate(prompts, max_new_tokens=max_new_tokens, stop=stop)

    def option_logprobs(
        self,
        prompts: Sequence[str],
        options: Sequence[Sequence[str]],
        *,
        add_special_tokens: bool = True,
    ) -> list[NDArray[np.float64]]:
        """A rendered chat is whole."""
        assert not add_special_tokens
        return super().option_logprobs(prompts, options)


class OnlyGreedy(FakeModel):
    """A model that a project brings: greedy, and it ends where it likes."""

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: Sequence[int]
    ) -> list[Generation]:
        """Answer, then go on."""
        text = " Lima\nQuestion: and then?"
        return [
            Generation(text, np.log([0.5, 0.5])) for _ in zip(prompts, max_new_tokens, strict=True)
        ]
