"""An artifact of a run, named as MLflow's clients name it, is a file or a folder for another run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_records import finished, made_home, write_journal

from orchestrator import store
from orchestrator.artifact_input import artifact
from orchestrator.errors import OrchError
from orchestrator.model import Output, RunRecord
from orchestrator.paths import Home

FILES = {"artifacts/data/a.txt": b"a", "artifacts/data/deep/b c.txt": b"b", "artifacts/database": b"c", "x.txt": b"d"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return made_home(tmp_path / "home")


@pytest.fixture
def made(home: Home) -> RunRecord:
    """A run that has FILES for its outputs."""
    outputs = tuple(Output(path, store.put_bytes(home, data), len(data)) for path, data in FILES.items())
    record = replace(finished(), outputs=outputs)
    write_journal(home, record)
    return record


@pytest.mark.parametrize("address", ["runs:/{}", "mlflow-artifacts:/{}/artifacts", "mlflow-artifacts:/17/{}/artifacts"])
def test_a_folder_and_a_file_are_copied_out(home: Home, made: RunRecord, address: str) -> None:
    root = address.format(made.run_id)
    data = artifact(f"{root}/data/", home=home)
    assert data is not None
    assert data.name == "data"
    found = {path.relative_to(data).as_posix(): path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert found == {"a.txt": b"a", "deep/b c.txt": b"b"}
    assert data.is_relative_to(home.cache)

    file = artifact(f"{root}/data/deep/b c.txt", home=home)
    assert file is not None
    assert (file.name, file.read_bytes()) == ("b c.txt", b"b")
    whole = artifact(root, home=home)
    assert whole is not None
    assert sorted(path.name for path in whole.iterdir()) == ["data", "database"]

    file.write_bytes(b"changed by somebody")
    again = artifact(f"{root}/data/deep/b c.txt", home=home)
    assert again is not None
    assert again.read_bytes() == b"b"


def test_other_addresses_are_not_for_it(home: Home, made: RunRecord) -> None:
    for uri in ("https://example.org/a", "s3://runs/a", "runs:/latest/a", "mlflow-artifacts:/1/models/m-1/artifacts/a"):
        assert artifact(uri, home=home) is None
    assert artifact(f"mlflow-artifacts://example.org/{made.run_id}/artifacts/data", home=home) is None


def test_what_is_not_there_is_told(home: Home, made: RunRecord) -> None:
    for path in ("dat", "data/a", "../x.txt", "data/../../x.txt"):
        with pytest.raises(OrchError, match=f"run {made.run_id[:16]} has no artifact {path}"):
            artifact(f"runs:/{made.run_id}/{path}", home=home)
    with pytest.raises(OrchError, match="there is no run 0000"):
        artifact(f"runs:/{'0' * 32}/data", home=home)


def test_a_file_that_the_store_has_lost_is_told(home: Home, made: RunRecord) -> None:
    store.remove_blob(home, made.outputs[0].sha256)
    with pytest.raises(OrchError, match="has no file"):
        artifact(f"runs:/{made.run_id}/data", home=home)
