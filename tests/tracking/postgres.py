"""A real PostgreSQL (Debian's package) that tests start, kill and start again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg2
import sqlalchemy

from tests.cluster.test_mlflow_database import postgres_programs
from tests.jobs.conftest import free_port


class Postgres:
    """A database server on loopback whose user `mlflow` needs the password."""

    def __init__(self, password: str) -> None:
        self.port, self._password = free_port(), password
        # not pytest's folder: it is closed to other users, and its name is too long for a socket
        self._folder = tempfile.mkdtemp(prefix="pg-")
        self._user: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(self._folder, "postgres", "postgres")
            self._user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        file = Path(self._folder) / "password"
        file.write_text(password)
        file.chmod(0o644)
        made = ["initdb", "-D", f"{self._folder}/data", "-U", "mlflow", "-A", "scram-sha-256"]
        self._run(*made, f"--pwfile={file}")
        file.unlink()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        connection = self._connected()
        connection.cursor().execute("CREATE DATABASE mlflow")
        connection.close()

    @property
    def uri(self) -> str:
        return sqlalchemy.URL.create(
            "postgresql+psycopg2", "mlflow", self._password, "127.0.0.1", self.port, "mlflow"
        ).render_as_string(hide_password=False)

    def start(self) -> None:
        options = [
            *("-c", "listen_addresses=127.0.0.1"),
            *("-c", f"unix_socket_directories={self._folder}"),
        ]
        program = postgres_programs() / "postgres"
        self._process = subprocess.Popen(
            [*self._user, program, "-D", f"{self._folder}/data", "-p", str(self.port), *options],
            stderr=(Path(self._folder) / "log").open("ab"),
            cwd=self._folder,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while True:
            assert self._process.poll() is None, (Path(self._folder) / "log").read_text()[-2000:]
            try:
                self._connected().close()
                return
            except psycopg2.OperationalError:
                assert time.monotonic() < deadline, "PostgreSQL does not start"
                time.sleep(0.2)

    def kill(self) -> None:
        """As a crash does: the server and all its processes at once."""
        if self._process and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._folder)

    def _connected(self) -> psycopg2.extensions.connection:
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user="mlflow", password=self._password,
            dbname="postgres",
        )  # fmt: skip
        connection.autocommit = True
        return connection

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self._user, postgres_programs() / program, *arguments],
            check=True,
            capture_output=True,
            cwd=self._folder,
        )
