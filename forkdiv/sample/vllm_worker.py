"""Code that runs in vLLM's worker process: it loads other weights into a running model.

vLLM mixes this class into its worker (`worker_extension_cls`). Nothing here may import Ray.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from forkdiv.sample import weight_proof


class SwapExtension:
    """Methods that `collective_rpc` can call on every worker of the engine."""

    model_runner: Any

    def forkdiv_swap(self, path: str) -> dict[str, Any]:
        """Loads the checkpoint at `path` in place; returns the fields of a `weight_proof.Proof`."""
        return asdict(weight_proof.swap(self.model_runner, path))

    def forkdiv_free_bytes(self) -> int:
        """Returns the free memory of this worker's GPU, that of other processes considered."""
        import torch

        return int(torch.accelerator.get_memory_info()[0])
