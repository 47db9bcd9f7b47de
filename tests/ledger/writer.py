"""A process that writes runs: `writer.py HOME NUMBER`. Each line it prints is a run id that was acknowledged."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from made_records import finished, write_journal

from orchestrator import journal, ledger
from orchestrator.model import Metric
from orchestrator.paths import open_home
from orchestrator.records import journal_events


def main(root: str, number: int) -> None:
    home = open_home({"ORCH_HOME": root})
    for i in range(number):
        metrics = tuple(Metric("loss", 1 / (step + 1), step, step) for step in range(i % 20))
        ended = finished(metrics=metrics, tags={"writer": str(os.getpid())}, experiment=f"of {i % 3}")
        begun = replace(ended, status="running", exit_code=None, ended_at=None, outputs=(), metrics=())
        begun = replace(begun, usage=type(begun.usage)())
        with closing(ledger.connect(home)) as connection:
            path = write_journal(home, begun)
            ledger.write_record(connection, begun)
        with closing(ledger.connect(home)) as connection:
            journal.append(path, journal_events(ended)[1:], sync=True)
            ledger.index_run(home, connection, ended.run_id)
        print(ended.run_id, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
