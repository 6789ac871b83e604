"""Adapters that PEFT itself saves, of the shipped base, with trained-looking values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import torch
from transformers import AutoModelForCausalLM

from tests.stack import BASE

NOISE = 0.02


def saved_adapter(folder: Path, base: Path = BASE, seed: int = 0, **settings: Any) -> Path:
    """A LoRA adapter with random values, as save_pretrained of PEFT writes it."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    settings = {"r": 4, "target_modules": ["q_proj", "v_proj"], **settings}
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for _, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                parameter.add_(NOISE * torch.randn_like(parameter))
    adapted.save_pretrained(folder)
    return folder


def unmerged(folder: Path, base: Path = BASE) -> Any:
    """The base with the adapter beside it, as PEFT loads them."""
    model = AutoModelForCausalLM.from_pretrained(base)
    return peft.PeftModel.from_pretrained(model, folder).eval()
