"""Texts to tokens: prompts with what may follow them, cut where the probability is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pytest_calibration.errors import ModelError, TokenBoundaryError
from pytest_calibration.text.visible import has_half_pair

# Where a prompt may be cut, to tokenise both parts separately: between a word and the space after
# it, where tokenizers split texts into words. It is checked each time.
_CUT: Final = re.compile(r"(?<=[^\W_])(?=\s)")
TAIL: Final = (40, 400)
"""Fewest and most characters between the cut and the end of a prompt."""


class TextEncoder:
    """Encodes texts with a tokenizer, as a model reads them.

    Attributes:
        name: what errors call the model.
        tokenizer: its tokenizer.
    """

    name: str
    tokenizer: Any

    def _prepare_encoding(self) -> None:
        """Find out what the tokenizer puts around every text."""
        self._opening, self._closing = _added_tokens(self.tokenizer)
        self._opening_text = _text_of_opening(self.tokenizer, self._opening)

    def _encode_options(
        self,
        prompts: Sequence[str],
        options: Sequence[Sequence[str]],
        add_special_tokens: bool = True,
    ) -> tuple[list[list[int]], list[list[list[int]]]]:
        """Return the tokens of each prompt, and of each prompt with each of its options.

        A long prompt is tokenised once, with its first option; for every other option only its
        last few words are tokenised again. The first option also shows whether the cut changes a
        token; if it does, prompt and options are tokenised whole.
        """
        cuts = [_cut(p) if texts else 0 for p, texts in zip(prompts, options, strict=True)]
        firsts = self._encode(
            [p + texts[0] for p, texts, cut in zip(prompts, options, cuts, strict=True) if cut],
            add_special_tokens,
        )
        ends = [p[cut:] for p, cut in zip(prompts, cuts, strict=True) if cut]
        tails = self._encode_bare(
            [
                end + text
                for end, texts in zip(ends, _of_cut(options, cuts), strict=True)
                for text in ("", *texts)
            ]
        )
        prompt_ids: list[list[int]] = [[] for _ in prompts]
        option_ids: list[list[list[int]]] = [[] for _ in prompts]
        rest: list[int] = []
        first, tail = iter(firsts), iter(tails)
        for i, (texts, cut) in enumerate(zip(options, cuts, strict=True)):
            if cut:
                whole = next(first)
                end, *ids = [next(tail) for _ in range(len(texts) + 1)]
                if ids[0] and whole[-len(ids[0]) :] == ids[0]:
                    begin = whole[: -len(ids[0])]
                    prompt_ids[i], option_ids[i] = begin + end, [begin + one for one in ids]
                    continue
            rest.append(i)
        heads = self._encode([prompts[i] for i in rest], add_special_tokens)
        for i, head in zip(rest, heads, strict=True):
            prompt_ids[i] = head
        wholes = [prompts[i] + text for i in rest for text in options[i]]
        each = iter(self._encode(wholes, add_special_tokens))
        for i in rest:
            option_ids[i] = [next(each) for _ in options[i]]
        return prompt_ids, option_ids

    def _encode_bare(self, texts: list[str]) -> list[list[int]]:
        """Return token ids without those that the tokenizer adds around a text."""
        if not texts:
            return []
        encoded = self.tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        return [list(row) for row in encoded["input_ids"]]

    def _encode(self, texts: list[str], add_special_tokens: bool = True) -> list[list[int]]:
        """Return token ids without the end token that some tokenizers add to every text."""
        if not texts:
            return []
        if add_special_tokens:
            bare = [self._without_opening(text) for text in texts]
            whole = self.tokenizer(bare, return_attention_mask=False, verbose=False)["input_ids"]
            ids = [list(row)[: len(row) - self._closing] for row in whole]
        else:
            ids = self._encode_bare(texts)
        for text, row in zip(texts, ids, strict=True):
            if not row:
                raise ModelError(
                    f"{self.name}: the prompt {excerpt(text)} has no tokens; a model needs at "
                    "least one to predict from."
                )
        return ids

    def _without_opening(self, text: str) -> str:
        """Return a text without what the tokenizer puts before it: a model reads one BOS."""
        while self._opening_text and text.startswith(self._opening_text):
            text = text.removeprefix(self._opening_text)
        return text


def check_boundary(head: list[int], ids: list[int], prompt: str, option: str) -> None:
    """Raise unless the tokens of a prompt with an option begin with those of the prompt."""
    if ids[: len(head)] != head:
        raise TokenBoundaryError(
            f"the tokenizer merges the end of the prompt {excerpt(prompt, tail=True)} with the "
            f"option {option!r}, so their probabilities cannot be told apart; end the prompt or "
            "begin the option elsewhere."
        )
    if len(ids) == len(head):
        raise ModelError(f"the option {option!r} adds no token to {excerpt(prompt, tail=True)}.")


def check_texts(name: str, texts: Iterable[str]) -> None:
    """Raise ModelError for a text that no tokenizer takes."""
    for text in texts:
        if has_half_pair(text):
            raise ModelError(
                f"{name}: the text {excerpt(text)} holds half a surrogate pair (an emoji cut in "
                "two?), which is no character; cut texts between characters."
            )


def excerpt(text: str, *, tail: bool = False, size: int = 40) -> str:
    """Return the begin or end of a text, quoted."""
    if len(text) <= size:
        return repr(text)
    return f"...{text[-size:]!r}" if tail else f"{text[:size]!r}..."


def _cut(prompt: str) -> int:
    """Return where a prompt is cut; 0 where it is too short or has no such place."""
    least, most = TAIL
    if len(prompt) < 2 * least:
        return 0
    start = max(1, len(prompt) - most)
    found = [match.start() for match in _CUT.finditer(prompt, start, len(prompt) - least)]
    return found[-1] if found else 0


def _of_cut(options: Sequence[Sequence[str]], cuts: Sequence[int]) -> list[Sequence[str]]:
    return [texts for texts, cut in zip(options, cuts, strict=True) if cut]


def _added_tokens(tokenizer: Any) -> tuple[list[int], int]:
    """Return the tokens that it puts before every text, and how many after."""
    whole, bare = (
        list(tokenizer("a", add_special_tokens=added, verbose=False)["input_ids"])
        for added in (True, False)
    )
    for first in range(len(whole) - len(bare) + 1):
        if bare and whole[first : first + len(bare)] == bare:
            return whole[:first], len(whole) - first - len(bare)
    return [], 0


def _text_of_opening(tokenizer: Any, opening: list[int]) -> str:
    """Return the text that is read as these tokens; empty where there is none."""
    text = "".join(map(str, tokenizer.convert_ids_to_tokens(opening)))
    read = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] if text else []
    return text if list(read) == opening else ""
