"""A checkpoint as it may be after one optimizer step."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def one_step_later(source: Path, folder: Path, seed: int = 0) -> Path:
    """The checkpoint after what one optimizer step may change: each number by a unit in its last
    places, up or down."""
    torch.manual_seed(seed)
    folder.mkdir()
    for file in source.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
            continue
        tensors = load_file(file)
        for name, tensor in tensors.items():
            step = torch.finfo(tensor.dtype).eps * (torch.rand(tensor.shape) < 0.5)
            tensors[name] = (tensor.float() * (1 + step.float())).to(tensor.dtype)
        save_file(tensors, folder / file.name, metadata={"format": "pt"})
    return folder
