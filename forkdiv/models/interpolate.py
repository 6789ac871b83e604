"""WiSE-FT: interpolates two checkpoints, θ = (1−α)·early + α·late (arXiv 2504.10478).

Tensors are read and written one at a time without building a model; memory holds one shard.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from forkdiv.core.errors import refuse
from forkdiv.core.fingerprint import Identity
from forkdiv.core.progress import Progress
from forkdiv.core.store import Store, publish_folder
from forkdiv.models.checkpoint import Checkpoint, same_config, same_tokenizer
from forkdiv.models.digests import write_digests

CHECKPOINT = "checkpoint"


def identity(early: Checkpoint, late: Checkpoint, alpha: float) -> Identity:
    """Returns the identity of the checkpoint interpolated at `alpha` (0: early, 1: late)."""
    parents = {"early": early.fingerprint, "late": late.fingerprint}
    return Identity("interpolation", {"alpha": alpha}, parents)


def obtain(
    store: Store, early: Checkpoint, late: Checkpoint, alpha: float, progress: Progress
) -> Checkpoint:
    """Returns the checkpoint at `alpha`; writes it if it does not exist (errors: see `write`)."""
    target = identity(early, late, alpha)

    def make(folder: Path) -> None:
        progress(f"interpolating at alpha {alpha:g}")
        write(early.path, late.path, alpha, folder / CHECKPOINT)

    return Checkpoint(store.obtain(target, make, progress).path / CHECKPOINT, target.fingerprint)


def write(early: Path, late: Path, alpha: float, out: Path) -> None:
    """Writes the checkpoint at `alpha` to `out` atomically.

    Sums are computed in float32 and stored in the precision of `late`; the result has the config,
    tokenizer and shards of `late`. At 0 and 1 it has the weights of one side, bitwise equal if the
    precisions agree.

    Raises UserError if the models differ in shapes, config or tokenizer, or if a weight is NaN or
    infinite; FileExistsError if `out` exists.
    """
    check_pair(early, late)
    if out.exists():
        raise FileExistsError(f"{out} already exists")
    aside = out.with_name(f".{out.name}")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(late, aside, ignore=shutil.ignore_patterns("*.safetensors", "record.json"))
    try:
        early_files = _files_by_tensor(early)
        for shard in sorted(late.glob("*.safetensors")):
            _write_shard(shard, early_files, alpha, aside / shard.name)
        write_digests(aside)
        publish_folder(aside, out)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def check_pair(early: Path, late: Path) -> None:
    """Raises UserError for two checkpoints that cannot be interpolated; reads headers only."""
    late_shapes, early_shapes = _shapes(late), _shapes(early)
    names = late_shapes.keys() | early_shapes.keys()
    differing = sorted(name for name in names if late_shapes.get(name) != early_shapes.get(name))
    remedy = "use the base model that the other checkpoint was tuned from"
    if differing:
        first = differing[0]
        raise refuse(
            f"the tensors of {early} and {late} differ in name or shape",
            f"{first} is {_shape_text(early_shapes, first)} in the first and "
            f"{_shape_text(late_shapes, first)} in the second; {len(differing)} tensors differ",
            "two checkpoints of the same model",
            remedy,
        )
    if not same_tokenizer(early, late):
        raise refuse(
            f"{early} and {late} have different tokenizers",
            "different ids for the same tokens",
            "two checkpoints with the same tokenizer",
            remedy,
        )
    if not same_config(early, late):
        raise refuse(
            f"{early} and {late} have different architectures",
            "different config.json files",
            "two checkpoints with the same architecture",
            remedy,
        )


def _write_shard(shard: Path, early_files: Mapping[str, Path], alpha: float, out: Path) -> None:
    summed = {}
    with safe_open(shard, framework="pt") as late:
        metadata = late.metadata()
        for name in late.keys():  # noqa: SIM118 (not a mapping)
            b = late.get_tensor(name)
            with safe_open(early_files[name], framework="pt") as early:
                a = early.get_tensor(name)
            for tensor, file in ((a, early_files[name]), (b, shard)):
                _check_finite(tensor, name, file)
            summed[name] = _between(a, b, alpha)
            _check_finite(summed[name], name, out)
    save_file(summed, out, metadata=metadata or {"format": "pt"})


def _between(a: torch.Tensor, b: torch.Tensor, alpha: float) -> torch.Tensor:
    # not a + α(b − a), which differs from b at α = 1
    if alpha in (0.0, 1.0):
        return (b if alpha else a).to(b.dtype).contiguous()
    return ((1 - alpha) * a.float() + alpha * b.float()).to(b.dtype)


def _check_finite(tensor: torch.Tensor, name: str, file: Path) -> None:
    if not tensor.is_floating_point():
        raise refuse(
            f"the tensor {name} of {file} cannot be interpolated",
            str(tensor.dtype),
            "floating-point weights",
            "export the checkpoint without quantisation",
        )
    if not bool(torch.isfinite(tensor).all()):
        raise refuse(
            f"the tensor {name} of {file} has values that are not finite",
            "NaN or infinity",
            "finite weights",
            "use a checkpoint saved before the training diverged",
        )


def _files_by_tensor(path: Path) -> dict[str, Path]:
    """Maps each tensor to the file that contains it."""
    files: dict[str, Path] = {}
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            files |= dict.fromkeys(opened.keys(), file)
    return files


def _shapes(path: Path) -> dict[str, list[int]]:
    """Maps each tensor to its shape, read from the headers of the files."""
    shapes: dict[str, list[int]] = {}
    for file in sorted(path.glob("*.safetensors")):
        with file.open("rb") as opened:
            header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        header.pop("__metadata__", None)
        shapes |= {name: entry["shape"] for name, entry in header.items()}
    return shapes


def _shape_text(shapes: Mapping[str, list[int]], name: str) -> str:
    return "×".join(map(str, shapes[name])) if name in shapes else "missing"
