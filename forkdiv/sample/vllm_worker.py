"""Code that runs in vLLM's worker process: it loads other weights into a running model.

vLLM mixes this class into its worker (`worker_extension_cls`). Nothing here may import Ray.
"""

from __future__ import annotations

from typing import Any


class SwapExtension:
    """Methods that `collective_rpc` can call on every worker of the engine."""

    model_runner: Any
    reload_weights: Any

    def forkdiv_swap(self, path: str, repack_tied_embeddings: bool) -> None:
        """Loads the checkpoint at `path` in place.

        On CPU, vLLM computes logits from a packed copy of the output embedding. With tied
        embeddings, a reload updates the embedding but not the packed copy, and vLLM then generates
        wrong output without an error. Packing the copy again corrects this.
        `repack_tied_embeddings` is False only in the test that the proof detects the fault.
        """
        from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

        self.reload_weights(weights_path=path)
        if not repack_tied_embeddings:
            return
        for module in self.model_runner.get_model().modules():
            if isinstance(module, VocabParallelEmbedding):
                module.quant_method.process_weights_after_loading(module)
