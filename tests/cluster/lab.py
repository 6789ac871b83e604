"""Three hosts with ssh and a client, in namespaces of this machine.

Each host has its own network, processes, name, /tmp, /dev/shm and copy-on-write files; all see one
folder at /shared. A bridge inside the client's network namespace joins them, so that nothing of
this machine's own network changes. Everything ends with the block.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ADDRESSES = {"h1": "10.99.0.1", "h2": "10.99.0.2", "h3": "10.99.0.3"}
CLIENT_ADDRESS = "10.99.0.254"
HOST = Path(__file__).with_name("host.sh")
PROGRAMS = ("ip", "unshare", "nsenter", "setpriv", "rsync", "ssh", "ssh-keygen")
UNSHARE = ("unshare", "-m", "-p", "-u", "-i", "--fork", "--mount-proc")
ALL_OF_IT = ("-m", "-n", "-p", "-u", "-i", "-r", "-w")  # its namespaces, root and folder
SSHD = Path("/usr/sbin/sshd")


def missing() -> str | None:
    """Why the lab cannot run here; None if it can."""
    if os.geteuid() != 0:
        return "the lab needs root, to make namespaces"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    absent += [] if SSHD.exists() else ["sshd"]
    if absent:
        packages = "apt-get install openssh-server rsync iproute2"
        return f"not installed: {', '.join(absent)} (Debian: {packages})"
    tried = subprocess.run(
        [*UNSHARE, "-n", "true"],
        capture_output=True,
        text=True,
    )
    return f"namespaces are not allowed here: {tried.stderr.strip()}" if tried.returncode else None


@dataclass(frozen=True)
class Lab:
    shared: Path  # the folder that the hosts see as /shared
    pids: dict[str, int]  # the first process of each host and of the client

    def enter(self, host: str, *command: str) -> list[str]:
        """The command line that runs `command` on a host as root, in its root folder."""
        return ["nsenter", "-t", str(self.pids[host]), *ALL_OF_IT, *command]

    def client(self, script: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Runs a bash script on the client, in the repository, with the environment on PATH."""
        return subprocess.run(
            self.enter("client", "bash", "-c", f"cd {ROOT} && {script}"),
            env=client_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    def ray_processes(self, host: str) -> list[str]:
        """Command lines of Ray's processes on a host."""
        listed = subprocess.run(
            self.enter(host, "ps", "-eo", "args"),
            check=True,
            capture_output=True,
            text=True,
        )
        marks = ("raylet", "gcs_server", "dashboard.py", "monitor.py", "ray::")
        return [line for line in listed.stdout.splitlines() if any(mark in line for mark in marks)]


def client_environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    path = f"{Path(sys.executable).parent}:/usr/sbin:{kept.get('PATH', '')}"
    return {**kept, "HOME": "/root", "USER": "root", "PATH": path, "RAY_AUTH_MODE": "token"}


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@contextmanager
def running(folder: Path) -> Iterator[Lab]:
    """The lab, with its keys and the shared folder in `folder`."""
    shared, keys = folder / "shared", folder / "keys"
    for path in (shared, keys):
        path.mkdir(mode=0o700)
    shared.chmod(0o777)
    names = {"localhost": "127.0.0.1", "client": CLIENT_ADDRESS, **ADDRESSES}
    (keys / "hosts").write_text("".join(f"{at} {name}\n" for name, at in names.items()))
    for name in ("login", "host"):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)]
        subprocess.run(make, check=True)
    with ExitStack() as stack:
        spaces = {name: f"forkdiv-{os.getpid()}-{name}" for name in ("client", *ADDRESSES)}
        for space in spaces.values():
            ip("netns", "add", space)
            stack.callback(ip, "netns", "delete", space)
        _join(spaces)
        pids = {
            name: stack.enter_context(_host(name, space, shared, keys))
            for name, space in spaces.items()
        }
        lab = Lab(shared, pids)
        _wait_for_ssh(lab)
        yield lab


def _join(spaces: dict[str, str]) -> None:
    client = spaces["client"]
    ip("-n", client, "link", "add", "bridge", "type", "bridge")
    ip("-n", client, "address", "add", f"{CLIENT_ADDRESS}/24", "dev", "bridge")
    ip("-n", client, "link", "set", "bridge", "up")
    for name, address in ADDRESSES.items():
        space = spaces[name]
        ip(
            *("-n", client, "link", "add", name, "type", "veth"),
            *("peer", "name", "eth0", "netns", space),
        )
        ip("-n", client, "link", "set", name, "master", "bridge", "up")
        ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
        ip("-n", space, "link", "set", "eth0", "up")
        # to nowhere; Ray takes the address of the interface with the default route for its own
        ip("-n", space, "route", "add", "default", "via", CLIENT_ADDRESS)


@contextmanager
def _host(name: str, space: str, shared: Path, keys: Path) -> Iterator[int]:
    options = ["-e", "-D", "-f", "/dev/null", "-h", "/run/sshd/key", "-o", "StrictModes=no"]
    options += ["-o", "PasswordAuthentication=no", "-o", "MaxStartups=100"]
    install = f"install -m 600 /dev/stdin /run/sshd/key && exec {SSHD} {' '.join(options)}"
    program = ["bash", "-c", "sleep infinity" if name == "client" else install]
    with (keys / "host").open("rb") as key, (keys.parent / f"{name}.log").open("wb") as log:
        # so that a killed test leaves no host behind
        command = ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", space, *UNSHARE]
        command += ["--kill-child", str(HOST), name, str(shared), str(ROOT), sys.base_prefix]
        process = subprocess.Popen(
            [*command, str(keys), *program],
            stdin=key,
            stdout=log,
            stderr=log,
        )
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not (child := children.read_text().strip()):
            assert process.poll() is None, (keys.parent / f"{name}.log").read_text()
            time.sleep(0.05)
        yield int(child)
    finally:
        process.kill()
        process.wait()


def _wait_for_ssh(lab: Lab) -> None:
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=2"
    for address in ADDRESSES.values():
        deadline = time.monotonic() + 60
        while (done := lab.client(f"ssh -q {options} ubuntu@{address} true")).returncode:
            assert time.monotonic() < deadline, f"{address} does not answer: {done.stdout}"
            time.sleep(0.5)
