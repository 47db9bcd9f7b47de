"""The token of `orch server` outlives it, in a file that nobody but its owner can read or write."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tracking.calls import API
from tracking.serving import ORCH, Server, ask, environ_of, orch_serving

TOKEN = "0123456789abcdefghij-_ABCDEFGHIJ"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the token of a server in `tmp_path` is kept, in a home that is there."""
    (tmp_path / "home").mkdir(mode=0o700)
    return tmp_path / "home" / "server-token"


def keep(file: Path, text: str = f"{TOKEN}\n", mode: int = 0o600) -> None:
    file.write_text(text)
    file.chmod(mode)


def lets_in(server: Server, token: str) -> bool:
    told = {"Authorization": f"Bearer {token}"}
    return ask(server, "POST", f"{API}experiments/search", {"max_results": 1}, told).status == 200


def refusal(folder: Path, *options: str) -> str:
    """What a server says that does not start, in one line."""
    command = [ORCH, "server", "--port", "0", *options]
    done = subprocess.run(
        command, env=environ_of(folder), capture_output=True, text=True, timeout=30, check=False, cwd=folder
    )
    assert (done.returncode, done.stdout) == (125, ""), done
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_who_logs_goes_on_when_the_server_is_started_again(tmp_path: Path) -> None:
    tokens = []
    for _ in range(2):
        with orch_serving(tmp_path) as server:
            assert lets_in(server, str(server.token))
            tokens.append(str(server.token))
    assert tokens[0] == tokens[1]
    assert (server.home / "server-token").stat().st_mode & 0o777 == 0o600


def test_without_its_file_there_is_a_new_token(tmp_path: Path) -> None:
    with orch_serving(tmp_path) as server:
        before = str(server.token)
    (server.home / "server-token").unlink()
    with orch_serving(tmp_path) as server:
        assert not lets_in(server, before)
        assert lets_in(server, str(server.token))


def test_servers_that_begin_together_have_one_token(tmp_path: Path) -> None:
    with orch_serving(tmp_path, "--no-token") as server:  # the ledger is there
        home = server.home
    processes = []
    for n in range(4):
        (tmp_path / str(n)).mkdir()
        environ = environ_of(tmp_path / str(n), home)
        command = [ORCH, "server", "--port", "0"]
        processes.append(subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
    try:
        urls = [process.stdout.readline().decode() for process in processes if process.stdout is not None]
    finally:
        for process in processes:
            process.terminate()
            process.communicate(timeout=20)
    tokens = {url.partition("@")[0] for url in urls}
    assert len(tokens) == 1, urls
    assert "orch:" in tokens.pop()
    assert [path.name for path in home.iterdir() if "server-token" in path.name] == ["server-token"]


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_a_token_that_is_there_is_used(mode: int, file: Path, tmp_path: Path) -> None:
    keep(file, mode=mode)
    with orch_serving(tmp_path) as server:
        assert server.token == TOKEN
        assert lets_in(server, TOKEN)


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o602, 0o666])
def test_a_token_that_others_can_read_or_write_is_refused(mode: int, file: Path, tmp_path: Path) -> None:
    keep(file, mode=mode)
    said = refusal(tmp_path)
    assert str(file) in said
    assert "other users" in said
    assert TOKEN not in said
    assert file.read_text() == f"{TOKEN}\n"


def link(file: Path) -> None:
    keep(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


def link_to_nothing(file: Path) -> None:
    file.symlink_to(file.parent.parent / "planted")


@pytest.mark.parametrize("made", [link, link_to_nothing, os.mkfifo, Path.mkdir])
def test_what_is_no_file_in_its_place_is_refused(made: Callable[[Path], None], file: Path, tmp_path: Path) -> None:
    made(file)
    assert str(file) in refusal(tmp_path)
    assert not (tmp_path / "planted").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_token_of_another_user_is_refused(file: Path, tmp_path: Path) -> None:
    keep(file)
    os.chown(file, 12345, -1)
    said = refusal(tmp_path)
    assert str(file) in said
    assert "another user" in said


@pytest.mark.parametrize(
    "text", ["", "\n", "short", f"{TOKEN}\n{TOKEN}\n", f"{TOKEN};id", f"{TOKEN} x", "é" * 40, "x" * 100_000]
)
def test_a_file_that_holds_no_token_is_refused(text: str, file: Path, tmp_path: Path) -> None:
    keep(file, text)
    said = refusal(tmp_path)
    assert str(file) in said
    assert len(said) < 400
    assert file.read_text() == text


def test_without_a_token_none_is_made_or_looked_at(file: Path, tmp_path: Path) -> None:
    with orch_serving(tmp_path, "--no-token") as server:
        assert server.token is None
        assert not file.exists()
    keep(file, mode=0o666)
    with orch_serving(tmp_path, "--no-token") as server:
        assert server.token is None


def test_a_server_that_can_not_listen_makes_no_token(file: Path, tmp_path: Path) -> None:
    refusal(tmp_path, "--host", "192.0.2.1")
    assert not file.exists()
