"""Checks of a Ray cluster, each with one line: what is there, and what to do if it is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from forkdiv.core.config.study import PlaceConfig
from forkdiv.core.errors import UserError
from tuning import capacity, gcs, hosts
from tuning.examiner import Examiner, Facts
from tuning.resources import ALL, check_resources, needs, placed, shown

LEAST_SHM_GIB = 1.0
LEAST_FILES = 8192  # Ray warns below it
MOST_FULL = 0.95  # of a disk, above which Ray stores nothing on it
MOST_CLOCK_S = 2.0
CONNECT_S = 10.0
SHOWN = ("forkdiv", "python", "ray", "torch", "vllm")  # versions in the line of hosts that agree


@dataclass(frozen=True)
class Finding:
    """The result of one check: what is there, and what to do; `remedy` is empty if all is well."""

    name: str
    found: str
    remedy: str = ""

    @property
    def is_well(self) -> bool:
        """Returns whether nothing is to be done."""
        return not self.remedy

    def __str__(self) -> str:
        if self.is_well:
            return f"ok      {self.name}: {self.found}"
        return f"WRONG   {self.name}: {self.found}; {self.remedy}"


def examine(place: PlaceConfig, show: Callable[[Finding], None]) -> bool:
    """Examines the joined cluster and shows a line for each check; returns whether all is well."""
    findings: list[Finding] = []

    def note(finding: Finding) -> None:
        findings.append(finding)
        show(finding)

    nodes = hosts.working()
    note(_hosts(nodes))
    required = gcs.requires_token(ray.get_runtime_context().gcs_address, CONNECT_S)
    note(_token(required))
    note(_dashboard(required))
    if nodes:
        with _examiners(nodes) as there, hosts.marked(place.root) as mark:
            facts, silent = _facts(there, place.root, mark)
            for name, why in silent.items():
                remedy = "see Ray's logs there (/tmp/ray/session_latest/logs)"
                note(Finding("host", f"{name} runs no process of forkdiv: {why}", remedy))
            for check in (_versions, _storage, _gpus, _shm, _disks, _files):
                for finding in check(facts, place, nodes):
                    note(finding)
            note(_clocks({name: actor for name, actor in there.items() if name in facts}))
            note(_ports({name: actor for name, actor in there.items() if name in facts}, nodes))
    note(_room(place))
    note(_samplers())
    return all(finding.is_well for finding in findings)


def _hosts(nodes: list[dict[str, Any]]) -> Finding:
    names = ", ".join(hosts.name_of(node) for node in nodes)
    if not nodes:
        return Finding("hosts", "none with CPUs or GPUs", "start workers: ray start --address=…")
    return Finding("hosts", f"{len(nodes)} with CPUs or GPUs: {names}")


def _token(required: bool) -> Finding:
    if required:
        return Finding("token", "required of every process that joins")
    return Finding(
        "token",
        "not required: whoever reaches a port of Ray can run code",
        "restart it with RAY_AUTH_MODE=token and a token (`ray get-auth-token --generate`)",
    )


def _dashboard(required: bool) -> Finding:
    url = str(ray._private.worker.global_worker.node.webui_url or "")
    host = url.rpartition("//")[2].rpartition(":")[0]
    if not url:
        return Finding("dashboard", "none")
    if host in ("127.0.0.1", "localhost", "[::1]"):
        return Finding("dashboard", f"{url}, on the head alone")
    if required:
        return Finding("dashboard", f"{url}, for everyone who reaches the head and has the token")
    return Finding(
        "dashboard",
        f"{url}, with the job API, for everyone who reaches the head",
        "restart the head with --dashboard-host=127.0.0.1, and reach it through ssh",
    )


@contextmanager
def _examiners(nodes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    actor = ray.remote(Examiner)
    there = {hosts.name_of(node): actor.options(**hosts.on(node)).remote() for node in nodes}
    try:
        yield there
    finally:
        for one in there.values():
            ray.kill(one)


def _facts(
    there: Mapping[str, Any], root: Path, mark: str
) -> tuple[dict[str, Facts], dict[str, str]]:
    """Returns the facts of each host that answers, and why the others do not."""
    asked = {name: actor.facts.remote(root, mark) for name, actor in there.items()}
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=hosts.ANSWER_S)
    facts, silent = {}, {}
    for name, reference in asked.items():
        got = hosts.result(reference)
        if isinstance(got, str):
            silent[name] = got
        else:
            facts[name] = got
    return facts, silent


def _versions(facts: Mapping[str, Facts], *_: Any) -> Iterator[Finding]:
    here = {"python": gcs.Versions.here().python, **hosts.own_versions()}
    differing = [
        f"{name} has {library} {there.versions.get(library)}"
        for name, there in facts.items()
        for library, version in here.items()
        if there.versions.get(library) != version
    ]
    main = ", ".join(
        f"{name} {here[name]}" for name in ("forkdiv", "python", "ray", "torch", "vllm")
    )
    if differing:
        remedy = "install forkdiv's pinned packages on these hosts"
        yield Finding("versions", f"{'; '.join(differing)}; the driver has {main}", remedy)
    else:
        yield Finding("versions", f"equal on all hosts: {main}")


def _storage(
    facts: Mapping[str, Facts], place: PlaceConfig, nodes: list[dict[str, Any]]
) -> Iterator[Finding]:
    problems = [f"{name}: {there.storage}" for name, there in facts.items() if there.storage]
    if problems:
        remedy = "set place.root to a folder that all hosts mount at the same path"
        yield Finding("storage", "; ".join(problems), remedy)
        return
    least = min((there.storage_free for there in facts.values()), default=0.0)
    if least < place.min_free_mib:
        remedy = f"free some space: place.min_free_mib is {place.min_free_mib}"
        yield Finding("storage", f"{place.root} has {least:.0f} MiB left", remedy)
    else:
        yield Finding(
            "storage", f"{place.root} is shared and writable, {least / 1024:.1f} GiB are free"
        )


def _gpus(
    facts: Mapping[str, Facts], place: PlaceConfig, nodes: list[dict[str, Any]]
) -> Iterator[Finding]:
    ray_has = {hosts.name_of(node): int(node["Resources"].get("GPU", 0)) for node in nodes}
    wrong = [
        f"{name} has {there.gpus} GPUs and gives Ray {ray_has[name]}"
        for name, there in facts.items()
        if there.gpus != ray_has[name]
    ]
    drivers = sorted({there.driver for there in facts.values() if there.driver})
    total = sum(ray_has.values())
    if wrong:
        remedy = "check CUDA_VISIBLE_DEVICES and --num-gpus of `ray start` there"
        yield Finding("GPUs", "; ".join(wrong), remedy)
    elif place.device == "gpu" and not total:
        yield Finding(
            "GPUs", "none, and place.device=gpu", "set place.device=cpu, or add GPU hosts"
        )
    elif len(drivers) > 1:
        yield Finding("GPUs", f"drivers differ: {', '.join(drivers)}", "install the same driver")
    else:
        driver = f" with driver {drivers[0]}" if drivers else ""
        yield Finding("GPUs", f"{total}{driver}" if total else "none")


def _shm(facts: Mapping[str, Facts], *_: Any) -> Iterator[Finding]:
    small = [
        f"{n} has {there.shm:.2g} GiB" for n, there in facts.items() if there.shm < LEAST_SHM_GIB
    ]
    if small:
        remedy = f"give it at least {LEAST_SHM_GIB:g} GiB (--shm-size, an emptyDir of memory)"
        yield Finding("/dev/shm", "; ".join(small), remedy)
    else:
        least = min((there.shm for there in facts.values()), default=0.0)
        yield Finding("/dev/shm", f"at least {least:.1f} GiB on each host")


def _disks(facts: Mapping[str, Facts], *_: Any) -> Iterator[Finding]:
    full = [f"{n} is {there.disk:.0%} full" for n, there in facts.items() if there.disk > MOST_FULL]
    if full:
        remedy = f"free some space: above {MOST_FULL:.0%} Ray stores nothing there"
        yield Finding("temporary files", "; ".join(full), remedy)
    else:
        most = max((there.disk for there in facts.values()), default=0.0)
        yield Finding("temporary files", f"their disks are at most {most:.0%} full")


def _files(facts: Mapping[str, Facts], *_: Any) -> Iterator[Finding]:
    few = [f"{n}: {there.files}" for n, there in facts.items() if there.files < LEAST_FILES]
    if few:
        yield Finding("open files", "; ".join(few), "run `ulimit -n 65536` before `ray start`")
    else:
        least = min((there.files for there in facts.values()), default=0)
        yield Finding("open files", f"a process may have at least {least}")


def _clocks(there: Mapping[str, Any]) -> Finding:
    """Compares the clocks with this host's, each in the middle of one call."""
    off = {}
    for name, actor in there.items():
        asked = time.time()
        clock = ray.get(actor.clock.remote(), timeout=hosts.ANSWER_S)
        answered = time.time()
        off[name] = clock - (asked + answered) / 2
    far = [
        f"{name} by {seconds:+.1f} s"
        for name, seconds in off.items()
        if abs(seconds) > MOST_CLOCK_S
    ]
    if far:
        return Finding("clocks", f"differ: {', '.join(far)}", "run chrony or another NTP client")
    most = max((abs(seconds) for seconds in off.values()), default=0.0)
    return Finding("clocks", f"differ by at most {most:.2f} s")


def _ports(there: Mapping[str, Any], nodes: list[dict[str, Any]]) -> Finding:
    addresses = {hosts.name_of(node): node["NodeManagerAddress"] for node in nodes}
    ports = {name: ray.get(actor.listen.remote()) for name, actor in there.items()}
    asked = {
        (a, b): there[a].reach.remote(addresses[b], ports[b])
        for a in there
        for b in there
        if a != b or len(there) == 1
    }
    blocked = [
        f"{a} cannot connect to {b} ({why})"
        for (a, b), reference in asked.items()
        if (why := ray.get(reference, timeout=hosts.ANSWER_S))
    ]
    if blocked:
        remedy = "open all ports between the hosts: Ray, gloo and NCCL choose them freely"
        return Finding("ports", "; ".join(blocked), remedy)
    return Finding("ports", "every host reaches every other on a free port")


def _room(place: PlaceConfig) -> Finding:
    decided, _ = placed(place, ALL, sum(host["GPU"] for host in capacity.hosts()))
    asked = f"a study with these settings needs {shown(needs(decided, ALL))}"
    try:
        check_resources(decided, ALL, capacity.hosts(), "the cluster")
    except UserError as error:
        if capacity.autoscales():
            return Finding("room", f"{asked}, for which the autoscaler must add hosts")
        return Finding("room", str(error), "or add hosts")
    return Finding("room", f"{asked}; the cluster has {capacity.total()}")


def _samplers() -> Finding:
    from ray import serve

    from forkdiv.sample.deployment import PREFIX
    from forkdiv.sample.drivers import running_drivers

    running = running_drivers()
    names = [name for name in serve.status().applications if name.startswith(PREFIX)]
    left = [name for name in names if name.split("-")[2] not in running]
    if left:
        remedy = "the next study deletes them; or delete them with `serve shutdown`"
        return Finding("samplers", f"left by drivers that are gone: {', '.join(left)}", remedy)
    return Finding("samplers", f"{len(names)}, each of a running study" if names else "none")
