"""Whether `orch doctor` says that logging out would kill runs; the machine is a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.doctor.logout import logout

SESSION = "0::/user.slice/user-1000.slice/session-3.scope\n"
DESKTOP = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.gnome.Terminal.slice/vte-1.scope\n"
LEFT_ALONE = ("ok", "leaves runs alone")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine where logind runs; the user is logged in over ssh."""
    (tmp_path / "run/systemd/sessions").mkdir(parents=True)
    (tmp_path / "var/lib/systemd/linger").mkdir(parents=True)
    write(tmp_path, "proc/self/cgroup", SESSION)
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def found(root: Path, user: str = "anna") -> tuple[str, str]:
    (check,) = logout(root, user)
    return check.result, check.found


def test_where_no_logind_runs_or_no_session_is_nothing_is_said(root: Path, tmp_path: Path) -> None:
    write(root, "proc/self/cgroup", "0::/system.slice/sshd.service\n")
    assert list(logout(root, "anna")) == []
    (root / "run/systemd/sessions").rmdir()
    write(root, "proc/self/cgroup", SESSION)
    assert list(logout(root, "anna")) == []


def test_by_itself_logind_kills_nothing(root: Path) -> None:
    assert found(root) == LEFT_ALONE
    write(root, "etc/systemd/logind.conf", "[Login]\n#KillUserProcesses=yes\n")
    assert found(root) == LEFT_ALONE


def test_a_session_whose_processes_are_killed_is_told_with_what_to_do(root: Path) -> None:
    write(root, "etc/systemd/logind.conf", "[Login]\nKillUserProcesses=yes\n")
    (check,) = logout(root, "anna")
    assert check.result == "note"
    assert "KillUserProcesses" in check.found
    assert check.advice.endswith("loginctl enable-linger, then systemd-run --user --scope orch run -d ...")
    write(root, "var/lib/systemd/linger/anna", "")
    (check,) = logout(root, "anna")  # lingering alone keeps no session
    assert check.result == "note"
    assert check.advice.endswith("session: systemd-run --user --scope orch run -d ...")
    write(root, "proc/self/cgroup", DESKTOP)
    assert found(root) == LEFT_ALONE


@pytest.mark.parametrize(
    ("files", "kills"),
    [
        ({"etc/systemd/logind.conf": "KillUserProcesses=no", "etc/systemd/logind.conf.d/a.conf": "yes"}, True),
        ({"usr/lib/systemd/logind.conf.d/a.conf": "yes", "etc/systemd/logind.conf.d/a.conf": "no"}, False),
        ({"usr/lib/systemd/logind.conf.d/b.conf": "yes", "etc/systemd/logind.conf.d/a.conf": "no"}, True),
        ({"usr/lib/systemd/logind.conf": "yes", "etc/systemd/logind.conf": "# empty"}, False),
        ({"etc/systemd/logind.conf": "KillUserProcesses = true\nKillExcludeUsers=root anna"}, False),
        ({"etc/systemd/logind.conf": "KillUserProcesses=1\nKillOnlyUsers=bob"}, False),
        ({"etc/systemd/logind.conf": "KillUserProcesses=1\nKillOnlyUsers=bob anna"}, True),
    ],
)
def test_the_configuration_is_read_as_logind_reads_it(root: Path, files: dict[str, str], kills: bool) -> None:
    for name, text in files.items():
        write(root, name, "[Login]\n" + (f"KillUserProcesses={text}" if text in ("yes", "no") else text) + "\n")
    assert (found(root)[0] == "note") == kills


def test_root_is_not_killed(root: Path) -> None:
    write(root, "etc/systemd/logind.conf", "[Login]\nKillUserProcesses=yes\n")
    assert found(root, "root") == LEFT_ALONE


def test_below_the_users_own_systemd_lingering_decides(root: Path) -> None:
    write(root, "proc/self/cgroup", DESKTOP)
    (check,) = logout(root, "anna")
    assert (check.result, "enable-linger" in check.advice) == ("note", True)
    write(root, "var/lib/systemd/linger/anna", "")
    assert found(root) == LEFT_ALONE
