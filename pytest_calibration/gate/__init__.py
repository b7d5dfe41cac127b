"""The gate: whether a candidate is worse than what it is compared with, and how sure that is."""
