"""WiSE-FT: interpolates two checkpoints, θ = (1−α)·early + α·late (arXiv 2504.10478).

Tensors are read and written one at a time without building a model; memory holds one shard.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from forkdiv.core.errors import refuse
from forkdiv.core.fingerprint import Identity
from forkdiv.core.progress import Progress
from forkdiv.core.store import Store, publish_folder
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.digests import write_digests
from forkdiv.models.own_tensors import stored_twice
from forkdiv.models.pair import Pair, check_pair
from forkdiv.models.written import copy_small_files, write_shards

CHECKPOINT = "checkpoint"


def identity(early: Checkpoint, late: Checkpoint, alpha: float) -> Identity:
    """Returns the identity of the checkpoint interpolated at `alpha` (0: early, 1: late)."""
    parents = {"early": early.fingerprint, "late": late.fingerprint}
    config = {"alpha": alpha}
    if any(stored_twice(checkpoint.path) for checkpoint in (early, late)):
        config["by_index"] = True  # before, another file's tensor could be averaged
    return Identity("interpolation", config, parents)


def obtain(
    store: Store, early: Checkpoint, late: Checkpoint, alpha: float, progress: Progress
) -> Checkpoint:
    """Returns the checkpoint at `alpha`; writes it if it does not exist (errors: see `write`)."""
    for checkpoint in (early, late):
        store.whole(checkpoint.path)
    target = identity(early, late, alpha)

    def make(folder: Path) -> None:
        progress(f"interpolating at alpha {alpha:g}")
        write(early.path, late.path, alpha, folder / CHECKPOINT)

    return Checkpoint(store.obtain(target, make, progress).path / CHECKPOINT, target.fingerprint)


def write(early: Path, late: Path, alpha: float, out: Path) -> None:
    """Writes the checkpoint at `alpha` to `out` atomically.

    Sums are computed in float32 and stored in the dtype of `late`; the result has the config,
    tokenizer and shards of `late`. At 0 and 1 it has the weights of one side, bitwise equal if the
    dtypes agree.

    Raises UserError for a pair that `check_pair` refuses, and if a result is NaN, infinite or too
    large for the dtype of `late`; FileExistsError if `out` exists.
    """
    pair = check_pair(early, late)
    if out.exists():
        raise FileExistsError(f"{out} already exists")
    aside = out.with_name(f".{out.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        copy_small_files(late, aside)
        _write_weights(pair, alpha, aside)
        write_digests(aside)
        publish_folder(aside, out)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _write_weights(pair: Pair, alpha: float, out: Path) -> None:
    """Writes the shards of `late`, and their index if there are several."""
    files = {name: stored.file.name for name, stored in pair.late.stored.items()}
    write_shards(files, lambda name: _between(pair, name, alpha), out)


def _between(pair: Pair, name: str, alpha: float) -> torch.Tensor:
    partner = pair.partners[name]
    a, b = pair.early.load(partner), pair.late.load(name)
    sources = ((a, partner, pair.early), (b, name, pair.late))
    for tensor, source, own in sources:
        if not tensor.is_floating_point():
            raise refuse(
                f"the tensor {source} of {own.stored[source].file} cannot be interpolated",
                str(tensor.dtype),
                "floating-point weights",
                "export the checkpoint without quantisation",
            )
    # not a + α(b − a), which differs from b at α = 1
    exact = (b if alpha else a) if alpha in (0, 1) else (1 - alpha) * a.float() + alpha * b.float()
    summed = exact.to(b.dtype).contiguous()
    if bool(torch.isfinite(summed).all()):
        return summed
    for tensor, source, own in sources:
        if not bool(torch.isfinite(tensor).all()):
            raise refuse(
                f"the tensor {source} of {own.stored[source].file} has values that are not finite",
                "NaN or infinity",
                "finite weights",
                "use a checkpoint saved before the training diverged",
            )
    raise refuse(
        f"the tensor {name} of {pair.early.path} does not fit the dtype of {pair.late.path}",
        f"values up to {float(exact.abs().max()):g}, which {b.dtype} cannot store",
        f"values up to {torch.finfo(b.dtype).max:g}",
        "save a copy of the tuned checkpoint in bfloat16 or float32",
    )
