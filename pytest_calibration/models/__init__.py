"""Models: text in, numpy out.

``protocols``
    what a probe may ask of a model; anything with these methods is a model.
``spec``
    the text a user types to name one: hub id, directory, glob, adapter directory, revision.
``checkpoint``
    what is known of one before it is loaded: settings, adapter base, fingerprint.
``loading``
    from a spec to a model.
``transformers_model``
    Hugging Face checkpoints; the only module that imports torch.
"""
