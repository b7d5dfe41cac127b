"""How a prompt and what may follow it are put together: as running text, or as a chat.

Between the two stands a delimiter, a space by default. White space that is there already is not
doubled. Tokenizers join a space with the word after it, so a space at the end of a prompt is scored
with what follows; a line end, or any other delimiter, stays with the prompt.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import ModelError, TokenBoundaryError, UsageError
from pytest_calibration.models.protocols import ChatModel, LanguageModel, Message
from pytest_calibration.predictions import digest

ChatSetting: TypeAlias = bool | Mapping[str, Any]
"""Whether the model's chat template is used, or variables for it."""

SPACE: Final = " "
# White space within a line, at the end and at the begin of a text.
_LAST_SPACES: Final = re.compile(r"[^\S\r\n]*\Z")
_FIRST_SPACES: Final = re.compile(r"\A[^\S\r\n]*")
# `</s>`, `<|im_end|>`, `[/INST]`
_MARK: Final = re.compile(r"\s*(<[^<>\s]+>|\[[^\[\]\s]+\])")
# Most gaps, and characters of one, that a signature shows.
MOST_GAPS: Final = 3
LONGEST_GAP: Final = 40
# What the texts of a conversation are replaced with, to digest what a template puts around them.
PLACEHOLDERS: Final = {"system": "HEADER-TEXT", "user": "QUESTION-TEXT", "assistant": "ANSWER-TEXT"}


class Joined(NamedTuple):
    """A prompt, and what may follow it.

    Attributes:
        prompt: the text up to where the model's answer begins.
        continuations: (k,) each option, with the spaces that are scored with it.
        gaps: (k,) what stands between the prompt's last word, or line end, and each option.
    """

    prompt: str
    continuations: list[str]
    gaps: list[str]


class Prompting:
    """How a probe puts its items to a model.

    Args:
        probe: name of the probe.
        delimiter: what stands between a prompt and what may follow it. None is a space, or nothing
            where the tokenizer merges it or after a chat template.
        chat: whether prompts are turns of a chat, in the model's own template; a mapping gives
            variables to the template.

    Raises:
        UsageError: a delimiter that is no text, or a chat that is neither.
    """

    def __init__(self, probe: str, delimiter: str | None, chat: ChatSetting) -> None:
        if not isinstance(delimiter, str | None):
            raise UsageError(
                f"probe {probe!r}: the delimiter must be text ('' for none), got {delimiter!r}."
            )
        named = isinstance(chat, Mapping) and all(isinstance(key, str) for key in chat)
        if not (isinstance(chat, bool) or named):
            raise UsageError(
                f"probe {probe!r}: chat must be true, false or variables of the chat template by "
                f"name, got {chat!r}."
            )
        self.probe = probe
        self.delimiter = delimiter
        self.is_chat = chat is not False
        self.variables: Mapping[str, Any] = chat if isinstance(chat, Mapping) else {}
        self._default = "" if self.is_chat else SPACE

    def joined(self, prompt: str, options: Sequence[str], *, again: bool = False) -> Joined:
        """Put a prompt and each option together.

        Args:
            prompt: its end may hold the delimiter already; so may the begin of an option.
            options: k texts.
            again: after the tokenizer has merged the two: without the default space; else the same
                text, with spaces as part of the prompt, or line ends as part of what follows.
        """
        last_word, last_line = _ends(prompt)
        spaces = prompt[last_line:]
        delimiter = self._default if self.delimiter is None else self.delimiter
        if self.delimiter is None and (again or last_word < len(prompt)):
            delimiter = ""
        elif spaces:
            delimiter = _FIRST_SPACES.sub("", delimiter)
        gaps = [
            spaces + (_LAST_SPACES.sub("", delimiter) if option[:1].isspace() else delimiter)
            for option in options
        ]
        bare = prompt[:last_line]
        # What stands before all options alike may be part of the prompt.
        whole = bare + (gaps[0] if len(set(gaps)) == 1 else spaces)
        last_word, last_line = _ends(whole)
        cut = last_line
        if again:
            cut = last_word if last_line > last_word else len(whole)
        return Joined(
            whole[:cut],
            [(bare + gap)[cut:] + option for gap, option in zip(gaps, options, strict=True)],
            [
                gap + option[: len(option) - len(option.lstrip())]
                for gap, option in zip(gaps, options, strict=True)
            ],
        )

    def open_end(self, prompt: str) -> str:
        """Return a prompt as it is continued with whatever the model says.

        Tokenizers join a space with the word after it, so a space at its end is left to the model;
        a rendered chat is whole, unless a delimiter is named.
        """
        if self.is_chat and self.delimiter is None:
            return prompt
        return self.joined(prompt, ["x"]).prompt

    def rendered(self, model: LanguageModel, chats: Sequence[Sequence[Message]]) -> list[str]:
        """Return conversations in the model's chat template, up to where its answer begins.

        Raises:
            ModelError: the model has no chat template.
        """
        texts = self._chat_model(model).render_chat(chats, self.variables)
        if len(texts) != len(chats):
            raise ModelError(
                f"{model.name}: render_chat returned {len(texts)} texts for {len(chats)} "
                "conversations; return one for each."
            )
        return texts

    def end_of_turn(self, model: LanguageModel) -> str:
        """Return what a chat template closes an assistant's turn with; empty where it has no mark.

        A checkpoint may name another end token than its template has, and then goes on after it.
        """
        if not self.is_chat:
            return ""
        roles = "user", "assistant", "user"
        chat = [{"role": role, "content": PLACEHOLDERS[role]} for role in roles]
        try:
            (text,) = self.rendered(model, [chat])
        except ModelError:
            # It takes no assistant's turns.
            return ""
        mark = _MARK.match(text.partition(PLACEHOLDERS["assistant"])[2])
        return mark[1] if mark else ""

    def asking(self, model: LanguageModel, method: str) -> Any:
        """Return a method of the model for the texts of this probe.

        A rendered chat is whole: the tokenizer puts nothing before it.

        Raises:
            ModelError: the method cannot be told so.
        """
        ask = getattr(model, method)
        if not self.is_chat:
            return ask
        if not takes(ask, "add_special_tokens"):
            raise ModelError(
                f"{model.name}: its {method} takes no add_special_tokens, which a model with "
                "render_chat needs: False for a text before which nothing is put."
            )
        return partial(ask, add_special_tokens=False)

    def option_logprobs(
        self, model: LanguageModel, prompts: Sequence[str], options: Sequence[Sequence[str]]
    ) -> tuple[list[NDArray[np.float64]], str]:
        """Score what may follow each prompt, and say what stands before it.

        That is the space that most tokenizers want, else none, unless the probe says otherwise.

        Raises:
            TokenBoundaryError: the tokenizer merges prompts with options, with a space and without.
            ModelError: the model cannot score.
        """
        ask = self.asking(model, "option_logprobs")

        def scored(*, again: bool) -> tuple[list[NDArray[np.float64]], str]:
            joined = [
                self.joined(prompt, row, again=again)
                for prompt, row in zip(prompts, options, strict=True)
            ]
            logprobs = ask([j.prompt for j in joined], [j.continuations for j in joined])
            return logprobs, described([gap for j in joined for gap in j.gaps])

        try:
            return scored(again=False)
        except TokenBoundaryError:
            return scored(again=True)

    def signature(self, model: LanguageModel, chat: Sequence[Message]) -> dict[str, str]:
        """Return what of this is no default, for the signature.

        Of the chat template it is a digest of what it puts around a conversation, so that two
        templates that say the same are the same.

        Args:
            model: the model.
            chat: a conversation of the probe; its texts do not matter.
        """
        out = {}
        if self.delimiter is not None and self.delimiter != self._default:
            out["delimiter"] = repr(self.delimiter)
        if self.is_chat:
            blank = [{"role": m["role"], "content": PLACEHOLDERS[m["role"]]} for m in chat]
            out["chat"] = f"template {digest(*self.rendered(model, [blank]), size=4)}"
        return out

    def _chat_model(self, model: LanguageModel) -> ChatModel:
        if not hasattr(model, "render_chat"):
            raise ModelError(
                f"{model.name}: the probe {self.probe!r} asks in a chat, and this model has no "
                "method render_chat; leave chat out, or give the model one."
            )
        return cast("ChatModel", model)


def takes(ask: Any, name: str) -> bool:
    """Whether a method takes an argument of this name."""
    parameters = inspect.signature(ask).parameters.values()
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


def _ends(text: str) -> tuple[int, int]:
    """Return where the last word of a text ends, and the last line end after it."""
    last_word = len(text.rstrip())
    return last_word, last_word + len(_LAST_SPACES.sub("", text[last_word:]))


def described(gaps: Sequence[str]) -> str:
    """Return what stands before the options, for the signature."""
    found = sorted(set(gaps))
    known = {SPACE: "with leading space", "": "without leading space"}
    if len(found) == 1 and found[0] in known:
        return known[found[0]]
    shown = [
        repr(gap) if len(gap) <= LONGEST_GAP else f"{gap[:LONGEST_GAP]!r}..."
        for gap in found[:MOST_GAPS]
    ]
    more = [f"{len(found) - MOST_GAPS} more"] if len(found) > MOST_GAPS else []
    return f"after {' or '.join(shown + more)}"
