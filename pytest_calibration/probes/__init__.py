"""Probes: siblings that ask something of a model and return predictions.

``next_token``, ``facts``, ``multiple_choice``
    the kinds; each reads built-in items or a JSONL file.
``builtin``
    the built-in items, from committed tables.
``registry``
    names to probes: built-ins, those of ``calibration.yaml``, those of other packages.
"""
