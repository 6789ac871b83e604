"""Checkpoints that differ in what they are asked: a character-level tokenizer with a ChatML-like
template, and the shipped base under another numbering of its tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from tests.small_llama import write
from tests.stack import BASE

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat_checkpoint(folder: Path, template: str | None = CHATML, **settings: Any) -> Path:
    """Random weights with the end token <|endoftext|> (id 0); <|im_end|> is id 2."""
    characters = sorted({chr(i) for i in range(32, 127)} | {"\n"})
    vocabulary = {text: i for i, text in enumerate([*SPECIAL, *characters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=SPECIAL[0],
        pad_token=SPECIAL[0],
        unk_token=SPECIAL[3],
        additional_special_tokens=list(SPECIAL[1:3]),
    )
    fast.chat_template = template
    return write(folder, fast, **settings)


def edit(file: Path, **values: Any) -> Path:
    """Sets fields of a JSON file, which may not exist; None removes one."""
    content = json.loads(file.read_text()) if file.exists() else {}
    content = {key: value for key, value in (content | values).items() if value is not None}
    file.write_text(json.dumps(content))
    return file


def with_template(folder: Path, template: str) -> Checkpoint:
    """The shipped base with a chat template."""
    shutil.copytree(BASE, folder)
    (folder / "chat_template.jinja").write_text(template)
    return open_checkpoint(folder)


def renumbered(folder: Path) -> Checkpoint:
    """The shipped base with its tokens numbered otherwise: other ids, the same answers."""
    shutil.copytree(BASE, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    new = list(range(len(vocabulary)))
    Random(3).shuffle(new)
    tokenizer["model"]["vocab"] = {text: new[i] for text, i in vocabulary.items()}
    for token in tokenizer["added_tokens"]:
        token["id"] = new[token["id"]]
    tokenizer["added_tokens"].sort(key=lambda token: token["id"])
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    weights = load_file(BASE / "model.safetensors")
    name = "model.embed_tokens.weight"  # tied to the output embedding
    rows = np.empty_like(weights[name])
    rows[new] = weights[name]
    save_file(weights | {name: rows}, folder / "model.safetensors", metadata={"format": "pt"})
    for file in ("config.json", "generation_config.json"):
        edit(folder / file, eos_token_id=new[1], pad_token_id=new[0])
    return open_checkpoint(folder)
