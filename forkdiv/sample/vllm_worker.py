"""Code that runs in vLLM's worker process: it loads other weights into a running model, and
replaces the way tokens are drawn on a CPU.

vLLM mixes this class into its worker (`worker_extension_cls`). Nothing here may import Ray.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from forkdiv.sample import token_draws, weight_proof


class SwapExtension:
    """Methods that `collective_rpc` can call on every worker of the engine."""

    model_runner: Any

    def forkdiv_swap(self, path: str) -> dict[str, Any]:
        """Loads the checkpoint at `path` in place; returns the fields of a `weight_proof.Proof`.
        No request is answered before the first swap, which therefore installs `token_draws`."""
        token_draws.install(self.model_runner.sampler)
        return asdict(weight_proof.swap(self.model_runner, path))

    def forkdiv_free_bytes(self) -> int:
        """Returns the free memory of this worker's GPU, that of other processes considered."""
        import torch

        return int(torch.accelerator.get_memory_info()[0])
