"""Where everything is kept: `$ORCH_HOME`, and the folders in it that `config.toml` may move to another disk."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from orchestrator.errors import OrchError

MOVABLE = ("envs", "store", "work", "cache")
"""The folders that `[paths]` in `config.toml` may place elsewhere."""

_GROUP_WRITES, _OTHERS_WRITE = 0o020, 0o002

_HEX = "[0-9a-f]"
_KEPT = {
    "envs": (f"{_HEX * 64}*",),
    "store": (f"{_HEX * 2}/{_HEX * 62}",),
    "work": (_HEX * 32,),
    "cache": ("virtual-packages", f"wheels/{_HEX * 64}", f"archives/{_HEX * 64}", "pkgs/*.lock"),
}
"""Patterns of what orch makes in each of these folders, and nobody else there."""


@dataclass(frozen=True, slots=True)
class Home:
    """The folders of one `$ORCH_HOME`. Another `ORCH_HOME` is, for orch, another machine.

    When it is `offline`, no network may be touched: what is not here already, or in a folder that the configuration
    names, is an error that says what is missing.
    """

    root: Path
    envs: Path
    store: Path
    work: Path
    cache: Path
    offline: bool = field(default=False, kw_only=True)

    @property
    def ledger(self) -> Path:
        """The SQLite file; an index that can be made again from `runs`."""
        return self.root / "ledger.db"

    @property
    def config(self) -> Path:
        """The user's configuration, in TOML."""
        return self.root / "config.toml"

    @property
    def sources(self) -> Path:
        """Bare git mirrors, one per origin."""
        return self.root / "sources"

    @property
    def locks(self) -> Path:
        """Environment locks by lock id, and the index that finds them by what they were made from."""
        return self.root / "locks"

    @property
    def lock_index(self) -> Path:
        """What finds a lock by what it was made from."""
        return self.locks / "by-source"

    @property
    def packages(self) -> Path:
        """Conda packages as fetched and extracted; prefixes are linked from them."""
        return self.cache / "pkgs"

    @property
    def repodata(self) -> Path:
        """What channels have, as rattler keeps it."""
        return self.cache / "repodata"

    @property
    def uv(self) -> Path:
        """The cache of uv."""
        return self.cache / "uv"

    @property
    def wheels(self) -> Path:
        """Wheels that no index has, in a folder by sha256 each."""
        return self.cache / "wheels"

    @property
    def archives(self) -> Path:
        """Conda packages as files, as a bundle brought them, in a folder by sha256 each."""
        return self.cache / "archives"

    @property
    def jobs(self) -> Path:
        """A folder for each job of a worker, held with an exclusive `flock` while it is at work."""
        return self.cache / "jobs"

    @property
    def runs(self) -> Path:
        """One directory per run: the truth that the ledger indexes."""
        return self.root / "runs"

    def run(self, run_id: str) -> Path:
        """The directory of one run."""
        return self.runs / run_id


def stays_below(path: str) -> bool:
    """Whether a relative POSIX path names something below the folder it is relative to, and not the folder itself."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and "\0" not in path


def open_home(environ: Mapping[str, str] = os.environ, *, offline: bool = False, make: bool = True) -> Home:
    """The home that `ORCH_HOME` names (default `~/.local/share/orch`), made when it is not there, mode 0700.

    Without `make`, for who only reads, one that nobody has used yet (it has no runs and no `config.toml`) stays so:
    its folders are not there, and whatever is looked for in it is not found.

    In a folder of `[paths]` that other users can write to, or that is another's, a part of the user's own is used.
    Raises OrchError when it can't be made or written, when its `config.toml` can't be read, or when others were given
    the right to write to a folder that was used as a whole.
    """
    named = environ.get("ORCH_HOME")
    root = Path(named).expanduser() if named else Path("~/.local/share/orch").expanduser()
    root = root.resolve()
    try:
        if not make and not any((root / name).exists() for name in ("runs", "config.toml")):
            with contextlib.suppress(FileNotFoundError):
                os.scandir(root).close()  # no folder, or one that is not to be looked into, is no empty home
            return Home(root, *(root / name for name in MOVABLE), offline=offline)
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        moved = _moved_paths(root)
        for folder in moved.values():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        placed = {name: _own_part(name, folder) for name, folder in moved.items()}
        home = Home(root, *(placed.get(name, root / name) for name in MOVABLE), offline=offline)
        for folder in (home.runs, home.locks, home.sources, *(getattr(home, name) for name in MOVABLE)):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise OrchError(
            f"orch keeps its files in {root}, which can't be used: {error.strerror} ({error.filename}). "
            "Set ORCH_HOME to a folder that you can write."
        ) from error
    return home


def _own_part(name: str, folder: Path) -> Path:
    """`folder`, or where other users have a say in it, a folder of the user's own inside.

    Whoever can write to a cache or an environment decides what its users run: an extracted package is checked against
    hashes that stand beside it. So these are never shared between users; archives may be, in a folder of `[mirrors]`.
    What has been kept in one of the two places stays in use, or is refused, when the rights change later.
    """
    if not hasattr(os, "geteuid"):  # Windows has no such modes
        return folder
    user, facts = os.geteuid(), folder.stat()
    # A private group has the number of its user; where each user has one, files are usually made writable for it.
    written = facts.st_mode & _OTHERS_WRITE or (facts.st_mode & _GROUP_WRITES and facts.st_gid != user)
    part = folder / str(user)
    if facts.st_uid == user and not written:
        if not _is_folder_of((user, 0), part):
            return folder
        if not _has_kept(name, folder, user):
            return part
        if not _has_kept(name, part, user):
            return folder
        raise OrchError(f"orch has kept your {name} both in {folder} itself and in {part}; {_one_place(name, part)}.")
    if _has_kept(name, folder, user):
        take = f"take that right from them (chmod go-w {folder}), or " if facts.st_uid == user else ""
        raise OrchError(
            f"other users can write to {folder}, where orch keeps your {name}; {take}{_one_place(name, part)}."
        )
    part.mkdir(exist_ok=True, mode=0o700)
    if not _is_folder_of((user, 0), part):
        raise OrchError(
            f"{part}, where orch would keep what is yours of the shared folder {folder}, belongs to another user. "
            "Name a folder of your own in [paths]."
        )
    return part


def _one_place(name: str, part: Path) -> str:
    if name == "envs":  # which hold their own paths
        return f"remove the environments in {part.parent} itself: they are installed again when they are needed"
    return f"move what orch has in {part.parent} itself to {part}"


def _has_kept(name: str, folder: Path, user: int) -> bool:
    """Whether orch has kept anything of the user's for `[paths] name` in the folder itself."""
    found = (path.relative_to(folder).parts[0] for pattern in _KEPT[name] for path in folder.glob(pattern))
    return any(_is_folder_of((user,), folder / top) for top in found)


def _is_folder_of(users: tuple[int, ...], path: Path) -> bool:
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid in users


def _moved_paths(root: Path) -> dict[str, Path]:
    config = root / "config.toml"
    # Most files have no [paths], and the TOML reader takes as long to load as three runs of git.
    if not config.exists() or b"paths" not in (data := config.read_bytes()):
        return {}
    import tomllib

    try:
        table = tomllib.loads(data.decode("utf-8")).get("paths", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OrchError(f"{config} is not valid TOML: {error}") from error
    moved = {}
    for name, value in table.items() if isinstance(table, dict) else ():
        if name not in MOVABLE:
            raise OrchError(f"{config}: [paths] takes {', '.join(MOVABLE)}; {name!r} is not one of them.")
        if not isinstance(value, str) or not Path(value).expanduser().is_absolute():
            raise OrchError(f"{config}: [paths] {name} must be the whole path of a folder, in quotes; it is {value!r}.")
        moved[name] = Path(value).expanduser().resolve()
    return moved
