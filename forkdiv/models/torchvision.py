"""Detects a torchvision that was built for another torch: it breaks the import of every
transformers model (`operator torchvision::nms does not exist`). forkdiv does not need it."""

from __future__ import annotations

import re
from importlib import metadata

from forkdiv.core.errors import refuse


def check_torchvision() -> None:
    """Raises UserError for an installed torchvision that was built for another torch. Reads package
    metadata only, since importing either package takes seconds."""
    try:
        vision = metadata.distribution("torchvision")
    except metadata.PackageNotFoundError:
        return
    torch = metadata.version("torch")
    release, _, build = torch.partition("+")
    required = _required_torch(vision.requires or [])
    vision_build = vision.version.partition("+")[2]
    # CPU builds have the tag `cpu`; a build without a tag is for CUDA
    if (required is None or required == release) and (build == "cpu") == (vision_build == "cpu"):
        return
    raise refuse(
        "the installed torchvision does not match torch, so no model can be loaded",
        f"torchvision {vision.version} with torch {torch}",
        "no torchvision (forkdiv does not need it), or a build for this torch",
        "run `pip uninstall torchvision` (or `uv pip uninstall torchvision`)",
    )


def _required_torch(requirements: list[str]) -> str | None:
    """Returns the release of torch that is pinned by a requirement such as `torch==2.13.0`."""
    for requirement in requirements:
        if match := re.match(r"torch\s*\(?\s*==\s*([\d.]+)", requirement):
            return match[1]
    return None
