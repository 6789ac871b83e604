"""What one host of a cluster says about itself, for `forkdiv doctor`."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tuning import gcs, hosts

GIB = 2**30
CONNECT_S = 5.0


@dataclass(frozen=True)
class Facts:
    """What a host says about itself. `gpus` are the devices that its system has, `shm` and `disk`
    GiB of /dev/shm and the used share of the disk with Ray's temporary files."""

    versions: Mapping[str, str]
    clock: float
    gpus: int
    driver: str
    shm: float
    disk: float
    files: int
    storage: str | None
    storage_free: float


class Examiner:
    """An actor on one host that examines it."""

    def __init__(self) -> None:
        self._server: socket.socket | None = None

    def facts(self, root: Path, token: str) -> Facts:
        """Returns what the host says about itself; `token` is a file that the driver wrote."""
        answer = hosts.answer(root, token)
        python = gcs.Versions.here().python
        temporary = shutil.disk_usage(os.environ.get("RAY_TMPDIR") or "/tmp")
        return Facts(
            versions={"python": python, **answer.versions},
            clock=time.time(),
            gpus=len(
                [path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()]
            ),
            driver=_gpu_driver(),
            shm=shutil.disk_usage("/dev/shm").total / GIB,
            disk=1 - temporary.free / temporary.total,
            files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            storage=answer.storage,
            storage_free=answer.free,
        )

    def clock(self) -> float:
        """Returns the host's time in seconds since the epoch."""
        return time.time()

    def listen(self) -> int:
        """Listens on a free port of the host and accepts every connection; returns the port."""
        self._server = socket.create_server(("", 0))
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()
        port: int = self._server.getsockname()[1]
        return port

    def _accept(self, server: socket.socket) -> None:
        while True:
            connection, _ = server.accept()
            connection.close()

    def reach(self, address: str, port: int) -> str | None:
        """Returns why this host cannot connect to that port; None if it can."""
        try:
            socket.create_connection((address, port), timeout=CONNECT_S).close()
        except OSError as error:
            return error.strerror or str(error)
        return None


def _gpu_driver() -> str:
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return ""
    return next((word for word in text.split() if word[0].isdigit() and "." in word), "")
