"""How a run used its models: how often they were loaded, and which answers came from the cache.

These lines are for the terminal alone: reports are the same whether or not answers were kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from pytest_calibration.text.visible import visible

if TYPE_CHECKING:
    from pytest_calibration.models.cache import Cache
    from pytest_calibration.models.loading import Use
    from pytest_calibration.plugin.resolution import Resolution

# Names in a line; a glob may name many models.
MOST_NAMED: Final = 6


class Usage:
    """Counts in every process, added up in the one that prints.

    Attributes:
        loads: how often each process loaded each model, by its name.
        from_cache: whether all answers came from the cache, by model and probe.
        parts: number of items that were asked, and of all, by model and probe, where a comparison
            may be decided before all are.
        notes: model and sentence of what the backend noted; a set in order.
        damaged: entries of the cache that could not be read; a set in order.
        cache_problem: what is wrong with the cache's folder; empty where all could be kept.
    """

    def __init__(self) -> None:
        self.loads: dict[str, list[int]] = {}
        self.from_cache: dict[tuple[str, str], bool] = {}
        self.parts: dict[tuple[str, str], tuple[int, int]] = {}
        self.notes: dict[tuple[str, str], None] = {}
        self.damaged: dict[str, None] = {}
        self.cache_problem = ""
        self._uses: dict[int, Use] = {}

    def watch(self, use: Use) -> None:
        """Count what is noted in a model's ``Use``, until the end of the run."""
        # Kept with its id, so that no other object gets the id.
        self._uses[id(use)] = use

    def answered(self, model: str, probe: str, *, cached: bool) -> None:
        """Count an answer: from the cache alone, or with the model's help."""
        self.from_cache[model, probe] = cached and self.from_cache.get((model, probe), True)

    def asked(self, model: str, probe: str, n: int, of: int) -> None:
        """Count the items that were asked of a probe, the most in any process."""
        key = model, probe
        self.parts[key] = max((n, of), self.parts.get(key, (0, of)))

    def as_dict(self, resolved: Resolution) -> dict[str, Any]:
        """Return what this process counted as plain values, to travel to the controller."""
        loads: dict[str, int] = {}
        notes: dict[tuple[str, str], None] = {}
        for use in self._uses.values():
            loads[use.name] = loads.get(use.name, 0) + use.loads
            notes |= dict.fromkeys((use.name, note) for note in use.notes)
        # Without creating its folder, where no model has asked for it.
        cache: Cache | None = vars(resolved).get("cache")
        return {
            "loads": loads,
            "parts": [[*key, *part] for key, part in self.parts.items()],
            "from_cache": [[*key, cached] for key, cached in self.from_cache.items()],
            "notes": [list(note) for note in notes],
            "damaged": [] if cache is None else list(cache.damaged),
            "cache_problem": resolved.cache_problem or ("" if cache is None else cache.refused),
        }

    def merge(self, other: Mapping[str, Any]) -> None:
        """Add what a process counted."""
        for name, n in other["loads"].items():
            if n:
                self.loads.setdefault(name, []).append(n)
        for model, probe, cached in other["from_cache"]:
            self.answered(model, probe, cached=cached)
        for part in other["parts"]:
            self.asked(*part)
        self.notes |= dict.fromkeys((model, note) for model, note in other["notes"])
        self.damaged |= dict.fromkeys(other["damaged"])
        self.cache_problem = self.cache_problem or other["cache_problem"]

    def lines(self, *, dist: str, parent: str | None) -> Iterator[str]:
        """Yield what a reader should know, one sentence per line.

        Args:
            dist: how pytest-xdist distributes tests.
            parent: name of the parent, which every model may be compared with in turn.
        """
        yield from self._cache_line()
        if self.parts:
            n, of = map(sum, zip(*self.parts.values(), strict=True))
            yield f"early stopping: {n:,} of {of:,} items were asked."
        yield from self._load_line(dist, parent)
        for model, note in self.notes:
            # It may name tensors and files of others.
            yield visible(note if note.startswith(model) else f"{model}: {note}")

    def warnings(self, folder: str) -> Iterator[str]:
        """Yield what is wrong with the cache in this folder."""
        if self.damaged:
            n, first = len(self.damaged), next(iter(self.damaged))
            if n == 1:
                yield f"1 cached answer could not be read and was computed again: {first}"
            else:
                yield (
                    f"{n} cached answers could not be read and were computed again: {first} and "
                    f"{n - 1} more"
                )
        if self.cache_problem:
            yield f"answers are not kept: {folder} {self.cache_problem}."

    def _cache_line(self) -> Iterator[str]:
        cached, n = sum(self.from_cache.values()), len(self.from_cache)
        if not cached:
            return
        if cached < n:
            models = {model for model, _ in self.from_cache}
            counted = ", counted per model" if len(models) > 1 else ""
            yield f"answers from cache: {cached} of {n} probes{counted}."
        elif not self.loads:
            yield "answers from cache: all (no model was loaded)."
        else:
            yield "answers from cache: all that the probes asked for."

    def _load_line(self, dist: str, parent: str | None) -> Iterator[str]:
        """Say which models were loaded by several workers, where that can be avoided."""
        if dist == "loadgroup":
            return
        again = {name: loads for name, loads in self.loads.items() if len(loads) > 1}
        if parent is not None and len({model for model, _ in self.from_cache} - {parent}) > 1:
            # Each model's group needs the parent for itself.
            again.pop(parent, None)
        if not again:
            return
        parts = [
            f"{name} was loaded {sum(loads)} times, by {len(loads)} workers"
            for name, loads in again.items()
        ]
        more = f"; and {len(parts) - MOST_NAMED} more" if len(parts) > MOST_NAMED else ""
        each = "it" if len(parts) == 1 else "each"
        yield f"{'; '.join(parts[:MOST_NAMED])}{more}; --dist loadgroup loads {each} once."
