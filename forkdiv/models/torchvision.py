"""A torchvision that does not fit torch breaks every import of a transformers model, with
`operator torchvision::nms does not exist`. forkdiv itself does not need it."""

from __future__ import annotations

import re
from importlib import metadata

from forkdiv.core.errors import refuse


def check_torchvision() -> None:
    """Refuse an installed torchvision that was built for another torch. Reads the packages'
    metadata only; importing either takes seconds."""
    try:
        vision = metadata.distribution("torchvision")
    except metadata.PackageNotFoundError:
        return
    torch = metadata.version("torch")
    release, _, build = torch.partition("+")
    wanted = _torch_of(vision.requires or [])
    own_build = vision.version.partition("+")[2]
    # a build for CPUs says so; one without a tag is for CUDA
    if (wanted is None or wanted == release) and (build == "cpu") == (own_build == "cpu"):
        return
    raise refuse(
        "the installed torchvision does not fit torch, and no model can be loaded with it",
        f"torchvision {vision.version} beside torch {torch}",
        "none (forkdiv does not need it), or one built for this torch",
        "run `pip uninstall torchvision` (or `uv pip uninstall torchvision`)",
    )


def _torch_of(requires: list[str]) -> str | None:
    """The release of torch that is asked for, from requirements such as `torch==2.13.0`."""
    for one in requires:
        if match := re.match(r"torch\s*\(?\s*==\s*([\d.]+)", one):
            return match[1]
    return None
