"""How vLLM's worker draws tokens on a CPU: with one random number for each, by inverting the
distribution function.

For a request with a seed, vLLM draws exponential noise for the whole vocabulary, row by row, after
it drew it for all rows at once for nothing. At 49,152 tokens and 64 rows one of the two takes 64 ms
of a step of 183 ms; here drawing takes 2 ms. On a GPU vLLM's own way is used: this one was never
tried there.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

BLOCK = 192  # tokens that are summed first: about the square root of a vocabulary


def install(sampler: Any) -> None:
    """Makes vLLM's sampler (`vllm.v1.sample.sampler.Sampler`) of a CPU worker draw tokens so."""
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        sampler.topk_topp_sampler.forward = partial(_forward, sampler.topk_topp_sampler)


def _forward(
    replaced: Any,
    logits: torch.Tensor,
    generators: Mapping[int, torch.Generator],
    k: torch.Tensor | None,
    p: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Does what `TopKTopPSampler.forward_cpu` of vLLM does, with `draw`."""
    import torch
    from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p

    logits = apply_top_k_top_p(logits, k, p)
    returned = None
    if replaced.logprobs_mode == "processed_logits":
        returned = logits
    elif replaced.logprobs_mode == "processed_logprobs":
        returned = logits.log_softmax(dim=-1, dtype=torch.float32)
    return draw(logits.softmax(dim=-1, dtype=torch.float32), generators), returned


def draw(probabilities: torch.Tensor, generators: Mapping[int, torch.Generator]) -> torch.Tensor:
    """Returns a token for each row of `probabilities` [rows, vocabulary], which need not sum to 1:
    int64 [rows]. A row takes one number from its generator, or from torch's own if it has none.
    """
    import torch

    uniform = torch.empty(len(probabilities), 1, dtype=torch.float64)
    if len(generators) < len(probabilities):
        uniform.uniform_()
    for row, generator in generators.items():
        uniform[row].uniform_(generator=generator)
    return quantile(probabilities, uniform)


def quantile(probabilities: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Returns the first token of each row at which the sum of the probabilities up to it exceeds
    `share` (in [0, 1), float64 [rows, 1]) of the row's sum: int64 [rows]. Tokens of probability 0
    are never returned. Sums are float64; first those of blocks, then those within one block.
    """
    import torch

    rows, vocabulary = probabilities.shape
    padded = torch.nn.functional.pad(probabilities, (0, -vocabulary % BLOCK))
    blocks = padded.view(rows, -1, BLOCK)
    sums = blocks.sum(dim=-1, dtype=torch.float64).cumsum(dim=-1)
    reached = share * sums[:, -1:]
    block = torch.searchsorted(sums, reached, right=True).clamp(max=blocks.shape[1] - 1)
    before = torch.where(block > 0, sums.gather(1, (block - 1).clamp(min=0)), 0.0)
    index = block[:, :, None].expand(-1, -1, BLOCK)
    within = blocks.gather(1, index)[:, 0].cumsum(dim=-1, dtype=torch.float64)
    # `sums` adds in another order, so that the rest may exceed the block's own sum by its last bit
    most = torch.nextafter(within[:, -1:], torch.zeros(1, dtype=torch.float64))
    rest = (reached - before).minimum(most)
    token = block * BLOCK + torch.searchsorted(within, rest, right=True)
    return token.clamp(max=vocabulary - 1)[:, 0]
