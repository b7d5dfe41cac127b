"""Uncertainty of calibration metrics: intervals, noise floors, standard errors, quantiles.

Everything is closed form and deterministic: no resampling, no seed. Percentile-bootstrap intervals
are not used: ECE is biased upwards near calibration, where their lower end almost never covers the
truth. ``intervals`` holds the table of which interval each metric has.

Where predictions have groups, standard errors are computed over group totals (cluster-robust, with
the usual factor G/(G − 1)), since the items of a group are not independent.
"""
