"""Distributes the examples of one optimizer step over workers and forward passes.

`schedule.batches` decides which examples make a step. Their distribution does not change the result
except for rounding: the loss and the gradient are the same sums in another order.
"""

from __future__ import annotations

from collections.abc import Sequence

PackedRow = tuple[int, ...]  # indices of the examples that share one row of token ids


def pack(lengths: Sequence[int], pack_tokens: int | None) -> list[PackedRow]:
    """Packs examples of `lengths` tokens into rows; one example per row if `pack_tokens` is None.

    Uses first-fit decreasing: a row has at most `pack_tokens` tokens, unless it is a single longer
    example, and there are fewer than twice the smallest possible number of rows.
    """
    if pack_tokens is None:
        return [(i,) for i in range(len(lengths))]
    packed: list[list[int]] = []
    room: list[int] = []  # tokens that still fit into each row
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        row = next((row for row, left in enumerate(room) if lengths[i] <= left), None)
        if row is None:
            row = len(room)
            packed.append([])
            room.append(pack_tokens)
        packed[row].append(i)
        room[row] -= lengths[i]
    return [tuple(row) for row in packed]


def forward_passes(
    lengths: Sequence[int],
    world: int,
    micro_batch: int | None = None,
    pack_tokens: int | None = None,
) -> list[list[list[PackedRow]]]:
    """Returns the packed rows of a step by forward pass and worker.

    Every worker runs the same number of passes, because ZeRO synchronizes the workers in each
    pass; a worker may have no rows in a pass. With several passes or packed rows, rows of similar
    length share a pass, which saves padding. `micro_batch` is the maximum number of rows per
    worker and pass; None puts all rows into one pass.
    """
    rows = pack(lengths, pack_tokens)
    if micro_batch is not None or pack_tokens is not None:
        rows.sort(key=lambda row: -sum(lengths[i] for i in row))
    by_rank = [rows[rank::world] for rank in range(world)]
    most = max(len(part) for part in by_rank)
    size = micro_batch or max(most, 1)
    return [[part[first : first + size] for part in by_rank] for first in range(0, most, size)]
