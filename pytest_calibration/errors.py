"""What can go wrong for a user, as one tree.

::

    CalibrationError
    ├── PredictionsError      (also ValueError)   arrays that are no predictions
    ├── MetricError           (also ValueError)   a metric that these predictions cannot give
    ├── UsageError            (also ValueError)   an option or argument that makes no sense
    ├── ConfigError           calibration.yaml says something it cannot mean
    ├── ProbeError            a probe that is unknown, empty or cannot run
    │   └── ItemError         one row of an items file, named by file and line
    ├── ModelError            a model that cannot be loaded or scored
    │   ├── MissingExtra      (also ImportError)  an optional package is not installed
    │   ├── TokenBoundaryError  the tokenizer merges a prompt with what follows it
    │   └── UntrustedServerError  a server whose numbers cannot be the model's
    ├── ReportError           a report that cannot be read back
    ├── HistoryError          a history that cannot be read or written
    └── BaselineError         a stored baseline
        ├── MissingBaseline   nothing recorded under this key
        ├── UnreadableBaseline  something is there, and it cannot be trusted
        └── BaselineConflict  one session produced two different records for one key

Every message is one sentence that says what is wrong, where, the value found, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable

from pytest_calibration.text.visible import MOST_OF_A_MESSAGE, visible


class CalibrationError(Exception):
    """Base of every error that a user of this package can cause.

    A message may quote keys, paths and texts of others. Its text is one line in which every control
    character is escaped, cut in the middle beyond 1,000 characters.
    """

    def __str__(self) -> str:
        return visible(super().__str__(), MOST_OF_A_MESSAGE)


class PredictionsError(CalibrationError, ValueError):
    """Arrays that cannot be read as predictions (NaN, out of range, lengths that differ)."""


class MetricError(CalibrationError, ValueError):
    """A metric that is unknown, or that needs something these predictions do not carry."""


class UsageError(CalibrationError, ValueError):
    """An option or an argument whose value makes no sense."""


class ConfigError(CalibrationError):
    """A ``calibration.yaml`` that cannot be read or says something unknown."""


class ProbeError(CalibrationError):
    """A probe that is unknown, has no items, or could not score all of them."""


class ItemError(ProbeError):
    """A bad row of an items file, named by file and line."""


class ModelError(CalibrationError):
    """A model that cannot be found, loaded or scored."""


class MissingExtra(ModelError, ImportError):  # noqa: N818  reads as the condition it names
    """An optional package is not installed; the message holds the install command."""


class TokenBoundaryError(ModelError):
    """``encode(prompt + option)`` does not start with ``encode(prompt)``."""


class UntrustedServerError(ModelError):
    """A server that did not prove that its numbers are the model's: none of them is used."""


class ReportError(CalibrationError):
    """A report that is no report, is damaged, or comes from a newer version."""


class HistoryError(CalibrationError):
    """A history that is none, comes from a newer version, or cannot be read or written."""


class BaselineError(CalibrationError):
    """Anything about a stored baseline."""


class MissingBaseline(BaselineError):  # noqa: N818  reads as the condition it names
    """No record is stored under this key."""


class UnreadableBaseline(BaselineError):  # noqa: N818  reads as the condition it names
    """A record is stored, and cannot be trusted: nothing is compared and nothing is written."""


class BaselineConflict(BaselineError):  # noqa: N818  reads as the condition it names
    """Two tests of one session produced different records for the same key."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return a hint for a message on an unknown name, `` (did you mean 'facts'?)``; or nothing."""
    from difflib import get_close_matches

    near = get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
