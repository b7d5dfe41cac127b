"""A hub of data sets on this machine: as much of its interface as the libraries ask for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final
from urllib.parse import unquote, urlsplit

COMMIT: Final = "0123456789abcdef0123456789abcdef01234567"
"""The only commit of every repository; `main` and `v1.0` name it."""


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """Serve the folders ``owner/name`` below one as repositories; gives the address."""

    class Hub(_Hub):
        folder = root

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _send(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        """Answer."""
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        api = parts[0] == "api"
        owner, name, *rest = [*parts[1 + api :], "", ""]
        folder = self.folder / owner / name
        if not folder.is_dir() or "datasets" not in parts[:2]:
            self._send(404, X_Error_Code="RepoNotFound")
        elif not api:
            self._file(folder.joinpath(*rest[2:]))
        elif rest[0] == "tree":
            self._tree(folder, folder.joinpath(*rest[2:]))
        elif rest[0] == "revision" and rest[1] not in ("main", "v1.0", COMMIT):
            self._send(404, X_Error_Code="RevisionNotFound")
        else:
            info = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": [], "tags": []}
            self._send(200, json.dumps(info).encode())

    do_HEAD = do_GET  # noqa: N815  the name that the class looks for

    def _file(self, file: Path) -> None:
        if not file.is_file():
            self._send(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
            return
        content = file.read_bytes()
        tag = f'"{hashlib.sha1(content).hexdigest()}"'
        self._send(200, content, ETag=tag, X_Repo_Commit=COMMIT)

    def _tree(self, folder: Path, place: Path) -> None:
        if not place.is_dir():
            self._send(404, X_Error_Code="EntryNotFound")
            return
        entries = [
            {
                "type": "file" if one.is_file() else "directory",
                "path": one.relative_to(folder).as_posix(),
                "size": one.stat().st_size if one.is_file() else 0,
                "oid": hashlib.sha1(one.name.encode()).hexdigest(),
            }
            for one in sorted(place.iterdir())
        ]
        self._send(200, json.dumps(entries).encode())
