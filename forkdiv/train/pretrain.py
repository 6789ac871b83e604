"""The pretrained base model: random weights with a tokenizer for the task's words, or an existing
checkpoint, trained on random walks."""

from __future__ import annotations

import shutil
from pathlib import Path

from forkdiv.core.config.study import PlaceConfig, PretrainConfig
from forkdiv.core.errors import refuse
from forkdiv.core.fingerprint import Identity
from forkdiv.core.progress import Progress
from forkdiv.core.store import Store
from forkdiv.data import dataset
from forkdiv.models.checkpoint import Checkpoint, check_end_token, check_vocabulary, open_checkpoint
from forkdiv.tasks.base import Task
from forkdiv.train import sft_run

CONTEXT = 512  # context length of the pretrained models, in tokens
END = "<eos>"  # end token of their tokenizers


def planned_base(store: Store, task: Task, config: PretrainConfig) -> Checkpoint:
    """Returns the base that `config` describes; it may not exist yet.

    Raises UserError for a task that no base can be pretrained for, and for a `config.start` that
    is not a checkpoint or whose tokenizer lacks words of the task.
    """
    if not task.vocabulary():
        raise refuse(
            "forkdiv cannot pretrain a base model for this task, because its prompts are natural "
            "language",
            "base=null",
            "a Hugging Face checkpoint folder",
            "set base to a checkpoint",
        )
    start = _start_identity(task, config).fingerprint
    walks = dataset.walks_identity(task, config, END).fingerprint
    run = sft_run.identity(walks, start, config.sft)
    return sft_run.planned(store, run, config.sft, config.start)


def obtain_base(
    store: Store, task: Task, config: PretrainConfig, place: PlaceConfig, progress: Progress
) -> Checkpoint:
    """Returns the base that `config` describes; trains it on the running Ray if it does not
    exist."""
    start = obtain_start(store, task, config)
    progress(
        f"pretraining: generating {config.examples} examples of {config.walks} random walks each"
    )
    walks = dataset.obtain_walks(store, task, config, END)
    return sft_run.last(sft_run.obtain(store, walks, start, config.sft, place, progress))


def obtain_start(store: Store, task: Task, config: PretrainConfig) -> Checkpoint:
    """Returns a checkpoint with random weights, or a copy of `config.start`, in the store, where
    every node can read it."""

    def make(folder: Path) -> None:
        if config.start:
            shutil.copytree(config.start, folder, dirs_exist_ok=True)
            return
        from forkdiv.models.loading import new_model, word_tokenizer

        tokenizer = word_tokenizer(task.vocabulary(), END)
        new_model(config.preset, tokenizer, config.seed, CONTEXT).save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    artifact = store.obtain(_start_identity(task, config), make)
    return Checkpoint(artifact.path, artifact.fingerprint)


def _start_identity(task: Task, config: PretrainConfig) -> Identity:
    vocabulary = task.vocabulary()
    if config.start:
        content = open_checkpoint(config.start).fingerprint
        check_vocabulary(config.start, vocabulary)
        check_end_token(config.start, END)
        return Identity("start", {}, {"content": content})
    return Identity(
        "start", {"preset": config.preset, "seed": config.seed, "vocabulary": vocabulary}
    )
