"""Probes: siblings that ask something of a model and return predictions.

``next_token``, ``facts``, ``multiple_choice``
    the kinds; each reads built-in items, or those of a source.
``classification`` (with ``labels``), ``preference``
    the kinds that ask classifiers and reward models.
``p_true``, ``verbalized``, ``agreement``, ``sequence``
    the kinds whose answers are free; ``free_answer`` is what they share, ``answer_matching`` which
    answers are right, ``stated_confidence`` how a stated probability is asked for and read.
``lm_eval_task``
    tasks of lm-eval, which makes prompts and judges answers.
``probe``
    what every probe has, and what probes over items share.
``presets``
    the settings of public data sets (``presets.yaml``).
``probe_set``
    names to probes: built-ins, those of ``calibration.yaml``, those of other packages.
"""
