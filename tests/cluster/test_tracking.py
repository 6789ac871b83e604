"""MLflow on a real PostgreSQL, with its login on: both are killed while a study is recorded."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from forkdiv.tracking.address import Address
from forkdiv.tracking.sender import Sender
from forkdiv.tracking.sending import Sending
from forkdiv.tracking.server import KEY_TAG, PARENT_TAG, Server, Unreachable
from tests.jobs.conftest import free_port
from tests.stack import clean_environment, command, read_progress, said
from tests.tracking.postgres import Postgres
from tests.tracking.servers import TrackingServer
from tests.tracking.test_sender import assert_whole, client, study_events, what_is_there
from tests.tuning.conftest import GRID

pytestmark = pytest.mark.soak


@dataclass(frozen=True)
class Lab:
    """A tracking server with a login and its database."""

    database: Postgres
    server: TrackingServer
    password: str

    @property
    def login(self) -> dict[str, str]:
        return {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": self.password}

    def kill(self) -> None:
        self.database.kill()
        self.server.kill()

    def start(self) -> None:
        self.database.start()
        self.server.start()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder, password = tmp_path_factory.mktemp("lab"), secrets.token_hex(12)
    database = Postgres(secrets.token_hex(12))
    settings = folder / "auth.ini"
    settings.write_text(
        "[mlflow]\ndefault_permission = READ\n"
        f"database_uri = sqlite:///{folder / 'users.db'}\nadmin_username = admin\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(12),
    }
    options = ("--app-name", "basic-auth")
    server = TrackingServer(folder, free_port(), database.uri, options, environment)
    server.start()
    yield Lab(database, server, password)
    server.kill()
    database.remove()


def test_without_its_login_a_server_says_what_to_set(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "not-the-password")
    folder = tmp_path / "events" / "login"
    study_events(folder, trials=0)
    with pytest.raises(Unreachable, match="set MLFLOW_TRACKING_USERNAME") as caught:
        Sender(folder, Server(Address(lab.server.uri, None))).send()
    assert "not-the-password" not in str(caught.value)


def test_a_database_that_is_killed_gets_everything_once(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in lab.login.items():
        monkeypatch.setenv(name, value)
    folder, address = tmp_path / "events" / "killed", Address(lab.server.uri, None)
    notes: list[str] = []
    with Sending(folder, address, "killed", notes.append):
        study_events(folder, trials=4, steps=20)
        for both in (False, True):
            wait_for_marks(folder)
            lab.kill() if both else lab.database.kill()
            time.sleep(3)
            lab.start() if both else lab.database.start()
    Sender(folder, Server(address)).send(verify=True)
    assert_whole(what_is_there(address, "killed"), trials=4, steps=20)
    assert any("does not take records" in note for note in notes)


def wait_for_marks(folder: Path) -> None:
    def size() -> int:
        return sum(file.stat().st_size for file in folder.glob("sent-*"))

    before, deadline = size(), time.monotonic() + 120
    while size() < before + 1500:
        assert time.monotonic() < deadline, "nothing is sent"
        time.sleep(0.01)


@pytest.mark.stack
def test_a_sweep_whose_tracking_is_killed_is_recorded_whole(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runs"
    environment = {**clean_environment(), **lab.login}
    address = f"place.mlflow_uri={lab.server.uri}"
    with (tmp_path / "output").open("wb") as output:
        study = subprocess.Popen(
            command("study", root, *GRID, address),
            env=environment, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        wait_for_progress(study, root, "fine-tuning: step", 1)
        lab.kill()
        wait_for_progress(study, root, "finished: pass@1", 4)
        lab.start()
        assert study.wait(600) == 0, (tmp_path / "output").read_text()
    sent = subprocess.run(
        [sys.executable, "-m", "jobs.track", "--send", f"place.root={root}", address],
        env=environment, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert "up to date" in sent.stdout
    for name, value in lab.login.items():
        monkeypatch.setenv(name, value)
    mlflow = client(Address(lab.server.uri, None))
    experiment = mlflow.get_experiment_by_name("forkdiv/micro").experiment_id
    runs = mlflow.search_runs([experiment])
    assert len({run.data.tags[KEY_TAG] for run in runs}) == len(runs) == 7
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        steps = [r.step for r in mlflow.get_metric_history(run.info.run_id, "train/loss")]
        assert len(steps) == len(set(steps))
        assert bool(steps) == (run.data.tags.get("forkdiv.model") == "tuned")
        assert (PARENT_TAG in run.data.tags) == ("forkdiv.model" in run.data.tags)
    for file in [tmp_path / "output", *root.rglob("*")]:
        if file.is_file():
            assert lab.password.encode() not in file.read_bytes(), file


def wait_for_progress(study: subprocess.Popen[bytes], root: Path, text: str, count: int) -> None:
    deadline = time.monotonic() + 400
    while said(read_progress(root / "micro" / "progress.jsonl"), text) < count:
        assert study.poll() is None and time.monotonic() < deadline, f"not seen: {text}"
        time.sleep(0.1)
