"""What is said of a replay that was made on another machine, and where it is said again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import CONDA_YAML, mlproject, orch, orch_json

Make = Callable[..., Path]
Recorded = Callable[[dict[str, Any]], str]


@pytest.fixture
def recorded(make_project: Make, orch_home: Path) -> Recorded:
    """A function that runs a program of chance, and changes facts of the host in the record (None: takes away)."""

    def run(facts: dict[str, Any]) -> str:
        program = "import os\nopen('x.txt', 'w').write(os.urandom(4).hex())\nopen('same.txt', 'w').write('1')\n"
        files = {"MLproject": mlproject("python main.py"), "conda.yaml": CONDA_YAML, "main.py": program}
        run_id: str = orch_json("run", make_project(files, commit=False), "-q")["run_id"]
        journal = orch_home / "runs" / run_id / "journal.jsonl"
        lines = [json.loads(line) for line in journal.read_text().splitlines()]
        host = lines[0]["host"] | facts
        lines[0]["host"] = {name: value for name, value in host.items() if value is not None}
        journal.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        orch("ledger", "rebuild")
        return run_id

    return run


def test_flags_that_the_other_processor_lacks_stand_beside_the_difference(recorded: Recorded) -> None:
    run_id = recorded({"kernel": "1.2.3"})
    here = orch_json("show", run_id)["host"]
    flags = here["cpu_flags"].split()
    other = recorded({"kernel": "1.2.3", "cpu_flags": " ".join(["avx1024", *flags[1:]])})

    said = orch("replay", other, code=1).stdout
    assert f"  host        cpu_flags: without avx1024; with {flags[0]}\n" in said
    assert f"  host        kernel: {orch_json('show')['host']['kernel']}, recorded 1.2.3\n" in said
    facts = {name: (before, now) for name, before, now in orch_json("show")["verdict"]["host"]}
    assert facts["cpu_flags"] == (["avx1024"], [flags[0]])
    assert set(facts) == {"kernel", "cpu_flags"}


def test_a_record_of_before_that_tells_less_of_its_host_makes_no_noise(recorded: Recorded) -> None:
    run_id = recorded({"cpu_flags": None, "gpus": None})
    verdict = json.loads(orch("replay", run_id, "--json", "-q", code=1).stdout)["verdict"]
    assert verdict["result"] == "differs"
    assert verdict["host"] == []


def test_the_same_words_are_said_again_later(recorded: Recorded) -> None:
    said = orch("replay", recorded({"kernel": "1.2.3"}), code=1).stdout
    lines = said.rstrip().splitlines()
    heading = next(index for index, line in enumerate(lines) if line.startswith("differs: run "))
    verdict = lines[heading + 1 :]
    assert verdict[:2] == ["  2 outputs: 1 identical, 1 different", "  different   x.txt"]
    shown = orch("show").stdout
    assert "\n".join(verdict) in shown
    assert ", differs\n" in shown
    assert "differs" in orch("list").stdout
