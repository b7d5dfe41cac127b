"""Predictions of a model, with item ids and settings; validated once, here."""

from pytest_calibration.predictions.arrays import (
    LOG_SLACK,
    BoolArray,
    FloatArray,
    IdArray,
    IntArray,
    StrArray,
    coded,
)
from pytest_calibration.predictions.ids import digest, hash_ids, positional_ids
from pytest_calibration.predictions.in_parts import Part, PredictionsInParts, first_units
from pytest_calibration.predictions.item_text import ItemText, ItemTexts
from pytest_calibration.predictions.predictions import (
    Predictions,
    PredictionsLike,
    Unit,
    as_predictions,
)
from pytest_calibration.predictions.signature import Signature

__all__ = [
    "LOG_SLACK",
    "BoolArray",
    "FloatArray",
    "IdArray",
    "IntArray",
    "ItemText",
    "ItemTexts",
    "Part",
    "Predictions",
    "PredictionsInParts",
    "PredictionsLike",
    "Signature",
    "StrArray",
    "Unit",
    "as_predictions",
    "coded",
    "digest",
    "first_units",
    "hash_ids",
    "positional_ids",
]
