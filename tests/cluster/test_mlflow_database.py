"""MLflow on the database that the cluster files name, with the driver that the image has."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import psycopg2
import pytest
import sqlalchemy
import yaml
from mlflow import MlflowClient

from tests.jobs.conftest import free_port
from tests.stack import clean_environment

ROOT = Path(__file__).parents[2]
URLS: dict[str, Callable[[], str]] = {}


def where(name: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    def add(read: Callable[[], str]) -> Callable[[], str]:
        URLS[name] = read
        return read

    return add


@where("compose")
def compose_url() -> str:
    services = yaml.safe_load((ROOT / "cluster/compose.yaml").read_text())["services"]
    url = services["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]
    return re.sub(r"\$\{POSTGRES_PASSWORD:[^}]*\}", "PASSWORD", url)


@where("kubernetes")
def kubernetes_url() -> str:
    (url,) = re.findall(r"--from-literal=uri=(\S+)", (ROOT / "docs/clusters.md").read_text())
    return str(url)


@pytest.mark.parametrize("name", URLS)
def test_the_urls_driver_is_the_one_in_the_image(name: str) -> None:
    engine = sqlalchemy.create_engine(URLS[name]())  # imports the driver
    (pin,) = re.findall(r"^ARG PSYCOPG2_VERSION=(\S+)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert engine.driver == "psycopg2"
    assert pin == version("psycopg2-binary")


def postgres_programs() -> Path:
    """The folder of Debian's newest PostgreSQL, which is not on PATH, or of the one on PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if not debian and on_path is None:
        raise FileNotFoundError("no PostgreSQL; tests/cluster/install installs Debian's")
    return debian[-1].parent if debian else Path(str(on_path)).parent


@contextmanager
def postgres(password: str) -> Iterator[int]:
    """The port of a fresh PostgreSQL on loopback whose user `mlflow` needs the password."""
    programs = postgres_programs()
    user: list[str] = []
    # not tmp_path: it is closed to other users, and its name can be too long for a socket
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(folder, "postgres", "postgres")
            user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        port, data = free_port(), f"{folder}/data"
        file = Path(folder) / "password"
        file.write_text(password)
        file.chmod(0o644)
        made = [f"{programs}/initdb", "-D", data, "-U", "mlflow", "-A", "scram-sha-256"]
        subprocess.run(
            [*user, *made, f"--pwfile={file}"], check=True, capture_output=True, cwd=folder
        )
        options = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"]
        server = subprocess.Popen(
            [*user, f"{programs}/postgres", "-D", data, "-p", str(port), *options],
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
        try:
            wait_for(lambda: connect(port, password), server)
            yield port
        finally:
            server.send_signal(signal.SIGINT)  # SIGTERM would wait for clients to leave
            server.wait(30)


def connect(port: int, password: str) -> bool:
    login = f"host=127.0.0.1 port={port} user=mlflow password={password} dbname=postgres"
    try:
        connection = psycopg2.connect(login)
    except psycopg2.OperationalError:
        return False
    connection.autocommit = True
    connection.cursor().execute("CREATE DATABASE mlflow")
    connection.close()
    return True


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while not ready():
        assert process.poll() is None, f"ended with status {process.returncode}"
        assert time.monotonic() < deadline, f"not ready after 180 s: {process.args!r}"
        time.sleep(0.3)


def healthy(address: str) -> bool:
    try:
        return bool(urllib.request.urlopen(f"{address}/health", timeout=5).status == 200)
    except OSError:
        return False


def compose_environment(url: str, port: int) -> dict[str, str]:
    services = yaml.safe_load((ROOT / "cluster/compose.yaml").read_text())["services"]
    environment: dict[str, str] = services["mlflow"]["environment"]
    hosts = environment["MLFLOW_SERVER_ALLOWED_HOSTS"].replace(":5000", f":{port}")
    return {
        **clean_environment(),
        **environment,
        "MLFLOW_SERVER_ALLOWED_HOSTS": hosts,
        "MLFLOW_BACKEND_STORE_URI": url,
    }


@pytest.mark.soak
@pytest.mark.parametrize("name", URLS)
def test_the_server_keeps_runs_in_a_real_postgres(name: str, tmp_path: Path) -> None:
    services = yaml.safe_load((ROOT / "cluster/compose.yaml").read_text())["services"]
    options = services["mlflow"]["command"].split()
    assert options[:2] == ["mlflow", "server"]
    with postgres("PASSWORD") as database:
        url = sqlalchemy.make_url(URLS[name]()).set(
            host="127.0.0.1", port=database, username="mlflow"
        )
        port = free_port()
        places = ["--host=127.0.0.1", f"--port={port}", f"--artifacts-destination={tmp_path}"]
        server = subprocess.Popen(
            [Path(sys.executable).with_name("mlflow"), "server", "--workers=1", *places],
            env=compose_environment(url.render_as_string(hide_password=False), port),
            cwd=tmp_path,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(lambda: healthy(address), server)
            client = MlflowClient(address)
            run = client.create_run(client.create_experiment("lab")).info.run_id
            client.log_metric(run, "pass_at_8", 0.5)
            assert client.get_run(run).data.metrics == {"pass_at_8": 0.5}
        finally:
            server.terminate()
            server.wait(60)
        with sqlalchemy.create_engine(url).connect() as connection:
            stored = connection.execute(sqlalchemy.text("SELECT key, value FROM metrics")).all()
        assert [tuple(row) for row in stored] == [("pass_at_8", 0.5)]
