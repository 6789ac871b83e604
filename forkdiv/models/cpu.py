"""What this machine's CPU offers a model: threads, and instructions for bfloat16."""

from __future__ import annotations

from pathlib import Path

from joblib import cpu_count

CPUINFO = Path("/proc/cpuinfo")
BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # the last on ARM

# Below, threads wait for each other longer than they compute.
PARAMETERS_PER_THREAD = 10_000_000

# GNU OpenMP's threads otherwise wait in a loop that uses a core. Where other processes need that
# core too (sampling while training continues), the thread that the others wait for does not run.
WAITING = {"GOMP_SPINCOUNT": "0"}


def threads(parameters: int, sharing: int = 1) -> int:
    """Returns the number of threads for a model of so many parameters, in one of `sharing`
    processes that compute on this machine at the same time: one, and more for larger models, up to
    the physical cores that this process may use (by its affinity and its container's limit)."""
    cores: int = cpu_count(only_physical_cores=True)
    return max(1, min(cores // sharing, parameters // PARAMETERS_PER_THREAD))


def lacks_bfloat16() -> bool:
    """Returns whether this CPU is known to have no instructions for bfloat16, so that every number
    is converted to float32 and back."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except FileNotFoundError:  # not Linux
        return False
    features = {
        word
        for line in lines
        if line.startswith(("flags", "Features"))
        for word in line.partition(":")[2].split()
    }
    return bool(features) and not features & BFLOAT16
