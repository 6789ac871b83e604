"""Checkpoints made of the shipped base: other weights, broken ones, and what a model answers."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from forkdiv.core.records import Problem
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.models.loading import load_model, load_tokenizer
from tests.stack import BASE


def disturbed(folder: Path, scale: float) -> Checkpoint:
    """The base with noise on every weight: the same shape, other answers."""
    shutil.copytree(BASE, folder)
    torch.manual_seed(1)
    state = load_file(BASE / "model.safetensors")
    noisy = {name: value + scale * torch.randn_like(value) for name, value in state.items()}
    save_file(noisy, folder / "model.safetensors", metadata={"format": "pt"})
    return open_checkpoint(folder)


def broken(folder: Path, how: str) -> Checkpoint:
    """The base with weights that cannot be served: `how` is what is wrong with them."""
    if how == "not numbers":
        return disturbed(folder, scale=float("nan"))
    good = disturbed(folder, scale=0.01)
    weights = folder / "model.safetensors"
    if how == "truncated":
        os.truncate(weights, weights.stat().st_size // 2)
        return Checkpoint(folder, "truncated")
    state = load_file(weights)
    name = "model.layers.1.mlp.up_proj.weight"
    if how == "missing":
        del state[name]
    else:
        state[name] = state[name][:-1].contiguous()
    save_file(state, weights, metadata={"format": "pt"})
    return replace(good, fingerprint=how)


def with_norm(folder: Path, factor: float) -> Path:
    """The base, its last norm scaled: surer of everything above 1, less sure below."""
    shutil.copytree(BASE, folder)
    state = load_file(BASE / "model.safetensors")
    state["model.norm.weight"] *= factor
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def greedy_text(checkpoint: Checkpoint, problem: Problem, tokens: int) -> str:
    """What transformers generates from the saved files, one most likely token at a time."""
    model, tokenizer = load_model(checkpoint.path).eval(), load_tokenizer(checkpoint.path)
    ids = tokenizer(problem.prompt)["input_ids"]
    start = len(ids)
    with torch.inference_mode():
        while len(ids) < start + tokens:
            token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
            if token == tokenizer.eos_token_id:
                break
            ids.append(token)
    return str(tokenizer.decode(ids[start:]))
