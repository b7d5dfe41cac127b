"""Ways to run a model, one sibling each."""
