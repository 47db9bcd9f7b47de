"""The variables of an activated environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.environment.activate import activated
from orchestrator.errors import OrchError

BASE = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/home/ada", "LANG": "C.UTF-8"}


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    path = tmp_path / "a prefix"
    (path / "bin").mkdir(parents=True)
    (path / "conda-meta").mkdir()
    return path


def add_script(prefix: Path, name: str, text: str) -> None:
    folder = prefix / "etc/conda/activate.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def add_variables(prefix: Path, name: str, variables: dict[str, str]) -> None:
    folder = prefix / "etc/conda/env_vars.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(variables))


def test_environment_without_scripts_needs_no_shell(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", None)
    assert activated(prefix, BASE) == {
        **BASE,
        "PATH": f"{prefix}/bin:/usr/local/bin:/usr/bin:/bin",
        "CONDA_PREFIX": str(prefix),
        "CONDA_DEFAULT_ENV": str(prefix),
        "CONDA_SHLVL": "1",
    }


def test_nothing_of_an_outer_activation_leaks_in(prefix: Path) -> None:
    outer = {
        "PATH": "/v/bin:/conda/envs/x/bin:/conda/condabin:/conda/bin:/usr/bin::/opt/conda-tools/bin",
        "CONDA_PREFIX": "/conda/envs/x/",
        "CONDA_PREFIX_1": "/conda",
        "CONDA_DEFAULT_ENV": "x",
        "CONDA_SHLVL": "2",
        "CONDA_EXE": "/conda/bin/conda",
        "CONDA_PYTHON_EXE": "/conda/bin/python",
        "CONDA_PROMPT_MODIFIER": "(x) ",
        "_CE_CONDA": "",
        "_CONDA_ROOT": "/conda",
        "VIRTUAL_ENV": "/v",
        "VIRTUAL_ENV_PROMPT": "v",
        "PYTHONHOME": "/v",
        "PYTHONPATH": "/v/lib",
        "CONDA_OVERRIDE_CUDA": "12.4",
        "KEPT": "yes",
    }
    assert activated(prefix, outer) == {
        "PATH": f"{prefix}/bin:/usr/bin:/opt/conda-tools/bin",
        "CONDA_PREFIX": str(prefix),
        "CONDA_DEFAULT_ENV": str(prefix),
        "CONDA_SHLVL": "1",
        "CONDA_OVERRIDE_CUDA": "12.4",
        "KEPT": "yes",
    }


def test_activating_twice_changes_nothing(prefix: Path) -> None:
    once = activated(prefix, BASE)
    assert activated(prefix, once) == once


def test_variables_of_packages_then_of_the_environment_are_set(prefix: Path) -> None:
    add_variables(prefix, "b.json", {"ONE": "b", "TWO": "b", "GONE": "b"})
    add_variables(prefix, "a.json", {"ONE": "a", "THREE": "a"})
    state = {"env_vars": {"TWO": "environment", "GONE": "***unset***", "LANG": "***unset***"}}
    (prefix / "conda-meta/state").write_text(json.dumps(state))
    found = activated(prefix, BASE)
    assert {name: found.get(name) for name in ("ONE", "TWO", "THREE", "GONE", "LANG")} == {
        "ONE": "b",
        "TWO": "environment",
        "THREE": "a",
        "GONE": None,
        "LANG": None,
    }


def test_scripts_are_sourced_in_order_and_see_the_environment(prefix: Path) -> None:
    add_variables(prefix, "a.json", {"DATA": "share/data"})
    add_script(
        prefix, "a.sh", 'export FULL="$CONDA_PREFIX/$DATA"\nexport LATER=a\nunset LANG\nNOT_EXPORTED=1\necho noise\n'
    )
    add_script(prefix, "b.sh", "export LATER=b$LATER\nexport TEXT=$'two\\nlines = \\x27 \" $HOME'\nfalse\n")
    add_script(prefix, "c.fish", "exit 1\n")
    found = activated(prefix, {**BASE, "odd.name": "kept", "SHLVL": "4", "PWD": "/somewhere"})
    assert found["FULL"] == f"{prefix}/share/data"
    assert found["LATER"] == "ba"
    assert found["TEXT"] == "two\nlines = ' \" $HOME"
    assert "LANG" not in found and "NOT_EXPORTED" not in found and "noise" not in str(found)
    assert found["odd.name"] == "kept"
    assert (found["SHLVL"], found["PWD"]) == ("4", "/somewhere")
    assert "OLDPWD" not in found and "_" not in found


def test_the_callers_bash_settings_do_not_enter_the_scripts(prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "rc").write_text("export TRAPPED=1\n")
    add_script(prefix, "a.sh", "export LISTED=$(type -t evil)$SHELLOPTS\n")
    base = {**BASE, "BASH_ENV": str(tmp_path / "rc"), "BASH_FUNC_evil%%": "() { :; }", "SHELLOPTS": "noexec"}
    found = activated(prefix, base)
    assert "TRAPPED" not in found
    assert "function" not in found["LISTED"] and "noexec" not in found["LISTED"]


def test_script_that_ends_the_shell_is_an_error_with_its_words(prefix: Path) -> None:
    add_script(prefix, "bad.sh", "echo no licence found >&2\nexit 3\n")
    with pytest.raises(OrchError, match=r"bad\.sh.*exit code 3: no licence found"):
        activated(prefix, BASE)


@pytest.mark.parametrize(
    "text", ["{", '{"env_vars": []}', '{"env_vars": {"A=B": "x"}}', '{"env_vars": {"A": "\\u0000"}}']
)
def test_unreadable_variables_are_an_error_that_names_the_file(prefix: Path, text: str) -> None:
    (prefix / "conda-meta/state").write_text(text)
    with pytest.raises(OrchError, match="conda-meta/state"):
        activated(prefix, BASE)


VALUES = st.binary(max_size=40).filter(lambda data: b"\0" not in data).map(os.fsdecode)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.from_regex(r"X_[A-Za-z0-9_]{1,8}", fullmatch=True), VALUES, max_size=5))
def test_every_value_passes_a_script_unchanged(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, str]
) -> None:
    prefix = tmp_path_factory.mktemp("prefix")
    add_script(prefix, "a.sh", "export SEEN=1\n")
    found = activated(prefix, {**BASE, **values})
    assert {name: found[name] for name in values} == values
    assert found["SEEN"] == "1"


def test_activated_python_is_the_one_of_the_prefix(prefix: Path) -> None:
    (prefix / "bin/python").symlink_to(sys.executable)
    said = subprocess.run(
        ["/bin/sh", "-c", "command -v python"], env=activated(prefix, BASE), capture_output=True, text=True
    )
    assert said.stdout.strip() == f"{prefix}/bin/python"
