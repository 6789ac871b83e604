"""A stand-in of the Hugging Face Hub on the loopback interface: what the installed huggingface_hub
asks for when it downloads models and datasets. It knows branches, gated repositories and tokens,
and it can break downloads off.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LFS_BYTES = 4096  # larger files are stored apart, as the hub does


@dataclass
class Repo:
    """One repository: the files of each commit, and the commit of each branch and tag. A `gated`
    one is downloaded with a token in `tokens` only; a `hidden` one does not even show."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    hidden: bool = False
    tokens: set[str] = field(default_factory=set)

    def push(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Makes a commit of these files alone and moves the branch to it; returns the commit."""
        text = repr((sorted(files.items()), len(self.commits)))
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.refs[branch] = commit
        return commit

    def commit(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.refs.get(revision)


@dataclass
class Hub:
    """The server's state; tests change it while it runs. `break_after` breaks downloads off
    after this many bytes; with `status` every request fails so, with `message`; `requests` are the
    lines that were asked, and `ranges` the parts of files."""

    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    break_after: int | None = None
    status: int | None = None
    message: str = "internal error"
    url: str = ""

    def repo(self, name: str, kind: str = "model") -> Repo:
        return self.repos.setdefault((kind, name), Repo())


def folder_files(folder: Path) -> dict[str, bytes]:
    """The files of a folder as a repository has them."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        if self.hub.status:
            self._error(self.hub.status, "", self.hub.message)
            return
        parts = path.strip("/").split("/")
        if parts[0] == "api" and len(parts) < 4:
            self._error(404, "", "no such part of the API")
        elif parts[0] == "api":
            kind, owner, name, *rest = parts[1].removesuffix("s"), *parts[2:]
            self._api(kind, f"{owner}/{name}", rest)
        else:
            kind = "dataset" if parts[0] == "datasets" else "model"
            owner, name, _, *rest = parts[1:] if kind == "dataset" else parts
            self._resolve(kind, f"{owner}/{name}", rest, body)

    def _api(self, kind: str, name: str, rest: list[str]) -> None:
        repo = self._repo(kind, name)
        if repo is None:
            return
        what, *more = rest or ["revision", "main"]
        if what == "refs":
            named = [
                {"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": commit}
                for ref, commit in repo.refs.items()
            ]
            self._json({"branches": named, "tags": [], "converts": []})
            return
        commit = repo.commit("/".join(more))
        if commit is None:
            self._error(404, "RevisionNotFound", "Invalid rev id")
            return
        files = repo.commits[commit]
        if what == "tree":
            self._json([_entry(path, content) for path, content in files.items()])
            return
        siblings = [{"rfilename": path} for path in files]
        self._json({"_id": "1", "id": name, "sha": commit, "siblings": siblings})

    def _resolve(self, kind: str, name: str, rest: list[str], body: bool) -> None:
        repo = self._repo(kind, name)
        if repo is None:
            return
        if repo.gated and self._token() not in repo.tokens:
            status = 403 if self._token() else 401
            self._error(status, "GatedRepo", f"Access to {kind} {name} is restricted.")
            return
        for size in range(1, len(rest)):
            if commit := repo.commit("/".join(rest[:size])):
                content = repo.commits[commit].get("/".join(rest[size:]))
                if content is not None:
                    self._file(commit, content, body)
                    return
                self._error(404, "EntryNotFound", "Entry not found")
                return
        self._error(404, "RevisionNotFound", "Invalid rev id")

    def _repo(self, kind: str, name: str) -> Repo | None:
        repo = self.hub.repos.get((kind, name))
        if repo is None or (repo.hidden and self._token() not in repo.tokens):
            self._error(404 if self._token() else 401, "RepoNotFound", "Repository not found")
            return None
        return repo

    def _token(self) -> str:
        return str(self.headers.get("Authorization", "")).removeprefix("Bearer ")

    def _file(self, commit: str, content: bytes, body: bool) -> None:
        asked = self.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").partition("-")[0] or 0) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{_etag(content)}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not body:
            return
        if asked:
            self.hub.ranges.append(asked)
        rest = content[start:]
        if self.hub.break_after is not None and len(rest) > self.hub.break_after:
            self.wfile.write(rest[: self.hub.break_after])
            self.close_connection = True
            return
        self.wfile.write(rest)

    def _json(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _error(self, status: int, code: str, message: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _etag(content: bytes) -> str:
    if len(content) > LFS_BYTES:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content)}
    entry["oid"] = hashlib.sha1(content).hexdigest()
    if len(content) > LFS_BYTES:
        lfs = {"oid": _etag(content), "size": len(content), "pointerSize": 130}
        entry["lfs"] = lfs
    else:
        entry["oid"] = _etag(content)
    return entry
