"""Probes: siblings that ask something of a model and return predictions.

``next_token``, ``facts``, ``multiple_choice``
    the kinds; each reads built-in items or a JSONL file.
``classification`` (with ``labels``), ``preference``
    the kinds that ask classifiers and reward models.
``probe``
    what every probe has, and what probes over items share.
``jsonl``, ``builtin``
    where items come from: a file of rows, or committed tables.
``probe_set``
    names to probes: built-ins, those of ``calibration.yaml``, those of other packages.
"""
