"""A lock in the formats of other tools, as text. No credential and no folder of this machine is in any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from orchestrator.environment.export.public import comment, published
from orchestrator.environment.lock import Lock
from orchestrator.errors import UsageError
from orchestrator.paths import Home

FORMATS: tuple[str, ...] = ("conda-lock", "explicit", "environment", "pixi", "requirements", "sbom")
"""The formats that are one text file each."""

CHANNEL = "channel"
"""The format that is a folder (`folder_channel`)."""

_OF_ONE_PLATFORM = ("explicit", "environment", "requirements")


def export(
    format: str,  # noqa: A002 - the option's name
    locks: Sequence[Lock],
    *,
    name: str,
    home: Home,
    no_builds: bool = False,
    from_history: bool = False,
) -> str:
    """One environment, locked for one or more platforms, as text in one of `FORMATS`.

    `name` is the environment's. `no_builds` and `from_history` are variants of `environment`: without build strings,
    and only what was asked for, as it was asked. The same locks give the same text.

    Raises UsageError for a format that is none, a variant the format lacks, and several platforms where it has room
    for one; OrchError when the lock does not know what the format needs.
    """
    refuse(format, no_builds=no_builds, from_history=from_history)
    _refuse_locks(format, locks)
    shown, notes = [], list[str]()
    for lock in locks:
        public, taken = published(lock)
        shown.append(public)
        notes += [note for note in taken if note not in notes]
    if format in ("conda-lock", "pixi"):
        from orchestrator.environment.worker import run_job

        job = {"format": format, "locks": [asdict(lock) for lock in shown]}
        text: str = run_job("export", job, home=home)["text"]
        return _commented(notes) + text
    if format == "sbom":
        from orchestrator.environment.export.sbom import sbom

        return sbom(shown, name=name, notes=notes)
    from orchestrator.environment.export import plain

    (lock,) = shown
    if format == "explicit":
        return plain.explicit(lock, notes)
    if format == "requirements":
        return plain.requirements(lock, notes)
    return _commented(notes) + plain.environment(lock, name=name, no_builds=no_builds, from_history=from_history)


def refuse(
    format: str,  # noqa: A002 - the option's name
    *,
    no_builds: bool,
    from_history: bool,
    known: Sequence[str] = FORMATS,
) -> None:
    """Raise UsageError for a format that is none of the known, and a variant that it lacks."""
    if format not in known:
        raise UsageError(f"--format {format} is unknown; there are {', '.join(known)}.")
    if format != "environment" and (no_builds or from_history):
        option = "--no-builds" if no_builds else "--from-history"
        raise UsageError(f"{option} is for --format environment; {format} has no such variant.")


def _refuse_locks(format_: str, locks: Sequence[Lock]) -> None:
    platforms = [lock.platform for lock in locks]
    if not platforms:
        raise UsageError("there is no lock to export.")
    if len(set(platforms)) < len(platforms):
        raise UsageError(f"two locks are for the same platform ({', '.join(platforms)}); export one of them.")
    if format_ in _OF_ONE_PLATFORM and len(platforms) > 1:
        raise UsageError(
            f"{format_} holds one platform and this environment is locked for {', '.join(platforms)}: "
            "pick one with --platform."
        )


def _commented(notes: Sequence[str]) -> str:
    return "".join(f"{comment(note)}\n" for note in notes)
