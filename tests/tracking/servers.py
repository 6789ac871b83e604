"""A real MLflow tracking server that tests start, kill and start again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from urllib.error import HTTPError

from tests.stack import clean_environment

START_S = 300.0


class TrackingServer:
    """`mlflow server` on a port of loopback, with its database and its files in `folder`."""

    def __init__(
        self,
        folder: Path,
        port: int,
        database: str | None = None,
        options: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.port = folder, port
        self._database = database or f"sqlite:///{folder / 'server.db'}"
        self._options, self._environment = options, environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                Path(sys.executable).with_name("mlflow"),
                *("server", "--workers=1", "--host=127.0.0.1", f"--port={self.port}"),
                *("--artifacts-destination", str(self.folder / "server-artifacts")),
                *self._options,
            ],
            env={
                **clean_environment(),
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_BACKEND_STORE_URI": self._database,  # not in the list of processes
                **self._environment,
            },
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "server.log").open("ab"),
            start_new_session=True,
        )
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "server.log").read_text()[-3000:]
            assert time.monotonic() < deadline, "the tracking server does not start"
            time.sleep(0.2)

    def kill(self) -> None:
        """As a crash does: the server and its workers at once."""
        if self._process and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _answers(self) -> bool:
        try:
            return bool(urllib.request.urlopen(f"{self.uri}/health", timeout=5).status == 200)
        except HTTPError as error:
            return error.code == 401
        except OSError:
            return False
