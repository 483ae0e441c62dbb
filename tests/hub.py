"""A model hub of one repository on a free port of 127.0.0.1, for fetching without the network."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REPO = "someone/tiny"
COMMIT = "a" * 40
NEWEST = "b" * 40

FILES = {
    "config.json": b'{"hidden": 8}',
    "text/merges.txt": b"a b\n",
    "text_2/merges.txt": b"a b\n",
    "model.safetensors": bytes(range(256)) * 400,
}


@dataclass
class Hub:
    """What is served, how it misbehaves, and what it was asked."""

    repo: str = REPO
    kind: str = "models"
    #: Content of the repository by revision.
    commits: dict[str, dict[str, bytes]] = field(
        default_factory=lambda: {COMMIT: dict(FILES), NEWEST: dict(FILES)}
    )
    branches: dict[str, str] = field(default_factory=lambda: {"main": NEWEST})
    #: Break the connection after so many bytes of a file, and then answer 500; None: never.
    cut_after: int | None = None
    #: Send so many bytes of a file and then wait until the client goes away; None: never.
    slow_after: int | None = None
    #: Paths whose bytes arrive altered.
    altered: set[str] = field(default_factory=set)
    #: Answer a Range with the whole file.
    ignores_ranges: bool = False
    #: Path and Range of each file that was asked for.
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    listings: int = 0
    endpoint: str = ""

    @property
    def paths_asked(self) -> list[str]:
        return [path for path, _ in self.asked]


def _is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".ckpt"))


def _sibling(path: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    about: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": blob}
    if _is_large(path):
        sha256 = hashlib.sha256(content).hexdigest()
        about["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 130}
    return about


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if found := re.fullmatch(rf"/api/{hub.kind}/{hub.repo}/revision/(.+)", path):
                self._listing(found[1])
            elif found := re.fullmatch(rf"/(?:spaces/)?{hub.repo}/resolve/(\w+)/(.+)", path):
                self._file(found[1], found[2])
            else:
                self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

        def _listing(self, revision: str) -> None:
            hub.listings += 1
            commit = hub.branches.get(revision, revision)
            if commit not in hub.commits:
                self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
                return
            siblings = [_sibling(*item) for item in hub.commits[commit].items()]
            body = {"_id": "1", "id": hub.repo, "sha": commit, "siblings": siblings}
            self._answer(200, json.dumps(body).encode())

        def _file(self, commit: str, path: str) -> None:
            asked = self.headers.get("Range")
            hub.asked.append((path, asked))
            if hub.cut_after == 0:
                self._answer(500, b"")
                return
            content = hub.commits[commit][path]
            if path in hub.altered:
                content = content[:-1] + bytes([content[-1] ^ 1])
            status, headers, start = 200, {"X-Repo-Commit": commit}, 0
            if asked and not hub.ignores_ranges:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                status = 206
            self._answer(status, content[start:], headers)

        def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if hub.cut_after and len(body) > hub.cut_after and status in (200, 206):
                self.wfile.write(body[: hub.cut_after])
                hub.cut_after = 0
                self.close_connection = True
            elif hub.slow_after and len(body) > hub.slow_after:
                self.wfile.write(body[: hub.slow_after])
                with suppress(ConnectionError):
                    self.rfile.read(1)  # nothing comes; it ends with the client
                self.close_connection = True
            else:
                self.wfile.write(body)

    return Handler


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    from huggingface_hub import close_session

    hub = Hub()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub)) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        try:
            yield hub
        finally:
            close_session()
            server.shutdown()
            thread.join()
