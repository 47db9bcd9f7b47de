"""Environments: what a project asks for, locked (`lock`), installed (`prefix`) and activated (`activate`)."""

from orchestrator.environment.activate import activated
from orchestrator.environment.host import cuda_version, known_platform
from orchestrator.environment.lock import (
    Environment,
    EnvironmentRequest,
    LockedPackage,
    lock_path,
    locked_packages,
    resolve_environment,
)
from orchestrator.environment.prefix import Prefix, drift, use_prefix, verify_prefix
from orchestrator.environment.request import Tree, environment_request

__all__ = [
    "Environment",
    "EnvironmentRequest",
    "LockedPackage",
    "Prefix",
    "Tree",
    "activated",
    "cuda_version",
    "drift",
    "environment_request",
    "known_platform",
    "lock_path",
    "locked_packages",
    "resolve_environment",
    "use_prefix",
    "verify_prefix",
]
