"""Runs whole commands and checks what a user would see: status, messages, time and memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.case import LONGEST_MESSAGE, Tally
from tests.fuzz.command_cases import Command, command_of
from tests.stack import ROOT

SILENT_S = 10.0
MEMORY = 3 * 2**30
PREFIX = "forkdiv: "
OK, INVALID, WRONG_INPUT = 0, 1, 2


class Server:
    """`tests.fuzz.command_server`, started when it is first needed."""

    def __init__(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.command_server"],
            cwd=ROOT,
            env=environment | {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, command: Command, folder: Path) -> dict[str, Any]:
        request = {
            "arguments": command.arguments,
            "folder": str(folder),
            "out": str(folder / "stdout.txt"),
            "error": str(folder / "stderr.txt"),
        }
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


@contextmanager
def server() -> Iterator[Server]:
    started = Server()
    try:
        yield started
    finally:
        started.close()


def fuzz(seed: int, numbers: Sequence[int], show: Callable[[str], None] = print) -> Tally:
    """Runs the commands with these numbers."""
    tally = Tally()
    with server() as started:
        for number in numbers:
            again = f"python -m tests.fuzz commands --seed {seed} --only {number}"
            folder = Path(tempfile.mkdtemp(prefix="forkdiv-fuzz-"))
            try:
                command = command_of(folder, Random(f"{seed}/{number}"))
                ended = started.run(command, folder)
                find = _find(command, folder, ended)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            tally.add(
                command.arguments[0][:20],
                f"status {ended['status']}",
                find,
                ended["seconds"],
                again,
            )
            if find:
                show(f"{find}\n    {again}")
    return tally


def _find(command: Command, folder: Path, ended: dict[str, Any]) -> str:
    """Returns what does not hold, or an empty text."""
    out, error = (
        (folder / name).read_bytes().decode("utf-8", "replace")
        for name in ("stdout.txt", "stderr.txt")
    )
    found = [
        *_of_status(command, folder, int(ended["status"]), error),
        *_of_text(out, error),
        *([f"silent for {ended['silent']:.0f} s"] if ended["silent"] > _patience() else []),
        *([f"{ended['peak'] / 2**30:.1f} GiB of memory"] if ended["peak"] > MEMORY else []),
    ]
    if not found:
        return ""
    words = " ".join(word[:80] for word in command.arguments)
    return f"{'; '.join(found)}\n    forkdiv {words[:300]!r} ({command.damage:.200})"


def _patience() -> float:
    """Returns the longest silence that is accepted: more on a machine with other work."""
    return SILENT_S * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _of_status(command: Command, folder: Path, status: int, error: str) -> Iterator[str]:
    lines = [line for line in error.splitlines() if line.startswith(PREFIX)]
    if status not in (OK, INVALID, WRONG_INPUT):
        traces = [path.read_text()[-300:] for path in folder.glob("forkdiv-traceback-*")]
        yield f"status {status}: {lines[-1:] or error[-300:]} {traces}"
    elif status == OK:
        if not command.may_succeed:
            yield "status 0"
        elif wrong := command.wrong():
            yield f"status 0, but {wrong}"
    elif len(lines) != 1 and "Usage:" not in error:
        yield f"{len(lines)} lines say what is wrong: {error[-300:]!r}"


def _of_text(out: str, error: str) -> Iterator[str]:
    if "Traceback (most recent" in out + error:
        yield f"a traceback: {error[-500:]!r}"
    for line in error.splitlines():
        if line.startswith(PREFIX) and len(line) > LONGEST_MESSAGE + len(PREFIX):
            yield f"a message of {len(line)} characters: {line[:120]!r}"
