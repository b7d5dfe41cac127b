"""Causal language models as probes ask them, wherever their tokens are scored. Needs no torch.

``causal_model``
    what probes call: texts to rows of tokens, windows of long texts, scores to answers.
``rows``, ``continuation``
    a sequence, the positions in it that are read, and their scores; a text that is continued.
``encoding``
    prompts and what may follow them to tokens.
``chat``
    conversations as text.
``harness_requests``
    the log-likelihood requests of lm-eval, tokenised as the harness does.
"""
