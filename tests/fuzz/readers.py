"""Runs cases at the boundary readers, all in one process, without Ray and without an engine."""

from __future__ import annotations

import faulthandler
import json
import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

from tests.fuzz import checkpoints, rows, settings, stored
from tests.fuzz.case import Case, Tally, peak, run

Target = Callable[[Path, Random], Case]
# how often each is drawn
TARGETS: dict[Target, int] = {
    settings.config_bytes: 3,
    settings.config_value: 5,
    settings.override: 4,
    rows.text_rows: 8,
    rows.tables: 3,
    rows.lm_eval: 5,
    checkpoints.small_files: 6,
    checkpoints.weights: 4,
    checkpoints.index: 3,
    checkpoints.recorded: 2,
    checkpoints.template: 3,
    stored.record: 5,
    stored.summary: 3,
    stored.own_dataset: 2,
}
HANGS_S = 60.0  # a C function that never returns ends the process, with where it is
SETTLED_AFTER = 200  # cases
GROWTH = 1.2 * 2**30  # bytes that the process may grow after that


def case_of(seed: int, number: int, folder: Path) -> Case:
    rng = Random(f"{seed}/{number}")
    target = rng.choices(list(TARGETS), list(TARGETS.values()))[0]
    return target(folder, rng)


def fuzz(seed: int, numbers: Sequence[int], show: Callable[[str], None] = print) -> Tally:
    """Runs the cases with these numbers in a forked process, which a library in C may end."""
    tally = Tally()
    left = list(numbers)
    started = time.monotonic()
    while left:
        for result in _forked(seed, left):
            tally.add(*result, _again(seed, left.pop(0)))
            _show_progress(tally, len(numbers) - len(left), started, show)
        if left:
            tally.add("?", "died", "the process ended", 0.0, _again(seed, left.pop(0)))
            _show_progress(tally, len(numbers) - len(left), started, show)
    return tally


def _again(seed: int, number: int) -> str:
    return f"python -m tests.fuzz readers --seed {seed} --only {number}"


def _show_progress(tally: Tally, done: int, started: float, show: Callable[[str], None]) -> None:
    if tally.last:
        show(tally.last)
    if done % 500 == 0:
        show(f"{done:,} cases in {time.monotonic() - started:.0f} s, {len(tally.finds)} finds")


def _forked(seed: int, numbers: Sequence[int]) -> Iterator[tuple[str, str, str, float]]:
    """Yields target, outcome, find and seconds of each case until the process ends."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 1
        try:
            with os.fdopen(writing, "w") as results:
                for at, number in enumerate(numbers):
                    results.write(json.dumps(_one(seed, number, at)) + "\n")
                    results.flush()
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as results:
        for line in results:
            target, outcome, find, seconds = json.loads(line)
            yield target, outcome, find, seconds
    os.waitpid(child, 0)


_SETTLED: list[int] = []  # the peak after some cases, when all libraries are loaded


def _one(seed: int, number: int, at: int) -> tuple[str, str, str, float]:
    faulthandler.dump_traceback_later(HANGS_S, exit=True)
    folder = Path(tempfile.mkdtemp(prefix="forkdiv-fuzz-"))
    began = time.monotonic()
    try:
        case = case_of(seed, number, folder)
        outcome, find = run(case)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        faulthandler.cancel_dump_traceback_later()
        shutil.rmtree(folder, ignore_errors=True)
    if at == SETTLED_AFTER:
        _SETTLED.append(peak())
    if _SETTLED and not find and peak() - _SETTLED[0] > GROWTH:
        outcome, find = "memory", f"the process grew by {(peak() - _SETTLED[0]) / 2**30:.1f} GiB"
        _SETTLED.clear()
    return case.target, outcome, find, time.monotonic() - began
