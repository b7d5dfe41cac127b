"""One replica: a model in a process of its own, on any machine of the cluster.

What it is asked and answers are plain values. Its model is loaded when it is first needed, so a
replica that dies and is started again goes on.
"""

from __future__ import annotations

import os
import pickle
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pytest_calibration.errors import CalibrationError, ModelError
from pytest_calibration.models.backends import Backend, ModelSpec, backend_named
from pytest_calibration.models.digests import code_digest
from pytest_calibration.models.settings import BackendSettings
from pytest_calibration.text.visible import quoted

METHODS: Final = (
    *("option_logprobs", "next_token", "generate", "sample", "loglikelihood", "render_chat"),
    *("class_probabilities", "class_logits", "truncated", "token_class_probabilities", "rewards"),
)
"""What a model may be asked; each takes a list of n things and returns n answers."""
POSITIONAL: Final = {"option_logprobs": ("options",), "render_chat": ("variables",)}
"""Arguments after the list that a method takes by their place."""


@dataclass(frozen=True)
class Home:
    """What the process that asks has.

    Attributes:
        node: name of its machine.
        code: digest of the code of this package's models.
        places: where modules are looked for.
        fingerprint: of the model as it sees it; empty where a replica need not compare its own.
    """

    node: str
    code: str
    places: tuple[str, ...]
    fingerprint: str = ""


@dataclass(frozen=True)
class Facts:
    """What is known of the model of a replica.

    Attributes:
        process: name of its machine, and number of the process there.
        methods: those of :data:`METHODS` that it has.
        description: settings and versions that describe how it scores.
        checkpoint_notes: sentences about what was loaded.
        class_names: names of its classes, if any.
        multi_label: whether a text may have any number of them.
    """

    process: tuple[str, int]
    methods: frozenset[str]
    description: Mapping[str, str]
    checkpoint_notes: tuple[str, ...]
    class_names: tuple[str, ...]
    multi_label: bool


class Replica:
    """A model that is loaded where this object lives.

    Args:
        spec: the model; a directory by its whole path.
        settings: how it is loaded.
        home: what the process that asks has, and this one must have as well.
    """

    def __init__(self, spec: ModelSpec, settings: BackendSettings, home: Home) -> None:
        self.spec = spec
        self.settings = settings
        self.process = platform.node(), os.getpid()
        self._home = home
        self._model: Any = None
        sys.path += [place for place in home.places if place not in sys.path]

    def facts(self) -> Facts:
        """Load the model and return what is known of it.

        Raises:
            CalibrationError: it cannot be loaded here, or is not the one that is asked.
        """
        model = self._loaded()
        return Facts(
            self.process,
            frozenset(method for method in METHODS if hasattr(model, method)),
            dict(model.description),
            tuple(model.checkpoint_notes),
            tuple(map(str, getattr(model, "class_names", ()))),
            bool(getattr(model, "multi_label", False)),
        )

    def ask(
        self, part: int, method: str, things: list[Any], named: dict[str, Any]
    ) -> tuple[int, bytes]:
        """Return the number of the part, and, pickled, the answers, the notes and the process.

        Arrays that Ray hands over cannot be written to; those of a pickle can.
        """
        answers = self._asked(method, things, named)
        reply = answers, tuple(self._loaded().notes), self.process
        return part, pickle.dumps(reply, pickle.HIGHEST_PROTOCOL)

    def _asked(self, method: str, things: list[Any], named: dict[str, Any]) -> Any:
        model = self._loaded()
        if method == "spans":
            found: dict[int, Any] = {}

            def none(i: int, spans: Any) -> Any:
                found[i] = spans
                return np.empty(0, np.int64)

            model.next_token(things, choose=none, **named)
            return [found[i] for i in range(len(things))]
        if "chosen" in named:
            chosen = named.pop("chosen")
            named["choose"] = lambda i, _: chosen[i]
        placed = [named.pop(name) for name in POSITIONAL.get(method, ())]
        return getattr(model, method)(things, *placed, **named)

    def _loaded(self) -> Any:
        if self._model is None:
            node = self.process[0]
            if code_digest() != self._home.code:
                raise ModelError(
                    f"{node} has another version of pytest-calibration than the machine that runs "
                    "pytest; install the same on every machine of the Ray cluster."
                )
            backend = backend_named(self.spec.backend)
            try:
                self._check_folders()
                self._check_files(backend)
                self._model = backend.load(self.spec, self.settings)
            except CalibrationError as problem:
                if node == self._home.node:
                    raise
                raise ModelError(f"on {node}: {problem}") from None
        return self._model

    def _check_folders(self) -> None:
        """Raise ModelError for a directory that this machine does not have."""
        named = [getattr(self.settings, name) for name in self.settings.FOLDERS]
        folders = [self.spec.location] if self.spec.local else []
        folders += [one for one in named if isinstance(one, str) and os.path.isabs(one)]
        for folder in folders:
            if not os.path.isdir(folder):
                raise ModelError(
                    f"{self.spec.name}: there is no directory {quoted(folder)}; put it where every "
                    "machine of the Ray cluster finds it by this path, or name a model of the hub."
                )

    def _check_files(self, backend: Backend) -> None:
        """Raise ModelError where the model's files are others than those that were asked for."""
        if not self._home.fingerprint:
            return
        found = backend.identify(self.spec, self.settings, None).fingerprint
        if found != self._home.fingerprint:
            raise ModelError(
                f"{self.spec.name}: {quoted(self.spec.location)} holds other files than on the "
                "machine that runs pytest; put the same on every machine of the Ray cluster."
            )
