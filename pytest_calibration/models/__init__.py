"""Models: text in, numpy out.

``protocols``
    what a probe may ask of a model; anything with these methods is a model.
``stops``
    where a text that a model continues ends.
``text_classifier``, ``adopted``
    a function from texts to probabilities as a classifier; what a project brings as its model.
``fitness``
    which kind of model a probe asks, and what is said where it gets another.
``spec``
    the text a user types to name a model.
``places``
    texts that mean a directory, and what is said where it is not there.
``backends``
    what loads models of one kind each: the protocol, the table, and the backends.
``settings``
    settings of a backend, and how they are checked.
``loading``, ``running_job``
    from a spec to a model that is loaded when it is needed; what a running job does to it.
``replicas``
    a model in several processes of a Ray cluster, each of which answers a part.
``cached_answers``, ``cache``, ``digests``
    answers that are kept: by which question, where, and under which key.
"""
