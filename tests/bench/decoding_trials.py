"""What a trial that only decodes costs beyond its sampling, and what 100 of them keep in memory."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from tests.bench.row import Row
from tests.stack import ROOT, clean_environment, command, read_progress

TEMPERATURES = [round(0.5 + 0.01 * i, 2) for i in range(50)]  # for the base and a tuned model
SETTINGS = (
    "sft.epochs=1",
    "sft.save_epochs=[]",
    "sweep.fork_density=[0.5]",
    f"sweep.temperature={TEMPERATURES}",
)
SETTLED = 20  # trials after which memory counts: caches are filled


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        finished, memory = _run(Path(folder))
        results = _results(Path(folder))
    overheads = [
        (after["time"] - before["time"]) - results[after["who"]]["seconds"]["sample"]
        for before, after in pairwise(finished)
        if not results[after["who"]]["seconds"].get("train")
    ]
    stages = {
        stage: median(result["seconds"].get(stage, 0.0) for result in results.values())
        for stage in ("score", "exact", "coverage", "tracking")
    }
    parts = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in stages.items())
    grown = (memory[-1] - memory[SETTLED]) / 2**20
    held = f"{memory[SETTLED] / 2**20:,.0f} MiB after {SETTLED} trials"
    return [
        Row("trial_overhead_s", median(overheads), "s", f"{len(overheads)} trials; {parts}"),
        Row("trial_memory_growth", grown, "MiB", f"{len(memory) - SETTLED} further trials; {held}"),
    ]


def _run(root: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Runs the sweep; returns the events of finished trials, and the memory of all its processes
    at each of them, in bytes."""
    process = psutil.Popen(
        command("sweep", root, *SETTINGS),
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
    )
    memory: list[int] = []
    finished: list[dict[str, Any]] = []
    while process.poll() is None:
        time.sleep(0.2)
        events = read_progress(root / "micro" / "progress.jsonl")
        finished = [event for event in events if event["finished"]]
        if len(finished) > len(memory):
            memory += [_memory(process)] * (len(finished) - len(memory))
    if process.returncode:
        raise RuntimeError(f"the sweep ended with status {process.returncode}")
    return finished, memory


def _memory(process: psutil.Process) -> int:
    """The memory of the sweep's own processes, without pages that they share."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().uss
        except psutil.NoSuchProcess:
            continue
    return total


def _results(root: Path) -> dict[str, dict[str, Any]]:
    """The results of the trials by name."""
    events = {event["who"] for event in read_progress(root / "micro" / "progress.jsonl")}
    by_file = {name.replace(" ", "_").replace("=", ""): name for name in events}
    return {
        by_file[file.stem]: json.loads(file.read_text())
        for file in root.glob("micro/trials/*/*.json")
    }
