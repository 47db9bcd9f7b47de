"""The job `install`: build the prefix of a lock in a folder aside, ready to be moved. Runs in the worker process."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestrator.environment.kept import kept_whole
from orchestrator.environment.lock import LockedPackage, locked_packages
from orchestrator.environment.manifest import write_manifest
from orchestrator.environment.packaged_scripts import PackagedScript, not_run, packaged_scripts, post_link_script
from orchestrator.environment.pip_install import install_wheels
from orchestrator.environment.progress import Progress
from orchestrator.environment.redact import without_credentials
from orchestrator.environment.space import is_full, no_space, said_full
from orchestrator.errors import OrchError
from orchestrator.files import flush_disk
from orchestrator.paths import Home
from orchestrator.report import Report, plural, seldom

_CAUSE = "Caused by: "
_SEALED = 0o555
_COMPILERS = 8
"""Most processes that compile at once: the machine may be a shared login node."""
_TICK = 64
"""After so many files a compiler gives a sign."""


def work(job: Mapping[str, Any], *, home: Home, report: Report) -> dict[str, Any]:
    """Build the prefix of `job["lock_id"]` at `job["aside"]`, as it will be at `job["final"]`.

    `job["guard"]` is a lock file that says that somebody works on it. With `job["link_scripts"]` the prefix is left
    unfinished, its files no links to the package cache: the scripts have yet to run (`link_scripts`). The result has
    the `scripts` that packages bring. Raises OrchError with one sentence; what is at `aside` is then incomplete.
    """
    aside, final = Path(job["aside"]), Path(job["final"])
    packages = locked_packages(home, job["lock_id"])
    hold_fd = hold(Path(job["guard"]))
    try:
        report("environment", f"installing {plural(len(packages), 'package')}")
        _install_conda(packages, aside, final=final, home=home, report=report)
        scripts = packaged_scripts(aside)
        python = _python(packages, aside)
        if python is not None:
            _, site_packages = python
            if wheels := sum(package.manager == "pip" for package in packages):
                report("environment", f"installing {plural(wheels, 'pip package')}")
            install_wheels(packages, aside, final=final, site_packages=site_packages, home=home, hold_fd=hold_fd)
        elif any(package.manager == "pip" for package in packages):
            raise OrchError("the lock has pip packages and no python to install them for.")
        if job["link_scripts"]:
            for name in job["link_scripts"]:
                post_link_script(name, scripts, aside)
            _own_files(aside)
        else:
            finish(job, packages, aside, scripts=scripts, hold_fd=hold_fd, report=report)
    except OSError as error:
        raise explained(error, home, final) from error
    return {"scripts": [asdict(script) for script in scripts]}


def finish(
    job: Mapping[str, Any],
    packages: Sequence[LockedPackage],
    prefix: Path,
    *,
    scripts: Iterable[PackagedScript],
    hold_fd: int,
    report: Report,
    notes: Sequence[str] = (),
) -> None:
    """Compile what is at `prefix`, aside or in its place, write its manifest with `notes`, and seal it."""
    python = _python(packages, prefix)
    if python is not None:
        version, site_packages = python
        report("environment", "compiling its Python files")
        _compile(prefix, Path(job["final"]), version, Path(site_packages).parent, hold_fd, report)
    notes = [*notes, *not_run(scripts, job["link_scripts"])]
    write_manifest(prefix, lock_id=job["lock_id"], packages=len(packages), notes=notes)
    _seal(prefix)
    flush_disk(prefix)


def hold(guard: Path) -> int:
    """A descriptor with a shared lock on the guard of a build; who inherits it is seen to work on the build."""
    # Opened, never made: when it is gone, so is who wanted this prefix.
    fd = os.open(guard, os.O_RDWR | os.O_CLOEXEC)
    fcntl.flock(fd, fcntl.LOCK_SH)
    if not os.fstat(fd).st_nlink:
        raise OrchError("nobody waits for this environment any more.")
    return fd


def _install_conda(packages: Sequence[LockedPackage], aside: Path, *, final: Path, home: Home, report: Report) -> None:
    from orchestrator.environment import engine

    conda = [package for package in packages if package.manager == "conda"]
    whole = kept_whole(home, conda)
    kept = {package.url: whole[package.sha256] for package in conda if package.sha256 in whole}
    channels = {package.channel or package.url.rsplit("/", 2)[0] for package in conda if package.url not in kept}
    try:
        with engine.connect(home, sorted(channels), kept) as connection:
            records = engine.records_of(conda, connection)
            # Files are hard links to the package cache, which a program that writes into a prefix writes into too:
            # so the cache is not believed, and an entry that differs from its package is extracted again.
            absent = engine.run(engine.to_fetch(connection, records))
            progress = Progress(report, {record.name.normalized: record.size for record in absent})
            engine.run(engine.install(connection, records, aside, final=final, full_validation=True, reporter=progress))
    except OrchError as error:
        raise _package_error(str(error), conda) from error


def _package_error(said: str, packages: Iterable[LockedPackage]) -> OrchError:
    """rattler's chain of causes as one sentence about one package."""
    first, *more = said.splitlines()
    package = next((package for package in packages if package.file_name in said), None)
    if package is not None:
        url = without_credentials(package.url)
        first = first if url in first else first.replace(package.file_name, f"{package.file_name} ({url})", 1)
    causes = [line.removeprefix(_CAUSE).rstrip(".") for line in more if line.startswith(_CAUSE)]
    if not causes or not first.startswith("failed to"):
        return OrchError(first)  # it has been explained; rattler's own words follow
    # The first cause names rattler's own rooms; the last two say what happened, to what.
    reason = ": ".join(dict.fromkeys(causes[1:][-2:] or causes))
    return OrchError(f"{first}: {reason}.")


def _python(packages: Iterable[LockedPackage], aside: Path) -> tuple[tuple[int, int], str] | None:
    """The version of the environment's Python and the folder of its packages; None when there is none."""
    for package in packages:
        if package.manager == "conda" and package.name == "python":
            major, minor = (int(part) for part in package.version.split(".")[:2])
            # Not what the lock says: see `engine.install`.
            meta = aside / "conda-meta" / f"python-{package.version}-{package.build}.json"
            said = json.loads(meta.read_bytes()).get("python_site_packages_path")
            folder: str = said or f"lib/python{major}.{minor}/site-packages"
            if folder.startswith("/") or ".." in folder.split("/"):
                raise OrchError(f"{package.file_name} has its packages outside of the environment, in {folder!r}.")
            return (major, minor), folder
    return None


def _compile(aside: Path, final: Path, version: tuple[int, int], folder: Path, hold_fd: int, report: Report) -> None:
    """Compile all Python files, so that a read-only prefix starts fast.

    The bytecode is `unchecked-hash`: Python takes it as it is. The other two modes are wrong here. The time of the
    source (the default) would put the time of the installation into every file, and make a prefix that is copied
    without times compile itself at each start, in vain, for it is read-only; `checked-hash` (the default under
    SOURCE_DATE_EPOCH) would read and hash every source at every import. Whether sources are as they were is the
    manifest's question, and what an edited one would do is nothing. Packages that come compiled stay as they are.
    """
    if version < (3, 7):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = _shares(aside / folder, min(cores, _COMPILERS))
    # Processes of their own, not a pool: when one of a pool is killed, the others wait for ever.
    ticks, tick = os.pipe()
    compilers = [_start_compiler(aside, final, share, hold_fd, tick) for share in shares]
    os.close(tick)
    _count_compiled(ticks, sum(map(len, shares)), report)
    for done, said in [(compiler, compiler.communicate()[1]) for compiler in compilers]:
        if (full := said_full(said, aside)) is not None:
            raise full
        if done.returncode:
            last = said.strip().splitlines()[-1:] or ["it said nothing"]
            raise OrchError(f"the environment's Python does not work here: {last[0]} (exit code {done.returncode}).")


def _count_compiled(ticks: int, total: int, report: Report) -> None:
    done, report = 0, seldom(report)
    with open(ticks, "rb", buffering=0) as pipe:
        while some := pipe.read(_TICK):
            done += len(some) * _TICK
            report("environment", "compiling", done=done, total=total)
    report("environment", "compiling", done=total, total=total)


_COMPILE = """
import os, py_compile, sys
aside, final = map(os.fsencode, sys.argv[1:3])
for number, path in enumerate(filter(None, sys.stdin.buffer.read().split(b"\\0")), 1):
    if number % int(sys.argv[3]) == 0:
        os.write(1, b".")
    try:
        py_compile.compile(
            os.fsdecode(path),
            dfile=os.fsdecode(final + path[len(aside):]),
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    except (py_compile.PyCompileError, RecursionError, ValueError):
        pass  # no valid Python (a template, a test of a parser) stays as it is
"""


def _shares(folder: Path, count: int) -> list[list[bytes]]:
    """The uncompiled Python files below `folder`, in `count` lists of about the same size in bytes."""
    compiled = {pyc.parent.parent / pyc.name.split(".", 1)[0] for pyc in folder.rglob("__pycache__/*.pyc")}
    sources = [path for path in folder.rglob("*.py") if path.with_suffix("") not in compiled and path.is_file()]
    sources.sort(key=lambda path: path.stat().st_size, reverse=True)
    files = [os.fsencode(path) for path in sources]
    return [files[start::count] for start in range(count) if files[start::count]]


def _start_compiler(aside: Path, final: Path, share: Sequence[bytes], hold_fd: int, tick: int) -> subprocess.Popen[str]:
    with tempfile.TemporaryFile() as listing:
        listing.write(b"\0".join(share))
        listing.seek(0)
        return subprocess.Popen(
            # Without warnings: its stderr is read only at its end, and must not fill the pipe before.
            [aside / "bin/python", "-I", "-S", "-B", "-W", "ignore", "-c", _COMPILE, aside, final, str(_TICK)],
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            stdin=listing,
            stdout=tick,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            pass_fds=(hold_fd,),
        )


def _own_files(aside: Path) -> None:
    """Make each hard link to the package cache a file of its own, which a script may write into."""
    for folder, _, files in os.walk(aside):
        for name in files:
            path = f"{folder}/{name}"
            status = os.lstat(path)
            if not stat.S_ISREG(status.st_mode):
                continue
            if status.st_nlink > 1:
                # A name that nothing has: a package may have a file, or a link that leads out, under any other.
                fd, fresh = tempfile.mkstemp(dir=folder)
                os.close(fd)
                shutil.copy2(path, fresh)
                os.replace(fresh, path)  # noqa: PTH105 (a str, thousands of them)
            os.chmod(path, status.st_mode & 0o777 | 0o200)  # noqa: PTH101 (as above)


def _seal(aside: Path) -> None:
    """Take the right to write from every file and folder.

    Files are hard links to the package cache, so those there lose it too; that is wanted, and harms nobody: the
    cache replaces and removes files, it does not write into them. The top folder stays, to be moved.
    """
    for folder, folders, files in os.walk(aside):
        for name in files:
            path = f"{folder}/{name}"
            mode = os.lstat(path).st_mode
            if mode & 0o170000 == 0o100000 and mode & 0o222:
                os.chmod(path, mode & 0o555 | 0o444)  # noqa: PTH101 (a str, thousands of them)
        for name in folders:
            if not os.path.islink(f"{folder}/{name}"):  # noqa: PTH114
                os.chmod(f"{folder}/{name}", _SEALED)  # noqa: PTH101 (as above)


def explained(error: OSError, home: Home, final: Path) -> OrchError:
    """What the system refused while a prefix was installed, as a sentence."""
    if is_full(error):
        return OrchError(no_space(home, "install"))
    return OrchError(
        f"the environment can't be installed in {final.parent}: {error.strerror or error} ({error.filename})."
    )
