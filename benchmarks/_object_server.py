"""Server of objects on the loopback, each answer of which takes a while, as that of a store does: as much S3 as reading takes.

Run as a program, ``python _object_server.py FOLDER SECONDS``, it prints its URL, and ends with its standard input. moto's
server, with which the tests read, answers 100 requests a second, and would be all that is measured.
"""

import asyncio
import contextlib
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

_CHANGED = formatdate(0, usegmt=True)


@contextlib.contextmanager
def served(folder: Path, seconds: float) -> Iterator[str]:
    """Serve the files of the folders in ``folder``, which are the buckets; give the URL, by which s3fs finds the server."""
    command = [sys.executable, __file__, str(folder), str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - ours
        if server.stdout is None or server.stdin is None:
            raise RuntimeError("the server has no pipes")
        url = server.stdout.readline().strip()
        variables = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "anyone",
            "AWS_SECRET_ACCESS_KEY": "anyone",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            yield url
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            server.stdin.close()
            server.wait(5)


async def _serve(objects: dict[str, bytes], seconds: float) -> None:
    tags = {name: hashlib.sha256(content).hexdigest()[:32] for name, content in objects.items()}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                await asyncio.sleep(seconds)
                writer.write(_answer(head, objects, tags))
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def _answer(head: str, objects: dict[str, bytes], tags: dict[str, str]) -> bytes:
    method, target, _ = head.split(" ", 2)
    name = target.partition("?")[0]
    content = objects.get(name)
    if content is None:
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    fields = [f'ETag: "{tags[name]}"', f"Last-Modified: {_CHANGED}", "Accept-Ranges: bytes"]
    status, body = "200 OK", content
    if found := re.search(r"(?im)^range: bytes=(\d+)-(\d*)", head):
        start, end = int(found[1]), min(int(found[2] or len(content)) + 1, len(content))
        status, body = "206 Partial Content", content[start:end]
        fields.append(f"Content-Range: bytes {start}-{end - 1}/{len(content)}")
    fields.append(f"Content-Length: {len(body)}")
    lines = "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""])
    return lines.encode() + (b"" if method == "HEAD" else body)


if __name__ == "__main__":
    root = Path(sys.argv[1])
    contents = {f"/{file.relative_to(root)}": file.read_bytes() for file in root.rglob("*") if file.is_file()}
    asyncio.run(_serve(contents, float(sys.argv[2])))
