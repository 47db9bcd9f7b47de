from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from made_records import HOST, LOCK, made_spec

from orchestrator.compare import OutputVerdict, Rules, compare_outputs
from orchestrator.model import EnvironmentRef, RunRecord, new_run_id
from orchestrator.paths import Home

Stored = Callable[..., RunRecord]
One = Callable[..., OutputVerdict]


@pytest.fixture
def of_texts(home: Home, stored: Stored) -> Callable[..., OutputVerdict]:
    """The verdict on one file that two runs wrote; `text` makes its content of the run's id."""

    def verdict(
        text: Callable[[str], str],
        other: Callable[[str], str] | None = None,
        name: str = "log.txt",
        **changes: dict[str, Any],
    ) -> OutputVerdict:
        ids = new_run_id(), new_run_id()
        recorded = stored({name: text(ids[0])}, run_id=ids[0], **changes.get("recorded", {}))
        replayed = stored({name: (other or text)(ids[1])}, run_id=ids[1], **changes.get("replayed", {}))
        return compare_outputs(recorded, replayed, home=home, rules=Rules())[0]

    return verdict


def test_the_runs_own_ids_do_not_count(of_texts: One) -> None:
    verdict = of_texts(lambda run: f"run {run}, also {uuid.UUID(run)}\nrmse 0.5\n")
    assert (verdict.result, verdict.rules, verdict.kind) == ("equivalent", ("own-run-id-1",), "text")


def test_an_id_of_neither_run_counts(of_texts: One) -> None:
    assert of_texts(lambda run: f"run {new_run_id()}").result == "different"


def test_the_id_of_the_other_run_counts(home: Home, stored: Stored) -> None:
    ids = new_run_id(), new_run_id()
    recorded = stored({"a.txt": f"from {ids[1]}"}, run_id=ids[0])
    replayed = stored({"a.txt": f"from {ids[0]}"}, run_id=ids[1])
    assert compare_outputs(recorded, replayed, home=home, rules=Rules())[0].result == "different"


@pytest.mark.parametrize("folder", ["work", "runs"])
def test_the_runs_own_folders_do_not_count_here_or_on_another_machine(of_texts: One, home: Home, folder: str) -> None:
    places = iter([f"/scratch/ada/orch/{folder}/1001", str(home.work if folder == "work" else home.runs)])
    verdict = of_texts(lambda run: f'{{"at": "{next(places)}/{run}/x.csv"}}', name="a.json")
    assert (verdict.result, verdict.rules, verdict.kind) == ("equivalent", ("own-paths-1",), "json")


def test_a_path_with_the_runs_id_behind_another_folder_counts(of_texts: One) -> None:
    places = iter(["/data/one", "/data/two"])
    verdict = of_texts(lambda run: f"wrote {next(places)}/{run}/x.csv")
    assert verdict.result == "different"
    assert verdict.recorded == "wrote /data/one/‹own run id›/x.csv"


def test_a_server_in_a_url_counts(of_texts: One) -> None:
    servers = iter(["one", "two"])
    assert of_texts(lambda run: f"http://{next(servers)}/work/{run}/x").result == "different"


def test_the_environments_folder_does_not_count(of_texts: One, home: Home) -> None:
    other = "8c" * 32
    lines = iter(
        [f"/home/ada/.orch/envs/{LOCK}/lib/x.py:12: warning", f"{home.envs}/{other}-{'0' * 16}.2/lib/x.py:12: warning"]
    )
    spec = made_spec(environment=EnvironmentRef(other, "osx-arm64"))
    verdict = of_texts(lambda run: next(lines), replayed={"pinned": spec})
    assert (verdict.result, verdict.rules) == ("equivalent", ("own-paths-1",))


def test_the_users_home_does_not_count(of_texts: One) -> None:
    host = {**HOST, "variables": {"HOME": "/Users/grace"}}
    homes = iter(["/home/ada", "/Users/grace"])
    verdict = of_texts(lambda run: f"cache in {next(homes)}/.cache", replayed={"host": host})
    assert (verdict.result, verdict.rules) == ("equivalent", ("own-paths-1",))
    homes = iter(["/home/adam", "/Users/gracey"])
    assert of_texts(lambda run: f"cache in {next(homes)}/x", replayed={"host": host}).result == "different"


def test_what_differs_besides_own_names_is_told_with_its_place(of_texts: One) -> None:
    values = iter([0.5, 0.75])
    verdict = of_texts(lambda run: f"run {run}\nrmse {next(values)}\n")
    assert (verdict.result, verdict.place) == ("different", "line 2")
    assert (verdict.recorded, verdict.replayed) == ("0.5", "0.75")
    assert (verdict.largest_absolute, verdict.largest_relative) == (0.25, 0.5)


def test_a_text_that_pretends_to_hold_a_placeholder_is_not_taken_for_one(of_texts: One) -> None:
    assert of_texts(lambda run: f"run {run}", lambda run: "run ‹own run id›").result == "different"


def test_a_long_text_without_blanks_is_read_in_no_time(of_texts: One) -> None:
    noise = "/abc" * 250_000
    assert of_texts(lambda run: f"{noise}/{run}{noise}").result == "equivalent"


def test_an_output_whose_path_has_the_runs_id_is_found_again(home: Home, stored: Stored) -> None:
    recorded, replayed = stored({"out/RUN_ID/a.csv": "1"}), stored({"out/RUN_ID/a.csv": "1"})
    (verdict,) = compare_outputs(recorded, replayed, home=home, rules=Rules())
    assert (verdict.path, verdict.result) == (recorded.outputs[0].path, "equivalent")
    assert verdict.rules == ("own-run-id-1",)
