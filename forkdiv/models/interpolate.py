"""WiSE-FT: a checkpoint between two others, θ = (1−α)·early + α·late (arXiv 2504.10478).

Read and written tensor by tensor, without building either model: memory holds one shard.
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
from forkdiv.models.digests import seal

CHECKPOINT = "checkpoint"


def identity(early: Checkpoint, late: Checkpoint, alpha: float) -> Identity:
    """Of the checkpoint that lies `alpha` of the way from `early` to `late`."""
    parents = {"early": early.fingerprint, "late": late.fingerprint}
    return Identity("interpolation", {"alpha": alpha}, parents)


def obtain(
    store: Store, early: Checkpoint, late: Checkpoint, alpha: float, progress: Progress
) -> Checkpoint:
    """The checkpoint at `alpha`, made where it does not exist; see `write` for what is refused."""
    what = identity(early, late, alpha)

    def make(folder: Path) -> None:
        progress(f"interpolating: alpha {alpha:g}")
        write(early.path, late.path, alpha, folder / CHECKPOINT)

    return Checkpoint(store.obtain(what, make, progress).path / CHECKPOINT, what.fingerprint)


def write(early: Path, late: Path, alpha: float, out: Path) -> None:
    """Write the checkpoint at `alpha` to `out`, all of it or nothing.

    Sums are float32, and stored in the precision of `late`, whose config, tokenizer and shards
    the result has. At 0 and 1 it holds the weights of one side, to the bit where precisions agree.

    Raises UserError for two models of other shapes, configs or tokenizers, and for a weight that
    is no finite number; FileExistsError where `out` is there.
    """
    check_pair(early, late)
    if out.exists():
        raise FileExistsError(f"{out} is there already")
    aside = out.with_name(f".{out.name}")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(late, aside, ignore=shutil.ignore_patterns("*.safetensors", "record.json"))
    try:
        theirs = _places(early)
        for shard in sorted(late.glob("*.safetensors")):
            _write_shard(shard, theirs, alpha, aside / shard.name)
        seal(aside)
        publish_folder(aside, out)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def check_pair(early: Path, late: Path) -> None:
    """Refuse two checkpoints between which there is none: judged by headers, before any sum."""
    ours, theirs = _shapes(late), _shapes(early)
    apart = sorted(
        name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)
    )
    if apart:
        first = apart[0]
        raise refuse(
            f"{early} and {late} have tensors of other names or shapes",
            f"{first} is {_said(theirs, first)} in one and {_said(ours, first)} in the other, "
            f"{len(apart)} tensors differ",
            "two checkpoints of one model",
            "name the model that the other was tuned from",
        )
    if not same_tokenizer(early, late):
        raise refuse(
            f"{early} and {late} have other tokenizers",
            "other words for the same tokens",
            "two checkpoints of one tokenizer",
            "name the model that the other was tuned from",
        )
    if not same_config(early, late):
        raise refuse(
            f"{early} and {late} compute in other ways",
            "another config.json",
            "two checkpoints of one architecture",
            "name the model that the other was tuned from",
        )


def _write_shard(shard: Path, theirs: Mapping[str, Path], alpha: float, out: Path) -> None:
    summed = {}
    with safe_open(shard, framework="pt") as late:
        metadata = late.metadata()
        for name in late.keys():  # noqa: SIM118 (no mapping)
            b = late.get_tensor(name)
            with safe_open(theirs[name], framework="pt") as early:
                a = early.get_tensor(name)
            for tensor, file in ((a, theirs[name]), (b, shard)):
                _check_finite(tensor, name, file)
            summed[name] = _between(a, b, alpha)
            _check_finite(summed[name], name, out)
    save_file(summed, out, metadata=metadata or {"format": "pt"})


def _between(a: torch.Tensor, b: torch.Tensor, alpha: float) -> torch.Tensor:
    # not a + α(b − a): at α = 1 that is not b
    if alpha in (0.0, 1.0):
        return (b if alpha else a).to(b.dtype).contiguous()
    return ((1 - alpha) * a.float() + alpha * b.float()).to(b.dtype)


def _check_finite(tensor: torch.Tensor, name: str, file: Path) -> None:
    if not tensor.is_floating_point():
        raise refuse(
            f"the tensor {name} of {file} cannot be averaged",
            str(tensor.dtype),
            "weights in floating point",
            "export the checkpoint without quantisation",
        )
    if not bool(torch.isfinite(tensor).all()):
        raise refuse(
            f"the tensor {name} of {file} is no finite number throughout",
            "NaN or infinity",
            "finite weights",
            "name a checkpoint from before training went wrong",
        )


def _places(path: Path) -> dict[str, Path]:
    """The file that holds each tensor."""
    found: dict[str, Path] = {}
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            found |= dict.fromkeys(opened.keys(), file)
    return found


def _shapes(path: Path) -> dict[str, list[int]]:
    """Of every tensor, from the files' headers alone."""
    found: dict[str, list[int]] = {}
    for file in sorted(path.glob("*.safetensors")):
        with file.open("rb") as opened:
            header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        found |= {name: one["shape"] for name, one in header.items() if name != "__metadata__"}
    return found


def _said(shapes: Mapping[str, list[int]], name: str) -> str:
    return "×".join(map(str, shapes[name])) if name in shapes else "missing"
