"""The socket in a run's directory: any number of viewers, none that can harm the run, none that it needs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.execute.identity import identify, send_signal
from orchestrator.execute.rundir import RunDirectory
from orchestrator.execute.viewers import Viewers, Watched, open_viewers, watch_from_elsewhere


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    found = RunDirectory(tmp_path / ("long" * 30) / "run")
    found.path.mkdir(parents=True)
    found.progress.touch()
    return found


@pytest.fixture
def viewers(directory: RunDirectory) -> Iterator[Viewers]:
    found = open_viewers(directory)
    yield found
    for one in [*found.connected, found.listener]:
        if one is not None:
            one.close()


def close(watched: Watched) -> None:
    watched.progress.close()
    if watched.channel is not None:
        watched.channel.close()


def test_all_that_are_taken_are_woken(directory: RunDirectory, viewers: Viewers) -> None:
    watching = [watch_from_elsewhere(directory, None) for _ in range(5)]
    assert len(viewers.accept()) == 5
    viewers.ring()
    for watched in watching:
        assert watched.channel is not None
        assert watched.channel.recv(10) == b"\n"
        close(watched)


def test_a_viewer_that_never_listens_and_one_that_has_gone_hold_nobody_up(
    directory: RunDirectory, viewers: Viewers
) -> None:
    deaf, gone = (watch_from_elsewhere(directory, None) for _ in range(2))
    viewers.accept()
    close(gone)
    begin = time.monotonic()
    for _ in range(300_000 // 3):
        viewers.ring()
    assert time.monotonic() - begin < 10
    close(deaf)


def test_it_is_found_from_a_directory_that_is_gone(
    directory: RunDirectory, viewers: Viewers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    watched = watch_from_elsewhere(directory, None)
    assert watched.channel is not None
    close(watched)


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_it_needs_no_proc(
    directory: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.chdir(tmp_path)
    viewers = open_viewers(directory)
    watched = watch_from_elsewhere(directory, None)
    assert Path.cwd() == tmp_path
    assert len(viewers.accept()) == 1
    close(watched)
    for one in [*viewers.connected, viewers.listener]:
        assert one is not None
        one.close()


def test_without_a_socket_the_files_are_left(directory: RunDirectory) -> None:
    directory.socket.mkdir()  # as on a file system that has none, bind fails
    viewers = open_viewers(directory)
    assert viewers.listener is None
    assert viewers.accept() == []
    viewers.ring()
    watched = watch_from_elsewhere(directory, identify(os.getpid()))
    assert watched.channel is None
    assert watched.is_supervised()
    close(watched)


def test_a_socket_that_a_killed_supervisor_left_is_no_hindrance(directory: RunDirectory, viewers: Viewers) -> None:
    assert viewers.listener is not None
    viewers.listener.close()
    viewers.listener = None
    watched = watch_from_elsewhere(directory, None)
    assert watched.channel is None
    close(watched)


def test_there_is_a_most(directory: RunDirectory, viewers: Viewers) -> None:
    watching = []
    for _ in range(3):
        watching += [watch_from_elsewhere(directory, None) for _ in range(40)]
        viewers.accept()
    assert len(viewers.connected) == 64
    last = watching[-1].channel
    assert last is not None
    assert last.recv(1) == b""  # told, so that it looks at the files
    for watched in watching:
        close(watched)


def test_only_the_very_process_is_signalled() -> None:
    process = subprocess.Popen(["sleep", "30"])
    identity = identify(process.pid)
    assert identity is not None
    assert not send_signal(replace(identity, start=identity.start - 1), signal.SIGKILL)
    assert not send_signal(replace(identity, boot="another"), signal.SIGKILL)
    assert not send_signal(replace(identity, machine="another", boot="another"), signal.SIGKILL)
    assert process.poll() is None
    assert send_signal(identity, signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM
    assert not send_signal(identity, signal.SIGTERM)


def test_nobody_else_can_connect(directory: RunDirectory, viewers: Viewers) -> None:
    assert directory.socket.is_socket()
    assert directory.socket.stat().st_mode & 0o022 == 0
    assert isinstance(viewers.listener, socket.socket)
