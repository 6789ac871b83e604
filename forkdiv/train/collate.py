"""What one forward pass reads: lines of token ids, one example or several to a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from forkdiv.data.tokenized import Row
from forkdiv.train.losses.response import IGNORED
from forkdiv.train.packing import PackedRow

PADDING = -1


@dataclass(frozen=True)
class ForwardInputs:
    """All of shape (lines, width): token ids, the token that each position is to predict
    (IGNORED where it is none of a response), and where a response's first token is predicted.

    `positions` and `mask`, (lines, 1, width, width) and True where one position may look at
    another, are None where no line holds two examples: padding on the right needs neither, since
    no position looks at what comes after it.
    """

    ids: Tensor
    targets: Tensor
    first: Tensor
    positions: Tensor | None = None
    mask: Tensor | None = None

    def to(self, device: Any) -> ForwardInputs:
        return ForwardInputs(
            self.ids.to(device),
            self.targets.to(device),
            self.first.to(device),
            None if self.positions is None else self.positions.to(device),
            None if self.mask is None else self.mask.to(device),
        )

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What a causal model of transformers takes."""
        extra = {"position_ids": self.positions, "attention_mask": self.mask}
        return {"input_ids": self.ids} | {k: v for k, v in extra.items() if v is not None}


def collate(rows: Sequence[Row], lines: Sequence[PackedRow]) -> ForwardInputs:
    """The lines as tensors; where there are none, a line that no loss is taken on."""
    shown = lines or [(0,)]
    spans = [_spans(rows, line) for line in shown]
    shape = (len(shown), max(line[-1][2] for line in spans))
    ids = torch.zeros(shape, dtype=torch.long)
    targets = torch.full(shape, IGNORED)
    first = torch.zeros(shape, dtype=torch.bool)
    positions = torch.zeros(shape, dtype=torch.long)
    owner = torch.full(shape, PADDING)
    for at, line in enumerate(spans):
        for i, start, end in line:
            prompt, response = rows[i]
            ids[at, start:end] = torch.tensor([*prompt, *response])
            positions[at, start:end] = torch.arange(end - start)
            owner[at, start:end] = i
            if lines:
                asked = start + len(prompt) - 1  # the position that predicts the first token
                targets[at, asked : end - 1] = torch.tensor(response)
                first[at, asked] = True
    if all(len(line) == 1 for line in shown):
        return ForwardInputs(ids, targets, first)
    # padding looks at padding: a position that may look at nothing would be NaN
    mask = (owner[:, :, None] == owner[:, None, :]).tril()
    return ForwardInputs(ids, targets, first, positions, mask[:, None])


def _spans(rows: Sequence[Row], line: PackedRow) -> list[tuple[int, int, int]]:
    """Each example of the line with where it begins and ends."""
    found, start = [], 0
    for i in line:
        end = start + len(rows[i][0]) + len(rows[i][1])
        found.append((i, start, end))
        start = end
    return found
