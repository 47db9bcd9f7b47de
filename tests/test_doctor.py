"""`orch doctor`: what it finds on machines that have something wrong with them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import made_records
import pytest
from channel_server import ChannelServer
from conftest import CONDA_FORGE
from made_disk import small_disk

from orchestrator import ledger
from orchestrator.doctor.check import Check
from orchestrator.doctor.examine import examine
from orchestrator.execute.identity import identify, machine_id
from orchestrator.ledger.connection import VERSION
from orchestrator.model import ProcessIdentity
from orchestrator.paths import Home, open_home

Serve = Callable[..., ChannelServer]


def found(name: str, *, offline: bool = True) -> list[Check]:
    """The checks of this name."""
    return [check for check in examine(offline=offline) if check.name == name]


def only(name: str, *, offline: bool = True) -> Check:
    """The one check of this name."""
    for _ in range(3):  # on a busy machine the first time may be too slow: doctor says so, and asks no channel then
        checks = found(name, offline=offline)
        if checks:
            break
    (check,) = checks
    return check


def faults(*, offline: bool = True) -> list[Check]:
    return [check for check in examine(offline=offline) if check.result == "fault"]


def configure(home: Path, *places: str, more: str = "") -> None:
    """Let conda-forge be asked at `places`, and no package index."""
    named = ", ".join(json.dumps(place) for place in places)
    index = '[pypi]\nindex = "http://127.0.0.1:1/simple"\n'
    (home / "config.toml").write_text(f'{more}{index}[mirrors]\n"{CONDA_FORGE}" = [{named}]\n')


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, empty as yet."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def put_program(folder: Path, name: str, lines: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
    (folder / name).chmod(0o755)


# --- programs ---------------------------------------------------------------------------------------------------


def test_a_sound_machine_has_no_fault(cold_home: Path) -> None:
    assert faults() == []
    assert {check.name for check in examine(offline=True)} > {
        *("orch", "packages", "git", "bash", "uv", "ssh agent", "home", "prefixes", "programs", "locks", "links"),
        *("store", "names", "disk", "file system", "ledger", "configuration", "conda engine", "credentials"),
        *("channel conda-forge", "limits", "memory", "container", "variables", "network"),
    }


def test_nothing_is_left_behind(cold_home: Path) -> None:
    open_home()
    before = sorted(cold_home.rglob("*"))
    examine(offline=True)
    assert sorted(cold_home.rglob("*")) == before


def test_rattler_is_not_loaded_into_the_process_that_looks(cold_home: Path) -> None:
    script = "import sys; from orchestrator.doctor.examine import examine; examine(offline=True); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "orchestrator.doctor.network" in loaded
    assert not {"rattler", "conda_lock", "git", "yaml", "sqlite_utils", "rich"} & set(loaded)


def test_no_git_on_path(cold_home: Path, programs: Path) -> None:
    check = only("git")
    assert (check.result, check.found) == ("fault", "not on PATH, or it does not work")
    assert "Install git" in check.advice


def test_a_git_that_is_too_old(cold_home: Path, programs: Path) -> None:
    put_program(programs, "git", "echo git version 2.25.1")
    assert only("git") == Check("git", "fault", "2.25.1, too old", "Install git 2.32 or newer.")


def test_a_git_that_is_new_enough(cold_home: Path, programs: Path) -> None:
    put_program(programs, "git", "echo 'git version 2.50.1 (Apple Git-155)'")
    assert only("git") == Check("git", "ok", f"2.50.1 ({programs}/git)")


def test_a_program_that_hangs_is_waited_for_only_so_long(cold_home: Path, programs: Path) -> None:
    put_program(programs, "git", "exec /bin/sleep 60")
    assert only("git").result == "fault"


def test_an_agent_that_died(cold_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(place))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(place))
    check = only("ssh agent")
    assert check.result == "note"
    assert check.found == f"SSH_AUTH_SOCK names {place}, where no agent answers (Connection refused)"
    assert "ssh-add" in check.advice


def test_an_agent_that_is_gone(cold_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/nowhere/agent")
    assert "No such file" in only("ssh agent").found


def test_an_agent_that_takes_a_connection_and_says_nothing(
    cold_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("ssh-add") is None:
        pytest.skip("there is no ssh-add")
    place = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(place))
        silent.listen()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(place))
        assert "says nothing" in only("ssh agent").found


def test_the_keys_of_an_agent_are_counted(cold_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("ssh-agent") is None:
        pytest.skip("there is no ssh-agent")
    place, key = tmp_path / "agent", tmp_path / "key"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", place], stdout=subprocess.DEVNULL)
    try:
        while not place.exists():
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(place))
        assert only("ssh agent").found == "answers, and has no keys"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        subprocess.run(["ssh-add", "-q", key], check=True)
        assert only("ssh agent") == Check("ssh agent", "ok", "answers, 1 key")
    finally:
        agent.terminate()
        agent.wait()


# --- home and disks ---------------------------------------------------------------------------------------------


def test_a_home_that_cannot_be_made_is_told_and_the_rest_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "file" / "home"))
    (home,) = faults()
    assert home.name == "home"
    assert "Set ORCH_HOME to a folder that you can write" in home.found
    assert only("git").result == "ok"


@pytest.mark.parametrize(("mode", "result"), [(0o700, "ok"), (0o755, "note"), (0o770, "fault")])
def test_who_else_has_a_say_in_the_home(cold_home: Path, mode: int, result: str) -> None:
    cold_home.chmod(mode)
    check = only("home")
    assert check.result == result
    assert f"mode {mode:04o}" in check.found
    assert result == "ok" or f"chmod 700 {cold_home}" in check.advice


def test_a_blank_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "my home"))
    check = only("prefixes")
    assert check.result == "note"
    assert "my home/envs has a blank" in check.found


def test_a_home_with_too_long_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / ("a" * 200)))
    check = only("prefixes")
    assert check.result == "fault"
    assert "255 are possible" in check.found
    assert "[paths]" in check.advice


def test_a_full_disk_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        monkeypatch.setenv("ORCH_HOME", str(disk / "home"))
        home = open_home()
        fill(home.root)
        (check,) = faults()
        assert (check.name, check.found) == ("disk", f"{home.root} can't be written: No space left on device")
        assert "Free some space" in check.advice


def test_a_read_only_disk_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        monkeypatch.setenv("ORCH_HOME", str(disk / "home"))
        home = open_home()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        (check,) = faults()
        assert check.found == f"{home.root} can't be written: Read-only file system"
        assert "set ORCH_HOME" in check.advice


def test_a_disk_with_little_left_is_a_note(cold_home: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "300m") as disk:
        more(cold_home, f'[paths]\nstore = "{disk}"\n')
        (check,) = [check for check in found("disk") if check.result == "note"]
        assert check.found == "300 MiB free of 300 MiB (store)"


def test_a_disk_that_starts_no_programs(cold_home: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "300m") as disk:
        subprocess.run(["mount", "-o", "remount,noexec", disk], check=True)
        more(cold_home, f'[paths]\nenvs = "{disk}"\n')
        check = only("programs")
        assert (check.result, check.found) == ("fault", f"none can be started from {disk}")
        assert "noexec" in check.advice


def test_environments_on_another_disk_than_the_cache(cold_home: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "300m") as disk:
        more(cold_home, f'[paths]\nenvs = "{disk}"\n')
        check = only("links")
        assert (check.result, check.found) == (
            "note",
            "environments can't share files with the cache: they are on different disks",
        )


def test_the_store_on_another_disk_than_the_work(cold_home: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "300m") as disk:
        more(cold_home, f'[paths]\nstore = "{disk}"\n')
        assert "Outputs are copied" in only("store").advice


def test_a_home_on_a_network_file_system(cold_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "mounts").write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/home {cold_home} nfs4 rw 0 0\n")
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(proc))
    more(cold_home, f'[paths]\nstore = "{tmp_path}/store"\n')
    about_ledger, about_envs = found("file system")
    assert about_ledger.found == f"the ledger {cold_home}/ledger.db is on a network file system (nfs4)"
    assert "set ORCH_HOME to a local disk" in about_ledger.advice
    assert "name a local disk as envs" in about_envs.advice


def fill(folder: Path) -> None:
    with (folder / "large").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def more(home: Path, lines: str) -> None:
    with (home / "config.toml").open("a") as config:
        config.write(lines)


# --- configuration and credentials ------------------------------------------------------------------------------


def test_a_mistake_in_the_configuration(cold_home: Path) -> None:
    (cold_home / "config.toml").write_text('[pypi]\nindx = "x"\n')
    (check,) = faults()
    assert check.name == "configuration"
    assert f"{cold_home}/config.toml has an unknown key 'indx' in [pypi]" in check.found


def test_a_configuration_that_is_no_toml(cold_home: Path) -> None:
    (cold_home / "config.toml").write_text("[paths\n")
    (check,) = faults()
    assert "is not valid TOML" in check.found


def test_a_mistake_that_only_rattler_sees(cold_home: Path) -> None:
    (cold_home / "config.toml").write_text('tls-root-certs = "mine"\n')
    (check,) = faults()
    assert check.name == "conda engine"
    assert f"{cold_home}/config.toml: TOML parse error at line 1" in check.found
    assert "unknown variant `mine`" in check.found


def test_warnings_that_are_errors_do_not_keep_the_engine(cold_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    assert only("conda engine").result == "ok"


def test_variables_that_name_missing_files(cold_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    check = only("variables")
    assert (check.result, check.found) == ("fault", "SSL_CERT_FILE names /nowhere/ca.pem, which is not there")


def test_credentials_are_told_by_host_and_place_only(
    cold_home: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(cold_home, "https://ada:swordfish@a.example.com/c", "https://b.example.com/t/swordfish/c")
    auth = isolated / "auth.json"
    auth.write_text(
        json.dumps({"*.c.example.com": {"BearerToken": "swordfish"}, "d.example.com": {"CondaToken": "swordfish"}})
    )
    monkeypatch.setenv("RATTLER_AUTH_FILE", str(auth))
    (isolated / ".netrc").write_text("machine e.example.com login ada password swordfish\n")
    for path in (auth, isolated / ".netrc"):
        path.chmod(0o600)
    checks = examine(offline=True)
    (check,) = [check for check in checks if check.name == "credentials"]
    assert check.result == "ok"
    assert check.found == (
        "mirrors of the configuration: a.example.com, b.example.com; "
        f"{auth}: *.c.example.com, d.example.com; {isolated}/.netrc: e.example.com"
    )
    assert "swordfish" not in repr(checks)


def test_files_of_credentials_that_others_can_read(cold_home: Path, isolated: Path) -> None:
    (isolated / ".netrc").write_text("machine e.example.com login ada password swordfish\n")
    (isolated / ".netrc").chmod(0o644)
    check, _ = found("credentials")
    assert (check.result, check.advice) == ("note", f"chmod 600 {isolated}/.netrc")


@pytest.mark.parametrize(
    ("name", "text"),
    [(".netrc", "machine e.example.com login ada swordfish\n"), (".rattler/credentials.json", '{"h": "swordfish"}')],
)
def test_files_of_credentials_that_cannot_be_read(cold_home: Path, isolated: Path, name: str, text: str) -> None:
    (isolated / name).parent.mkdir(exist_ok=True)
    (isolated / name).write_text(text)
    check, _ = found("credentials")
    assert check.result == "fault"
    assert str(isolated / name) in check.found
    assert "swordfish" not in repr(check)


# --- channels ---------------------------------------------------------------------------------------------------


def test_a_channel_that_answers(cold_home: Path, channel_server: Serve) -> None:
    server = channel_server()
    configure(cold_home, server.url)
    check = only("channel conda-forge", offline=False)
    assert check.result == "ok"
    assert check.found.startswith(f"{server.url}, HTTP 200 in 0.")
    assert sum(server.requests.values()) == 0  # no index was fetched


def test_a_channel_whose_server_hangs_does_not_keep_the_rest(cold_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        configure(cold_home, f"http://127.0.0.1:{port}")
        begun = time.monotonic()
        check = only("channel conda-forge", offline=False)
        assert time.monotonic() - begun < 5
    assert check.result == "fault"
    assert f"http://127.0.0.1:{port}: no answer within" in check.found


def test_a_server_that_never_ends_its_answer_is_left(cold_home: Path) -> None:
    def trickle() -> None:
        connection, _ = silent.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            for _ in range(100):
                connection.sendall(b"X-More: x\r\n")
                time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        Thread(target=trickle, daemon=True).start()
        configure(cold_home, f"http://127.0.0.1:{silent.getsockname()[1]}")
        begun = time.monotonic()
        check = only("channel conda-forge", offline=False)
        assert time.monotonic() - begun < 5
    assert (check.result, check.found[:17]) == ("fault", "no answer within ")


def test_a_channel_that_nobody_serves(cold_home: Path) -> None:
    configure(cold_home, "http://127.0.0.1:1/c")
    check = only("channel conda-forge", offline=False)
    assert (check.result, check.found) == ("fault", "http://127.0.0.1:1/c: Connection refused")
    assert "[mirrors]" in check.advice


@pytest.mark.parametrize(
    ("kind", "said"),
    [("unavailable", "its server fails (HTTP 503)"), ("missing", "no channel there (HTTP 404)")],
)
def test_a_channel_that_answers_with_an_error(cold_home: Path, channel_server: Serve, kind: str, said: str) -> None:
    server = channel_server()
    server.fail("*", kind)
    configure(cold_home, server.url)
    check = only("channel conda-forge", offline=False)
    assert (check.result, check.found) == ("fault", f"{server.url}: {said}")


def test_a_login_page_is_no_channel(cold_home: Path) -> None:
    with answering(200, {"Content-Type": "text/html; charset=utf-8"}) as url:
        configure(cold_home, url)
        check = only("channel conda-forge", offline=False)
    assert (check.result, check.found) == ("fault", f"{url}: a web page where the index of a channel should be")


def test_a_channel_that_wants_credentials(cold_home: Path, isolated: Path, channel_server: Serve) -> None:
    server = channel_server()
    server.fail("*", "unauthorized")
    configure(cold_home, server.url)
    check = only("channel conda-forge", offline=False)
    assert (check.result, check.found) == ("fault", f"{server.url}: HTTP 401, and no credentials")
    assert "RATTLER_AUTH_FILE" in check.advice
    (isolated / ".netrc").write_text("machine 127.0.0.1 login ada password swordfish\n")
    (isolated / ".netrc").chmod(0o600)
    checks = examine()
    (check,) = [check for check in checks if check.name == "channel conda-forge"]
    assert check.result == "ok"
    assert "swordfish" not in repr(checks)


def test_credentials_that_are_refused(cold_home: Path, isolated: Path) -> None:
    with answering(401) as url:
        configure(cold_home, url.replace("//", "//ada:swordfish@"))
        check = only("channel conda-forge", offline=False)
        assert (check.result, check.found) == (
            "fault",
            f"{url}: HTTP 401, with the credentials of mirrors of the configuration",
        )
        assert "get new ones" in check.advice


def test_a_proxy_that_is_away_is_named_without_its_password(cold_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://ada:swordfish@127.0.0.1:1")
    configure(cold_home, "http://c.example.com/c")
    checks = examine()
    (check,) = [check for check in checks if check.name == "channel conda-forge"]
    assert check.found == "http://c.example.com/c: Connection refused, by the proxy 127.0.0.1:1"
    assert Check("proxies", "ok", "http by 127.0.0.1:1") in checks
    assert "swordfish" not in repr(checks)


@pytest.mark.parametrize("place", ["http://[::1/swordfish/c", "http://127.0.0.1:port/t/swordfish/c"])
def test_an_address_that_is_none(cold_home: Path, place: str) -> None:
    configure(cold_home, place)
    checks = examine()
    assert [check.name for check in checks if check.result == "fault"] == ["conda engine"]


def test_a_server_that_speaks_no_http(cold_home: Path) -> None:
    def greet() -> None:
        with contextlib.suppress(OSError):  # the test ended
            while True:
                connection, _ = other.accept()
                with connection:
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

    with socket.create_server(("127.0.0.1", 0)) as other:
        Thread(target=greet, daemon=True).start()
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        configure(cold_home, url)
        assert only("channel conda-forge", offline=False).found == f"{url}: it does not speak HTTP"


def test_a_channel_that_only_rattler_can_ask_is_a_note(cold_home: Path) -> None:
    configure(cold_home, "s3://bucket/c")
    check = only("channel conda-forge", offline=False)
    assert (check.result, check.found) == ("note", "s3://bucket/c: not asked, for s3 is not spoken here")


def test_a_dead_mirror_beside_one_that_answers_is_a_note(cold_home: Path, channel_server: Serve) -> None:
    configure(cold_home, "http://127.0.0.1:1/c", channel_server().url)
    dead, well = found("channel conda-forge", offline=False)
    assert (dead.result, well.result) == ("note", "ok")


def test_a_mirror_that_is_a_folder(cold_home: Path, channel: Path, tmp_path: Path) -> None:
    configure(cold_home, str(channel))
    assert only("channel conda-forge").found.startswith(f"{channel} (")
    configure(cold_home, str(tmp_path))
    assert only("channel conda-forge").found.startswith(f"{tmp_path} is no channel")
    configure(cold_home, str(tmp_path / "gone"))
    assert only("channel conda-forge").found == f"{tmp_path}/gone is not there"


def test_offline_no_server_is_asked(cold_home: Path, channel_server: Serve) -> None:
    server = channel_server()
    configure(cold_home, server.url)
    asked = []
    server.next_fault = lambda path, counted: asked.append(path)  # type: ignore[method-assign, func-returns-value]
    assert found("channel conda-forge") == []
    assert only("network").found == "not asked (--offline)"
    assert asked == []


def test_a_package_index_that_is_away_is_a_note(cold_home: Path) -> None:
    configure(cold_home, "http://127.0.0.1:1/c")
    check = only("package index", offline=False)
    assert check.result == "note"
    assert check.found.startswith("http://127.0.0.1:1/simple: ")
    assert "Connection refused" in check.found


def test_a_package_index_that_hangs_does_not_keep_the_rest(cold_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        more(cold_home, f'[pypi]\nindex = "{index}"\n')
        begun = time.monotonic()
        check = only("package index", offline=False)
        assert time.monotonic() - begun < 5
    assert check.result == "note"
    assert check.found.startswith(f"{index}: ")
    assert list(cold_home.rglob(".doctor*")) == []


def test_a_package_index_that_is_a_folder(cold_home: Path, tmp_path: Path) -> None:
    (cold_home / "config.toml").write_text(f'[pypi]\nindex = "{tmp_path.as_uri()}"\n')
    assert only("package index", offline=False) == Check("package index", "ok", f"{tmp_path.as_uri()} answers")


# --- clock ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ahead", "age", "result", "said"),
    [
        (0, 0, "ok", "agrees"),
        (300, 0, "note", "5 min behind"),
        (-300, 0, "note", "5 min ahead of"),
        (-90000, 0, "fault", "25 h ahead of"),
        (-90000, 90000, "ok", "agrees"),  # a cache on the way had the answer since yesterday
    ],
)
def test_the_clock_is_held_against_that_of_a_server(
    cold_home: Path, ahead: int, age: int, result: str, said: str
) -> None:
    with answering(200, {"Date": formatdate(time.time() + ahead, usegmt=True), "Age": str(age)}) as url:
        configure(cold_home, url)
        check = only("clock", offline=False)
    assert check.result == result
    assert said in check.found


@contextlib.contextmanager
def answering(status: int, headers: dict[str, str] | None = None) -> Iterator[str]:
    """A server that answers everything with this."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()

        do_GET = do_HEAD  # noqa: N815 - as http.server names them

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


# --- ledger -----------------------------------------------------------------------------------------------------


def test_a_ledger_that_is_none(cold_home: Path) -> None:
    (cold_home / "ledger.db").write_bytes(b"no SQLite file, but long enough to be taken for one" * 100)
    check = only("ledger")
    assert check.result == "fault"
    assert "orch ledger rebuild" in check.found


def test_a_ledger_that_is_a_folder(cold_home: Path) -> None:
    (cold_home / "ledger.db").mkdir()
    assert only("ledger").found == f"the ledger {cold_home}/ledger.db is a folder; move it away."


def test_the_ledger_is_read_and_not_changed(cold_home: Path) -> None:
    ledger.connect(open_home()).close()
    check = only("ledger")
    assert (check.result, check.found) == ("ok", f"{cold_home}/ledger.db, schema version {VERSION}, 0 runs")


def test_run_directories_without_a_ledger(cold_home: Path) -> None:
    add_run(open_home())
    assert only("ledger") == Check(
        "ledger", "note", f"none, and 1 run in {cold_home}/runs", "Make it again: orch ledger rebuild"
    )


def test_a_run_whose_supervisor_was_killed_is_told_and_left_as_it_is(cold_home: Path) -> None:
    home = open_home()
    run_id = add_run(home)
    connection = ledger.connect(home)
    ledger.index_run(home, connection, run_id)
    check = only("runs")
    assert (check.result, check.found) == ("note", f"{run_id[:16]}: the supervisor was killed")
    assert "orch list" in check.advice
    assert ledger.live_runs(connection) == [run_id]
    connection.close()


def test_an_orphan_is_told_with_what_ends_it(cold_home: Path) -> None:
    home = open_home()
    child = identify(os.getpid())
    run_id = add_run(home, child=child)
    connection = ledger.connect(home)
    ledger.index_run(home, connection, run_id)
    check = only("runs")
    assert check.found == f"{run_id[:16]}: the supervisor was killed, the program still runs"
    assert "orch stop RUN" in check.advice
    connection.close()


def add_run(home: Home, child: ProcessIdentity | None = None) -> str:
    """A run whose supervisor was a process of an earlier start of this machine."""
    supervisor = ProcessIdentity(machine_id(), "an-earlier-boot", 1, 1.0)
    record = made_records.running(supervisor=supervisor, child=child)
    made_records.write_journal(home, record)
    return record.run_id
