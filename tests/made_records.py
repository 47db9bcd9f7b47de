"""Runs for tests: a typical one, any one (for hypothesis), and the journal that tells of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from orchestrator import journal
from orchestrator.model import (
    Dataset,
    EnvironmentRef,
    Input,
    LoggedModel,
    Measure,
    Metric,
    Output,
    ProcessIdentity,
    RunRecord,
    RunSpec,
    Source,
    Submodule,
    Tracking,
    Usage,
    new_run_id,
)
from orchestrator.paths import Home, open_home
from orchestrator.records import journal_events

LOCK = "7b" * 32
HOST = {
    "hostname": "anna",
    "os": "Linux",
    "kernel": "6.1",
    "cpu": "Xeon",
    "cpus": 8,
    "memory": 2**34,
    "variables": {"HOME": "/home/ada", "OMP_NUM_THREADS": "4"},
}


def made_home(folder: Path) -> Home:
    """An `ORCH_HOME` in `folder`."""
    return open_home({"ORCH_HOME": str(folder)})


def made_spec(**changes: Any) -> RunSpec:
    """A typical spec."""
    spec = RunSpec(
        source=Source("https://example.org/wine.git", "c" * 40, "d" * 40, 1_700_000_000, revision="main"),
        entry_point="main",
        command="python train.py {alpha} {l1_ratio}",
        parameters={"alpha": "5.1", "l1_ratio": "0.1"},
        environment=EnvironmentRef(LOCK, "linux-64"),
        inputs=(Input("data", "inputs/data", "e" * 64, 12, origin="/srv/data.csv"),),
        variables={"TZ": "UTC", "LANG": "C.UTF-8"},
    )
    return replace(spec, **changes)


def running(**changes: Any) -> RunRecord:
    """A typical run that has begun."""
    record = RunRecord(
        run_id=new_run_id(),
        pinned=made_spec(),
        status="running",
        started_at="2026-11-23T07:00:00.000Z",
        params={"alpha": "5.1", "l1_ratio": "0.1"},
        tags={"source": "test"},
        host=HOST,
    )
    return replace(record, **changes)


def finished(**changes: Any) -> RunRecord:
    """A typical run that has ended."""
    ended = running(
        status="finished",
        exit_code=0,
        ended_at="2026-11-23T07:00:03.200Z",
        outputs=(Output("model.pkl", "f" * 64, 1000, 0o644), Output("last", "a" * 64, 9, 0o777, link="model.pkl")),
        metrics=tuple(Metric(name, 0.5, 0, 1_700_000_000_000) for name in ("rmse", "mae", "r2")),
        usage=Usage(3.2, 2.9, 412 * 2**20, 10, 20),
    )
    return replace(ended, **changes)


def write_journal(home: Home, record: RunRecord) -> Path:
    """Put a run directory with the journal of `record` into `home`; the journal."""
    folder = home.run(record.run_id)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "journal.jsonl"
    journal.append(path, journal_events(record))
    return path


@dataclass(frozen=True)
class Locked:
    """A package of a lock."""

    name: str
    version: str
    manager: str = "conda"
    build: str | None = "py311_0"
    url: str | None = "https://example.org/pkg.conda"
    sha256: str | None = "0" * 64
    channel: str | None = "conda-forge"
    subdir: str | None = "linux-64"


# --- any run ----------------------------------------------------------------------------------------------------

UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
"""Text as a spec can hold it."""

# What `os.fsdecode` makes of bytes that are no UTF-8; a high surrogate never comes from there.
ANY_TEXT = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"]), st.integers(0xDC80, 0xDCFF).map(chr)), max_size=12
)
HEX64 = st.text("0123456789abcdef", min_size=64, max_size=64)
HEX40 = st.text("0123456789abcdef", min_size=40, max_size=40)
RUN_IDS = st.text("0123456789abcdef", min_size=32, max_size=32)
SHA256S = st.text("0123456789abcdef", min_size=64, max_size=64)
INT64 = st.integers(-(2**63), 2**63 - 1)
SIZES = st.integers(0, 2**53 - 1)
SECONDS = st.floats(0, 1e9)
TIMES = st.datetimes().map(lambda time: time.isoformat(timespec="milliseconds") + "Z")
TEXTS = st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=4)
UNICODES = st.dictionaries(UNICODE, UNICODE, max_size=4)

SOURCES = st.builds(
    Source,
    url=ANY_TEXT,
    commit=HEX40,
    tree=HEX40,
    commit_time=SIZES,
    subdir=UNICODE,
    submodules=st.lists(st.builds(Submodule, path=UNICODE, commit=HEX40, url=ANY_TEXT), max_size=2).map(tuple),
    revision=st.none() | ANY_TEXT,
    origin=st.none() | ANY_TEXT,
    dirty=st.booleans(),
)
INPUTS = st.builds(
    Input,
    name=UNICODE,
    path=UNICODE,
    sha256=HEX64,
    size=SIZES,
    kind=st.sampled_from(["file", "folder"]),
    origin=st.none() | ANY_TEXT,
)
SPECS = st.builds(
    RunSpec,
    source=SOURCES,
    entry_point=UNICODE,
    command=UNICODE,
    parameters=UNICODES,
    environment=st.builds(
        EnvironmentRef, lock_id=HEX64, platform=UNICODE, paths=st.lists(UNICODE, max_size=2).map(tuple)
    ),
    paths=st.lists(UNICODE, max_size=2).map(lambda names: tuple(sorted(names))),
    inputs=st.lists(INPUTS, max_size=2).map(tuple),
    variables=UNICODES,
    secret_parameters=st.lists(UNICODE, max_size=2).map(lambda names: tuple(sorted(names))),
    secret_variables=st.lists(UNICODE, max_size=2).map(lambda names: tuple(sorted(names))),
)
METRICS = st.builds(
    Metric, name=st.sampled_from(["rmse", "", "\udcff"]) | ANY_TEXT, value=st.floats(), step=INT64, timestamp=INT64
)
OUTPUTS = st.builds(
    Output,
    path=ANY_TEXT,
    sha256=HEX64,
    size=SIZES,
    mode=st.integers(0, 0o777),
    link=st.none() | ANY_TEXT,
)
HOSTS = st.dictionaries(
    st.sampled_from(["hostname", "os", "cpu", "cpus", "memory", "kernel"]) | ANY_TEXT,
    st.none() | ANY_TEXT | SIZES | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    max_size=6,
)
IDENTITIES = st.builds(
    ProcessIdentity, machine=UNICODE, boot=UNICODE, pid=st.integers(1, 2**22), start=st.floats(0, 1e12)
)
DATASETS = st.builds(
    Dataset,
    name=ANY_TEXT,
    digest=UNICODE,
    source_type=UNICODE,
    source=ANY_TEXT,
    schema=st.none() | ANY_TEXT,
    profile=st.none() | ANY_TEXT,
    tags=TEXTS,
)
MODELS = st.builds(
    LoggedModel,
    model_id=HEX64.map(lambda digits: f"m-{digits[:32]}"),
    name=ANY_TEXT,
    folder=ANY_TEXT,
    created=INT64,
    updated=INT64,
    state=st.sampled_from(["pending", "ready", "failed"]),
    kind=UNICODE,
    params=TEXTS,
    tags=TEXTS,
    measures=st.lists(
        st.builds(Measure, metric=METRICS, dataset=st.none() | ANY_TEXT, digest=st.none() | UNICODE), max_size=2
    ).map(tuple),
)
TRACKINGS = st.builds(
    Tracking,
    datasets=st.lists(DATASETS, max_size=2).map(tuple),
    models=st.lists(MODELS, max_size=2, unique_by=lambda model: model.model_id).map(tuple),
    models_in=st.lists(UNICODE, max_size=2).map(tuple),
    models_out=st.lists(st.tuples(UNICODE, INT64), max_size=2).map(tuple),
    deleted=st.booleans(),
)
RECORDS = st.builds(
    RunRecord,
    run_id=RUN_IDS,
    pinned=st.none() | SPECS,
    tracking=st.just(Tracking()) | TRACKINGS,
    status=st.sampled_from(["finished", "failed", "stopped", "lost"]),
    started_at=TIMES,
    ended_at=st.none() | TIMES,
    exit_code=st.none() | st.integers(0, 255),
    reason=st.none() | ANY_TEXT,
    outputs=st.lists(OUTPUTS, max_size=3, unique_by=lambda output: output.path).map(tuple),
    params=TEXTS,
    metrics=st.lists(METRICS, max_size=8).map(tuple),
    tags=TEXTS,
    usage=st.builds(
        Usage,
        wall_seconds=SECONDS,
        cpu_seconds=SECONDS,
        peak_memory=SIZES,
        read_bytes=SIZES,
        written_bytes=SIZES,
    ),
    host=HOSTS,
    name=st.none() | ANY_TEXT,
    experiment=st.just("Default") | ANY_TEXT,
    replay_of=st.none() | RUN_IDS,
    verdict=st.none() | st.dictionaries(ANY_TEXT, ANY_TEXT | st.lists(ANY_TEXT, max_size=2), max_size=3),
    parent=st.none() | RUN_IDS,
    bundle=st.none() | SHA256S,
    supervisor=st.none() | IDENTITIES,
    child=st.none() | IDENTITIES,
    notes=st.lists(ANY_TEXT, max_size=2).map(tuple),
)
RUNS = RECORDS.filter(lambda record: record.pinned is not None)
"""Those that were not only logged."""


def same(one: object, other: object) -> bool:
    """Equality of JSON-like values and dataclasses in which NaN equals NaN."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other
