"""Models: text in, numpy out.

``protocols``
    what a probe may ask of a model; anything with these methods is a model.
``spec``
    the text a user types to name one: hub id, directory, glob, adapter directory, revision.
``checkpoint``
    what is known of one before it is loaded: settings, adapter base, fingerprint.
``digests``, ``hub``, ``environment``
    what a fingerprint is made of: files, commits, libraries and processors.
``loading``
    from a spec to a model.
``threads``
    how torch's threads wait, decided before torch is there.
``remembered``
    a model whose answers are kept.
``transformers_model``
    Hugging Face checkpoints; the only room that imports torch.
"""
