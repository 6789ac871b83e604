"""A job whose `python` is not that of Ray's environment goes on in that environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.stack import ROOT

BARE = Path(sys.base_prefix) / "bin" / "python3"  # without packages
PARENT = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1].split()))"


def run(*after: str, command: str = "-m jobs.study --help") -> subprocess.CompletedProcess[str]:
    """The command with the bare Python, as a child of a process with the arguments `after`."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(
        [sys.executable, "-c", PARENT, f"{BARE} {command}", *after],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_python_of_rays_workers_runs_the_job() -> None:
    done = run(f"--python_worker_command={sys.executable} setup_worker.py default_worker.py")
    assert done.returncode == 0, done.stderr
    assert "Run a whole study" in done.stdout


def test_arguments_reach_it_as_they_were_written() -> None:
    command = "-m jobs.study --config quickstart no.such=1"
    done = run(f"--python_worker_command={sys.executable} setup_worker.py", command=command)
    assert done.returncode == 2
    assert done.stderr.startswith("forkdiv: no: unknown key")


def test_without_ray_and_packages_one_line_says_what_is_missing() -> None:
    done = run()
    assert done.returncode == 1
    assert done.stderr.startswith("forkdiv: its packages are not installed for ")
    assert "make setup" in done.stderr and done.stderr.count("\n") == 1
