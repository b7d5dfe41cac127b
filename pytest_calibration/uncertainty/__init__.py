"""How far a calibration number can be trusted: quantiles, standard errors, floors, intervals.

Everything is closed form and deterministic: no resampling, no seed. Percentile-bootstrap intervals
of ECE are not used because ECE is biased upwards near calibration, where their lower bound covers
almost never. ``intervals`` says which interval each metric takes.

Where predictions carry groups, standard errors are computed over group totals (cluster-robust,
with the usual G/(G-1) factor), since the items of a group are not independent.
"""
