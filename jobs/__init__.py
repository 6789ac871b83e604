"""Entry points, one per command. `python -m jobs.VERB` is the same as `forkdiv VERB`.

A submitted job runs the `python` that is first on the PATH with which Ray was started. If that is
not the Python of Ray's own environment, the job goes on with the latter.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

OPTION = b"--python_worker_command="  # of a raylet: how it starts Ray's workers


def _go_on_in_environment() -> None:
    """Replaces this process by one of the Python that runs Ray's workers, if this Python has no
    packages; ends with one line if there is none."""
    python = _python_of_workers()
    # not by their real paths: the Python of a virtual environment is a link to the system's
    if python and Path(python).parent != Path(sys.executable).parent:
        os.execv(python, [python, *sys.orig_argv[1:]])
    sys.exit(
        f"forkdiv: its packages are not installed for {sys.executable}; run `make setup`, and put "
        ".venv/bin first on PATH, where Ray is started or where this command is run"
    )


def _python_of_workers() -> str | None:
    """Returns the Python of the Ray that this process is a job of; None if it is not a job."""
    process = os.getpid()
    while process > 1:
        for argument in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0"):
            if argument.startswith(OPTION):
                return os.fsdecode(argument.removeprefix(OPTION).split()[0])
        status = Path(f"/proc/{process}/status").read_text().splitlines()
        process = next(int(line.split()[1]) for line in status if line.startswith("PPid:"))
    return None


if importlib.util.find_spec("typer") is None:
    _go_on_in_environment()
