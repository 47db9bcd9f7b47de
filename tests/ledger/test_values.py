from __future__ import annotations

import os
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import ANY_TEXT
from packaging.version import Version

from orchestrator.ledger import version_key
from orchestrator.ledger.values import from_text, to_text

NUMBERS = st.integers(0, 1200)
PRE = st.builds("{}{}".format, st.sampled_from(["a", "b", "rc", ".alpha", "-beta", "c"]), NUMBERS)
PEP440 = st.builds(
    "{}{}{}{}{}{}".format,
    st.sampled_from(["", "", "1!", "v"]),
    st.lists(NUMBERS.map(str), min_size=1, max_size=4).map(".".join),
    st.just("") | PRE,
    st.just("") | NUMBERS.map(".post{}".format),
    st.just("") | NUMBERS.map(".dev{}".format),
    st.sampled_from(["", "", "+cpu", "+cu118"]),
)


@given(PEP440, PEP440)
@settings(deadline=None)
def test_versions_sort_as_pep_440_has_it(one: str, other: str) -> None:
    keys = version_key(one).encode(), version_key(other).encode()
    if Version(one) < Version(other):
        assert keys[0] < keys[1]
    elif Version(one) > Version(other):
        assert keys[0] > keys[1]
    else:
        assert keys[0] == keys[1]


@pytest.mark.parametrize(
    "ordered",
    [
        ["1.9", "1.10", "1.25.2", "1.26.0rc1", "1.26", "1.26.1", "2.0", "10"],
        ["0.4.1.dev1", "0.4.1a1", "0.4.1rc1", "0.4.1", "0.4.1.post1", "0.4.1.1"],
        ["1.1.1a", "1.1.1w", "1.1.1", "3.0.0"],
        ["9d", "9e", "9f"],
        ["2023c", "2024a", "2024b"],
        ["20230101", "20240101123456", "202401011234567"],
        ["1!0.1", "2!0.0"],
    ],
)
def test_versions_of_conda_packages_sort(ordered: list[str]) -> None:
    keys = [version_key(version) for version in ordered]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


CONDA = st.lists(NUMBERS.map(str), min_size=1, max_size=4).map(".".join) | st.builds(
    "{}.{}{}".format, NUMBERS, NUMBERS, st.sampled_from(["", "a", "b", "rc1", ".dev0", ".post1"])
)


@given(CONDA, CONDA)
@settings(deadline=None)
def test_versions_sort_as_rattler_has_it(one: str, other: str) -> None:
    import rattler

    assert (version_key(one) < version_key(other)) == (rattler.Version(one) < rattler.Version(other))


@given(st.text())
@settings(deadline=None)
def test_any_text_has_a_version_key(text: str) -> None:
    assert version_key(text).isprintable()


@given(ANY_TEXT)
@settings(deadline=None)
def test_any_text_comes_back_from_a_column(text: str) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE texts (text TEXT)")
    connection.execute("INSERT INTO texts VALUES (?)", (to_text(text),))
    assert from_text(connection.execute("SELECT text FROM texts").fetchone()[0]) == text
    connection.close()


def test_ordinary_text_is_text_in_sql() -> None:
    assert to_text("größe") == "größe"
    assert to_text(os.fsdecode(b"caf\xe9")) == b"caf\xed\xb3\xa9"
    assert to_text(None) is from_text(None) is None
