"""The tokenizer that vLLM uses for requests over HTTP, which bring text and expect text, and for
samples that end at the texts of decoder.stop.

One engine serves checkpoints with different tokenizers. Requests for one checkpoint run together,
and no request is in flight when another is swapped in, so that the tokenizer can be exchanged then.
Other samples of a study do not use it: they are requested and returned as token ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkdiv.models.asked import OwnTokenizer

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM


def set_tokenizer(llm: AsyncLLM, own: OwnTokenizer) -> None:
    """Makes the engine encode and decode text with a checkpoint's own tokenizer, and end responses
    at any of its end tokens. Call it while the checkpoint is held."""
    from vllm.tokenizers.hf import get_cached_tokenizer, maybe_make_thread_pool

    tokenizer = get_cached_tokenizer(own.tokenizer)
    # it is used by the threads that encode prompts and by the event loop, as in vLLM's own renderer
    maybe_make_thread_pool(tokenizer, llm.model_config.renderer_num_workers + 1)
    # read for each request: the renderer encodes prompts, the output processor decodes responses
    llm.renderer.tokenizer = tokenizer
    llm.output_processor.tokenizer = tokenizer
    llm.input_processor.generation_config_fields = {"eos_token_id": list(own.ends)}
