"""The Slurm script, with a stand-in for srun and scontrol that runs all nodes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.stack import clean_environment

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "cluster" / "slurm.sh"
JOB = 4321

# As Slurm does it: one task on each node of the step, and all processes of the step end with it.
SRUN = f"""#!{sys.executable}
import argparse, ctypes, os, signal, subprocess, sys, time
import psutil

parser = argparse.ArgumentParser(allow_abbrev=False)
for option in ("--nodes", "--ntasks", "--ntasks-per-node", "--nodelist", "--exclude"):
    parser.add_argument(option)
parser.add_argument("command", nargs=argparse.REMAINDER)
step = parser.parse_args()
nodes = os.environ["SLURM_JOB_NODELIST"].split(",")
if step.nodelist:
    nodes = step.nodelist.split(",")
nodes = [node for node in nodes if node not in (step.exclude or "").split(",")]
assert len(nodes) == int(step.nodes) == int(step.ntasks), (nodes, step)
with open(os.environ["STANDIN_LOG"], "a") as log:
    print(nodes, step.command, file=log)
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
tasks = [
    subprocess.Popen(
        step.command, env={{**os.environ, "SLURMD_NODENAME": node, "SLURM_CPUS_ON_NODE": "1"}}
    )
    for node in nodes
]
try:
    sys.exit(max(task.wait() for task in tasks))
finally:
    for task in tasks:
        task.terminate()
    _, alive = psutil.wait_procs(psutil.Process().children(recursive=True), timeout=20)
    for process in alive:
        process.kill()
"""
SCONTROL = """#!/bin/sh
[ "$1 $2" = "show hostnames" ] && echo "$3" | tr , '\\n'
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a batch script on the first of two nodes."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return clean_environment() | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "SLURM_JOB_ID": str(JOB),
        "SLURM_JOB_NODELIST": "n1,n2",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "FORKDIV_ENV": str(Path(sys.executable).parents[1]),
        "FORKDIV_INTERFACE": "lo",
        "STANDIN_LOG": str(tmp_path / "steps"),
    }


def run(slurm: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *command],
        env=slurm,
        cwd=slurm["SLURM_SUBMIT_DIR"],
        capture_output=True,
        text=True,
        timeout=300,
    )


def left_behind() -> list[str]:
    """Command lines of processes that belong to the Ray of the job."""
    lines = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if f"/tmp/ray-{JOB}" in line:
            lines.append(line)
    return lines


def test_it_is_a_batch_script_that_ends_in_time() -> None:
    text = SCRIPT.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "#SBATCH --signal=B:TERM@" in text
    assert "ray stop" not in text.replace("`ray stop`", "")
    subprocess.run(["bash", "-n", SCRIPT], check=True)


@pytest.mark.parametrize(
    ("changed", "command", "message"),
    [
        ({}, (), "no command"),
        ({"SLURM_JOB_ID": ""}, ("true",), "not in a Slurm job"),
        ({"FORKDIV_ENV": "/nowhere"}, ("true",), "no environment in /nowhere; run `make setup`"),
    ],
)
def test_what_is_missing_is_refused_in_one_line(
    slurm: dict[str, str], changed: dict[str, str], command: tuple[str, ...], message: str
) -> None:
    done = run(slurm | changed, *command)
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.splitlines()) == 1


NODES = """
import os, time, ray
ray.init(logging_level="ERROR")
assert len(os.environ["RAY_AUTH_TOKEN"]) == 64

def where():
    time.sleep(2)
    return ray.get_runtime_context().get_node_id()

cpus = int(ray.cluster_resources()["CPU"])
print("nodes", len(ray.nodes()), "CPUs", cpus)
print("ran on", len(set(ray.get([ray.remote(where).remote() for _ in range(2 * cpus)]))), "nodes")
raise SystemExit(7)
"""


@pytest.mark.stack
def test_the_command_runs_on_all_nodes_and_nothing_is_left(slurm: dict[str, str]) -> None:
    done = run(slurm, "python", "-c", NODES)
    shown = f"{done.stdout}\n{done.stderr}"
    assert "nodes 2 CPUs 2\nran on 2 nodes\n" in done.stdout, shown
    assert "2 nodes joined Ray at 127.0.0.1:" in done.stdout, shown
    assert done.returncode == 7, shown
    assert "status 7; Ray's logs are in" in done.stderr
    assert left_behind() == []
    subprocess.run(["rm", "-rf", f"/tmp/ray-{JOB}"], check=True)


@pytest.mark.stack
def test_the_time_limit_ends_ray_and_the_command(slurm: dict[str, str]) -> None:
    done = subprocess.Popen(
        [SCRIPT, "bash", "-c", "echo started; exec sleep 600"],
        env=slurm,
        stdout=subprocess.PIPE,
        text=True,
        cwd=slurm["SLURM_SUBMIT_DIR"],
    )
    assert done.stdout is not None
    lines = iter(done.stdout.readline, "")
    assert any(line == "started\n" for line in lines)
    assert left_behind()
    asked = time.monotonic()
    done.send_signal(signal.SIGTERM)
    assert done.wait(60) == 143
    assert time.monotonic() - asked < 50  # the script asks for 60 s
    assert left_behind() == []
    subprocess.run(["rm", "-rf", f"/tmp/ray-{JOB}"], check=True)
