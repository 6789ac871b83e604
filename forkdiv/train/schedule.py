"""The schedule of a fine-tuning run: the batch and learning rate of each step, and the
checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from forkdiv.core.config.study import SftConfig
from forkdiv.core.errors import refuse


@dataclass(frozen=True)
class Batch:
    """The examples of one optimizer step; `epoch` and `step` count from 1."""

    epoch: int
    step: int
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Save:
    """A checkpoint that is written after `step`; epoch 1.5 is in the middle of the second epoch."""

    step: int
    epoch: float

    @property
    def name(self) -> str:
        """The name of its folder: by epoch at the end of an epoch, otherwise by step."""
        whole = self.epoch == int(self.epoch)
        return epoch_name(int(self.epoch)) if whole else f"step-{self.step:06d}"


def epoch_name(epoch: int) -> str:
    return f"epoch-{epoch:04d}"


def batches(examples: int, config: SftConfig) -> Iterator[Batch]:
    """Yields the optimizer steps in order, shuffled anew in each epoch; the last batch of an epoch
    may be smaller."""
    step = 0
    for epoch in range(1, config.epochs + 1):
        order = list(range(examples))
        Random(f"order/{config.seed}/{epoch}").shuffle(order)
        for first in range(0, examples, config.batch_size):
            step += 1
            yield Batch(epoch, step, tuple(order[first : first + config.batch_size]))


def steps_per_epoch(examples: int, config: SftConfig) -> int:
    return -(-examples // config.batch_size)


def learning_rate(step: int, steps: int, config: SftConfig) -> float:
    """Returns the learning rate: linear warm-up, then a cosine to zero; `step` counts from 1."""
    warmup = config.warmup_share * steps
    rising = min(1.0, step / warmup) if warmup else 1.0
    falling = 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
    return config.learning_rate * rising * falling


def saves(examples: int, config: SftConfig) -> list[Save]:
    """Returns the checkpoints that the run writes, in order; the last step is always included.

    Raises UserError if `save_steps` contains a step after the end of the run.
    """
    epoch_steps = steps_per_epoch(examples, config)
    total = epoch_steps * config.epochs
    beyond = [step for step in config.save_steps if step > total]
    if beyond:
        raise refuse(
            "sft.save_steps contains a step after the end of this run",
            beyond[0],
            f"1 to {total}: {config.epochs} epochs of {epoch_steps} steps, {examples} examples",
            "remove that step, or raise sft.epochs",
        )
    steps = {epoch_steps * epoch for epoch in (*config.save_epochs, config.epochs)}
    steps.update(config.save_steps)
    if config.save_every:
        steps.update(range(config.save_every, total, config.save_every))
    return [Save(step, step / epoch_steps) for step in sorted(steps)]


def retained(examples: int, config: SftConfig) -> list[Save]:
    """Returns the checkpoints that the finished run retains: the newest `sft.keep`, or all."""
    return saves(examples, config)[-(config.keep or 0) :]


def saved_states(plan: Sequence[Batch], every: int | None) -> set[int]:
    """Returns the steps after which a state to resume from is saved: the ends of epochs, and every
    `every` steps. None is saved after the last step, whose checkpoint is all that is left to do."""
    ends = {batch.step for batch, after in pairwise(plan) if after.epoch != batch.epoch}
    regular = {batch.step for batch in plan[:-1] if every and batch.step % every == 0}
    return ends | regular
