"""`orch ps`: the same columns for all that lives, and what to do about what never began."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
from pathlib import Path

import pytest
from made_records import running, write_journal

from e2e.conftest import ORCH, orch
from orchestrator.execute.identity import identify
from orchestrator.fields import fields_to_json
from orchestrator.model import ProcessIdentity
from orchestrator.paths import open_home

COLUMNS = ["RUN", "STATUS", "TIME", "CPU", "MEMORY", "SOURCE", "COMMAND"]
WHY = "the environment could not be solved: " + "no package of this name is in any channel; " * 3 + "nothing was tried."


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "home"))
    return open_home().root


def away(host: str) -> ProcessIdentity:
    return ProcessIdentity(f"id@{host}", "another", 1, 1.0)


def add_run(supervisor: ProcessIdentity | None) -> str:
    record = running(supervisor=supervisor)
    folder = write_journal(open_home(), record).parent
    (folder / "supervisor.json").write_text(json.dumps(supervisor and fields_to_json(supervisor)))
    return record.run_id


def add_beginning(home: Path) -> str:
    """A run that never began, three minutes ago."""
    run_id, at = running().run_id, time.time() - 180
    folder = home / "runs" / run_id
    folder.mkdir()
    asked = {"asked": {"source": "a-project-with-a-long-name", "entry_point": "main"}, "at": at}
    lines = [asked, {"error": f"{WHY}\nand more of it", "at": at}, {"end": 125, "at": at}]
    (folder / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run_id


def on_terminal(columns: int) -> list[str]:
    """What `orch ps` shows in a terminal that is so wide."""
    master, slave = pty.openpty()
    environ = {**os.environ, "COLUMNS": str(columns), "LINES": "24", "NO_COLOR": "1", "TERM": "xterm"}
    with subprocess.Popen([ORCH, "ps"], stdin=slave, stdout=slave, stderr=slave, env=environ) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                shown += os.read(master, 65536)
            except OSError:
                break
        assert process.wait() == 0
    os.close(master)
    return shown.decode().replace("\x1b[2m", "").replace("\x1b[0m", "").splitlines()


def test_the_columns_are_the_same_whatever_runs(home: Path) -> None:
    run_id = add_run(away("anna"))
    header, line = orch("ps").stdout.splitlines()
    assert header.split() == COLUMNS
    assert line.startswith(f"{run_id[:16]}  running on anna, seen ")
    assert "  -    -       " in line
    add_run(identify(os.getpid()))
    assert orch("ps").stdout.splitlines()[0].split() == COLUMNS


def test_what_never_began_is_told_with_its_age_its_project_and_what_clears_it(home: Path) -> None:
    run_id = add_beginning(home)
    _, line = orch("ps").stdout.splitlines()
    assert line.startswith(f"run {run_id[:16]} of a-project-with-a-long-name never began, 3 min ago: the environment")
    assert line.endswith(f"nothing was tried. orch rm {run_id[:16]} clears it")
    orch("rm", run_id[:16])
    assert orch("ps").stdout == "nothing runs; orch list shows what has run.\n"


def test_it_fits_into_eighty_columns(home: Path) -> None:
    add_run(away("a-machine-with-a-rather-long-name"))
    add_run(identify(os.getpid()))
    add_beginning(home)
    shown = on_terminal(80)
    assert max(map(len, shown)) <= 80
    assert shown[0].split()[:4] == COLUMNS[:4]
    assert "clears it" in shown[-1]
