"""What the text `<repo>` names."""

from __future__ import annotations

import os
import shlex
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import UsageError
from orchestrator.source.location import (
    Archive,
    Folder,
    Remote,
    check_revision,
    clean_subdir,
    file_url,
    parse_location,
    path_of,
    without_credentials,
)


@pytest.mark.parametrize(
    ("text", "url", "subdir"),
    [
        ("https://example.org/a/b.git", "https://example.org/a/b.git", ""),
        ("https://example.org/a/b#examples/x.y", "https://example.org/a/b", "examples/x.y"),
        ("HTTPS://Example.ORG/a", "https://example.org/a", ""),
        ("ssh://git@example.org:2222/a/b", "ssh://git@example.org:2222/a/b", ""),
        ("git@example.org:a/b.git#sub", "git@example.org:a/b.git", "sub"),
        ("example.org:a/b.git", "example.org:a/b.git", ""),
        ("http://127.0.0.1:8000/a", "http://127.0.0.1:8000/a", ""),
        ("http://[::1]:8000/a", "http://[::1]:8000/a", ""),
        ("file:///no/where#x", "file:///no/where", "x"),
        ("file:/no/where", "file:///no/where", ""),
        ("file://localhost/no/a%20b", "file:///no/a%20b", ""),
    ],
)
def test_urls_and_their_subdirectory(text: str, url: str, subdir: str) -> None:
    assert parse_location(text) == Remote(url, subdir)


def test_credentials_are_kept_apart_from_the_url_and_never_printed() -> None:
    remote = parse_location("https://ada:s3cret@example.org/a#sub")
    assert remote == Remote("https://example.org/a", "sub", "https://ada:s3cret@example.org/a")
    assert "s3cret" not in repr(remote)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-u./evil",
        "--upload-pack=touch x",
        "ext::sh -c touch% x",
        "fd::17",
        "a+b::c",
        "git://example.org/a",
        "ftp://example.org/a",
        "http://example.org/a",
        "http://127.0.0.1.example.org/a",
        "ssh://-oProxyCommand=touch/x",
        "ssh://-oProxyCommand=touch@example.org/x",
        "-oProxyCommand=touch:x",
        "git@-oProxyCommand=touch:x",
        "git@example.org:-x",
        "https://",
        "https:///a",
        "https://example.org",
        "https://example.org:port/a",
        "https://example.org/a?b=c",
        "file://example.org/a",
        "file:relative",
        "no/such/folder",
        "x\0y",
        "x\ny",
        "file:///a%0Ab",
        "https://example.org/a#../up",
        "https://example.org/a#/absolute",
        "https://example.org/a#x/../../up",
    ],
)
def test_what_is_no_repository_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError):
        parse_location(text)


def test_an_existing_path_wins_over_any_other_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("git@example.org:a", "a#b", "ext::sh", "plain"):
        Path(name).mkdir()
        assert parse_location(name) == Folder(tmp_path.resolve() / name)
    assert parse_location("a#b#c") == Folder(tmp_path.resolve() / "a#b", "c")
    assert parse_location("plain#c/./d/") == Folder(tmp_path.resolve() / "plain", "c/d")


def test_a_zip_is_an_archive_wherever_it_is(tmp_path: Path) -> None:
    zipped = tmp_path / "p.zip"
    zipped.write_bytes(b"")
    for text in (str(zipped), zipped.as_uri()):
        assert parse_location(text + "#sub") == Archive(file_url(zipped.resolve()), zipped.resolve(), "sub")
    secret = "https://ada:pw@example.org/p.zip?signature=1"
    assert parse_location(secret) == Archive("https://example.org/p.zip", None, "", secret)
    with pytest.raises(UsageError, match=r"gone\.zip"):
        parse_location((tmp_path / "gone.zip").as_uri())


def test_an_archive_that_is_not_there_is_a_missing_file() -> None:
    for text in ("nosuch.zip", "no/such.ZIP#sub", "/no/such.zip"):
        with pytest.raises(UsageError, match=r"there is no file '.*such\.(zip|ZIP)', and it is not a URL"):
            parse_location(text)
    with pytest.raises(UsageError, match="there is no folder 'no/such'"):
        parse_location("no/such")


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.txt").touch()
    with pytest.raises(UsageError, match="is a file"):
        parse_location(str(tmp_path / "f.txt"))


@pytest.mark.parametrize(
    "text",
    ["-x", "--upload-pack=x", "a b", "a..b", "a:b", "a~1", "a^{tree}", "@{-1}", "@", "a\n", "", "/a", "a.lock", "*"],
)
def test_a_revision_that_can_be_no_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        check_revision(text)


@pytest.mark.parametrize("text", ["HEAD~1", "v1.0^2", "main@{yesterday}", "@", "HEAD^{/fix it}"])
def test_for_a_revision_expression_the_way_to_its_commit_id_is_told(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_revision(text)
    assert f"the id of a commit works: git rev-parse {shlex.quote(text)}" in str(caught.value)


def test_other_text_is_refused_without_that_hint() -> None:
    for text in ("-x~1", "a..b", "*"):
        with pytest.raises(UsageError) as caught:
            check_revision(text)
        assert "rev-parse" not in str(caught.value)


@pytest.mark.parametrize("text", ["main", "feature/x-1", "v1.0", "é", "ab12", "refs/pull/1/head", "a@b", "ABCDEF"])
def test_names_of_branches_and_tags_are_taken_as_they_are(text: str) -> None:
    assert check_revision(text) == text


def test_a_full_commit_id_is_taken_in_lower_case() -> None:
    assert check_revision("AB" * 20) == "ab" * 20


@given(st.binary(min_size=1, max_size=40).filter(lambda b: b"\0" not in b and all(c >= 32 and c != 127 for c in b)))
def test_any_path_survives_its_file_url(name: bytes) -> None:
    path = Path(os.path.normpath(Path("/") / os.fsdecode(name.lstrip(b"/")) if name.lstrip(b"/") else "/x"))
    url = file_url(path)
    assert url.isascii()
    assert path_of(url) == path


@given(st.text(max_size=60))
def test_no_text_becomes_an_option_a_helper_or_a_way_out(text: str) -> None:
    try:
        location = parse_location(text)
    except UsageError:
        return
    assert not location.subdir.startswith(("/", "..")), location
    if isinstance(location, Remote):
        assert not location.url.startswith("-")
        assert location.url.startswith(("https://", "ssh://", "http://", "file:///")) or "::" not in location.url


@given(
    scheme=st.sampled_from(["https", "ssh", "http"]),
    user=st.text(string.ascii_lowercase + "-._~%:", min_size=1, max_size=12),
    secret=st.text(string.ascii_uppercase + string.digits, min_size=8, max_size=20),
    path=st.text(string.ascii_lowercase + "/@:", min_size=1, max_size=20),
)
def test_a_password_never_stays_in_a_url(scheme: str, user: str, secret: str, path: str) -> None:
    assert secret not in without_credentials(f"{scheme}://{user}:{secret}@example.org/{path}")


@pytest.mark.parametrize("text", ["https://ada:s3/cret@h/a", "https://ada:s3cret@:x/a", "gopher://ada:s3cret@h/a"])
def test_a_refused_url_is_shown_without_its_password(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_location(text)
    assert "cret" not in str(caught.value)


@given(st.text(max_size=30))
def test_a_subdirectory_never_leaves(text: str) -> None:
    try:
        clean = clean_subdir(text)
    except UsageError:
        return
    assert ".." not in clean.split("/")
    assert not clean.startswith("/")


@given(st.text(min_size=1, max_size=30))
def test_a_revision_is_never_an_option_or_an_expression(text: str) -> None:
    try:
        name = check_revision(text)
    except UsageError:
        return
    assert not name.startswith("-")
    assert not set(name) & set(" ~^:?*[\\\n\0")
    assert ".." not in name
