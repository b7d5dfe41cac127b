"""Stored baselines: a reviewable YAML summary, and per-item data beside it.

``record``
    one record: predictions ⇄ YAML text and items bytes, and everything that can be wrong with them.
``store``
    a folder of records: which file belongs to which probe, reading, atomic writing.
"""

from pytest_calibration.baselines.record import Record
from pytest_calibration.baselines.store import Baselines, Draft, Policy

__all__ = ["Baselines", "Draft", "Policy", "Record"]
