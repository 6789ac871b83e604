"""Runs cases at the boundary readers, all in one process, without Ray and without an engine."""

from __future__ import annotations

import faulthandler
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
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
GROWTH = 2**30  # bytes: the most that the resident size may grow from the 200th case to the last


def case_of(seed: int, number: int, folder: Path) -> Case:
    rng = Random(f"{seed}/{number}")
    target = rng.choices(list(TARGETS), list(TARGETS.values()))[0]
    return target(folder, rng)


def fuzz(seed: int, numbers: Sequence[int], show: Callable[[str], None] = print) -> Tally:
    """Runs the cases with these numbers."""
    tally = Tally()
    started, settled = time.monotonic(), 0
    for done, number in enumerate(numbers, 1):
        again = f"python -m tests.fuzz readers --seed {seed} --only {number}"
        faulthandler.dump_traceback_later(HANGS_S, exit=True)
        folder = Path(tempfile.mkdtemp(prefix="forkdiv-fuzz-"))
        began = time.monotonic()
        try:
            case = case_of(seed, number, folder)
            outcome, find = run(case)
        finally:
            faulthandler.cancel_dump_traceback_later()
            shutil.rmtree(folder, ignore_errors=True)
        tally.add(case.target, outcome, find, time.monotonic() - began, again)
        if find:
            show(f"{case.target}: {find}\n    {again}")
        if done == 200:
            settled = peak()
        if done % 500 == 0:
            show(f"{done:,} cases in {time.monotonic() - started:.0f} s, {len(tally.finds)} finds")
    if settled and peak() - settled > GROWTH:
        tally.finds.append(f"the process grew by {(peak() - settled) / 2**30:.1f} GiB")
    return tally
