"""What runs inside vLLM's own worker process: putting other weights into a live model.

vLLM mixes this class into its worker (`worker_extension_cls`). Nothing here may import Ray.
"""

from __future__ import annotations

from typing import Any


class SwapExtension:
    """Methods that `collective_rpc` can name on every worker of the engine."""

    model_runner: Any
    reload_weights: Any

    def forkdiv_swap(self, path: str, repack_tied_embeddings: bool) -> None:
        """Load the checkpoint at `path` in place.

        On CPU vLLM computes logits from a packed copy of the output embedding. With tied
        embeddings the reload refreshes the embedding and leaves that copy as it was: output
        of neither checkpoint, without a word. Repacking mends it. `repack_tied_embeddings` is
        False only in the test that shows the proof catching this.
        """
        from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

        self.reload_weights(weights_path=path)
        if not repack_tied_embeddings:
            return
        for module in self.model_runner.get_model().modules():
            if isinstance(module, VocabParallelEmbedding):
                module.quant_method.process_weights_after_loading(module)
