"""The failures that a user is told about, each with the exit code that `orch` ends with."""

from __future__ import annotations


class OrchError(Exception):
    """orch itself could not do what was asked.

    The message is one clear sentence (a solver's explanation may follow it on further lines): what is
    wrong, with which file or value, and what to do. It is shown as it is, without a traceback.
    """

    exit_code = 125


class UsageError(OrchError):
    """The command line, or a value given on it, is wrong; nothing was tried."""

    exit_code = 2


class DiskFullError(OrchError):
    """There is no space left to write what orch has to."""
