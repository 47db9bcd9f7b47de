"""A bundle of each version that was ever released is read for ever. A change of the layout adds a file here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from bundle.made_bundle import shared_bundle

from orchestrator import store
from orchestrator.bundle.create import create_bundle
from orchestrator.bundle.land import import_bundle
from orchestrator.model import latest_metrics
from orchestrator.paths import open_home

RELEASED = Path(__file__).parents[1] / "fixtures" / "bundle-1.zip"


def test_a_bundle_of_version_1_is_taken_in_and_made_again(tmp_path: Path) -> None:
    home = open_home({"ORCH_HOME": str(tmp_path / "home")}, offline=True)
    done = import_bundle(RELEASED, home=home)
    record = done.record
    assert (record.run_id, record.status, record.name) == ("01a20973fa7976138a1d6b46ca943d91", "finished", "kept")
    assert latest_metrics(record) == {"total": 1.5}
    assert [point.value for point in record.metrics] == [4.5, 2.25, 1.5]
    assert [store.read_blob(home, output.sha256) for output in record.outputs] == [b"4.5\n"]
    assert store.read_blob(home, record.spec.inputs[0].sha256) == b"1\n2\n"
    assert (home.run(record.run_id) / "stdout.log").read_text() == "done\n"
    create_bundle(record.run_id, tmp_path / "again.zip", home=home)
    assert (tmp_path / "again.zip").read_bytes() == RELEASED.read_bytes()


def test_real_bundles_are_valid_process_run_crates(
    tmp_path_factory: pytest.TempPathFactory, channel: Path, issues_of: Callable[..., list[list[list[str]]]]
) -> None:
    found = issues_of(RELEASED, shared_bundle(tmp_path_factory, channel))
    assert found == [[], []]
