"""The drivers of a Ray cluster, and what ends with them.

A Serve application is detached: it outlives the driver that started it, unless the driver deletes
it. A driver that was killed, or whose host was lost, deletes nothing.
"""

from __future__ import annotations

import threading
import time

import ray
from ray import serve

CHECK_S = 10.0  # between two questions whether the driver still runs


def this_driver() -> str:
    """Returns the id of this process's job, which is the job of its driver."""
    job: str = ray.get_runtime_context().get_job_id()
    return job


def running_drivers() -> set[str]:
    """Returns the ids of the jobs whose drivers run. Ray counts a driver as ended when its process
    or its host is lost."""
    # no public function lists jobs without a dashboard
    jobs = ray._private.state.jobs()
    return {row["JobID"] for row in jobs if not row["IsDead"]}


def end_with(driver: str, app: str) -> None:
    """Deletes the Serve application `app`, in which this is called, when the driver with this id
    has ended, however it ended."""
    threading.Thread(target=_delete_after, args=(driver, app), daemon=True).start()


def _delete_after(driver: str, app: str) -> None:
    while driver in running_drivers():
        time.sleep(CHECK_S)
    serve.delete(app, _blocking=False)  # it would wait for the end of this process
