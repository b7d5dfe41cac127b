"""What the fixture ``calibration`` gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_calibration.models.protocols import LanguageModel
    from pytest_calibration.plugin.run import Run
    from pytest_calibration.predictions import Predictions
    from pytest_calibration.probes.probe import Probe


class Calibration:
    """Runs probes on the model of a test.

    Attributes:
        model: the model.
    """

    def __init__(self, run: Run, model: LanguageModel) -> None:
        self._run = run
        self.model = model

    def __repr__(self) -> str:
        return f"<calibration of {self.model.name}>"

    @property
    def probes(self) -> list[str]:
        """Names of the probes that this run selects."""
        return list(self._run.resolved.selected)

    def run(self, probe: str | Probe, *, limit: int | None = None) -> Predictions:
        """Run a probe, once per session and model.

        Args:
            probe: a probe or its name.
            limit: at most so many items; wins over the option and ``calibration.yaml``.

        Raises:
            UsageError: an unknown name.
            ProbeError: a probe that cannot score all its items.
            ModelError: a model that cannot be loaded or scored.
        """
        return self._run.asker.ask(self.model, probe, limit)
