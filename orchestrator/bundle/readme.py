"""`README.txt` of a bundle: what it is, for people who open it without orch."""

from __future__ import annotations

import json
from collections.abc import Iterator

from orchestrator.bundle.layout import blob_member, source_member
from orchestrator.model import RunRecord


def readme(record: RunRecord) -> bytes:
    """The text; it follows from the record alone."""
    return "".join(f"{line}".rstrip() + "\n" for line in _lines(record)).encode()


def _lines(record: RunRecord) -> Iterator[str]:
    spec = record.spec
    yield f"Run {record.run_id}"
    yield ""
    yield "A recorded run of a program, with all that is needed to do it again: its code, the lock of its environment,"
    yield "its inputs and outputs, what it printed, and what it logged. Made by orch (orch bundle create)."
    yield ""
    yield "  orch replay FILE           do it again, and compare what comes out"
    yield "  orch bundle verify FILE    check every byte of it"
    yield "  orch bundle import FILE    take it in; then orch show, orch logs, orch get, orch diff"
    yield ""
    yield f"  started    {record.started_at} on {_plain(str(record.host.get('hostname', 'an unknown host')))}"
    yield f"  ended      {record.ended_at or 'not known'}, {record.status}, exit code {record.exit_code}"
    yield f"  code       commit {spec.source.commit} of {_plain(spec.source.origin or spec.source.url)}"
    yield f"  command    {_plain(spec.command)}"
    for name, value in sorted(spec.parameters.items()):
        secret = name in spec.secret_parameters
        yield f"             {_plain(name)} = {'(not recorded)' if secret else _plain(value)}"
    yield f"  platform   {spec.environment.platform}"
    yield ""
    yield "Files stand under their sha256:"
    yield ""
    for output in record.outputs:
        place = f"a link to {_plain(output.link)}" if output.link is not None else blob_member(output.sha256)
        yield f"  output {_plain(output.path)}: {place}"
    for item in spec.inputs:
        kind = "folder, its listing" if item.kind == "folder" else "file"
        yield f"  input {_plain(item.path)} ({kind}): {blob_member(item.sha256)}"
    yield f"  the code: {source_member(spec.source.commit)}, as `git cat-file --batch` prints the objects of the commit"
    yield "  the environment: locks/, readable by conda-lock and micromamba; packages/, where they were put in"
    yield ""
    yield "ro-crate-metadata.json says the same to programs: a Process Run Crate 0.5 on RO-Crate 1.1."


def _plain(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)
