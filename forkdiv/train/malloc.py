"""Makes the C library's allocator keep freed memory for the next training step."""

from __future__ import annotations

import ctypes

# Parameters of mallopt, from <malloc.h>; values in bytes.
SETTINGS = {
    -1: 2**30,  # M_TRIM_THRESHOLD: free memory that a heap may keep at its end
    -2: 2**26,  # M_TOP_PAD: keeps the empty heaps of threads, 64 MiB each
    -3: 2**25,  # M_MMAP_THRESHOLD: larger blocks are mapped separately
}


def keep_freed_memory() -> None:
    """Keeps freed memory in the process, as torch does with GPU memory.

    After a step on CPU, glibc returns the memory of the activations to the system, especially in
    threads other than the main thread, where Ray Train runs the training function. The next step
    then has a page fault for every 4 KiB. Has no effect with a C library without mallopt.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for setting, value in SETTINGS.items():
        mallopt(setting, value)
