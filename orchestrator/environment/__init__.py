"""Environments: what a project asks for, locked (`lock`), installed (`prefix`) and activated (`activate`)."""

from orchestrator.environment.activate import activated
from orchestrator.environment.host import PLATFORMS
from orchestrator.environment.lock import (
    Environment,
    EnvironmentRequest,
    LockedPackage,
    lock_path,
    locked_packages,
    resolve_environment,
)
from orchestrator.environment.prefix import Prefix, drift, remove_tree, use_prefix, verify_prefix
from orchestrator.environment.request import Tree, environment_request

__all__ = [
    "PLATFORMS",
    "Environment",
    "EnvironmentRequest",
    "LockedPackage",
    "Prefix",
    "Tree",
    "activated",
    "drift",
    "environment_request",
    "lock_path",
    "locked_packages",
    "remove_tree",
    "resolve_environment",
    "use_prefix",
    "verify_prefix",
]
