"""All that is looked at, at once and within a few seconds, whatever hangs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import TypeVar

from orchestrator.doctor import configuration, credentials, disks, folders, logout, machine, network, programs, runs
from orchestrator.doctor.check import Check, fault, ok
from orchestrator.errors import OrchError
from orchestrator.paths import Home, open_home

SECONDS = 4.5
"""How long all of it may take."""

_HOME_SECONDS = 1.5
_CONFIGURATION_SECONDS = 3.0

_Ways = tuple[configuration.Found, credentials.Known]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Asked:
    name: str
    answer: Future[list[Check]]
    begun: float


def examine(*, offline: bool = False, environ: Mapping[str, str] = os.environ) -> list[Check]:
    """Look at everything; what was found, in the order of the things, within `SECONDS`.

    What can't be looked at, or does not answer in time, is a fault of its own; nothing is raised. With `offline` no
    network is asked.
    """
    end = time.monotonic() + SECONDS
    first = [
        *(_asked(name, look) for name, look in programs.looks(environ)),
        *(_asked(name, look) for name, look in (*machine.looks(environ), *logout.looks())),
    ]
    home, troubles = _opened(environ, offline=offline)
    if home is None:
        return [*_answers(first, end), *troubles]
    here = [_asked(name, look) for name, look in (*folders.looks(home), *disks.looks(home), *runs.looks(home))]
    ways, checks = _configured(home, environ, min(end, time.monotonic() + _CONFIGURATION_SECONDS))
    clocks: list[float] = []
    there = [_asked(name, look) for name, look in network.looks(home, *ways, clocks)] if ways else []
    answers = [*_answers(first, end), *_answers(here, end), *checks, *network.spared(_answers(there, end))]
    if offline:
        return [*answers, ok("network", "not asked (--offline)")]
    return [*answers, *network.clock(clocks)]


def _opened(environ: Mapping[str, str], *, offline: bool) -> tuple[Home | None, list[Check]]:
    opening = _begun(lambda: open_home(environ, offline=offline))
    try:
        return opening.result(_HOME_SECONDS), []
    except TimeoutError:
        advice = "Its file system hangs, as one whose server is away; set ORCH_HOME to a folder that answers."
        return None, [fault("home", f"no answer within {_HOME_SECONDS:.1f} s", advice)]
    except Exception as error:
        return None, [_failure("home", error, _HOME_SECONDS)]


def _configured(home: Home, environ: Mapping[str, str], end: float) -> tuple[_Ways | None, list[Check]]:
    """The ways to packages and what there is to log in with, where they are known; and what is to be said of them."""

    def read() -> tuple[_Ways | None, list[Check]]:
        found, checks = configuration.read(home, environ)
        if found is None:
            return None, checks
        known = credentials.known(found, environ)
        return (found, known), [*checks, *credentials.look(known)]

    name = "configuration"
    reading = _begun(read)
    try:
        return reading.result(max(0.0, end - time.monotonic()))
    except Exception as error:
        return None, [_failure(name, error, _CONFIGURATION_SECONDS)]


def _asked(name: str, look: Callable[[], Iterable[Check]]) -> _Asked:
    return _Asked(name, _begun(lambda: list(look())), time.monotonic())


def _answers(asked: Iterable[_Asked], end: float) -> list[Check]:
    return [check for one in asked for check in _answer(one, end)]


def _answer(asked: _Asked, end: float) -> list[Check]:
    try:
        return asked.answer.result(max(0.0, end - time.monotonic()))
    except Exception as error:
        return [_failure(asked.name, error, time.monotonic() - asked.begun)]


def _failure(name: str, error: Exception, waited: float) -> Check:
    """What is said where a look did not come to its end."""
    if isinstance(error, TimeoutError):
        return fault(name, f"no answer within {waited:.1f} s", "Something that it needs hangs.")
    if isinstance(error, OrchError):
        return fault(name, str(error))
    if os.environ.get("ORCH_LOG") == "debug":
        import traceback

        traceback.print_exception(error)
    return fault(name, f"could not be looked at: {type(error).__name__}: {error}")


def _begun(work: Callable[[], T]) -> Future[T]:
    # Threads that nobody waits for at the end: one that hangs on a dead file system must not keep orch.
    future: Future[T] = Future()

    def do() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=do, daemon=True).start()
    return future
