"""What a cluster has room for: counted by host, without what the job reserves for itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import ray
from ray.experimental import internal_kv

from forkdiv.core.config.study import PlaceConfig
from forkdiv.core.errors import InvalidResult, UserError
from tuning import capacity
from tuning.resources import ALL, Work, bundles, needs, unplaced

TRAINS = Work(samples=False)


def node(name: str, cpus: float, gpus: float = 0, alive: bool = True) -> dict[str, Any]:
    return {"NodeID": name, "Alive": alive, "Resources": {"CPU": cpus, "GPU": gpus}}


class Cluster:
    """Stands in for Ray: `later` are the hosts that an autoscaler adds when it is asked."""

    def __init__(self, *nodes: dict[str, Any]) -> None:
        self.nodes = list(nodes)
        self.later: list[dict[str, Any]] | None = None
        self.delay = 0  # lists of hosts before the new ones are there
        self.asked: list[list[Any]] = []

    def listed(self) -> list[dict[str, Any]]:
        if self.later and self.asked:
            self.delay -= 1
            if self.delay < 0:
                return [*self.nodes, *self.later]
        return self.nodes

    def request(self, bundles: list[Any]) -> None:
        self.asked.append(bundles)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Cluster]:
    def make(*nodes: dict[str, Any], reserved: float = 0, scales: bool = False) -> Cluster:
        made = Cluster(*nodes)

        class Context:
            def get_node_id(self) -> str:
                return "driver"

        def kept(key: str, namespace: str) -> bytes:
            assert (key, namespace) == ("_ray_internal_job_info_raysubmit_1", "job")
            return json.dumps({"entrypoint_num_cpus": reserved}).encode()

        config = {"metadata": {"job_submission_id": "raysubmit_1"}} if reserved else {}
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(config))
        monkeypatch.setattr(ray, "nodes", made.listed)
        monkeypatch.setattr(ray, "get_runtime_context", Context)
        monkeypatch.setattr(internal_kv, "_internal_kv_get", kept)
        monkeypatch.setattr(capacity, "autoscales", lambda: scales)
        monkeypatch.setattr(capacity, "request_resources", made.request)
        monkeypatch.setattr(capacity, "POLL_S", 0.01)
        return made

    return make


def refusal(place: PlaceConfig, work: Work = ALL) -> str:
    with pytest.raises(UserError) as caught:
        capacity.wait_for_room(place, work, lambda line: None)
    return str(caught.value)


def test_the_study_of_the_issue_is_refused_with_numbers(cluster: Callable[..., Cluster]) -> None:
    place = PlaceConfig(cpus_per_worker=1)
    cluster(node("driver", 2))
    message = refusal(place)
    assert "more CPUs than the cluster has: got 2.11 CPUs; allowed: at most 2" in message
    cluster(node("driver", 3))
    capacity.wait_for_room(place, ALL, lambda line: None)


def test_what_the_job_reserves_for_itself_is_not_counted(
    cluster: Callable[..., Cluster],
) -> None:
    cluster(node("driver", 2), reserved=1)
    message = refusal(PlaceConfig())
    assert "got 1.11 CPUs; allowed: at most 1 beside the 1 CPUs that this job reserves" in message
    cluster(node("driver", 2), reserved=0.1)
    capacity.wait_for_room(PlaceConfig(), ALL, lambda line: None)


def test_a_worker_needs_one_host_with_room(cluster: Callable[..., Cluster]) -> None:
    place = PlaceConfig(workers=1, cpus_per_worker=3)
    cluster(node("driver", 2), node("other", 2), node("lost", 8, alive=False))
    message = refusal(place, TRAINS)
    assert "no host of the cluster has room" in message and "2 CPUs; 2 CPUs" in message
    cluster(node("driver", 2), node("other", 4))
    capacity.wait_for_room(place, TRAINS, lambda line: None)


def test_hosts_of_an_autoscaler_are_waited_for_in_a_line(cluster: Callable[..., Cluster]) -> None:
    made = cluster(node("driver", 0), scales=True)
    made.later = [node("new", 4)]
    made.delay = 4
    lines: list[str] = []
    capacity.wait_for_room(PlaceConfig(), ALL, lines.append)
    assert made.asked == [[dict(one) for one in bundles(PlaceConfig(), ALL)], []]
    assert "1.11 CPUs are needed, 1 hosts have 0 CPUs" in lines[0]
    assert "the autoscaler has added hosts: 4 CPUs" in lines[1]


def test_an_autoscaler_that_adds_nothing_ends_the_wait(cluster: Callable[..., Cluster]) -> None:
    made = cluster(node("driver", 1), scales=True)
    lines: list[str] = []
    place = PlaceConfig(worker_start_timeout_s=0.05)
    with pytest.raises(InvalidResult, match=r"1\.11 CPUs.*max_workers"):
        capacity.wait_for_room(place, ALL, lines.append)
    assert lines == [
        "waiting for the cluster's autoscaler: 1.11 CPUs are needed, 1 hosts have 1 CPUs"
    ]
    assert made.asked[-1] == [], "the request is taken back"


def test_four_workers_that_share_a_gpu_each_with_nothing_need_four() -> None:
    place = PlaceConfig.model_validate(
        {"device": "gpu", "workers": 4, "engine": {"while_training": "sleep"}}
    )
    assert needs(place, ALL)["GPU"] == 4
    assert unplaced(bundles(place, ALL), [{"CPU": 8, "GPU": 4}]) == []
    assert len(unplaced(bundles(place, ALL), [{"CPU": 8, "GPU": 3}])) == 1
