"""Text for a reader: made visible, numbers in sentences, fitted to a terminal."""
