"""What is shown while packages are fetched and linked: a count on a terminal, sentences in a log."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from channel_server import ChannelServer
from conftest import make_home
from made_index import Index

from e2e.conftest import SIX_YAML, mlproject, orch
from e2e.test_terminal import Typist

Make = Callable[..., Path]

COUNT = re.compile(rb"(KiB|MiB) fetched ([\d.]+)/([\d.]+), packages linked (\d+)/(\d+)")


@pytest.fixture
def server(
    tmp_path: Path, channel_server: Callable[[], ChannelServer], monkeypatch: pytest.MonkeyPatch
) -> ChannelServer:
    """A slow server of every channel, for a new `ORCH_HOME`."""
    served = channel_server()
    served.fail("*/python-*.conda", "trickle")
    make_home(tmp_path / "orch-home", served.url, monkeypatch)
    return served


@pytest.fixture
def six(make_project: Make) -> Path:
    return make_project({"MLproject": mlproject("echo ran"), "conda.yaml": SIX_YAML})


@pytest.mark.parametrize("command", [("run",), ("env", "exec")])
def test_a_terminal_shows_bytes_and_packages_in_one_line(
    server: ChannelServer, six: Path, command: tuple[str, ...]
) -> None:
    typist = Typist(*command, six, *(["echo", "ran"] if command == ("env", "exec") else []))
    assert typist.end() == 0, typist.shown
    counts = [(unit, *map(float, numbers)) for unit, *numbers in COUNT.findall(typist.shown)]
    assert 3 < len(counts) < 60
    units, fetched, sizes, linked, packages = (set(column) for column in zip(*counts, strict=True))
    assert (len(units), len(sizes), len(packages)) == (1, 1, 1)
    assert len(fetched) > 3
    assert max(fetched) <= max(sizes)
    assert linked <= set(range(int(max(packages)) + 1))
    [(number, size, unit)] = set(re.findall(rb"fetching (\d+) packages, ([\d.]+) (\w+)\r\n", typist.shown))
    assert (int(number), float(size), unit) == (max(packages), max(sizes), *units)
    assert not _left(typist.shown, b"linked")
    assert _left(typist.shown, b"ran")


def test_a_log_has_a_sentence_for_each_phase_and_no_counts(server: ChannelServer, six: Path) -> None:
    said = orch("run", six).stderr
    lines = [line.removeprefix("  environment  ") for line in said.splitlines() if line.startswith("  environment ")]
    assert [re.sub(r"[\d.]*\d", "N", line) for line in lines][:4] == [
        "solving conda.yaml",
        "installing N packages",
        "fetching N packages, N MiB",
        "compiling its Python files",
    ]
    assert "linked" not in said
    assert "\x1b" not in said


def test_pip_packages_have_their_sentence(
    server: ChannelServer, make_project: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index(tmp_path / "index")
    index.wheel("alpha", "1.0")
    for name in ("PIP_CONFIG_FILE", "UV_CONFIG_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    with (tmp_path / "orch-home/config.toml").open("a") as config:
        config.write(f'[pypi]\nindex = "{index.url}"\n')
    yaml = "channels: [conda-forge]\ndependencies: [python, pip: [alpha]]\n"
    said = orch("run", make_project({"MLproject": mlproject("true"), "conda.yaml": yaml})).stderr
    assert "  environment  installing 1 pip package\n" in said


def test_nothing_is_fetched_that_is_there(server: ChannelServer, six: Path, tmp_path: Path) -> None:
    orch("run", six)
    for prefix in (tmp_path / "orch-home/envs").iterdir():
        prefix.rename(tmp_path / prefix.name)
    said = orch("run", six).stderr
    assert "installing" in said
    assert "fetching" not in said


def test_an_error_stands_on_a_line_of_its_own(server: ChannelServer, six: Path) -> None:
    server.fail("*/six-*.conda", "altered")
    for command in (["run", six], ["env", "exec", six, "true"]):
        typist = Typist(*command)
        assert typist.end() == 125
        assert any(line.startswith(b"orch: the package six") for line in _screen(typist.shown))


def _left(shown: bytes, text: bytes) -> list[bytes]:
    return [line for line in _screen(shown) if text in line]


def _screen(shown: bytes) -> list[bytes]:
    """The lines that are left on the terminal in the end."""
    lines = [b""]
    for part in re.split(rb"(\r\n|\r|\x1b\[K|\x1b\[A)", shown):
        if part == b"\r\n":
            lines.append(b"")
        elif part == b"\x1b[A":
            lines = lines[: max(len(lines) - 1, 1)]
        elif part == b"\x1b[K":
            lines[-1] = b""
        elif part != b"\r":
            lines[-1] += re.sub(rb"\x1b\[\d*m", b"", part)
    return lines
