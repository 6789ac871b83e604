"""Supervised fine-tuning with Ray Train and DeepSpeed; writes Hugging Face checkpoints.

One run is one artifact: the checkpoints `epoch-0004/`, `step-000250/` …, `log.jsonl`, and
`saves.json` with the epoch of each checkpoint. Until the run is published, its files are in its
workspace, which survives a kill and from which Ray Train resumes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from forkdiv.core.config.sft import FORK_AWARE
from forkdiv.core.config.study import PlaceConfig, PromptConfig, SftConfig
from forkdiv.core.errors import InvalidResult, refuse
from forkdiv.core.fingerprint import Identity
from forkdiv.core.progress import Progress
from forkdiv.core.store import Artifact, Store
from forkdiv.data import dataset, tokenized
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.saved import SAVES, saved_checkpoints
from forkdiv.models.thinking import opening_tag
from forkdiv.train import resume, targets
from forkdiv.train.eval_during import Evaluate, evaluating
from forkdiv.train.job import (
    DIVERGED,
    ROWS,
    TARGETS,
    Divergence,
    TrainingJob,
    checkpoint_folder,
)
from forkdiv.train.log import LOG
from forkdiv.train.schedule import epoch_name, retained
from forkdiv.train.stopping import Stopping

RAW = PromptConfig()


def identity(
    data: str,
    start: str,
    config: SftConfig,
    prompt: PromptConfig = RAW,
    opening: str = "",
    table: str | None = None,
) -> Identity:
    """Returns the identity of the run that fine-tunes checkpoint `start` on dataset `data`, both
    given by fingerprint. `opening` is the tag of thinking with which the chat template ends its
    prompts, and which responses then leave out (`prompting.encode`). `table` is the fingerprint of
    the learnability table that the loss reads.

    Workers, ZeRO stage and device are not part of it, because they do not decide the result.
    """
    opened = {"opening": opening} if opening else {}
    return Identity(
        "train",
        {"sft": config.deciding, "prompt": prompt, **opened},
        {"dataset": data, "start": start} | ({"learnability": table} if table else {}),
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
    turn: Callable[[], AbstractContextManager[object]] = nullcontext,
    stopping: Stopping | None = None,
    following: Callable[[Path], AbstractContextManager[object]] = nullcontext,
    table: Artifact | None = None,
) -> Artifact:
    """Returns the trained run; runs Ray Train if the store does not have it. `evaluate` is called
    with each checkpoint but the last while training continues, in a separate thread. Workers run
    only within the block of a `turn`, in which nothing can be evaluated; the log at a path grows
    within the block of `following`. `table` is the learnability table of `data`, for a loss that
    reads one.

    Raises UserError for examples that cannot be trained on, InvalidResult where the loss became NaN
    or infinite, and TrialStopped if `stopping` is requested; the next call continues such a run.
    """
    opening = opening_tag(start.token_files, prompt)
    reads_table = config.loss == FORK_AWARE
    if reads_table and table is None:
        raise refuse(
            "sft.loss=fork-aware needs a learnability table, which this run does not have",
            f"sft.loss={config.loss}",
            "this loss for the fine-tuning of a study, not for a base (pretrain.sft)",
            "choose another loss",
        )
    table_name = table.fingerprint if table and reads_table else None
    run_identity = identity(
        data.fingerprint, start.fingerprint, config, prompt, opening, table_name
    )

    def make(folder: Path) -> None:
        store.whole(start.path)
        rows = tokenized.encode_examples(dataset.stream(data.path), start.path, prompt)
        token_targets = None
        if table and reads_table:
            rows, token_targets = targets.with_targets(rows, table.path, config.fork_aware)
        retained_saves = retained(len(rows), config)
        workspace = store.workspace(run_identity)
        (workspace / DIVERGED).unlink(missing_ok=True)
        tokenized.write(workspace / ROWS, rows)
        if token_targets:
            targets.write(workspace / TARGETS, token_targets)
        resume_from = resume.state_of_other_layout(workspace, place, progress)
        progress(f"fine-tuning: starting {place.workers} worker{'s' * (place.workers > 1)}")
        job = TrainingJob(
            workspace=workspace.resolve(),
            resume_from=resume_from.resolve() if resume_from else None,
            start=start.path.resolve(),
            sft=config,
            place=place,
            progress=progress.path.resolve(),
            who=progress.who,
        )
        scheduled = {
            save.epoch: Checkpoint(
                checkpoint_folder(workspace, save), _checkpoint_fingerprint(run_identity, save.name)
            )
            for save in retained_saves[:-1]
        }
        beside = place.overlap and not place.engine.takes_turns
        with evaluating(scheduled, evaluate) if evaluate and beside else nullcontext():
            # an earlier attempt may have been killed after its last checkpoint
            if not all(checkpoint_folder(workspace, save).exists() for save in retained_saves):
                from forkdiv.train.trainer import fit  # imports Ray, which takes seconds

                with turn(), following(workspace / LOG):
                    fit(job, stopping)
        _check_finished(workspace, start)
        for save in retained_saves:
            # hard links: the workspace stays complete if anything fails before publishing
            shutil.copytree(
                checkpoint_folder(workspace, save), folder / save.name, copy_function=os.link
            )
        epochs = {save.name: save.epoch for save in retained_saves}
        (folder / SAVES).write_text(json.dumps(epochs))
        shutil.copyfile(workspace / LOG, folder / LOG)

    return store.obtain(run_identity, make, progress)


def checkpoints(run: Artifact) -> dict[float, Checkpoint]:
    """Returns the run's checkpoints by epoch, in order; 1.5 is in the middle of epoch 2."""
    _, saved = saved_checkpoints(run.path)
    return {
        epoch: Checkpoint(folder, f"{run.fingerprint}-{folder.name}")
        for epoch, folder in saved.items()
    }


def planned(
    store: Store, run: Identity, config: SftConfig, start: Path | None = None
) -> Checkpoint:
    """Returns the last checkpoint of a run that may not exist yet; `start` is the folder of the
    checkpoint that is fine-tuned."""
    return planned_save(store, run, epoch_name(config.epochs), start)


def planned_save(store: Store, run: Identity, name: str, start: Path | None = None) -> Checkpoint:
    """Returns the checkpoint with this name of a run that may not exist yet; see `planned`."""
    if start is None:
        store.present(store.path(run))  # it has the only tokenizer, if it exists
    return Checkpoint(store.path(run) / name, _checkpoint_fingerprint(run, name), start)


def last(run: Artifact) -> Checkpoint:
    """Returns the last checkpoint of the run."""
    return list(checkpoints(run).values())[-1]


def _checkpoint_fingerprint(run: Identity, name: str) -> str:
    return f"{run.fingerprint}-{name}"


def _check_finished(workspace: Path, start: Checkpoint) -> None:
    """Raises InvalidResult if the loss diverged, with the batch and the last good checkpoint."""
    if not (workspace / DIVERGED).exists():
        return
    lost = Divergence.model_validate_json((workspace / DIVERGED).read_text())
    rows = ", ".join(map(str, lost.rows[:8])) + (" …" if len(lost.rows) > 8 else "")
    after = f"after step {lost.last_step}" if lost.last_step else "before the first step"
    raise InvalidResult(
        f"the loss became NaN or infinite at step {lost.step} (epoch {lost.epoch}, examples "
        f"{rows} of the dataset); the weights {after} are in {lost.checkpoint or start.path}; "
        "lower sft.learning_rate, or check these examples"
    )
