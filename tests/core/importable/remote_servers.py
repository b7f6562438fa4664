"""Real servers of files on the loopback, with faults that tests ask for: HTTP with ranges and entity tags, and S3 (moto's).

As a program, ``python remote_servers.py http FOLDER`` or ``s3``, it serves in a process of its own, prints its URL, and ends
with its standard input; `in_process` starts it so. Faults are then set by a POST of JSON to ``/_faults``.
"""

import contextlib
import hashlib
import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ACCESS_KEY, SECRET_KEY = "loopback-access", "loopback-hidden-7Q"
"""Credentials that the S3 server takes; all others are refused."""


@dataclass
class Request:
    method: str
    path: str
    range: str = ""
    header: dict[str, str] = field(default_factory=dict)


@dataclass
class Faults:
    """What a server does wrong with the next requests of objects; counts are used up one a request."""

    delay: float = 0.0
    """Seconds before each answer."""

    errors: int = 0
    """Answers that are ``status``."""

    status: int = 503
    truncated: int = 0
    """Bodies of which half is sent before the connection is closed."""

    resets: int = 0
    """Connections that are reset instead of answered."""

    takes_ranges: bool = True
    """HTTP only: whether ``Range`` is heeded; else all of the file is sent."""

    has_tags: bool = True
    """HTTP only: whether there are entity tags, and conditions on them are heeded."""

    conditions: bool = True
    """HTTP only: whether ``If-Match`` is heeded."""

    requests: list[Request] = field(default_factory=list)
    """All requests so far, those that failed, too."""

    hook: Callable[[Request], None] | None = None
    """Called with each request before it is answered, such as to replace an object."""

    def __post_init__(self) -> None:
        self.lock = threading.Lock()

    def next(self, request: Request) -> str:
        """Count a request; return "error", "truncated", "reset" or "" for how it is to fail."""
        with self.lock:
            self.requests.append(request)
            found = ""
            for kind, name in (("error", "errors"), ("truncated", "truncated"), ("reset", "resets")):
                if not found and getattr(self, name) > 0:
                    setattr(self, name, getattr(self, name) - 1)
                    found = kind
        if self.hook is not None:
            self.hook(request)
        if self.delay:
            time.sleep(self.delay)
        return found

    def reads(self) -> list[Request]:
        """Return the requests for bytes so far."""
        return [request for request in self.requests if request.method == "GET"]

    def set(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Change fields by name; return the number of requests so far."""
        for name, value in settings.items():
            setattr(self, name, value)
        return {"requests": len(self.requests), "reads": len(self.reads())}


def reset(connection: socket.socket) -> None:
    """Close a connection so that the other side is told that it was reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RDWR)
    connection.close()


# -- HTTP ----------------------------------------------------------------------------------------------------------------


class HttpServer:
    """An HTTP server of a folder: ranges, entity tags, ``If-Match``, pages that list folders, and faults."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.faults = folder, Faults()
        handler = type("Handler", (_Handler,), {"server_of_files": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def put(self, name: str, content: bytes) -> str:
        """Write a file, and return its address."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return f"{self.url}/{name}"

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients go away, and connections are reset on purpose."""


class _Handler(BaseHTTPRequestHandler):
    server_of_files: HttpServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        settings = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(200, json.dumps(self.server_of_files.faults.set(settings)).encode(), {})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        faults = self.server_of_files.faults
        fault = faults.next(Request(self.command, self.path, self.headers.get("Range", ""), dict(self.headers)))
        path = self.server_of_files.folder / unquote(urlsplit(self.path).path).lstrip("/")
        if fault == "reset":
            self.close_connection = True
            reset(self.connection)
        elif fault == "error":
            self._send(faults.status, b"it fails\n", {"Retry-After": "0"})
        elif path.is_dir():
            self._send(200, self._page(path), {"Content-Type": "text/html"})
        else:
            try:
                content, changed = path.read_bytes(), path.stat().st_mtime
            except FileNotFoundError:
                self._send(404, b"no such file\n", {})
            except PermissionError:
                self._send(403, b"not yours\n", {})
            else:
                self._send_file(faults, content, formatdate(changed, usegmt=True), is_cut=fault == "truncated")

    def _send_file(self, faults: Faults, content: bytes, changed: str, *, is_cut: bool) -> None:
        headers = {"Content-Type": "application/octet-stream", "Last-Modified": changed}
        if faults.has_tags:
            headers["ETag"] = f'"{hashlib.md5(content).hexdigest()}"'  # noqa: S324 - as S3 has them
            if faults.conditions and self.headers.get("If-Match", "*") not in ("*", headers["ETag"]):
                self._send(412, b"it changed\n", {})
                return
        status, body = 200, content
        if faults.takes_ranges:
            headers["Accept-Ranges"] = "bytes"
            if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                start, end = int(found[1]), min(int(found[2] or len(content)) + 1, len(content))
                if start >= len(content):
                    self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                    return
                status, body = 206, content[start:end]
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        self._send(status, body, headers, is_cut=is_cut)

    def _page(self, folder: Path) -> bytes:
        names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
        return "".join(f'<a href="{name}">{name}</a>\n' for name in names).encode()

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, is_cut: bool = False) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        if is_cut:
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if is_cut else body)


# -- S3 ------------------------------------------------------------------------------------------------------------------

_DENIED = (
    "<?xml version='1.0'?><Error><Code>InvalidAccessKeyId</Code><Message>The AWS Access Key Id you provided does not exist in "
    "our records.</Message></Error>"
)
_BUSY = "<?xml version='1.0'?><Error><Code>ServiceUnavailable</Code><Message>Please try again</Message></Error>"


class S3Server:
    """moto's S3 server, which takes one pair of credentials, and has faults."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import (  # noqa: PLC0415 - takes a second
            DomainDispatcherApplication,
            create_backend_app,
        )
        from werkzeug.serving import WSGIRequestHandler, make_server  # noqa: PLC0415 - as above

        class Quiet(WSGIRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_request(self, *_: Any) -> None:
                """Say nothing."""

            def log(self, *_: Any) -> None:
                """Say nothing."""

        self.faults = Faults()
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Quiet)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which clients find the server, and are let in."""
        return s3_environment(self.url)

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/_faults":
            said = json.dumps(
                self.faults.set(json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))))
            ).encode()
            start("200 OK", [("Content-Length", str(len(said)))])
            return [said]
        request = Request(environ["REQUEST_METHOD"], path, environ.get("HTTP_RANGE", ""))
        request.header = {key[5:]: value for key, value in environ.items() if key.startswith("HTTP_")}
        # faults are for who reads, not for who prepares the data
        fault = "" if request.method in ("PUT", "POST", "DELETE") else self.faults.next(request)
        if fault == "reset":
            reset(environ["werkzeug.socket"])
            raise ConnectionResetError
        if fault == "error":
            return self._refused(start, self.faults.status, _BUSY, request.method)
        authorization = environ.get("HTTP_AUTHORIZATION", "")
        if authorization and f"Credential={ACCESS_KEY}/" not in authorization:
            return self._refused(start, 403, _DENIED, request.method)
        body = self._app(environ, start)
        return self._cut(body) if fault == "truncated" else body

    def _refused(self, start: Callable[..., Any], status: int, body: str, method: str) -> list[bytes]:
        start(f"{status} Refused", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [] if method == "HEAD" else [body.encode()]

    def _cut(self, body: Iterable[bytes]) -> Iterator[bytes]:
        whole = b"".join(body)
        yield whole[: len(whole) // 2]
        raise ConnectionAbortedError

    def client(self) -> Any:
        """Return a client of boto3, to prepare objects with."""
        import boto3  # noqa: PLC0415 - takes a while

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
        )

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def s3_environment(url: str) -> dict[str, str]:
    """Return the variables by which clients find an S3 server of `S3Server`, and are let in."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class Bucket:
    """A new bucket of an S3 server."""

    def __init__(self, server: S3Server, name: str, *, versions: bool = False) -> None:
        self.server, self.name, self.faults = server, name, server.faults
        self.client = server.client()
        self.client.create_bucket(Bucket=name)
        if versions:
            self.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        self.url = f"s3://{name}"

    def put(self, key: str, content: bytes) -> str:
        """Write an object, and return its address."""
        self.client.put_object(Bucket=self.name, Key=key, Body=content)
        return f"{self.url}/{key}"

    def remove(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)


# -- in a process of its own ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def in_process(kind: str, *arguments: str) -> Iterator[str]:
    """Run a server in a process of its own while the block runs; give its URL.

    Args:
        kind: "http", whose argument is the folder to serve, or "s3".
        arguments: Of that kind.
    """
    command = [sys.executable, __file__, kind, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - ours
        assert server.stdout is not None
        assert server.stdin is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.kill()


def main(kind: str, *arguments: str) -> None:
    server = HttpServer(Path(arguments[0])) if kind == "http" else S3Server()
    sys.stdout.write(f"{server.url}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
