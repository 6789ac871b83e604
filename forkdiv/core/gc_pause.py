"""Python's garbage collector, held still while a process starts."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_still() -> Iterator[None]:
    """Nothing is collected in the block, and what is there at its end never will be.

    Importing torch, transformers or vLLM makes hundreds of thousands of objects that live as long
    as the process; going through them again and again is a seventh of the time that it takes.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collecting:
            gc.enable()
