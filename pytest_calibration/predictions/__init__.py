"""What a model answered: confidence and correctness per item, validated once, here."""

from pytest_calibration.predictions.item_text import ItemText, ItemTexts
from pytest_calibration.predictions.predictions import (
    LOG_SLACK,
    RANGE_SLACK,
    SUM_SLACK,
    BoolArray,
    FloatArray,
    IdArray,
    IntArray,
    Predictions,
    PredictionsLike,
    Signature,
    StrArray,
    Unit,
    as_predictions,
    digest,
    hash_ids,
    positional_ids,
)

__all__ = [
    "LOG_SLACK",
    "RANGE_SLACK",
    "SUM_SLACK",
    "BoolArray",
    "FloatArray",
    "IdArray",
    "IntArray",
    "ItemText",
    "ItemTexts",
    "Predictions",
    "PredictionsLike",
    "Signature",
    "StrArray",
    "Unit",
    "as_predictions",
    "digest",
    "hash_ids",
    "positional_ids",
]
