"""Sending to a real MLflow: a database, and a server that is killed while it is written to."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.errors import UserError
from forkdiv.tracking.address import Address
from forkdiv.tracking.events import (
    RUN,
    Dataset,
    Event,
    File,
    Metrics,
    Model,
    RunEnd,
    RunStart,
    Tags,
    Value,
)
from forkdiv.tracking.outbox import Outbox
from forkdiv.tracking.sender import STUDY, Sender
from forkdiv.tracking.sending import Sending
from forkdiv.tracking.server import KEY_TAG, PARENT_TAG, Server, Unreachable
from tests.jobs.conftest import free_port
from tests.tracking.servers import TrackingServer

pytestmark = pytest.mark.stack

STARTED = 1_700_000_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    running = TrackingServer(tmp_path_factory.mktemp("server"), free_port())
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Address:
    """A database that most tests share; creating one takes seconds."""
    return local(tmp_path_factory.mktemp("store"))


def client(address: Address) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(address.uri)


def local(root: Path) -> Address:
    return Address.of(load(None, [f"place.root={root}"]).place)


def study_events(folder: Path, trials: int = 2, steps: int = 30) -> None:
    """A study with trials, each with a curve, a model, a dataset and a file."""
    study = folder.name
    (folder / "report.html").parent.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text("<p>report</p>")
    start = RunStart(
        key=study,
        experiment=f"forkdiv/{study}",
        name="a study",
        started_ms=STARTED,
        params={"sft.epochs": "4"},
        tags={"mlflow.note.content": f"#/runs/{RUN}/artifacts"},
    )
    Outbox(folder / STUDY).add(start, Tags(experiment={"view": f"of {RUN}"}))
    for i in range(trials):
        outbox = Outbox(folder / f"trial-{i}.jsonl")
        outbox.add(
            RunStart(
                key=f"{study}/trial {i}",
                parent=study,
                experiment=start.experiment,
                name=f"trial {i}",
                started_ms=STARTED + i,
                params={"fork_density": str(i / 2)},
                tags={"mlflow.user": "somebody"},
            )
        )
        for step in range(1, steps + 1):
            outbox.add(
                Metrics(values=(Value("train/loss", 1 / step, STARTED + 1000 * step, step),))
            )
        outbox.add(*trial_results(i))
    Outbox(folder / STUDY).add(
        Metrics(values=(Value("largest_loss_at_max_k", -0.25, STARTED, 0),)),
        File(path="report.html"),
        RunEnd(status="FINISHED", ended_ms=STARTED + 90_000),
    )


def trial_results(i: int) -> list[Event]:
    curve = tuple(Value("pass_at_k", 1 - 1 / (k + 1), STARTED + 50_000, k) for k in (1, 2, 4, 8))
    return [
        Dataset(name="d training", digest="d" * 32, source="d", context="training",
                profile={"forks": 12}),
        Model(key=f"checkpoint-{i // 2}", name="density=0.5 epoch 4", step=30,
              params={"fork_density": "0.5"}, values=(Value("pass_at_1", 0.5, STARTED + i),)),
        Metrics(values=(Value("pass_at_1", 0.5, STARTED + 50_000), *curve)),
        RunEnd(status="FINISHED", ended_ms=STARTED + 60_000),
    ]  # fmt: skip


def what_is_there(address: Address, study: str) -> dict[str, Any]:
    """All runs of the study by name, with the values of their curve, and what is doubled."""
    mlflow = client(address)
    experiment = mlflow.get_experiment_by_name(f"forkdiv/{study}")
    runs = mlflow.search_runs([experiment.experiment_id], max_results=1000)
    keys = Counter(run.data.tags[KEY_TAG] for run in runs)
    models = mlflow.search_logged_models([experiment.experiment_id])
    curves = {
        run.info.run_name: [
            (row.step, row.value, row.timestamp)
            for row in mlflow.get_metric_history(run.info.run_id, "train/loss")
        ]
        for run in runs
    }
    return {
        "doubled": [key for key, count in keys.items() if count > 1],
        "runs": {run.info.run_name: run for run in runs},
        "curves": curves,
        "models": models,
        "experiment": experiment,
    }


def assert_whole(found: dict[str, Any], trials: int = 2, steps: int = 30) -> None:
    assert found["doubled"] == []
    assert sorted(found["runs"]) == ["a study", *(f"trial {i}" for i in range(trials))]
    assert {run.info.status for run in found["runs"].values()} == {"FINISHED"}
    want = [(step, 1 / step, STARTED + 1000 * step) for step in range(1, steps + 1)]
    for i in range(trials):
        assert found["curves"][f"trial {i}"] == want
        run = found["runs"][f"trial {i}"]
        assert run.info.start_time == STARTED + i
        assert run.info.end_time == STARTED + 60_000
        assert run.data.params == {"fork_density": str(i / 2)}
        assert run.data.tags[PARENT_TAG] == found["runs"]["a study"].info.run_id
        assert [entry.dataset.digest for entry in run.inputs.dataset_inputs] == ["d" * 32]
        assert run.data.metrics["pass_at_1"] == 0.5
    assert len(found["models"]) == (trials + 1) // 2


def test_a_study_is_sent_whole_with_its_true_times(tmp_path: Path, store: Address) -> None:
    folder, address = tmp_path / "events" / "whole", store
    study_events(folder)
    sender = Sender(folder, Server(address))
    assert sender.send() == 2 + 2 * (1 + 30 + 4) + 3
    assert (sender.waiting(), sender.refused) == (0, [])
    found = what_is_there(address, "whole")
    assert_whole(found)
    of_study = found["runs"]["a study"]
    assert of_study.data.metrics == {"largest_loss_at_max_k": -0.25}
    assert of_study.data.params == {"sft.epochs": "4"}
    assert of_study.data.tags["mlflow.note.content"] == f"#/runs/{of_study.info.run_id}/artifacts"
    assert found["experiment"].tags["view"] == f"of {of_study.info.run_id}"
    assert sender.study_run() == (of_study.info.experiment_id, of_study.info.run_id)
    # one trial trained the checkpoint, the other sampled it
    (model,) = found["models"]
    assert (model.name, str(model.status)) == ("density=0_5 epoch 4", "READY")
    assert model.source_run_id == found["runs"]["trial 0"].info.run_id
    outputs = found["runs"]["trial 0"].outputs.model_outputs
    assert [output.model_id for output in outputs] == [model.model_id]
    # a search leaves the models out that a run reads
    inputs = client(address).get_run(found["runs"]["trial 1"].info.run_id).inputs.model_inputs
    assert [entry.model_id for entry in inputs] == [model.model_id]
    assert {metric.value for metric in model.metrics} == {0.5}


def test_sending_again_without_marks_changes_nothing(tmp_path: Path, store: Address) -> None:
    folder, address = tmp_path / "events" / "again", store
    study_events(folder)
    Sender(folder, Server(address)).send()
    for marks in folder.glob("sent-*"):
        marks.unlink()
    sender = Sender(folder, Server(address))
    assert sender.send() > 0 and sender.refused == []
    assert_whole(what_is_there(address, "again"))


def test_what_is_sent_is_not_sent_again(tmp_path: Path, store: Address) -> None:
    folder, address = tmp_path / "events" / "once", store
    study_events(folder, trials=1)
    assert Sender(folder, Server(address)).send() > 0
    assert Sender(folder, Server(address)).send() == 0
    Outbox(folder / "trial-0.jsonl").add(Tags(tags={"late": "yes"}))
    assert Sender(folder, Server(address)).send() == 1


def test_a_new_store_at_the_old_address_gets_everything(tmp_path: Path) -> None:
    server = TrackingServer(tmp_path, free_port())
    server.start()
    folder, address = tmp_path / "events" / "new", Address(server.uri, None)
    study_events(folder)
    try:
        Sender(folder, Server(address)).send()
        server.kill()
        (tmp_path / "server.db").unlink()
        server.start()
        assert Sender(folder, Server(address)).send() == 0  # nothing new, and nobody asked
        assert Sender(folder, Server(address)).send(verify=True) > 0
        assert_whole(what_is_there(address, "new"))
    finally:
        server.kill()


def test_a_store_that_moves_to_another_address_gets_nothing_twice(
    tmp_path: Path, server: TrackingServer
) -> None:
    folder, first = tmp_path / "events" / "moved", Address(server.uri, None)
    study_events(folder)
    Sender(folder, Server(first)).send()
    other = TrackingServer(server.folder, free_port())  # the same database under another address
    other.start()
    try:
        second = Address(other.uri, None)
        assert Sender(folder, Server(second)).send() > 0
        assert_whole(what_is_there(second, "moved"))
    finally:
        other.kill()


@pytest.mark.soak
def test_a_server_that_is_killed_again_and_again_gets_everything_once(tmp_path: Path) -> None:
    server = TrackingServer(tmp_path, free_port())
    server.start()
    folder, address = tmp_path / "events" / "killed", Address(server.uri, None)
    notes: list[str] = []
    trials, steps = 4, 25
    try:
        with Sending(folder, address, "killed", notes.append):
            study_events(folder, trials, steps)  # takes no longer because the server is slow
            for _ in range(3):
                deadline = time.monotonic() + 300
                sent = sum(len(file.read_text()) for file in folder.glob("sent-*"))
                while sum(len(f.read_text()) for f in folder.glob("sent-*")) < sent + 800:
                    assert time.monotonic() < deadline, notes
                    time.sleep(0.01)
                server.kill()
                time.sleep(2.5)
                server.start()
        Sender(folder, Server(address)).send(verify=True)
        assert_whole(what_is_there(address, "killed"), trials, steps)
        assert any("does not take records" in note for note in notes)
        assert any("takes records again" in note for note in notes)
        assert len(notes) <= 7  # one line as it goes, one as it comes back
    finally:
        server.kill()


def test_a_server_that_is_down_delays_nothing_and_is_told_once(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "down"
    notes: list[str] = []
    begun = time.monotonic()
    with Sending(folder, Address("http://me:secret@127.0.0.1:1", None), "mine", notes.append):
        study_events(folder, trials=1)
        wrote = time.monotonic() - begun
        time.sleep(3)
    assert wrote < 5 and time.monotonic() - begun < 12
    (note,) = notes
    assert "`forkdiv track --send mine` sends it" in note and "secret" not in note


def test_a_killed_sender_leaves_nothing_doubled(tmp_path: Path, store: Address) -> None:
    """A sender that dies between an answer and its mark: the mark of the last event is lost."""
    folder, address = tmp_path / "events" / "marks", store
    study_events(folder)
    Sender(folder, Server(address)).send()
    (marks,) = folder.glob("sent-*")
    lines = [line for line in marks.read_text().splitlines() if line]
    for keep in (1, 2, len(lines) // 2, len(lines) - 1):
        marks.write_text("\n".join(lines[:keep]) + '\n{"file": "trial-1.js')
        sender = Sender(folder, Server(address))
        assert sender.send() > 0 and sender.refused == []
        assert_whole(what_is_there(address, "marks"))


def test_two_senders_at_once_send_nothing_twice(tmp_path: Path, store: Address) -> None:
    folder, address = tmp_path / "events" / "two", store
    study_events(folder)
    senders = [Sender(folder, Server(address)) for _ in range(2)]
    threads = [threading.Thread(target=sender.send) for sender in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sender.send() for sender in senders) == 0
    assert_whole(what_is_there(address, "two"))


def test_what_mlflow_refuses_is_told_and_the_rest_is_sent(tmp_path: Path, store: Address) -> None:
    folder, address = tmp_path / "events" / "refused", store
    study_events(folder)
    changed = RunStart(
        key="refused/trial 0", parent="refused", experiment="forkdiv/refused", name="trial 0",
        started_ms=STARTED, params={"fork_density": "another"},
    )  # fmt: skip
    Outbox(folder / "trial-0.jsonl").add(changed, RunEnd(status="FINISHED", ended_ms=1))
    Outbox(folder / STUDY).add(File(path="never-written.png"))
    sender = Sender(folder, Server(address))
    sender.send()
    assert len(sender.refused) == 2 and sender.waiting() == 0
    assert "never-written.png was removed" in " ".join(sender.refused)
    assert what_is_there(address, "refused")["doubled"] == []


def test_a_run_that_a_user_deleted_is_not_made_again(tmp_path: Path, store: Address) -> None:
    folder, address = tmp_path / "events" / "deleted", store
    study_events(folder)
    Sender(folder, Server(address)).send()
    found = what_is_there(address, "deleted")
    client(address).delete_run(found["runs"]["trial 1"].info.run_id)
    Outbox(folder / "trial-1.jsonl").add(Tags(tags={"late": "yes"}))
    sender = Sender(folder, Server(address))
    sender.send(verify=True)
    assert sorted(what_is_there(address, "deleted")["runs"]) == ["a study", "trial 0"]


def test_names_and_values_that_mlflow_does_not_take_are_changed(
    tmp_path: Path, store: Address
) -> None:
    folder, address = tmp_path / "events" / "odd", store
    study_events(folder, trials=0)
    names = ["a@b//c", "", "..", "/x", "algèbre", "x" * 400, "m@1", "m$1"]
    many = {f"k{i}": str(i) for i in range(250)}
    start = RunStart(
        key="odd/1", parent="odd", experiment="forkdiv/odd", name="odd one", started_ms=STARTED,
        params=many | dict.fromkeys(names, "v" * 20_000), tags={"t@g": "v" * 20_000},
    )  # fmt: skip
    values = {"subset@1/pass_at_1": 0.5, "nan": float("nan"), "inf": float("inf"), "m@1": 1.0}
    Outbox(folder / "trial-odd.jsonl").add(
        start, Metrics(values=tuple(Value(name, value, STARTED) for name, value in values.items()))
    )
    sender = Sender(folder, Server(address))
    sender.send()
    assert sender.refused == []
    run = what_is_there(address, "odd")["runs"]["odd one"]
    assert len(run.data.params) == 250 + len(names)
    assert len(run.data.metrics) == 4 and 0.5 in run.data.metrics.values()


def test_runs_that_are_moved_keep_their_files(tmp_path: Path) -> None:
    """The output folder is moved; the server that shows it is started there without options."""
    from mlflow import MlflowClient

    root = tmp_path / "runs"
    folder = root / "s" / "tracking" / "files"
    study_events(folder, trials=1)
    Sender(folder, Server(local(root))).send()
    moved = tmp_path / "elsewhere"
    shutil.move(root, moved)
    port = free_port()
    shown = TrackingServer(moved, port, f"sqlite:///{moved / 'mlflow.db'}")
    shown._options = ("--artifacts-destination", "./mlartifacts")  # its default
    shown.start()
    try:
        mlflow = MlflowClient(shown.uri)
        run = mlflow.search_runs(
            [mlflow.get_experiment_by_name("forkdiv/files").experiment_id],
            f"tags.`{KEY_TAG}` = 'files'",
        )[0].info.run_id
        assert [file.path for file in mlflow.list_artifacts(run)] == ["report.html"]
        got = mlflow.download_artifacts(run, "report.html", str(tmp_path))
        assert Path(got).read_text() == "<p>report</p>"
    finally:
        shown.kill()


def test_files_reach_a_server(tmp_path: Path, server: TrackingServer) -> None:
    folder, address = tmp_path / "events" / "remote", Address(server.uri, None)
    study_events(folder, trials=0)
    Sender(folder, Server(address)).send()
    run = what_is_there(address, "remote")["runs"]["a study"].info.run_id
    assert [file.path for file in client(address).list_artifacts(run)] == ["report.html"]


def test_a_deleted_experiment_says_how_to_restore_it(tmp_path: Path, store: Address) -> None:
    folder, address = tmp_path / "events" / "gone", store
    study_events(folder, trials=0)
    Sender(folder, Server(address)).send()
    client(address).delete_experiment(what_is_there(address, "gone")["experiment"].experiment_id)
    (folder / next(folder.glob("sent-*")).name).unlink()
    with pytest.raises(Unreachable, match=r"was deleted; restore it .`mlflow experiments restore"):
        Sender(folder, Server(address)).send()


def test_a_file_that_is_no_database_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database" * 1000)
    with pytest.raises(Unreachable, match=r"mlflow\.db cannot be opened .*move it away"):
        Server(local(tmp_path)).check()


def test_an_address_that_mlflow_cannot_use_is_refused() -> None:
    with pytest.raises(UserError, match="gopher"):
        Address.of(load(None, ["place.mlflow_uri=gopher://me:secret@here"]).place)


def test_the_address_is_the_environments_unless_the_settings_have_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    place = load(None, ["place.root=runs"]).place
    assert Address.of(place).uri == f"sqlite:///{tmp_path}/runs/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://env:5000")
    assert Address.of(place) == Address("http://env:5000", None)
    own = load(None, ["place.mlflow_uri=postgresql://me:secret@db/mlflow"]).place
    assert Address.of(own).shown == "postgresql://db/mlflow"
    assert Address.of(own).artifacts == own.root / "mlartifacts"
