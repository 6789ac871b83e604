"""Where a base model starts from: random weights and a tokenizer for the task's words."""

from __future__ import annotations

from pathlib import Path

from forkdiv.artifacts import Store
from forkdiv.checkpoint import Checkpoint
from forkdiv.config import GraphBranchingConfig, PretrainConfig
from forkdiv.fingerprint import Identity
from forkdiv.tasks import build


def obtain_start(
    store: Store, task: GraphBranchingConfig, config: PretrainConfig
) -> tuple[Checkpoint, str]:
    """A checkpoint of random weights, and its end token."""
    from forkdiv.model import END, new_model, word_tokenizer

    vocabulary = build(task).vocabulary()
    what = Identity(
        "start", {"preset": config.preset, "seed": config.seed, "vocabulary": vocabulary}
    )

    def make(folder: Path) -> None:
        tokenizer = word_tokenizer(vocabulary)
        new_model(config.preset, tokenizer, config.seed).save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    made = store.obtain(what, make)
    return Checkpoint(made.path, made.fingerprint), END
