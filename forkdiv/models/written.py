"""Writes checkpoints that are made from others: their small files, and their shards one by one."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from forkdiv.core.chat_template import NAMED_TEMPLATES
from forkdiv.models.files import TOKEN_FILES, check_regular
from forkdiv.models.own_tensors import check_inside
from forkdiv.models.weights import INDEX, WHOLE

# What the result takes from a checkpoint besides weights: not its adapters, its weights in other
# formats, or the state of its training.
COPIED = (
    *TOKEN_FILES,
    *("tokenizer.*.json", "vocab.json", "vocab.txt", "merges.txt", "*.model", "tekken.json"),
    *(f"{NAMED_TEMPLATES}/*.jinja", "LICENSE", "LICENSE.txt", "LICENSE.md"),
)


def copy_small_files(source: Path, out: Path, patterns: Sequence[str] = COPIED) -> None:
    """Copies the files of `source` that `patterns` name. Raises UserError for a link that leaves
    the folder, and for anything that is not a regular file."""
    files = sorted({file for pattern in patterns for file in source.glob(pattern)})
    check_inside(source, files)
    for file in files:
        check_regular(file)
        target = out / file.relative_to(source)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, target)


def write_shards(files: Mapping[str, str], make: Callable[[str], torch.Tensor], out: Path) -> None:
    """Writes the tensor that `make` returns for each name to the file that `files` gives for it,
    and an index if there are several files; memory holds one of them."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, file in files.items():
        names[file].append(name)
    if len(names) == 1:
        names = {WHOLE: next(iter(names.values()))}
    total = 0
    for file in sorted(names):
        made = {name: make(name) for name in names[file]}
        total += sum(tensor.nbytes for tensor in made.values())
        save_file(made, out / file, metadata={"format": "pt"})
        del made  # before the next file is made
    if len(names) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(files.items()))}
        (out / INDEX).write_text(json.dumps(index, indent=2))
