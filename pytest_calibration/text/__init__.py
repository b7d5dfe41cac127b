"""Text for people: escaped, with readable numbers, fitted to a terminal. Loads no numpy."""
