"""Swaps that go wrong in a way of their own, for tests that a wrong swap is refused.

`worker_extension` of an engine takes the place of `SwapExtension`; `FAULTS` are ways to load a
checkpoint wrongly, each a function of vLLM's model runner and the path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from forkdiv.sample import weight_proof
from forkdiv.sample.vllm_worker import SwapExtension


class StaleFourthSwap(SwapExtension):
    """The fourth swap of an engine loads nothing and reports what a proof then finds. The first two
    are those of the check of its outputs."""

    count = 0

    def forkdiv_swap(self, path: str) -> dict[str, Any]:
        self.count += 1
        if self.count != 4:
            return super().forkdiv_swap(path)
        return asdict(weight_proof.verify(self.model_runner, path))


class OutputLayerNotPacked(SwapExtension):
    """As vLLM does it by itself: with tied embeddings the packed output layer stays as it was. The
    proof by bits is left out, so that only the check of outputs can see it."""

    def forkdiv_swap(self, path: str) -> dict[str, Any]:
        self.model_runner.reload_weights(weights_path=path)
        return {"problems": [], "not_finite": [], "tensors": 0, "bytes": 0} | {
            "load_s": 0.0,
            "verify_s": 0.0,
        }


Weights = Iterator[tuple[str, Tensor]]
Change = Callable[[str, Tensor, Tensor], Tensor | None]  # name, new and old weights -> loaded


def loaded_with(change: Change) -> Callable[[Any, str, dict[str, Tensor]], None]:
    """A load of a checkpoint in which `change` decides what is loaded; None leaves a tensor out."""

    def load(runner: Any, path: str, old: dict[str, Tensor]) -> None:
        from vllm.model_executor.model_loader import get_model_loader

        loader: Any = get_model_loader(runner.load_config)
        reload = runner.reload_weights

        def changed() -> Weights:
            for name, tensor in loader.get_all_weights(runner.model_config, runner.get_model()):
                loaded = change(name, tensor, old[name])
                if loaded is not None:
                    yield name, loaded

        def instead(weights_path: str) -> None:
            runner.model_config.model = weights_path
            reload(weights_iterator=changed())

        runner.reload_weights = instead
        try:
            weight_proof.load(runner, path)
        finally:
            del runner.reload_weights

    return load


def _only(part: str) -> Change:
    """The old weights for tensors with `part` in their names, the new ones for the others."""
    return lambda name, new, old: old if part in name else new


def _one_number(name: str, new: Tensor, old: Tensor) -> Tensor:
    """One bit of one number differs."""
    if "layers.1.mlp.down_proj" not in name:
        return new
    changed = new.clone()
    bits = changed.flatten()[7:8].view(torch.int32 if new.element_size() == 4 else torch.int16)
    bits ^= 1
    return changed


def _one_row(name: str, new: Tensor, old: Tensor) -> Tensor:
    if "embed_tokens" not in name:
        return new
    return torch.cat([new[:5], old[5:6], new[6:]])


def _swapped_keys_and_values(layers: str) -> Change:
    kept: dict[str, Tensor] = {}

    def change(name: str, new: Tensor, old: Tensor) -> Tensor:
        if f"{layers}self_attn.k_proj" in name:
            kept["k"] = new
        return kept["k"] if f"{layers}self_attn.v_proj" in name else new

    return change


def _stale(runner: Any, path: str, old: dict[str, Tensor]) -> None:
    """Nothing is loaded, as if the reload had no effect."""


def _older_packed_copies(runner: Any, path: str, old: dict[str, Tensor]) -> None:
    """Everything is loaded, then the packed copies of before are put back."""
    packed = {
        module: module.cpu_linear
        for module in runner.get_model().modules()
        if hasattr(module, weight_proof.PACKED)
    }
    weight_proof.load(runner, path)
    for module, before in packed.items():
        module.cpu_linear = before


def _output_layer_not_packed(runner: Any, path: str, old: dict[str, Tensor]) -> None:
    from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

    pack = UnquantizedEmbeddingMethod.process_weights_after_loading
    UnquantizedEmbeddingMethod.process_weights_after_loading = lambda *_: None
    try:
        weight_proof.load(runner, path)
    finally:
        UnquantizedEmbeddingMethod.process_weights_after_loading = pack


def _older_output_layer(runner: Any, path: str, old: dict[str, Tensor]) -> None:
    """Everything is loaded, then the packed output layer of before is put back."""
    head = runner.get_model().lm_head
    before = head.cpu_linear
    weight_proof.load(runner, path)
    head.cpu_linear = before


# name: how a load goes wrong. The toy and SmolLM2 have Llama's names.
FAULTS: dict[str, Callable[[Any, str, dict[str, Tensor]], None]] = {
    "stale": _stale,
    "one layer stale": loaded_with(_only("layers.1.")),
    "one tensor stale": loaded_with(_only("layers.1.self_attn.q_proj")),
    "half of a fused tensor stale": loaded_with(_only("layers.0.mlp.up_proj")),
    "norm stale": loaded_with(_only("layers.1.input_layernorm")),
    "embedding stale": loaded_with(_only("embed_tokens")),
    "one row stale": loaded_with(_one_row),
    "one bit off": loaded_with(_one_number),
    "a layer left out": loaded_with(lambda name, new, _: None if "layers.1." in name else new),
    "a shard left out": loaded_with(
        lambda name, new, _: None if "layers.0." in name or "embed" in name else new
    ),
    "values are keys": loaded_with(_swapped_keys_and_values("layers.0.")),
    "older packed copies": _older_packed_copies,
    "older output layer": _older_output_layer,
    "output layer not packed": _output_layer_not_packed,
}
