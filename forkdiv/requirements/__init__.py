"""The pinned versions of everything that forkdiv needs, as the wheel ships them.

`python -m forkdiv.requirements cpu` (or gpu) prints the path of the file for pip or uv; it needs
nothing but Python, so that it runs before anything else is installed.
"""

from __future__ import annotations

from pathlib import Path

DEVICES = ("cpu", "gpu")


def pins(device: str) -> Path:
    """The file of pins for a device. Raises KeyError for another one."""
    if device not in DEVICES:
        raise KeyError(device)
    return Path(__file__).absolute().parent / f"{device}.txt"
