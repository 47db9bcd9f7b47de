"""The code of a run: from what the user typed to a commit in a mirror, and from the commit to files.

`resolve_source` asks the world (remotes, the user's work tree); the others need only the mirrors below
`home.sources`.
"""

from orchestrator.source.changes import CodeChange, FileChange, SubmoduleChange, code_changes
from orchestrator.source.checkout import checkout, checkout_aside
from orchestrator.source.resolve import Resolved, ignored_files, kind_of, local_directory, resolve_source
from orchestrator.source.snapshot import LargeFile
from orchestrator.source.tree import Tree, open_tree

__all__ = [
    "CodeChange",
    "FileChange",
    "LargeFile",
    "Resolved",
    "SubmoduleChange",
    "Tree",
    "checkout",
    "checkout_aside",
    "code_changes",
    "ignored_files",
    "kind_of",
    "local_directory",
    "open_tree",
    "resolve_source",
]
