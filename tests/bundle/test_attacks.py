"""Bundles that are made to harm, or that lie: all that is wrong with them is what their run says.

Every archive here is as orch writes it and its manifest is right, so that only a look at the meaning can refuse it.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from bundle.attacked import (
    ESCAPE,
    GONE,
    LAST,
    OTHER,
    Change,
    listing,
    nested,
    of_run,
    raw,
    record_with,
    refuse,
    refused,
    spec_with,
)
from bundle.made_bundle import ORCH, Parts, changed, faithful, parts_of, sha256, shared_bundle

from orchestrator.bundle.land import import_bundle
from orchestrator.bundle.layout import (
    MAX_JSON,
    METRICS,
    RECORD,
    SPEC,
    blob_member,
    lock_member,
    package_member,
    source_member,
)
from orchestrator.canonical import canonical_json
from orchestrator.errors import OrchError
from orchestrator.model import new_run_id
from orchestrator.paths import Home, open_home


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory, channel: Path) -> Parts:
    return parts_of(shared_bundle(tmp_path_factory, channel))


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home that every attack finds as the one before has left it."""
    return open_home({"ORCH_HOME": str(tmp_path_factory.mktemp("victim"))})


# --- what decides the run ---------------------------------------------------------------------------------------

URLS = {
    "option": "--upload-pack=touch pwned",
    "helper": "ext::sh -c touch% pwned",
    "descriptor": "fd::17",
    "ssh-option": "ssh://-oProxyCommand=touch pwned/x",
    "ssh-user-option": "ssh://-oProxyCommand=touch@example.org/x",
    "short-option": "-oProxyCommand=touch pwned",
    "scp-option": "git@-oProxyCommand=touch:x",
    "plain": "http://example.org/x.git",
    "other-scheme": "ftp://example.org/x.git",
    "password": "https://ada:secret@example.org/x.git",
    "user": "https://ada@example.org/x.git",
    "query": "https://example.org/x.git?token=abc",
    "folder": "/etc",
    "relative": "../x",
    "here": ".",
    "empty": "",
    "other-host": "file://example.org/etc",
    "not-normal": "file:///srv/../etc",
    "escape": f"https://example.org/{ESCAPE}.git",
    "newline": "https://example.org/x.git\n--upload-pack=x",
    "nul": "https://example.org/x\0.git",
    "surrogate": "https://example.org/\udcff.git",
}
PATHS = {
    "up": "../x",
    "up-inside": "a/../../x",
    "up-and-back": "a/../x",
    "root": "/etc/passwd",
    "double-slash": "//etc/passwd",
    "nul": "x\0y",
    "empty": "",
    "dot": ".",
    "dot-part": "a/./x",
    "empty-part": "a//x",
    "slash-at-the-end": "x/",
}


@refuse({name: spec_with("source.url", url) for name, url in URLS.items()})
def test_a_url_that_orch_would_not_record(change: Change, real: Parts, victim: Home, tmp_path: Path) -> None:
    refused(faithful(change(real), tmp_path / "b.zip"), victim, tmp_path)


@refuse(
    {name: spec_with("source.submodules.0.url", URLS[name]) for name in ("option", "helper", "password", "newline")}
    | {f"path-{name}": spec_with("source.submodules.0.path", path) for name, path in PATHS.items()}
    | {
        "left-out": spec_with("source.submodules", []),
        "twice": lambda p: p.with_run(changed(p.spec, "source.submodules", p.spec["source"]["submodules"] * 2)),
        "elsewhere": spec_with("source.submodules.0.path", "folder"),
        "git-folder": spec_with("source.submodules.0.path", ".git"),
        "other-commit": spec_with("source.submodules.0.commit", GONE),
        "the-projects-commit": lambda p: p.with_run(
            changed(p.spec, "source.submodules.0.commit", p.spec["source"]["commit"])
        ),
        "option-as-commit": spec_with("source.submodules.0.commit", "--output=/etc/passwd"),
    }
)
def test_a_submodule_that_is_not_so(change: Change, real: Parts, victim: Home, tmp_path: Path) -> None:
    refused(faithful(change(real), tmp_path / "b.zip"), victim, tmp_path)


@refuse(
    {
        "commit-gone": spec_with("source.commit", GONE),
        "commit-short": lambda p: p.with_run(changed(p.spec, "source.commit", p.spec["source"]["commit"][:12])),
        "commit-name": spec_with("source.commit", "main"),
        "commit-option": spec_with("source.commit", "--upload-pack=touch pwned"),
        "commit-path": spec_with("source.commit", "../../../../etc/passwd"),
        "commit-upper-case": lambda p: p.with_run(changed(p.spec, "source.commit", p.spec["source"]["commit"].upper())),
        "commit-of-the-submodule": lambda p: p.with_run(
            changed(p.spec, "source.commit", p.spec["source"]["submodules"][0]["commit"])
        ),
        "tree-other": spec_with("source.tree", GONE),
        "tree-of-another-kind": spec_with("source.tree", OTHER),
        "time-other": spec_with("source.commit_time", 1),
        "time-far": spec_with("source.commit_time", 2**53),
        "subdir-gone": spec_with("source.subdir", "nowhere"),
        "subdir-is-a-file": spec_with("source.subdir", "main.py"),
        "subdir-is-a-link": spec_with("source.subdir", "link"),
        "subdir-git": spec_with("source.subdir", ".git"),
        "subdir-submodule": spec_with("source.subdir", "library"),
        **{f"subdir-{name}": spec_with("source.subdir", path) for name, path in PATHS.items() if name != "empty"},
        "command-nul": spec_with("command", "echo \0"),
        "entry-point-nul": spec_with("entry_point", "main\0"),
        "parameter-nul": spec_with("parameters.alpha", "5\0"),
        "variable-name": spec_with("variables", {"A=B": "x"}),
        "variable-name-empty": spec_with("variables", {"": "x"}),
        "variable-name-newline": spec_with("variables", {"A\n": "x"}),
        "variable-nul": spec_with("variables.TZ", "UTC\0"),
        "secret-variable-name": spec_with("secret_variables", ["A=B"]),
        "secret-parameter-not-asked": spec_with("secret_parameters", ["beta"]),
        "secret-parameter-with-value": spec_with("secret_parameters", ["alpha"]),
        "path-parameter-not-asked": spec_with("paths", ["beta"]),
        "stdin-is-no-input": spec_with("stdin", "/etc/passwd"),
        "stdin-is-a-folder": spec_with("stdin", "inputs/data"),
        "lock-gone": spec_with("environment.lock_id", OTHER),
        "lock-path": spec_with("environment.lock_id", "../../x"),
        "lock-platform": spec_with("environment.platform", "win-96"),
        "lock-other-platform": spec_with("environment.platform", "osx-arm64"),
        "platform-path": spec_with("environment.platform", "../../etc"),
        "others-platform": spec_with("environment.others", {"../x": OTHER}),
        "others-lock": spec_with("environment.others", {"osx-arm64": "../x"}),
        "others-same-platform": spec_with("environment.others", {"linux-64": OTHER}),
        "import-path-up": spec_with("environment.paths", ["../x"]),
        "import-path-root": spec_with("environment.paths", ["/etc"]),
        "import-path-colon": spec_with("environment.paths", ["a:/etc"]),
        "link-script-path": spec_with("environment.link_scripts", ["../x"]),
        "link-script-option": spec_with("environment.link_scripts", ["-x"]),
        "as-of-escape": spec_with("environment.as_of", ESCAPE),
        "as-of-no-time": spec_with("environment.as_of", "yesterday"),
        **{f"input-{name}": spec_with("inputs.1.path", path) for name, path in PATHS.items()},
        "input-twice": spec_with("inputs.1.path", "inputs/data"),
        "input-kind": spec_with("inputs.1.kind", "device"),
        "input-not-a-folder": spec_with("inputs.1.kind", "folder"),
        "input-folder-as-file": spec_with("inputs.0.kind", "file"),
        "input-sha256": spec_with("inputs.1.sha256", "../../x"),
        "input-size": spec_with("inputs.1.size", 5),
        "input-folder-size": spec_with("inputs.0.size", 9),
        "input-origin": spec_with("inputs.1.origin", "/etc/passwd"),
        "version": spec_with("version", 2),
        "version-missing": spec_with("version", ...),
        "key-more": spec_with("more", 1),
        "key-more-in-the-source": spec_with("source.more", 1),
        "key-missing": spec_with("source.tree", ...),
        "id-of-another-spec": lambda p: p.put({RECORD: canonical_json(p.record | {"spec_id": OTHER})}),
        "id-of-no-spec": lambda p: p.put({RECORD: canonical_json(p.record | {"spec_id": ESCAPE})}),
    }
)
def test_a_spec_that_lies(change: Change, real: Parts, victim: Home, tmp_path: Path) -> None:
    refused(faithful(change(real), tmp_path / "b.zip"), victim, tmp_path)


# --- what came of it --------------------------------------------------------------------------------------------


@refuse(
    {
        "future": of_run("ffffffffffff" + new_run_id()[12:]),
        "in-two-days": of_run(f"{int(new_run_id()[:12], 16) + 2 * 86_400_000:012x}" + new_run_id()[12:]),
        "random": of_run("01a2092aafc74312" + "8a0cde91f771b3a1"),
        "short": of_run("01a2092aafc773128"),
        "upper-case": of_run(new_run_id().upper()),
        "path": of_run("../../../../etc/passwd"),
        "path-of-32": of_run("../" * 8 + "etc/pass"),
        "latest": of_run("latest"),
        "escape": of_run(ESCAPE),
        "empty": of_run(""),
        "of-the-manifest-only": lambda p: p.but(run_id=new_run_id()),
        "of-the-record-only": lambda p: p.with_run(record=p.record | {"run_id": new_run_id()}),
        "escape-in-the-manifest": lambda p: p.but(run_id=ESCAPE),
    }
)
def test_a_run_id_that_is_none(change: Change, real: Parts, victim: Home, tmp_path: Path) -> None:
    refused(faithful(change(real), tmp_path / "b.zip"), victim, tmp_path)


@refuse(
    {
        **{f"output-{name}": record_with(LAST, path) for name, path in PATHS.items()},
        "output-up-encoded": record_with(LAST, "%2e%2e/x"),
        "output-root-encoded": record_with(LAST, "%2Fetc/passwd"),
        "output-nul-encoded": record_with(LAST, "x%00y"),
        "output-twice": record_with(LAST, "deep/er/nested.txt"),
        "output-twice-encoded": record_with(LAST, "dee%70/er/nested.txt"),
        "output-in-an-output": record_with(LAST, "deep/er/nested.txt/x"),
        "output-through-a-link": record_with(LAST, "last/x"),
        "output-sha256": record_with("outputs.2.sha256", "../../x"),
        "output-gone": record_with("outputs.2.sha256", OTHER),
        "output-size": record_with("outputs.2.size", 4),
        "output-size-huge": record_with("outputs.2.size", 2**53),
        "output-size-negative": record_with("outputs.2.size", -1),
        "output-mode": record_with("outputs.2.mode", 0o10644),
        "output-mode-negative": record_with("outputs.2.mode", -1),
        "link-nul": record_with("outputs.1.link", "a\0b"),
        "link-nul-encoded": record_with("outputs.1.link", "a%00b"),
        "link-empty": record_with("outputs.1.link", ""),
        "link-other": record_with("outputs.1.link", "/etc/passwd"),
        "link-sha256": record_with("outputs.1.sha256", OTHER),
        "running": record_with("status", "running"),
        "orphaned": record_with("status", "orphaned"),
        "status-unknown": record_with("status", "reproduced"),
        "time-none": record_with("started_at", "yesterday"),
        "time-of-no-zone": record_with("started_at", "2026-11-23T16:08:47.998"),
        "time-escape": record_with("started_at", "2026-11-23\x1b16:08:47.998Z"),
        "time-week": record_with("started_at", "2026-W47-1T16:08:47Z"),
        "time-thirteenth-month": record_with("started_at", "2026-13-23T16:08:47.998Z"),
        "end-none": record_with("ended_at", ""),
        "exit-code-huge": record_with("exit_code", 2**60),
        "exit-code-text": record_with("exit_code", "0"),
        "metrics-here": record_with("metrics", []),
        "metric-step": lambda p: p.put({METRICS: f'["loss", 0.5, {2**63}, 0]\n'.encode()}),
        "metric-value": lambda p: p.put({METRICS: b'["loss", "1", 0, 0]\n'}),
        "metric-more": lambda p: p.put({METRICS: b'["loss", 0.5, 0, 0, 1]\n'}),
        "usage-nan": record_with("usage.wall_seconds", "NaN"),
        "usage-negative": record_with("usage.peak_memory", -1),
        "name-latest": record_with("name", "latest"),
        "name-escape": record_with("name", ESCAPE),
        "replay-of": record_with("replay_of", "../x"),
        "parent": record_with("parent", "../x"),
        "verdict": record_with("verdict", {"result": "reproduced"}),
        "bundle": record_with("bundle", OTHER),
        "supervisor": record_with("supervisor", {"machine": "m", "boot": "b", "pid": 1, "start": 1}),
        "child": record_with("child", None),
        "version": record_with("version", 2),
        "version-missing": record_with("version", ...),
        "key-missing": record_with("started_at", ...),
        "key-more": record_with("more", []),
        "host-cpu": record_with("host.cpu", ["x"]),
        "host-cpus": record_with("host.cpus", "two"),
        "host-variables": record_with("host.variables", ["HOME"]),
        "host-variable-of-the-machine": record_with("host.variables", {"SHELL": "/bin/sh"}),
        "host-variable-number": record_with("host.variables", {"USER": 5}),
        "host-gpus": record_with("host.gpus", 5),
        "host-cpu-flags": record_with("host.cpu_flags", {"a": 1}),
        "host-fact-unknown": record_with("host.more", {"a": [1, {"b": 2}]}),
        "tag-number": record_with("tags", {"a": 5}),
        "note-number": record_with("notes", [5]),
    }
)
def test_a_record_that_lies(change: Change, real: Parts, victim: Home, tmp_path: Path) -> None:
    refused(faithful(change(real), tmp_path / "b.zip"), victim, tmp_path)


@refuse(
    {
        f"{name.rpartition('/')[2]}-{kind}": raw(name, change)
        for name in (SPEC, RECORD)
        for kind, change in {
            "empty": lambda data: b"",
            "null": lambda data: b"null",
            "list": lambda data: b"[]",
            "text": lambda data: b'"x"',
            "truncated": lambda data: data[:-1],
            "blank": lambda data: data + b"\n",
            "indented": lambda data: json.dumps(json.loads(data), indent=1).encode(),
            "byte-order-mark": lambda data: b"\xef\xbb\xbf" + data,
            "utf-16": lambda data: data.decode().encode("utf-16"),
            "no-utf-8": lambda data: data[:-1] + b',"\xff":1}',
            "key-twice": lambda data: data[:-1] + b',"version":1}',
            "key-twice-other": lambda data: b'{"version":2,' + data[1:],
            "number-as-decimal": lambda data: data.replace(b'"version":1', b'"version":1.0'),
            "number-as-exponent": lambda data: data.replace(b'"version":1', b'"version":1e0'),
            "escaped-letter": lambda data: data.replace(b'"version"', b'"v\\u0065rsion"'),
            "surrogate": lambda data: data.replace(b'"alpha":"5.1"', b'"alpha":"\\ud800"'),
            "nan": lambda data: data.replace(b'"version":1', b'"version":NaN'),
            "huge-number": lambda data: data.replace(b'"version":1', b'"version":' + b"9" * 5000),
            "huge-exponent": lambda data: data.replace(b'"version":1', b'"version":1e999'),
            "deep": lambda data: nested(200_000),
            "deep-inside": lambda data: data[:-1] + b',"x":' + nested(200_000) + b"}",
            "too-large": lambda data: data + b" " * MAX_JSON,
            "pickle": lambda data: b"cposix\nsystem\n(S'touch pwned'\ntR.",
        }.items()
    }
    | {"deep-host": raw(RECORD, lambda data: data.replace(b'"gpus":[]', b'"gpus":' + nested(2000)))}
)
def test_json_that_orch_would_not_write(change: Change, real: Parts, victim: Home, tmp_path: Path) -> None:
    refused(faithful(change(real), tmp_path / "b.zip"), victim, tmp_path)


# --- what belongs to the run ------------------------------------------------------------------------------------


def the(parts: Parts, beginning: str) -> str:
    """The name of the first member that begins so."""
    return next(name for name in sorted(parts.members) if name.startswith(beginning))


def without(beginning: str) -> Change:
    return lambda parts: parts.but(the(parts, beginning))


def blob_of(content: bytes) -> Change:
    return lambda parts: parts.but(blob_member(sha256(content)))


def other_bytes(beginning: str) -> Change:
    """The same name, another content: what is named by its sha256 is another file."""
    return lambda parts: parts.put({the(parts, beginning): b"x" * len(parts.members[the(parts, beginning)])})


def folder_listing(*rows: tuple[str, str, int, bool]) -> Change:
    """Another listing of the input folder, in the spec too."""

    def change(parts: Parts) -> Parts:
        data = canonical_json([list(row) for row in rows])
        old = parts.spec["inputs"][0]["sha256"]
        spec = changed(parts.spec, "inputs.0.sha256", sha256(data))
        spec = changed(spec, "inputs.0.size", sum(size for _, _, size, _ in rows))
        return parts.but(blob_member(old)).put({blob_member(sha256(data)): data}).with_run(spec)

    return change


A, B = sha256(b"1,2\n"), sha256(b"3,4\n")


@refuse(
    {
        "no-crate": without("ro-crate"),
        "no-spec": without(SPEC),
        "no-record": without(RECORD),
        "no-source": lambda p: p.but(source_member(p.spec["source"]["commit"])),
        "no-submodule": lambda p: p.but(source_member(p.spec["source"]["submodules"][0]["commit"])),
        "no-lock": lambda p: p.but(*(name for name in p.members if name.startswith("locks/"))),
        "half-a-lock": lambda p: p.but(lock_member(p.spec["environment"]["lock_id"], "conda-lock.yml")),
        "no-output": blob_of(b"odd"),
        "nothing": lambda p: p.but(*p.members),
        "blob-of-nobody": lambda p: p.put({blob_member(sha256(b"x")): b"x"}),
        "source-of-nobody": lambda p: p.put({source_member(GONE): b""}),
        "lock-of-nobody": lambda p: p.put({lock_member(OTHER, "packages.json"): b"{}"}),
        "package-of-nobody": lambda p: p.put({package_member(sha256(b"x"), "x-1-0.conda"): b"x"}),
        "package-under-another-name": lambda p: p.put({package_member(the(p, "packages/")[9:73], "x-1-0.conda"): b"x"}),
        "blob-with-other-bytes": other_bytes("blobs/"),
        "output-with-other-bytes": lambda p: p.put({blob_member(sha256(b"odd")): b"evn"}),
        "package-with-other-bytes": other_bytes("packages/"),
        "blobs-swapped": lambda p: p.put({blob_member(A): b"3,4\n", blob_member(B): b"1,2\n"}),
        "listing-up": folder_listing(("../a.csv", A, 4, False), ("b.csv", B, 4, False)),
        "listing-root": folder_listing(("/etc/passwd", A, 4, False), ("b.csv", B, 4, False)),
        "listing-up-encoded": folder_listing(("%2e%2e/a.csv", A, 4, False), ("b.csv", B, 4, False)),
        "listing-nul": folder_listing(("a%00.csv", A, 4, False), ("b.csv", B, 4, False)),
        "listing-twice": folder_listing(("a.csv", A, 4, False), ("a.csv", B, 4, False)),
        "listing-twice-encoded": folder_listing(("a.csv", A, 4, False), ("%61.csv", B, 4, False)),
        "listing-in-a-file": folder_listing(("a.csv", A, 4, False), ("a.csv/b.csv", B, 4, False)),
        "listing-dot": folder_listing((".", A, 4, False), ("b.csv", B, 4, False)),
        "listing-not-sorted": folder_listing(("b.csv", B, 4, False), ("a.csv", A, 4, False)),
        "listing-not-normal": folder_listing(("./a.csv", A, 4, False), ("b.csv", B, 4, False)),
        "listing-size": folder_listing(("a.csv", A, 5, False), ("b.csv", B, 3, False)),
        "listing-size-negative": folder_listing(("a.csv", A, -4, False), ("b.csv", B, 4, False)),
        "listing-sha256": folder_listing(("a.csv", "../../x", 4, False), ("b.csv", B, 4, False)),
        "listing-sha256-twice": folder_listing(("a.csv", A, 4, False), ("b.csv", A, 5, False)),
        "listing-leaves-out": folder_listing(("a.csv", A, 4, False)),
    }
)
def test_what_the_run_does_not_name_or_lacks(change: Change, real: Parts, victim: Home, tmp_path: Path) -> None:
    refused(faithful(change(real), tmp_path / "b.zip"), victim, tmp_path)


# --- beside a run that is here already --------------------------------------------------------------------------


def test_another_run_of_the_same_id_is_refused_and_changes_nothing(real: Parts, tmp_path: Path) -> None:
    home = open_home({"ORCH_HOME": str(tmp_path / "home")})
    assert import_bundle(faithful(real, tmp_path / "b.zip"), home=home).new
    before = listing(home.root)
    for number, other in enumerate(
        (
            record_with("exit_code", 1)(real),
            record_with("started_at", "2026-11-23T16:08:47.999Z")(real),
            spec_with("command", "touch pwned")(real),
            record_with("outputs", real.record["outputs"][:3])(real).but(
                blob_member(real.record["outputs"][3]["sha256"])
            ),
        )
    ):
        with pytest.raises(OrchError, match="is here already, and is not the one of"):
            import_bundle(faithful(other, tmp_path / f"{number}.zip"), home=home)
        assert listing(home.root) == before
    assert not import_bundle(tmp_path / "b.zip", home=home).new
    assert listing(home.root) == before


def test_nothing_of_a_bundle_is_believed_of_what_is_here_already(real: Parts, tmp_path: Path) -> None:
    """A bundle of another run with the same lock and code: what they say of addresses does not change what is here."""
    home = open_home({"ORCH_HOME": str(tmp_path / "home")})
    import_bundle(faithful(real, tmp_path / "b.zip"), home=home)
    before = listing(home.root)
    lock_id = real.spec["environment"]["lock_id"]
    name = lock_member(lock_id, "packages.json")
    other = real.json(name)
    for package in other["packages"]:
        package["url"] = package["url"].replace("conda.anaconda.org", "evil.example.org")
        package["channel"] = package["channel"] and package["channel"].replace("conda.anaconda.org", "evil.example.org")
    yaml = real.members[lock_member(lock_id, "conda-lock.yml")].replace(b"conda.anaconda.org", b"evil.example.org")
    run_id = real.run_id[:-4] + "abcd"
    made = of_run(run_id)(real).put({name: canonical_json(other), lock_member(lock_id, "conda-lock.yml"): yaml})
    import_bundle(faithful(made, tmp_path / "c.zip"), home=home)
    after = listing(home.root)
    assert {path: after[path] for path in before} == before
    assert {path.split("/")[1] for path in after.keys() - before.keys()} == {run_id}


# --- on the command line ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["bundle verify", "bundle import", "replay --yes"])
@pytest.mark.parametrize(
    "change",
    [
        spec_with("source.url", "ext::sh -c touch% pwned"),
        record_with(LAST, "../x"),
        raw(RECORD, lambda _: nested(9999)),
    ],
    ids=["helper", "output-up", "deep"],
)
def test_the_command_says_one_sentence(verb: str, change: Change, real: Parts, tmp_path: Path) -> None:
    file = faithful(change(real), tmp_path / "b.zip")
    done = subprocess.run(
        [ORCH, *verb.split(), file],
        env={**os.environ, "ORCH_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (125, "")
    assert len([line for line in done.stderr.splitlines() if line.startswith("orch: ")]) == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "home" / "runs").is_dir() or not [*(tmp_path / "home" / "runs").iterdir()]


@pytest.mark.parametrize("verb", ["bundle verify", "bundle import", "replay --yes"])
def test_nobody_waits_for_a_pipe(verb: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "b.zip")
    done = subprocess.run(
        [ORCH, *verb.split(), tmp_path / "b.zip"],
        env={**os.environ, "ORCH_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode in (2, 125)
    assert done.stderr.startswith("orch: ")
