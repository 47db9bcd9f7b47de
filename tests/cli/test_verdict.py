"""How a verdict looks: within 80 columns, the worst first, nothing that a terminal would obey."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.verdict import verdict_lines

AS_RECORDED = "as recorded; every file was checked"


@pytest.fixture(autouse=True)
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def output(path: str, result: str, **known: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(("place", "recorded", "replayed", "largest_absolute", "largest_relative", "note"))
    return {"path": path, "result": result, "kind": "bytes", "rules": [], **nothing, **known}


def metric(name: str, result: str, recorded: Any, replayed: Any, step: int | None = None) -> dict[str, Any]:
    return {"name": name, "result": result, "recorded": recorded, "replayed": replayed, "step": step}


def lines(
    *outputs: dict[str, Any], metrics: Any = (), host: Any = (), params: Any = (), codes: Any = (0, 0)
) -> list[str]:
    bad = ("different", "missing", "new")
    same = codes[0] == codes[1] and not any(item["result"] in bad for item in (*outputs, *metrics, *params))
    verdict = {
        "result": "reproduced" if same else "differs",
        "outputs": list(outputs),
        "metrics": list(metrics),
        "params": list(params),
        "exit_code": list(codes),
        "environment": AS_RECORDED,
        "host": list(host),
    }
    return list(verdict_lines(verdict))


def test_all_the_same_is_three_lines() -> None:
    assert lines(output("a", "identical"), output("b", "identical"), metrics=[metric("m", "equal", 1, 1)]) == [
        "  2 outputs identical",
        "  1 metric identical",
        f"  environment {AS_RECORDED}",
    ]


def test_what_is_known_of_an_output_stands_below_it() -> None:
    known = {"place": "/when", "recorded": "17.25", "replayed": "40.5"}
    assert lines(
        output("a", "identical"),
        output("out.json", "different", **known, largest_absolute=23.25, largest_relative=1.348),
        output("short.txt", "different", place="line 9", recorded="end"),
        output("big.bin", "different", note="a file above 100 MB is compared by its hash", rules=["zip-content-1"]),
    ) == [
        "  4 outputs: 1 identical, 3 different",
        "  different   out.json",
        "              first at /when: 40.5, recorded 17.25",
        "              largest error 23.2, relative 1.35",
        "  different   short.txt",
        "              first at line 9: nothing, recorded end",
        "  different   big.bin",
        "              a file above 100 MB is compared by its hash",
        "              compared by zip-content-1",
        f"  environment {AS_RECORDED}",
    ]


def test_a_long_value_and_the_recorded_one_stand_below_each_other() -> None:
    known = {"place": 'row 2, column "loss"', "replayed": "0.03467097012323439", "recorded": "0.2075078459023887"}
    assert lines(output("loss.csv", "different", **known, largest_absolute=0.25, largest_relative=1.0))[1:-1] == [
        "  different   loss.csv",
        '              first at row 2, column "loss": 0.03467097012323439',
        "              recorded 0.2075078459023887; largest error 0.25, relative 1",
    ]


def test_the_worst_comes_first_and_the_rules_of_what_is_equivalent_are_named() -> None:
    shown = lines(
        output("e", "equivalent", rules=["own-paths-1", "own-run-id-1"]),
        output("n", "new"),
        output("m", "missing"),
        output("d", "different"),
    )
    assert shown[:-1] == [
        "  4 outputs: 1 equivalent, 1 different, 1 new, 1 missing",
        "  missing     m",
        "  new         n",
        "  different   d",
        "  equivalent  e",
        "              by own-paths-1, own-run-id-1",
    ]


def test_many_outputs_are_counted_and_some_are_told() -> None:
    shown = lines(*(output(f"{number}", "missing") for number in range(40)), output("last", "different"))
    assert shown[6] == "  different   last"
    assert len([line for line in shown if line.startswith("  missing ")]) == 5
    assert "  and 35 more outputs; --json has them all" in shown


def test_of_each_result_at_least_one_is_told() -> None:
    many = [output(f"{number}", "different") for number in range(40)]
    shown = lines(*many, output("e", "equivalent"), output("n", "new"), output("m", "missing"))
    assert [line.split()[0] for line in shown[1:7]] == ["missing", "new", *["different"] * 3, "equivalent"]


def test_what_is_ignored_is_told_with_the_rule() -> None:
    rules = ["logs/**: ignore *"]
    shown = lines(output("logs/1", "ignored", rules=rules, note="missing"), output("logs/2", "ignored", rules=rules))
    assert shown[:-1] == [
        "  2 outputs ignored",
        "  ignored     logs/1",
        "              by logs/**: ignore *; missing",
        "  ignored     logs/2",
        "              by logs/**: ignore *",
    ]


def test_a_failure_that_came_out_again_is_told() -> None:
    assert lines(output("a", "identical"), codes=(1, 1))[0] == "  exit code   1, as recorded: it failed again"


def test_patterns_that_nothing_matched_are_told_at_the_end() -> None:
    verdict = {"result": "reproduced", "outputs": [], "metrics": [], "exit_code": [0, 0], "host": []}
    verdict |= {"environment": AS_RECORDED, "unmatched": ["*.cvs", "metrics:rsme", "metrics"]}
    assert list(verdict_lines(verdict))[-3:] == [
        "  note        -t *.cvs: there is no output like that",
        "  note        -t metrics:rsme: there is no metric like that",
        "  note        -t metrics: there is no metric like that",
    ]


def test_the_rules_of_outputs_that_are_not_told_one_by_one_are_named_too() -> None:
    outputs = [output(f"out{i}", "equivalent", rules=["json-1"]) for i in range(6)]
    outputs += [output("z", "equivalent", rules=["mlflow-ids-1", "json-1"])]
    shown = lines(*outputs)
    assert "  and 1 more output; --json has them all" in shown
    assert "  rules       mlflow-ids-1 for the others" in shown


def test_metrics_are_a_table_with_digits_enough_to_tell_them_apart() -> None:
    shown = lines(
        metrics=[
            metric("r2", "equal", 1, 1),
            metric("rmse", "different", 0.7744518290123456, 0.7744518290123999, 0),
            metric("loss", "different", 0.5, None, 7),
            metric("odd", "different", "NaN", 1.0, 0),
            metric("mae", "within tolerance", 0.1, 0.1000000001),
        ]
    )
    assert shown[:-1] == [
        "  5 metrics: 1 identical, 1 equivalent, 3 different",
        "  RESULT      METRIC  RECORDED         REPLAYED         DIFFERENCE",
        "  different   rmse    0.7744518290123  0.7744518290124  +5.44e-14",
        "  different   loss    0.5              none             at step 7",
        "  different   odd     NaN              1",
        "  equivalent  mae     0.1              0.1000000001     +1e-10",
    ]


def test_the_rules_by_which_a_metric_is_taken_are_named_below_it() -> None:
    near = {**metric("mae", "within tolerance", 0.1, 0.1001, 3), "rules": ["m*: tolerance rel=0.01"]}
    passed = {**metric("seconds", "ignored", 1.0, 2.0), "rules": ["seconds: ignore *"]}
    assert lines(metrics=[passed, near])[:-1] == [
        "  2 metrics: 1 ignored, 1 equivalent",
        "  RESULT      METRIC   RECORDED  REPLAYED  DIFFERENCE",
        "  equivalent  mae      0.1       0.1001    +0.0001 at step 3",
        "              by m*: tolerance rel=0.01",
        "  ignored     seconds  1         2         +1",
        "              by seconds: ignore *",
    ]


def test_parameters_that_the_program_logged_are_told() -> None:
    one = {"name": "depth", "result": "different", "recorded": "3", "replayed": "4", "rules": []}
    own = {"name": "path", "result": "equivalent", "recorded": "/a", "replayed": "/b", "rules": ["own-paths-1"]}
    gone: dict[str, Any] = {"name": "seed", "result": "missing", "recorded": "17", "replayed": None, "rules": []}
    assert lines(params=[own, one, gone])[:-1] == [
        "  3 logged parameters: 1 equivalent, 1 different, 1 missing",
        "  missing     seed: none, recorded 17",
        "  different   depth: 4, recorded 3",
        "  equivalent  path: /b, recorded /a",
        "              by own-paths-1",
    ]


def test_everything_fits_into_80_columns() -> None:
    shown = lines(
        output(
            "results/" * 20 + "model.safetensors",
            "different",
            place="line 3, column " + "x" * 90,
            recorded="1" * 70,
            replayed="word " * 20,
            largest_absolute=1e-300,
            largest_relative=1e300,
            rules=["plots/**/*.csv: tolerance rel=1e-06,abs=1e-09", "own-paths-1", "x" * 150],
        ),
        metrics=[metric("validation/" + "x" * 80, "within tolerance", 0.1234567890123456, 0.1234567890123457)],
        host=[
            ("cpu", "Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz", "AMD EPYC 7763 64-Core Processor"),
            ("cpu_flags", [f"avx512_{number}" for number in range(30)], [f"flag{number}" for number in range(30)]),
            ("gpus", ["NVIDIA A100-SXM4-80GB, driver 535.104.05"] * 8, []),
        ],
    )
    assert max(map(len, shown)) <= 80
    assert shown[1].endswith("/model.safetensors")
    assert shown[1].startswith("  different   results/")


def test_names_and_values_reach_the_terminal_as_text() -> None:
    red = "\x1b[31mred\n\x07"
    shown = lines(
        output(red, "different", place=red, recorded=red, replayed=red, note=red, rules=[red]),
        output("a", red, largest_absolute=red),
        metrics=[metric(red, "missing", red, None, red)],  # type: ignore[arg-type]  # as a damaged record has it
        host=[("cpu", red, "b"), ("cpu_flags", [red], []), (red, None, red)],
    )
    assert all(line.isprintable() for line in shown)
    assert '  different   "\\u001b[31mred\\n\\u0007"' in shown


def test_facts_of_the_host_stand_beside_a_difference_only() -> None:
    host = [("kernel", "5.15", "6.1"), ("OMP_NUM_THREADS", None, "4"), ("cpu_flags", ["hle", "avx512f"], ["sse4a"])]
    assert lines(output("a", "identical"), host=host)[-1] == f"  environment {AS_RECORDED}"
    assert lines(output("a", "missing"), host=host)[-3:] == [
        "  host        kernel: 6.1, recorded 5.15",
        "  host        OMP_NUM_THREADS: 4, recorded none",
        "  host        cpu_flags: without avx512f, hle; with sse4a",
    ]


def test_gpus_of_one_kind_are_counted() -> None:
    host = [("gpus", ["NVIDIA A100-SXM4-80GB"] * 8, ["NVIDIA T4", "NVIDIA L4"])]
    assert lines(output("a", "missing"), host=host)[-1] == (
        "  host        gpus: NVIDIA T4; NVIDIA L4, recorded 8 x NVIDIA A100-SXM4-80GB"
    )


def test_another_exit_code_comes_first() -> None:
    assert lines(codes=(0, -9)) == [
        "  exit code   -9, recorded 0",
        "  there are no outputs and no metrics: only the exit code was compared",
        f"  environment {AS_RECORDED}",
    ]


def test_a_terminal_gets_colours_for_what_is_wrong_unless_they_are_unwanted() -> None:
    alarming = output("a", "different"), output("b", "identical"), metric("m", "new", None, 1.0)
    verdict = {
        "result": "differs",
        "outputs": alarming[:2],
        "metrics": alarming[2:],
        "exit_code": [0, 0],
        "environment": AS_RECORDED,
        "host": [],
    }
    plain = [
        "  2 outputs: 1 identical, 1 different",
        "  different   a",
        "  1 metric new",
        "  RESULT  METRIC  RECORDED  REPLAYED  DIFFERENCE",
        "  new     m       none      1",
        f"  environment {AS_RECORDED}",
    ]
    assert on_terminal(verdict, NO_COLOR="1") == plain
    coloured = on_terminal(verdict)
    assert coloured[1] == "  \x1b[31mdifferent\x1b[0m   a"
    assert coloured[4] == "  \x1b[33mnew\x1b[0m     m       none      1"
    assert list(verdict_lines(verdict)) == plain


def on_terminal(verdict: dict[str, Any], **variables: str) -> list[str]:
    """The lines as a terminal gets them."""
    program = f"from orchestrator.cli.verdict import verdict_lines; print(*verdict_lines({verdict!r}), sep='\\n')"
    environ = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | variables
    master, slave = pty.openpty()
    try:
        root = Path(__file__).parents[2]
        subprocess.run([sys.executable, "-c", program], cwd=root, stdout=slave, check=True, env=environ)
        return os.read(master, 65536).decode().splitlines()
    finally:
        os.close(slave)
        os.close(master)
