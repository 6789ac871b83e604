"""The number of CPU threads that compute a model, and how they wait for each other."""

from __future__ import annotations

from joblib import cpu_count

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
