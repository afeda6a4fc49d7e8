"""An object store on this machine: a server that speaks S3, and a gate before it that can be shut."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pyarrow.fs

from tests.tuning.nodes import free_port

BUCKET = "bucket"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1"}


@contextmanager
def object_server() -> Iterator[int]:
    """The port of a server with an empty bucket."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not answers(port):
            assert server.poll() is None
            assert time.monotonic() < deadline, "the server does not come up"
            time.sleep(0.1)
        system = pyarrow.fs.S3FileSystem(
            endpoint_override=f"http://127.0.0.1:{port}",
            access_key="testing",
            secret_key="testing",
            region="us-east-1",
            allow_bucket_creation=True,
        )
        system.create_dir(BUCKET)
        yield port
    finally:
        server.kill()
        server.wait()


def ask_for_keys(port: int) -> None:
    """From now on the server lets in only who has a key that it gave out: nobody."""
    call = urllib.request.Request(
        f"http://127.0.0.1:{port}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"}
    )
    urllib.request.urlopen(call).close()


def uri(port: int, prefix: str = "", bucket: str = BUCKET) -> str:
    return f"s3://{bucket}/{prefix}?endpoint_override=http://127.0.0.1:{port}"


def answers(port: int) -> bool:
    with socket.socket() as line:
        return line.connect_ex(("127.0.0.1", port)) == 0


class Gate:
    """Passes connections on to `target`, but for while it is shut: then they are cut and refused."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._lines: set[socket.socket] = set()
        self.open()

    def open(self) -> None:
        self._door = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, args=(self._door,), daemon=True).start()

    def shut(self) -> None:
        for line in (self._door, *self._lines):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()
        self._lines.clear()

    def _serve(self, door: socket.socket) -> None:
        with suppress(OSError):  # until it is shut
            while True:
                near, _ = door.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._lines |= {near, far}
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(1 << 16):
                sink.sendall(content)
        for line in (source, sink):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()
            self._lines.discard(line)
