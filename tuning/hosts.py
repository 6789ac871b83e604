"""The hosts of a joined cluster: asked before work starts, and watched while it runs."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from forkdiv.core.code_version import sources_digest
from forkdiv.core.config.study import PlaceConfig
from forkdiv.core.errors import refuse
from forkdiv.core.progress import Progress
from forkdiv.core.store import versions

ANSWER_S = 120.0  # until a host counts as silent: its first process may have to be set up
POLL_S = 2.0
QUIET_S = 30.0  # of progress, until a line says what Ray waits for
MIB = 2**20


@dataclass(frozen=True)
class Answer:
    """What a host answers. `storage` says why it cannot use the folder place.root, if so; `clock`
    is its time in seconds since the epoch, `free` the MiB that are free there."""

    storage: str | None
    free: float
    versions: dict[str, str]
    clock: float


def alive() -> list[dict[str, Any]]:
    """Returns Ray's rows of the hosts that are there."""
    return [node for node in ray.nodes() if node["Alive"]]


def working() -> list[dict[str, Any]]:
    """Returns Ray's rows of the hosts on which work can run: not a head without CPUs."""
    return [
        node for node in alive() if node["Resources"].get("CPU") or node["Resources"].get("GPU")
    ]


def name_of(node: Mapping[str, Any]) -> str:
    """Returns `h2 (10.99.0.2)`."""
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def on(node: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a task or actor that runs on this host and reserves nothing."""
    where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return {"num_cpus": 0, "scheduling_strategy": where}


def answer(root: Path, token: str) -> Answer:
    """Returns the answer of the host that this runs on; `token` is the name of a file that the
    driver wrote to `root`."""
    storage = _storage_problem(root, token)
    free = 0.0 if storage else shutil.disk_usage(root).free / MIB
    return Answer(storage, free, own_versions(), time.time())


def own_versions() -> dict[str, str]:
    """Returns the versions on this host of the libraries that decide results, and a digest of
    forkdiv's own code."""
    return {"forkdiv": sources_digest(), **versions()}


def _storage_problem(root: Path, token: str) -> str | None:
    try:
        if not (root / token).is_file():
            there = "is another folder" if root.is_dir() else "does not exist"
            return f"{root} {there} on this host"
        own = root / f"{token}-{os.getpid()}-{secrets.token_hex(4)}"
        own.write_bytes(b"x")
        own.unlink()
    except OSError as error:
        return f"{root}: {error.strerror}"
    return None


@contextmanager
def marked(root: Path) -> Iterator[str]:
    """Writes a file with a new name to `root` for the block; yields the name."""
    token = f".forkdiv-{secrets.token_hex(8)}"
    root.mkdir(parents=True, exist_ok=True)
    (root / token).touch()
    try:
        yield token
    finally:
        (root / token).unlink(missing_ok=True)


def answers(root: Path, nodes: list[dict[str, Any]]) -> dict[str, Answer | str]:
    """Returns the answer of each host by its name, or why there is none."""
    ask = ray.remote(answer)
    with marked(root) as token:
        asked = {
            name_of(node): ask.options(**on(node), max_retries=0).remote(root, token)
            for node in nodes
        }
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_S)
        return {name: result(reference) for name, reference in asked.items()}


def result(reference: Any) -> Any:
    """Returns the result of a task or actor on a host, or as a text why there is none."""
    try:
        return ray.get(reference, timeout=0)
    except ray.exceptions.GetTimeoutError:
        return f"no answer within {ANSWER_S:g} s"
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"


def check_hosts(place: PlaceConfig) -> None:
    """Raises UserError if a host of the cluster cannot run our code, does not share place.root, or
    has other versions of the libraries that decide results."""
    nodes = working()
    given = answers(place.root, nodes)
    for name, got in given.items():
        if isinstance(got, str):
            raise refuse(
                f"the host {name} of the cluster cannot run a process",
                got,
                "a host whose environment is that of the head",
                "see Ray's logs on that host (/tmp/ray/session_latest/logs), or end Ray there",
            )
        if got.storage:
            raise refuse(
                f"the host {name} of the cluster does not share place.root",
                got.storage,
                "one folder that all hosts mount at the same path and may write to",
                "set place.root to a shared folder, or mount it on that host",
            )
        if differing := _differing(got.versions, own_versions()):
            raise refuse(
                f"the host {name} of the cluster has other versions than this command",
                differing,
                "the same versions on all hosts",
                "install the same forkdiv and its pinned packages on that host, or send the code "
                "with `forkdiv submit`",
            )


def _differing(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    return ", ".join(
        f"{name} {there.get(name)} there and {here[name]} here"
        for name in here
        if there.get(name) != here[name]
    )


@dataclass
class HostWatch:
    """Reports lost and new hosts while its block runs, and what Ray cannot place when the progress
    has been quiet."""

    progress: Progress
    _known: dict[str, dict[str, Any]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> HostWatch:
        self._known = {node["NodeID"]: node for node in alive()}
        self._thread = threading.Thread(target=self._follow, daemon=True, name="hosts")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._stop.wait(POLL_S):
            for line in self.changes(ray.nodes()):
                self.progress(line)
            if self._is_quiet() and (waits := unplaced_demand()):
                self.progress(waits)

    def changes(self, nodes: list[dict[str, Any]]) -> list[str]:
        """Returns a line for each host that was lost or that joined since the last call."""
        lines = []
        for node in nodes:
            known = node["NodeID"] in self._known
            if node["Alive"] and not known:
                self._known[node["NodeID"]] = node
                lines.append(f"the host {name_of(node)} joined the cluster")
            elif known and not node["Alive"]:
                del self._known[node["NodeID"]]
                lines.append(_lost(node))
        return lines

    def _is_quiet(self) -> bool:
        """Returns whether nothing was reported for a while; its own lines count too."""
        return time.time() - self.progress.path.stat().st_mtime > QUIET_S


def _lost(node: Mapping[str, Any]) -> str:
    reason = " ".join(str(node.get("DeathReasonMessage") or "Ray there does not answer").split())
    return (
        f"the host {name_of(node)} is lost ({reason}): what ran there starts again on another "
        "host, training from its last saved state"
    )


def unplaced_demand() -> str | None:
    """Returns a line about what processes on the cluster wait for, and what is free; None if Ray
    has placed everything."""
    from ray.autoscaler.v2.sdk import get_cluster_status

    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    demands = status.resource_demands
    waiting = [
        f"{bundle.count} × {_bundle(bundle.bundle)}"
        for demand in (*demands.placement_group_demand, *demands.ray_task_actor_demand)
        for bundle in demand.bundles_by_count
    ]
    if not waiting:
        return None
    usage = {one.resource_name: one for one in status.cluster_resource_usage}
    free = ", ".join(
        f"{usage[kind].total - usage[kind].used:g} of {usage[kind].total:g} {kind}s"
        for kind in ("CPU", "GPU")
        if kind in usage
    )
    return f"processes wait for {', '.join(waiting)}; free on the cluster: {free or 'nothing'}"


def _bundle(resources: Mapping[str, float]) -> str:
    return (
        " and ".join(
            f"{amount:g} {kind}" for kind, amount in resources.items() if kind in ("CPU", "GPU")
        )
        or "a process"
    )
