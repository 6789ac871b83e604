"""`ray up` by the book on three hosts with ssh: a study there, and what `ray down` ends.

Left out where namespaces are not allowed or programs are missing; `make soak-cluster` says which.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import stack
from tests.cluster import lab

MISSING = lab.missing()
pytestmark = [pytest.mark.soak, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]
CONFIG = lab.ROOT / "cluster" / "ray-up-cpu.yaml"
HEAD, *WORKERS = lab.ADDRESSES
STUDY = [setting for setting in stack.MICRO if not setting.startswith(("base=", "place."))]
STUDY += ["base=graph-d3-l3", "sweep.fork_density=[1.0]", "sweep.temperature=[1.0]"]


def with_addresses(text: str) -> str:
    """The file as its user would change it: the hosts' addresses and nothing else."""
    found = re.findall(r"192\.0\.2\.\d+", text)
    assert len(found) == len(set(found)) == len(lab.ADDRESSES)
    for example, address in zip(found, lab.ADDRESSES.values(), strict=True):
        text = text.replace(example, address)
    return text


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[lab.Lab]:
    with lab.running(tmp_path) as running:
        (running.shared / "up.yaml").write_text(with_addresses(CONFIG.read_text()))
        up = running.client("ray get-auth-token --generate && ray up --yes /shared/up.yaml")
        assert up.returncode == 0, up.stdout
        yield running


def wait_for_workers(hosts: lab.Lab, seconds: float = 180) -> float:
    """The seconds until all hosts have a raylet."""
    started = time.monotonic()
    while not all(raylets(hosts, name) for name in lab.ADDRESSES):
        waited = time.monotonic() - started
        assert waited < seconds, {name: hosts.ray_processes(name) for name in lab.ADDRESSES}
        time.sleep(1)
    return time.monotonic() - started


def raylets(hosts: lab.Lab, name: str) -> list[str]:
    return [line for line in hosts.ray_processes(name) if "/raylet/raylet" in line]


def cells(summary: Path) -> list[dict[str, Any]]:
    read = json.loads(summary.read_text())
    found: list[dict[str, Any]] = [*read["base"], *read["cells"]]
    return found


def differences(there: Any, alone: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The places in which two results differ, with both values, by more than the rounding of sums:
    the number of threads decides their order."""
    if isinstance(there, dict) and isinstance(alone, dict) and there.keys() == alone.keys():
        for key in there:
            yield from differences(there[key], alone[key], f"{where}.{key}")
    elif isinstance(there, list) and isinstance(alone, list) and len(there) == len(alone):
        for i, pair in enumerate(zip(there, alone, strict=True)):
            yield from differences(*pair, f"{where}[{i}]")
    elif isinstance(there, float) and isinstance(alone, float):
        if not math.isclose(there, alone, rel_tol=1e-6, abs_tol=1e-9):
            yield where, there, alone
    elif there != alone:
        yield where, there, alone


def test_a_study_on_three_hosts_has_the_cells_of_one_machine(
    hosts: lab.Lab, tmp_path: Path
) -> None:
    print(f"workers up after {wait_for_workers(hosts):.0f} s")
    settings = " ".join(f"'{setting}'" for setting in (*STUDY, "place.root=/shared/runs"))
    started = time.monotonic()
    job = hosts.client(
        "(ray dashboard /shared/up.yaml > /dev/null 2>&1 &) && "
        "until curl --silent --output /dev/null http://127.0.0.1:8265; do sleep 1; done && "
        "ray job submit --address http://127.0.0.1:8265 --working-dir . "
        f"--entrypoint-num-cpus 1 -- python -m jobs.study {settings}",
        timeout=900,
    )
    assert job.returncode == 0, job.stdout[-20_000:]
    print(f"study on three hosts: {time.monotonic() - started:.0f} s")

    stack.run("study", tmp_path / "alone", *STUDY, timeout=900)
    there = cells(hosts.shared / "runs" / "micro" / "summary.json")
    alone = cells(tmp_path / "alone" / "micro" / "summary.json")
    assert list(differences(there, alone)) == []

    down = hosts.client("ray down --yes /shared/up.yaml")
    assert down.returncode == 0, down.stdout
    assert "command not found" not in down.stdout
    assert hosts.ray_processes(HEAD) == []
    for name in WORKERS:  # they end when the head has been gone for a while
        wait_until_gone(hosts, name)


def wait_until_gone(hosts: lab.Lab, name: str, seconds: float = 150) -> None:
    started = time.monotonic()
    while left := hosts.ray_processes(name):
        assert time.monotonic() - started < seconds, left
        time.sleep(1)
    print(f"{name}: Ray ended {time.monotonic() - started:.0f} s after `ray down`")


def test_the_documented_ssh_command_ends_a_worker_at_once(hosts: lab.Lab) -> None:
    wait_for_workers(hosts)
    (name, *_) = WORKERS
    page = (lab.ROOT / "docs" / "clusters.md").read_text()
    (command, *_) = re.findall(r"^ssh ubuntu@\S+ (.*)$", page, re.MULTILINE)
    # as the page says: ray-up-cpu.yaml has its environment elsewhere
    command = command.replace(".venv-forkdiv/bin/ray", "forkdiv/.venv/bin/ray")
    down = hosts.client("ray down --yes /shared/up.yaml")  # else the autoscaler starts it again
    assert down.returncode == 0, down.stdout
    options = "-q -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    stopped = hosts.client(f"ssh {options} ubuntu@{lab.ADDRESSES[name]} {command}")
    assert stopped.returncode == 0, stopped.stdout
    assert hosts.ray_processes(name) == []
