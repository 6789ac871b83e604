"""The state that a killed run resumes from, whoever wrote it: as many workers as now, or others.

Ray Train keeps the states of each layout (workers, ZeRO stage, device) in a folder of its own.
Where another layout of the same stage came further, its state is carried over: through
DeepSpeed's universal checkpoint, or as it is at stage 0, which spreads nothing over workers.
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
SNAPSHOT = "checkpoint_manager_snapshot.json"  # Ray Train's list of what was reported whole


@dataclass(frozen=True)
class State:
    """What workers of one layout reported after `step`; `folder` holds DeepSpeed's files."""

    layout: Path
    step: int
    folder: Path


def layout(workspace: Path, place: PlaceConfig) -> Path:
    """Where Ray Train keeps the states of runs that are placed like this one."""
    return workspace / f"ray-w{place.workers}-z{place.zero_stage}-{place.device}"


def carried(workspace: Path, place: PlaceConfig, progress: Progress) -> Path | None:
    """A state of another layout, ready to be loaded; None where this layout's own is the furthest.

    Raises RuntimeError with DeepSpeed's words where the conversion fails.
    """
    own = layout(workspace, place)
    states = list(_states(workspace, place.zero_stage))
    furthest = max(states, key=lambda one: (one.step, one.layout == own), default=None)
    if furthest is None or furthest.layout == own:
        return None
    progress(
        f"fine-tuning: converting the state after step {furthest.step} "
        f"from layout {furthest.layout.name}"
    )
    if own.exists():  # an older state of this layout: Ray Train would resume there
        shutil.rmtree(own)
    if place.zero_stage == 0:
        return furthest.folder
    ready = workspace / f"universal-{furthest.layout.name}-{furthest.step}"
    if not ready.exists():
        _convert(furthest.folder / TAG, ready)
    return ready


def _states(workspace: Path, stage: int) -> Iterator[State]:
    """The last state of every layout of one ZeRO stage."""
    for snapshot in workspace.glob(f"ray-w*-z{stage}-*/{RUN}/{SNAPSHOT}"):
        from ray.train.v2.api.result import Result

        last = Result.from_path(snapshot.parent)
        if last.checkpoint is not None and last.metrics:
            folder = Path(last.checkpoint.path)
            yield State(snapshot.parent.parent, int(last.metrics["step"]), folder)


def _convert(state: Path, ready: Path) -> None:
    """DeepSpeed's state as its universal checkpoint, in a process that takes torch with it."""
    aside = ready.with_name(f".{ready.name}")
    shutil.rmtree(aside, ignore_errors=True)
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal"]
    command += ["--input_folder", str(state), "--output_folder", str(aside / TAG)]
    # our models say nothing of tensor parallelism, so that there is nothing to say of it
    command += ["--inject_missing_state", "--num_extract_workers=1", "--num_merge_workers=1"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(
            f"DeepSpeed could not convert the training state {state} to another number of workers: "
            f"{json.dumps(done.stderr[-2000:])}"
        )
    publish_folder(aside, ready)
