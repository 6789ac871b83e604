"""MLflow, in a real sqlite store: one run per study and per trial, written once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.errors import UserError
from forkdiv.tracking import EXPERIMENT, PARENT_TAG, Tracker, TrackingFailed

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parents[1]
PARAMS: dict[str, float] = {"temperature": 0.7, "seed": 0, "fork_density": 0.5}
METRICS = {"pass_at_1": 0.5, "pass_at_64": 0.875, "delta_pass_at_64": -0.125}
HISTORY = [{"step": step, "train_loss": 1 / step} for step in (5, 10, 15)]

# Two of these start at the file `go`, on a store where nothing is yet.
ASKER = """
import sys, time
from pathlib import Path
from forkdiv.tracking import Tracker
import mlflow, sqlalchemy

root = Path(sys.argv[1])
print("ready", flush=True)
while not (root / "go").exists():
    time.sleep(0.001)
tracker = Tracker(f"sqlite:///{root / 'mlflow.db'}", root / "mlartifacts")
print(tracker.study("f" * 32, "race", {"a": 1}), tracker.experiment_id())
"""


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    """A store of its own; creating one takes seconds."""
    root = tmp_path_factory.mktemp("track")
    return Tracker.of(load(None, [f"place.root={root}"]).place)


def client(tracker: Tracker) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracker.uri)


def write(tracker: Tracker, parent: str, fingerprint: str, **more: Any) -> str:
    from matplotlib.figure import Figure

    figure = Figure()
    figure.add_subplot().plot([0, 1])
    values: dict[str, Any] = {
        "parent": parent,
        "fingerprint": fingerprint,
        "name": "density=0.5 T=0.7",
        "params": PARAMS,
        "tags": {"decoder.top_p": "0.95"},
        "started": 1_700_000_000.25,
        "metrics": METRICS,
        "valid": True,
        "history": HISTORY,
        "figures": {"pass_at_k.png": figure},
    }
    return tracker.trial(**values | more)


def children(tracker: Tracker, parent: str) -> list[str]:
    runs = client(tracker).search_runs(
        [tracker.experiment_id()], f"tags.`{PARENT_TAG}` = '{parent}'"
    )
    return [run.info.run_id for run in runs]


def test_a_study_has_one_run_however_often_it_is_asked_for(tracker: Tracker) -> None:
    first = tracker.study("a" * 32, "first", {"sft.epochs": 4})
    assert tracker.study("a" * 32, "renamed", {"sft.epochs": 4}) == first
    assert tracker.study("b" * 32, "first", {"sft.epochs": 5}) != first
    run = client(tracker).get_run(first)
    assert run.data.params == {"sft.epochs": "4"}
    assert run.info.run_name == "first"


def test_a_trial_is_a_child_with_its_numbers_its_curve_and_its_figure(tracker: Tracker) -> None:
    parent = tracker.study("c" * 32, "study", {})
    run_id = write(tracker, parent, "t1")
    run = client(tracker).get_run(run_id)
    assert children(tracker, parent) == [run_id]
    assert run.data.tags[PARENT_TAG] == parent
    assert (run.info.run_name, run.info.status) == ("density=0.5 T=0.7", "FINISHED")
    assert run.data.tags["decoder.top_p"] == "0.95"
    assert run.info.start_time == 1_700_000_000_250 < run.info.end_time
    assert {name: float(text) for name, text in run.data.params.items()} == PARAMS
    assert run.data.metrics == METRICS | {"train_loss": 1 / 15}
    assert not any("@" in name for name in run.data.metrics)
    curve = client(tracker).get_metric_history(run_id, "train_loss")
    assert [(row.step, row.value) for row in curve] == [(5, 1 / 5), (10, 1 / 10), (15, 1 / 15)]
    assert [file.path for file in client(tracker).list_artifacts(run_id)] == ["pass_at_k.png"]


def test_a_trial_that_is_repeated_is_written_once(tracker: Tracker) -> None:
    parent = tracker.study("d" * 32, "study", {})
    first = write(tracker, parent, "t1")
    assert write(tracker, parent, "t1", metrics={"pass_at_1": 0.9}) == first
    assert children(tracker, parent) == [first]
    assert client(tracker).get_run(first).data.metrics["pass_at_1"] == 0.5
    assert len(client(tracker).get_metric_history(first, "train_loss")) == 3


def test_a_trial_that_was_cut_off_goes_on_in_its_own_run(tracker: Tracker) -> None:
    parent = tracker.study("e" * 32, "study", {})
    with pytest.raises(TypeError):
        write(tracker, parent, "t1", figures={"pass_at_k.png": "no figure"})
    (half,) = children(tracker, parent)
    assert client(tracker).get_run(half).info.status == "RUNNING"
    assert write(tracker, parent, "t1") == half
    assert client(tracker).get_run(half).info.status == "FINISHED"


def test_two_studies_that_share_a_trial_both_show_it(tracker: Tracker) -> None:
    parents = [tracker.study(name * 32, "study", {}) for name in "12"]
    assert len({write(tracker, parent, "shared") for parent in parents}) == 2
    assert [len(children(tracker, parent)) for parent in parents] == [1, 1]


def test_a_long_training_is_written_whole(tracker: Tracker) -> None:
    parent = tracker.study("3" * 32, "study", {})
    history = [{"step": step, "train_loss": 1.0} for step in range(1, 2001)]
    run_id = write(tracker, parent, "long", history=history)
    assert len(client(tracker).get_metric_history(run_id, "train_loss")) == 2000


def test_a_training_without_gradient_norms_is_written(tracker: Tracker) -> None:
    parent = tracker.study("4" * 32, "study", {})
    write(tracker, parent, "t1", history=[{"step": 5, "train_loss": 1.0, "grad_norm": None}])


def test_a_finished_study_keeps_its_first_numbers_and_its_files(
    tracker: Tracker, tmp_path: Path
) -> None:
    parent = tracker.study("5" * 32, "study", {})
    files = [tmp_path / "report.html", tmp_path / "pass_at_k.png"]
    for file in files:
        file.write_text("content")
    tracker.finish(parent, {"largest_loss_at_max_k": -0.25}, files, valid=True)
    tracker.finish(parent, {"largest_loss_at_max_k": -0.5}, files, valid=True)
    run = client(tracker).get_run(parent)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"largest_loss_at_max_k": -0.25}
    top = [file.path for file in client(tracker).list_artifacts(parent)]
    assert sorted(top) == ["figures", "report.html"]
    inner = client(tracker).list_artifacts(parent, "figures")
    assert [file.path for file in inner] == ["figures/pass_at_k.png"]


def test_what_was_invalid_is_written_again_until_it_is_valid(
    tracker: Tracker, tmp_path: Path
) -> None:
    parent = tracker.study("6" * 32, "study", {})
    first = write(tracker, parent, "t", metrics={"valid": 0.0}, valid=False)
    tracker.finish(parent, {"largest_loss_at_max_k": -0.9}, [], valid=False)
    assert client(tracker).get_run(first).info.status == "FAILED"
    assert write(tracker, parent, "t", metrics={"valid": 1.0, "pass_at_1": 0.5}) == first
    tracker.finish(parent, {"largest_loss_at_max_k": -0.1}, [], valid=True)
    run = client(tracker).get_run(first)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["valid"] == 1.0
    assert run.data.metrics["pass_at_1"] == 0.5
    whole = client(tracker).get_run(parent)
    assert (whole.info.status, whole.data.metrics["largest_loss_at_max_k"]) == ("FINISHED", -0.1)


def test_artifacts_lie_under_the_output_folder_whatever_the_working_directory(
    tracker: Tracker,
) -> None:
    experiment = client(tracker).get_experiment_by_name(EXPERIMENT)
    assert tracker.artifacts is not None and tracker.artifacts.is_absolute()
    assert experiment.artifact_location == tracker.artifacts.as_uri()


def test_a_relative_output_folder_gives_an_absolute_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tracker = Tracker.of(load(None, ["place.root=runs"]).place)
    assert tracker.uri == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert tracker.artifacts == tmp_path / "runs/mlartifacts"


def test_a_server_keeps_its_own_artifacts() -> None:
    tracker = Tracker.of(load(None, ["place.mlflow_uri=http://127.0.0.1:5000"]).place)
    assert tracker == Tracker("http://127.0.0.1:5000", None)


def test_two_processes_that_start_one_study_at_once_share_its_run(tmp_path: Path) -> None:
    askers = [
        subprocess.Popen(
            [sys.executable, "-c", ASKER, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for asker in askers:
        assert asker.stdout is not None and asker.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    answers = [asker.communicate(timeout=90) for asker in askers]
    assert [asker.returncode for asker in askers] == [0, 0], answers
    assert answers[0][0] == answers[1][0]


def test_what_mlflow_cannot_name_or_hold_is_written_under_a_name_it_takes(
    tracker: Tracker,
) -> None:
    names = ["a@b//c", "", "..", "/x", "algèbre", "x" * 400, "m@1", "m$1"]
    parent = tracker.study("w" * 32, "weird", dict.fromkeys(names, "v" * 20000))
    assert len(client(tracker).get_run(parent).data.params) == len(names)
    many = {f"k{i}": i for i in range(250)}
    assert len(client(tracker).get_run(tracker.study("m" * 32, "many", many)).data.params) == 250
    run = write(
        tracker,
        parent,
        "weird",
        metrics={"subset@1 pass_at_1": 0.5, "nan": float("nan"), "inf": float("inf")},
        tags={"t@g": "v" * 20_000},
    )
    written = client(tracker).get_run(run)
    assert written.info.status == "FINISHED" and 0.5 in written.data.metrics.values()


def test_a_store_that_cannot_be_used_is_refused_within_seconds(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts and never answers
        uris = {
            f"http://me:secret@127.0.0.1:{silent.getsockname()[1]}": "timed out",
            "http://127.0.0.1:1": "Connection refused",
            "postgresql://me:secret@127.0.0.1:1/mlflow": "Connection refused",
            "gopher://here": "gopher",
        }
        for uri, reason in uris.items():
            begun = time.monotonic()
            with pytest.raises(UserError) as caught:
                Tracker(uri, None).check()
            assert reason in str(caught.value) and "secret" not in str(caught.value)
            assert "place.mlflow_uri" in str(caught.value) and time.monotonic() - begun < 10
    (tmp_path / "mlflow.db").write_text("not a database" * 1000)
    with pytest.raises(UserError, match=r"mlflow\.db .file is not a database"):
        Tracker.of(load(None, [f"place.root={tmp_path}"]).place).check()


def test_a_deleted_experiment_is_refused_and_costs_no_result(tmp_path: Path) -> None:
    deleted = Tracker.of(load(None, [f"place.root={tmp_path}"]).place)
    parent = deleted.study("d" * 32, "deleted", {})
    deleted.check()
    client(deleted).delete_experiment(deleted.experiment_id())
    with pytest.raises(UserError, match=r"was deleted: .*`mlflow experiments restore"):
        deleted.check()
    with pytest.raises(TrackingFailed, match="MLflow did not take it"):
        write(deleted, parent, "lost")
