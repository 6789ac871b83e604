"""The tensors of one forward pass: rows of token ids, with one or several examples per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from forkdiv.data.tokenized import Row
from forkdiv.train.losses.base import BaseTargets
from forkdiv.train.losses.response import IGNORED
from forkdiv.train.packing import PackedRow
from forkdiv.train.targets import RowTargets, padded

PADDING = -1


@dataclass(frozen=True)
class ForwardInputs:
    """The inputs and targets of a forward pass.

    `ids` (rows, width): token ids. `targets` (rows, width): the token to predict at each position,
    IGNORED where that is not a response token. `first` (rows, width): True at the position that
    predicts the first token of a response.

    `positions` (rows, width) and `mask` (rows, 1, width, width), True where a position may attend
    to another, are None where every row has one example: attention is causal, so padding on the
    right needs neither. In place of a mask, `boundaries` (examples + 1), int32, has the first
    position of each example and the end of the last; there is then one row, and no padding.

    `label_weight`, `base_weight`, `base_ids` and `base_p` are those of `BaseTargets` for the
    response tokens, row by row; None without a learnability table.
    """

    ids: Tensor
    targets: Tensor
    first: Tensor
    positions: Tensor | None = None
    mask: Tensor | None = None
    boundaries: Tensor | None = None
    longest: int = 0  # tokens of the longest example; read with `boundaries`
    label_weight: Tensor | None = None
    base_weight: Tensor | None = None
    base_ids: Tensor | None = None
    base_p: Tensor | None = None

    def to(self, device: Any) -> ForwardInputs:
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)

    @property
    def base(self) -> BaseTargets | None:
        """The targets of the response tokens for losses that read a learnability table."""
        if self.label_weight is None:
            return None
        assert self.base_weight is not None
        assert self.base_ids is not None and self.base_p is not None
        return BaseTargets(self.label_weight, self.base_weight, self.base_ids, self.base_p)

    @property
    def inputs(self) -> dict[str, Any]:
        """The keyword arguments of a transformers causal language model."""
        extra = {"position_ids": self.positions, "attention_mask": self.mask}
        known = {"input_ids": self.ids} | {k: v for k, v in extra.items() if v is not None}
        if self.boundaries is None:
            return known
        # transformers passes them on to the attention of every layer
        ends = {"cu_seq_lens_q": self.boundaries, "cu_seq_lens_k": self.boundaries}
        return known | ends | {"max_length_q": self.longest, "max_length_k": self.longest}


def collate(
    rows: Sequence[Row],
    packed: Sequence[PackedRow],
    boundaries: bool = False,
    row_targets: Sequence[RowTargets] | None = None,
) -> ForwardInputs:
    """Returns the packed rows as tensors; with `boundaries`, all of them as one row with the
    boundaries of its examples in place of a mask. Without packed rows it returns one row with no
    targets, so that every worker runs a forward pass. `row_targets` are those of `rows`."""
    if boundaries and packed:
        packed = [tuple(i for row in packed for i in row)]
    filled = packed or [(0,)]
    spans = [_spans(rows, row) for row in filled]
    shape = (len(filled), max(row[-1][2] for row in spans))
    ids = torch.zeros(shape, dtype=torch.long)
    targets = torch.full(shape, IGNORED)
    first = torch.zeros(shape, dtype=torch.bool)
    positions = torch.zeros(shape, dtype=torch.long)
    example = torch.full(shape, PADDING)
    for r, row in enumerate(spans):
        for i, start, end in row:
            prompt, response = rows[i]
            ids[r, start:end] = torch.tensor([*prompt, *response])
            positions[r, start:end] = torch.arange(end - start)
            example[r, start:end] = i
            if packed:
                predicts_first = start + len(prompt) - 1
                targets[r, predicts_first : end - 1] = torch.tensor(response)
                first[r, predicts_first] = True
    inputs = ForwardInputs(ids, targets, first)
    if row_targets is not None:
        # a response's tokens keep their order in a row, and so does `padded`
        of_rows = padded([row_targets[i] for row in packed for i in row])
        label, base, likely, p = map(torch.from_numpy, of_rows)
        inputs = replace(inputs, label_weight=label, base_weight=base, base_ids=likely, base_p=p)
    if boundaries:
        ends = torch.tensor([0, *(end for _, _, end in spans[0])], dtype=torch.int32)
        longest = int(ends.diff().max())
        return replace(inputs, positions=positions, boundaries=ends, longest=longest)
    if all(len(row) == 1 for row in filled):
        return inputs
    # padding attends to padding: a position that attends to nothing would become NaN
    mask = (example[:, :, None] == example[:, None, :]).tril()
    return replace(inputs, positions=positions, mask=mask[:, None])


def _spans(rows: Sequence[Row], packed: PackedRow) -> list[tuple[int, int, int]]:
    """Returns (example, start, end) for each example of a packed row."""
    spans, start = [], 0
    for i in packed:
        end = start + len(rows[i][0]) + len(rows[i][1])
        spans.append((i, start, end))
        start = end
    return spans
