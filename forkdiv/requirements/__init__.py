"""The pinned versions of everything that forkdiv needs, as the wheel ships them.

`python -m forkdiv.requirements cpu` (or gpu) prints the path of the file for pip or uv; s3 that of
the packages for S3-compatible storage, beside one of these. It needs nothing but Python, so that it
runs before anything else is installed.
"""

from __future__ import annotations

from pathlib import Path

DEVICES, EXTRAS = ("cpu", "gpu"), ("s3",)


def pins(name: str) -> Path:
    """The file of pins for a device or an extra. Raises KeyError for another one."""
    if name not in (*DEVICES, *EXTRAS):
        raise KeyError(name)
    return Path(__file__).absolute().parent / f"{name}.txt"
