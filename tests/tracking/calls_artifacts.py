"""Calls about artifacts, which go through the server."""

from __future__ import annotations

from tracking.calls import ARTIFACTS, Call, delete, experiment, fetch, get, listed, only, put, run, seen, unlike

_NAMES = ("a%20b.txt", "100%25.txt", "a+b.txt", "what%3F.txt", "%C3%BCn%C3%AF.txt", "semi;colon.txt", "a&b=c")
_OUTSIDE = ("../out.txt", "%2e%2e/out.txt", "a/../../out.txt", "a/%2e%2e/%2e%2e/%2e%2e/out.txt", "..%2Fout.txt")

FILES: dict[str, list[Call]] = {
    "artifacts are put, listed and got": [
        experiment(),
        run(),
        listed(),
        put("a.txt", b"alpha"),
        put("sub/b.txt", b"beta"),
        put("sub/deeper/c.bin", bytes(range(256))),
        put("a.txt", b"written again"),
        listed(),
        listed("/sub"),
        listed("/sub/"),
        listed("/sub/deeper"),
        listed("/a.txt"),
        listed("/absent"),
        fetch("a.txt"),
        fetch("sub/b.txt"),
        fetch("sub/deeper/c.bin"),
        *only("3", fetch("absent.txt"), fetch("sub/absent.txt")),
        seen(),
    ],
    "artifacts are put without a length": [
        experiment(),
        run(),
        put("empty.txt", b"", chunked=True),
        put("chunked.txt", b"in chunks" * 1000, chunked=True),
        put("none.txt", b""),
        listed(),
        fetch("empty.txt"),
        fetch("chunked.txt"),
        fetch("none.txt"),
    ],
    "artifacts of every name": [
        experiment(),
        run(),
        *(put(name, name.encode()) for name in _NAMES),
        put("folder%20%25%20+/x%20y.txt", b"in a folder"),
        listed(),
        listed("/folder % +"),
        *(fetch(name) for name in _NAMES),
        fetch("folder%20%25%20+/x%20y.txt"),
    ],
    "artifacts as an R or a Java client lists them": [
        experiment(),
        run(),
        get("artifacts/list", run_id="{run}"),
        put("a.txt", b"alpha"),
        put("sub/b.txt", b"beta"),
        get("artifacts/list", run_id="{run}"),
        get("artifacts/list", run_uuid="{run}", path="sub"),
        get("artifacts/list", run_id="{run}", path="a.txt"),
        get("artifacts/list", run_id="{run}", path="absent"),
        get("artifacts/list", run_id="{run}", path="../.."),
        get("artifacts/list", run_id="0" * 32),
        get("artifacts/list"),
    ],
    "a path that leads out of the artifacts": [
        experiment(),
        run(),
        *(put(name, b"out") for name in _OUTSIDE),
        *(fetch(name) for name in _OUTSIDE),
        listed("/.."),
        listed("/../../.."),
        listed(),
    ],
    "artifacts are deleted": [
        experiment(),
        run(),
        put("a.txt", b"alpha"),
        put("sub/b.txt", b"beta"),
        *unlike(
            "an artifact is an output of its run, and no output is taken away alone: orch refuses",
            delete(f"{ARTIFACTS}/{{exp}}/{{run}}/artifacts/a.txt"),
            delete(f"{ARTIFACTS}/{{exp}}/{{run}}/artifacts/absent.txt"),
            listed(),
            fetch("a.txt"),
        ),
    ],
}
