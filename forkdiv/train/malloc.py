"""The C library's allocator, told to keep what a training step frees for the next one."""

from __future__ import annotations

import ctypes

# Of <malloc.h>, and in bytes.
SETTINGS = {
    -1: 2**30,  # M_TRIM_THRESHOLD: how much may be free at the end of a heap
    -2: 2**26,  # M_TOP_PAD: no heap of a thread (64 MiB each) is given up when it is empty
    -3: 2**25,  # M_MMAP_THRESHOLD: larger blocks are mapped one by one
}


def keep_freed() -> None:
    """Freed memory stays with the process, as GPUs' memory does with torch.

    A step on CPU frees its activations, and glibc gives them back to the system, soonest in
    threads but the first, where Ray Train's workers train; the next step then takes a page fault
    for every 4 KiB. Where there is another C library nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for setting, value in SETTINGS.items():
        mallopt(setting, value)
