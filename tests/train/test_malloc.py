"""A training step on CPU finds the memory of the one before it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Other C libraries have no such settings: keep_freed_memory leaves them as they are.
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's settings")

# Blocks of 8 MB, which no cache of NumPy's holds, in a thread as Ray Train's workers are, and in
# the main one. How many of them glibc gives back by itself depends on what it saw before.
STEPS = """
import resource, threading
import numpy as np
from forkdiv.train.malloc import keep_freed_memory

def step(blocks):
    held = [np.ones(1_000_000) for _ in range(blocks)]

def steps():
    found = 0
    for blocks in (4, 8, 12, 16, 24):
        for _ in range(3):
            step(blocks)
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        for _ in range(5):
            step(blocks)
        found += resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before
    print(found)

{first}
thread = threading.Thread(target=steps)
thread.start()
thread.join()
steps()
"""


def faults(first: str) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", STEPS.format(first=first)], check=True, capture_output=True
    )
    thread, main = map(int, done.stdout.split())
    return thread, main


def test_kept_memory_causes_no_new_page_faults() -> None:
    given_back = min(faults(""))
    assert given_back > 1000, "glibc keeps it by itself, and this test would show nothing"
    assert max(faults("keep_freed_memory()")) < given_back / 10
