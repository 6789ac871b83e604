"""`ray up` on the hosts of the lab, jobs there, and results compared with those of one machine."""

from __future__ import annotations

import json
import math
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import stack
from tests.cluster import lab

CONFIG = lab.ROOT / "cluster" / "ray-up-cpu.yaml"
HEAD, *WORKERS = lab.ADDRESSES
STUDY = [setting for setting in stack.MICRO if not setting.startswith(("base=", "place."))]
STUDY += ["base=graph-d3-l3", "sweep.fork_density=[1.0]", "sweep.temperature=[1.0]"]
DASHBOARD = "http://127.0.0.1:8265"


@contextmanager
def started(folder: Path) -> Iterator[lab.Lab]:
    """The lab after `ray up`."""
    with lab.running(folder) as running:
        (running.shared / "up.yaml").write_text(with_addresses(CONFIG.read_text()))
        made = running.client("ray get-auth-token --generate")
        assert made.returncode == 0, made.stdout
        start(running)
        yield running


def start(hosts: lab.Lab) -> None:
    """Starts the cluster, or starts it again."""
    done = hosts.client("ray up --yes /shared/up.yaml")
    assert done.returncode == 0, done.stdout


def open_dashboard(hosts: lab.Lab) -> None:
    """The tunnel of `ray dashboard` to the head, as its user would open it."""
    opened = hosts.client(
        "(ray dashboard /shared/up.yaml > /dev/null 2>&1 &) && "
        f"until curl --silent --output /dev/null {DASHBOARD}; do sleep 1; done"
    )
    assert opened.returncode == 0, opened.stdout


def with_addresses(text: str) -> str:
    """The file as its user would change it: the hosts' addresses and nothing else."""
    found = re.findall(r"192\.0\.2\.\d+", text)
    assert len(found) == len(set(found)) == len(lab.ADDRESSES)
    for example, address in zip(found, lab.ADDRESSES.values(), strict=True):
        text = text.replace(example, address)
    return text


def wait_for_workers(hosts: lab.Lab, seconds: float = 400) -> float:
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


def submit(hosts: lab.Lab, *settings: str, cpus: float = 0.1) -> subprocess.Popen[str]:
    """A study of these settings as a job; its output follows."""
    quoted = " ".join(f"'{setting}'" for setting in settings)
    script = (
        f"cd {lab.ROOT} && ray job submit --address {DASHBOARD} --working-dir . "
        f"--entrypoint-num-cpus {cpus} -- python -m jobs.study {quoted}"
    )
    return subprocess.Popen(
        hosts.enter("client", "bash", "-c", script),
        env=lab.client_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
