"""Optional packages: each extra brings what some part of this package needs."""

from __future__ import annotations

from importlib.util import find_spec

from pytest_calibration.errors import MissingExtra


def require(package: str, extra: str) -> None:
    """Check that an optional package is installed without importing it.

    Raises:
        MissingExtra: it is not; the message holds the install command.
    """
    if find_spec(package) is None:
        raise MissingExtra(
            f"{package} is not installed, and this needs it: "
            f'pip install "pytest-calibration[{extra}]"'
        )
