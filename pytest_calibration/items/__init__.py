"""Where the items of a probe come from.

``sources``
    one interface for all kinds of probe.
``jsonl``, ``csv_rows``
    files of rows.
``dataset``
    a public data set, whose ``expressions`` make rows of its columns.
``builtin``
    items of this package, made from the tables in ``data/``.
"""
