"""`orch env prune`: what goes, and what that frees."""

from __future__ import annotations

import json

from orchestrator import ledger
from orchestrator import prune as pruning
from orchestrator.cli.tell import tell, tell_notes
from orchestrator.cli.text import size, visible
from orchestrator.errors import OrchError
from orchestrator.paths import open_home
from orchestrator.report import plural

_NAMED = ("environment", "lock", "mirror", "wheel", "cache")
"""Kinds whose things have a line each; of the others there are many, and their names say little."""


def prune(days: int | None, *, dry_run: bool, as_json: bool) -> None:
    """`orch env prune`."""
    home = open_home()
    connection = ledger.connect(home)
    try:
        plan = pruning.plan(home, connection, days)
        if not dry_run:
            plan = pruning.carry_out(plan, home, connection, report=tell)
    finally:
        connection.close()
    tell_notes(plan.notes)
    if as_json:
        rows = [{"kind": t.kind, "name": t.name, "path": str(t.path), "bytes": t.bytes} for t in plan.things]
        print(json.dumps(rows, indent=2))
    elif plan.things:
        _show(plan, dry_run=dry_run)
    elif not plan.failed:
        print("nothing to remove.")
    if plan.failed:
        raise OrchError("\n".join(plan.failed))


def _show(plan: pruning.Plan, *, dry_run: bool) -> None:
    lines = [(t.kind, _name(t), t.bytes) for t in plan.things if t.kind in _NAMED]
    for kind in ("package", "left over"):
        of_kind = [thing.bytes for thing in plan.things if thing.kind == kind]
        if of_kind:
            what = plural(len(of_kind), "package") if kind == "package" else "of what was interrupted"
            lines.append((kind, what, sum(of_kind)))
    width = max(len(name) for _, name, _ in lines)
    for kind, name, freed in lines:
        print(f"  {kind:<12} {name:<{width}}  {size(freed):>8}")
    total = size(sum(thing.bytes for thing in plan.things))
    print(f"{total} would be freed" if dry_run else f"{total} freed")


def _name(thing: pruning.Thing) -> str:
    """A lock id, or the name of a prefix, is cut as everywhere."""
    if thing.kind not in ("environment", "lock"):
        return visible(thing.name)
    return thing.name[:16] + thing.name[64:]
