"""The training state that a killed run resumes from, also with another number of workers.

Ray Train keeps the states of each layout (workers, ZeRO stage, device) in a separate folder. If
another layout with the same ZeRO stage has a state of a later step, the run resumes from that
state. It is converted to DeepSpeed's universal checkpoint, except at stage 0, which partitions
nothing over the workers.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from forkdiv.core.config.study import PlaceConfig
from forkdiv.core.progress import Progress
from forkdiv.core.store import publish_folder

TAG, RUN = "state", "run"  # DeepSpeed's name for a state; Ray Train's for a run
SNAPSHOT = "checkpoint_manager_snapshot.json"  # Ray Train's list of complete reported states


@dataclass(frozen=True)
class State:
    """The state that the workers of one layout reported after `step`; `folder` contains
    DeepSpeed's files."""

    layout: Path
    step: int
    folder: Path


def layout(workspace: Path, place: PlaceConfig) -> Path:
    """Returns the folder in which Ray Train keeps the states of this layout."""
    return workspace / f"ray-w{place.workers}-z{place.zero_stage}-{place.device}"


def state_of_other_layout(workspace: Path, place: PlaceConfig, progress: Progress) -> Path | None:
    """Returns the folder of a state of another layout, converted and ready to load; None if no
    other layout has a state of a later step than this layout.

    Raises RuntimeError with DeepSpeed's message if the conversion fails.
    """
    current = layout(workspace, place)
    states = list(_states(workspace, place.zero_stage))
    latest = max(states, key=lambda state: (state.step, state.layout == current), default=None)
    if latest is None or latest.layout == current:
        return None
    progress(
        f"fine-tuning: converting the state after step {latest.step}, which was saved with other "
        f"workers or another device ({latest.layout.name})"
    )
    if current.exists():  # Ray Train would resume from the older state in it
        shutil.rmtree(current)
    if place.zero_stage == 0:
        return latest.folder
    converted = workspace / f"universal-{latest.layout.name}-{latest.step}"
    if not converted.exists():
        _convert(latest.folder / TAG, converted)
    return converted


def _states(workspace: Path, stage: int) -> Iterator[State]:
    """Yields the last state of every layout with this ZeRO stage."""
    for snapshot in workspace.glob(f"ray-w*-z{stage}-*/{RUN}/{SNAPSHOT}"):
        from ray.train.v2.api.result import Result

        last = Result.from_path(snapshot.parent)
        if last.checkpoint is not None and last.metrics:
            folder = Path(last.checkpoint.path)
            yield State(snapshot.parent.parent, int(last.metrics["step"]), folder)


def _convert(state: Path, converted: Path) -> None:
    """Converts DeepSpeed's state to a universal checkpoint, in a process of its own, so that this
    process does not import torch."""
    aside = converted.with_name(f".{converted.name}")
    shutil.rmtree(aside, ignore_errors=True)
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal"]
    command += ["--input_folder", str(state), "--output_folder", str(aside / TAG)]
    # the states have no metadata on tensor parallelism; this option adds it
    command += ["--inject_missing_state", "--num_extract_workers=1", "--num_merge_workers=1"]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode != 0:
        raise RuntimeError(
            f"DeepSpeed could not convert the training state {state} to another number of workers: "
            f"{json.dumps(process.stderr[-2000:])}"
        )
    publish_folder(aside, converted)
