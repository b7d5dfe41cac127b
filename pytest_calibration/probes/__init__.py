"""Probes: siblings that ask something of a model and return predictions.

``next_token``, ``facts``, ``multiple_choice``
    the kinds; each reads built-in items or a file.
``p_true``, ``verbalized``, ``agreement``, ``sequence``
    the kinds whose answers are free; ``free_answer`` is what they share, ``answer_matching`` which
    answers are right, ``stated_confidence`` how a stated probability is asked for and read.
``probe``
    what every probe has, and what probes over items share.
``jsonl``, ``builtin``
    where items come from: a file of rows, or committed tables.
``probe_set``
    names to probes: built-ins, those of ``calibration.yaml``, those of other packages.
"""
