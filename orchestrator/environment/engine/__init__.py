"""The one way to rattler's client, solver and installer. In the worker process only.

What needs no network (`host`, `virtual`, the pixi.lock of `export`) uses its plain types by itself, in the worker too.
"""

from orchestrator.environment.engine.connection import Connection, channel_urls, connect, run
from orchestrator.environment.engine.fetch import fetch
from orchestrator.environment.engine.link import install, packaged, records_of, to_fetch
from orchestrator.environment.engine.query import has_package, match_spec, package_names, query, records_in
from orchestrator.environment.engine.record import facts_of_channel, package_record, refuse_misnamed
from orchestrator.environment.engine.solve import UnsolvableError, solve

__all__ = [
    "Connection",
    "UnsolvableError",
    "channel_urls",
    "connect",
    "facts_of_channel",
    "fetch",
    "has_package",
    "install",
    "match_spec",
    "package_names",
    "package_record",
    "packaged",
    "query",
    "records_in",
    "records_of",
    "refuse_misnamed",
    "run",
    "solve",
    "to_fetch",
]
