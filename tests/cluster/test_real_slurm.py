"""The Slurm script on a real Slurm: a controller and two nodes, on hosts of the lab.

Left out where the lab cannot run, or where Debian's slurmctld, slurmd, slurm-client and munge are
not installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.cluster import lab
from tests.cluster.test_slurm import NODES

PATH = f"/usr/sbin:{os.environ['PATH']}"
ABSENT = [
    name
    for name in ("slurmctld", "slurmd", "sbatch", "munged")
    if shutil.which(name, path=PATH) is None
]
MISSING = lab.missing() or (ABSENT and f"not installed: {', '.join(ABSENT)}")
pytestmark = [pytest.mark.soak, pytest.mark.skipif(bool(MISSING), reason=str(MISSING))]

CONFIG = f"""
ClusterName=lab
SlurmctldHost=h1({lab.ADDRESSES["h1"]})
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/linear
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
MpiDefault=none
KillWait=20
NodeName=h1 NodeAddr={lab.ADDRESSES["h1"]} CPUs=2
NodeName=h2 NodeAddr={lab.ADDRESSES["h2"]} CPUs=2
PartitionName=main Nodes=h1,h2 Default=YES State=UP
"""
# slurmd asks for a folder of cgroups, although this configuration uses none
START = """
mkdir -p /run/munge /var/spool/slurmctld /var/spool/slurmd /etc/slurm &&
chown munge: /run/munge &&
mount -t tmpfs cgroup /sys/fs/cgroup && echo CgroupPlugin=cgroup/v1 > /etc/slurm/cgroup.conf &&
cp /shared/slurm.conf /etc/slurm/ &&
setpriv --reuid=munge --regid=munge --clear-groups munged --force
"""


class Cluster:
    def __init__(self, hosts: lab.Lab) -> None:
        self.hosts = hosts

    def run(self, host: str, script: str) -> str:
        done = subprocess.run(
            self.hosts.enter(host, "bash", "-c", script),
            env={"PATH": PATH, "HOME": "/home/ubuntu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{script}: {done.stdout}"
        return done.stdout

    def submit(self, *command: str) -> str:
        """The number of the job, which runs as `ubuntu`."""
        user = ["setpriv", "--reuid=ubuntu", "--regid=ubuntu", "--clear-groups"]
        environment = f"FORKDIV_ENV={lab.ROOT}/.venv"
        (self.hosts.shared / "job.sh").write_text(
            f"cd /shared && sbatch --parsable slurm.sh {' '.join(command)}\n"
        )
        run_it = f"{' '.join(user)} env {environment} bash /shared/job.sh"
        return self.run("h1", run_it).strip()

    def log(self, job: str) -> str:
        path = self.hosts.shared / f"forkdiv-{job}.log"
        return path.read_text() if path.exists() else ""

    def ended(self, job: str) -> str:
        """The job's state and status, once it has ended."""
        wait(lambda: job not in self.run("h1", "squeue --noheader --format %i"), job)
        shown = self.run("h1", f"scontrol show job {job}").split()
        state, status = (
            next(word for word in shown if word.startswith(key)) for key in ("JobState", "ExitCode")
        )
        return f"{state} {status}"

    def nothing_runs(self) -> bool:
        return not any(self.hosts.ray_processes(host) for host in ("h1", "h2"))


def wait(ready: Callable[[], bool], what: str, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"{what}: not after {seconds:g} s"
        time.sleep(1)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with lab.running(tmp_path_factory.mktemp("lab")) as hosts:
        (hosts.shared / "slurm.conf").write_text(CONFIG)
        (hosts.shared / "nodes.py").write_text(NODES)
        shutil.copy2(lab.ROOT / "cluster" / "slurm.sh", hosts.shared)
        cluster = Cluster(hosts)
        for host in ("h1", "h2"):
            cluster.run(host, START)
        # in the foreground of a shell that goes away: their own daemons write to syslog
        cluster.run("h1", "slurmctld -D > /tmp/slurmctld.log 2>&1 &")
        for host in ("h1", "h2"):
            cluster.run(host, f"slurmd -D -N {host} > /tmp/slurmd.log 2>&1 &")
        wait(lambda: cluster.run("h1", "sinfo --noheader --format '%D %t'") == "2 idle\n", "slurm")
        yield cluster


def test_the_jobs_status_is_that_of_the_command(slurm: Cluster) -> None:
    job = slurm.submit("python", "/shared/nodes.py")
    assert slurm.ended(job) == "JobState=FAILED ExitCode=7:0", slurm.log(job)
    assert "2 nodes joined Ray at 10.99.0.1:" in slurm.log(job)
    assert "nodes 2 CPUs 4\nran on 2 nodes\n" in slurm.log(job)
    assert slurm.nothing_runs()


def test_a_job_that_succeeds_leaves_no_files(slurm: Cluster) -> None:
    job = slurm.submit("ray", "status")
    assert slurm.ended(job) == "JobState=COMPLETED ExitCode=0:0", slurm.log(job)
    assert slurm.nothing_runs()
    for host in ("h1", "h2"):
        assert f"ray-{job}" not in slurm.run(host, "ls /tmp").split()


def test_a_cancelled_job_leaves_no_process(slurm: Cluster) -> None:
    job = slurm.submit("bash", "-c", "'echo begun; sleep 600'")
    wait(lambda: "begun\n" in slurm.log(job), job)
    assert not slurm.nothing_runs()
    slurm.run("h1", f"scancel {job}")
    assert slurm.ended(job).startswith("JobState=CANCELLED")
    wait(slurm.nothing_runs, "the end of Ray", 60)
