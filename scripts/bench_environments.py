"""The measuring part of scripts/bench environments: solved, locked and installed by orch and by the tools beside it.

Everything comes from this machine: conda packages from the channel, wheels from an index on loopback. conda-lock's
conda solver is not among the peers: it runs a conda, mamba or micromamba program, which orch does without.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename

from orchestrator.environment.host import current_subdir
from orchestrator.files import remove_tree

CHECKOUT = Path(__file__).parents[1]
CHANNEL = CHECKOUT / ".cache" / "channel"
WHEELS = CHECKOUT / ".cache" / "bench" / "wheels"
ORCH, UV = (Path(sys.executable).with_name(name) for name in ("orch", "uv"))
CONDA_FORGE = "https://conda.anaconda.org/conda-forge"
PACKAGES = ("numpy", "pandas")

RATTLER = """\
import asyncio, os, sys
import rattler

async def main(channel, cache, prefix, *specs):
    records = await rattler.solve(
        [rattler.Channel(channel)], [rattler.MatchSpec(spec) for spec in specs],
        gateway=rattler.Gateway(cache_dir=cache + "/repodata"), virtual_packages=rattler.VirtualPackage.detect())
    if prefix:
        await rattler.install(records, prefix, cache_dir=cache + "/pkgs", show_progress=False)

asyncio.run(main(*sys.argv[1:]))
os._exit(0)
"""

CONDA_LOCK = """\
import sys, time
from conda_lock.models.lock_spec import VersionedDependency
from conda_lock.models.pip_repository import PipRepository
from conda_lock.pypi_solver import solve_pypi

index, python, platform, mapping, *names = sys.argv[1:]
begin = time.perf_counter()
found = solve_pypi(
    pip_specs={name: VersionedDependency(name=name, version="*", manager="pip") for name in names},
    use_latest=[], pip_locked={}, conda_locked={}, python_version=python, platform=platform,
    pip_repositories=[PipRepository(url=index)], allow_pypi_requests=False, mapping_url=mapping)
assert set(names) <= set(found)
print(time.perf_counter() - begin)
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A command to time; `before` makes ready what it works on. A command that prints its seconds has `says`."""

    name: str
    before: Callable[[], None]
    command: tuple[str | Path, ...]
    says: str | None = None


def main() -> None:
    """Set up, measure, print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    download_wheels()
    with tempfile.TemporaryDirectory(prefix="orch-bench-") as scratch, served(WHEELS) as index:
        place = Path(scratch)
        environ = prepare(place, index)
        for title, cases in sections(place, index).items():
            print_section(title, measure(cases, environ, rounds))


def download_wheels() -> None:
    """The wheels of the packages, from pip's index, as an index of their own (PEP 503); once."""
    if (WHEELS / "ready").exists():
        return
    print(f"downloading the wheels of {', '.join(PACKAGES)} to {WHEELS}", file=sys.stderr)
    shutil.rmtree(WHEELS, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "download", "--only-binary", ":all:", "--dest", WHEELS, *PACKAGES], check=True)
    for wheel in WHEELS.glob("*.whl"):
        page = WHEELS / "simple" / canonicalize_name(parse_wheel_filename(wheel.name)[0])
        page.mkdir(parents=True)
        (page / "index.html").write_text(f'<!DOCTYPE html>\n<a href="../../{wheel.name}">{wheel.name}</a>\n')
    (WHEELS / "ready").touch()


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The URL of the index in `folder`, on loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None: ...  # uv hangs up when it has read enough of a wheel

    with Server(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()


def prepare(place: Path, index: str) -> dict[str, str]:
    """An ORCH_HOME, the two environment files, and the variables of all commands."""
    home = place / "home"
    home.mkdir()
    mirror = f'[mirrors]\n"{CONDA_FORGE}" = ["{CHANNEL.as_uri()}"]\n'
    (home / "config.toml").write_text(f'{mirror}[pypi]\nindex = "{index}"\n')
    head = "channels: [conda-forge]\ndependencies:\n"
    (place / "conda.yml").write_text(head + "".join(f"  - {name}\n" for name in ("python", *PACKAGES)))
    (place / "pip.yml").write_text(head + f"  - python\n  - pip\n  - pip: [{', '.join(PACKAGES)}]\n")
    (place / "wanted.txt").write_text("".join(f"{name}\n" for name in PACKAGES))
    (place / "names.json").write_text("{}")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "PYTHON"))}
    # Each peer finds its packages where orch does, and nowhere else.
    return ours | {
        "ORCH_HOME": str(home),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": index,
        "PIP_CACHE_DIR": str(place / "pip-cache"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_NO_CONFIG": "1",
        "UV_DEFAULT_INDEX": index,
        "UV_CACHE_DIR": str(place / "uv-cache"),
        "UV_PYTHON_DOWNLOADS": "never",
    }


def sections(place: Path, index: str) -> dict[str, list[Case]]:
    """What is compared with what; the first case of each section is orch."""
    home, venv, cache = place / "home", place / "venv", place / "rattler"

    def without(*paths: Path) -> Callable[[], None]:
        def remove() -> None:
            for path in paths:
                remove_tree(path)

        return remove

    def shell(*commands: str) -> tuple[str, ...]:
        return ("sh", "-ec", "\n".join(commands), "sh", str(venv), str(place / "wanted.txt"), sys.executable)

    rattler = (sys.executable, "-c", RATTLER, CHANNEL.as_uri(), str(cache))
    specs = ("python", *PACKAGES)
    show, ready = (ORCH, "env", "show", place / "conda.yml"), (ORCH, "env", "exec", place / "conda.yml", "--", "true")
    uv_install = f'"{UV}" venv -q --python "$3" "$1"\n"{UV}" pip install -q --python "$1/bin/python" -r "$2"'
    pip_install = '"$3" -m venv "$1"\n"$1/bin/python" -m pip install -q -r "$2"'
    orch_install = Case("orch env exec", without(home / "envs", home / "cache"), ready)
    uv_case = Case("uv venv, uv pip install", without(venv, place / "uv-cache"), shell(uv_install))
    compiled = shell(uv_install + " --compile-bytecode")
    pip_case = Case("python -m venv, pip install", without(venv, place / "pip-cache"), shell(pip_install))
    conda_lock = (sys.executable, "-c", CONDA_LOCK, index, "{}.{}.{}".format(*sys.version_info[:3]), current_subdir())
    return {
        f"solve {' '.join(specs)}": [
            Case("orch env show, no lock", without(home / "locks"), show),
            Case("rattler alone: import, solve", without(cache / "repodata"), (*rattler, "", *specs)),
        ],
        "install, nothing there but the lock": [
            orch_install,
            Case("rattler alone: solve, install", without(cache, venv), (*rattler, str(venv), *specs)),
            uv_case,
            Case(f"{uv_case.name}, compiled", uv_case.before, compiled),
            pip_case,
        ],
        "install again, caches there": [
            Case(orch_install.name, without(home / "envs"), ready),
            Case("rattler alone: solve, install", without(venv), (*rattler, str(venv), *specs)),
            Case(uv_case.name, without(venv), shell(uv_install)),
            Case(f"{uv_case.name}, compiled", without(venv), compiled),
            Case(pip_case.name, without(venv), shell(pip_install)),
        ],
        f"lock pip: {' '.join(PACKAGES)}": [
            Case(
                "orch env show, no lock (conda, pip)", without(home / "locks"), (ORCH, "env", "show", place / "pip.yml")
            ),
            Case("uv pip compile, as orch calls it", lambda: None, _uv_compile(place)),
            Case(
                "conda-lock's pip solver: import, solve",
                lambda: None,
                (*conda_lock, (place / "names.json").as_uri(), *PACKAGES),
                says="conda-lock's pip solver: the call alone",
            ),
        ],
    }


def _uv_compile(place: Path) -> tuple[str | Path, ...]:
    options = ("--quiet", "--no-header", "--format", "pylock.toml", "--generate-hashes", "--no-build")
    output = ("--output-file", place / "pylock.toml")
    return (UV, "pip", "compile", *options, "--python", sys.executable, *output, place / "wanted.txt")


def measure(cases: list[Case], environ: dict[str, str], rounds: int) -> dict[str, list[float]]:
    """Seconds of each case, all in turn, so that a slow minute slows them all; the first round is thrown away."""
    times: dict[str, list[float]] = {}
    for turn in range(rounds + 1):
        for case in cases:
            case.before()
            begin = time.perf_counter()
            done = subprocess.run(case.command, env=environ, cwd="/", capture_output=True, text=True, check=False)
            took = time.perf_counter() - begin
            if done.returncode != 0:
                sys.exit(f"{case.name} failed:\n{done.stderr}")
            if turn:
                times.setdefault(case.name, []).append(took)
                if case.says:
                    times.setdefault(case.says, []).append(float(done.stdout))
    return times


def print_section(title: str, times: dict[str, list[float]]) -> None:
    """Median, range, and the share of orch's median."""
    orch = statistics.median(next(iter(times.values())))
    print(f"\n{title:<52}{'median':>8}{'min':>8}{'max':>8}{'of orch':>9}   (s)")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"  {name:<50}{median:8.2f}{min(seconds):8.2f}{max(seconds):8.2f}{median / orch:8.2f}x")


if __name__ == "__main__":
    main()
