"""What the text `<repo>` on the command line names: a remote repository, a local folder or a zip archive."""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes, urlsplit, urlunsplit

from orchestrator.errors import UsageError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]*::")
_SCP_LIKE = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_.+~-]+)@)?(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\]):(?P<path>[^/].*|/.*)"
)
_REVISION = re.compile(r"[^\x00-\x20\x7f~^:?*\[\\]+")
_FULL_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_KINDS = "an https, ssh, git@host:path or file URL, a local folder, or a .zip"


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository behind a URL. `url` has no credentials; `secret_url` has them, "" if there are none."""

    url: str
    subdir: str = ""
    secret_url: str = field(default="", repr=False)

    @property
    def plain_http(self) -> bool:
        """Whether the URL is plain http (then its host is this machine)."""
        return self.url.startswith("http:")


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of this machine that exists; absolute, symbolic links resolved."""

    path: Path
    subdir: str = ""


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip archive: a file of this machine (`path`) or a download (`path` is None). As in Remote for the URLs."""

    url: str
    path: Path | None
    subdir: str = ""
    secret_url: str = field(default="", repr=False)


def parse_location(text: str) -> Remote | Folder | Archive:
    """What `text` names; a local path that exists wins over any other reading.

    The part after `#` is a directory inside it. Raises UsageError for text that is no repository, and for
    what git would read as an option or as a program to run.
    """
    _refuse_unprintable(text, "name of the repository")
    if text.startswith("-"):
        raise UsageError(f"the repository {text!r} begins with '-'; a folder of that name is ./{text}.")
    for end in (len(text), *_hashes_from_the_right(text)):
        if _exists(text[:end]):
            return _local(Path(text[:end]), clean_subdir(text[end + 1 :]))
    base, _, fragment = text.partition("#")
    subdir = clean_subdir(fragment)
    if base.startswith("file:"):
        return _file_url(base, subdir)
    archive = base.lower().partition("?")[0].endswith(".zip")
    remote = parse_remote(base, subdir, query=archive)
    if archive and remote.url.startswith("http"):
        return Archive(remote.url, None, subdir, remote.secret_url)
    return remote


def parse_remote(text: str, subdir: str = "", *, query: bool = False) -> Remote:
    """The remote repository that a URL names, also one of a submodule; file URLs included.

    Raises UsageError for every scheme but https, ssh, `git@host:path` and file (http from this machine only).
    """
    _refuse_unprintable(text, "URL")
    if text.startswith("-"):
        raise UsageError(f"the URL {text!r} begins with '-'.")
    if _HELPER.match(text):
        raise UsageError(f"{text!r} names a git remote helper, a program that git would run; use {_KINDS}.")
    if text.startswith("file:"):
        return Remote(file_url(_path_of_file_url(text)), subdir)
    if "://" in text:
        return _with_scheme(text, subdir, query=query)
    scp = _SCP_LIKE.fullmatch(text)
    if scp and not scp["path"].startswith("-") and not _SCHEME_WORDS.match(text):
        return Remote(text, subdir)
    if scp:
        raise UsageError(f"{_showable(text)!r} is not a repository that orch can take; use {_KINDS}.")
    missing = "file" if text.lower().endswith(".zip") else "folder"
    raise UsageError(f"there is no {missing} {text!r}, and it is not a URL; name {_KINDS}.")


def clean_subdir(text: str) -> str:
    """The part after `#` as a normal POSIX path, "" for the root. Raises UsageError if it leaves the repository."""
    _refuse_unprintable(text, "subdirectory", empty=True)
    if not text.strip("/"):
        return ""
    clean = posixpath.normpath(text)
    if text.startswith("/") or clean == ".." or clean.startswith("../"):
        raise UsageError(f"the subdirectory {text!r} leaves the repository.")
    return "" if clean == "." else clean


def check_revision(text: str) -> str:
    """`text` if it can be the name of a branch or tag, or a commit id (then in lower case).

    The rules are those of git-check-ref-format(1). Raises UsageError for anything else.
    """
    _refuse_unprintable(text, "revision")
    bad = (
        not _REVISION.fullmatch(text)
        or text.startswith(("-", "/", "."))
        or text.endswith(("/", ".", ".lock"))
        or any(part in text for part in ("..", "@{", "//", "/."))
        or text == "@"
    )
    if bad:
        problem = f"the revision {text!r} can't be the name of a branch or tag, or a commit"
        if text.startswith("-") or not any(mark in text for mark in "~^@"):
            raise UsageError(f"{problem}.")
        import shlex

        raise UsageError(f"{problem}; the id of a commit works: git rev-parse {shlex.quote(text)} tells it.")
    return text.lower() if is_full_id(text.lower()) else text


def is_full_id(text: str) -> bool:
    """Whether `text` is a full object id, of sha1 or sha256."""
    return _FULL_ID.fullmatch(text) is not None


def file_url(path: Path) -> str:
    """The file URL of an absolute path; bytes beyond the plain characters are percent-encoded (RFC 8089)."""
    return "file://" + quote(os.fsencode(path), safe="/-_.~+@,:=")


def path_of(url: str) -> Path | None:
    """The path that a file URL of ours names, None for any other URL."""
    return _path_of_file_url(url) if url.startswith("file:") else None


def without_credentials(url: str) -> str:
    """`url` as it may be recorded: no password, and no user name either but for ssh, where it is no secret."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    if not at:
        return url
    name = user.partition(":")[0] + "@" if scheme.lower() == "ssh" else ""
    return f"{scheme}://{name}{host}{slash}{path}"


_SCHEME_WORDS = re.compile(r"(?:https?|ssh|git|ftps?|ext|fd|file):", re.IGNORECASE)


def _exists(path: str) -> bool:
    try:
        return path != "" and Path(path).exists()
    except OSError:  # a URL can be longer than a name may be
        return False


def _local(path: Path, subdir: str) -> Folder | Archive:
    real = path.resolve()
    if real.is_dir():
        return Folder(real, subdir)
    if real.name.lower().endswith(".zip"):
        return Archive(file_url(real), real, subdir)
    raise UsageError(f"{str(path)!r} is a file; a project is a folder, a repository or a .zip.")


def _file_url(text: str, subdir: str) -> Remote | Folder | Archive:
    path = _path_of_file_url(text)
    if path.is_file() or path.name.lower().endswith(".zip"):
        if not path.is_file():
            raise UsageError(f"there is no file {str(path)!r}.")
        return _local(path, subdir)
    if path.is_dir() and not _is_repository(path):
        return Folder(path.resolve(), subdir)
    return Remote(file_url(path), subdir)


def _is_repository(path: Path) -> bool:
    return (path / ".git").exists() or ((path / "HEAD").is_file() and (path / "objects").is_dir())


def _path_of_file_url(text: str) -> Path:
    rest = text.removeprefix("file:")
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise UsageError(f"the file URL {text!r} names another host ({host}); orch reads files of this one only.")
        rest = slash + path
    path_text = os.fsdecode(unquote_to_bytes(rest))
    _refuse_unprintable(path_text, "file URL")
    if not path_text.startswith("/"):
        raise UsageError(f"the file URL {text!r} has no absolute path; write file:///path.")
    return Path(os.path.normpath(path_text))


def _with_scheme(text: str, subdir: str, *, query: bool) -> Remote:
    shown = _showable(text)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UsageError(f"{shown!r} is not a URL: {error}.") from error
    scheme = parts.scheme.lower()
    if scheme not in ("https", "http", "ssh"):
        raise UsageError(f"orch takes no {scheme} URLs ({shown}); use {_KINDS}.")
    if scheme == "http" and host not in ("localhost", "127.0.0.1", "::1"):
        raise UsageError(f"{shown} would be fetched without encryption; use https.")
    user = (parts.username or "") if scheme == "ssh" else ""
    if not host or host.startswith("-") or user.startswith("-") or not parts.path.strip("/"):
        raise UsageError(f"{shown!r} is not the URL of a repository.")
    if parts.query and not query:
        raise UsageError(f"{shown}?...: the URL of a repository has no query.")
    name = f"[{host}]" if ":" in host else host
    netloc = (f"{user}@" if user else "") + name + (f":{port}" if port else "")
    # a query of a download may be a signature: it goes where the credentials go
    url = urlunsplit((scheme, netloc, parts.path, "", ""))
    secret = text if parts.query or parts.password or (parts.username and scheme != "ssh") else ""
    return Remote(url, subdir, secret)


def _showable(text: str) -> str:
    """A URL for a message: without what may be a secret, also when the URL is malformed."""
    scheme, separator, rest = text.partition("?")[0].partition("://")
    return scheme + separator + rest.rpartition("@")[2]


def _hashes_from_the_right(text: str) -> list[int]:
    return [index for index in range(len(text) - 1, 0, -1) if text[index] == "#"]


def _refuse_unprintable(text: str, what: str, *, empty: bool = False) -> None:
    if not text and not empty:
        raise UsageError(f"the {what} is empty.")
    if any(character < " " or character == "\x7f" for character in text):
        raise UsageError(f"the {what} {text!r} holds a control character.")
