"""Drivers killed and nodes lost while training: the same loss curve, the same weights."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from ray.cluster_utils import Cluster
from safetensors.torch import load_file

from forkdiv.core.config.study import DatasetConfig, PlaceConfig, SftConfig
from forkdiv.core.progress import Progress
from forkdiv.core.store import Artifact, Store
from forkdiv.data import dataset
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.tasks.graph_branching import GraphBranchingConfig
from forkdiv.tasks.registry import build
from forkdiv.terminal import say
from forkdiv.train import log, sft_run
from tests.stack import BASE, ROOT, clean_environment
from tuning.session import running

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(2400),
    pytest.mark.usefixtures("no_ray"),
]

KILLS = 5
SFT = SftConfig(epochs=40, batch_size=16, save_epochs=(1,))
DATA = DatasetConfig(examples=160, fork_density=0.5)  # ten steps an epoch
PLACE = PlaceConfig(dashboard=False, num_cpus=2, resume_every=5)


def trained(root: Path, place: PlaceConfig) -> Artifact:
    store = Store(root / "store")
    data = dataset.obtain_sft(store, build(GraphBranchingConfig()), DATA)
    progress = Progress(root / "progress.jsonl")
    return sft_run.obtain(store, data, open_checkpoint(BASE), SFT, place, progress)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    with running(PLACE):
        return trained(tmp_path_factory.mktemp("undisturbed"), PLACE)


def assert_equal(run: Artifact, other: Artifact) -> None:
    assert run.fingerprint == other.fingerprint
    for epoch, checkpoint in sft_run.checkpoints(run).items():
        weights = load_file(checkpoint.path / "model.safetensors")
        expected = load_file(sft_run.checkpoints(other)[epoch].path / "model.safetensors")
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[name], expected[name]) for name in weights), epoch
    mine, theirs = losses(run), losses(other)
    same = mine.keys() & theirs.keys()
    assert len(same) >= 0.8 * len(theirs)
    assert {steps: mine[steps] for steps in same} == {steps: theirs[steps] for steps in same}


def losses(run: Artifact) -> dict[tuple[int, int], float]:
    """The mean loss over the steps of each row: after the first number, up to the second. After a
    resumption, and while steps are slow, rows have fewer steps."""
    rows = log.read_log(run.path)
    ends = [0, *(row["step"] for row in rows)]
    return {(ends[i], row["step"]): row["loss"] for i, row in enumerate(rows)}


def test_a_driver_that_is_killed_again_and_again_ends_with_the_same_weights(
    undisturbed: Artifact, tmp_path: Path
) -> None:
    seed = time.time_ns()
    say(f"seed of the kills: {seed}")
    chance = random.Random(seed)
    command = [sys.executable, "-m", "jobs.train", f"base={BASE}", f"place.root={tmp_path}"]
    command += [f"dataset.examples={DATA.examples}", f"dataset.fork_density={DATA.fork_density}"]
    command += [f"sft.epochs={SFT.epochs}", f"sft.batch_size={SFT.batch_size}"]
    command += ["sft.save_epochs=[1]", "place.dashboard=false", "place.resume_every=5"]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, cwd=ROOT, env=clean_environment(), stdout=subprocess.DEVNULL
        )

    progress = tmp_path / "study" / "progress.jsonl"
    for kill in range(KILLS):
        process = start()
        # not by the run's log: workers of the driver before may write to it for a moment yet
        wait_for(partial(trains, progress, kill + 1))
        time.sleep(chance.uniform(0, 2))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start().wait(timeout=600) == 0
    (made,) = tmp_path.glob("store/train/*")
    said = progress.read_text()
    assert said.count("resuming after step") >= KILLS - 1  # the first may come before any state
    assert_equal(Artifact(made, {"fingerprint": made.name}), undisturbed)


def test_a_node_that_is_lost_is_replaced_and_the_weights_are_the_same(
    undisturbed: Artifact, tmp_path: Path
) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        place = PLACE.model_copy(
            update={"ray_address": cluster.address, "num_cpus": None, "cpus_per_worker": 1.0}
        )
        # Ray adds nodes in the main thread alone
        with running(place), ThreadPoolExecutor(1) as pool:
            training = pool.submit(trained, tmp_path, place)
            wait_for(lambda: trained_steps(tmp_path) > 20)
            cluster.remove_node(nodes[1], allow_graceful=False)
            cluster.add_node(num_cpus=1)
            run = training.result()
    finally:
        cluster.shutdown()
    assert "resuming after step" in (tmp_path / "progress.jsonl").read_text()
    assert_equal(run, undisturbed)


def trained_steps(root: Path) -> int:
    """How many lines of steps the run's log has so far."""
    return sum(
        log.read_text().count('"event": "step"') for log in root.rglob("work/train/*/log.jsonl")
    )


def trains(progress: Path, start: int) -> bool:
    """Whether the workers of that start, counted from 1, have said a step."""
    said = progress.read_text() if progress.exists() else ""
    _, *after = said.split("fine-tuning: starting")
    return len(after) >= start and "fine-tuning: step" in after[start - 1]


def wait_for(ready: Callable[[], bool], timeout: float = 400) -> None:
    deadline = time.monotonic() + timeout
    while not ready():
        assert time.monotonic() < deadline, "nothing was trained in time"
        time.sleep(0.05)
