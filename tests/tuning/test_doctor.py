"""Each check of a cluster is one line, and names the host and what to do if something is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forkdiv.core.config.study import PlaceConfig
from tuning import doctor
from tuning.doctor import Finding
from tuning.examiner import Facts
from tuning.gcs import Versions
from tuning.hosts import own_versions

NODES: list[dict[str, Any]] = [
    {
        "NodeID": f"n{i}",
        "NodeManagerHostname": f"h{i}",
        "NodeManagerAddress": f"10.0.0.{i}",
        "Resources": {"CPU": 2.0, "GPU": 1.0},
    }
    for i in (1, 2)
]
WELL = Facts(
    versions={"python": Versions.here().python, **own_versions()},
    clock=0.0,
    gpus=1,
    driver="580.10",
    shm=8.0,
    disk=0.5,
    files=65536,
    storage=None,
    storage_free=50_000.0,
)
CHECKS = {
    "versions": doctor._versions,
    "storage": doctor._storage,
    "GPUs": doctor._gpus,
    "/dev/shm": doctor._shm,
    "temporary files": doctor._disks,
    "open files": doctor._files,
}


def finding(name: str, other: Facts, **place: Any) -> Finding:
    """What the check says of two hosts, of which the second has the facts `other`."""
    facts = {"h1 (10.0.0.1)": WELL, "h2 (10.0.0.2)": other}
    (found,) = CHECKS[name](facts, PlaceConfig(**place), NODES)
    return found


@pytest.mark.parametrize("name", CHECKS)
def test_hosts_that_are_well_have_one_line_without_a_remedy(name: str) -> None:
    found = finding(name, WELL)
    assert found.is_well and found.name == name
    assert str(found).startswith(f"ok      {name}: ")


@pytest.mark.parametrize(
    ("name", "change", "shown"),
    [
        ("versions", {"versions": {**WELL.versions, "torch": "1.0"}}, "has torch 1.0"),
        ("versions", {"versions": {**WELL.versions, "forkdiv": "old"}}, "has forkdiv old"),
        ("versions", {"versions": {**WELL.versions, "python": "3.10.1"}}, "has python 3.10.1"),
        ("storage", {"storage": "/runs does not exist on this host"}, "/runs does not exist"),
        ("storage", {"storage_free": 100.0}, "100 MiB left"),
        ("GPUs", {"gpus": 8}, "has 8 GPUs and gives Ray 1"),
        ("GPUs", {"driver": "570.1"}, "drivers differ: 570.1, 580.10"),
        ("/dev/shm", {"shm": 0.0625}, "has 0.062 GiB"),
        ("temporary files", {"disk": 0.97}, "is 97% full"),
        ("open files", {"files": 1024}, "1024"),
    ],
)
def test_what_is_wrong_with_one_host_is_named(
    name: str, change: dict[str, Any], shown: str
) -> None:
    found = finding(name, replace(WELL, **change))
    assert not found.is_well and found.remedy
    line = str(found)
    assert line.startswith(f"WRONG   {name}: ") and shown in line and "\n" not in line
    if name not in ("GPUs",) and "storage_free" not in change:
        assert "h2 (10.0.0.2)" in line and "h1 (10.0.0.1)" not in line


def test_a_cluster_without_gpus_is_wrong_only_for_a_study_that_needs_them() -> None:
    nodes = [{**node, "Resources": {"CPU": 2.0}} for node in NODES]
    facts = {"h1 (10.0.0.1)": replace(WELL, gpus=0, driver="")}
    assert next(doctor._gpus(facts, PlaceConfig(), nodes)).found == "none"
    assert not next(doctor._gpus(facts, PlaceConfig(device="gpu"), nodes)).is_well


def test_a_cluster_that_requires_no_token_is_wrong() -> None:
    assert doctor._token(required=True).is_well
    assert "RAY_AUTH_MODE=token" in doctor._token(required=False).remedy
