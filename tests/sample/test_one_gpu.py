"""A training run and an engine on one GPU of Ray: they take turns, and neither waits for ever.

The GPU is one that Ray is told of; vLLM runs on the CPU and is stopped for training.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import serve as ray_serve
from ray.train import RunConfig

from forkdiv.core.config.study import DecoderConfig, PlaceConfig
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.sample import deployment
from forkdiv.sample.engine_settings import EngineSpec
from forkdiv.sample.sample_sets import Request, Response
from forkdiv.sample.trainings import start_trainings
from forkdiv.tasks.registry import build
from forkdiv.train.trainer import Trainer, scaling
from tests.checkpoints import greedy_text
from tests.serving import STUDY
from tests.stack import BASE
from tuning import session

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("no_ray")]

GREEDY = DecoderConfig(temperature=0.0)
PROBLEMS = build(STUDY.task).heldout("test", 4)


@pytest.fixture(scope="module")
def place() -> Iterator[PlaceConfig]:
    """What is decided for a study on a machine with one GPU, in whose Ray the tests run."""
    asked = PlaceConfig(device="gpu", workers=1, dashboard=False, num_cpus=2)
    start, shown = ray.init, list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setattr(ray, "init", lambda **settings: start(num_gpus=1, **settings))
        with session.running(asked, show=shown.append) as decided:
            assert decided.engine.while_training == "sleep"
            assert len(shown) == 1 and "share a GPU in turns (1 here)" in shown[0]
            yield decided


@pytest.fixture(scope="module")
def sampler(place: PlaceConfig) -> Iterator[deployment.ServeSampler]:
    """An engine on the CPU that reserves what an engine on the shared GPU does."""
    spec = session.engine_spec(STUDY, open_checkpoint(BASE))
    spec = replace(spec, config=spec.config.model_copy(update={"while_training": "stop"}))
    stock = deployment.sampler_deployment

    def on_the_gpu(spec: EngineSpec) -> ray_serve.Deployment:
        return stock(replace(spec, device="gpu"))

    trainings = start_trainings(deployment.app_name(spec))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deployment, "sampler_deployment", on_the_gpu)
        name = deployment.deploy(spec, trainings)
    yield deployment.ServeSampler(name, spec.config)
    ray_serve.delete(name)


def sampled(sampler: deployment.ServeSampler) -> list[str]:
    requests = [Request(problem, 0, 1, 4096 * i) for i, problem in enumerate(PROBLEMS)]
    found = list(sampler.sample(open_checkpoint(BASE), GREEDY, requests))
    assert all(isinstance(one, Response) for one in found), found
    texts = {
        one.request.problem.id: one.samples[0][1] for one in found if isinstance(one, Response)
    }
    return [texts[problem.id] for problem in PROBLEMS]


def train(place: PlaceConfig, folder: Path, seconds: float) -> float:
    """Trains nothing on the workers and GPUs of `place`; returns the time of its end."""
    file = folder / "ended"

    def work(config: dict[str, Any]) -> None:
        assert ray.get_gpu_ids() == [0]
        time.sleep(config["seconds"])
        Path(config["file"]).write_text(str(time.time()))

    Trainer(
        work,
        own_ray=True,
        train_loop_config={"seconds": seconds, "file": str(file)},
        scaling_config=scaling(place),
        run_config=RunConfig(storage_path=str(folder)),
    ).fit()
    return float(file.read_text())


def test_training_and_an_engine_take_turns_on_one_gpu(
    sampler: deployment.ServeSampler, place: PlaceConfig, tmp_path: Path
) -> None:
    wanted = [greedy_text(open_checkpoint(BASE), one, GREEDY.max_new_tokens) for one in PROBLEMS]
    assert sampled(sampler) == wanted
    begun = threading.Event()

    def ask() -> tuple[list[str], float]:
        assert begun.wait(300)
        return sampled(sampler), time.time()

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        with sampler.giving_way("a run") as how:
            assert how == "stopped"
            begun.set()
            ended = train(place, tmp_path, seconds=5)
            assert not asking.done()
        texts, answered = asking.result()
    assert texts == wanted and answered > ended


@ray.remote(num_cpus=0)
class Trial:
    """As a trial does, it begins a run and waits for its end."""

    def run(self, app: str) -> None:
        trainings = ray.get_actor(app)
        own = deployment._this_actor()
        ray.get(trainings.begin.remote("a run of a trial", own))
        time.sleep(600)


def test_a_trial_that_is_killed_does_not_keep_the_engine_asleep(
    sampler: deployment.ServeSampler,
) -> None:
    trial: Any = Trial.remote()  # type: ignore[attr-defined]
    trial.run.remote(sampler.app)
    trainings = ray.get_actor(sampler.app)
    wait_for(trainings, running=True)
    time.sleep(2)
    assert ray.get(trainings.running.remote())  # it is alive, though it does not answer
    ray.kill(trial)
    wait_for(trainings, running=False)


def wait_for(trainings: Any, running: bool) -> None:
    for _ in range(300):
        if ray.get(trainings.running.remote()) == running:
            return
        time.sleep(0.1)
    raise AssertionError(f"running was not {running} within 30 s")
