"""orch: a git checkout and a locked conda environment make every run repeatable."""

__version__ = "0.1.0"
