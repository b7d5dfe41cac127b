"""Conversations as text, by the chat template of a tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from pytest_calibration.errors import ModelError
from pytest_calibration.models.protocols import Message

# The day that templates are given which write today's: a prompt is the same on every day.
TODAY: Final = datetime(2024, 7, 26)
_DATE: Final = "".join(f"|replace('%{c}', '{TODAY.strftime('%' + c)}')" for c in "YymBbdejAaHIMSp")
# Takes the place of the library's function; no variable may be a function.
_FIXED_DATE: Final = f"{{% macro strftime_now(format) %}}{{{{ format{_DATE} }}}}{{% endmacro +%}}"

# What a call to the library sets itself, or what would make its answer another thing than text.
_TAKEN: Final = frozenset(
    {"conversation", "messages", "tokenize", "add_generation_prompt", "continue_final_message"}
    | {"return_dict", "return_tensors", "return_assistant_tokens_mask"}
)


def rendered(
    tokenizer: Any, name: str, chat: Sequence[Message], variables: Mapping[str, object]
) -> str:
    """Return a conversation as text, up to where the assistant's next turn begins.

    One that ends with a turn of the assistant is whole: it is returned to its end. Where the
    template refuses a turn of the system, or leaves it out, that text begins the user's first turn.

    Args:
        tokenizer: of transformers.
        name: what errors call the model.
        chat: turns, the last of them the user's or the assistant's.
        variables: given to the template.

    Raises:
        ModelError: the tokenizer has no chat template, it cannot render the conversation, or a
            variable is none of the template's.
    """
    taken = sorted(_TAKEN & {*variables})
    if taken:
        raise ModelError(
            f"{name}: chat: {taken[0]!r} is no variable of a chat template, it is set for every "
            "prompt; leave it out."
        )
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"{name}: its tokenizer has no chat template, which probes with `chat` need; leave "
            "chat out, or name a tokenizer that has one (model: {tokenizer: ...} in "
            "calibration.yaml)."
        )
    reason = ""
    for turns in _ways(chat):
        try:
            text = tokenizer.apply_chat_template(
                [dict(turn) for turn in turns],
                tokenize=False,
                add_generation_prompt=chat[-1]["role"] != "assistant",
                **{"chat_template": _template(tokenizer), **variables},
            )
        except Exception as problem:
            # A template may raise anything, and calls what it refuses an error of its own.
            reason = reason or " ".join(str(problem).split())[:200].rstrip(".")
            continue
        lost = [turn["role"] for turn in turns if turn["content"].strip() not in text]
        if not lost:
            return str(text)
        reason = reason or f"it leaves out a turn of the {lost[0]}"
    raise ModelError(f"{name}: its chat template cannot render the probe's prompts: {reason}.")


def _template(tokenizer: Any) -> str:
    """Return the chat template that the tokenizer would take, with a fixed date."""
    template = str(tokenizer.get_chat_template())
    return f"{_FIXED_DATE}{template}" if "strftime_now" in template else template


def _ways(chat: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Yield the conversation, and the same without a turn of the system."""
    yield chat
    if len(chat) > 1 and chat[0]["role"] == "system":
        system, user, *rest = chat
        yield [{**user, "content": f"{system['content']}\n\n{user['content']}"}, *rest]
