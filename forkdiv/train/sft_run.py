"""Supervised fine-tuning: Ray Train workers, a DeepSpeed engine in each, Hugging Face folders out.

One run is one artifact: `epoch-0004/`, `step-000250/` … as ordinary checkpoints, `log.jsonl`, and
`saves.json`, which says what epoch each checkpoint is of. Until it is published everything lives
in its workspace, which outlives a kill; Ray Train resumes there.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import nullcontext
from pathlib import Path

from forkdiv.core.config.study import PlaceConfig, PromptConfig, SftConfig
from forkdiv.core.errors import InvalidResult
from forkdiv.core.fingerprint import Identity
from forkdiv.core.progress import Progress
from forkdiv.core.store import Artifact, Store
from forkdiv.data import dataset, tokenized
from forkdiv.models.checkpoint import SAVES, Checkpoint, saved_checkpoints
from forkdiv.train import resume
from forkdiv.train.eval_during import Evaluate, watching
from forkdiv.train.job import DIVERGED, ROWS, Divergence, TrainingJob, checkpoint_folder
from forkdiv.train.log import LOG
from forkdiv.train.schedule import epoch_name, kept

RAW = PromptConfig()


def identity(data: str, start: str, config: SftConfig, prompt: PromptConfig = RAW) -> Identity:
    """Of the run that fine-tunes checkpoint `start` on dataset `data`, both by fingerprint.

    Workers, ZeRO stage and device are left out: they are where, not what.
    """
    return Identity(
        "train", {"sft": config.deciding, "prompt": prompt}, {"dataset": data, "start": start}
    )


def obtain(
    store: Store,
    data: Artifact,
    start: Checkpoint,
    config: SftConfig,
    place: PlaceConfig,
    progress: Progress,
    prompt: PromptConfig = RAW,
    evaluate: Evaluate | None = None,
) -> Artifact:
    """The trained run, made by Ray Train where it does not exist yet. `evaluate` is called with
    each checkpoint but the last while the training goes on, in a thread of its own.

    Raises UserError for examples that cannot be trained on, and InvalidResult where the loss
    became NaN or infinite.
    """
    what = identity(data.fingerprint, start.fingerprint, config, prompt)

    def make(folder: Path) -> None:
        rows = tokenized.encode_examples(dataset.stream(data.path), start.path, prompt)
        wanted = kept(len(rows), config)
        workspace = store.workspace(what)
        (workspace / DIVERGED).unlink(missing_ok=True)
        tokenized.write(workspace / ROWS, rows)
        carried = resume.carried(workspace, place, progress)
        progress(f"fine-tuning: starting {place.workers} workers")
        job = TrainingJob(
            workspace=workspace.resolve(),
            carried=carried.resolve() if carried else None,
            start=start.path.resolve(),
            sft=config,
            place=place,
            progress=progress.path.resolve(),
            who=progress.who,
        )
        coming = {
            save.epoch: Checkpoint(checkpoint_folder(workspace, save), _named(what, save.name))
            for save in wanted[:-1]
        }
        with watching(coming, evaluate) if evaluate and place.overlap else nullcontext():
            from forkdiv.train.trainer import fit  # Ray: seconds

            fit(job)
        _check_finished(workspace, start)
        for save in wanted:
            # linked, not moved: whatever fails before publishing, the workspace stays whole
            shutil.copytree(
                checkpoint_folder(workspace, save), folder / save.name, copy_function=os.link
            )
        (folder / SAVES).write_text(json.dumps({save.name: save.epoch for save in wanted}))
        shutil.copyfile(workspace / LOG, folder / LOG)

    return store.obtain(what, make, progress)


def checkpoints(run: Artifact) -> dict[float, Checkpoint]:
    """The run's checkpoints by epoch, in order; 1.5 is in the middle of the second."""
    _, saved = saved_checkpoints(run.path)
    return {
        epoch: Checkpoint(folder, f"{run.fingerprint}-{folder.name}")
        for epoch, folder in saved.items()
    }


def planned(store: Store, run: Identity, config: SftConfig) -> Checkpoint:
    """The checkpoint at the run's end, before it is made."""
    name = epoch_name(config.epochs)
    return Checkpoint(store.path(run) / name, _named(run, name))


def last(run: Artifact) -> Checkpoint:
    """The checkpoint at the run's end."""
    return list(checkpoints(run).values())[-1]


def _named(run: Identity, name: str) -> str:
    return f"{run.fingerprint}-{name}"


def _check_finished(workspace: Path, start: Checkpoint) -> None:
    """Raise InvalidResult where the workers gave up, naming the batch and what is left."""
    if not (workspace / DIVERGED).exists():
        return
    lost = Divergence.model_validate_json((workspace / DIVERGED).read_text())
    rows = ", ".join(map(str, lost.rows[:8])) + (" …" if len(lost.rows) > 8 else "")
    after = f"after step {lost.done}" if lost.done else "that it started from"
    raise InvalidResult(
        f"the loss became NaN or infinite at step {lost.step} (epoch {lost.epoch}, examples "
        f"{rows} of the dataset); the weights {after} are kept in {lost.kept or start.path}: lower "
        "sft.learning_rate, or look at these examples"
    )
