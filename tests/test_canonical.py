from __future__ import annotations

import hashlib
import json
import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.canonical import (
    canonical_json,
    local_path,
    number_from_json,
    number_to_json,
    portable_path,
    sha256_of,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_the_example_of_rfc_8785_section_3_2_2() -> None:
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    assert (
        canonical_json(value)
        == (
            '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
            '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
        ).encode()
    )


def test_keys_are_sorted_by_utf_16_units_as_rfc_8785_section_3_2_3_has_it() -> None:
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    ordered = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(json.loads(canonical_json(dict.fromkeys(keys, 0)))) == ordered


@pytest.mark.parametrize(
    ("bits", "text"),
    [  # RFC 8785, appendix B
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555557", "333333333.33333343"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
    ],
)
def test_doubles_are_written_as_ecmascript_writes_them(bits: str, text: str) -> None:
    import struct

    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_json(value) == text.encode()


def test_nan_and_infinities_are_text() -> None:
    assert canonical_json([math.nan, math.inf, -math.inf]) == b'["NaN","Infinity","-Infinity"]'


@pytest.mark.parametrize("value", [2**53, -(2**53), "\ud800", {"\udcff": 1}, {1: 2}, b"bytes"])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        canonical_json(value)


@given(JSON)
@settings(deadline=None)
def test_canonical_json_is_stable_and_means_the_same(value: object) -> None:
    canonical = canonical_json(value)
    # All numbers of RFC 8785 are doubles: a large one is written without a point.
    parsed = json.loads(canonical, parse_int=float)
    assert parsed == value
    assert canonical_json(parsed) == canonical
    assert sha256_of(value) == hashlib.sha256(canonical).hexdigest()


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 9), min_size=2))
@settings(deadline=None)
def test_the_order_of_keys_does_not_matter(value: dict[str, int]) -> None:
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


@given(st.floats())
@settings(deadline=None)
def test_any_double_comes_back_from_json(value: float) -> None:
    back = number_from_json(json.loads(json.dumps(number_to_json(value), allow_nan=False)))
    assert back == value or (math.isnan(back) and math.isnan(value))


@pytest.mark.parametrize("value", ["1.5", "inf", "nan", "", 10**400])
def test_what_is_no_double_is_refused(value: str | int) -> None:
    with pytest.raises(ValueError):
        number_from_json(value)


@given(st.binary(max_size=40))
@settings(deadline=None)
def test_a_path_of_any_bytes_comes_back_from_its_portable_form(raw: bytes) -> None:
    path = os.fsdecode(raw)
    portable = portable_path(path)
    portable.encode()
    assert local_path(portable) == path
    assert canonical_json(portable)


@given(st.binary(max_size=12), st.binary(max_size=12))
@settings(deadline=None)
def test_different_paths_have_different_portable_forms(one: bytes, other: bytes) -> None:
    same = portable_path(os.fsdecode(one)) == portable_path(os.fsdecode(other))
    assert same == (one == other)


def test_an_ordinary_path_stays_readable() -> None:
    assert portable_path("models/größe 1.pkl") == "models/größe 1.pkl"
    assert portable_path(os.fsdecode(b"caf\xe9 100%")) == "caf%E9 100%25"
