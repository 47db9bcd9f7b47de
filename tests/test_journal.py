from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import journal
from orchestrator.errors import OrchError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
EVENTS = st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


@given(batches=st.lists(EVENTS, max_size=4))
@settings(deadline=None)
def test_what_was_appended_is_read(
    batches: list[list[dict[str, object]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    for batch in batches:
        journal.append(path, batch)
    assert journal.read(path) == ([event for batch in batches for event in batch], [])


def test_file_names_that_are_no_unicode_come_back(path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    journal.append(path, [{"path": name}])
    assert journal.read(path) == ([{"path": name}], [])
    assert path.read_bytes().isascii()


def test_a_journal_that_is_not_there_is_empty(path: Path) -> None:
    assert journal.read(path) == ([], [])


def test_nan_is_refused_and_nothing_is_written(path: Path) -> None:
    with pytest.raises(ValueError):
        journal.append(path, [{"event": "one"}, {"value": float("nan")}])
    assert not path.exists()


@pytest.mark.parametrize("cut", range(1, 18))
def test_an_event_cut_short_by_a_kill_is_passed_over(path: Path, cut: int) -> None:
    journal.append(path, [{"event": "first"}, {"event": "second"}])
    os.truncate(path, path.stat().st_size - cut - 1)
    assert journal.read(path) == ([{"event": "first"}], [])


def test_an_event_that_lost_only_its_newline_counts(path: Path) -> None:
    journal.append(path, [{"event": "first"}, {"event": "second"}])
    os.truncate(path, path.stat().st_size - 1)
    both = [{"event": "first"}, {"event": "second"}]
    assert journal.read(path) == (both, [])
    journal.append(path, [{"event": "third"}])
    assert journal.read(path) == ([*both, {"event": "third"}], [])


def test_a_torn_line_does_not_swallow_the_next_event(path: Path) -> None:
    path.write_bytes(b'{"event":"first"}\n{"event":"sec')
    journal.append(path, [{"event": "third"}])
    events, broken = journal.read(path)
    assert events == [{"event": "first"}, {"event": "third"}]
    assert broken == [f"{path}, line 2: not a JSON object; passed over."]


@pytest.mark.parametrize("line", [b"[1]", b"null", b"{", b"\xff\xfe", b'{"a":' * 100_000, b"\x00"])
def test_a_broken_line_is_named_and_the_rest_is_read(path: Path, line: bytes) -> None:
    path.write_bytes(b'{"event":"first"}\n' + line + b'\n{"event":"last"}\n')
    events, broken = journal.read(path)
    assert events == [{"event": "first"}, {"event": "last"}]
    assert len(broken) == 1
    assert "line 2" in broken[0]


def test_a_journal_that_cannot_be_written_is_an_orch_error(tmp_path: Path) -> None:
    with pytest.raises(OrchError, match="can't be written: No such file"):
        journal.append(tmp_path / "gone" / "journal.jsonl", [{"event": "x"}])
    with pytest.raises(OrchError, match="can't be read: Is a directory"):
        journal.read(tmp_path)


def test_many_processes_append_and_no_event_is_lost(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from orchestrator import journal\n"
        "for i in range(50): journal.append(Path(sys.argv[1]), [{'who': sys.argv[2], 'i': i, 'pad': 'x' * 500}])"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), str(who)]) for who in range(8)]
    assert [writer.wait() for writer in writers] == [0] * 8
    events, broken = journal.read(path)
    assert broken == []
    for who in range(8):
        assert [event["i"] for event in events if event["who"] == str(who)] == list(range(50))


def test_what_a_killed_writer_acknowledged_is_there(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from orchestrator import journal\n"
        "for i in range(100_000):\n"
        "    journal.append(Path(sys.argv[1]), [{'i': i, 'pad': 'x' * 3000}], sync=True); print(i, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline() for _ in range(20)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.stdout.readlines()
    events, broken = journal.read(path)
    assert broken == []
    assert [event["i"] for event in events][: len(acknowledged)] == [int(line) for line in acknowledged]
    for line in path.read_bytes().splitlines():
        json.loads(line)


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "link", "socket"])
def test_what_is_no_regular_file_holds_nobody_up(path: Path, kind: str) -> None:
    target = path.with_name("target")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    else:
        os.mkfifo(target) if "pipe" in kind else target.write_text('{"event": "another\'s"}\n')
        path.symlink_to(target)
    with pytest.raises(OrchError, match="can't be read"):
        journal.read(path)
    with pytest.raises(OrchError, match="can't be written"):
        journal.append(path, [{"event": "x"}])
    with pytest.raises(OrchError, match="can't be read"), journal.alone(path):
        pass


def test_a_journal_that_is_larger_than_any_is_not_read(path: Path) -> None:
    journal.append(path, [{"event": "first"}])
    os.truncate(path, 8 * 2**40)
    with pytest.raises(OrchError, match="8796093022208 bytes"):
        journal.read(path)
