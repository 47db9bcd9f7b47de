"""A bundle whose run has texts that a terminal would obey: legal, and shown so that they do no harm."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from bundle.made_bundle import ORCH, Parts, changed, faithful, parts_of, shared_bundle

from orchestrator.bundle.layout import METRICS

EVIL = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202eegnahc\u2028"
"""A title, a cleared screen, a line written over, colours in eight bits, text from right to left, a line's end."""

TO_DO = pytest.mark.xfail(reason="for the lead: shown as it is", strict=True)


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory, channel: Path) -> Parts:
    return parts_of(shared_bundle(tmp_path_factory, channel))


def odd(parts: Parts) -> Parts:
    """The parts with such a text wherever any text may stand."""
    spec, record = parts.spec, parts.record
    for place in ("command", "entry_point", "source.revision", "source.origin", "variables.TZ", "parameters.alpha"):
        spec = changed(spec, place, EVIL)
    spec = changed(spec, "inputs.0.name", EVIL)
    spec = changed(spec, "inputs.0.path", f"inputs/{EVIL}")
    spec["parameters"][EVIL] = "x"
    for place in ("experiment", "reason", "host.hostname", "host.cpu", "host.kernel", "host.os", "outputs.2.path"):
        record = changed(record, place, EVIL)
    record = changed(record, "params", {EVIL: EVIL})
    record = changed(record, "tags", {EVIL: EVIL})
    record = changed(record, "notes", [EVIL])
    record = changed(record, "host.gpus", [EVIL])
    record = changed(record, "host.variables", {"USER": EVIL})
    point = json.dumps([EVIL, 0.5, 0, 0]).encode() + b"\n"
    return parts.put({METRICS: point}).with_run(spec, record)


@pytest.fixture(scope="module")
def bundle(real: Parts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The odd bundle; beside it a home that has its run, and the run that it was made of under another id."""
    folder = tmp_path_factory.mktemp("odd")
    file = faithful(odd(real), folder / "odd.zip")
    other = real.run_id[:-4] + "abcd"
    plain = real.but(run_id=other).with_run(record=real.record | {"run_id": other})
    for one in (file, faithful(plain, folder / "plain.zip")):
        done = orch(folder, "bundle", "import", one)
        assert done.returncode == 0, done.stderr
    return file


def orch(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ORCH, *map(str, arguments)],
        env={**os.environ, "ORCH_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param("bundle verify {file}", 0, id="verify"),
        pytest.param("bundle import {file}", 0, id="import"),
        pytest.param("bundle create {run} -o {folder}/again.zip", 0, id="create"),
        pytest.param("replay {file}", 2, id="the-question"),
        pytest.param("replay {run}", 2, id="the-question-of-a-run"),
        pytest.param("list", 0, id="list"),
        pytest.param("list --json", 0, id="list-json"),
        pytest.param("show {run}", 0, id="show"),
        pytest.param("show {run} --json", 0, id="show-json"),
        pytest.param("diff {run} {other}", 1, id="diff"),
        pytest.param("get {run} -o {folder}/brought", 0, id="get"),
        pytest.param("get {run} no-such-output", 125, id="get-what-is-not-there"),
        pytest.param("replay {run} --yes --input {file}=y", 125, id="an-input-that-is-not-there"),
        pytest.param("ledger rebuild", 0, id="rebuild"),
    ],
)
def test_texts_that_a_terminal_would_obey_are_harmless(arguments: str, code: int, bundle: Path, real: Parts) -> None:
    folder, other = bundle.parent, real.run_id[:-4] + "abcd"
    places = {"file": bundle, "folder": folder, "run": real.run_id, "other": other}
    done = orch(folder, *(part.format(**places) for part in arguments.split()))
    assert done.returncode == code, done.stdout + done.stderr
    for line in (done.stdout + done.stderr).split("\n"):
        assert line.isprintable(), repr(line)


def test_json_has_such_texts_as_they_are(bundle: Path, real: Parts) -> None:
    done = orch(bundle.parent, "show", real.run_id, "--json")
    assert json.loads(done.stdout)["spec"]["command"] == EVIL
