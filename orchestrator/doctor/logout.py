"""What becomes of runs when their user logs out of a machine with systemd's logind.

What is started in a session's scope is killed where the administrator chose KillUserProcesses; what is started below
the user's own systemd (as the terminals of some desktops are) ends with that, where lingering is off.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator.doctor.check import Check, note, ok

_PLACES = ("usr/lib/systemd", "usr/local/lib/systemd", "run/systemd", "etc/systemd")
"""Of logind.conf and logind.conf.d, the weakest first (logind.conf(5))."""

_SETTING = re.compile(r"(Kill\w+)\s*=\s*(.*)")
_YES = ("1", "yes", "true", "on", "y", "t")

Look = tuple[str, Callable[[], Iterator[Check]]]


def looks() -> tuple[Look, ...]:
    """What can be looked at here, each by its name."""
    return (("logout", lambda: logout(Path("/"), _own_name())),)


def logout(root: Path, user: str) -> Iterator[Check]:
    """Whether runs that are started here outlive the session; nothing where no logind runs, or this is no session."""
    if not (root / "run/systemd/sessions").is_dir():
        return
    try:
        group = (root / "proc/self/cgroup").read_text("utf-8")
    except OSError:
        return
    lingers = (root / "var/lib/systemd/linger" / user).exists()
    linger = "" if lingers else "loginctl enable-linger, then "
    if re.search(r"/session-[^/]*\.scope", group):
        if _kills(root, user):
            advice = f"Start them outside of the session: {linger}systemd-run --user --scope orch run -d ..."
            yield note("logout", "kills what was started in the session (KillUserProcesses), runs too", advice)
        else:
            yield ok("logout", "leaves runs alone")
    elif re.search(r"/user@\d+\.service", group):
        if lingers:
            yield ok("logout", "leaves runs alone")
        else:
            advice = "Let your processes outlive your last session: loginctl enable-linger"
            yield note("logout", "ends what was started in this desktop's session, runs too", advice)


def _kills(root: Path, user: str) -> bool:
    """Whether logind is told to kill this user's processes. Distributions build it so that it does not by itself."""
    settings = {"KillUserProcesses": "no", "KillOnlyUsers": "", "KillExcludeUsers": "root"}
    for file in _files(root):
        try:
            lines = file.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        settings |= {found[1]: found[2].strip() for line in lines if (found := _SETTING.match(line.strip()))}
    only = settings["KillOnlyUsers"].split()
    is_meant = user not in settings["KillExcludeUsers"].split() and (not only or user in only)
    return is_meant and settings["KillUserProcesses"].lower() in _YES


def _files(root: Path) -> list[Path]:
    """The files that are read, the strongest last: one logind.conf, then the drop-ins by their names."""
    mains = [file for place in _PLACES if (file := root / place / "logind.conf").is_file()]
    drops = {file.name: file for place in _PLACES for file in (root / place / "logind.conf.d").glob("*.conf")}
    return mains[-1:] + [drops[name] for name in sorted(drops)]


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
