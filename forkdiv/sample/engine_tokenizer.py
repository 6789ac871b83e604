"""The tokenizer that vLLM uses for requests over HTTP, which bring text and expect text.

One engine serves checkpoints with different tokenizers. Requests for one checkpoint run together,
and the engine is idle at a swap, so a swap can change the tokenizer too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM


def set_tokenizer(llm: AsyncLLM, path: Path, ends: Sequence[int]) -> None:
    """Makes the idle engine encode and decode text with the tokenizer of the checkpoint at `path`,
    and end responses at any of `ends`."""
    from vllm.tokenizers.registry import get_tokenizer

    tokenizer = get_tokenizer(path, trust_remote_code=False)
    # read for each request: the renderer encodes prompts, the output processor decodes responses
    llm.renderer.tokenizer = tokenizer
    llm.output_processor.tokenizer = tokenizer
    llm.input_processor.generation_config_fields = {"eos_token_id": list(ends)}
