"""`orch run`, whole, with the installed program: what is recorded, what comes back, what runs again."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from made_index import served

from e2e.conftest import CONDA_YAML, ORCH, SIX_YAML, git, mlproject, orch, orch_json

TRAIN = """\
import json, os, sys
alpha = float(sys.argv[1])
with open(os.environ["ORCH_EVENTS"], "a") as events:
    for step in range(3):
        print(json.dumps({"metric": "loss", "value": alpha / (step + 1), "step": step}), file=events)
    print(json.dumps({"tag": "stage", "value": "test"}), file=events)
open("model.txt", "w").write(f"{alpha}\\n")
open(os.path.join(os.environ["ORCH_ARTIFACTS"], "note.txt"), "w").write("noted")
print(f"alpha is {alpha}")
print("careful", file=sys.stderr)
"""

PROJECT = {
    "MLproject": mlproject("python train.py {alpha}", "alpha: {type: float, default: 0.5}"),
    "conda.yaml": CONDA_YAML,
    "train.py": TRAIN,
}


@pytest.fixture
def project(make_project: Callable[..., Path], orch_home: Path) -> Path:
    return make_project(PROJECT)


def test_a_run_by_url_and_branch_is_recorded_and_its_outputs_come_back(project: Path, tmp_path: Path) -> None:
    done = orch("run", "--version", "main", project.as_uri(), "-P", "alpha=5.1")
    assert done.stdout == "alpha is 5.1\n"
    assert "careful\n" in done.stderr
    run = orch_json("show", "latest")
    source = run["spec"]["source"]
    assert run["status"] == "finished"
    assert run["exit_code"] == 0
    assert source["url"] == project.as_uri()
    assert source["commit"] == git(project, "rev-parse", "HEAD")
    assert source["tree"] == git(project, "rev-parse", "HEAD^{tree}")
    assert run["spec"]["parameters"] == run["params"] == {"alpha": "5.1"}
    assert run["metrics"] == {"loss": 5.1 / 3}
    assert run["tags"] == {"stage": "test"}
    assert {o["path"]: o["size"] for o in run["outputs"]} == {"model.txt": 4, "artifacts/note.txt": 5}
    assert run["usage"]["peak_memory"] > 1_000_000
    orch("get", run["run_id"], "-o", tmp_path / "out")
    assert (tmp_path / "out" / "model.txt").read_text() == "5.1\n"
    assert (tmp_path / "out" / "artifacts" / "note.txt").read_text() == "noted"
    logs = orch("logs", run["run_id"][:20])
    assert (logs.stdout, logs.stderr) == ("alpha is 5.1\n", "careful\n")


def test_the_second_run_neither_solves_nor_installs_and_has_the_same_spec(
    make_project: Callable[..., Path], cold_home: Path
) -> None:
    project, orch_home = make_project(PROJECT), cold_home
    first = orch_json("run", project.as_uri())
    lock = first["spec"]["environment"]["lock_id"]
    prefix = orch_home / "envs" / lock
    built = prefix.stat().st_ino, (orch_home / "locks" / lock).stat().st_mtime_ns
    # With no mirror left, solving or fetching anything would fail.
    (orch_home / "config.toml").write_text("")
    second = orch_json(
        "run", project.as_uri(), env={"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    )
    assert second["spec_id"] == first["spec_id"]
    assert second["outputs"] == first["outputs"]
    assert (prefix.stat().st_ino, (orch_home / "locks" / lock).stat().st_mtime_ns) == built


def test_cached_answers_with_the_finished_run_of_the_same_spec(project: Path) -> None:
    first = orch_json("run", project.as_uri(), "-P", "alpha=2")
    again = orch_json("run", project.as_uri(), "-P", "alpha=2", "--cached")
    assert again["run_id"] == first["run_id"]
    assert orch_json("run", project.as_uri(), "-P", "alpha=3", "--cached")["run_id"] != first["run_id"]
    assert len(orch_json("list")) == 2


def test_the_exit_code_is_the_programs_and_the_failed_run_keeps_its_outputs(
    make_project: Callable[..., Path], orch_home: Path
) -> None:
    project = make_project({"MLproject": mlproject("echo half >result; exit 3"), "conda.yaml": CONDA_YAML})
    orch("run", project, code=3)
    run = orch_json("show")
    assert (run["status"], run["exit_code"]) == ("failed", 3)
    assert [o["path"] for o in run["outputs"]] == ["result"]


def test_uncommitted_work_is_a_commit_of_its_own_and_the_repository_stays_as_it_was(project: Path) -> None:
    clean = orch_json("run", project)
    assert clean["spec"]["source"]["dirty"] is False
    (project / "train.py").write_text(TRAIN.replace("alpha is", "beta is"))
    (project / "untracked.txt").write_text("new")
    before = git(project, "status", "--porcelain"), (project / ".git" / "index").read_bytes()
    done = orch("run", project)
    assert done.stdout == "beta is 0.5\n"
    assert (git(project, "status", "--porcelain"), (project / ".git" / "index").read_bytes()) == before
    dirty = orch_json("show")["spec"]["source"]
    assert dirty["dirty"] is True
    assert dirty["commit"] != clean["spec"]["source"]["commit"]
    orch("run", project)
    assert orch_json("show")["spec"]["source"]["commit"] == dirty["commit"]
    assert "not committed" in orch("show").stdout


def test_a_folder_without_git_and_a_subdirectory_are_projects_too(
    make_project: Callable[..., Path], orch_home: Path
) -> None:
    plain = make_project(PROJECT, "plain", commit=False)
    assert orch("run", plain).stdout == "alpha is 0.5\n"
    nested = make_project({f"deep/er/{name}": text for name, text in PROJECT.items()}, "nested")
    assert orch("run", f"{nested.as_uri()}#deep/er").stdout == "alpha is 0.5\n"
    run = orch_json("show")
    assert run["spec"]["source"]["subdir"] == "deep/er"
    assert "model.txt" in [o["path"] for o in run["outputs"]]


def test_inputs_are_placed_and_path_parameters_are_the_callers(
    make_project: Callable[..., Path], orch_home: Path, tmp_path: Path
) -> None:
    command = "cat {table} inputs/extra.txt other/place; echo {table} >where"
    project = make_project({"MLproject": mlproject(command, "table: path"), "conda.yaml": CONDA_YAML})
    caller = tmp_path / "caller"
    caller.mkdir()
    for name in ("table.csv", "extra.txt", "third"):
        (caller / name).write_text(f"{name}\n")
    options = ["-P", "table=table.csv", "--input", "extra.txt", "--input", "third=other/place"]
    done = orch("run", project, *options, cwd=caller)
    assert done.stdout == "table.csv\nextra.txt\nthird\n"
    run = orch_json("show")
    assert run["params"] == {"table": "table.csv"}
    assert run["spec"]["parameters"] == {"table": "inputs/table.csv"}
    assert {i["path"] for i in run["spec"]["inputs"]} == {"inputs/table.csv", "inputs/extra.txt", "other/place"}
    orch("get", "latest", "where", "-o", tmp_path / "out")
    assert (tmp_path / "out" / "where").read_text().startswith("/")


def test_the_program_sees_fixed_variables_and_nothing_of_the_callers_python(
    make_project: Callable[..., Path], orch_home: Path, isolated: Path
) -> None:
    site = isolated / ".local" / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    (site / "six.py").write_text("__version__ = 'that of the user site'")
    code = "import os, json, six; print(json.dumps({**os.environ, 'six': six.__version__}))"
    project = make_project({"MLproject": mlproject("python probe.py"), "conda.yaml": SIX_YAML, "probe.py": code})
    environ = {"PYTHONPATH": str(site), "EDITOR": "vi", "MINE": "yes", "OPENAI_API_KEY": "sk-secret-secret-secret"}
    done = orch("run", project, "--env", "MINE", "--env", "OPENAI_API_KEY", env=environ)
    seen = json.loads(done.stdout)
    assert seen["six"].startswith("1.")
    assert seen["MINE"] == "yes"
    assert seen["OPENAI_API_KEY"] == "sk-secret-secret-secret"
    assert seen["PYTHONHASHSEED"] == "0"
    assert "EDITOR" not in seen
    assert "PYTHONPATH" not in seen
    assert seen["CONDA_PREFIX"].endswith(orch_json("show")["spec"]["environment"]["lock_id"])
    run = orch_json("show")
    assert run["spec"]["secret_variables"] == ["OPENAI_API_KEY"]
    everything = subprocess.run(["grep", "-rl", "sk-secret-secret", orch_home], capture_output=True, text=True)
    assert any(line.endswith("stdout.log") for line in everything.stdout.splitlines())  # the search does find it
    assert [line for line in everything.stdout.splitlines() if not line.endswith("stdout.log")] == []


def test_json_on_stdout_is_nothing_but_json(project: Path) -> None:
    done = orch("run", project, "--json")
    assert json.loads(done.stdout)["status"] == "finished"
    assert "alpha is 0.5" in done.stderr
    quiet = orch("run", project, "--json", "--quiet")
    assert json.loads(quiet.stdout)["status"] == "finished"
    assert quiet.stderr == ""


def test_names_experiments_and_prefixes_find_a_run(project: Path) -> None:
    orch("run", project, "--run-name", "baseline", "--experiment-name", "wine")
    orch("run", project, env={"MLFLOW_EXPERIMENT_NAME": "other"})
    named = orch_json("show", "baseline")
    assert named["experiment"] == "wine"
    assert orch_json("show", named["run_id"][:24])["run_id"] == named["run_id"]
    assert orch_json("show", "latest")["experiment"] == "other"
    assert [r["run_id"] for r in orch_json("list", "--experiment-name", "wine")] == [named["run_id"]]


def test_a_removed_run_is_gone_with_what_only_it_had(project: Path, orch_home: Path) -> None:
    first = orch_json("run", project, "-P", "alpha=1")
    second = orch_json("run", project, "-P", "alpha=2")
    orch("rm", first["run_id"])
    assert [r["run_id"] for r in orch_json("list")] == [second["run_id"]]
    kept = {o["sha256"] for o in second["outputs"]}
    gone = {o["sha256"] for o in first["outputs"]} - kept
    blobs = {p.parent.name + p.name for p in (orch_home / "store").glob("??/*")}
    assert kept <= blobs
    assert gone
    assert not gone & blobs


def test_the_ledger_answers_in_sql_and_is_made_again_from_the_run_directories(project: Path, orch_home: Path) -> None:
    orch("run", project, "-P", "alpha=1")
    orch("run", project, "-P", "alpha=2")
    before = orch_json("list")
    for path in orch_home.glob("ledger.db*"):
        path.unlink()
    assert "2 runs" in orch("ledger", "rebuild").stdout
    assert orch_json("list") == before
    with sqlite3.connect(orch_home / "ledger.db") as connection:
        packages = connection.execute("SELECT DISTINCT name FROM packages").fetchall()
    assert ("python",) in packages


def test_mlflows_options_are_accepted_or_refused_with_a_word(project: Path, tmp_path: Path) -> None:
    done = orch("run", project, "-b", "local", "--env-manager", "local", "--storage-dir", tmp_path)
    assert "always orch's own" in done.stderr
    assert "docker" in orch("run", project, "-A", "gpus=all", code=2).stderr
    assert "databricks" in orch("run", project, "-b", "databricks", code=2).stderr


def test_the_work_directory_goes_unless_it_is_to_be_kept(project: Path, orch_home: Path) -> None:
    orch("run", project)
    assert list((orch_home / "work").iterdir()) == []
    done = orch("run", project, "--keep-work")
    kept = next((orch_home / "work").iterdir())
    assert str(kept) in done.stderr
    assert (kept / "checkout" / "model.txt").exists()


def test_output_is_passed_on_unchanged(make_project: Callable[..., Path], orch_home: Path) -> None:
    project = make_project(
        {"MLproject": mlproject("head -c 300000 /dev/zero | tr '\\0' x; printf 'no newline'"), "conda.yaml": CONDA_YAML}
    )
    done = orch("run", project)
    assert done.stdout == "x" * 300000 + "no newline"


def test_stdin_is_a_file_when_asked(make_project: Callable[..., Path], orch_home: Path, tmp_path: Path) -> None:
    project = make_project({"MLproject": mlproject("cat"), "conda.yaml": CONDA_YAML})
    (tmp_path / "typed").write_text("from a file\n")
    assert orch("run", project, "--stdin", tmp_path / "typed").stdout == "from a file\n"
    assert orch("run", project).stdout == ""


def test_a_remote_path_parameter_is_downloaded_and_an_input(
    make_project: Callable[..., Path], orch_home: Path, tmp_path: Path
) -> None:
    project = make_project({"MLproject": mlproject("cat {table}", "table: path"), "conda.yaml": CONDA_YAML})
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "wines.csv").write_text("1,2\n")
    with served(tmp_path / "served") as address:
        url = f"{address}/wines.csv"
        assert orch("run", project, "-P", f"table={url}", "--storage-dir", tmp_path / "kept").stdout == "1,2\n"
        assert "404" in orch("run", project, "-P", f"table={url}.gone", code=125).stderr
    run = orch_json("show")
    assert run["params"] == {"table": url}
    assert [i["path"] for i in run["spec"]["inputs"]] == ["inputs/wines.csv"]
    assert [p.name for p in (tmp_path / "kept").rglob("*.csv")] == ["wines.csv"]


def test_a_path_default_is_a_file_of_the_commit(make_project: Callable[..., Path], orch_home: Path) -> None:
    parameters = "table: {type: path, default: data/wines.csv}"
    command = "cat {table}; case {table} in /*) echo absolute;; esac"
    files = {"MLproject": mlproject(command, parameters), "conda.yaml": CONDA_YAML, "data/wines.csv": "1\n"}
    assert orch("run", make_project(files)).stdout == "1\nabsolute\n"
    del files["data/wines.csv"]
    assert "data/wines.csv" in orch("run", make_project(files, "without"), code=125).stderr


def test_inputs_that_the_project_declares(make_project: Callable[..., Path], orch_home: Path, tmp_path: Path) -> None:
    files = {"MLproject": mlproject("cat data/wines.csv") + "inputs: [data/wines.csv]\n", "conda.yaml": CONDA_YAML}
    project = make_project({**files, ".gitignore": "data/\n"})
    assert "data/wines.csv" in orch("run", project, code=125).stderr
    (project / "data").mkdir()
    (project / "data" / "wines.csv").write_text("mine\n")
    assert orch("run", project).stdout == "mine\n"  # git ignores it, the project names it
    (tmp_path / "other.csv").write_text("given\n")
    given = f"{tmp_path / 'other.csv'}=data/wines.csv"
    assert orch("run", project.as_uri(), "--input", given).stdout == "given\n"


def test_an_input_that_the_program_writes_through_is_told(
    make_project: Callable[..., Path], orch_home: Path, tmp_path: Path
) -> None:
    project = make_project({"MLproject": mlproject("echo more >> inputs/big"), "conda.yaml": CONDA_YAML})
    with (tmp_path / "big").open("wb") as big:
        big.truncate(300 * 2**20)
    done = orch("run", project, "--input", tmp_path / "big")
    linked = "wrote through" in done.stderr
    assert linked == ((tmp_path / "big").stat().st_size != 300 * 2**20)


def test_an_environment_changed_from_inside_a_run_is_told_and_mended(
    make_project: Callable[..., Path], cold_home: Path
) -> None:
    change = "rm -f $CONDA_PREFIX/lib/python3*/this.py"
    project = make_project(
        {"MLproject": mlproject("{command}", "command: {default: 'true'}"), "conda.yaml": CONDA_YAML}
    )
    (project / "change.sh").write_text(change)
    done = orch("run", project, "-e", "change.sh", code=None)
    if done.returncode:
        pytest.skip("the environment is read-only for this user")
    assert "the environment was changed" in done.stderr
    (project / "look.sh").write_text("ls $CONDA_PREFIX/lib/python3*/this.py")
    assert "this.py" in orch("run", project, "-e", "look.sh").stdout


def test_a_secret_parameter_and_a_variable_of_the_same_name_are_two_things(
    make_project: Callable[..., Path], orch_home: Path
) -> None:
    project = make_project(
        {"MLproject": mlproject("echo {API_KEY} $API_KEY", "API_KEY: string"), "conda.yaml": CONDA_YAML}
    )
    done = orch("run", project, "-P", "API_KEY=of-the-parameter", "--env", "API_KEY=of-the-variable")
    assert done.stdout == "of-the-parameter of-the-variable\n"
    spec = orch_json("show")["spec"]
    assert (spec["secret_parameters"], spec["secret_variables"]) == (["API_KEY"], ["API_KEY"])
    assert "of-the" not in orch("show", "--json").stdout


def test_cached_never_mixes_up_what_is_not_recorded_or_read(
    make_project: Callable[..., Path], orch_home: Path, tmp_path: Path
) -> None:
    project = make_project(
        {"MLproject": mlproject("cat; echo {password}", "password: {default: x}"), "conda.yaml": CONDA_YAML}
    )
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    assert orch("run", project, "-P", "password=a").stdout == "a\n"
    assert orch("run", project, "-P", "password=b", "--cached").stdout == "b\n"
    plain = make_project({"MLproject": mlproject("cat"), "conda.yaml": CONDA_YAML}, "plain")
    assert orch("run", plain, "--stdin", tmp_path / "one", "--cached").stdout == "one"
    assert orch("run", plain, "--stdin", tmp_path / "two", "--cached").stdout == "two"
    assert "nothing was run" in orch("run", plain, "--stdin", tmp_path / "one", "--cached").stderr


def test_a_path_of_the_users_stands_behind_the_environments(make_project: Callable[..., Path], orch_home: Path) -> None:
    project = make_project({"MLproject": mlproject("command -v python; echo $PATH"), "conda.yaml": CONDA_YAML})
    python, path = orch("run", project, "--env", "PATH=/mine:/usr/bin:/bin").stdout.splitlines()
    assert "/envs/" in python
    assert path.endswith(f":/mine:/usr/bin:/bin:{orch_home}/bin")


def test_outputs_are_not_brought_through_a_link(
    make_project: Callable[..., Path], orch_home: Path, tmp_path: Path
) -> None:
    (tmp_path / "victim").mkdir()
    project = make_project({"MLproject": mlproject("mkdir d; echo x >d/keys"), "conda.yaml": CONDA_YAML})
    orch("run", project)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "d").symlink_to(tmp_path / "victim")
    assert "is a link" in orch("get", "latest", "-o", tmp_path / "out", code=125).stderr
    assert list((tmp_path / "victim").iterdir()) == []


def test_stored_input_folders_share_bytes_with_outputs(
    make_project: Callable[..., Path], orch_home: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("shared\n")
    project = make_project({"MLproject": mlproject("echo shared >out"), "conda.yaml": CONDA_YAML})
    orch("run", project)
    orch("run", project, "--input", tmp_path / "data", "--store-inputs", "--run-name", "keeps")
    blobs = orch_home / "store"
    orch("rm", orch_json("list")[1]["run_id"])
    shared = next(o["sha256"] for o in orch_json("show", "keeps")["outputs"])
    assert (blobs / shared[:2] / shared[2:]).exists()
    orch("rm", "keeps")
    assert list(blobs.glob("??/*")) == []


def test_a_work_directory_that_can_not_be_removed_does_not_fail_the_run(
    make_project: Callable[..., Path], orch_home: Path
) -> None:
    project = make_project({"MLproject": mlproject("touch stays; chattr +i stays || exit 9"), "conda.yaml": CONDA_YAML})
    done = orch("run", project, code=None)
    kept = list((orch_home / "work").glob("*/checkout/stays"))
    if done.returncode == 9:
        pytest.skip("no file can be made immutable here")
    subprocess.run(["chattr", "-i", *kept], check=True)
    assert done.returncode == 0
    assert "can't be removed" in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_obstacle(project: Path, closed: str) -> None:
    done = subprocess.run(["bash", "-c", f"{ORCH} run {project} {closed}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert orch_json("show")["status"] == "finished"
