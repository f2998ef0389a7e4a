"""A server that plays the model hub: file listings, ranges, redirects, breaks, and wrong content."""

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def git_sha1(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub:
    """The state of the server.

    Attributes:
        repositories: files by repository and revision.
        main: the revision that `main` names, by repository.
        large: bytes from which a file has a SHA-256, as those that git keeps elsewhere.
        breaks: bytes after which each next answer of a file breaks off, in order.
        sent: what is sent instead of a file, by name.
        ignores_ranges: answer requests for a range with the whole file.
        pause: bytes of a file after which an answer waits, sets `paused` and waits for `resume`.
        requests: method, path and range of each request.
        licence: of each repository.
    """

    def __init__(self):
        self.repositories, self.main, self.breaks, self.sent = {}, {}, [], {}
        self.large, self.ignores_ranges, self.requests, self.licence = 2000, False, [], "mit"
        self.pause, self.paused, self.resume = None, threading.Event(), threading.Event()

    def add(self, repository, files, revision=None):
        """Add a revision, which becomes `main`; return its name."""
        revision = revision or hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.repositories.setdefault(repository, {})[revision] = files
        self.main[repository] = revision
        return revision

    def find(self, repository, revision):
        revisions = self.repositories.get(repository, {})
        return revisions.get(self.main[repository] if revision == "main" else revision)

    def downloads(self):
        """Return name and first byte of each file that was asked for."""
        return [
            (path.rpartition("/")[2], int((span or "bytes=0-")[6:].split("-")[0]))
            for method, path, span in self.requests
            if method == "GET" and "/resolve/" in path
        ]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self._answer(False)

    def do_GET(self):
        self._answer(True)

    def _answer(self, has_body):
        hub, path = self.server.hub, self.path.partition("?")[0]
        hub.requests.append((self.command, path, self.headers.get("Range")))
        if match := re.fullmatch(r"/api/models/(.+?)(?:/revision/([^/]+))?", path):
            return self._listing(hub, match[1], match[2] or "main")
        match = re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path)
        files = hub.find(match[1], match[2]) if match and match[1] in hub.repositories else None
        if files is None or match[3] not in files:
            return self._error(404, "EntryNotFound" if files else "RepoNotFound")
        self._file(hub, match[1], match[2], match[3], files[match[3]], has_body)

    def _listing(self, hub, repository, revision):
        if repository not in hub.repositories:
            return self._error(404, "RepoNotFound")
        files = hub.find(repository, revision)
        if files is None:
            return self._error(404, "RevisionNotFound")
        commit = hub.main[repository] if revision == "main" else revision
        siblings = []
        for name, content in files.items():
            entry = {"rfilename": name, "size": len(content), "blobId": git_sha1(content)}
            if len(content) >= hub.large:
                entry["lfs"] = {"sha256": sha256(content), "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        body = json.dumps(
            {"id": repository, "modelId": repository, "sha": commit, "siblings": siblings, "tags": [],
             "downloads": 0, "likes": 0, "private": False, "cardData": {"license": hub.licence}}
        ).encode()  # fmt: skip
        self._send(200, body, {"Content-Type": "application/json"})

    def _file(self, hub, repository, revision, name, content, has_body):
        digest = sha256(content) if len(content) >= hub.large else git_sha1(content)
        headers = {
            "ETag": f'"{digest}"', "Accept-Ranges": "bytes",
            "X-Repo-Commit": hub.main[repository] if revision == "main" else revision,
        }  # fmt: skip
        content, status = hub.sent.get(name, content), 200
        span = self.headers.get("Range")
        if span and not hub.ignores_ranges:
            start = int(span[6:].split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content, status = content[start:], 206
        if has_body and hub.breaks and len(content) > hub.breaks[0]:
            self._send(status, content, headers, cut=hub.breaks.pop(0))
        else:
            self._send(status, content if has_body else b"", headers, length=len(content))

    def _error(self, status, code):
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status, body, headers, length=None, cut=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        hub = self.server.hub
        if hub.pause is not None and len(body) > hub.pause:
            self.wfile.write(body[: hub.pause])
            self.wfile.flush()
            hub.paused.set()
            hub.resume.wait(60)
            self.close_connection = True
            return
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)


@contextmanager
def running():
    """Yield the state of a server and its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads, server.hub = True, Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def hub_of(folder, monkeypatch):
    """Yield the state of a server that huggingface_hub takes for the hub, with its cache in `folder`."""
    from huggingface_hub import constants, file_download

    for name in ("https_proxy", "all_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with running() as (hub, address):
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        for module in (constants, file_download):  # older versions have a copy
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield hub
