"""Predictions from files that users already hold; no model is run."""
