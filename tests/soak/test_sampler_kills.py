"""The sampler killed ten times at random moments, each kind of process: no key lost or doubled."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from ray import serve as ray_serve

from forkdiv.core.config.study import DecoderConfig, PlaceConfig, StudyConfig
from forkdiv.core.progress import Progress
from forkdiv.core.store import Store
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.sample import deployment, sample_sets
from forkdiv.sample.evaluation import Evaluation
from forkdiv.sample.sample_sets import SampleSet
from forkdiv.terminal import say
from tests.stack import BASE, ROOT, clean_environment
from tuning.session import engine_spec, running

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(3600),
    pytest.mark.usefixtures("no_ray"),
]

KILLS, PROBLEMS, N = 10, 200, 64
SAMPLES = 512  # more parts of 4,096 samples than kills
# "no hang over two minutes beyond an engine start", which takes up to a minute and a half here
PATIENCE_S = 210
STUDY = StudyConfig(base=BASE)


@pytest.mark.parametrize("name", ["EngineCore", "ServeReplica"])
def test_an_engine_or_a_replica_that_is_killed_again_and_again_costs_no_key(
    tmp_path: Path, name: str
) -> None:
    store, progress = Store(tmp_path / "store"), Progress(tmp_path / "progress.jsonl")
    base, seed = open_checkpoint(BASE), time.time_ns()
    say(f"seed of the kills: {seed}")
    chance = random.Random(seed)
    with running(PlaceConfig(dashboard=False, num_cpus=2)):
        spec = engine_spec(STUDY, base)
        app = deployment.deploy(spec)
        client = deployment.ServeSampler(app, spec.config.model_copy(update={"max_failures": 5}))
        longest = 0.0
        for kill in range(KILLS):
            decoder = DecoderConfig(temperature=1.0 + kill / 100)  # a set of its own
            evaluation = replace(Evaluation.of(STUDY), decoder=decoder)
            deployment.wait_until_ready(app, 600)
            killer = threading.Timer(chance.uniform(0.1, 8), end, [name])
            killer.start()
            began = time.monotonic()
            found = sample_sets.obtain(store, evaluation, base, client, progress)
            killer.join()
            longest = max(longest, time.monotonic() - began)
            found.require_complete()
            assert_every_key_once(found)
        ray_serve.delete(app)
    say(f"{KILLS} kills of {name}: the longest of {KILLS} rounds took {longest:.0f} s")
    assert longest < PATIENCE_S


def end(name: str) -> None:
    """Kill the process of that name, which may be starting just then."""
    for process in psutil.Process().children(recursive=True):
        try:
            if name in " ".join(process.cmdline()):
                process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def test_a_client_that_is_killed_again_and_again_draws_every_key_once(tmp_path: Path) -> None:
    seed = time.time_ns()
    say(f"seed of the kills: {seed}")
    chance = random.Random(seed)
    command = [sys.executable, "-m", "jobs.sample", f"checkpoint={BASE}", f"base={BASE}"]
    settings = [f"place.root={tmp_path}", "place.dashboard=false", f"eval.problems={PROBLEMS}"]
    settings += [f"eval.samples={SAMPLES}", "name=killed"]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*command, *settings],
            cwd=ROOT,
            env=clean_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def parts() -> set[Path]:
        return set(tmp_path.glob("store/samples/*/part-*.parquet"))

    for _ in range(KILLS):
        before, process = parts(), start()
        deadline = time.monotonic() + 300
        while parts() <= before and time.monotonic() < deadline:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.2)
        assert parts() > before, "no part within 300 s"
        time.sleep(chance.uniform(0, 4))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert start().wait(timeout=900) == 0
    counted = keys(sorted(parts()))
    assert len(counted) == PROBLEMS * SAMPLES and set(counted.values()) == {1}


def keys(parts: list[Path]) -> Counter[tuple[str, int]]:
    found: Counter[tuple[str, int]] = Counter()
    for part in parts:
        table = pq.read_table(part, columns=["problem_id", "sample_index"]).to_pydict()
        found.update(zip(table["problem_id"], table["sample_index"], strict=True))
    return found


def assert_every_key_once(found: SampleSet) -> None:
    counted = keys(found.parts)
    assert len(counted) == PROBLEMS * N and set(counted.values()) == {1}
