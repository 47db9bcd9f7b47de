"""Talking to a remote repository: what its names stand for now, and fetching into the mirror."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from orchestrator.errors import OrchError
from orchestrator.report import plural
from orchestrator.source.gitprogram import GitFailed, local_env, network_env, run_git
from orchestrator.source.location import Remote, path_of
from orchestrator.source.mirror import World, find_commit, has_commit, is_foreign, locked, make_mirror, mirror_path

_ANSWER_SECONDS = 60.0
_REFSPECS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")


@dataclass(frozen=True, slots=True)
class Named:
    """The commit that a name stood for, and what the person should know about it."""

    commit: str
    notes: tuple[str, ...] = ()


def resolve_name(remote: Remote, revision: str | None, world: World) -> Named:
    """The commit of a branch, tag, short commit id, or (None) of the default branch, at the remote.

    One round trip. When the remote can't be asked, the mirror's last knowledge serves, with a note. Raises
    OrchError when neither knows the name.
    """
    mirror = mirror_path(world.home, remote.url)
    refs = _candidates(revision)
    if revision and len(revision) >= 7 and _is_hex(revision):
        commit = None if _mirrored(mirror, refs) else _find_short(mirror, revision)
        if commit:
            return Named(commit)
    if _out_of_bounds(remote, world):
        return _from_mirror(remote, mirror, revision, None)
    try:
        found = _ask(remote, refs, world)
    except GitFailed as error:
        return _from_mirror(remote, mirror, revision, redacted(error.line, remote))
    hits = [ref for ref in refs if ref in found]
    if hits:
        commit = found[hits[0]]
        _remember_name(remote, hits[0], commit, world)
        both = {"refs/tags/", "refs/heads/"} <= {ref[: ref.index("/", 5) + 1] for ref in hits if ref != "HEAD"}
        return Named(commit, (f"{revision} is a tag and a branch; the tag is taken.",) if both else ())
    if revision is None:
        raise OrchError(f"{remote.url} has no default branch; name a revision with --version.")
    if _is_hex(revision) and len(revision) >= 4:
        return Named(_short_commit(remote, revision, world))
    raise unknown_revision(revision, remote.url, [name.split("/", 2)[2] for name in _all_names(remote, world)])


def ensure_commit(remote: Remote, commit: str, world: World) -> None:
    """Fetch until the mirror has `commit` (a full id); nothing happens when it is there already.

    Raises OrchError when the remote does not have it or can't be reached.
    """
    mirror = make_mirror(world.home, remote.url, "sha1" if len(commit) == 40 else "sha256")
    if has_commit(mirror, commit):
        return
    if _out_of_bounds(remote, world):
        raise _not_here(f"commit {commit}", remote)
    with locked(world.home, mirror):
        if has_commit(mirror, commit):
            return
        try:
            fetch(remote, mirror, _REFSPECS, world)
            if not has_commit(mirror, commit):
                fetch(remote, mirror, (commit,), world)
        except GitFailed as error:
            line = redacted(error.line, remote)
            if "not our ref" in line or "remote ref" in line:
                raise OrchError(f"{remote.url} has no commit {commit}.") from error
            raise OrchError(f"{remote.url} can't be fetched: {line}.") from error
    if not has_commit(mirror, commit):
        raise OrchError(f"{remote.url} has no commit {commit}.")


def fetch(remote: Remote, mirror: Path, refspecs: Sequence[str], world: World) -> None:
    """Fetch refs into the mirror, without blobs where the server can leave them out. The caller holds the lock.

    Raises GitFailed.
    """
    for leftover in (mirror / "objects" / "pack").glob("tmp_*"):
        with suppress(OSError):
            leftover.unlink()
    world.report("source", f"fetching {remote.url}")
    try:
        _fetch(remote, mirror, refspecs, world)
    except GitFailed as error:
        if "mismatched algorithms" in error.stderr:  # a bundle may have said anything of a URL
            raise OrchError(
                f"{remote.url} has git ids of another kind (sha1, sha256) than the mirror that was made for it here; "
                f"remove {mirror} and try again."
            ) from error
        if ".lock': File exists" not in error.stderr:
            raise
        # only a git that was killed leaves its lock, since we are alone here: give a dying one its moment
        time.sleep(1)
        for lock in (*mirror.glob("*.lock"), *(mirror / "refs").rglob("*.lock")):
            with suppress(OSError):
                lock.unlink()
        _fetch(remote, mirror, refspecs, world)
    (mirror / "orch" / "asked").touch()


def fetch_blobs(remote: Remote, mirror: Path, ids: Sequence[bytes], world: World) -> None:
    """Fetch the blobs that a blobless mirror lacks, all in one request."""
    if _out_of_bounds(remote, world):
        raise _not_here(plural(len(ids), "file"), remote)
    world.report("source", f"fetching {len(ids)} files of {remote.url}")
    env = _env(mirror, remote, world, ("fetch.negotiationAlgorithm", "noop"))
    options = ("--no-tags", "--no-write-fetch-head", "--filter=blob:none", "--stdin")
    try:
        run_git("fetch", "-q", *options, "--", "origin", env=env, data=b"".join(i + b"\n" for i in ids))
    except GitFailed as error:
        raise OrchError(f"files of {remote.url} can't be fetched: {redacted(error.line, remote)}.") from error


def _not_here(what: str, remote: Remote) -> OrchError:
    return OrchError(
        f"{what} of {remote.url} can't be had: the mirror here does not have it, and --offline asks no network: run it "
        "once without, or name a folder that has the repository."
    )


def unknown_revision(revision: str, where: str, names: Sequence[str]) -> OrchError:
    """The error for a name that is no branch, tag or commit, with the names that look like it."""
    from difflib import get_close_matches

    near = get_close_matches(revision, sorted(set(names)), n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return OrchError(f"{where} has no branch, tag or commit {revision!r}.{hint}")


def redacted(text: str, remote: Remote) -> str:
    """`text` of git without the credentials of the remote."""
    if not remote.secret_url:
        return text
    text = text.replace(remote.secret_url, remote.url)
    user_info = remote.secret_url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    for secret in (user_info, *user_info.split(":", 1)):
        if secret:
            text = text.replace(secret, "***")
    return text


def _credentials(remote: Remote) -> tuple[tuple[str, str], ...]:
    """Configuration that puts the credentials into the URL: not on a command line, which all users can read."""
    return ((f"url.{remote.secret_url}.insteadOf", remote.url),) if remote.secret_url else ()


def _env(git_dir: Path | None, remote: Remote, world: World, *config: tuple[str, str]) -> dict[str, str]:
    env = network_env(git_dir, http=remote.plain_http, config=(*_credentials(remote), *config))
    # Also for what the user's configuration puts in the place of a URL, and what a partial clone would fetch.
    return env | {"GIT_ALLOW_PROTOCOL": "file"} if world.offline else env


def _out_of_bounds(remote: Remote, world: World) -> bool:
    return world.offline and path_of(remote.url) is None


def _fetch(remote: Remote, mirror: Path, refspecs: Sequence[str], world: World) -> None:
    import git
    from git.util import finalize_process

    class Progress(git.RemoteProgress):
        def update(self, *counts: Any) -> None:
            _, cur_count, max_count, *_ = (*counts, None)
            world.report("source", f"fetching {remote.url}", done=int(cur_count), total=int(max_count or 0) or None)

    env = _env(mirror, remote, world)
    options = (
        "--progress",
        "--no-tags",
        "--filter=blob:none",
        "--force",
        *(("--prune",) if refspecs == _REFSPECS else ()),
    )
    # GIT_DIR says which repository; a path given to GitPython would have its `$` expanded
    process = git.Git(os.sep).fetch(
        *options, "--", "origin", *refspecs, env=env, as_process=True, universal_newlines=True
    )
    told = Progress().new_message_handler()
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        told(line)
    try:
        finalize_process(process)
    except git.GitCommandError as error:
        raise GitFailed("".join(lines)) from error


def _ask(remote: Remote, refs: Sequence[str], world: World) -> dict[str, str]:
    """The commits of those refs that the remote has, tags peeled. Raises GitFailed."""
    sources = world.home.sources
    env = _env(None, remote, world)
    env["GIT_CEILING_DIRECTORIES"] = str(sources.parent)
    patterns = [pattern for ref in refs for pattern in (ref, ref + "^{}")]
    out = run_git("ls-remote", "--", remote.url, *patterns, env=env, cwd=sources, timeout=_ANSWER_SECONDS)
    found: dict[str, str] = {}
    for line in out.decode("utf-8", "surrogateescape").splitlines():
        commit, _, name = line.partition("\t")
        if name.endswith("^{}"):
            found[name[:-3]] = commit
        else:
            found.setdefault(name, commit)
    return found


def _all_names(remote: Remote, world: World) -> list[str]:
    env = _env(None, remote, world)
    env["GIT_CEILING_DIRECTORIES"] = str(world.home.sources.parent)
    options = ("--heads", "--tags", "--refs")
    try:
        out = run_git("ls-remote", *options, "--", remote.url, env=env, cwd=world.home.sources, timeout=_ANSWER_SECONDS)
    except GitFailed:
        return []
    return [line.partition("\t")[2] for line in out.decode("utf-8", "replace").splitlines()]


def _candidates(revision: str | None) -> list[str]:
    """The refs that a name may stand for, best first, in the order of gitrevisions(7)."""
    if revision is None or revision == "HEAD":
        return ["HEAD"]
    if revision.startswith("refs/"):
        return [revision]
    names = [f"refs/tags/{revision}", f"refs/heads/{revision}"]
    if revision.startswith(("heads/", "tags/")):
        names.append(f"refs/{revision}")
    if revision.startswith("origin/"):
        names.append(f"refs/heads/{revision.removeprefix('origin/')}")
    return names


def _mirrored(mirror: Path, refs: Sequence[str]) -> tuple[str, float] | None:
    """The commit of the first of these refs that the mirror knows and has, and when that was so (epoch seconds)."""
    for ref in refs:
        told = _name_file(mirror, ref)
        if told.exists() and has_commit(mirror, told.read_text()):
            return told.read_text(), told.stat().st_mtime
    asked = mirror / "orch" / "asked"
    for ref in refs if asked.exists() else ():
        commit = find_commit(mirror, ref)
        if commit:
            return commit, asked.stat().st_mtime
    return None


def _from_mirror(remote: Remote, mirror: Path, revision: str | None, reason: str | None) -> Named:
    """What the mirror knows of a name, when the remote was not (`reason` is None) or could not be asked."""
    name = revision or "the default branch"
    unreached = "" if reason is None else f"{remote.url} can't be reached ({reason})"
    known = _mirrored(mirror, _candidates(revision))
    if known is not None:
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(known[1]))
        return Named(known[0], (f"{unreached or 'without network'}: {name} is as the mirror had it on {when}.",))
    commit = _find_short(mirror, revision) if revision is not None and _is_hex(revision) else None
    if commit is not None:
        return Named(commit, (f"{unreached}: the mirror has {name}.",) if unreached else ())
    if reason is None:
        raise _not_here(name, remote)
    raise OrchError(f"{remote.url} can't be read: {reason}.")


def _short_commit(remote: Remote, revision: str, world: World) -> str:
    mirror = make_mirror(world.home, remote.url)
    commit = _find_short(mirror, revision)
    if commit is None:
        with locked(world.home, mirror):
            try:
                fetch(remote, mirror, _REFSPECS, world)
            except GitFailed as error:
                raise OrchError(f"{remote.url} can't be fetched: {redacted(error.line, remote)}.") from error
        commit = _find_short(mirror, revision)
    if commit is None:
        raise OrchError(f"{remote.url} has no branch, tag or (unique) commit {revision!r}.")
    return commit


def _find_short(mirror: Path, revision: str) -> str | None:
    """The commit of a short id. One that a bundle brought counts only when the remote was seen to have it as well."""
    commit = find_commit(mirror, revision)
    if commit is None or not is_foreign(mirror, commit):
        return commit
    try:
        out = run_git("for-each-ref", "--count=1", "--contains", commit, env=local_env(mirror))
    except GitFailed:
        return None
    return commit if out else None


def _remember_name(remote: Remote, ref: str, commit: str, world: World) -> None:
    """Keep what the remote just said, for a day without network.

    Not as a ref: git tells a remote of its refs that it has all their history, and a commit that was copied from a
    work tree has none.
    """
    mirror = make_mirror(world.home, remote.url, "sha1" if len(commit) == 40 else "sha256")
    place = _name_file(mirror, ref)
    with suppress(OSError):
        place.parent.mkdir(exist_ok=True)
        aside = place.with_name(f".{os.getpid()}.{os.urandom(4).hex()}")
        aside.write_text(commit)
        aside.replace(place)


def _name_file(mirror: Path, ref: str) -> Path:
    return mirror / "orch" / "names" / quote(ref, safe="")


def _is_hex(text: str) -> bool:
    return all(character in "0123456789abcdefABCDEF" for character in text)
