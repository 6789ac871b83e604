"""A training loop without Ray or DeepSpeed, on the same examples: what people write themselves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from forkdiv.core.config.study import SftConfig
from forkdiv.data.tokenized import Row
from forkdiv.models.loading import load_model
from forkdiv.models.lora import add_adapters
from forkdiv.train import schedule
from forkdiv.train.collate import collate
from tests.train.logits import loss_of_logits


class BareLoop:
    """PyTorch alone, with the optimizer that Hugging Face's trainer takes.

    With `master` the optimizer steps on a float32 copy of bfloat16 weights, as DeepSpeed's does:
    in bfloat16 alone, updates below 1/256 of a weight are lost.
    """

    def __init__(
        self,
        base: Path,
        rows: Sequence[Row],
        config: SftConfig,
        threads: int,
        master: bool = False,
    ) -> None:
        torch.set_num_threads(threads)
        self._rows, self._config = rows, config
        model: Any = load_model(base, getattr(torch, config.dtype))
        self._model = add_adapters(model, config.lora) if config.lora.rank else model
        self._model.train()
        trained = [weight for weight in self._model.parameters() if weight.requires_grad]
        self._trained = trained
        self._stepped = [weight.detach().float() for weight in trained] if master else trained
        self._optimizer = torch.optim.AdamW(
            self._stepped, config.learning_rate, weight_decay=0.0, fused=True
        )
        plan = list(schedule.batches(len(rows), config))
        whole = [batch for batch in plan if len(batch.rows) == config.batch_size]
        self._batches = cycle(whole)
        self._steps = len(plan)

    def rate(self, steps: int) -> float:
        """Response tokens a second over so many steps, after one that does not count."""
        self._step(next(self._batches))
        began = time.perf_counter()
        tokens = sum(self._step(batch) for batch in islice(self._batches, steps))
        return tokens / (time.perf_counter() - began)

    def _step(self, batch: schedule.Batch) -> int:
        """The batch's response tokens."""
        for group in self._optimizer.param_groups:
            group["lr"] = schedule.learning_rate(batch.step, self._steps, self._config)
        mine = [self._rows[i] for i in batch.rows]
        read = collate(mine, [(i,) for i in range(len(mine))])
        logits = self._model(**read.inputs, use_cache=False).logits
        count = sum(len(response) for _, response in mine)
        total = loss_of_logits(logits, read.targets, read.first, self._config)
        (total / count).backward()  # type: ignore[no-untyped-call]
        self._update()
        return count

    def _update(self) -> None:
        has_copy = self._stepped is not self._trained
        if has_copy:
            for copy, weight in zip(self._stepped, self._trained, strict=True):
                copy.grad = None if weight.grad is None else weight.grad.float()
                weight.grad = None
        torch.nn.utils.clip_grad_norm_(self._stepped, self._config.grad_clip)
        self._optimizer.step()
        self._optimizer.zero_grad()
        if has_copy:
            with torch.no_grad():
                for copy, weight in zip(self._stepped, self._trained, strict=True):
                    weight.copy_(copy)
