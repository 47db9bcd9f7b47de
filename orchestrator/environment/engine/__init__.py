"""The only door to rattler: its client, its solver and its installer. In the worker process only."""

from orchestrator.environment.engine.connection import Connection, channel_urls, connect, run
from orchestrator.environment.engine.link import install, milliseconds, noarch_of, packaged, records_of, refuse_misnamed
from orchestrator.environment.engine.solve import UnsolvableError, has_package, match_spec, package_names, solve

__all__ = [
    "Connection",
    "UnsolvableError",
    "channel_urls",
    "connect",
    "has_package",
    "install",
    "match_spec",
    "milliseconds",
    "noarch_of",
    "package_names",
    "packaged",
    "records_of",
    "refuse_misnamed",
    "run",
    "solve",
]
