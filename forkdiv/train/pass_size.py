"""The number of rows in one forward pass where the user did not set it: as many as fit into the
memory, by the estimate of `forkdiv plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forkdiv.core.config.study import PlaceConfig, SftConfig
from forkdiv.core.errors import UserError
from forkdiv.models.checkpoint import read_config
from forkdiv.train import memory
from forkdiv.train.memory import Shape

# The rest is for what the estimate does not know, such as the attention's own buffers. On a CPU the
# engine, Ray and the driver need memory too.
GPU_SHARE, CPU_SHARE = 0.8, 0.5


def with_pass_size(
    start: Path, sft: SftConfig, place: PlaceConfig, tokens: int, gib: float
) -> tuple[PlaceConfig, str]:
    """Returns `with_rows_that_fit` for the model of the checkpoint `start`; the place unchanged and
    a line that says so, if the estimate does not know the model."""
    if place.micro_batch is not None:
        return place, ""
    try:
        shape = memory.shape(read_config(start), sft)
    except UserError as error:  # a model that trains may have a layout that the estimate lacks
        return place, f"the memory is not known, so a step is one forward pass: {error}"
    return with_rows_that_fit(shape, sft, place, tokens, gib)


def with_rows_that_fit(
    shape: Shape, sft: SftConfig, place: PlaceConfig, tokens: int, gib: float
) -> tuple[PlaceConfig, str]:
    """Returns the place with the `micro_batch` of a worker that may fill `gib` GiB, for examples of
    at most `tokens` tokens, and a line that says so; unchanged and "" if it is set, or if all rows
    fit."""
    rows = None if place.micro_batch else rows_that_fit(shape, sft, place, tokens, gib)
    if rows is None:
        return place, ""
    number = f"{rows} row{'s' * (rows > 1)}"
    line = f"{number} in a forward pass, by the estimate of memory (place.micro_batch)"
    return place.model_copy(update={"micro_batch": rows}), line


def rows_that_fit(
    shape: Shape, sft: SftConfig, place: PlaceConfig, tokens: int, gib: float
) -> int | None:
    """Returns the largest number of rows in a pass whose estimate is at most `gib` GiB, and 1 if
    none is; None if all rows of a step are."""

    def fits(rows: int | None) -> bool:
        one = place.model_copy(update={"micro_batch": rows})
        return memory.estimate(shape, sft, one, tokens).total <= gib

    if fits(None):
        return None
    rows = 1
    while fits(2 * rows):
        rows *= 2
    return rows


def memory_of_worker(place: PlaceConfig, workers: int) -> float:
    """Returns the GiB that one of `workers` workers on this machine may fill: of its GPU, or of
    the machine's or container's memory."""
    import torch

    if place.device == "gpu":
        properties: Any = torch.cuda.get_device_properties(torch.cuda.current_device())
        return float(GPU_SHARE * properties.total_memory / memory.GIB)
    from ray._common.utils import get_system_memory

    return float(CPU_SHARE * get_system_memory() / workers / memory.GIB)


def smallest(gib: float, device: Any) -> float:
    """Returns the smallest of the ranks' numbers: all must run the same number of passes."""
    import torch
    import torch.distributed as dist

    value = torch.tensor([gib], dtype=torch.float32, device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MIN)
    return float(value.item())
