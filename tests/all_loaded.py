"""Loads the whole package, for tests that run pytest in this process.

What an inner run is the first to import is forgotten after it, and exists twice from then on.
"""

from importlib import import_module
from pathlib import Path

import fakes  # noqa: F401  numpy cannot be imported twice, so no inner run may be the first to
import numpy.fft  # noqa: F401  nor can its parts

import pytest_calibration

# Neither the tests of the suite, nor what needs torch or an extra: the parts of backends, which
# import the light ones themselves, what stands inside training, and the remedies.
ROOT = Path(pytest_calibration.__file__).parent
for file in sorted(ROOT.rglob("*.py")):
    name = ".".join(file.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    if not any(
        part in f"{name}."
        for part in (
            *(".backends.transformers.", ".backends.server."),
            *(".remedies.", ".training.", ".suite."),
        )
    ):
        import_module(name)
for backend in ("transformers", "server"):
    import_module(f"pytest_calibration.models.backends.{backend}")
