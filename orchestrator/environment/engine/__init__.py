"""The one way to rattler's client, solver and installer. In the worker process only.

What needs no network (`host`, `virtual`, the pixi.lock of `export`) uses its plain types by itself, in the worker too.
"""

from orchestrator.environment.engine.connection import Connection, channel_urls, connect, run
from orchestrator.environment.engine.fetch import fetch
from orchestrator.environment.engine.link import (
    install,
    milliseconds,
    noarch_of,
    packaged,
    records_of,
    refuse_misnamed,
    to_fetch,
)
from orchestrator.environment.engine.query import pattern, query
from orchestrator.environment.engine.solve import (
    UnsolvableError,
    has_package,
    match_spec,
    package_names,
    records_in,
    solve,
)

__all__ = [
    "Connection",
    "UnsolvableError",
    "channel_urls",
    "connect",
    "fetch",
    "has_package",
    "install",
    "match_spec",
    "milliseconds",
    "noarch_of",
    "package_names",
    "packaged",
    "pattern",
    "query",
    "records_in",
    "records_of",
    "refuse_misnamed",
    "run",
    "solve",
    "to_fetch",
]
