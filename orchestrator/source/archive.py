"""A zip archive as a project: downloaded, and unpacked so that nothing lands outside the folder.

Only regular files and directories, into a fresh folder, with limits on count, size and ratio (a small archive can hold
any number of zeros). `zipfile.extractall` renames what it does not like, and has no limits.
"""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path
from typing import IO

from orchestrator.errors import OrchError
from orchestrator.source.location import Archive, parse_remote, without_credentials

MAX_FILES = 200_000
MAX_BYTES = 16 * 1024**3
MAX_RATIO = 200
"""Unpacked bytes for one packed byte, beyond the first 64 MiB."""

_RATIO_FREE = 64 * 1024**2
_CHUNK = 1 << 20
_ANSWER_SECONDS = 60.0


def unpack_zip(archive: Path, into: Path) -> None:
    """Unpack a zip into `into`, an empty folder. Files get mode 755 or 644; entries of a `.git` folder are left out.

    Raises OrchError, with what was unpacked so far still there, for a broken archive, a name that leaves the folder or
    comes twice, anything but files and directories, and what goes over the limits.
    """
    try:
        with zipfile.ZipFile(archive) as source:
            entries = source.infolist()
            if len(entries) > MAX_FILES:
                raise OrchError(f"{archive} holds {len(entries)} files; the limit is {MAX_FILES}.")
            packed = archive.stat().st_size
            total = 0
            for entry in entries:
                parts = _checked_parts(archive, entry)
                if any(part.lower() == ".git" for part in parts):
                    continue
                target = into.joinpath(*parts)
                (target if entry.is_dir() else target.parent).mkdir(parents=True, exist_ok=True)
                if not entry.is_dir():
                    with source.open(entry) as reader:
                        total = _write(archive, reader, target, entry, total, packed)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise OrchError(f"{archive} can't be unpacked: {error}.") from error
    except OSError as error:
        if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
            raise OrchError(f"{archive} holds {error.filename} twice.") from error
        raise OrchError(f"{archive} can't be unpacked: {error.strerror} ({error.filename}).") from error
    except Exception as error:
        # zlib.error and lzma's have no common base, and each belongs to a module that may be missing
        if type(error).__module__ not in ("zlib", "lzma", "_lzma", "bz2", "_bz2"):
            raise
        raise OrchError(f"{archive} can't be unpacked: {error}.") from error


def download(archive: Archive, into: Path) -> None:
    """Fetch the archive behind a URL into the file `into`. Raises OrchError; credentials appear nowhere."""
    import base64
    import urllib.error
    import urllib.request
    from http.client import HTTPMessage
    from urllib.parse import unquote, urlsplit, urlunsplit

    class Redirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(
            self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
        ) -> urllib.request.Request | None:
            parse_remote(newurl, query=True)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    parts = urlsplit(archive.secret_url or archive.url)
    host = parts.netloc.rpartition("@")[2]
    request = urllib.request.Request(urlunsplit((parts.scheme, host, parts.path, parts.query, "")))  # noqa: S310
    if parts.username:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        # unredirected: another host gets no credentials
        request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    try:
        opened = urllib.request.build_opener(Redirects).open(request, timeout=_ANSWER_SECONDS)
        with opened as reader, into.open("xb") as writer:
            while chunk := reader.read(_CHUNK):
                writer.write(chunk)
                if writer.tell() > MAX_BYTES:
                    raise OrchError(f"{archive.url} is larger than the limit of {MAX_BYTES} bytes.")
    except urllib.error.HTTPError as error:
        with error:
            raise OrchError(f"{archive.url} can't be fetched: {error.code} {error.reason}.") from error
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or error
        raise OrchError(f"{archive.url} can't be fetched: {without_credentials(str(reason))}.") from error


def _checked_parts(archive: Path, entry: zipfile.ZipInfo) -> list[str]:
    """The folders and the name of an entry. Raises OrchError for one that must not be unpacked."""
    name = entry.orig_filename
    kind = stat.S_IFMT(entry.external_attr >> 16)
    parts = (name[:-1] if name.endswith("/") else name).split("/")
    if not name or any(part in ("", ".", "..") for part in parts) or any(c in name for c in "\\\0\n\r"):
        raise OrchError(f"{archive} holds the name {name!r}, which can't be unpacked safely.")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise OrchError(f"{archive} holds {name!r}, which is no regular file; a project archive has only those.")
    return parts


def _write(archive: Path, reader: IO[bytes], target: Path, entry: zipfile.ZipInfo, total: int, packed: int) -> int:
    executable = (entry.external_attr >> 16) & stat.S_IXUSR
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(target, flags, 0o755 if executable else 0o644), "wb") as writer:
        while chunk := reader.read(_CHUNK):
            total += len(chunk)
            if total > MAX_BYTES or total > max(_RATIO_FREE, packed * MAX_RATIO):
                raise OrchError(f"{archive} unpacks to more than an honest archive of {packed} bytes would.")
            writer.write(chunk)
    return total
