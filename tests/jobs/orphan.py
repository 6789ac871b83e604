"""A driver that starts samplers and is killed, and one that looks for what the first one left."""

from __future__ import annotations

import os
import signal
import sys
import time

import ray
from ray import serve

from forkdiv.sample.deployment import PREFIX, delete_orphans
from forkdiv.sample.drivers import end_with, this_driver
from tuning import capacity, hosts


@serve.deployment
class Small:
    """As the sampler: it ends with its driver."""

    def __init__(self, driver: str) -> None:
        end_with(driver, serve.get_replica_context().app_name)


def start(name: str, **resources: float) -> None:
    bound = Small.options(ray_actor_options=resources).bind(this_driver())  # type: ignore[attr-defined]
    app = f"{PREFIX}-{this_driver()}-{name}"
    target = serve.RunTarget(target=bound, name=app, route_prefix=None)
    serve.run_many([target], wait_for_applications_running=False)


def leave() -> None:
    """Leaves a sampler that runs and one that waits for a GPU."""
    serve.start(proxy_location="Disabled")
    start("runs", num_cpus=0.1)
    start("waits", num_cpus=0.1, num_gpus=1)
    while serve.status().applications[f"{PREFIX}-{this_driver()}-runs"].status != "RUNNING":
        time.sleep(0.2)
    while (waits := hosts.unplaced_demand()) is None:
        time.sleep(0.2)
    print(f"{waits}; autoscaler: {capacity.autoscales()}; hosts: {capacity.hosts()}")
    print("left:", sorted(serve.status().applications), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def find() -> None:
    """Waits until the sampler that ran has ended, and deletes the other one."""
    started = time.monotonic()
    while any(name.endswith("-runs") for name in serve.status().applications):
        assert time.monotonic() - started < 60
        time.sleep(0.5)
    start("mine", num_cpus=0.1)
    deleted = [name.rpartition("-")[2] for name in delete_orphans()]
    kept = [name.rpartition("-")[2] for name in serve.status().applications]
    print(f"deleted: {deleted}; kept: {kept}", flush=True)
    serve.shutdown()


if __name__ == "__main__":
    ray.init(log_to_driver=False)
    {"leave": leave, "find": find}[sys.argv[1]]()
