"""Fine-tuning on real Ray Train workers with DeepSpeed in each."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray
import torch
from ray.train.v2.api.exceptions import TrainingFailedError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from forkdiv.core.config.study import DatasetConfig, PlaceConfig, PretrainConfig, SftConfig
from forkdiv.core.errors import InvalidResult
from forkdiv.core.progress import Progress
from forkdiv.core.store import Artifact, Store
from forkdiv.core.store_record import RECORD
from forkdiv.data import dataset
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.models.loading import load_model
from forkdiv.tasks.graph_branching import GraphBranchingConfig
from forkdiv.tasks.registry import build
from forkdiv.train import log, schedule, sft_run
from forkdiv.train.eval_during import Evaluate
from forkdiv.train.pretrain import END, obtain_base, obtain_start, planned_base
from tests.stack import BASE, clean_environment

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("shared_ray")]

TASK = GraphBranchingConfig()
EPOCHS = 12  # seconds of training: Ray Train learns of a reported checkpoint every two
SFT = SftConfig(epochs=EPOCHS, save_epochs=(1,), save_steps=(7,), batch_size=16)
PLACE = PlaceConfig(dashboard=False, num_cpus=2, resume_every=3)


def tuned(
    root: Path,
    sft: SftConfig = SFT,
    place: PlaceConfig = PLACE,
    evaluate: Evaluate | None = None,
) -> Artifact:
    store = Store(root)
    data = dataset.obtain_sft(store, build(TASK), DatasetConfig(examples=72, fork_density=0.5))
    progress = Progress(root / "progress.jsonl")
    base = open_checkpoint(BASE)
    return sft_run.obtain(store, data, base, sft, place, progress, evaluate=evaluate)


@pytest.fixture(scope="module")
def seen() -> list[tuple[float, str, bool]]:
    """What was seen of the checkpoints while the undisturbed run trained."""
    return []


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, seen: list[tuple[float, str, bool]]
) -> Artifact:
    root = tmp_path_factory.mktemp("undisturbed")

    def evaluate(epoch: float, checkpoint: Checkpoint) -> None:
        assert load_file(checkpoint.path / "model.safetensors")
        over = any((root / "train").glob(f"*/{RECORD}"))
        seen.append((epoch, checkpoint.fingerprint, over))

    return tuned(root, evaluate=evaluate)


def weights(run: Artifact, epoch: float) -> dict[str, torch.Tensor]:
    folder = sft_run.checkpoints(run)[epoch].path
    return dict(load_file(folder / "model.safetensors"))


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_a_local_ray_rejects_connections_without_the_token() -> None:
    """Ray listens on every interface, and its ports run code for whoever they let in."""
    address = ray.get_runtime_context().gcs_address
    ask = f"import ray; ray.init({address!r}); print('let in')"
    environment = clean_environment() | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 64}
    done = subprocess.run(
        [sys.executable, "-c", ask], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    assert "let in" not in done.stdout
    assert "nauthenticated" in done.stderr or "InvalidAuthToken" in done.stderr


def test_the_chosen_epochs_and_steps_and_the_last_are_saved(undisturbed: Artifact) -> None:
    assert list(sft_run.checkpoints(undisturbed)) == [1, 1.4, EPOCHS]


def test_checkpoints_are_evaluated_while_training_continues(
    undisturbed: Artifact, seen: list[tuple[float, str, bool]]
) -> None:
    made = sft_run.checkpoints(undisturbed)
    early = [epoch for epoch in made if epoch != EPOCHS]
    assert seen == [(epoch, made[epoch].fingerprint, False) for epoch in early]


def test_a_checkpoint_is_an_ordinary_hugging_face_folder(undisturbed: Artifact) -> None:
    folder = sft_run.last(undisturbed).path
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("edges: a>b start: a goal: b path:", return_tensors="pt")
    assert tokenizer.unk_token_id not in ids["input_ids"]
    assert model(**ids).logits.shape[-1] == len(tokenizer)
    assert not list(folder.glob("*.bin"))


def test_fine_tuning_moves_the_weights_and_lowers_the_loss(undisturbed: Artifact) -> None:
    assert largest_difference(weights(undisturbed, 1), weights(undisturbed, EPOCHS)) > 1e-4
    base = dict(load_model(BASE).state_dict())
    tuned_weights = weights(undisturbed, EPOCHS)
    assert max(float((base[n] - tuned_weights[n]).abs().max()) for n in tuned_weights) > 1e-3
    rows = log.read_log(undisturbed.path)
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]


def test_every_step_is_in_the_log_with_its_learning_rate(undisturbed: Artifact) -> None:
    rows = log.read_log(undisturbed.path)
    # 72 examples in batches of 16 are 5 steps an epoch; a line wherever something is written
    last = 5 * EPOCHS
    steps = [row["step"] for row in rows]
    assert steps == sorted(set(steps)) and steps[0] == 1  # and each step that took long
    assert {*range(5, last + 1, 5), *range(3, last + 1, 3), 7} <= set(steps)
    assert [row["epoch"] for row in rows] == [-(-step // 5) for step in steps]
    want = [schedule.learning_rate(step, last, SFT) for step in steps]
    assert [row["learning_rate"] for row in rows] == pytest.approx(want)


@dataclass(frozen=True)
class Killed:
    """A run whose second worker was killed -9 after an epoch and which went on by itself; and
    `stopped`, a copy of its folder from the moment of the kill."""

    run: Artifact
    root: Path
    stopped: Path


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    root, stopped = tmp_path_factory.mktemp("killed"), tmp_path_factory.mktemp("stopped")
    with killing_a_worker_after_an_epoch(root, stopped):
        run = tuned(root)
    return Killed(run, root, stopped)


def test_a_killed_worker_is_retried_from_its_last_checkpoint_to_the_same_weights(
    undisturbed: Artifact, killed: Killed
) -> None:
    assert "resuming after step" in (killed.root / "progress.jsonl").read_text()
    for epoch in sft_run.checkpoints(undisturbed):
        difference = largest_difference(weights(killed.run, epoch), weights(undisturbed, epoch))
        assert difference == 0.0
    again, once = (losses_between_rows(run) for run in (killed.run, undisturbed))
    common = again.keys() & once.keys()
    assert len(common) > len(once) / 2  # the first step after the kill has a row of its own
    assert all(again[steps] == once[steps] for steps in common)


def losses_between_rows(run: Artifact) -> dict[tuple[int, int], float]:
    """The mean losses of a run's log by (step of the row before, step of the row)."""
    rows = log.read_log(run.path)
    steps = [0, *(row["step"] for row in rows)]
    return {(a, row["step"]): row["loss"] for a, row in zip(steps, rows, strict=False)}


def test_a_run_resumes_with_another_number_of_workers_to_nearly_the_same_weights(
    undisturbed: Artifact, killed: Killed
) -> None:
    run = tuned(killed.stopped, place=PLACE.model_copy(update={"workers": 1}))
    assert_carried_over(killed.stopped, run, undisturbed)


@pytest.mark.soak
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_failed_run_resumes_with_another_number_of_workers_at_every_zero_stage(
    undisturbed: Artifact, tmp_path: Path, stage: int
) -> None:
    place = PLACE.model_copy(update={"zero_stage": stage, "max_failures": 0})
    with killing_a_worker_after_an_epoch(tmp_path), pytest.raises(TrainingFailedError):
        tuned(tmp_path, place=place)
    run = tuned(tmp_path, place=place.model_copy(update={"workers": 1}))
    assert_carried_over(tmp_path, run, undisturbed)


def assert_carried_over(root: Path, run: Artifact, undisturbed: Artifact) -> None:
    """From two workers to one, and the same run."""
    progress = (root / "progress.jsonl").read_text()
    assert "converting the state after step" in progress
    assert "resuming after step" in progress
    assert run.fingerprint == undisturbed.fingerprint
    # another order of the same float32 sums
    assert largest_difference(weights(run, EPOCHS), weights(undisturbed, EPOCHS)) < 2e-3
    text = next(root.glob("train/*/log.jsonl")).read_text()
    assert text.count('"event": "worker"') == 3  # two ranks, then one


@contextmanager
def killing_a_worker_after_an_epoch(root: Path, copy: Path | None = None) -> Iterator[None]:
    """Kill -9 the process of rank 1 once Ray Train knows of a checkpoint; `copy` becomes the
    run's folder as it was then."""
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 400
        while time.monotonic() < deadline:
            pids = workers_of(root)
            snapshots = root.glob("work/train/*/ray-*/run/checkpoint_manager_snapshot.json")
            if len(pids) == 2 and any("checkpoint_2" in one.read_text() for one in snapshots):
                if copy is not None:
                    for pid in pids.values():
                        os.kill(pid, signal.SIGSTOP)
                    time.sleep(1)  # what the controller has been told of, it writes down
                    shutil.copytree(root, copy, dirs_exist_ok=True)
                os.kill(pids[1], signal.SIGKILL)
                if copy is not None:
                    os.kill(pids[0], signal.SIGCONT)
                killed.append(pids[1])
                return
            time.sleep(0.005)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        killer.join()
    assert killed, "no worker was killed, so this test has shown nothing"


def workers_of(root: Path) -> dict[int, int]:
    """The process of each rank, as far as the run's log names them."""
    logs = list(root.glob("work/train/*/log.jsonl"))
    lines = logs[0].read_text().splitlines(keepends=True) if logs else []
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return {row["rank"]: row["pid"] for row in rows if row["event"] == "worker"}


@pytest.mark.soak
def test_zero_stage_and_workers_do_not_change_the_model(
    undisturbed: Artifact, tmp_path: Path
) -> None:
    place = PLACE.model_copy(update={"zero_stage": 3, "workers": 1})
    run = tuned(tmp_path, place=place)
    assert run.fingerprint == undisturbed.fingerprint
    # another order of the same float32 sums
    assert largest_difference(weights(run, EPOCHS), weights(undisturbed, EPOCHS)) < 2e-3
    names = load_file(sft_run.last(run).path / "model.safetensors").keys()
    assert names == weights(undisturbed, EPOCHS).keys()


def test_a_nan_loss_ends_the_run_and_names_the_last_good_checkpoint(
    tmp_path: Path,
) -> None:
    """One step an epoch, so large that attention overflows in the second."""
    sft = SftConfig(epochs=4, batch_size=72, learning_rate=1e12, warmup_share=0)
    with pytest.raises(InvalidResult) as caught:
        tuned(tmp_path, sft)
    message = str(caught.value)
    first = ", ".join(map(str, list(schedule.batches(72, sft))[1].rows[:8]))
    assert f"at step 2 (epoch 2, examples {first} … of the dataset)" in message
    (kept,) = tmp_path.glob("work/train/*/last-good")
    assert f"the weights after step 1 are in {kept}" in message
    assert all(bool(one.isfinite().all()) for one in load_model(kept).state_dict().values())
    log = next(tmp_path.glob("work/train/*/log.jsonl")).read_text()
    assert log.count('"event": "worker"') == 2  # both ranks once: nothing was tried again


@pytest.mark.soak
def test_a_shorter_rebuild_of_the_base_learns_from_random_weights(tmp_path: Path) -> None:
    store = Store(tmp_path)
    sft = SftConfig(epochs=1, batch_size=64, learning_rate=2e-3)
    config = PretrainConfig(examples=64 * 150, walks=6, sft=sft)
    planned = planned_base(store, build(TASK), config)
    progress = Progress(tmp_path / "progress.jsonl")
    assert obtain_base(store, build(TASK), config, PLACE, progress) == planned
    start = obtain_start(store, build(TASK), config)
    walks = dataset.obtain_walks(store, build(TASK), config, END)
    run = sft_run.obtain(store, walks, start, sft, PLACE, progress)  # found, not made again
    losses = [row["loss"] for row in log.read_log(run.path)]
    assert losses[0] > 2.0  # random weights over 16 names: log(16) = 2.8 per name
    assert losses[-1] < 1.4
    assert sum(losses[-3:]) / 3 < 0.6 * losses[0]
