"""How torch's threads wait for each other."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pytest_calibration.models.backends.transformers.threads import FEW, SPINS, patient_threads

SEEN = f"""
import os
from pytest_calibration.models.backends.transformers.threads import patient_threads
with patient_threads():
    print(os.environ.get({SPINS!r}))
print(os.environ.get({SPINS!r}))
"""


@pytest.mark.parametrize(
    ("given", "inside", "after"),
    [
        ({}, FEW, "None"),
        ({SPINS: "7"}, "7", "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "None", "None"),
        ({"KMP_BLOCKTIME": "200"}, "None", "None"),
    ],
)
def test_threads_sleep_soon_unless_somebody_decided(
    given: dict[str, str], inside: str, after: str
) -> None:
    """The setting stands while torch is imported and is gone after; what a user set is kept."""
    names = (SPINS, "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "KMP_LIBRARY")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    found = subprocess.run(
        [sys.executable, "-c", SEEN], env=clean | given, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == [inside, after]


def test_a_torch_that_is_there_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch is loaded already the setting would change nothing but child processes."""
    for name in (SPINS, "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "KMP_LIBRARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "torch", sys)
    with patient_threads():
        assert SPINS not in os.environ


def test_it_is_taken_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that fails leaves nothing behind."""
    for name in (SPINS, "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "KMP_LIBRARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "torch", raising=False)

    def load() -> None:
        with patient_threads():
            assert os.environ[SPINS] == FEW
            raise ImportError

    with pytest.raises(ImportError):
        load()
    assert SPINS not in os.environ
