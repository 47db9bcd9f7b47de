"""The events file: what is taken, what is reported, and nothing lost."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.execute.events import EventReader


def test_metrics_params_and_tags_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "events"
    lines = [
        {"metric": "rmse", "value": 0.5, "step": 3, "timestamp": 7},
        {"metric": "loss", "value": "NaN", "timestamp": 8},
        {"param": "depth", "value": 4},
        {"tag": "stage", "value": "test"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    logged = EventReader(path).read()
    assert logged is not None
    assert logged["metrics"] == [
        {"name": "rmse", "value": 0.5, "step": 3, "timestamp": 7},
        {"name": "loss", "value": "NaN", "step": 0, "timestamp": 8},
    ]
    assert logged["params"] == {"depth": "4"}
    assert logged["tags"] == {"stage": "test"}
    assert logged["upto"] == path.stat().st_size


def test_a_broken_line_is_reported_with_its_number_and_loses_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_text(
        '{"metric": "a", "value": 1}\nnot json\n\n{"metric": "b"}\n'
        '{"metric": "c", "value": true}\n[]\n{"metric": "d", "value": 2}\n'
        '{"metric": "e", "value": 1, "step": 1000000000000000000000000000000}\n'
    )
    reader = EventReader(path)
    logged = reader.read()
    assert logged is not None
    assert [metric["name"] for metric in logged["metrics"]] == ["a", "d"]
    assert [text.split(" of ")[0] for text in reader.broken] == ["line 2", "line 4", "line 5", "line 6", "line 8"]


def test_a_line_is_taken_when_it_is_whole_or_the_program_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_text('{"metric": "a", "val')
    reader = EventReader(path)
    assert reader.read() is None
    path.write_text('{"metric": "a", "value": 1}')
    assert reader.read() is None
    logged = reader.read(last=True)
    assert logged is not None
    assert logged["metrics"][0]["value"] == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.binary(max_size=40)), st.integers(min_value=1, max_value=7))
def test_any_bytes_are_read_in_any_portions_without_an_error(tmp_path: Path, lines: list[bytes], portion: int) -> None:
    path = tmp_path / "events"
    path.unlink(missing_ok=True)
    reader = EventReader(path)
    data = b"\n".join([*lines, b'{"metric": "last", "value": 1}'])
    names = []
    for start in range(0, len(data), portion):
        with path.open("ab") as file:
            file.write(data[start : start + portion])
        logged = reader.read(last=start + portion >= len(data))
        names += [metric["name"] for metric in (logged or {"metrics": []})["metrics"]]
    assert names[-1] == "last"


def test_a_secret_that_the_program_logs_is_not_recorded_nor_shown(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_text('{"param": "api_key", "value": "hunter2"}\npassword ghp_0123456789abcdefghijABCDEFGHIJ\n')
    reader = EventReader(path)
    logged = reader.read()
    assert logged is not None
    assert logged["params"] == {"api_key": ""}
    assert "ghp_" not in reader.broken[0]


def test_half_a_character_is_a_broken_line(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_text('{"param": "x", "value": "\\ud800"}\n{"metric": "\\udfff", "value": 1}\n')
    reader = EventReader(path)
    assert reader.read() is None
    assert len(reader.broken) == 2


def test_a_pipe_or_a_link_in_its_place_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "events"
    os.mkfifo(path)
    assert EventReader(path).read(last=True) is None
    path.unlink()
    path.symlink_to("/dev/zero")
    assert EventReader(path).read(last=True) is None
