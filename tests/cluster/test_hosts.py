"""`ray up` by the book on three hosts with ssh: a study there, and what `ray down` ends.

Left out where namespaces are not allowed or programs are missing; `make soak-cluster` says which.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import stack
from tests.cluster import lab, up
from tests.cluster.up import HEAD, STUDY, WORKERS, cells, differences, wait_for_workers

MISSING = lab.missing()
pytestmark = [pytest.mark.soak, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[lab.Lab]:
    with up.started(tmp_path) as running:
        yield running


def test_a_study_on_three_hosts_has_the_cells_of_one_machine(
    hosts: lab.Lab, tmp_path: Path
) -> None:
    print(f"workers up after {wait_for_workers(hosts):.0f} s")
    settings = " ".join(f"'{setting}'" for setting in (*STUDY, "place.root=/shared/runs"))
    started = time.monotonic()
    up.open_dashboard(hosts)
    job = hosts.client(
        "ray job submit --address http://127.0.0.1:8265 --working-dir . "
        f"--entrypoint-num-cpus 0.1 -- python -m jobs.study {settings}",
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
