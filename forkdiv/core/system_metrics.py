"""What this machine does at the moment, under the names that MLflow gives system metrics."""

from __future__ import annotations

from functools import cache
from typing import Any

import psutil


def system_metrics() -> dict[str, float]:
    """Returns the use of CPU (since the last call, in percent), memory and GPUs of this machine.
    Memory is in MB, as MLflow's own."""
    memory = psutil.virtual_memory()
    metrics = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": round(memory.used / 1e6, 1),
        "system_memory_usage_percentage": round(memory.used / memory.total * 100, 1),
    }
    for i, handle in enumerate(_gpus()):
        metrics |= _gpu(i, handle)
    return metrics


@cache
def _gpus() -> list[Any]:
    try:
        import pynvml
    except ImportError:  # machines without a GPU
        return []
    try:
        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


def _gpu(i: int, handle: Any) -> dict[str, float]:
    import pynvml

    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        use = pynvml.nvmlDeviceGetUtilizationRates(handle)
    except pynvml.NVMLError:  # a GPU that is divided (MIG) does not say
        return {}
    return {
        f"gpu_{i}_utilization_percentage": float(use.gpu),
        f"gpu_{i}_memory_usage_megabytes": round(memory.used / 1e6, 1),
        f"gpu_{i}_memory_usage_percentage": round(memory.used / memory.total * 100, 1),
    }
