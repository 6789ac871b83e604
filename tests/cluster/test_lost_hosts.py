"""Hosts are lost while a study trains on them: it goes on, with the cells of one machine."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests import stack
from tests.cluster import lab, up
from tests.cluster.up import HEAD, STUDY, WORKERS, cells, differences

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


def driver_host(hosts: lab.Lab) -> str:
    """The host on which the driver of the study runs."""
    for name in lab.ADDRESSES:
        if any("-m jobs.study" in line for line in processes(hosts, name)):
            return name
    raise AssertionError("no driver")


def processes(hosts: lab.Lab, name: str) -> list[str]:
    listed = subprocess.run(
        hosts.enter(name, "ps", "-eo", "args"), check=True, capture_output=True, text=True
    )
    return listed.stdout.splitlines()


def samplers(hosts: lab.Lab) -> list[str]:
    """Command lines of the engines of samplers on all hosts."""
    return [
        line
        for name in lab.ADDRESSES
        for line in processes(hosts, name)
        if "ServeReplica" in line or "EngineCore" in line
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The cells of the same study on one machine."""
    root = tmp_path_factory.mktemp("alone")
    stack.run("study", root, *LONG, timeout=900)
    return cells(root / "long" / "summary.json")


def finished(hosts: lab.Lab, root: str, job: subprocess.Popen[str]) -> str:
    output, _ = job.communicate(timeout=600)
    print(output)
    assert job.returncode == 0
    return output


def there(hosts: lab.Lab, root: str) -> list[dict[str, Any]]:
    return cells(hosts.shared / root / "long" / "summary.json")


def forkdiv(hosts: lab.Lab, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of the client, whose token is in its home folder."""
    return hosts.client(f"env -u RAY_AUTH_MODE forkdiv {' '.join(words)} --address {up.DASHBOARD}")


def test_three_hosts_are_well_and_a_folder_that_they_do_not_share_is_named(
    hosts: lab.Lab,
) -> None:
    well = forkdiv(hosts, "doctor", "place.root=/shared/doctor")
    assert well.returncode == 0, well.stdout
    assert "ok      hosts: 2 with CPUs or GPUs: " in well.stdout
    assert "every host reaches every other" in well.stdout
    wrong = forkdiv(hosts, "doctor", "place.root=/home/ubuntu/doctor")
    assert wrong.returncode == 1, wrong.stdout
    assert "WRONG   storage: h" in wrong.stdout


def test_a_study_whose_hosts_share_no_folder_is_refused_before_work(hosts: lab.Lab) -> None:
    refused = forkdiv(hosts, "submit", "quickstart", *LONG, "place.root=/home/ubuntu/alone")
    assert refused.returncode == 2, refused.stdout
    assert "of the cluster does not share place.root: got /home/ubuntu/alone" in refused.stdout
    assert "sampling" not in refused.stdout


def test_a_training_goes_on_after_each_of_its_hosts_is_lost(
    hosts: lab.Lab, alone: list[dict[str, Any]]
) -> None:
    begun = time.monotonic()
    job = up.submit(hosts, *LONG, "place.root=/shared/lost", cpus=0)  # the driver is on the head
    for step in (20, 60):
        wait_for_step(hosts, job, step, "lost")
        name = training_host(hosts)
        assert name is not None
        lose(hosts, name)
        print(f"{name} lost after {time.monotonic() - begun:.0f} s")
    output = finished(hosts, "lost", job)
    print(f"study with two lost hosts: {time.monotonic() - begun:.0f} s")
    assert output.count("is lost (") == 2
    assert "Traceback" not in output
    assert list(differences(there(hosts, "lost"), alone)) == []


def test_ranks_of_one_training_on_two_hosts_give_the_cells_of_one_machine(
    hosts: lab.Lab, alone: list[dict[str, Any]]
) -> None:
    up.wait_for_workers(hosts)
    spread = ["place.root=/shared/ranks", "place.cpus_per_worker=1.5"]  # hosts have two CPUs
    job = up.submit(hosts, *LONG, *spread, cpus=0)
    wait_for_step(hosts, job, 2, "ranks")
    for name in WORKERS:
        assert any("RayTrainWorker" in line for line in processes(hosts, name)), name
    finished(hosts, "ranks", job)
    assert list(differences(there(hosts, "ranks"), alone)) == []


def test_a_study_goes_on_when_it_is_submitted_again_after_its_driver_and_the_head_were_lost(
    hosts: lab.Lab, alone: list[dict[str, Any]]
) -> None:
    up.wait_for_workers(hosts)
    again = [*LONG, "place.root=/shared/again"]
    job = up.submit(hosts, *again)
    wait_for_step(hosts, job, 20, "again")
    lose(hosts, driver_host(hosts))
    job.communicate(timeout=120)
    assert job.returncode != 0
    begun = time.monotonic()
    while left := samplers(hosts):  # the one of the killed driver
        assert time.monotonic() - begun < 120, left
        time.sleep(1)
    print(f"no sampler {time.monotonic() - begun:.0f} s after the driver's host was lost")

    up.wait_for_workers(hosts)
    job = up.submit(hosts, *again)
    wait_for_step(hosts, job, 50, "again")
    lose(hosts, HEAD)
    job.communicate(timeout=300)
    assert job.returncode != 0

    up.start(hosts)
    up.wait_for_workers(hosts)
    up.open_dashboard(hosts)
    finished(hosts, "again", up.submit(hosts, *again))
    assert list(differences(there(hosts, "again"), alone)) == []
