"""What was measured when, on which checkpoint: one line for each model and probe."""
