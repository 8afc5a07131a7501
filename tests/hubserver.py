"""A small server that speaks as much of the Hugging Face hub's protocol as loading needs.

    with HubServer() as hub:
        commit = hub.add("datasets", "owner/name", {"README.md": b"..."})
        subprocess.run(..., env={**os.environ, **hub.environment(tmp_path)})

It listens on loopback and serves data sets and models from memory: repository info, file tree,
paths-info, and files with the headers that clients cache by. `hub.requests` lists what was asked.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

Kind = Literal["datasets", "models"]

API = re.compile(
    r"/api/(?P<kind>datasets|models)/(?P<id>[^/]+/[^/]+)"
    r"(?:/(?P<verb>revision|tree|paths-info)/(?P<revision>[^/]+)(?:/(?P<path>.*))?)?"
)
FILE = re.compile(
    r"/(?P<kind>datasets/)?(?P<id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"
)


@dataclass(frozen=True)
class Repository:
    """Files of one repository at its only commit."""

    id: str
    commit: str
    files: dict[str, bytes]

    def knows(self, revision: str) -> bool:
        return revision in ("main", self.commit)

    def entry(self, path: str) -> dict[str, Any]:
        return {
            "type": "file",
            "path": path,
            "size": len(self.files[path]),
            "oid": hashlib.sha1(self.files[path]).hexdigest(),
        }

    def folders(self) -> set[str]:
        return {str(p) for path in self.files for p in Path(path).parents if str(p) != "."}


class HubServer:
    """The server; a context manager that starts and stops it."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[str] = []
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, kind: Kind, repo_id: str, files: dict[str, bytes]) -> str:
        """Serve `files` (by path) as a repository; returns its commit."""
        digest = hashlib.sha1(repo_id.encode())
        for path in sorted(files):
            digest.update(path.encode() + b"\0" + hashlib.sha1(files[path]).digest())
        self.repositories[kind, repo_id] = Repository(repo_id, digest.hexdigest(), dict(files))
        return digest.hexdigest()

    def add_folder(self, kind: Kind, repo_id: str, folder: Path) -> str:
        """Serve the files below `folder` as a repository; returns its commit."""
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        return self.add(kind, repo_id, files)

    def environment(self, home: Path) -> dict[str, str]:
        """Variables for a process that is to use this server and an empty cache in `home`."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }


class _Handler(BaseHTTPRequestHandler):
    server_hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent; `hub.requests` has it."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(urlsplit(self.path).path)
        self.server_hub.requests.append(f"{self.command} {path}")
        if match := API.fullmatch(path):
            self._api(match, body)
        elif match := FILE.fullmatch(path):
            self._file(match)
        else:
            self._send(404, b"Not found")

    def _repository(self, kind: str, match: re.Match[str]) -> Repository | None:
        repository = self.server_hub.repositories.get((kind, match["id"]))
        if repository is None:
            self._send(404, b"Repository not found", {"X-Error-Code": "RepoNotFound"})
        elif not repository.knows(match["revision"] or "main"):
            self._send(404, b"Invalid rev id", {"X-Error-Code": "RevisionNotFound"})
        else:
            return repository
        return None

    def _api(self, match: re.Match[str], body: bytes) -> None:
        repository = self._repository(match["kind"], match)
        if repository is None:
            return
        if match["verb"] == "tree":
            self._tree(repository, match["path"] or "")
        elif match["verb"] == "paths-info":
            asked = json.loads(body)["paths"]
            folders = [{"type": "directory", "path": p, "oid": "0"} for p in repository.folders()]
            entries = [repository.entry(p) for p in repository.files] + folders
            self._json([entry for entry in entries if entry["path"] in asked])
        else:
            self._json(
                {
                    "_id": "0",
                    "id": repository.id,
                    "sha": repository.commit,
                    "lastModified": "2024-01-01T00:00:00.000Z",
                    "createdAt": "2024-01-01T00:00:00.000Z",
                    "private": False,
                    "gated": False,
                    "disabled": False,
                    "downloads": 0,
                    "likes": 0,
                    "tags": [],
                    "siblings": [{"rfilename": path} for path in repository.files],
                }
            )

    def _tree(self, repository: Repository, folder: str) -> None:
        prefix = f"{folder}/" if folder else ""
        deep = "recursive=true" in urlsplit(self.path).query.lower()
        found = [
            repository.entry(path)
            for path in sorted(repository.files)
            if path.startswith(prefix) and (deep or "/" not in path[len(prefix) :])
        ]
        found += [
            {"type": "directory", "path": path, "size": 0, "oid": "0"}
            for path in sorted(repository.folders())
            if path.startswith(prefix) and (deep or "/" not in path[len(prefix) :])
        ]
        if found:
            self._json(found)
        else:
            self._send(404, b"Entry not found", {"X-Error-Code": "EntryNotFound"})

    def _file(self, match: re.Match[str]) -> None:
        repository = self._repository("datasets" if match["kind"] else "models", match)
        if repository is None:
            return
        headers = {"X-Repo-Commit": repository.commit}
        data = repository.files.get(match["path"])
        if data is None:
            self._send(404, b"Entry not found", headers | {"X-Error-Code": "EntryNotFound"})
            return
        headers |= {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            self._send(200, data, headers, "application/octet-stream")
            return
        first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self._send(206, data[first : last + 1], headers, "application/octet-stream")

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {}, "application/json")

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        content_type: str = "text/plain",
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
