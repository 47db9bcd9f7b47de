"""Two runs with real files in a real store, and what comes of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from made_records import finished, made_home

from orchestrator import store
from orchestrator.compare import OutputVerdict, Rules, compare_outputs, parse_tolerances
from orchestrator.model import Output, RunRecord, new_run_id
from orchestrator.paths import Home

Content = str | bytes
Files = Mapping[str, Content]
Compare = Callable[..., dict[str, OutputVerdict]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return made_home(tmp_path / "orch home")


@pytest.fixture
def stored(home: Home, tmp_path: Path) -> Callable[..., RunRecord]:
    """A finished run whose outputs are `files`; in text, `RUN_ID` stands for its id."""

    def make(files: Files, **changes: Any) -> RunRecord:
        run_id = changes.pop("run_id", None) or new_run_id()
        outputs = []
        for path, content in files.items():
            path = path.replace("RUN_ID", run_id)
            data = content.replace("RUN_ID", run_id).encode() if isinstance(content, str) else content
            place = tmp_path / os.urandom(8).hex()
            place.write_bytes(data)
            outputs.append(Output(path, *store.put_file(home, place, move=True)))
        return finished(run_id=run_id, outputs=tuple(outputs), metrics=(), **changes)

    return make


@pytest.fixture
def compare(home: Home, stored: Callable[..., RunRecord]) -> Compare:
    """The verdicts, by path, on two runs with these outputs; `rules` may be the texts of `-t`."""

    def both(recorded: Files, replayed: Files, *rules: Rules | str) -> dict[str, OutputVerdict]:
        texts = [rule for rule in rules if isinstance(rule, str)]
        given = next((rule for rule in rules if isinstance(rule, Rules)), parse_tolerances(texts))
        verdicts = compare_outputs(stored(recorded), stored(replayed), home=home, rules=given)
        found = {verdict.path: verdict for verdict in verdicts}
        assert len(found) == len(verdicts)
        return found

    return both


@pytest.fixture
def one(compare: Compare) -> Callable[..., OutputVerdict]:
    """The verdict on one output of this name and these two contents."""

    def verdict(name: str, recorded: Content, replayed: Content, *rules: Rules | str) -> OutputVerdict:
        return compare({name: recorded}, {name: replayed}, *rules)[name]

    return verdict
