"""The documented commands that start Ray: each page's blocks in order, in one folder."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.docs import workspace
from tests.docs.pages import NAMES, Block, blocks

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

PLACE = ("place.dashboard=false",)  # several studies may run on the machine that tests
PAGES = [page for page in NAMES if any(block.how == "soak" for block in blocks(page))]


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work_one_after_the_other(page: str, tmp_path: Path) -> None:
    folder = workspace.lay_out(tmp_path, page)
    with ExitStack() as running:
        for block in blocks(page):
            if block.how != "soak":
                continue
            if block.background:
                running.enter_context(in_background(block, folder))
                continue
            done = workspace.run(block, folder, timeout=1800, added=PLACE)
            assert done.returncode == 0, f"{block.id}\n{done.stdout}\n{done.stderr}"


@contextmanager
def in_background(block: Block, folder: Path) -> Iterator[None]:
    """The server of the block, from the line in which it names its address, until Ctrl-C."""
    output = folder / "server.txt"
    with output.open("w") as file:
        server = subprocess.Popen(
            ["bash", "-euc", f"exec {workspace.script(block, PLACE)}"],
            cwd=folder,
            env=workspace.environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 900  # against a hang: minutes on a loaded machine
        while "at http://" not in output.read_text():
            assert server.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.5)
        yield
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=120) == 0, output.read_text()
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()
