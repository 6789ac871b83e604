"""`forkdiv track`: what waits, and sending it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from forkdiv.cli import app
from forkdiv.tracking.address import Address
from tests.tracking.test_sender import assert_whole, local, study_events, what_is_there


def track(root: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["track", *arguments, f"place.root={root}"])
    return done.exit_code, " ".join(done.output.split())


def test_a_folder_without_records_is_refused_with_what_to_do(tmp_path: Path) -> None:
    status, output = track(tmp_path)
    assert status == 2 and "nothing recorded for MLflow" in output
    study_events(tmp_path / "mine" / "tracking" / "abc", trials=1)
    status, output = track(tmp_path, "yours")
    assert status == 2 and "yours" in output


def test_what_waits_is_counted_and_a_server_that_is_down_is_status_1(tmp_path: Path) -> None:
    study_events(tmp_path / "mine" / "tracking" / "abc", trials=1, steps=2)
    status, output = track(tmp_path)
    assert status == 0 and "mine (abc): 12 records wait (`forkdiv track --send`)" in output
    status, output = track(tmp_path, "--send", "place.mlflow_uri=http://me:secret@127.0.0.1:1")
    assert status == 1 and "does not take records" in output and "secret" not in output


@pytest.mark.stack
def test_what_waits_is_sent_to_where_the_settings_say(tmp_path: Path) -> None:
    study_events(tmp_path / "mine" / "tracking" / "abc", trials=1)
    status, output = track(tmp_path, "--send", "mine")
    assert status == 0 and "up to date" in output and "mlflow ui --port 5000" in output
    assert_whole(what_is_there(local(tmp_path), "abc"), trials=1)
    assert (tmp_path / "mine" / "mlflow.json").is_file()
    other = f"sqlite:///{tmp_path}/other.db"
    status, output = track(tmp_path, "--send", f"place.mlflow_uri={other}")
    assert status == 0
    assert_whole(what_is_there(Address(other, None), "abc"), trials=1)
    assert "up to date" in track(tmp_path, f"place.mlflow_uri={other}")[1]
