"""How the examples of one optimizer step are dealt over workers and forward passes.

Which examples make a step is `train_plan.batches`' to say; how they are dealt is place: whatever is
chosen here, the step's loss and gradient are the same sums in another order.
"""

from __future__ import annotations

from collections.abc import Sequence

PackedRow = tuple[int, ...]  # examples side by side in one line of token ids


def lines(lengths: Sequence[int], pack_tokens: int | None) -> list[PackedRow]:
    """The examples, of `lengths` tokens each, in lines: one to a line, or packed.

    Packing is first fit, the longest first: no line but that of a single longer example holds
    more than `pack_tokens`, and fewer than twice the least possible number of lines are used.
    """
    if pack_tokens is None:
        return [(i,) for i in range(len(lengths))]
    packed: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        at = next((at for at, left in enumerate(room) if lengths[i] <= left), None)
        if at is None:
            at = len(room)
            packed.append([])
            room.append(pack_tokens)
        packed[at].append(i)
        room[at] -= lengths[i]
    return [tuple(line) for line in packed]


def deal(
    lengths: Sequence[int],
    world: int,
    micro_batch: int | None = None,
    pack_tokens: int | None = None,
) -> list[list[list[PackedRow]]]:
    """The lines of a step by forward pass and worker: every worker makes equally many passes,
    since ZeRO's workers meet in each; a pass without lines is an empty one.

    Where there is more than one pass, or lines are packed, lines of about one length come
    together, so that little is padded. `micro_batch` is the most lines of a pass, None all.
    """
    found = lines(lengths, pack_tokens)
    if micro_batch is not None or pack_tokens is not None:
        found.sort(key=lambda line: -sum(lengths[i] for i in line))
    mine = [found[rank::world] for rank in range(world)]
    most = max(len(part) for part in mine)
    size = micro_batch or max(most, 1)
    return [[part[first : first + size] for part in mine] for first in range(0, most, size)]
