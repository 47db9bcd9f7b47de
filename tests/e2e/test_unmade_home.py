"""A home that is not there: who only reads makes none, and finds nothing in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.conftest import orch, orch_json

NOTHING = {
    "ps": "nothing runs; orch list shows what has run.\n",
    "list": "no runs yet in {home}: orch run REPO makes the first.\n",
    "env list": "no environments yet: orch run REPO makes the first.\n",
}


@pytest.fixture(params=["missing", "strange"])
def unmade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A mistyped ORCH_HOME: a folder that is not there, or that is somebody else's business."""
    home = tmp_path / "mistyped"
    if request.param == "strange":
        home.mkdir()
        (home / "letter.txt").touch()
    monkeypatch.setenv("ORCH_HOME", str(home))
    return home


def test_who_only_reads_makes_nothing(unmade: Path) -> None:
    before = sorted(unmade.rglob("*")) if unmade.exists() else None
    for command, answer in NOTHING.items():
        assert orch(*command.split()).stdout == answer.format(home=unmade)
        assert orch_json(*command.split()) == []
    for command in ("show", "logs", "logs -f", "get latest", "diff a b", "bundle create -o x", "rm latest", "stop 01a"):
        assert orch(*command.split(), code=125).stderr.startswith("orch: "), command
    assert "no run lives" in orch("attach", code=125).stderr
    for command in ("env show 0123", "env diff latest 0123", "env export latest"):
        assert orch(*command.split(), code=125).stderr.startswith("orch: "), command
    assert (sorted(unmade.rglob("*")) if unmade.exists() else None) == before
