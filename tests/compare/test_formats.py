from __future__ import annotations

import gzip
import io
import json
import os
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.compare import OutputRule, OutputVerdict, Rules, Tolerance

One = Callable[..., OutputVerdict]


def ignoring(pattern: str, *names: str) -> Rules:
    return Rules((OutputRule(pattern, ignore=names),))


# --- JSON -------------------------------------------------------------------------------------------------------


def test_a_number_of_json_within_the_tolerance_is_equivalent(one: One) -> None:
    verdict = one("m.json", '{"a": {"rmse": [1, 2.0]}}', '{"a": {"rmse": [1, 2.000001]}}', "m.json:1e-6")
    assert (verdict.result, verdict.kind) == ("equivalent", "json")
    assert verdict.rules == ("m.json: tolerance rel=1e-06",)
    assert verdict.largest_absolute == pytest.approx(1e-6)
    assert verdict.largest_relative == pytest.approx(5e-7)


def test_a_number_of_json_beyond_the_tolerance_is_told_by_its_pointer(one: One) -> None:
    verdict = one("m.json", '{"a/b": [1, {"x~": 2.0}], "c": 1}', '{"a/b": [1, {"x~": 2.1}], "c": 1.1}', "abs=0.01")
    assert (verdict.result, verdict.place) == ("different", "/a~1b/1/x~0")
    assert (verdict.recorded, verdict.replayed) == ("2.0", "2.1")
    assert verdict.largest_absolute == pytest.approx(0.1)
    assert verdict.rules == ()


def test_the_place_in_json_is_right_behind_lists_of_objects(one: One) -> None:
    recorded = {"a": [{"x": {"y": [1]}, "z": {}}, {"x": {"y": [1, 2]}}], "b": [[1], [2]]}
    text = json.dumps(recorded)
    assert one("m.json", text, text.replace("[1, 2]", "[1, 3]")).place == "/a/1/x/y/1"
    assert one("m.json", text, text.replace("[[1], [2]]", "[[1], [3]]")).place == "/b/1/0"


def test_nothing_declared_is_byte_for_byte_and_the_place_is_told(one: One) -> None:
    verdict = one("m.json", '{"a": 1, "b": 2}', '{"b": 2, "a": 1}')
    assert (verdict.result, verdict.place) == ("different", "line 1")
    assert verdict.note == "the same values, written in another way"
    assert one("m.json", '{"a": 1}', '{"a": 1}\n').result == "different"
    assert one("m.json", '{"a": 1, "b": 2}', '{"b": 2, "a": 1.0}\n', "0").result == "equivalent"
    near = one("m.json", '{"a": 1.0}', '{"a": 1.0000000000000002}')
    assert (near.result, near.place, near.largest_absolute) == ("different", "/a", 2**-52)


@pytest.mark.parametrize(
    ("recorded", "replayed", "place"),
    [
        ('{"a": 1}', '{"a": true}', "/a"),
        ('{"a": 1}', '{"a": "1"}', "/a"),
        ('{"a": "1.0"}', '{"a": "1.1"}', "/a"),
        ('{"a": 1}', '{"a": null}', "/a"),
        ('{"a": 1}', "{}", "/a"),
        ("{}", '{"a": null}', "/a"),
        ("[1, 2]", "[1]", "/1"),
        ("[[]]", "[{}]", "/0"),
        ('{"a": NaN}', '{"a": 1}', "/a"),
        ('{"a": Infinity}', '{"a": -Infinity}', "/a"),
        ("1", "[1]", "the whole value"),
        ('{"a": 1' + "0" * 400 + "}", '{"a": 2' + "0" * 400 + "}", "/a"),
        ('{"a": 9007199254740993}', '{"a": 1' + "0" * 400 + "}", "/a"),
        ('{"a": 1.5}', '{"a": 1' + "0" * 400 + "}", "/a"),
    ],
)
def test_no_tolerance_makes_other_things_of_json_equal(one: One, recorded: str, replayed: str, place: str) -> None:
    verdict = one("m.json", recorded, replayed, "rel=0.5")
    assert (verdict.result, verdict.place, verdict.kind) == ("different", place, "json")


def test_nan_is_nan_and_an_infinity_is_itself(one: One) -> None:
    assert one("m.json", "[NaN, Infinity, 1]", "[NaN,  Infinity, 1.001]", "0.01").result == "equivalent"


def test_large_integers_of_json_are_not_rounded(one: One) -> None:
    assert one("m.json", "[9007199254740992]", "[9007199254740993]", "0").result == "different"


def test_ignored_keys_of_json_do_not_count_at_any_depth(one: One) -> None:
    recorded = {"at": "10:00", "runs": [{"at": [1], "x": 1}]}
    replayed = {"at": "11:00", "runs": [{"at": {}, "x": 1}]}
    verdict = one("a/m.json", json.dumps(recorded), json.dumps(replayed), ignoring("**/m.json", "at", "host"))
    assert (verdict.result, verdict.rules) == ("equivalent", ("**/m.json: ignore at, host",))
    replayed["runs"][0]["x"] = 2  # type: ignore[index]
    differs = one("a/m.json", json.dumps(recorded), json.dumps(replayed), ignoring("**/m.json", "at", "host"))
    assert (differs.result, differs.place) == ("different", "/runs/0/x")
    values = ignoring("m.json", "10:00")
    assert one("m.json", '{"at": "10:00"}', '{"at": "11:00"}', values).result == "different"


def test_a_file_named_json_that_is_none_is_text(one: One) -> None:
    for content in ("not json 1.0", '{"a": 1, "a": 1.0}', "[" * 100_000 + "1.0"):
        assert one("m.json", content, content.replace("1.0", "1.5"), "0.1").kind == "text"


def test_deep_json_does_not_end_the_comparison(one: One) -> None:
    for depth in range(400, 1_000, 13):
        recorded = "[" * depth + "1" + "]" * depth
        keyed = f'{{"k": {recorded}}}'
        ignored = one("m.json", keyed, keyed.replace("1", "2"), ignoring("**", "k"))
        assert ignored.result in ("equivalent", "different")
        assert one("m.json", recorded, "1").result == "different"


def test_a_name_without_suffix_does_not_hide_json(one: One) -> None:
    verdict = one("result", '{"b": 1.0, "a": 2}', '{"a": 2, "b": 1.1}', "0.2")
    assert (verdict.result, verdict.kind) == ("equivalent", "json")


def test_json_lines_are_compared_line_by_line(one: One) -> None:
    recorded = '{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n'
    verdict = one("log.jsonl", recorded, recorded.replace("0.25", "0.35"), "abs=0.01")
    assert (verdict.result, verdict.kind, verdict.place) == ("different", "jsonl", "line 2 /loss")
    assert one("log.jsonl", recorded, recorded.replace("0.25", "0.251"), "abs=0.01").result == "equivalent"
    shorter = one("log.jsonl", recorded, recorded.partition("\n")[0], "abs=0.01")
    assert (shorter.place, shorter.replayed) == ("line 2 the whole value", None)


# --- tables -----------------------------------------------------------------------------------------------------

TABLE = "name,time,rmse\nfirst,1.5,0.25\nsecond,1.7,0.5\n"


def test_a_number_of_a_table_is_told_by_row_and_column(one: One) -> None:
    verdict = one("t.csv", TABLE, TABLE.replace("0.5\n", "0.75\n"), "0.1")
    assert (verdict.result, verdict.kind, verdict.place) == ("different", "csv", 'row 3, column "rmse"')
    assert (verdict.recorded, verdict.replayed) == ("0.5", "0.75")
    assert (verdict.largest_absolute, verdict.largest_relative) == (0.25, 0.5)
    assert one("t.csv", TABLE, TABLE.replace("0.5\n", "5.001e-1\r\n"), "0.1").result == "equivalent"


def test_ignored_columns_do_not_count(one: One) -> None:
    replayed = TABLE.replace("1.5", "9").replace("1.7", "later")
    verdict = one("t.csv", TABLE, replayed, ignoring("*.csv", "time"))
    assert (verdict.result, verdict.rules) == ("equivalent", ("*.csv: ignore time",))
    without = "\n".join(",".join(line.split(",")[::2]) for line in TABLE.split("\n"))
    assert one("t.csv", TABLE, without, ignoring("*.csv", "time")).result == "different"
    assert one("t.csv", TABLE, TABLE.replace("time", "hour"), ignoring("*.csv", "time")).result == "different"
    assert one("t.csv", TABLE, TABLE.replace("first", "1st"), ignoring("*.csv", "time")).result == "different"


@pytest.mark.parametrize(
    ("name", "recorded"),
    [
        ("t.tsv", "a\tb\n1\t2.5\n"),
        ("t.csv", "a;b\n1;2.5\n"),
        ("t.csv", 'a,b\n"x,\ny",2.5\n'),
        ("t.csv", "\ufeffa,b\n1,2.5\n"),
    ],
)
def test_tables_of_other_writers_are_read(one: One, name: str, recorded: str) -> None:
    verdict = one(name, recorded, recorded.replace("2.5", "3.5"), "0.01")
    assert verdict.result == "different"
    assert verdict.place is not None and verdict.place.endswith('column "b"')


@pytest.mark.parametrize(
    "replayed",
    [
        TABLE + "third,1,1\n",
        TABLE.partition("second")[0],
        TABLE.replace("0.25", "0.25,1"),
        TABLE.replace("0.25", ""),
        TABLE.replace("0.25", "none"),
        TABLE.replace("0.25", "nan"),
    ],
)
def test_no_tolerance_makes_another_table_equal(one: One, replayed: str) -> None:
    assert one("t.csv", TABLE, replayed, "rel=0.5,abs=100").result == "different"


def test_a_table_with_a_cell_beyond_csvs_limit_is_text(one: One) -> None:
    long = "x" * 200_000
    verdict = one("t.csv", f"a,b\n{long},1.5\n", f"a,b\n{long},2.5\n", "0.1")
    assert verdict.result == "different"


def test_a_number_in_other_writing_is_told_as_such(one: One) -> None:
    verdict = one("t.csv", "a,b\n1.0,nan\n", "a,b\n1.00,NaN\n")
    assert (verdict.result, verdict.place, verdict.recorded) == ("different", "line 2", None)
    assert verdict.note == "the same values, written in another way"
    assert one("t.csv", "a,b\n1.0,nan\n", "a,b\n1.00,NaN\n", "t.csv:0").rules == ("t.csv: tolerance 0",)


def test_numbers_of_many_digits_in_a_table_are_not_rounded(one: One) -> None:
    assert one("t.csv", "id\n9007199254740992\n", "id\n9007199254740993\n", "0").result == "different"


# --- text -------------------------------------------------------------------------------------------------------


def test_numbers_in_text_have_a_tolerance_and_words_have_none(one: One) -> None:
    recorded = "epoch 1: loss=0.500, rmse 0.25.\nall done\n"
    verdict = one("log.txt", recorded, "epoch 1: loss=0.501,  rmse  2.501e-1.\nall done\n", "0.01")
    assert (verdict.result, verdict.kind) == ("equivalent", "text")
    for replayed in (recorded.replace("done", "gone"), recorded + "more\n", recorded.replace("0.500", "0.6")):
        assert one("log.txt", recorded, replayed, "0.01").result == "different"


@pytest.mark.parametrize(
    ("recorded", "replayed"),
    [
        ("2026-11-23", "2026-11-24"),
        ("10:15:00", "10:16:00"),
        ("scipy 1.17.1", "scipy 1.17.2"),
        ("3/4 done", "2/4 done"),
        ("file2.txt", "file3.txt"),
        ("0x1f", "0x2f"),
        ("v2", "v3"),
        ("run-2", "run-3"),
        ("10.0.0.1", "10.0.0.2"),
    ],
)
def test_dates_times_versions_and_names_are_no_numbers(one: One, recorded: str, replayed: str) -> None:
    assert one("log.txt", f"at {recorded} x", f"at {replayed} x", "rel=1,abs=100").result == "different"


@pytest.mark.parametrize("text", ["x=-{}", "[{}, 2]", "({})", "a:{}", "{}%", "{}.", "+{}", "-{}e-3 m", "{}"])
def test_numbers_stand_alone_or_beside_signs(one: One, text: str) -> None:
    assert one("log.txt", text.format("1.5"), text.format("1.51"), "0.1").result == "equivalent"


@pytest.mark.parametrize(
    ("name", "recorded", "replayed"),
    [
        ("log.txt", "took 3,5 ms", "took 3,05 ms"),
        ("log.txt", "x = 1,05", "x = 1,5"),
        ("log.txt", "1,000 rows", "2,000 rows"),
        ("t.csv", "x\n1,05\n", "x\n1,5\n"),
        ("t.csv", "1,05\n2,5\n", "1,5\n2,5\n"),
        ("t.csv", "x\n1,234.5\n", "x\n2,234.5\n"),
    ],
)
def test_what_stands_beside_a_comma_may_be_half_a_number(one: One, name: str, recorded: str, replayed: str) -> None:
    assert one(name, recorded, replayed, "rel=0.01,abs=1").result == "different"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.txt", "loss, 1 ,{}, x"),
        ("t.csv", "a,b\n1,{}\n"),
        ("t.csv", "1.0,{}\n1.0,2.0\n"),
        ("t.csv", "a;b\n1;{}\n"),
    ],
)
def test_a_comma_between_numbers_that_stand_alone_does_no_harm(one: One, name: str, text: str) -> None:
    assert one(name, text.format("2.5"), text.format("2.51"), "0.01").result == "equivalent"
    assert one(name, text.format("2.5"), text.format("2.6"), "0.01").result == "different"


LONG = "1" + "0" * 400


@pytest.mark.parametrize("name", ["log.txt", "t.csv", "m.json"])
@pytest.mark.parametrize(
    ("recorded", "replayed"),
    [
        (LONG, "2" + LONG),
        (LONG * 20, LONG * 21),
        ("1234e567", "1235e568"),
        ("1e999", "2e999"),
        ("1e999", "-1e999"),
        ("1e999", "Infinity"),
        ("1e9999999", "2e9999999"),
        ("1e99999999999999999999", "1e99999999999999999998"),
        ("1e999", "1.5"),
        ("1.5", "1e999"),
    ],
)
def test_numbers_too_large_for_a_double_are_not_all_the_same(one: One, name: str, recorded: str, replayed: str) -> None:
    contents = [f"[{text}]" if name == "m.json" else f"x\n{text}\n" for text in (recorded, replayed)]
    for tolerance in ("0", "rel=0.1,abs=1"):
        assert one(name, *contents, tolerance).result == "different"
    assert one(
        name, contents[0], contents[0].replace("\n", "\r\n") if name == "t.csv" else f" {contents[0]}", "0"
    ).rules


def test_a_number_too_large_for_a_double_is_not_its_text_in_json(one: One) -> None:
    assert one("m.json", '{"a": 1e999}', '{"a": "1e999"}', "0.1").place == "/a"
    assert one("m.json", '{"a": [1e999]}', '{"a": 1}', "0.1").place == "/a"


@pytest.mark.parametrize("name", ["log.txt", "t.csv", "m.json"])
@pytest.mark.parametrize(
    ("recorded", "replayed"),
    [
        ("0.12345678901234567890", "0.12345678901234567891"),
        ("9007199254740992.0", "9007199254740993.0"),
        ("9007199254740992.0", "9007199254740993"),
        ("1e-999", "2e-999"),
        ("1e-999", "0.0"),
        ("1e-9999999", "2e-9999999"),
    ],
)
def test_digits_beyond_those_of_a_double_count(one: One, name: str, recorded: str, replayed: str) -> None:
    contents = [f"[{text}]" if name == "m.json" else f"x\n{text}\n" for text in (recorded, replayed)]
    found = one(name, *contents, "0")
    assert (found.result, found.place is not None) == ("different", True)
    assert one(name, *contents, "rel=1e-9,abs=1e-9").result == "equivalent"


@pytest.mark.parametrize("name", ["log.txt", "t.csv", "m.json"])
def test_the_same_digits_in_other_writing_are_the_same(one: One, name: str) -> None:
    contents = [f"[{text}]" if name == "m.json" else f"x\n{text}\n" for text in ("0.1000000000000000000", "1E-1")]
    assert one(name, *contents, "0").result == "equivalent"


# --- arrays -----------------------------------------------------------------------------------------------------


def npy(values: list[float], descr: str = "<f8", shape: tuple[int, ...] | None = None, fortran: bool = False) -> bytes:
    """What numpy.save writes."""
    code = {"f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "b1": "?", "c16": "d"}[descr[1:]]
    head = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape or (len(values),)!r}, }}"
    head = head.ljust(117) + "\n"
    order = ">" if descr[0] == ">" else "<"
    return (
        b"\x93NUMPY\x01\x00"
        + struct.pack("<H", len(head))
        + head.encode()
        + struct.pack(f"{order}{len(values)}{code}", *values)
    )


@pytest.mark.parametrize("descr", ["<f8", ">f8", "<f4", "<f2", "<i4", ">i8"])
def test_arrays_have_a_tolerance(one: One, descr: str) -> None:
    recorded, replayed = npy([100, 200, 300], descr), npy([100, 200, 301], descr)
    verdict = one("w.npy", recorded, replayed, "0.01")
    assert (verdict.result, verdict.kind, verdict.largest_absolute) == ("equivalent", "npy", 1.0)
    differs = one("w.npy", recorded, replayed)
    assert (differs.result, differs.place) == ("different", "[2]")


@pytest.mark.parametrize(
    ("shape", "fortran", "place"), [((2, 3), False, "[1, 1]"), ((2, 3), True, "[0, 2]"), ((6, 1), False, "[4, 0]")]
)
def test_the_place_in_an_array_is_its_index(one: One, shape: tuple[int, ...], fortran: bool, place: str) -> None:
    recorded = npy([0, 1, 2, 3, 4, 5], shape=shape, fortran=fortran)
    assert one("w.npy", recorded, npy([0, 1, 2, 3, 9, 5], shape=shape, fortran=fortran)).place == place


def test_complex_numbers_are_two_numbers(one: One) -> None:
    recorded, replayed = npy([1, 2, 3, 4], "<c16", (2,)), npy([1, 2, 3, 5], "<c16", (2,))
    assert one("w.npy", recorded, replayed).place == "[1] imaginary"


@pytest.mark.parametrize(
    ("recorded", "replayed", "place"),
    [
        (npy([1, 2]), npy([1, 2], "<f4"), "the type"),
        (npy([1, 2]), npy([1, 2], shape=(2, 1)), "the shape"),
        (npy([1, 2], shape=(1, 2)), npy([1, 2], shape=(1, 2), fortran=True), "the order in memory"),
        (npy([1, 0], "|b1"), npy([1, 1], "|b1"), "[1]"),
        (npy([1, 2]), npy([1, float("nan")]), "[1]"),
    ],
)
def test_no_tolerance_makes_another_array_equal(one: One, recorded: bytes, replayed: bytes, place: str) -> None:
    verdict = one("w.npy", recorded, replayed, "rel=9,abs=9")
    assert (verdict.result, verdict.place) == ("different", place)


@pytest.mark.parametrize(
    "damaged",
    [
        npy([1, 2])[:-1],
        npy([1, 2])[:20],
        b"\x93NUMPY",
        npy([1, 2]).replace(b"<f8", b"|O8"),
        npy([1, 2]).replace(b"(2,)", b"(-2,)"),
        npy([1, 2]).replace(b"{'descr'", b"['descr'"),
        npy([1, 2]).replace(b"(2,)", b"2   "),
        npy([1, 2]).replace(b"False", b"g()  "),
    ],
)
def test_a_damaged_array_is_bytes(one: One, damaged: bytes) -> None:
    assert one("w.npy", damaged, npy([1, 3]), "9").kind == "bytes"
    assert one("w.npy", npy([1, 3]), damaged, "9").result == "different"


# --- archives ---------------------------------------------------------------------------------------------------


def zipped(files: dict[str, Any], minute: int = 0, level: int = 6) -> bytes:
    place = io.BytesIO()
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 11, 23, 10, minute, 0)), content, zipfile.ZIP_DEFLATED)
    return place.getvalue()


def test_when_members_of_an_archive_were_written_does_not_count(one: One) -> None:
    verdict = one("a.zip", zipped({"x": b"1", "y": b"2"}), zipped({"x": b"1", "y": b"2"}, 5))
    assert (verdict.result, verdict.kind, verdict.rules) == ("equivalent", "zip", ("zip-content-1",))


def test_what_members_of_an_archive_hold_counts(one: One) -> None:
    verdict = one(
        "a.zip", zipped({"x": b"\x00\x01", "y.json": '{"a": 1}'}), zipped({"x": b"\x00\x01", "y.json": '{"a": 2}'}, 5)
    )
    assert (verdict.result, verdict.place) == ("different", "y.json: /a")
    assert (verdict.recorded, verdict.replayed) == ("1", "2")
    order = one("a.zip", zipped({"x": b"1", "y": b"2"}), zipped({"y": b"2", "x": b"1"}))
    assert (order.result, order.place) == ("different", "the list of its members")
    assert one("a.zip", zipped({"x": b"1"}), zipped({"x": b"1", "y": b"1"})).result == "different"


def test_arrays_in_an_npz_have_a_tolerance(one: One) -> None:
    recorded, replayed = ({"w.npy": npy([1, 2]), "b.npy": npy([value])} for value in (4, 4.001))
    verdict = one("w.npz", zipped(recorded), zipped(replayed, 5), "0.01")
    assert (verdict.result, verdict.kind) == ("equivalent", "npz")
    assert verdict.rules == ("tolerance rel=0.01", "zip-content-1")
    assert verdict.largest_absolute == pytest.approx(0.001)
    assert one("w.npz", zipped(recorded), zipped(replayed, 5)).place == "b.npy: [0]"


def test_a_bomb_is_not_unpacked(one: One, monkeypatch: pytest.MonkeyPatch) -> None:
    bombs = zipped({"x": bytes(101_000_000)}, level=9), zipped({"x": bytes(101_000_001)}, level=9)
    verdict = one("a.zip", *bombs)
    assert (verdict.result, verdict.kind) == ("different", "bytes")
    packed = gzip.compress(bytes(101_000_000), mtime=1), gzip.compress(bytes(101_000_000), mtime=2)
    assert one("a.gz", *packed).kind == "bytes"


def test_the_header_of_a_gzip_file_does_not_count(one: One) -> None:
    verdict = one("t.csv.gz", gzip.compress(TABLE.encode(), mtime=1), gzip.compress(TABLE.encode(), mtime=2))
    assert (verdict.result, verdict.rules) == ("equivalent", ("gzip-content-1",))
    other = gzip.compress(TABLE.replace("0.5\n", "0.6\n").encode(), mtime=2)
    differs = one("t.csv.gz", gzip.compress(TABLE.encode(), mtime=1), other)
    assert (differs.result, differs.kind, differs.place) == ("different", "csv.gz", 'row 3, column "rmse"')
    for damaged in (other[:-4], other + b"\x1f\x8b\x08", b"\x1f\x8b\x08"):
        assert one("t.csv.gz", other, damaged).kind == "bytes"


def test_a_gzip_file_of_many_members_is_read_in_no_time(one: One) -> None:
    member = gzip.compress(os.urandom(64), mtime=1)
    started = time.process_time()
    verdict = one("t.bin.gz", member * 100_000, member * 100_000 + gzip.compress(b"\0", mtime=1))
    assert verdict.result == "different"
    assert verdict.place == f"byte {64 * 100_000}"
    assert time.process_time() - started < 10


def skops_file(first: int, coefficient: float, *, shared: bool = False, minute: int = 0) -> bytes:
    node = {"__class__": "str", "__loader__": "JsonNode", "content": "1.0", "is_json": True}
    weights = {
        "__class__": "ndarray",
        "__loader__": "NdArrayNode",
        "type": "numpy",
        "file": f"{first}.npy",
        "__id__": first,
    }
    other = first if shared else first + 16
    schema = {"content": {"coef_": weights, "a": {**node, "__id__": first + 32}, "b": {**node, "__id__": other}}}
    text = json.dumps({**schema, "protocol": 2, "_skops_version": "0.16.0"}, indent=2)
    return zipped({f"{first}.npy": npy([coefficient, 2]), "schema.json": text}, minute)


def test_addresses_in_a_skops_model_do_not_count(one: One) -> None:
    verdict = one("model.skops", skops_file(140124497529904, 1.5), skops_file(140270678019120, 1.5, minute=3))
    assert (verdict.result, verdict.rules) == ("equivalent", ("skops-addresses-1", "zip-content-1"))
    values = one("model.skops", skops_file(140124497529904, 1.5), skops_file(140270678019120, 1.75))
    assert (values.result, values.place) == ("different", "1.npy: [0]")
    shared = skops_file(140270678019120, 1.5, shared=True)
    assert one("model.skops", skops_file(140124497529904, 1.5), shared).result == "different"


# --- images -----------------------------------------------------------------------------------------------------


def test_without_pillow_the_reason_is_said(one: One, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "PIL", raising=False)
    verdict = one("p.png", b"\x89PNG\r\n\x1a\n one", b"\x89PNG\r\n\x1a\n two", "1")
    assert (verdict.result, verdict.kind) == ("different", "png")
    assert verdict.note is not None and "Pillow is not installed" in verdict.note


def picture(colour: tuple[int, int, int], note: str = "", size: tuple[int, int] = (4, 3)) -> bytes:
    image = pytest.importorskip("PIL.Image").new("RGB", size, (10, 20, 30))
    information = pytest.importorskip("PIL.PngImagePlugin").PngInfo()
    information.add_text("Time", note)
    image.putpixel((2, 1), colour)
    place = io.BytesIO()
    image.save(place, "png", pnginfo=information)
    return place.getvalue()


def test_pixels_have_a_tolerance(one: One) -> None:
    recorded, replayed = picture((10, 20, 30)), picture((10, 22, 30))
    assert one("p.png", recorded, replayed, "abs=2").result == "equivalent"
    differs = one("p.png", recorded, replayed, "abs=1")
    assert (differs.result, differs.place) == ("different", "column 2, row 1, G")
    assert (differs.recorded, differs.replayed, differs.largest_absolute) == ("20", "22", 2.0)
    assert one("p.png", recorded, picture((10, 20, 30), size=(3, 4)), "abs=255").place == "size and mode"


def test_what_stands_beside_the_pixels_counts_unless_a_rule_is_declared(one: One) -> None:
    recorded, replayed = picture((1, 2, 3), "10:00"), picture((1, 2, 3), "11:00")
    undeclared = one("p.png", recorded, replayed)
    assert (undeclared.result, undeclared.note) == ("different", "the same pixels, with something else beside them")
    assert one("p.png", recorded, replayed, Rules((OutputRule("*.png", Tolerance()),))).result == "equivalent"


def deep_picture(value: int, colour_type: int) -> bytes:
    """A PNG of one pixel with 16 bits for each number."""
    numbers = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 1, 1, 16, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"\0" + struct.pack(f">{numbers}H", *[value] * numbers))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("colour_type", [2, 4, 6])
def test_pixels_of_16_bits_are_not_rounded_to_8(one: One, colour_type: int) -> None:
    pytest.importorskip("PIL.Image")
    verdict = one("p.png", deep_picture(25600, colour_type), deep_picture(25855, colour_type), "0")
    assert (verdict.result, verdict.kind) == ("different", "bytes")


def test_grey_pixels_of_16_bits_have_a_tolerance(one: One) -> None:
    pytest.importorskip("PIL.Image")
    recorded, replayed = deep_picture(25600, 0), deep_picture(25601, 0)
    assert one("p.png", recorded, replayed, "abs=1").result == "equivalent"
    assert one("p.png", recorded, replayed, "0").result == "different"


def deep_tiff(value: int) -> bytes:
    """A TIFF of one RGB pixel with 16 bits for each number."""
    behind = 8 + 2 + 9 * 12 + 4
    fields = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 3, behind), (259, 3, 1, 1), (262, 3, 1, 2)]
    fields += [(273, 4, 1, behind + 6), (277, 3, 1, 3), (278, 3, 1, 1), (279, 4, 1, 6)]
    directory = struct.pack("<H", len(fields)) + b"".join(struct.pack("<HHII", *field) for field in fields)
    return b"II*\0\x08\0\0\0" + directory + bytes(4) + struct.pack("<6H", 16, 16, 16, value, value, value)


def test_colours_of_16_bits_in_a_tiff_are_not_rounded_to_8(one: One) -> None:
    pytest.importorskip("PIL.Image")
    verdict = one("p.tiff", deep_tiff(25600), deep_tiff(25855), "0")
    assert (verdict.result, verdict.kind) == ("different", "bytes")
