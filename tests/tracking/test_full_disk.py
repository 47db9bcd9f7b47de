"""A disk that is full for a moment ends no training: its client waits, and nothing that was acknowledged is lost."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from made_disk import small_disk
from tracking.serving import ask, orch_serving

API = "/api/2.0/mlflow/"


def test_a_client_is_told_to_try_again_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "small", "4m") as disk,
        orch_serving(tmp_path, "--no-token", home=disk / "home") as server,
    ):
        run_id = ask(server, "POST", f"{API}runs/create", {"experiment_id": "0"}).said["run"]["info"]["run_id"]

        def log(step: int) -> int:
            # The journal's last block may have room for some more.
            point = {"run_id": run_id, "key": "x" * 200, "value": step, "timestamp": step, "step": step}
            return ask(server, "POST", f"{API}runs/log-metric", point).status

        assert log(0) == 200
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        answers = [log(step) for step in range(1, 200)]
        assert set(answers) == {200, 503}
        filler.unlink()
        assert log(200) == 200
        taken = [0, *(step for step, status in enumerate(answers, 1) if status == 200), 200]
        history = ask(server, "GET", f"{API}metrics/get-history?run_id={run_id}&metric_key={'x' * 200}").said["metrics"]
        assert [point["step"] for point in history] == taken


def test_a_program_goes_on_by_itself(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "small", "4m") as disk,
        orch_serving(tmp_path, "--no-token", home=disk / "home") as server,
    ):
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        threading.Timer(1, filler.unlink).start()
        statuses = set()
        while 200 not in statuses:
            statuses.add(ask(server, "POST", f"{API}runs/create", {"experiment_id": "0"}).status)
        assert statuses == {503, 200}
        folders = list((disk / "home" / "runs").iterdir())
        assert len(folders) == 1
