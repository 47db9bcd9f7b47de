from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator import store
from orchestrator.compare import OutputRule, OutputVerdict, Rules, compare_outputs, parse_tolerances
from orchestrator.errors import OrchError
from orchestrator.model import Output, RunRecord
from orchestrator.paths import Home

Compare = Callable[..., dict[str, OutputVerdict]]
Stored = Callable[..., RunRecord]
One = Callable[..., OutputVerdict]


def test_every_path_of_both_runs_has_a_verdict_the_recorded_ones_first(home: Home, stored: Stored) -> None:
    recorded = stored({"z.bin": b"same", "gone.txt": "x", "b.txt": "1"})
    replayed = stored({"a-new.txt": "x", "b.txt": "2", "z.bin": b"same"})
    verdicts = compare_outputs(recorded, replayed, home=home, rules=Rules())
    assert [(v.path, v.result) for v in verdicts] == [
        ("z.bin", "identical"),
        ("gone.txt", "missing"),
        ("b.txt", "different"),
        ("a-new.txt", "new"),
    ]


def test_a_renamed_output_is_missing_and_new(compare: Compare) -> None:
    found = compare({"a.csv": "1,2"}, {"b.csv": "1,2"})
    assert {path: verdict.result for path, verdict in found.items()} == {"a.csv": "missing", "b.csv": "new"}


def test_the_same_hash_needs_no_file_in_the_store(home: Home, stored: Stored) -> None:
    recorded, replayed = stored({"a": "1"}), stored({"a": "1"})
    shutil.rmtree(home.store)
    (verdict,) = compare_outputs(recorded, replayed, home=home, rules=Rules())
    assert verdict.result == "identical"


@pytest.mark.parametrize("path", ["plots/a.csv", "mlruns/0/meta.yaml"])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("damage", ["gone", "other content"])
def test_of_a_file_that_the_store_lacks_nobody_can_tell_whether_it_came_out_again(
    home: Home, stored: Stored, path: str, side: int, damage: str
) -> None:
    runs = stored({path: "1", "b.txt": "1.0"}), stored({path: "2", "b.txt": "1.1"})
    blob = store.blob_path(home, runs[side].outputs[0].sha256)
    blob.chmod(0o600)
    blob.write_text("3")
    if damage == "gone":
        blob.unlink()
    with pytest.raises(OrchError) as failed:
        compare_outputs(*runs, home=home, rules=parse_tolerances(["1"]))
    said = str(failed.value)
    assert (
        f"nobody can tell whether {path} came out again: that of run {runs[side].run_id[:16]} can't be read (" in said
    )
    assert ("has no file" if damage == "gone" else "is damaged") in said
    assert said.endswith(f"orch replay --compare {runs[1].run_id[:16]} -t {path}:ignore compares the rest.")
    first, second = compare_outputs(*runs, home=home, rules=parse_tolerances(["1", f"{path}:ignore"]))
    assert (first.result, second.result) == ("ignored", "equivalent")


def test_the_executable_bit_counts_and_no_other_bit_does(home: Home, stored: Stored) -> None:
    recorded = stored({"tool": "x", "data": "y"})
    tool, data = recorded.outputs
    replayed = replace(recorded, outputs=(replace(tool, mode=0o755), replace(data, mode=0o600)))
    first, second = compare_outputs(recorded, replayed, home=home, rules=parse_tolerances(["1e-3"]))
    assert (first.result, first.place) == ("different", "the executable bit")
    assert (first.recorded, first.replayed) == ("0644", "0755")
    assert second.result == "identical"


def test_links_are_compared_by_their_target(home: Home, stored: Stored) -> None:
    def link(target: str) -> Output:
        return Output("last", "a" * 64, len(target), 0o777, target)

    recorded, replayed = stored({}), stored({})

    def verdict(one: Output, other: Output) -> OutputVerdict:
        runs = replace(recorded, outputs=(one,)), replace(replayed, outputs=(other,))
        return compare_outputs(*runs, home=home, rules=Rules())[0]

    assert verdict(link("model.pkl"), link("model.pkl")).result == "identical"
    differs = verdict(link("model-1.pkl"), replace(link("model-2.pkl"), sha256="b" * 64))
    assert (differs.result, differs.kind) == ("different", "link")
    assert (differs.recorded, differs.replayed) == ("a link to model-1.pkl", "a link to model-2.pkl")
    assert verdict(link("model.pkl"), Output("last", "a" * 64, 9)).result == "different"
    own = [f"{home.work}/{run.run_id}/checkout/model.pkl" for run in (recorded, replayed)]
    moved = verdict(link(own[0]), replace(link(own[1]), sha256="b" * 64))
    assert (moved.result, moved.rules) == ("equivalent", ("own-paths-1",))


def test_a_binary_file_differs_at_a_byte(one: One) -> None:
    verdict = one("model.bin", b"\x00" * 5000 + b"\x01\x02", b"\x00" * 5000 + b"\x01\x03")
    assert (verdict.result, verdict.kind, verdict.place) == ("different", "bytes", "byte 5001")
    assert (verdict.recorded, verdict.replayed) == ("02", "03")
    longer = one("model.bin", b"\x00\x01", b"\x00\x01\x02")
    assert (longer.place, longer.recorded, longer.replayed) == ("byte 2", None, "02")


def test_a_tolerance_does_not_help_a_binary_file(one: One) -> None:
    assert one("model.bin", b"\x00\x01", b"\x00\x02", "1e9").result == "different"


def test_a_file_that_is_ignored_is_so_when_it_is_missing_or_new_too(compare: Compare) -> None:
    rules = Rules((OutputRule("logs/**", ignore=("*",)),))
    recorded = {"logs/a": "1", "logs/10:31": b"\0", "logs/c": "1", "b": "1"}
    found = compare(recorded, {"logs/a": "2", "logs/10:32": b"\0", "logs/c": "1", "d": "1"}, rules)
    assert {path: (item.result, item.rules, item.note) for path, item in found.items()} == {
        "logs/a": ("ignored", ("logs/**: ignore *",), None),
        "logs/10:31": ("ignored", ("logs/**: ignore *",), "missing"),
        "logs/c": ("identical", (), None),
        "b": ("missing", (), None),
        "logs/10:32": ("ignored", ("logs/**: ignore *",), "new"),
        "d": ("new", (), None),
    }


def test_fields_that_are_ignored_do_not_stand_for_the_file(compare: Compare) -> None:
    found = compare({"a.json": '{"at": 1}'}, {"b.json": '{"at": 1}'}, "*.json:ignore=at")
    assert {path: item.result for path, item in found.items()} == {"a.json": "missing", "b.json": "new"}


def test_a_huge_file_is_compared_by_its_hash_and_says_so(home: Home, stored: Stored) -> None:
    recorded, replayed = stored({"a.csv": "1\n"}), stored({"a.csv": "2\n"})
    huge = replace(recorded, outputs=(replace(recorded.outputs[0], size=10**12),))
    (verdict,) = compare_outputs(huge, replayed, home=home, rules=parse_tolerances(["9"]))
    assert verdict.result == "different"
    assert verdict.note == "a file above 100 MB is compared by its hash"


def test_what_a_terminal_would_act_on_is_not_shown(one: One) -> None:
    verdict = one("log.txt", "\x1b[2J one\x07\n", "\x1b]0;t\x07 two\n")
    assert verdict.recorded is not None and verdict.replayed is not None
    assert (verdict.recorded + verdict.replayed).isprintable()
    key = one("a.json", '{"\\u001b[2J": 1}', '{"\\u001b[2J": 2}')
    assert key.place is not None and key.place.isprintable()


def test_long_values_are_cut_where_they_differ(one: One) -> None:
    start, end = "a" * 500, "z" * 500
    verdict = one("log.txt", f"{start}ONE{end}", f"{start}TWO{end}")
    assert verdict.recorded is not None and verdict.replayed is not None
    assert "ONE" in verdict.recorded and "TWO" in verdict.replayed
    assert max(len(verdict.recorded), len(verdict.replayed)) <= 80
