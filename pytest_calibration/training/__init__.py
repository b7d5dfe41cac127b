"""Calibration inside training: a callback and a metric for the Trainer of transformers.

``callback``
    what a user attaches to a Trainer; which event does what.
``measuring``
    the probes that are asked, their metrics, and the comparison with a baseline.
``undisturbed``
    random numbers as they would be without it.
``processes``
    one process of several measures, the others wait for its result.
``saved_weights``
    whether weights in memory are those of a checkpoint.
``compute_metrics``
    calibration on the evaluation set, for classifiers and token-level models.
"""

from pytest_calibration.extras import require

require("torch", "hf")
require("transformers", "hf")
