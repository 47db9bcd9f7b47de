"""The code of a run: from what the user typed to a commit in a mirror, and from the commit to files.

`resolve_source` asks the world (remotes, the user's work tree); the others need only the mirrors below
`home.sources`. `write_objects` takes a commit out of them, for a bundle; `unpack_objects` and `place_objects` bring it
into those of another home.
"""

from orchestrator.source.adopt import check_source, place_objects
from orchestrator.source.changes import CodeChange, FileChange, SubmoduleChange, code_changes
from orchestrator.source.checkout import checkout, checkout_aside
from orchestrator.source.objects import commits_of, lfs_objects, unpack_objects, write_objects
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
    "check_source",
    "checkout",
    "checkout_aside",
    "code_changes",
    "commits_of",
    "ignored_files",
    "kind_of",
    "lfs_objects",
    "local_directory",
    "open_tree",
    "place_objects",
    "resolve_source",
    "unpack_objects",
    "write_objects",
]
