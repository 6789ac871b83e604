"""A copy of a checkpoint with strongly changed weights, to see whether an engine follows."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from forkdiv.models.checkpoint import read_config
from forkdiv.models.shape import layer_count
from forkdiv.models.weights import INDEX, weight_files

# Standard deviation of the factor of each row, times the root of the number of layers: log-
# probabilities then change by about 2 nats, in a model of 4 layers and in one of 30.
STRENGTH = 0.3


def write_perturbed(source: Path, target: Path) -> None:
    """Writes a model like that of the folder `source` to `target`, without a tokenizer: each row of
    each weight is multiplied by its own factor, 1 ± about `STRENGTH` / √layers.

    The factors follow from the weight's own numbers, so that equal weights under two names, as
    tied embeddings may be saved, stay equal.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    target.mkdir(parents=True)
    strength = STRENGTH / (layer_count(read_config(source)) or 1) ** 0.5
    for file in weight_files(source):
        with safe_open(file, framework="pt") as tensors:
            names = list(tensors.keys())
            changed = {name: _scaled(tensors.get_tensor(name), strength) for name in names}
        save_file(changed, target / file.name, metadata={"format": "pt"})
    # what loaders of the weights read; not digests.json, which names those of the source
    for name in ("config.json", "generation_config.json", INDEX):
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


def _scaled(tensor: Any, strength: float) -> Any:
    import torch

    if not tensor.is_floating_point() or not tensor.ndim:
        return tensor
    start = tensor.flatten()[:256].float().numpy().tobytes()
    seed = int.from_bytes(hashlib.blake2b(start, digest_size=4).digest(), "big")
    random = torch.Generator().manual_seed(seed)
    factors = 1 + strength * torch.randn(len(tensor), generator=random)
    shape = (len(tensor),) + (1,) * (tensor.ndim - 1)
    return (tensor.float() * factors.view(shape)).to(tensor.dtype).contiguous()
