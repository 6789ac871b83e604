"""A forward pass that ends in a loss: as the logits of the whole batch would give it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from forkdiv.core.config.study import LoraConfig, SftConfig
from forkdiv.models.lora import add_adapters
from forkdiv.train.loss_forward import end_in_loss
from forkdiv.train.losses.base import BaseTargets
from forkdiv.train.losses.response import IGNORED, response_loss
from tests.train.logits import NO_ENDS, WITHOUT_TABLE, loss_of_logits

SMALL = {"vocab_size": 37, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24}
SMALL |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
# what each does after its output layer, or otherwise by itself
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-tied": {"tie_word_embeddings": True},
    "qwen2": {},
    "qwen3": {},
    "gemma2": {"final_logit_softcapping": 3.0},  # caps
    "gemma3_text": {},
    "cohere": {"logit_scale": 0.3},  # scales
    "granite": {"logits_scaling": 4.0},  # divides
    "mixtral": {"num_local_experts": 2, "num_experts_per_tok": 1},  # reads router logits
    # a decoder under another name
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "attn_pdrop": 0, "embd_pdrop": 0}
    | {"resid_pdrop": 0},
    "gpt_neox": {},
    "phi3": {"pad_token_id": 0},
}


def model_of(name: str) -> Any:
    kind = name.removesuffix("-tied")
    config = AutoConfig.for_model(kind, **SMALL | ARCHITECTURES[name])
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).train()


def batch() -> tuple[Any, Any, Any]:
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(1, SMALL["vocab_size"], (3, 9), generator=random)
    targets, first = ids.roll(-1, 1), torch.zeros(ids.shape, dtype=torch.bool)
    targets[:, :3] = targets[:, -1] = IGNORED
    first[:, 3] = True
    return ids, targets, first


def whole(model: Any, config: SftConfig) -> tuple[Any, dict[str, Any]]:
    ids, targets, first = batch()
    logits = model(input_ids=ids, use_cache=False).logits
    return with_gradients(model, loss_of_logits(logits, targets, first, config))


def in_parts(model: Any, config: SftConfig, parts: int) -> tuple[Any, dict[str, Any]]:
    ids, targets, first = batch()

    def loss(hidden: Any, head: Any) -> Any:
        return response_loss(hidden, head, targets, first, config, NO_ENDS, parts)

    return with_gradients(model, model(input_ids=ids, loss=loss))


def with_gradients(model: Any, loss: Any) -> tuple[Any, dict[str, Any]]:
    model.zero_grad()
    loss.backward()
    named = model.named_parameters()
    return loss.detach(), {name: p.grad.clone() for name, p in named if p.grad is not None}


def assert_same(found: tuple[Any, dict[str, Any]], wanted: tuple[Any, dict[str, Any]]) -> None:
    torch.testing.assert_close(found[0], wanted[0])
    assert found[1].keys() == wanted[1].keys()
    for name, value in wanted[1].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("parts", [1, 4, 30])  # 15 response tokens: some of 30 parts are empty
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_loss_and_gradient_are_those_of_the_models_own_logits(name: str, parts: int) -> None:
    model = model_of(name)
    wanted = whole(model, SftConfig())
    end_in_loss(model)
    assert_same(in_parts(model, SftConfig(), parts), wanted)


@pytest.mark.parametrize("loss", WITHOUT_TABLE)
def test_every_loss_can_be_computed_in_parts(loss: str) -> None:
    model = model_of("llama-tied")
    config = SftConfig.model_validate({"loss": loss, "dco_n": 4})
    wanted = whole(model, config)
    end_in_loss(model)
    assert_same(in_parts(model, config, 4), wanted)


def test_so_can_the_loss_that_reads_targets_of_each_token() -> None:
    model = model_of("llama-tied")
    ids, targets, first = batch()
    random = torch.Generator().manual_seed(2)
    label, weight = torch.rand((2, 15), generator=random)
    likely = torch.rand((15, 4), generator=random).topk(4).indices
    base = BaseTargets(label, weight, likely, torch.full((15, 4), 0.2))
    config = SftConfig(loss="fork-aware")
    logits = model(input_ids=ids, use_cache=False).logits
    whole_loss = response_loss(logits, lambda x: x, targets, first, config, NO_ENDS, base=base)
    wanted = with_gradients(model, whole_loss)
    end_in_loss(model)

    def loss(hidden: Any, head: Any) -> Any:
        return response_loss(hidden, head, targets, first, config, NO_ENDS, 4, base)

    assert_same(with_gradients(model, model(input_ids=ids, loss=loss)), wanted)


def test_with_adapters_and_checkpointed_activations_too() -> None:
    model = add_adapters(model_of("llama"), LoraConfig(rank=2))
    model.gradient_checkpointing_enable({"use_reentrant": False})
    for name, p in model.named_parameters():  # B starts at zero, and A without a gradient
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.1)
    wanted = whole(model, SftConfig())
    end_in_loss(model.get_base_model())
    assert_same(in_parts(model, SftConfig(), 4), wanted)


def test_the_output_layer_sees_response_tokens_only_and_no_more_than_a_part() -> None:
    model = model_of("llama")
    seen: list[int] = []
    model.lm_head.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[-2]))
    end_in_loss(model)
    in_parts(model, SftConfig(), 4)
    assert sum(seen) == 2 * 15 and max(seen) == 4  # each part again in the backward pass
