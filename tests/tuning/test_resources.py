"""Whether training and sampling share a GPU, and what a command reserves."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from forkdiv.core.config.study import PlaceConfig
from forkdiv.core.errors import UserError
from forkdiv.sample.deployment import sampler_deployment
from forkdiv.sample.engine_settings import EngineSpec
from forkdiv.train.trainer import scaling
from tests.stack import BASE
from tuning.resources import Work, check_resources, needs, placed

BOTH, TRAINS, SAMPLES = Work(), Work(samples=False), Work(trains=False)


def place(**settings: Any) -> PlaceConfig:
    return PlaceConfig.model_validate({"device": "gpu", "workers": 1, **settings})


def choice(gpus: float, work: Work = BOTH, **settings: Any) -> str:
    return placed(place(**settings), work, gpus)[0].engine.while_training


@pytest.mark.parametrize(
    ("settings", "gpus", "wanted"),
    [
        ({}, 1, "sleep"),
        ({}, 2, "beside"),
        ({"workers": 4}, 4, "sleep"),
        ({"workers": 4}, 5, "beside"),
        ({"max_concurrent_trials": 2}, 2, "sleep"),
        ({"workers": 2}, 1, "beside"),  # too few for the workers: refused, or a cluster adds some
        ({}, 0, "beside"),  # a cluster may add nodes
        ({"device": "cpu"}, 0, "beside"),
        ({"engine": {"replicas": 2}}, 2, "beside"),
        ({"engine": {"tensor_parallel": 2}}, 2, "beside"),
        ({"engine": {"while_training": "beside"}}, 1, "beside"),
        ({"engine": {"while_training": "stop"}}, 8, "stop"),
        ({"engine": {"while_training": "stop"}, "device": "cpu"}, 0, "stop"),
    ],
)
def test_an_engine_shares_a_gpu_where_none_is_left_for_it(
    settings: dict[str, Any], gpus: float, wanted: str
) -> None:
    assert choice(gpus, **settings) == wanted


def test_a_command_that_only_trains_or_only_samples_shares_nothing() -> None:
    for work in (TRAINS, SAMPLES):
        assert choice(1, work) == choice(1, work, engine={"while_training": "sleep"}) == "beside"


def test_sharing_is_said_in_one_line() -> None:
    decided, line = placed(place(), BOTH, 1)
    assert line is not None and "share a GPU in turns (1 here)" in line and "\n" not in line
    assert "place.engine.while_training=sleep" in line
    assert placed(place(), BOTH, 2)[1] is None
    assert placed(decided, BOTH, 1) == (decided, line)  # what is decided stays


def test_one_gpu_is_enough_for_a_study_a_training_and_a_comparison() -> None:
    has = {"CPU": 4.0, "GPU": 1.0}
    for work in (BOTH, TRAINS, SAMPLES):
        decided, _ = placed(place(), work, has["GPU"])
        assert needs(decided, work)["GPU"] == 1
        check_resources(decided, work, [has])


@pytest.mark.parametrize(("gpus", "engine", "worker"), [(1, 0.1, 0.9), (2, 1, 1)])
def test_ray_reserves_one_gpu_for_an_engine_and_a_worker_that_share_it(
    gpus: float, engine: float, worker: float
) -> None:
    decided, _ = placed(place(), BOTH, gpus)
    spec = EngineSpec(BASE, "float32", "gpu", decided.engine, ())
    reserved = sampler_deployment(spec).ray_actor_options
    assert reserved is not None and reserved["num_gpus"] == engine
    assert scaling(decided).resources_per_worker == {"CPU": 0.5, "GPU": worker}


def test_only_what_a_command_starts_is_counted() -> None:
    small = {"CPU": 0.2, "GPU": 0.0}
    on_cpu = PlaceConfig()
    check_resources(on_cpu, SAMPLES, [small])
    with pytest.raises(UserError, match=r"more CPUs than this machine has.*1\.01"):
        check_resources(on_cpu, TRAINS, [small])
    with pytest.raises(UserError, match=r"more GPUs .*2 GPUs.*tensor_parallel"):
        check_resources(place(engine={"tensor_parallel": 2}), SAMPLES, [{"CPU": 4.0, "GPU": 1.0}])


def test_an_engine_of_several_gpus_cannot_take_turns() -> None:
    for several in ({"replicas": 2}, {"max_replicas": 2}, {"tensor_parallel": 2}):
        with pytest.raises(ValidationError, match="needs one engine on one GPU"):
            place(engine={"while_training": "sleep", **several})


def test_only_a_gpu_has_a_sleep_mode() -> None:
    with pytest.raises(ValidationError, match=r"needs device=gpu, got cpu.*stop"):
        PlaceConfig.model_validate({"engine": {"while_training": "sleep"}})
