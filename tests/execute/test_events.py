"""The events file: what is taken, what is reported, and nothing lost."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.execute.events import MAX_BROKEN_SHOWN, MOST_BROKEN, MOST_BYTES, MOST_READ, EventReader


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
    (logged,) = reader.rest()
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
        logged = list(reader.rest()) if start + portion >= len(data) else [reader.read()]
        names += [metric["name"] for event in logged if event for metric in event["metrics"]]
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
    assert list(EventReader(path).rest()) == []
    path.unlink()
    path.symlink_to("/dev/zero")
    assert list(EventReader(path).rest()) == []


def names_in(reader: EventReader) -> list[str]:
    return [metric["name"] for logged in reader.rest() for metric in logged["metrics"]]


def test_what_is_left_at_the_end_comes_in_pieces_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "events"
    line = json.dumps({"metric": "m", "value": 1, "pad": "x" * 2**20}) + "\n"
    path.write_text(line * 40 + '{"metric": "last", "value": 1}')
    reader = EventReader(path)
    sizes = [len(logged["metrics"]) for logged in reader.rest()]
    assert len(sizes) > 1
    assert sum(sizes) == 41
    assert reader.offset == path.stat().st_size


def test_a_line_that_is_too_long_is_passed_over_once_and_its_neighbours_are_not(tmp_path: Path) -> None:
    path = tmp_path / "events"
    with path.open("wb") as file:
        file.write(b'{"metric": "first", "value": 1}\n')
        file.write(b'{"tag": "t", "value": "' + b"x" * 2 * MOST_BYTES + b'"}\n')
        file.write(b'{"metric": "second", "value": 1}\nbroken\n')
    for reads in (0, 1, 2, 3, 4, 5, 6):
        reader = EventReader(path)
        early = [logged["metrics"][0]["name"] for _ in range(reads) if (logged := reader.read())]
        assert early + names_in(reader) == ["first", "second"]
        assert [text.partition(" of ")[0] for text in reader.broken] == ["line 2", "line 4"]
        assert "longer than 16 MiB" in reader.broken[0]


def test_a_hole_of_terabytes_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_text('{"metric": "first", "value": 1}\n')
    os.truncate(path, 8 * 2**40)
    reader = EventReader(path)
    assert names_in(reader) == ["first"]
    assert MOST_READ <= reader.offset < 2 * MOST_READ
    assert reader.broken[-1] == "$ORCH_EVENTS is passed over from line 3 on: 256 MiB of it were read."
    assert names_in(reader) == []
    assert reader.read() is None
    assert len(reader.broken) == 2


def test_a_file_that_is_something_else_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b'{"metric": "first", "value": 1}\n' + b"y\n" * 3 * MOST_BROKEN)
    reader = EventReader(path)
    assert names_in(reader) == ["first"]
    assert len(reader.broken) == MAX_BROKEN_SHOWN + 1
    assert f"{MOST_BROKEN} of its lines are broken" in reader.broken[-1]
