"""Real git repositories for tests, and a real git server on loopback."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def git(folder: Path, *args: str, code: int = 0) -> str:
    """Run git as the user would, in `folder`; its output without the last newline."""
    allow = ["-c", "protocol.file.allow=always"]
    done = subprocess.run(["git", *allow, *args], cwd=folder, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout.rstrip("\n")


def write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files, with their folders."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def commit(folder: Path, files: Mapping[str, str | bytes] | None = None, message: str = "change") -> str:
    """Write files and commit everything; the id of the commit."""
    write(folder, files or {})
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def make_repository(folder: Path, files: Mapping[str, str | bytes] | None = None) -> Path:
    """A repository with one commit of `files`."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    git(folder, "config", "uploadpack.allowFilter", "true")
    commit(folder, files or {"main.py": "print(1)\n", "data/a.csv": "1,2\n"})
    return folder


def listing(folder: Path) -> dict[str, bytes | str]:
    """All files below a folder: path -> content, or the target of a symbolic link."""
    found: dict[str, bytes | str] = {}
    for directory, folders, files in os.walk(folder):
        for name in (*files, *(f for f in folders if (Path(directory) / f).is_symlink())):
            path = Path(directory) / name
            key = path.relative_to(folder).as_posix()
            found[key] = os.readlink(path) if path.is_symlink() else path.read_bytes()
    return found


def fingerprint(folder: Path) -> dict[str, tuple[int, int, int, bytes | str]]:
    """Everything of the files below a folder that a writer would change: mode, size, time, content."""
    found = {}
    for name, content in listing(folder).items():
        status = (folder / name).lstat()
        found[name] = (status.st_mode, status.st_size, status.st_mtime_ns, content)
    return found


class GitServer:
    """The repositories below a folder, served over HTTP by git's own server program."""

    def __init__(self, root: Path, login: str | None) -> None:
        self.requests: list[str] = []
        login_header = "Basic " + base64.b64encode((login or "").encode()).decode()
        server = self

        class Requests(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                server.requests.append(self.path)
                if login is not None and self.headers.get("Authorization") != login_header:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="x"')
                    self.end_headers()
                    return
                path, _, query = self.path.partition("?")
                if path.endswith(".zip"):
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write((root / path.lstrip("/")).read_bytes())
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                env = {
                    **os.environ,
                    "GIT_PROJECT_ROOT": str(root),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "PATH_INFO": path,
                    "QUERY_STRING": query,
                    "REQUEST_METHOD": self.command,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "CONTENT_LENGTH": str(len(body)),
                    "REMOTE_ADDR": "127.0.0.1",
                }
                out = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True).stdout
                head, _, content = out.partition(b"\r\n\r\n")
                headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
                self.send_response(int(headers.pop("Status", "200").split()[0]))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = _answer  # noqa: N815  (http.server calls these names)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (http.server's name)
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def url(self, name: str, login: str = "") -> str:
        """The URL of a repository below the root."""
        return f"http://{login + '@' if login else ''}{self.address}/{name}"

    def stop(self) -> None:
        """From now on nobody answers."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def serve(root: Path, login: str | None = None) -> Iterator[GitServer]:
    """Serve the repositories below `root`; `login` (user:password) is asked for if given."""
    server = GitServer(root, login)
    try:
        yield server
    finally:
        server.stop()
