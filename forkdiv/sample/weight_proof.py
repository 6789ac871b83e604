"""Loads a checkpoint into a running vLLM model, and proves that the model computes with it.

Two passes over the checkpoint's files, both through vLLM's own loader, so that whatever it fuses,
splits over GPUs or casts is the same in both. The first pass loads. The second loads each layer
again, aside, and compares it bit for bit with the tensors that the model computes with.

On CPU, vLLM packs the weights of linear layers into a form that cannot be read, and drops the
weights. There the first pass keeps with each packed copy a digest of its weights, and the second
compares it. A copy that is not packed again brings the digest of its old weights, or none.

Runs in vLLM's worker process. Nothing here may import Ray.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

PACKED = "cpu_linear"  # the attribute in which vLLM keeps the packed weights of a layer
PACKING = "dispatch_cpu_unquantized_gemm"  # vLLM's function that packs a layer's weights on CPU
NOT_PACKED = torch.nn.functional.linear  # there where vLLM does not pack: the weights are compared
DIGEST = "forkdiv_digest"  # the attribute of a packed copy with the digest of its weights


@dataclass
class Proof:
    """What a swap found. It is proved if `problems` is empty; each problem names a tensor.
    `not_finite`: the tensors of the checkpoint with NaN or infinite numbers."""

    problems: list[str] = field(default_factory=list)
    not_finite: list[str] = field(default_factory=list)
    tensors: int = 0
    bytes: int = 0
    load_s: float = 0.0
    verify_s: float = 0.0


def swap(runner: Any, path: str) -> Proof:
    """Loads the checkpoint at `path` into the model of vLLM's model runner, and verifies it."""
    started = time.perf_counter()
    load(runner, path)
    loaded = time.perf_counter()
    proof = verify(runner, path)
    proof.load_s, proof.verify_s = loaded - started, time.perf_counter() - loaded
    return proof


def load(runner: Any, path: str) -> None:
    """Loads the checkpoint at `path`, and packs every copy of its weights again."""
    from vllm.model_executor.layers import utils
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    pack = utils.dispatch_cpu_unquantized_gemm

    def pack_and_record(layer: Module, remove_weight: bool) -> None:
        digest = _digest(layer)
        pack(layer, remove_weight)
        packed: Any = getattr(layer, PACKED)
        if packed is not NOT_PACKED:
            setattr(packed, DIGEST, digest)

    with _replaced(utils, PACKING, pack_and_record):
        runner.reload_weights(weights_path=path)
        # With tied embeddings, vLLM updates the embedding but not its packed copy for the logits.
        for module in runner.get_model().modules():
            if isinstance(module, VocabParallelEmbedding):
                module.quant_method.process_weights_after_loading(module)


def verify(runner: Any, path: str) -> Proof:
    """Compares the model with the checkpoint at `path`; changes nothing."""
    from vllm.model_executor.layers import utils
    from vllm.model_executor.model_loader import get_model_loader
    from vllm.model_executor.model_loader.reload import layerwise

    model, config = runner.get_model(), runner.model_config
    config.model, config.revision = path, None  # where vLLM's loader reads
    names = {module: name for name, module in model.named_modules()}
    proof, seen = Proof(), set[int]()
    biases = _tensors_loaded_in_place(model)
    packed_again: dict[Module, str] = {}

    def check_copy(layer: Module, digest: str) -> None:
        proof.tensors += 1
        if getattr(getattr(layer, PACKED), DIGEST, None) != digest:
            proof.problems.append(f"{names[layer]}: its packed copy has other weights")

    def compare(layer: Module, info: Any) -> None:
        if layer in packed_again and getattr(layer, PACKED) is not NOT_PACKED:
            check_copy(layer, packed_again[layer])
        for name, live in (info.kernel_tensors[0] | info.kernel_tensors[1]).items():
            if name in layer._buffers and name in layer._non_persistent_buffers_set:
                continue  # computed from the config, not from the checkpoint
            if name == "weight" and not live.numel() and layer in packed_again:
                continue  # only its packed copy is left
            _compare(proof, f"{names[layer]}.{name}", live, getattr(layer, name))
            seen.add(live.untyped_storage().data_ptr())
        layerwise._place_kernel_tensors(layer, info)

    def record(layer: Module, remove_weight: bool) -> None:
        weight: Any = layer.weight
        packed_again[layer] = _digest(layer)
        proof.bytes += weight.nbytes
        if not weight.isfinite().all():
            proof.not_finite.append(f"{names[layer]}.weight")
        live = layerwise.get_layerwise_info(layer).kernel_tensors[0].get("weight")
        if remove_weight and live is not None and not live.numel():
            layer.weight = torch.nn.Parameter(weight.new_empty(0), requires_grad=False)

    loader: Any = get_model_loader(runner.load_config)
    with (
        _replaced(utils, PACKING, record),
        _replaced(layerwise, "_copy_and_restore_kernel_tensors", compare),
    ):
        layerwise.initialize_layerwise_reload(model)
        model.load_weights(loader.get_all_weights(config, model))
        layerwise.finalize_layerwise_reload(model, config)
    for (layer, name), before in biases.items():
        _compare(proof, f"{names[layer]}.{name}", before, getattr(layer, name))
        seen.add(getattr(layer, name).untyped_storage().data_ptr())
    for module in names:
        packed = getattr(module, PACKED, NOT_PACKED)
        # a tied output layer: packed from a weight that was compared under another name
        if packed is not NOT_PACKED and module not in packed_again:
            check_copy(module, _digest(module))
    for name, parameter in model.named_parameters():
        if parameter.numel() and parameter.untyped_storage().data_ptr() not in seen:
            proof.problems.append(f"{name}: not in the checkpoint")
    return proof


def _tensors_loaded_in_place(model: Module) -> dict[tuple[Module, str], Tensor]:
    """Returns copies of the tensors that vLLM overwrites without building the layer anew."""
    from vllm.model_executor.model_loader.reload.meta import SKIP_TENSORS

    return {
        (layer, name): tensor.detach().clone()
        for layer in model.modules()
        for name, tensor in layer._parameters.items()
        if tensor is not None and name in SKIP_TENSORS
    }


def _compare(proof: Proof, name: str, live: Tensor, wanted: Tensor) -> None:
    proof.tensors += 1
    proof.bytes += live.nbytes
    if wanted.is_floating_point() and not wanted.isfinite().all():
        proof.not_finite.append(name)
    if live.shape != wanted.shape or live.dtype != wanted.dtype:
        proof.problems.append(f"{name}: {live.dtype} {tuple(live.shape)} in the engine")
    elif not torch.equal(_bits(live), _bits(wanted)):
        differ = int((_bits(live) != _bits(wanted)).sum())
        proof.problems.append(f"{name}: {differ:,} of {live.numel():,} numbers differ")


def _bits(tensor: Tensor) -> Tensor:
    """Returns the tensor's bits as integers: NaN then equals itself, and −0 differs from 0."""
    sizes = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.detach().view(sizes[tensor.element_size()])


def _digest(layer: Module) -> str:
    from blake3 import blake3

    digest = blake3(max_threads=blake3.AUTO)
    weight: Tensor = layer.weight  # type: ignore[assignment]
    numbers: Any = weight.detach().contiguous().view(torch.uint8).numpy()
    digest.update(numbers)
    return digest.hexdigest()


@contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
