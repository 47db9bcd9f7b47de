"""The ledger: an SQLite index over the run directories, so that questions about runs are SQL.

The run directories are the truth; `rebuild` makes the ledger again from them. Importing this room loads the
standard library only.
"""

from orchestrator.ledger.connection import connect, copy_in_memory, network_file_system
from orchestrator.ledger.experiments import (
    Experiment,
    NameTakenError,
    all_experiments,
    change_experiment,
    create_experiment,
    find_experiment,
)
from orchestrator.ledger.kept import (
    blobs_of,
    folder_inputs,
    is_named,
    left_behind,
    live_runs,
    package_count,
    runs_by_lock,
    uncompared_runs,
)
from orchestrator.ledger.query import (
    CANDIDATES,
    RunRow,
    experiment_name,
    family,
    find_by_spec,
    find_runs,
    load_metric,
    load_run,
    resolve_run,
    runs_by_prefix,
    short_id,
    varying_outputs,
)
from orchestrator.ledger.rebuild import index_run, missing_runs, read_run, rebuild
from orchestrator.ledger.values import version_key
from orchestrator.ledger.write import (
    append_metrics,
    experiment_id,
    has_environment,
    remove_run,
    write_environment,
    write_record,
)

__all__ = [
    "CANDIDATES",
    "Experiment",
    "NameTakenError",
    "RunRow",
    "all_experiments",
    "append_metrics",
    "blobs_of",
    "change_experiment",
    "connect",
    "copy_in_memory",
    "create_experiment",
    "experiment_id",
    "experiment_name",
    "family",
    "find_by_spec",
    "find_experiment",
    "find_runs",
    "folder_inputs",
    "has_environment",
    "index_run",
    "is_named",
    "left_behind",
    "live_runs",
    "load_metric",
    "load_run",
    "missing_runs",
    "network_file_system",
    "package_count",
    "read_run",
    "rebuild",
    "remove_run",
    "resolve_run",
    "runs_by_lock",
    "runs_by_prefix",
    "short_id",
    "uncompared_runs",
    "varying_outputs",
    "version_key",
    "write_environment",
    "write_record",
]
