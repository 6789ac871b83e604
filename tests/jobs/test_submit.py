"""`forkdiv submit` and `forkdiv doctor` against a head of two CPUs, as their user runs them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from forkdiv.core.code_version import commit
from tests.jobs.conftest import TOKEN, wait_until_up
from tests.stack import MICRO, ROOT, clean_environment

pytestmark = pytest.mark.stack
FORKDIV = str(Path(sys.executable).with_name("forkdiv"))
STUDY = [
    *(one for one in MICRO if not one.startswith(("base=", "place."))),
    *("base=graph-d3-l3", "sweep.fork_density=[1.0]", "sweep.temperature=[1.0]"),
]


def command(verb: str, address: str, *words: str) -> list[str]:
    return [FORKDIV, verb, *words, "--address", address]


def environment() -> dict[str, str]:
    """Without RAY_AUTH_MODE: the token alone is enough."""
    return clean_environment() | {"RAY_AUTH_TOKEN": TOKEN}


def run(verb: str, address: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(verb, address, *words),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )


@contextmanager
def watched_processes() -> Iterator[list[str]]:
    """The command lines of all processes that hold the token, while the block runs."""
    found: list[str] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes().decode(errors="replace")
                except OSError:  # it has ended
                    continue
                if TOKEN in line:
                    found.append(line)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


@pytest.mark.soak
def test_a_study_is_sent_followed_to_its_table_and_shows_no_secret(
    head: str, ray_folder: Path, tmp_path: Path
) -> None:
    wait_until_up(head)
    with watched_processes() as with_token:
        done = run("submit", head, "quickstart", *STUDY, f"place.root={tmp_path}")
    assert done.returncode == 0, done.stdout
    assert "finished: pass@1" in done.stdout
    assert "micro" in done.stdout and "report: " in done.stdout
    assert "Traceback" not in done.stdout
    summary = json.loads((tmp_path / "micro" / "summary.json").read_text())
    assert summary["commit"] == commit()
    assert all(cell["valid"] for cell in summary["cells"])
    assert with_token == []
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    logs = [path for path in (ray_folder / "session_latest" / "logs").rglob("*") if path.is_file()]
    assert len(written) > 20 and len(logs) > 20
    written += logs
    assert [path for path in written if TOKEN.encode() in path.read_bytes()] == []
    assert TOKEN not in done.stdout


def test_a_job_that_is_refused_ends_the_command_with_its_status(head: str, tmp_path: Path) -> None:
    wait_until_up(head)
    done = run("submit", head, "quickstart", f"place.root={tmp_path}", "place.cpus_per_worker=1")
    assert done.returncode == 2, done.stdout
    assert "got 2.11 CPUs; allowed: at most 1.9" in done.stdout


def test_ctrl_c_ends_the_command_and_not_the_job(head: str, tmp_path: Path) -> None:
    wait_until_up(head)
    process = subprocess.Popen(
        command("submit", head, "quickstart", *STUDY, f"place.root={tmp_path}"),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Running entrypoint" in line:
            break
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, "".join(lines) + rest
    (job,) = set(re.findall(r"raysubmit_\w+", "".join(lines)))
    assert f"--follow {job}" in rest and f"ray job stop --address {head} {job}" in rest
    ray = str(Path(sys.executable).with_name("ray"))
    with_mode = environment() | {"RAY_AUTH_MODE": "token"}
    state = subprocess.run(
        [ray, "job", "stop", "--address", head, job],
        env=with_mode,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "was stopped" in state.stdout + state.stderr
    followed = run("submit", head, "--follow", job)
    assert followed.returncode == 1
    assert f"the job {job} was stopped" in followed.stdout


@pytest.mark.soak  # asks limits and room of the machine
def test_a_cluster_that_is_well_is_found_well(head: str, tmp_path: Path) -> None:
    wait_until_up(head)
    done = run("doctor", head, f"place.root={tmp_path}")
    checks = [line for line in done.stdout.splitlines() if line.startswith(("ok ", "WRONG "))]
    wrong = [line for line in checks if line.startswith("WRONG")]
    full = [line for line in wrong if "temporary files" in line or "open files" in line]
    assert wrong == full, done.stdout  # this machine's own
    assert done.returncode == (1 if full else 0)
    names = {line.split(maxsplit=1)[1].partition(":")[0] for line in checks}
    assert {"address", "token", "versions", "storage", "clocks", "GPUs", "ports"} <= names
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_is_one_line_with_a_remedy(head: str, tmp_path: Path) -> None:
    wait_until_up(head)
    settings = [f"place.root={tmp_path}", "place.cpus_per_worker=9", "place.min_free_mib=99999999"]
    done = run("doctor", head, *settings, "place.device=gpu")
    assert done.returncode == 1
    for name in ("room", "storage", "GPUs"):
        assert f"WRONG   {name}: " in done.stdout, done.stdout
