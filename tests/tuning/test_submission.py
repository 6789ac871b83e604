"""What is sent to a cluster, and what is refused before anything is."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.code_version import COMMIT, commit
from forkdiv.core.config.load import load
from forkdiv.core.config.written import Written
from forkdiv.core.errors import UserError
from tests.stack import ROOT
from tuning import submission
from tuning.gcs import Versions
from tuning.job_client import Jobs

TOKEN = "0123456789abcdef" * 4
SHARED = "place.root=/shared/runs"


class Recorded:
    """Stands in for Ray's client of the job API."""

    def __init__(self) -> None:
        self.jobs: list[dict[str, Any]] = []

    def submit_job(self, **job: Any) -> str:
        self.jobs.append(job)
        return "raysubmit_1"


def start(*overrides: str, config: Path | None = Path("quickstart")) -> dict[str, Any]:
    client = Recorded()
    study, written = load(config, overrides), Written(config, overrides)
    assert submission.start(Jobs("http://h:8265", client), "study", study, written)
    (job,) = client.jobs
    return job


def test_a_job_runs_the_same_command_and_leaves_the_cpus_to_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    job = start(SHARED, "task={degree: 3}")
    assert job["entrypoint"] == (
        f"python3 -m jobs.study --config quickstart {SHARED} 'task={{degree: 3}}'"
    )
    assert job["entrypoint_num_cpus"] < 0.89  # 1.11 of 2 CPUs are needed beside it
    environment = job["runtime_env"]
    assert environment == {"working_dir": str(ROOT), "env_vars": {COMMIT: commit()}}


def test_code_of_the_cluster_is_not_given_our_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert start(SHARED)["runtime_env"]["env_vars"] == {}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (("place.root=out",), "place.root is not a folder of the cluster"),
        ((SHARED, "place.ray_address=h:6379"), "place.ray_address cannot be set for a job"),
        ((SHARED, "place.mlflow_uri=http://me:hunter2@mlflow"), "contains a password"),
    ],
)
def test_settings_that_cannot_work_on_a_cluster_are_refused(
    settings: tuple[str, ...], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=reason) as caught:
        start(*settings)
    assert "hunter2" not in str(caught.value)


def test_a_config_outside_the_folder_that_is_sent_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for path in (tmp_path / "my.yaml", tmp_path / "here" / "my.yaml"):
        path.write_text("name: mine\n")
    for path in (Path("../my.yaml"), tmp_path / "my.yaml", tmp_path / "here" / "my.yaml"):
        with pytest.raises(UserError, match="not in the folder that is sent"):
            start(SHARED, config=path)
    assert "--config my.yaml" in start(SHARED, config=Path("my.yaml"))["entrypoint"]


@contextmanager
def dashboard(version: str, token: str | None = None) -> Iterator[str]:
    """The address of a dashboard of Ray `version`, which may require a token."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent = self.headers.get("Authorization", "")
            if token and sent != f"Bearer {token}":
                self._answer(403 if sent else 401, {})
            else:
                known = {"version": "4", "ray_version": version, "ray_commit": ""}
                self._answer(200, known)

        def _answer(self, status: int, body: Mapping[str, str]) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def _no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


def refusal(address: str | None) -> str:
    with pytest.raises(UserError) as caught:
        submission.connect(address, None)
    return str(caught.value)


def test_a_token_is_sent_whether_or_not_its_mode_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with dashboard(Versions.here().ray, TOKEN) as address:
        assert "got no token" in refusal(address)
        monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
        assert "got another token" in refusal(address)
        monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
        assert submission.connect(address, None).address == f"http://{address}"


def test_another_version_of_ray_is_refused_with_both() -> None:
    with dashboard("2.49.0") as address:
        assert f"got Ray 2.49.0 there, Ray {Versions.here().ray} here" in refusal(address)


def test_what_is_no_dashboard_is_refused() -> None:
    with dashboard("2.49.0") as address:
        pass
    assert "nobody answers at --address" in refusal(address)
    for wrong in ("ftp://h:1", "http://", "h:x", "ray://h:10001"):
        assert "is not the address of a dashboard" in refusal(wrong)
    assert "the cluster is not named" in refusal(None)
