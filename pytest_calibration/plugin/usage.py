"""How a run used its models: what was loaded, what came from the cache, what the engine said.

These lines are for the screen alone. Reports are the same whether or not answers were kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pytest_calibration.models.cache import Cache
    from pytest_calibration.models.loading import Use

# Names in a line; a glob may name many models.
MOST_NAMED: Final = 6


class Usage:
    """Gathers in every process, and tells in the one that prints.

    Attributes:
        loads: how often each process loaded each model, by its name.
        asked: model and probe of what could have come from the cache, and whether it did.
        notes: model and sentence of what the engine said.
        damaged: entries of the cache that could not be read.
        refused: why nothing could be kept; empty where all could.
    """

    def __init__(self) -> None:
        self.loads: dict[str, list[int]] = {}
        self.asked: dict[tuple[str, str], bool] = {}
        self.notes: dict[tuple[str, str], None] = {}
        self.damaged: dict[str, None] = {}
        self.refused = ""
        self._uses: dict[int, Use] = {}

    def watch(self, use: Use) -> None:
        """Take a model's account into the count."""
        # Kept with its id, so that no other takes it.
        self._uses[id(use)] = use

    def answered(self, model: str, probe: str, *, cached: bool) -> None:
        """Note that a probe was answered, from the cache alone or with the model's help."""
        self.asked[model, probe] = cached and self.asked.get((model, probe), True)

    def plain(self, cache: Cache | None) -> dict[str, Any]:
        """Return what this process saw, as plain values."""
        loads: dict[str, int] = {}
        notes: dict[tuple[str, str], None] = {}
        for use in self._uses.values():
            loads[use.name] = loads.get(use.name, 0) + use.loads
            notes |= dict.fromkeys((use.name, note) for note in use.notes)
        return {
            "loads": loads,
            "asked": [[model, probe, cached] for (model, probe), cached in self.asked.items()],
            "notes": [list(note) for note in notes],
            "damaged": list(cache.damaged) if cache is not None else [],
            "refused": self.refused or (cache.refused if cache is not None else ""),
        }

    def merge(self, seen: Mapping[str, Any]) -> None:
        """Take in what a process saw."""
        for name, n in seen["loads"].items():
            if n:
                self.loads.setdefault(name, []).append(n)
        for model, probe, cached in seen["asked"]:
            self.answered(model, probe, cached=cached)
        self.notes |= dict.fromkeys((model, note) for model, note in seen["notes"])
        self.damaged |= dict.fromkeys(seen["damaged"])
        self.refused = self.refused or seen["refused"]

    def lines(self, *, dist: str, parent: str | None) -> Iterator[str]:
        """Say what a reader should know, a sentence a line.

        Args:
            dist: how xdist hands out tests.
            parent: name of the parent, which every model may be held against in turn.
        """
        yield from self._from_cache()
        yield from self._loaded_again(dist, parent)
        for model, note in self.notes:
            yield note if note.startswith(model) else f"{model}: {note}"

    def warnings(self, folder: str) -> Iterator[str]:
        """Say what is wrong with the cache.

        Args:
            folder: where answers are kept.
        """
        if self.damaged:
            n, first = len(self.damaged), next(iter(self.damaged))
            if n == 1:
                yield f"1 cached answer could not be read and was computed again: {first}"
            else:
                yield (
                    f"{n} cached answers could not be read and were computed again: {first} and "
                    f"{n - 1} more"
                )
        if self.refused:
            yield f"answers are not kept: {folder} cannot be written ({self.refused})."

    def _from_cache(self) -> Iterator[str]:
        cached = sum(self.asked.values())
        if not cached:
            return
        if cached < len(self.asked):
            models = {model for model, _ in self.asked}
            counted = ", counted per model" if len(models) > 1 else ""
            yield f"answers from cache: {cached} of {len(self.asked)} probes{counted}."
        elif not self.loads:
            yield "answers from cache: all (no model was loaded)."
        else:
            yield "answers from cache: all that the probes asked for."

    def _loaded_again(self, dist: str, parent: str | None) -> Iterator[str]:
        if dist == "loadgroup":
            return
        again = {name: loads for name, loads in self.loads.items() if len(loads) > 1}
        if parent is not None and len({model for model, _ in self.asked} - {parent}) > 1:
            # Each model's group needs the parent for itself.
            again.pop(parent, None)
        if not again:
            return
        said = [
            f"{name} was loaded {sum(loads)} times, by {len(loads)} workers"
            for name, loads in again.items()
        ]
        more = f"; and {len(said) - MOST_NAMED} more" if len(said) > MOST_NAMED else ""
        each = "it" if len(said) == 1 else "each"
        yield f"{'; '.join(said[:MOST_NAMED])}{more}; --dist loadgroup loads {each} once."
