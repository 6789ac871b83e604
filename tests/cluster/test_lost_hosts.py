"""Hosts are lost while a study trains on them: it goes on, with the cells of one machine."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import stack
from tests.cluster import lab, up
from tests.cluster.up import STUDY, WORKERS, cells, differences

MISSING = lab.missing()
pytestmark = [pytest.mark.soak, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]
# long enough that both hosts can be lost in the middle of the training
LONG = [setting for setting in STUDY if not setting.startswith(("sft.", "name="))]
LONG += ["name=long", "sft.epochs=40", "place.resume_every=5"]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    with up.started(tmp_path_factory.mktemp("lab")) as running:
        up.wait_for_workers(running)
        up.open_dashboard(running)
        yield running


def training_host(hosts: lab.Lab) -> str | None:
    """A host on which a worker of a training runs."""
    for name in WORKERS:
        if any("RayTrainWorker" in line for line in hosts.ray_processes(name)):
            return name
    return None


def wait_for_step(hosts: lab.Lab, job: subprocess.Popen[str], least: int, name: str) -> int:
    """The last step of the training that is logged, once it is at least `least`."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert job.poll() is None, job.communicate()[0]
        logs = list((hosts.shared / name).glob("store/**/log.jsonl"))
        last = max((len(log.read_text().splitlines()) for log in logs), default=0)
        if last >= least:
            return last
        time.sleep(0.2)
    raise AssertionError(f"no step {least}: {list((hosts.shared / name).rglob('*'))[:50]}")


def lose(hosts: lab.Lab, name: str) -> None:
    """Kills every process of Ray on the host at once, as a power failure would."""
    marks = ("raylet", "ray::", "/ray/", "jobs.study")
    listed = subprocess.run(
        hosts.enter(name, "ps", "-eo", "pid,args"), check=True, capture_output=True, text=True
    )
    pids = [
        line.split()[0]
        for line in listed.stdout.splitlines()
        if any(mark in line for mark in marks)
    ]
    # one of them may have ended with another one
    subprocess.run(hosts.enter(name, "kill", "-KILL", *pids), capture_output=True)


def test_a_training_goes_on_after_each_of_its_hosts_is_lost(hosts: lab.Lab, tmp_path: Path) -> None:
    begun = time.monotonic()
    job = up.submit(hosts, *LONG, "place.root=/shared/lost", cpus=0)  # the driver is on the head
    lost = []
    for step in (20, 60):
        wait_for_step(hosts, job, step, "lost")
        name = training_host(hosts)
        assert name is not None
        lose(hosts, name)
        lost.append((name, time.monotonic() - begun))
    output, _ = job.communicate(timeout=500)
    print(lost, f"study with two lost hosts: {time.monotonic() - begun:.0f} s", output)
    assert job.returncode == 0
    assert output.count("is lost (") == 2
    assert "Traceback" not in output
    stack.run("study", tmp_path / "alone", *LONG, timeout=900)
    there = cells(hosts.shared / "lost" / "long" / "summary.json")
    assert list(differences(there, cells(tmp_path / "alone" / "long" / "summary.json"))) == []
