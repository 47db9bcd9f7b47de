"""A run in one file: what decided it, what came of it, and everything that is needed to do it again elsewhere."""
