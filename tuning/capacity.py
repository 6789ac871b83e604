"""Whether a joined cluster has room for a command: counted before work starts, waited for where an
autoscaler adds hosts, refused otherwise."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable

import ray
from ray.autoscaler.sdk import request_resources
from ray.experimental import internal_kv

from forkdiv.core.config.study import PlaceConfig
from forkdiv.core.errors import InvalidResult, UserError
from forkdiv.core.progress import duration
from tuning.resources import KINDS, Bundle, Work, bundles, check_resources, needs, shown, unplaced

POLL_S = 2.0
SHOW_S = 60.0  # between two lines about a wait
JOB_INFO = "_ray_internal_job_info_{}"  # where Ray notes what a submitted job reserves
NO_AUTOSCALER = re.compile(r"node_[0-9a-f]{40,}")  # the type of a host that no autoscaler started


def wait_for_room(place: PlaceConfig, work: Work, show: Callable[[str], None]) -> None:
    """Returns when the cluster's hosts have room for all that the command reserves; shows what an
    autoscaler is waited for.

    Raises UserError if there is no autoscaler, and InvalidResult after
    place.worker_start_timeout_s.
    """
    if not unplaced(bundles(place, work), hosts()):
        return
    if not autoscales():
        check_resources(place, work, hosts(), "the cluster", _note())
        return
    request_resources(bundles=[dict(bundle) for bundle in bundles(place, work)])
    started = line_at = time.monotonic()
    try:
        while unplaced(bundles(place, work), hosts()):
            now = time.monotonic()
            if now - started > place.worker_start_timeout_s:
                raise InvalidResult(_never_came(place, work, now - started))
            if now >= line_at:
                show(f"waiting for the cluster's autoscaler: {_asked(place, work)}")
                line_at += SHOW_S
            time.sleep(POLL_S)
    finally:
        request_resources(bundles=[])
    waited = duration(time.monotonic() - started)
    show(f"the autoscaler has added hosts: {total()} after {waited}")


def hosts() -> list[Bundle]:
    """Returns the CPUs and GPUs of each host of the cluster, without what Ray reserves for this
    command itself (--entrypoint-num-cpus): it is not free before the command ends."""
    reserved = _reserved()
    driver = ray.get_runtime_context().get_node_id()
    free: list[Bundle] = []
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        has = {kind: float(node["Resources"].get(kind, 0.0)) for kind in KINDS}
        if node["NodeID"] == driver:
            has = {kind: has[kind] - reserved[kind] for kind in KINDS}
        free.append(has)
    return free


def autoscales() -> bool:
    """Returns whether an autoscaler can add hosts. Without one, the head's monitor lists every host
    as a type of its own."""
    if status := internal_kv._internal_kv_get("__autoscaling_status"):
        types = json.loads(status).get("autoscaler_report", {}).get("active_nodes", {})
    else:  # version 2 of the autoscaler, as with KubeRay
        from ray.autoscaler.v2.sdk import get_cluster_status

        listed = get_cluster_status(ray.get_runtime_context().gcs_address)
        types = {node.ray_node_type_name for node in (*listed.active_nodes, *listed.idle_nodes)}
    return not (types and all(NO_AUTOSCALER.fullmatch(name) for name in types))


def _reserved() -> dict[str, float]:
    """Returns what Ray reserves for the submitted job that this process is; zeros if it is none."""
    none = dict.fromkeys(KINDS, 0.0)
    config = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    job = config.get("metadata", {}).get("job_submission_id")
    if job is None:
        return none
    noted = internal_kv._internal_kv_get(JOB_INFO.format(job), namespace="job")
    info = json.loads(noted) if noted else {}
    return none | {kind: float(info.get(f"entrypoint_num_{kind.lower()}s") or 0) for kind in KINDS}


def _note() -> str:
    reserved = _reserved()
    if not any(reserved.values()):
        return ""
    return (
        f" beside the {shown(reserved)} that this job reserves for itself (--entrypoint-num-cpus)"
    )


def total() -> str:
    """Returns the CPUs and GPUs of all hosts together, as text."""
    there = hosts()
    return shown({kind: sum(host[kind] for host in there) for kind in KINDS})


def _asked(place: PlaceConfig, work: Work) -> str:
    return f"{shown(needs(place, work))} are needed, {len(hosts())} hosts have {total()}"


def _never_came(place: PlaceConfig, work: Work, waited: float) -> str:
    try:
        check_resources(place, work, hosts(), "the cluster", _note())
    except UserError as error:
        return (
            f"{error}; the autoscaler added nothing that suffices within {duration(waited)}: "
            "check its limits (max_workers, maxReplicas), or raise place.worker_start_timeout_s"
        )
    return "the autoscaler added hosts at the last moment; run the same command again"
