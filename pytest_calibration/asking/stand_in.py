"""A stand-in for the model: a probe asks it, and it asks the model, in another way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

# The methods that take a list with an entry for each question, and give an answer for each.
METHODS: Final = frozenset(
    {
        *("option_logprobs", "generate", "sample", "loglikelihood", "rewards"),
        *("class_probabilities", "class_logits", "token_class_probabilities"),
    }
)
# What these take by keyword with an entry for each question, too.
PER_QUESTION: Final = frozenset({"max_new_tokens", "seeds"})


class StandIn:
    """A model that is as it is, but for how its questions are asked.

    Args:
        model: the model.
        state: what a subclass keeps; its attributes cannot be set later.
    """

    def __init__(self, model: object, **state: Any) -> None:
        vars(self).update(state, _model=model)

    def asking(self, name: str, ask: Callable[..., Any]) -> Callable[..., Any]:
        """Return what is called in place of a method of ``METHODS``."""
        raise NotImplementedError

    def asking_positions(self, ask: Callable[..., Any]) -> Callable[..., Any]:
        """Return what is called in place of ``next_token``."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._model, name)
        if name in METHODS:
            return self.asking(name, value)
        return self.asking_positions(value) if name == "next_token" else value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._model, name, value)

    def __call__(self, *given: Any, **how: Any) -> Any:
        """Ask a model that is a function; each time anew."""
        return self._model(*given, **how)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # For a probe of the project's own that asks which model it has.
        return type(self._model)


class Questions(NamedTuple):
    """The questions of one call of a method of ``METHODS``.

    Attributes:
        lists: what was given by position, each with an entry for each question.
        by_name: what was given by keyword, each with an entry for each question.
        common: what was given for all of them.
    """

    lists: tuple[Sequence[Any], ...]
    by_name: Mapping[str, Sequence[Any]]
    common: Mapping[str, Any]

    @classmethod
    def of(cls, lists: tuple[Any, ...], how: Mapping[str, Any]) -> Self | None:
        """Return those of a call; None where it is not as the protocols say."""
        names = sorted(PER_QUESTION & how.keys())
        by_name = {key: how[key] for key in names if _is_list(how[key])}
        columns = [*lists, *by_name.values()]
        if not all(map(_is_list, columns)) or len({*map(len, columns)}) != 1:
            return None
        return cls(lists, by_name, {k: value for k, value in how.items() if k not in by_name})

    @property
    def each(self) -> list[tuple[Any, ...]]:
        """What was given for each question."""
        return list(zip(*self.lists, *self.by_name.values(), strict=True))

    def put(self, ask: Callable[..., Any], index: Sequence[int]) -> Any:
        """Ask the questions at these positions."""
        return ask(
            *([column[i] for i in index] for column in self.lists),
            **self.common,
            **{key: [column[i] for i in index] for key, column in self.by_name.items()},
        )


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple | range)
